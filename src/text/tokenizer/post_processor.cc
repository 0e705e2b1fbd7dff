// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/post_processor.h"

#include "core/text.h"
#include "text/tokenizer/construct.h"

namespace moesmith::text {
namespace {

std::int32_t checked_id(const io::JsonRef& node) {
  const std::int64_t id = node.as_integer();
  if (id < 0 || id >= Vocabulary::kMaxIds) {
    node.fail(str("got ", id, ", expected an id from 0 to ", Vocabulary::kMaxIds - 1));
  }
  return static_cast<std::int32_t>(id);
}

Surround read_template(const io::JsonRef& node) {
  Surround out;
  bool after = false;
  const io::JsonRef pieces = node.at("single");
  for (std::size_t i = 0; i < array_size(pieces); ++i) {
    const io::JsonRef piece = pieces.at(i);
    if (const auto sequence = piece.find("Sequence")) {
      const std::string& id = sequence->at("id").as_string();
      if (id != "A" || after) refuse_construct(piece, "second text", id);
      after = true;
      continue;
    }
    const std::string& name = piece.at("SpecialToken").at("id").as_string();
    const io::JsonRef ids = node.at("special_tokens").at(name).at("ids");
    for (std::size_t k = 0; k < array_size(ids); ++k) {
      (after ? out.after : out.before).push_back(checked_id(ids.at(k)));
    }
  }
  if (!after) refuse_construct(pieces, "template", "without the text");
  return out;
}

// Later processors of a sequence go around earlier ones.
Surround read_sequence(const io::JsonRef& node) {
  Surround out;
  const io::JsonRef list = node.at("processors");
  for (std::size_t i = 0; i < array_size(list); ++i) {
    const Surround outer = make_post_processor(list.at(i));
    out.before.insert(out.before.begin(), outer.before.begin(), outer.before.end());
    out.after.insert(out.after.end(), outer.after.begin(), outer.after.end());
  }
  return out;
}

}  // namespace

Surround make_post_processor(const io::JsonRef& node) {
  const std::string& type = node.at("type").as_string();
  if (type == "ByteLevel") return {};  // moves offsets only
  if (type == "TemplateProcessing") return read_template(node);
  if (type == "Sequence") return read_sequence(node);
  if (type == "RobertaProcessing" || type == "BertProcessing") {
    return {{checked_id(node.at("cls").at(1))}, {checked_id(node.at("sep").at(1))}};
  }
  refuse_construct(node, "post-processor", type);
}

}  // namespace moesmith::text
