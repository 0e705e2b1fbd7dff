// SPDX-License-Identifier: Apache-2.0
// A row's messages under the names that templates know, and which of them are trained.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "io/json.h"
#include "train/options.h"

namespace moesmith::train {

struct Conversation {
  io::Json::Array messages;   // objects with "role", "content" and what else the row has
  std::vector<bool> trained;  // as long as messages
  io::Json tools;             // array, or null
};

class ConversationReader {
 public:
  explicit ConversationReader(const DatasetOptions& dataset);

  // Throws Error(kInvalidInput) "<where>: <field>: <what>".
  Conversation read(const io::Json& row, const std::string& where) const;

 private:
  io::Json read_message(const io::Json& message, const std::string& where) const;
  bool is_trained(const io::Json& message, const std::string& role, const std::string& where) const;
  io::Json read_tools(const io::Json& row, const std::string& where) const;

  const DatasetOptions dataset_;
  std::map<std::string, std::string> role_of_;   // a row's name of a role -> the template's
  std::map<std::string, std::string> property_;  // a row's name of a property -> the template's
};

}  // namespace moesmith::train
