// SPDX-License-Identifier: Apache-2.0
// A type in words, for messages and the reference page, and as JSON schema.
#include "config/key.h"
#include "config/scalar.h"
#include "core/text.h"

namespace moesmith::config {
namespace {

std::string range_text(const Range& range) {
  if (range.min && range.max) {
    return str(" in ", range.open_min ? "(" : "[", number_text(*range.min), ", ",
               number_text(*range.max), range.open_max ? ")" : "]");
  }
  if (range.min) {
    return str(range.open_min ? " > " : " >= ", number_text(*range.min));
  }
  if (range.max) {
    return str(range.open_max ? " < " : " <= ", number_text(*range.max));
  }
  return "";
}

std::string choices_text(const Type& type) {
  std::string out;
  for (const std::string& choice : type.choices) {
    out += (out.empty() ? "" : ", ") + choice;
  }
  return out;
}

std::string json_range(const Range& range) {
  std::string out;
  if (range.min) {
    out += str(range.open_min ? ", \"exclusiveMinimum\": " : ", \"minimum\": ",
               number_text(*range.min));
  }
  if (range.max) {
    out += str(range.open_max ? ", \"exclusiveMaximum\": " : ", \"maximum\": ",
               number_text(*range.max));
  }
  return out;
}

std::string json_choices(const Type& type) {
  std::string out;
  for (const std::string& choice : type.choices) {
    const bool boolean = choice == "true" || choice == "false";
    out += (out.empty() ? "" : ", ") + (boolean ? choice : json_text(choice));
  }
  return "{\"enum\": [" + out + ", null]}";
}

}  // namespace

std::string expected(const Type& type) {
  switch (type.kind) {
    case TypeKind::kBool:
      return "true or false";
    case TypeKind::kInteger:
      return "an integer" + range_text(type.range);
    case TypeKind::kNumber:
      return "a number" + range_text(type.range);
    case TypeKind::kText:
      return "a string";
    case TypeKind::kChoice:
      return "one of " + choices_text(type);
    case TypeKind::kTextList:
      return "a string or a list of strings";
    case TypeKind::kNamesOrRegex:
      return "a list of names, or one string that is a regular expression";
    case TypeKind::kIntegerList:
      return str("a list of integers", range_text(type.range));
    case TypeKind::kIntegerMap:
      return str("a mapping from patterns to integers", range_text(type.range));
    case TypeKind::kTextMap:
      return "a mapping from names to strings";
    case TypeKind::kTextListMap:
      return "a mapping from names to lists of strings";
    case TypeKind::kObject:
      return "a mapping";
    case TypeKind::kDatasets:
      return "a list of mappings with path and type";
  }
  return "";
}

std::string type_label(const Type& type) {
  switch (type.kind) {
    case TypeKind::kBool:
      return "true, false";
    case TypeKind::kInteger:
      return "integer" + range_text(type.range);
    case TypeKind::kNumber:
      return "number" + range_text(type.range);
    case TypeKind::kText:
      return "string";
    case TypeKind::kChoice:
      return choices_text(type);
    case TypeKind::kTextList:
      return "list of strings";
    case TypeKind::kNamesOrRegex:
      return "list of names, or regex";
    case TypeKind::kIntegerList:
      return "list of integers";
    case TypeKind::kIntegerMap:
      return "pattern: integer" + range_text(type.range);
    case TypeKind::kTextMap:
      return "name: string";
    case TypeKind::kTextListMap:
      return "name: list of strings";
    case TypeKind::kObject:
      return "mapping";
    case TypeKind::kDatasets:
      return "list of data sets";
  }
  return "";
}

std::string json_schema(const Type& type) {
  const std::string texts = "{\"type\": \"array\", \"items\": {\"type\": \"string\"}}";
  switch (type.kind) {
    case TypeKind::kBool:
      return "{\"type\": [\"boolean\", \"null\"]}";
    case TypeKind::kInteger:
      return "{\"type\": [\"integer\", \"null\"]" + json_range(type.range) + "}";
    case TypeKind::kNumber:
      return "{\"type\": [\"number\", \"null\"]" + json_range(type.range) + "}";
    case TypeKind::kText:
      return "{\"type\": [\"string\", \"null\"]}";
    case TypeKind::kChoice:
      return json_choices(type);
    case TypeKind::kTextList:
    case TypeKind::kNamesOrRegex:
      return "{\"anyOf\": [{\"type\": [\"string\", \"null\"]}, " + texts + "]}";
    case TypeKind::kIntegerList:
      return "{\"type\": [\"array\", \"null\"], \"items\": {\"type\": \"integer\"" +
             json_range(type.range) + "}}";
    case TypeKind::kIntegerMap:
      return "{\"type\": [\"object\", \"null\"], \"additionalProperties\": {\"type\": \"integer\"" +
             json_range(type.range) + "}}";
    case TypeKind::kTextMap:
      return "{\"type\": [\"object\", \"null\"], \"additionalProperties\": {\"type\": [\"string\", "
             "\"null\"]}}";
    case TypeKind::kTextListMap:
      return "{\"type\": [\"object\", \"null\"], \"additionalProperties\": " + texts + "}";
    case TypeKind::kObject:
      return "{\"type\": [\"object\", \"null\"]}";
    case TypeKind::kDatasets:
      return "{\"type\": [\"array\", \"null\"], \"items\": {\"$ref\": \"#/$defs/dataset\"}}";
  }
  return "{}";
}

}  // namespace moesmith::config
