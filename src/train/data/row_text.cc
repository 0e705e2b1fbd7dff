// SPDX-License-Identifier: Apache-2.0
#include "train/data/row_text.h"

#include <algorithm>
#include <string_view>

#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith::train {
namespace {

constexpr int kEnd = std::char_traits<char>::eof();

bool is_blank(int c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

std::string too_long() {
  return str("got a row of more than ", human_bytes(static_cast<double>(kMaxRowBytes)));
}

}  // namespace

bool next_line(std::istream& file, std::string& line, const std::string& where) {
  line.clear();
  std::streambuf& in = *file.rdbuf();
  int c = in.sbumpc();
  if (c == kEnd) return false;
  for (; c != kEnd && c != '\n'; c = in.sbumpc()) {
    if (static_cast<std::int64_t>(line.size()) >= kMaxRowBytes) {
      throw Error(ErrorCode::kInvalidInput, str(where, ": ", too_long()));
    }
    line += static_cast<char>(c);
  }
  if (line.ends_with('\r')) line.pop_back();
  return true;
}

void ArrayReader::refuse(const std::string& what) const {
  throw Error(ErrorCode::kInvalidInput,
              str(name_, "[", std::max<std::int64_t>(index_, 0), "]: ", what));
}

void ArrayReader::open() {
  opened_ = true;
  std::streambuf& in = *file_.rdbuf();
  int c = in.sbumpc();
  for (const char mark : std::string_view("\xef\xbb\xbf")) {
    if (c != static_cast<unsigned char>(mark)) break;
    c = in.sbumpc();
  }
  while (is_blank(c)) c = in.sbumpc();
  if (c != '[') refuse("expected a JSON array");
  while (is_blank(in.sgetc())) in.sbumpc();
  if (in.sgetc() == ']') {
    in.sbumpc();
    closed_ = true;
  }
}

// Behind "]": only white space may follow.
bool ArrayReader::close() {
  std::streambuf& in = *file_.rdbuf();
  while (is_blank(in.sgetc())) in.sbumpc();
  if (in.sgetc() != kEnd) refuse("text follows the end of the array");
  return false;
}

bool ArrayReader::next(std::string& element) {
  if (!opened_) open();
  if (closed_) return close();
  ++index_;
  element.clear();
  std::streambuf& in = *file_.rdbuf();
  std::int64_t depth = 0;
  bool in_string = false, escaped = false;
  while (true) {
    const int c = in.sbumpc();
    if (c == kEnd) refuse("the file ends inside the array");
    if (depth == 0 && !in_string && (c == ',' || c == ']')) {
      closed_ = c == ']';
      return true;
    }
    if (in_string) {
      in_string = escaped || c != '"';
      escaped = !escaped && c == '\\';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      ++depth;
    } else if (c == ']' || c == '}') {
      --depth;
    }
    if (static_cast<std::int64_t>(element.size()) >= kMaxRowBytes) refuse(too_long());
    element += static_cast<char>(c);
  }
}

}  // namespace moesmith::train
