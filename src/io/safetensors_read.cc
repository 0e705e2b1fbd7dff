// SPDX-License-Identifier: Apache-2.0
// Mapping and checking of safetensors files.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <unordered_map>

#include "core/text.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "moesmith/error.h"

namespace moesmith::io {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

constexpr std::int64_t kLengthBytes = 8;
constexpr std::int64_t kLargestHeader = 100'000'000;  // the safetensors library's own limit

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw Error(ErrorCode::kInvalidInput, path + ": " + what);
}

class Map {
 public:
  explicit Map(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
      if (errno == ENOENT || errno == ENOTDIR) {
        throw Error(ErrorCode::kNotFound, path + ": there is no such file");
      }
      throw Error(ErrorCode::kIo, path + ": cannot open: " + std::strerror(errno));
    }
    struct stat status = {};
    int failed = ::fstat(fd, &status) == 0 ? 0 : errno;
    if (failed == 0 && S_ISDIR(status.st_mode)) failed = EISDIR;
    if (failed == 0 && status.st_size > 0) {
      size_ = status.st_size;
      data_ = ::mmap(nullptr, static_cast<std::size_t>(size_), PROT_READ, MAP_PRIVATE, fd, 0);
      if (data_ == MAP_FAILED) failed = errno;
    }
    ::close(fd);
    if (failed != 0) {
      throw Error(ErrorCode::kIo, path + ": cannot map: " + std::strerror(failed));
    }
  }
  ~Map() {
    if (size_ > 0) ::munmap(data_, static_cast<std::size_t>(size_));
  }
  Map(const Map&) = delete;
  Map& operator=(const Map&) = delete;

  const char* data() const noexcept { return static_cast<const char*>(data_); }
  std::int64_t size() const noexcept { return size_; }
  void advise(int advice) const noexcept {
    if (size_ > 0) ::madvise(data_, static_cast<std::size_t>(size_), advice);
  }
  // The whole pages within [begin, end).
  void advise(int advice, std::int64_t begin, std::int64_t end) const noexcept {
    const std::int64_t page = ::sysconf(_SC_PAGESIZE);
    const std::int64_t first = (begin + page - 1) / page * page, last = end / page * page;
    if (first >= last) return;
    ::madvise(static_cast<char*>(data_) + first, static_cast<std::size_t>(last - first), advice);
  }

 private:
  void* data_ = nullptr;
  std::int64_t size_ = 0;
};

// Bytes per element of every type that the format has; 0: unknown.
std::int64_t element_bytes(const std::string& dtype) {
  static const std::unordered_map<std::string, std::int64_t> kBytes = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"F8_E8M0", 1},
      {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},     {"U32", 4},
      {"F32", 4},  {"I64", 8}, {"U64", 8}, {"F64", 8},     {"C64", 8}};
  const auto found = kBytes.find(dtype);
  return found == kBytes.end() ? 0 : found->second;
}

std::optional<DType> known_dtype(const std::string& text) {
  try {
    return parse_dtype(text);
  } catch (const Error&) {
    return std::nullopt;
  }
}

class HeaderReader {
 public:
  HeaderReader(const std::string& path, const char* data, std::int64_t size)
      : path_(path), data_(data), size_(size) {}

  void read(Metadata& metadata, std::vector<TensorInfo>& tensors) {
    const Json header = parse();
    const JsonObject& members = header.as_object();
    for (std::size_t i = 0; i < members.size(); ++i) {
      const JsonRef value(members.value(i), path_ + ": " + members.key(i));
      if (members.key(i) == "__metadata__") {
        read_metadata(value, metadata);
      } else {
        tensors.push_back(read_tensor(members.key(i), value));
      }
    }
    std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
      return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    check_cover(tensors);
  }

 private:
  Json parse() {
    if (size_ < kLengthBytes) {
      fail(path_, str("the file has ", size_, " bytes, expected a header length in the first 8"));
    }
    std::uint64_t stated;
    std::memcpy(&stated, data_, sizeof stated);
    if (stated > static_cast<std::uint64_t>(kLargestHeader)) {
      fail(path_, str("the header length is ", stated, ", expected at most ", kLargestHeader,
                      "; is this a safetensors file?"));
    }
    const auto length = static_cast<std::int64_t>(stated);
    if (length > size_ - kLengthBytes) {
      fail(path_, str("the header has ", length, " bytes, but only ", size_ - kLengthBytes,
                      " follow its length; the file is cut off"));
    }
    data_begin_ = kLengthBytes + length;
    Json header =
        Json::parse({data_ + kLengthBytes, static_cast<std::size_t>(length)}, path_ + ": header");
    if (!header.is_object()) {
      fail(path_, "the header is " + header.describe() + ", expected an object");
    }
    return header;
  }

  static void read_metadata(const JsonRef& value, Metadata& metadata) {
    if (!value.value().is_object())
      value.fail("got " + value.value().describe() + ", expected an object");
    const JsonObject& members = value.value().as_object();
    for (std::size_t i = 0; i < members.size(); ++i) {
      metadata[members.key(i)] = value.at(members.key(i)).as_string();
    }
  }

  TensorInfo read_tensor(const std::string& name, const JsonRef& value) const {
    TensorInfo info;
    info.name = name;
    info.dtype_text = value.at("dtype").as_string();
    info.dtype = known_dtype(info.dtype_text);
    info.shape = value.at("shape").as_integers();
    const std::vector<std::int64_t> offsets = value.at("data_offsets").as_integers();
    if (offsets.size() != 2) {
      value.fail(str("data_offsets has ", offsets.size(), " numbers, expected 2"));
    }
    const std::int64_t room = size_ - data_begin_;
    if (offsets[0] < 0 || offsets[1] < offsets[0] || offsets[1] > room) {
      value.fail(str("data_offsets are [", offsets[0], ", ", offsets[1], "], expected within the ",
                     room, " bytes of data that the file has"));
    }
    const std::int64_t per_element = element_bytes(info.dtype_text);
    if (per_element == 0) value.fail("dtype is " + info.dtype_text + ", which is unknown");
    const std::int64_t bytes = offsets[1] - offsets[0];
    if (bytes != expected_bytes(info.shape, per_element, value)) {
      value.fail(str("has ", bytes, " bytes, expected ",
                     expected_bytes(info.shape, per_element, value), " for ", info.dtype_text, " ",
                     to_string(info.shape)));
    }
    info.begin = data_begin_ + offsets[0];
    info.end = data_begin_ + offsets[1];
    return info;
  }

  static std::int64_t expected_bytes(const Shape& shape,
                                     std::int64_t per_element,
                                     const JsonRef& value) {
    std::int64_t bytes = per_element;
    for (const std::int64_t dim : shape) {
      if (dim < 0 || __builtin_mul_overflow(bytes, dim, &bytes)) {
        value.fail("shape " + to_string(shape) + " is impossible");
      }
    }
    return bytes;
  }

  // Tensors follow one another from the first byte of the data to the last, as the format demands.
  void check_cover(const std::vector<TensorInfo>& tensors) const {
    std::int64_t next = data_begin_;
    const TensorInfo* before = nullptr;
    for (const TensorInfo& info : tensors) {
      if (info.begin != next) {
        const std::string where =
            before == nullptr ? "the start of the data" : "the end of " + before->name;
        fail(path_,
             str(info.name, ": its data begins at offset ", info.begin - data_begin_, ", expected ",
                 next - data_begin_, ", ", where,
                 info.begin < next ? "; they overlap" : "; the bytes between belong to no tensor"));
      }
      next = info.end;
      before = &info;
    }
    if (next != size_) {
      fail(path_, str("the file has ", size_, " bytes, expected ", next,
                      " (header and tensors); the last ", size_ - next, " belong to no tensor"));
    }
  }

  const std::string& path_;
  const char* data_;
  std::int64_t size_;
  std::int64_t data_begin_ = 0;
};

}  // namespace

struct SafetensorsFile::Impl {
  explicit Impl(const std::string& path) : path(path), map(path) {}
  std::string path;
  Map map;
  Metadata metadata;
  std::vector<TensorInfo> tensors;
  std::unordered_map<std::string_view, const TensorInfo*> by_name;
};

SafetensorsFile SafetensorsFile::open(const std::string& path) {
  auto impl = std::make_shared<Impl>(path);
  HeaderReader(path, impl->map.data(), impl->map.size()).read(impl->metadata, impl->tensors);
  for (const TensorInfo& info : impl->tensors) impl->by_name.emplace(info.name, &info);
  SafetensorsFile file;
  file.impl_ = std::move(impl);
  return file;
}

const std::string& SafetensorsFile::path() const noexcept { return impl_->path; }
const Metadata& SafetensorsFile::metadata() const noexcept { return impl_->metadata; }
const std::vector<TensorInfo>& SafetensorsFile::tensors() const noexcept { return impl_->tensors; }

const TensorInfo* SafetensorsFile::find(std::string_view name) const noexcept {
  const auto found = impl_->by_name.find(name);
  return found == impl_->by_name.end() ? nullptr : found->second;
}

Tensor SafetensorsFile::tensor(std::string_view name) const {
  const TensorInfo* info = find(name);
  if (info == nullptr) {
    throw Error(ErrorCode::kNotFound,
                path() + ": there is no tensor " + std::string(name) + " in this file");
  }
  return tensor(*info);
}

Tensor SafetensorsFile::tensor(const TensorInfo& info) const {
  if (!info.dtype) {
    throw Error(ErrorCode::kUnsupported,
                path() + ": " + info.name + ": dtype is " + info.dtype_text +
                    ", expected one of F32, BF16, F16, F64, I64, I32, I16, I8, U8, BOOL");
  }
  const char* data = impl_->map.data() + info.begin;
  const auto alignment = static_cast<std::uintptr_t>(dtype_size(*info.dtype));
  if (reinterpret_cast<std::uintptr_t>(data) % alignment == 0) {
    return Tensor::wrap(impl_, data, info.shape, *info.dtype);
  }
  Tensor copy = Tensor::empty(info.shape, *info.dtype);
  std::memcpy(copy.raw(), data, static_cast<std::size_t>(copy.bytes()));
  return copy;
}

void SafetensorsFile::will_need() const noexcept { impl_->map.advise(MADV_WILLNEED); }
void SafetensorsFile::dont_need() const noexcept { impl_->map.advise(MADV_DONTNEED); }
void SafetensorsFile::dont_need(const TensorInfo& info) const noexcept {
  impl_->map.advise(MADV_DONTNEED, info.begin, info.end);
}

}  // namespace moesmith::io
