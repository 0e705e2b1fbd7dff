// SPDX-License-Identifier: Apache-2.0
#include "train/data/chat_messages.h"

#include <algorithm>

#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith::train {
namespace {

[[noreturn]] void refuse(const std::string& where,
                         const std::string& field,
                         const io::Json* got,
                         const std::string& expected) {
  throw Error(
      ErrorCode::kInvalidInput,
      str(where, ": ", field, ": ", got == nullptr ? "is missing" : "got " + got->describe(),
          ", expected ", expected));
}

}  // namespace

ConversationReader::ConversationReader(const DatasetOptions& dataset)
    : dataset_(dataset), role_of_{{"human", "user"}, {"gpt", "assistant"}, {"model", "assistant"}} {
  for (const auto& [role, names] : dataset.roles) {
    for (const std::string& name : names) role_of_[name] = role;
  }
  for (const auto& [name, in_row] : dataset.message_property_mappings) property_[in_row] = name;
}

io::Json ConversationReader::read_message(const io::Json& message, const std::string& where) const {
  io::Json out = io::Json::object();
  const io::JsonObject& members = message.as_object();
  for (std::size_t i = 0; i < members.size(); ++i) {
    const auto mapped = property_.find(members.key(i));
    const bool hidden =
        mapped == property_.end() && dataset_.message_property_mappings.contains(members.key(i));
    if (hidden || members.key(i) == dataset_.message_field_training) continue;
    out.set(mapped == property_.end() ? members.key(i) : mapped->second, members.value(i));
  }
  const auto in_row = [&](const std::string& name) {
    const auto found = dataset_.message_property_mappings.find(name);
    return found == dataset_.message_property_mappings.end() ? name : found->second;
  };
  const io::Json* role = out.find("role");
  if (role == nullptr || !role->is_string()) refuse(where, in_row("role"), role, "a string");
  const auto alias = role_of_.find(role->as_string());
  if (alias != role_of_.end()) out.set("role", alias->second);
  const io::Json* content = out.find("content");
  if (content == nullptr) {
    // Calls of tools come without words; anything else without them is a mistake of the row.
    if (!out.as_object().contains("tool_calls"))
      refuse(where, in_row("content"), content, "a string");
    out.set("content", io::Json());
  } else if (!content->is_string() && !content->is_null() && !content->is_array()) {
    refuse(where, in_row("content"), content, "a string");
  }
  return out;
}

bool ConversationReader::is_trained(const io::Json& message,
                                    const std::string& role,
                                    const std::string& where) const {
  if (!dataset_.message_field_training.empty()) {
    const io::Json* flag = message.find(dataset_.message_field_training);
    if (flag != nullptr && !flag->is_null()) {
      if (!flag->is_bool()) refuse(where, dataset_.message_field_training, flag, "true or false");
      return flag->as_bool();
    }
  }
  const std::vector<std::string>& roles = dataset_.roles_to_train;
  return std::any_of(roles.begin(), roles.end(), [&](const std::string& wanted) {
    const auto alias = role_of_.find(wanted);
    return wanted == "all" || wanted == role || (alias != role_of_.end() && alias->second == role);
  });
}

io::Json ConversationReader::read_tools(const io::Json& row, const std::string& where) const {
  const io::Json* tools = row.find(dataset_.field_tools);
  if (tools == nullptr || tools->is_null()) return {};
  // Exports hold the schemas as text, because tables cannot hold objects of any form.
  io::Json parsed =
      tools->is_string() && !tools->as_string().empty()
          ? io::Json::parse(tools->as_string(), str(where, ": ", dataset_.field_tools))
          : *tools;
  if (parsed.is_string()) return {};
  if (!parsed.is_array()) refuse(where, dataset_.field_tools, &parsed, "an array of tools");
  if (parsed.as_array().empty()) return {};
  return parsed;
}

Conversation ConversationReader::read(const io::Json& row, const std::string& where) const {
  const io::Json* messages = row.find(dataset_.field_messages);
  if (messages == nullptr || !messages->is_array()) {
    refuse(where, dataset_.field_messages, messages, "an array of messages");
  }
  Conversation conversation;
  conversation.tools = read_tools(row, where);
  std::size_t index = 0;
  for (const io::Json& message : messages->as_array()) {
    const std::string place = str(where, ": ", dataset_.field_messages, "[", index++, "]");
    if (!message.is_object()) {
      throw Error(ErrorCode::kInvalidInput,
                  str(place, ": got ", message.describe(), ", expected a message"));
    }
    io::Json read = read_message(message, place);
    const std::string role = read.find("role")->as_string();
    if (dataset_.drop_system_message && role == "system") continue;
    conversation.trained.push_back(is_trained(message, role, place));
    conversation.messages.push_back(std::move(read));
  }
  return conversation;
}

}  // namespace moesmith::train
