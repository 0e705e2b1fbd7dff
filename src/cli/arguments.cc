// SPDX-License-Identifier: Apache-2.0
// The argv reader. What a flag is comes from the schema's table.
#include "cli/arguments.h"

#include <algorithm>

#include "config/scalar.h"
#include "config/schema.h"
#include "core/text.h"

namespace moesmith::cli {
namespace {

[[noreturn]] void wrong(const std::string& what) { throw Error(ErrorCode::kInvalidInput, what); }

std::string underscored(std::string text) {
  std::replace(text.begin(), text.end(), '-', '_');
  return text;
}

bool is_flag(const std::string& word) { return word.size() > 2 && word.rfind("--", 0) == 0; }

bool is_bool(const std::string& key) {
  const auto* found = config::find_key(key);
  return found != nullptr && found->type.kind == config::TypeKind::kBool;
}

const Option* find(const std::vector<Option>& options, const std::string& name) {
  for (const Option& option : options) {
    if (option.name == name) {
      return &option;
    }
  }
  return nullptr;
}

// Whether the configuration has something to say to this name: a key it honours, one it explains,
// or a place in a list.
bool is_key(const std::string& key) {
  const auto& names = config::all_names();
  const auto& aliases = config::aliases();
  return key.find('.') != std::string::npos ||
         std::find(names.begin(), names.end(), key) != names.end() ||
         std::any_of(aliases.begin(), aliases.end(),
                     [&](const auto& alias) { return alias.name == key; });
}

[[noreturn]] void unknown(const std::string& flag, const std::vector<Option>& options) {
  std::vector<std::string> known{"help"};
  for (const Option& option : options) {
    known.emplace_back(option.name);
  }
  for (std::string name : config::all_names()) {
    std::replace(name.begin(), name.end(), '_', '-');
    known.push_back(std::move(name));
  }
  const std::string meant = nearest(flag.substr(2), known);
  wrong(str("unknown flag ", flag, meant.empty() ? "" : str("; did you mean --", meant, "?")));
}

class Reader {
 public:
  Reader(const std::vector<std::string>& words, const std::vector<Option>& options)
      : words_(words), options_(options) {}

  Arguments read() {
    for (; next_ < words_.size(); ++next_) {
      const std::string& word = words_[next_];
      if (word == "--help" || word == "-h") {
        arguments_.help = true;
      } else if (is_flag(word)) {
        read_flag(word);
      } else if (word.size() > 1 && word[0] == '-') {
        wrong(str("unknown flag ", word, "; flags begin with two dashes"));
      } else if (!arguments_.config_file.empty()) {
        wrong(str("got a second file ", word, " after ", arguments_.config_file,
                  ", expected one configuration"));
      } else {
        arguments_.config_file = word;
      }
    }
    return std::move(arguments_);
  }

 private:
  void read_flag(const std::string& word) {
    const std::size_t equals = word.find('=');
    const std::string flag = word.substr(0, equals);
    const std::string name = flag.substr(2);
    if (const Option* option = find(options_, name)) {
      if (option->value.empty() && equals != std::string::npos) {
        wrong(str(flag, ": got a value, expected none"));
      }
      arguments_.options[name] = option->value.empty() ? "" : value(word, flag, equals);
      return;
    }
    const std::string key = underscored(name);
    const bool negated = key.rfind("no_", 0) == 0 && is_bool(key.substr(3)) && !is_key(key);
    if (negated && equals == std::string::npos) {
      arguments_.overrides.push_back({flag, key.substr(3), "false"});
    } else if (!is_key(key)) {
      unknown(flag, options_);
    } else if (is_bool(key) && equals == std::string::npos && !next_is_bool()) {
      arguments_.overrides.push_back({flag, key, "true"});
    } else {
      arguments_.overrides.push_back({flag, key, value(word, flag, equals)});
    }
  }

  // The file's name may follow a boolean flag, so only a boolean word is its value.
  bool next_is_bool() const {
    return next_ + 1 < words_.size() && config::parse_bool(words_[next_ + 1]).has_value();
  }

  std::string value(const std::string& word, const std::string& flag, std::size_t equals) {
    if (equals != std::string::npos) {
      return word.substr(equals + 1);
    }
    if (next_ + 1 >= words_.size() || is_flag(words_[next_ + 1])) {
      wrong(str(flag, ": got no value, expected one after it"));
    }
    return words_[++next_];
  }

  const std::vector<std::string>& words_;
  const std::vector<Option>& options_;
  std::size_t next_ = 0;
  Arguments arguments_;
};

}  // namespace

Arguments parse_arguments(const std::vector<std::string>& words,
                          const std::vector<Option>& options) {
  return Reader(words, options).read();
}

}  // namespace moesmith::cli
