// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/pre_tokenizer.h"

#include <utility>

#include "core/text.h"
#include "text/tokenizer/byte_level.h"
#include "text/tokenizer/construct.h"
#include "text/tokenizer/metaspace.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/unicode.h"

namespace moesmith::text {

const char* const kGpt2Pattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

namespace {

// \w+|[^\w\s]+ with Rust's \w, which has the two joiners.
const char* const kWhitespacePattern = "[\\w\\x{200c}\\x{200d}]+|[^\\w\\x{200c}\\x{200d}\\s]+";

bool starts_text(const Pieces& pieces) {
  return pieces.at_text_start && !pieces.spans.empty() && pieces.spans.front().begin == 0;
}

// Rewrites every piece: `rewrite(piece, out)` appends the piece's new text.
template <class Rewrite>
void rewrite_pieces(Pieces& pieces, Rewrite rewrite) {
  Pieces result;
  result.at_text_start = starts_text(pieces);
  result.text.reserve(pieces.text.size() + pieces.spans.size());
  result.spans.reserve(pieces.spans.size());
  for (const Span& span : pieces.spans) {
    const std::size_t begin = result.text.size();
    rewrite(std::string_view(pieces.text).substr(span.begin, span.end - span.begin), result.text);
    if (result.text.size() > begin) result.spans.push_back({begin, result.text.size()});
  }
  pieces = std::move(result);
}

// Matches and the gaps between them, in the coordinates of the text that holds `piece`.
std::vector<Stretch> stretches_of(const std::vector<Span>& matches,
                                  const Span& piece,
                                  bool invert) {
  std::vector<Stretch> stretches;
  std::size_t done = 0;
  const auto put = [&](std::size_t begin, std::size_t end, bool is_match) {
    stretches.push_back({{piece.begin + begin, piece.begin + end}, is_match != invert});
  };
  for (const Span& match : matches) {
    if (match.begin > done) put(done, match.begin, false);
    put(match.begin, match.end, true);
    done = match.end;
  }
  if (piece.begin + done < piece.end) put(done, piece.end - piece.begin, false);
  return stretches;
}

PreTokenizerStage split_by_pattern(Regex pattern, SplitBehavior behavior, bool invert) {
  return [=, pattern = std::move(pattern)](Pieces& pieces) {
    std::vector<Span> spans;
    spans.reserve(pieces.spans.size());
    for (const Span& piece : pieces.spans) {
      const auto matches = pattern.find_all(
          std::string_view(pieces.text).substr(piece.begin, piece.end - piece.begin));
      split_by(stretches_of(matches, piece, invert), behavior, spans);
    }
    pieces.spans = std::move(spans);
  };
}

// Each character of which `is_delimiter` holds is a match of its own.
PreTokenizerStage split_by_character(bool (*is_delimiter)(char32_t), SplitBehavior behavior) {
  return [=](Pieces& pieces) {
    std::vector<Span> spans;
    std::vector<Stretch> stretches;
    for (const Span& piece : pieces.spans) {
      stretches.clear();
      std::size_t done = piece.begin;
      for (std::size_t at = piece.begin; at < piece.end;) {
        const std::size_t begin = at;
        if (!is_delimiter(unicode::next(pieces.text, at))) continue;
        if (begin > done) stretches.push_back({{done, begin}, false});
        stretches.push_back({{begin, at}, true});
        done = at;
      }
      if (done < piece.end) stretches.push_back({{done, piece.end}, false});
      split_by(stretches, behavior, spans);
    }
    pieces.spans = std::move(spans);
  };
}

SplitBehavior parse_behavior(const io::JsonRef& node) {
  const std::string& name = node.as_string();
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  refuse_construct(node, "split behavior", name);
}

void add_byte_level(const io::JsonRef& node, PreTokenizer& out) {
  if (node.get_bool("add_prefix_space", true)) {
    out.stages.push_back([](Pieces& pieces) {
      rewrite_pieces(pieces, [](std::string_view piece, std::string& text) {
        if (piece.front() != ' ') text += ' ';
        text += piece;
      });
    });
  }
  if (node.get_bool("use_regex", true)) {
    out.stages.push_back(split_by_pattern(Regex::compile(kGpt2Pattern, "ByteLevel"),
                                          SplitBehavior::kIsolated, false));
  }
  out.byte_level_last = true;
}

PreTokenizerStage spell_bytes() {
  return [](Pieces& pieces) {
    rewrite_pieces(pieces, [](std::string_view piece, std::string& text) {
      text += bytes_to_characters(piece);
    });
  };
}

PreTokenizerStage metaspace(const io::JsonRef& node) {
  const Metaspace space = parse_metaspace(node);
  PreTokenizerStage cut = split_by_pattern(Regex::literal(space.replacement, node.source()),
                                           SplitBehavior::kMergedWithNext, false);
  return [space, cut = std::move(cut)](Pieces& pieces) {
    bool first = starts_text(pieces);
    rewrite_pieces(pieces, [&](std::string_view piece, std::string& text) {
      const bool prepend = space.scheme == Metaspace::Scheme::kAlways ||
                           (space.scheme == Metaspace::Scheme::kFirst && first);
      first = false;
      const bool has_it = piece.front() == ' ' || piece.starts_with(space.replacement);
      if (prepend && !has_it) text += space.replacement;
      for (const char c : piece) {
        if (c == ' ') {
          text += space.replacement;
        } else {
          text += c;
        }
      }
    });
    if (space.split) cut(pieces);
  };
}

void add_stage(const io::JsonRef& node, PreTokenizer& out) {
  if (out.byte_level_last) {  // not last after all
    out.stages.push_back(spell_bytes());
    out.byte_level_last = false;
  }
  const std::string& type = node.at("type").as_string();
  if (type == "Sequence") {
    const io::JsonRef list = node.at("pretokenizers");
    for (std::size_t i = 0; i < array_size(list); ++i) add_stage(list.at(i), out);
  } else if (type == "ByteLevel") {
    add_byte_level(node, out);
  } else if (type == "Split") {
    out.stages.push_back(split_by_pattern(make_pattern(node.at("pattern")),
                                          parse_behavior(node.at("behavior")),
                                          node.get_bool("invert", false)));
  } else if (type == "Digits") {
    out.stages.push_back(
        split_by_character(unicode::is_numeric, node.get_bool("individual_digits", false)
                                                    ? SplitBehavior::kIsolated
                                                    : SplitBehavior::kContiguous));
  } else if (type == "Punctuation") {
    const auto behavior = node.find("behavior");
    out.stages.push_back(
        split_by_character(unicode::is_punctuation, behavior ? parse_behavior(*behavior)  //
                                                             : SplitBehavior::kIsolated));
  } else if (type == "Whitespace") {
    out.stages.push_back(split_by_pattern(Regex::compile(kWhitespacePattern, "Whitespace"),
                                          SplitBehavior::kRemoved, true));
  } else if (type == "WhitespaceSplit" || type == "BertPreTokenizer") {
    out.stages.push_back(split_by_character(unicode::is_whitespace, SplitBehavior::kRemoved));
    if (type == "BertPreTokenizer") {
      out.stages.push_back(split_by_character(unicode::is_punctuation, SplitBehavior::kIsolated));
    }
  } else if (type == "CharDelimiterSplit") {
    out.stages.push_back(
        split_by_pattern(Regex::literal(node.at("delimiter").as_string(), node.source()),
                         SplitBehavior::kRemoved, false));
  } else if (type == "Metaspace") {
    out.stages.push_back(metaspace(node));
  } else {
    refuse_construct(node, "pre-tokenizer", type);
  }
}

}  // namespace

void split_by(const std::vector<Stretch>& stretches,
              SplitBehavior behavior,
              std::vector<Span>& out) {
  const auto put = [&](const Span& span) {
    if (span.begin < span.end) out.push_back(span);
  };
  if (behavior == SplitBehavior::kIsolated || behavior == SplitBehavior::kRemoved) {
    for (const Stretch& s : stretches) {
      if (!s.is_match || behavior == SplitBehavior::kIsolated) put(s.span);
    }
    return;
  }
  // The rest joins neighbours: whether stretch i goes with stretch i - 1.
  const auto joins = [&](std::size_t i) {
    const bool before = stretches[i - 1].is_match;
    const bool match = stretches[i].is_match;
    if (behavior == SplitBehavior::kContiguous) return before == match;
    if (behavior == SplitBehavior::kMergedWithPrevious) return match && !before;
    return before && !match;
  };
  for (std::size_t i = 0; i < stretches.size();) {
    Span span = stretches[i].span;
    for (++i; i < stretches.size() && joins(i); ++i) span.end = stretches[i].span.end;
    put(span);
  }
}

PreTokenizer make_pre_tokenizer(const io::JsonRef& node) {
  PreTokenizer out;
  add_stage(node, out);
  return out;
}

}  // namespace moesmith::text
