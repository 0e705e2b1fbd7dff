#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write constructs.jsonl: what Hugging Face's `tokenizers` gives for one construct of tokenizer.json after the other.

    pip install tokenizers==0.23.3
    python3 make_construct_cases.py constructs.jsonl

A line: {"name", "base": a folder here, "patch": sections put in place of the base's ("model": merged key by key),
"cases": [[text, ids, ids with special tokens, decoded], ...]}.
"""
import copy
import json
import lzma
import os
import sys
import tokenizers

TEXTS = ["", " ", "Hello, world!", " hello  there ", "\tTab\n\nnew\r\nline", "it's 12 dogs, 3.5 cats & a cow's", "caf\u00e9 e\u0301 \u00c5ngstr\u00f6m \u0130stanbul \u00df",
         "\u4e2d\u6587\u3001\u65e5\u672c\u8a9e\u3002 x", "a\u2581b \u2581c\u2581", "foo_bar-baz (x)[1] {y}", "\u0661\u0662\u0663 \u00bd \u2167 7", "\u00a1hola! \u00abquote\u00bb \u2014 ok",
         "<tool>ok <tool> ok! okok <|bos|>x<|eos|>", "\ufb01sh \ufb01 <s>hi</s> <unk>", "\U0001f600 \U0001f468\u200d\U0001f469 x\u200bz", "a\x00b", "  lead and trail  ", "UPPER Lower",
         "x1y22z333", "aa bb  cc\u3000dd\u00a0ee", "...!!!???", "they'll I'D we've", "\u0e20\u0e32\u0e29\u0e32 \u0939\u093f\u0928\u094d\u0926\u0940", "\u24b6\u24b7 \u02b0\u1d2c_\u203f",
         "ok\u200d ok\u200c \u24b6ok \u2460ok ok\u0301 ok_ \u30fcx"]

N = lambda kind, **kw: {"normalizer": {"type": kind, **kw}}
P = lambda kind, **kw: {"pre_tokenizer": {"type": kind, **kw}}
D = lambda kind, **kw: {"decoder": {"type": kind, **kw}}
BL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def seq_p(*stages):
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(stages)}}


def seq_n(*stages):
    return {"normalizer": {"type": "Sequence", "normalizers": list(stages)}}


def seq_d(*stages):
    return {"decoder": {"type": "Sequence", "decoders": list(stages)}}


SPM, BOS = "sentencepiece_bpe", "byte_level_bos"
V = []
for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "ByteLevel"):
    V.append((BOS, "normalizer " + form, N(form)))
V.append((BOS, "NFD then StripAccents then Lowercase", seq_n({"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"})))
for left, right in ((True, True), (True, False), (False, True)):
    V.append((BOS, f"normalizer Strip {left} {right}", N("Strip", strip_left=left, strip_right=right)))
V.append((BOS, "normalizer Replace regex", N("Replace", pattern={"Regex": "\\s+"}, content=" ")))
V.append((BOS, "normalizer Replace string", N("Replace", pattern={"String": "l."}, content="[L]")))
V.append((SPM, "normalizer Prepend", N("Prepend", prepend="\u2581\u2581")))
V.append((SPM, "no normalizer", {"normalizer": None}))
for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
    for invert in (False, True):
        V.append((BOS, f"Split {behavior} {invert}", seq_p({"type": "Split", "pattern": {"Regex": "[\\s,.!]"}, "behavior": behavior, "invert": invert}, BL)))
    V.append((BOS, f"Punctuation {behavior}", seq_p({"type": "Punctuation", "behavior": behavior}, BL)))
V.append((BOS, "Split string", seq_p({"type": "Split", "pattern": {"String": ". "}, "behavior": "Isolated", "invert": False}, BL)))
for individual in (False, True):
    V.append((BOS, f"Digits {individual}", seq_p({"type": "Digits", "individual_digits": individual}, BL)))
for kind in ("Whitespace", "WhitespaceSplit", "BertPreTokenizer"):
    V.append((SPM, kind, P(kind)))
    V.append((BOS, kind + " before ByteLevel", seq_p({"type": kind}, BL)))
V.append((SPM, "CharDelimiterSplit", P("CharDelimiterSplit", delimiter="_")))
for prefix in (False, True):
    for regex in (False, True):
        V.append((BOS, f"ByteLevel {prefix} {regex}", P("ByteLevel", add_prefix_space=prefix, trim_offsets=True, use_regex=regex)))
V.append((BOS, "a split behind ByteLevel", seq_p(BL, {"type": "Split", "pattern": {"String": "\u0120"}, "behavior": "MergedWithNext", "invert": False})))
for scheme in ("first", "never", "always"):
    for split in (False, True):
        V.append((SPM, f"Metaspace {scheme} {split}", {"normalizer": None, **P("Metaspace", replacement="\u2581", prepend_scheme=scheme, split=split), **D("Metaspace", replacement="\u2581", prepend_scheme=scheme, split=split)}))
V.append((SPM, "Metaspace behind WhitespaceSplit", {"normalizer": None, **seq_p({"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True})}))
V.append((SPM, "decoder ByteFallback", seq_d({"type": "ByteFallback"}, {"type": "Fuse"})))
V.append((SPM, "decoder Strip", seq_d({"type": "Replace", "pattern": {"Regex": "\u2581"}, "content": "__"}, {"type": "Strip", "content": "_", "start": 1, "stop": 0})))
V.append((SPM, "decoder Fuse", D("Fuse")))
V.append((SPM, "decoder BPEDecoder", D("BPEDecoder", suffix="e")))
V.append((SPM, "no decoder", {"decoder": None}))
V.append((SPM, "no byte_fallback, fused unk", {"model": {"byte_fallback": False, "fuse_unk": True}}))
V.append((SPM, "no byte_fallback, unfused unk", {"model": {"byte_fallback": False, "fuse_unk": False}}))
V.append((SPM, "no byte_fallback, no unk", {"model": {"byte_fallback": False, "unk_token": None}}))
V.append((SPM, "ignore_merges", {"model": {"ignore_merges": True}, "normalizer": None, **P("Whitespace")}))
V.append((SPM, "RobertaProcessing", {"post_processor": {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1], "trim_offsets": True, "add_prefix_space": False}}))
V.append((SPM, "BertProcessing", {"post_processor": {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]}}))
V.append((SPM, "post-processor Sequence", {"post_processor": {"type": "Sequence", "processors": [
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
    {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
     "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
     "special_tokens": {"x": {"id": "x", "ids": [1, 1], "tokens": ["<s>", "<s>"]}, "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}}]}}))
SUFFIX = {"type": "BPE", "dropout": None, "unk_token": "?", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
          "vocab": {t: i for i, t in enumerate(["?", "h", "e", "l", "o", "l</w>", "o</w>", "e</w>", "h</w>", "he", "ll", "llo</w>", "hello</w>", "lo</w>"])},
          "merges": [["h", "e"], ["l", "l"], ["ll", "o</w>"], ["he", "llo</w>"], ["l", "o</w>"]], "continuing_subword_prefix": None, "end_of_word_suffix": "</w>"}
PREFIX = {"type": "BPE", "dropout": None, "unk_token": "?", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
          "vocab": {t: i for i, t in enumerate(["?", "h", "e", "l", "o", "##h", "##e", "##l", "##o", "he", "##ll", "##llo", "hello"])},
          "merges": [["h", "##e"], ["##l", "##l"], ["##ll", "##o"], ["he", "##llo"]], "continuing_subword_prefix": "##", "end_of_word_suffix": None}
for name, model, decoder in (("end_of_word_suffix", SUFFIX, D("BPEDecoder", suffix="</w>")), ("continuing_subword_prefix", PREFIX, {"decoder": None})):
    V.append((SPM, name, {"model": model, "normalizer": None, "post_processor": None, "added_tokens": [], **P("WhitespaceSplit"), **decoder, "texts": ["hello hell hole", "lo oh ehllo o", "hello x", "h", ""]}))
PATTERNS = ["\\w+", "\\W+", "[\\w-]+", "\\bo\\w*", "\\d+|\\D", "(?i:HELLO|\u00e9)", "\\p{Letter}+", "\\p{Han}+|\\p{Hiragana}+", "\\p{^L}", "[^\\S\\n]+", "\\p{N}{1,3}+", "l{2}?", "[\\p{L}&&[^a-m]]+",
            "[[:alpha:]]+|[[:digit:]]", "\\h+", "a|(o|e)+", "^.", ".$", "\\x41|\\x{e9}|\\u00c5", "(?<=l)l", "[]x]", "[a-]", "(?>o+)k", "o++", "(?i)HELLO", "[a-c-]+", "\\p{Alpha}+", "[^\\p{P}&&[^!]]+", "\\s+\\z|\\A\\s+", "(?m:a.b)", "[\\w]", "[^\\w]"]
for pattern in PATTERNS:
    V.append((BOS, "pattern " + pattern, seq_p({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": False}, BL)))
ADDED = [{"id": 0, "content": "<|bos|>", "special": True}, {"id": 1, "content": "<|eos|>", "special": True}, {"id": 2000, "content": "<tool>", "lstrip": True, "rstrip": True},
         {"id": 2001, "content": "ok", "single_word": True}, {"id": 2002, "content": "okok", "rstrip": True}, {"id": 2003, "content": "UPPER", "normalized": True}, {"id": 2004, "content": "\u00e9 e", "normalized": True, "special": True}, {"id": 2005, "content": "  ", "normalized": True, "single_word": True}]
for t in ADDED:
    for key in ("single_word", "lstrip", "rstrip", "normalized", "special"):
        t.setdefault(key, False)
V.append((BOS, "added tokens", {"added_tokens": ADDED}))
V.append((BOS, "added tokens, lower case", {"added_tokens": ADDED, **N("Lowercase")}))


def build(base, patch):
    with lzma.open(os.path.join(os.path.dirname(os.path.abspath(__file__)), base, "tokenizer.json.xz")) as f:
        j = json.load(f)
    for key, value in patch.items():
        if key == "model" and "vocab" not in value:
            j["model"].update(value)
        else:
            j[key] = copy.deepcopy(value)
    return tokenizers.Tokenizer.from_str(json.dumps(j))


with open(sys.argv[1], "w") as out:
    for base, name, patch in V:
        texts = patch.pop("texts", TEXTS)
        tok = build(base, patch)
        cases = []
        for text in texts:
            try:
                ids = tok.encode(text, add_special_tokens=False).ids
                cases.append([text, ids, tok.encode(text).ids, tok.decode(ids, skip_special_tokens=True)])
            except BaseException as error:  # a panic of the library on that text: nothing to equal
                print(name, repr(text), type(error).__name__)
        out.write(json.dumps({"name": name, "base": base, "patch": patch, "cases": cases}) + "\n")
print(len(V), "constructs,", tokenizers.__version__)
