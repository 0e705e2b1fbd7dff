// SPDX-License-Identifier: Apache-2.0
#include "train/data/rows.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string_view>
#include <system_error>
#include <vector>

#include "core/text.h"
#include "moesmith/error.h"
#include "train/data/row_text.h"
#include "train/data/split.h"

namespace moesmith::train {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 3> kExtensions{".jsonl", ".json", ".txt"};
constexpr std::array<std::string_view, 4> kSplitNames{"train", "validation", "valid", "test"};

bool is_readable_type(const fs::path& path, DatasetFormat format) {
  if (format == DatasetFormat::kText || format == DatasetFormat::kJson) return true;
  return std::find(kExtensions.begin(), kExtensions.end(), path.extension().string()) !=
         kExtensions.end();
}

bool is_text(const fs::path& path, DatasetFormat format) {
  if (format != DatasetFormat::kAuto) return format == DatasetFormat::kText;
  return path.extension() == ".txt";
}

void require_readable_type(const fs::path& path, DatasetFormat format) {
  if (is_readable_type(path, format)) return;
  throw Error(ErrorCode::kInvalidInput,
              str(path.string(), ": got a file of type \"", path.extension().string(),
                  "\", expected .jsonl, .json or .txt (set ds_type for another name; parquet and "
                  "csv are not read)"));
}

std::vector<fs::path> files_in(const fs::path& folder, DatasetFormat format) {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const bool hidden = entry.path().filename().string().front() == '.';
    const bool by_name = is_readable_type(entry.path(), DatasetFormat::kAuto);
    if (entry.is_regular_file() && !hidden && by_name) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) {
    throw Error(ErrorCode::kNotFound,
                str(folder.string(), ": holds no .jsonl, .json or .txt file"));
  }
  for (const fs::path& file : files) require_readable_type(file, format);
  return files;
}

// "train-00000-of-2.jsonl" belongs to "train"; "" when the name starts with no split's name.
std::string_view split_of(const fs::path& file) {
  const std::string stem = file.stem().string();
  for (const std::string_view name : kSplitNames) {
    if (stem == name ||
        (stem.starts_with(name) &&
         std::string_view("-_.").find(stem[name.size()]) != std::string_view::npos)) {
      return name;
    }
  }
  return "";
}

// Of a folder whose files are named by split, those of this split; else every file is "train".
std::vector<fs::path> of_split(std::vector<fs::path> files,
                               const std::string& split,
                               const std::string& folder) {
  std::set<std::string> named;
  for (const fs::path& file : files) {
    if (const auto name = split_of(file); !name.empty()) named.emplace(name);
  }
  if (named.empty()) named.insert("train");
  if (!named.contains(split)) {
    std::string known;
    for (const std::string& name : named) known += (known.empty() ? "" : ", ") + name;
    throw Error(ErrorCode::kNotFound, str(folder, ": has no split \"", split, "\", only: ", known));
  }
  std::erase_if(files, [&](const fs::path& file) {
    const auto name = split_of(file);
    return !name.empty() && name != split;
  });
  return files;
}

std::vector<fs::path> find_files(const DatasetOptions& dataset, const std::string& split) {
  fs::path path = dataset.path;
  std::error_code error;
  if (!fs::exists(path, error)) {
    throw Error(ErrorCode::kNotFound,
                str("datasets: path ", dataset.path,
                    " is neither a file nor a folder here; data sets of the hub are "
                    "not fetched: `hf download --repo-type dataset ",
                    dataset.path, " --local-dir data` does"));
  }
  if (!dataset.name.empty() && fs::is_directory(path)) path /= dataset.name;
  std::vector<fs::path> files;
  if (!dataset.data_files.empty()) {
    for (const std::string& name : dataset.data_files) {
      files.push_back(fs::is_directory(path) ? path / name : fs::path(name));
    }
  } else if (fs::is_directory(path)) {
    return of_split(files_in(path, dataset.ds_type), split, path.string());
  } else {
    files.push_back(path);
  }
  if (split != "train") {
    throw Error(
        ErrorCode::kNotFound,
        str(dataset.path, ": named files are one split, \"train\"; got split \"", split, "\""));
  }
  for (const fs::path& file : files) require_readable_type(file, dataset.ds_type);
  return files;
}

std::ifstream open(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || fs::is_directory(path)) {
    throw Error(fs::exists(path) ? ErrorCode::kIo : ErrorCode::kNotFound,
                str(path.string(), ": cannot be read: ",
                    fs::is_directory(path) ? "it is a folder" : std::strerror(errno)));
  }
  return file;
}

void strip_line(std::string& line, bool first) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (first && line.starts_with(kByteOrderMark)) line.erase(0, kByteOrderMark.size());
  if (line.ends_with('\r')) line.pop_back();
}

bool is_blank(const std::string& line) {
  return line.find_first_not_of(" \t") == std::string::npos;
}

void require_object(const io::Json& row, const std::string& where) {
  if (row.is_object()) return;
  throw Error(ErrorCode::kInvalidInput,
              str(where, ": got ", row.describe(), ", expected a JSON object"));
}

// `next` is called with the number of rows seen so far in the data set and tells whether to look at
// this one.
class Reader {
 public:
  Reader(const DatasetOptions& dataset, const RowVisitor* visit)
      : dataset_(dataset), visit_(visit) {}

  std::int64_t count = 0;                                     // rows passed
  std::pair<std::int64_t, std::int64_t> range{0, INT64_MAX};  // rows to visit

  void read(const fs::path& path) {
    try {
      if (is_text(path, dataset_.ds_type)) {
        read_text(path);
      } else if (starts_with_bracket(path)) {
        read_array(path);
      } else {
        read_lines(path);
      }
    } catch (const std::ios_base::failure&) {  // the stream buffer's word for a failed read
      throw Error(ErrorCode::kIo, str(path.string(), ": reading stopped: ", std::strerror(errno)));
    }
  }

 private:
  bool wanted() {
    const std::int64_t row = count++;
    return visit_ != nullptr && row >= range.first && row < range.second;
  }

  static bool starts_with_bracket(const fs::path& path) {
    std::ifstream file = open(path);
    std::string head(4096, '\0');
    file.read(head.data(), static_cast<std::streamsize>(head.size()));
    head.resize(static_cast<std::size_t>(file.gcount()));
    strip_line(head, true);
    const std::size_t at = head.find_first_not_of(" \t\r\n");
    return at != std::string::npos && head[at] == '[';
  }

  void read_text(const fs::path& path) {
    std::ifstream file = open(path);
    if (!wanted()) return;
    std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    strip_line(text, true);
    io::Json row = io::Json::object();
    row.set(dataset_.field, std::move(text));
    (*visit_)(row, path.string() + ":1");
  }

  void read_array(const fs::path& path) {
    std::ifstream file = open(path);
    const std::string name = path.string();
    ArrayReader elements(file, name);
    std::string element;
    for (std::int64_t index = 0; elements.next(element); ++index) {
      if (!wanted()) continue;
      const std::string where = str(name, "[", index, "]");
      const io::Json row = io::Json::parse(element, where);
      require_object(row, where);
      (*visit_)(row, where);
    }
  }

  void read_lines(const fs::path& path) {
    std::ifstream file = open(path);
    std::string line;
    for (std::int64_t number = 1;; ++number) {
      const std::string where = str(path.string(), ":", number);
      if (!next_line(file, line, where)) break;
      strip_line(line, number == 1);
      if (is_blank(line) || !wanted()) continue;
      const io::Json row = io::Json::parse(line, where);
      require_object(row, where);
      (*visit_)(row, where);
    }
  }

  const DatasetOptions& dataset_;
  const RowVisitor* visit_;
};

}  // namespace

void visit_rows(const DatasetOptions& dataset, const RowVisitor& visit) {
  const SplitExpression split = parse_split(dataset.split);
  const std::vector<fs::path> files = find_files(dataset, split.name);
  Reader reader(dataset, &visit);
  if (split.sliced) {
    Reader counter(dataset, nullptr);
    for (const fs::path& file : files) counter.read(file);
    reader.range = split.range(counter.count);
  }
  for (const fs::path& file : files) reader.read(file);
}

}  // namespace moesmith::train
