#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rebuild corpus/ and wordnet/ from two Debian packages; needs only the Python standard library.

    apt-get download r-cran-janeaustenr wordnet-base
    for deb in *.deb; do dpkg-deb -x "$deb" unpacked; done
    python3 make_corpus.py unpacked .

corpus/: the six novels of Jane Austen (public domain), one chapter a row, as Project Gutenberg's texts lie in
r-cran-janeaustenr. The last chapters of each novel, about 4 % of the text, are held out.
wordnet/: instruction pairs from WordNet 3.0 (its licence is beside them) about words that occur in the novels.
"""
import json
import pathlib
import re
import struct
import sys
import zlib

HELD_OUT_SHARE = 0.04
PAIRS_EACH = {"meaning": 2400, "synonym": 900, "sentence": 700}
VALID_EVERY = 20


def novels(package):
    """The character vectors in R's lazy-load file: length-prefixed zlib blocks of XDR; a string is flags, length, bytes."""
    data = (package / "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb").read_bytes()
    at = 0
    while at < len(data):
        block = zlib.decompressobj()
        xdr = block.decompress(data[at + 4:])
        at = len(data) - len(block.unused_data)
        start = xdr.index(b"\x00\x00\x00\x10") + 4
        count, = struct.unpack_from(">i", xdr, start)
        start += 4
        lines = []
        for _ in range(count):
            _, length = struct.unpack_from(">ii", xdr, start)
            start += 8
            lines.append(xdr[start:start + max(length, 0)].decode("utf-8"))
            start += max(length, 0)
        yield lines


def chapters(lines):
    """Paragraphs unwrapped, one text a chapter; title pages and volume headings are left out."""
    heading = re.compile(r"^\s*(chapter|volume|letter)\b.{0,12}$", re.IGNORECASE)
    texts, paragraphs, paragraph, started = [], [], [], False

    def end_paragraph():
        if paragraph:
            paragraphs.append(" ".join(paragraph))
            paragraph.clear()

    def end_chapter():
        end_paragraph()
        if sum(map(len, paragraphs)) > 500:
            texts.append("\n\n".join(paragraphs) + "\n")
        paragraphs.clear()

    for line in lines + ["CHAPTER"]:
        line = line.strip().replace("--", "\u2014").replace("_", "")
        if heading.match(line):
            end_chapter()
            started = True
        elif not line:
            end_paragraph()
        elif started and line not in ("THE END", "FINIS", "Finis", "The End"):
            paragraph.append(line)
    return texts


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(path, len(rows), "rows", path.stat().st_size, "bytes")


def sentence(text):
    return text[0].upper() + text[1:] + ("" if text[-1] in ".?!" else ".")


def wordnet_pairs(package, text):
    """(kind, word, instruction, output) from the first sense of each word the novels use, most frequent words first."""
    counts = {}
    for word in re.findall(r"[a-z]+", text.lower()):
        counts[word] = counts.get(word, 0) + 1
    names = {"noun": "noun", "verb": "verb", "adj": "adjective", "adv": "adverb"}
    root = package / "usr/share/wordnet"
    first_sense = {}
    for part in names:
        for line in (root / f"index.{part}").read_text().splitlines():
            if line.startswith(" "):
                continue
            fields = line.split()
            pointers = int(fields[3])
            first_sense.setdefault(fields[0], []).append((part, fields[4 + pointers + 2]))
    glosses = {}
    for part in names:
        for line in (root / f"data.{part}").read_text().splitlines():
            if line.startswith(" "):
                continue
            head, gloss = line.split(" | ", 1)
            fields = head.split()
            size = int(fields[3], 16)
            words = [re.sub(r"\(.*\)$", "", fields[4 + 2 * i]).replace("_", " ") for i in range(size)]
            glosses[part, fields[0]] = (words, gloss.strip())
    for word in sorted(counts, key=lambda w: (-counts[w], w)):
        if len(word) < 4 or counts[word] < 3 or word not in first_sense:
            continue
        part, offset = first_sense[word][0]
        words, gloss = glosses[part, offset]
        definition = gloss.split("; \"")[0].split("; ")[0].strip()
        examples = re.findall(r'"([^"]{20,120})"', gloss)
        if len(definition) > 110 or not definition:
            continue
        yield "meaning", word, f'What does the {names[part]} "{word}" mean?', sentence(definition)
        others = [w for w in words if w.lower() != word and w.isalpha() and w.islower()]
        if others:
            yield "synonym", word, f'Give a synonym of the {names[part]} "{word}".', sentence(others[0])
        using = [e for e in examples if re.search(rf"\b{word}", e.lower())]
        if using:
            yield "sentence", word, f'Use the {names[part]} "{word}" in a sentence.', sentence(using[0])


def main():
    package, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    train, valid = [], []
    for lines in novels(package):
        texts = chapters(lines)
        total, held = sum(map(len, texts)), 0
        while held < HELD_OUT_SHARE * total:
            held += len(texts[-1])
            valid.append({"text": texts.pop()})
        train += [{"text": text} for text in texts]
    write(out / "corpus/train.jsonl", train)
    write(out / "corpus/valid.jsonl", valid)

    taken = dict.fromkeys(PAIRS_EACH, 0)
    rows = []
    for kind, word, instruction, output in wordnet_pairs(package, "\n".join(row["text"] for row in train)):
        if taken[kind] < PAIRS_EACH[kind]:
            taken[kind] += 1
            rows.append((word, {"instruction": instruction, "input": "", "output": output}))
    # All rows about one word go to one side, so that no held-out answer was seen in another form.
    held = {word for i, word in enumerate(dict.fromkeys(word for word, _ in rows)) if i % VALID_EVERY == VALID_EVERY - 1}
    write(out / "wordnet/train.jsonl", [row for word, row in rows if word not in held])
    write(out / "wordnet/valid.jsonl", [row for word, row in rows if word in held])
    licence = (package / "usr/share/doc/wordnet-base/copyright").read_text()
    text = licence.split("License: WordNet3.0\n", 1)[1].split("\nFiles:", 1)[0]
    (out / "wordnet/LICENSE").write_text("\n".join(line[1:].rstrip(".").rstrip() if line.strip() == "." else line[1:] for line in text.splitlines()).rstrip() + "\n")


if __name__ == "__main__":
    main()
