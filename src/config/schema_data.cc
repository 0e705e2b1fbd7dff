// SPDX-License-Identifier: Apache-2.0
// Schema: data, and the keys of one data set.
#include "config/read.h"
#include "config/scalar.h"
#include "config/schema.h"

namespace moesmith::config {
namespace {

using K = Keys<Config>;
using train::DatasetFormat;
using train::DatasetOptions;
using train::EosTraining;
using train::ExcessLength;
using train::PromptType;

Key<Config> dataset_list(std::string_view name,
                         Ref<Config, std::vector<DatasetOptions>> to,
                         std::string_view help) {
  auto set = [to](Config& config, const Node& node) { to(config) = read_datasets(config, node); };
  auto show = [to](const Config& config) {
    std::string out;
    for (const DatasetOptions& dataset : to(const_cast<Config&>(config))) {
      out += (out.empty() ? "" : ", ") + dataset_yaml(dataset);
    }
    return "[" + out + "]";
  };
  return {name, {TypeKind::kDatasets, {}, {}}, help, set, show, false};
}

}  // namespace

Section data_section() {
  return {
      "Data",
      {
          required(dataset_list(
              "datasets", MOESMITH_AT(Config, train.datasets),
              "What to train on; the keys of an entry stand below. Required for training.")),
          dataset_list("test_datasets", MOESMITH_AT(Config, train.test_datasets),
                       "What to evaluate on; not with val_set_size."),
          K::number("val_set_size", MOESMITH_AT(Config, train.val_set_size),
                    {0.0, {}, false, false},
                    "Rows held out of datasets for evaluation: below 1 a share, else a number."),
          K::integer("sequence_len", MOESMITH_AT(Config, train.sequence_len),
                     {2.0, 1e9, false, false}, "Longest sample in tokens."),
          K::flag(
              "sample_packing", MOESMITH_AT(Config, train.sample_packing),
              "Fill each micro-batch with several samples. Positions restart at each sample and "
              "attention never crosses from one to the next."),
          K::flag("eval_sample_packing", MOESMITH_AT(Config, train.eval_sample_packing),
                  "The same for evaluation; empty: as sample_packing."),
          K::choice<ExcessLength>("excess_length_strategy",
                                  MOESMITH_AT(Config, train.excess_length_strategy),
                                  {{"drop", ExcessLength::kDrop},
                                   {"truncate", ExcessLength::kTruncate},
                                   {"raise", ExcessLength::kRaise}},
                                  "What happens to samples longer than sequence_len."),
          K::integer("min_sample_len", MOESMITH_AT(Config, train.min_sample_len),
                     {0.0, {}, false, false}, "Shorter samples are dropped."),
          K::flag("train_on_inputs", MOESMITH_AT(Config, train.train_on_inputs),
                  "Train on the prompts too, not only on the replies."),
          K::flag("shuffle_merged_datasets", MOESMITH_AT(Config, train.shuffle_merged_datasets),
                  "Shuffle the rows, anew in each epoch."),
          K::text("chat_template", MOESMITH_AT(Config, train.chat_template),
                  "tokenizer_default: the tokenizer's own; else the name of one of its templates."),
          K::text("chat_template_jinja", MOESMITH_AT(Config, train.chat_template_jinja),
                  "A Jinja template, as text or as a path; wins over chat_template."),
          K::object("chat_template_kwargs", MOESMITH_AT(Config, train.chat_template_kwargs),
                    "Further variables of the template, as {enable_thinking: false}."),
          K::list("eot_tokens", MOESMITH_AT(Config, train.eot_tokens),
                  "Further tokens that end a turn."),
          K::text_map("special_tokens", MOESMITH_AT(Config, surface.special_tokens),
                      "pad_token has no effect, nothing is padded; other entries are refused."),
      }};
}

const std::vector<Key<DatasetOptions>>& dataset_schema() {
  using D = Keys<DatasetOptions>;
  const std::vector<std::pair<std::string_view, EosTraining>> eos = {{"turn", EosTraining::kTurn},
                                                                     {"all", EosTraining::kAll},
                                                                     {"last", EosTraining::kLast},
                                                                     {"none", EosTraining::kNone}};
  static const std::vector<Key<DatasetOptions>> keys = {
      required(D::text("path", MOESMITH_AT(DatasetOptions, path),
                       "A file, or a folder with .jsonl, .json or .txt files. Required.")),
      required(D::choice<PromptType>(
          "type", MOESMITH_AT(DatasetOptions, type),
          {{"alpaca", PromptType::kAlpaca},
           {"chat_template", PromptType::kChatTemplate},
           {"completion", PromptType::kCompletion}},
          "alpaca: instruction, input, output. chat_template: messages. completion: plain "
          "text. Required.")),
      D::choice<DatasetFormat>("ds_type", MOESMITH_AT(DatasetOptions, ds_type),
                               {{"auto", DatasetFormat::kAuto},
                                {"json", DatasetFormat::kJson},
                                {"jsonl", DatasetFormat::kJson},
                                {"text", DatasetFormat::kText}},
                               "Format of the files; auto: by their names' ends."),
      D::list("data_files", MOESMITH_AT(DatasetOptions, data_files),
              "Files of the folder path to read."),
      D::text("name", MOESMITH_AT(DatasetOptions, name),
              "Subset: a folder of that name under path."),
      D::text("split", MOESMITH_AT(DatasetOptions, split),
              "train, or a part: train[:10%], train[100:200]."),
      D::text("field", MOESMITH_AT(DatasetOptions, field), "completion: the column with the text."),
      D::text("field_messages", MOESMITH_AT(DatasetOptions, field_messages),
              "chat_template: the column with the messages."),
      D::text("field_tools", MOESMITH_AT(DatasetOptions, field_tools),
              "chat_template: the column with tools."),
      D::text_map("message_property_mappings",
                  MOESMITH_AT(DatasetOptions, message_property_mappings),
                  "Names of message properties in the rows, as {role: from, content: value}."),
      D::text("message_field_training", MOESMITH_AT(DatasetOptions, message_field_training),
              "A property of a message that says whether it is trained; wins over roles_to_train."),
      D::text_list_map("roles", MOESMITH_AT(DatasetOptions, roles),
                       "Further names of roles in the rows, as {user: [human, customer]}."),
      D::list("roles_to_train", MOESMITH_AT(DatasetOptions, roles_to_train),
              "Roles whose words are trained."),
      D::choice<EosTraining>(
          "train_on_eos", MOESMITH_AT(DatasetOptions, train_on_eos), eos,
          "Which end-of-turn tokens are trained: of each trained turn, of all, of the last, "
          "none."),
      D::choice<EosTraining>("train_on_eot", MOESMITH_AT(DatasetOptions, train_on_eot), eos,
                             "The same for eot_tokens; empty: as train_on_eos."),
      D::flag("drop_system_message", MOESMITH_AT(DatasetOptions, drop_system_message),
              "Leave system messages out."),
      D::text("chat_template", MOESMITH_AT(DatasetOptions, chat_template),
              "As the key of the whole file, for this data set."),
      D::text("chat_template_jinja", MOESMITH_AT(DatasetOptions, chat_template_jinja),
              "As the key of the whole file, for this data set."),
  };
  return keys;
}

}  // namespace moesmith::config
