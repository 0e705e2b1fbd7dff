// SPDX-License-Identifier: Apache-2.0
// The text of one row after the other, so that a file of any size is read with one row in memory.
#pragma once

#include <cstdint>
#include <istream>
#include <string>

namespace moesmith::train {

// A row is text that a person wrote or a program exported; a longer one is another kind of file.
constexpr std::int64_t kMaxRowBytes = std::int64_t{64} << 20;

// The next line without its end ("\n" or "\r\n"); false at the end of the file. Throws
// Error(kInvalidInput) "<where>: <what>" beyond kMaxRowBytes, before more of it is read.
bool next_line(std::istream& file, std::string& line, const std::string& where);

// The elements of a JSON array, uncut: brackets and strings are followed, nothing else is checked.
class ArrayReader {
 public:
  // `file` stands at the array's "[" or at white space or a byte order mark before it. Both outlive
  // this.
  ArrayReader(std::istream& file, const std::string& name) : file_(file), name_(name) {}

  // The next element's text; false behind the last one. Throws Error(kInvalidInput) for an array
  // that is not closed, that text follows, or an element beyond kMaxRowBytes.
  bool next(std::string& element);

 private:
  void open();
  bool close();
  [[noreturn]] void refuse(const std::string& what) const;

  std::istream& file_;
  const std::string& name_;
  std::int64_t index_ = -1;
  bool opened_ = false, closed_ = false;
};

}  // namespace moesmith::train
