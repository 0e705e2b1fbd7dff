// SPDX-License-Identifier: Apache-2.0
// The tokenizers under tests/data/tokenizers for the tests of data sets, and masks made readable.
#pragma once

#include <string>

#include "text/tokenizer/tokenizer.h"
#include "train/data/dataset.h"

namespace moesmith::train {

// A folder with tokenizer.json and tokenizer_config.json, unpacked into the build folder.
std::string tokenizer_folder(const std::string& name);

// The sample's text with what is trained in square brackets.
std::string marked(const text::Tokenizer& tokenizer, const Dataset& data, std::int64_t sample);

}  // namespace moesmith::train
