// SPDX-License-Identifier: Apache-2.0
// Finding a model in the local Hugging Face cache:
// <cache>/models--<org>--<name>/{refs/<revision>, snapshots/<commit>}.
#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "io/checkpoint.h"
#include "moesmith/error.h"

namespace moesmith::io {
namespace {

namespace fs = std::filesystem;

std::string env(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string hub_cache() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const std::string cache = env(name); !cache.empty()) return cache;
  }
  if (const std::string home = env("HF_HOME"); !home.empty()) return home + "/hub";
  if (const std::string xdg = env("XDG_CACHE_HOME"); !xdg.empty()) return xdg + "/huggingface/hub";
  return env("HOME") + "/.cache/huggingface/hub";
}

// "name" or "organisation/name" of letters, digits, '-', '_' and '.', as the hub allows.
bool is_hub_id(std::string_view text) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  const std::size_t slash = text.find('/');
  const auto is_part = [&](std::string_view part) {
    return !part.empty() && part[0] != '.' && std::all_of(part.begin(), part.end(), allowed);
  };
  if (slash == text.npos) return is_part(text);
  return is_part(text.substr(0, slash)) && is_part(text.substr(slash + 1));
}

bool is_plain_revision(std::string_view revision) {
  return revision.find("..") == revision.npos && revision[0] != '/';
}

std::string trimmed(std::string text) {
  const auto end = text.find_last_not_of(" \r\n\t");
  text.erase(end == text.npos ? 0 : end + 1);
  return text;
}

bool is_folder(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

}  // namespace

std::string resolve_model(const std::string& name_or_path, const std::string& revision) {
  if (name_or_path.empty()) {
    throw Error(ErrorCode::kInvalidInput, "the model's name is empty, expected a folder or hub id");
  }
  if (is_folder(name_or_path)) return name_or_path;
  if (!is_hub_id(name_or_path)) {
    throw Error(ErrorCode::kNotFound, name_or_path + ": there is no such folder");
  }
  const std::string wanted = revision.empty() ? "main" : revision;
  std::string folder = "models--" + name_or_path;
  if (const std::size_t slash = folder.find('/'); slash != folder.npos) {
    folder.replace(slash, 1, "--");
  }
  folder = hub_cache() + "/" + folder;
  if (is_folder(folder) && is_plain_revision(wanted)) {
    std::string commit = wanted;
    if (std::error_code error; fs::is_regular_file(folder + "/refs/" + wanted, error)) {
      commit = trimmed(read_file(folder + "/refs/" + wanted));
    }
    const std::string snapshot = folder + "/snapshots/" + commit;
    if (!commit.empty() && is_plain_revision(commit) && is_folder(snapshot)) return snapshot;
  }
  throw Error(ErrorCode::kNotFound,
              name_or_path + ": there is no such folder, and " +
                  (is_folder(folder) ? "revision " + wanted + " is not in " + folder
                                     : "no model of that name in " + hub_cache()) +
                  "; download it with: hf download " + name_or_path +
                  (revision.empty() ? "" : " --revision " + revision));
}

}  // namespace moesmith::io
