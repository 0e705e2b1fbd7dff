// SPDX-License-Identifier: Apache-2.0
// The only file with <regex>. Python's syntax and ECMAScript's agree on what names need; a pattern
// that only Python knows (named groups, lookbehind, inline flags) is an error, never a mismatch.
#include "io/adapter_match.h"

#include <algorithm>
#include <cctype>
#include <regex>
#include <utility>

#include "moesmith/error.h"

namespace moesmith::io {
namespace {

std::regex compile(const std::string& pattern, const std::string& where) {
  try {
    return std::regex(pattern, std::regex::ECMAScript | std::regex::optimize);
  } catch (const std::regex_error& error) {
    throw Error(ErrorCode::kInvalidInput, where + ": the regular expression " +
                                              Json(pattern).dump({.ascii = false}) +
                                              " is not understood: " + error.what());
  }
}

bool full_match(std::string_view text, const std::regex& regex) {
  return std::regex_match(text.begin(), text.end(), regex);
}

bool says_all_linear(const NamePattern& pattern) {
  constexpr std::string_view kWord = "all-linear";
  return pattern.regex && std::equal(pattern.regex->begin(), pattern.regex->end(), kWord.begin(),
                                     kWord.end(), [](char a, char b) {
                                       return std::tolower(static_cast<unsigned char>(a)) == b;
                                     });
}

class NameMatcher {
 public:
  NameMatcher(const NamePattern& pattern, const std::string& where) : names_(pattern.names) {
    if (pattern.regex) regex_ = compile(*pattern.regex, where);
  }
  bool matches(std::string_view name) const {
    if (regex_) return full_match(name, *regex_);
    return std::any_of(names_.begin(), names_.end(),
                       [&](const std::string& suffix) { return is_dotted_suffix(name, suffix); });
  }
  bool has(std::string_view name) const {
    return std::find(names_.begin(), names_.end(), name) != names_.end();
  }
  bool is_regex() const noexcept { return regex_.has_value(); }

 private:
  std::vector<std::string> names_;
  std::optional<std::regex> regex_;
};

class LayerMatcher {
 public:
  explicit LayerMatcher(const AdapterConfig& config) {
    if (!config.layers_to_transform || config.layers_to_transform->empty()) return;
    layers_ = *config.layers_to_transform;
    if (config.layers_pattern.empty()) {
      regexes_.push_back(compile(R"(.*\.[^.]*\.(\d+)\.)", "layers_pattern"));
    }
    for (const std::string& pattern : config.layers_pattern) {
      regexes_.push_back(compile(".*\\." + pattern + "\\.(\\d+)\\.", "layers_pattern"));
    }
  }
  bool matches(std::string_view name) const {
    if (layers_.empty()) return true;
    for (const std::regex& regex : regexes_) {
      std::match_results<std::string_view::const_iterator> found;
      if (!std::regex_search(name.begin(), name.end(), found, regex,
                             std::regex_constants::match_continuous)) {
        continue;
      }
      const std::string digits = found[found.size() - 1].str();
      return std::any_of(layers_.begin(), layers_.end(),
                         [&](std::int64_t layer) { return std::to_string(layer) == digits; });
    }
    return false;
  }

 private:
  std::vector<std::int64_t> layers_;
  std::vector<std::regex> regexes_;
};

}  // namespace

bool is_dotted_suffix(std::string_view name, std::string_view suffix) noexcept {
  if (name == suffix) return true;
  return name.size() > suffix.size() && name.ends_with(suffix) &&
         name[name.size() - suffix.size() - 1] == '.';
}

struct ModuleMatcher::Impl {
  explicit Impl(const AdapterConfig& config)
      : all_linear(says_all_linear(config.target_modules)),
        targets(all_linear ? NamePattern() : config.target_modules, "target_modules"),
        excluded(config.exclude_modules, "exclude_modules"),
        layers(config) {}
  bool all_linear;
  NameMatcher targets;
  NameMatcher excluded;
  LayerMatcher layers;
};

ModuleMatcher::ModuleMatcher(const AdapterConfig& config)
    : impl_(std::make_unique<const Impl>(config)) {}
ModuleMatcher::~ModuleMatcher() = default;

bool ModuleMatcher::is_named(std::string_view module, bool is_output_embedding) const {
  return impl_->all_linear ? !is_output_embedding : impl_->targets.matches(module);
}

bool ModuleMatcher::matches(std::string_view module, bool is_output_embedding) const {
  if (impl_->excluded.matches(module) || !is_named(module, is_output_embedding)) return false;
  // PEFT asks for the layer only where a name matched as a suffix.
  if (impl_->targets.is_regex() || impl_->targets.has(module)) return true;
  return impl_->layers.matches(module);
}

struct PatternKeys::Impl {
  std::vector<std::regex> regexes;
};

PatternKeys::PatternKeys(std::vector<std::string> keys, const std::string& where) {
  auto impl = std::make_unique<Impl>();
  for (const std::string& key : keys) {
    impl->regexes.push_back(compile("(?:.*\\.)?(?:" + key + ")", where));
  }
  impl_ = std::move(impl);
}
PatternKeys::~PatternKeys() = default;

std::vector<std::size_t> PatternKeys::matching(std::string_view target) const {
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i < impl_->regexes.size(); ++i) {
    if (full_match(target, impl_->regexes[i])) found.push_back(i);
  }
  return found;
}

}  // namespace moesmith::io
