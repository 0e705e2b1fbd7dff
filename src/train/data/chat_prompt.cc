// SPDX-License-Identifier: Apache-2.0
// chat_template rows: the conversation is rendered and tokenised once, as at inference; the words
// of the trained roles' turns and their end tokens are trained.
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/log.h"
#include "core/text.h"
#include "moesmith/error.h"
#include "train/data/chat_messages.h"
#include "train/data/chat_spans.h"
#include "train/data/prompt.h"

namespace moesmith::train {
namespace {

using Ids = std::vector<std::int32_t>;

// Where the tokens of a rendering start, in bytes; when the tokenizer changed the text, positions
// are found by tokenising what lies before them.
class Alignment {
 public:
  Alignment(const text::Tokenizer& tokenizer, const Ids& ids, std::string_view rendered)
      : tokenizer_(tokenizer),
        ids_(ids),
        rendered_(rendered),
        offsets_(token_offsets(tokenizer, ids, rendered)) {}

  // The first token that starts at or behind `at`; a token that begins before with nothing but
  // white space, such as " word", counts when `at` starts a span.
  std::size_t token_at(std::size_t at, bool starts_span) const {
    if (!offsets_.has_value()) return by_prefix(at);
    const auto begin = offsets_->begin(), end = offsets_->end() - 1;
    auto token = std::lower_bound(begin, end, at);
    if (starts_span && token != begin && (token == end || *token > at)) {
      const std::string_view before = rendered_.substr(*(token - 1), at - *(token - 1));
      if (before.find_first_not_of(" ") == before.npos) --token;
    }
    return static_cast<std::size_t>(token - begin);
  }

 private:
  std::size_t by_prefix(std::size_t at) const {
    const Ids prefix = tokenizer_.encode(rendered_.substr(0, at), false);
    const auto most = static_cast<std::ptrdiff_t>(std::min(prefix.size(), ids_.size()));
    return static_cast<std::size_t>(
        std::mismatch(ids_.begin(), ids_.begin() + most, prefix.begin()).first - ids_.begin());
  }

  const text::Tokenizer& tokenizer_;
  const Ids& ids_;
  std::string_view rendered_;
  std::optional<std::vector<std::size_t>> offsets_;
};

class Chat final : public PromptFormat {
 public:
  Chat(const DatasetOptions& dataset,
       const TrainOptions& options,
       const text::Tokenizer& tokenizer,
       const std::string& tokenizer_folder)
      : reader_(dataset),
        tokenizer_(tokenizer),
        template_(text::ChatTemplate::load(tokenizer_folder, choice(dataset, options))),
        variables_(io::Json::parse(options.chat_template_kwargs, "chat_template_kwargs")),
        train_on_inputs_(options.train_on_inputs),
        eos_policy_(dataset.train_on_eos),
        eot_policy_(dataset.train_on_eot.value_or(dataset.train_on_eos)) {
    if (!variables_.is_object()) {
      throw Error(ErrorCode::kInvalidInput,
                  "chat_template_kwargs: got " + variables_.describe() + ", expected an object");
    }
    add_end_tokens(options.eot_tokens);
  }

  void append_samples(const io::Json& row,
                      const std::string& where,
                      std::vector<Sample>& out) const override {
    const Conversation conversation = reader_.read(row, where);
    if (conversation.messages.empty()) {
      out.emplace_back();  // counted as dropped
      return;
    }
    text::ChatRequest request;
    request.messages = io::Json(conversation.messages);
    request.tools = conversation.tools;
    request.variables = variables_;
    std::string rendered;
    try {
      rendered = template_.render(request);
    } catch (const Error& error) {
      throw Error(error.code(), str(where, ": ", error.what()));
    }
    Sample sample;
    sample.input_ids = tokenizer_.encode(rendered, false);
    sample.trained.assign(sample.input_ids.size(), train_on_inputs_ ? 1 : 0);
    if (!train_on_inputs_) mark_turns(conversation, request, rendered, where, sample);
    out.push_back(std::move(sample));
  }

 private:
  static text::ChatTemplateChoice choice(const DatasetOptions& dataset,
                                         const TrainOptions& options) {
    const bool own = !dataset.chat_template.empty() || !dataset.chat_template_jinja.empty();
    return own ? text::ChatTemplateChoice{dataset.chat_template, dataset.chat_template_jinja}
               : text::ChatTemplateChoice{options.chat_template, options.chat_template_jinja};
  }

  void add_end_tokens(const std::vector<std::string>& eot_tokens) {
    if (const auto& eos = tokenizer_.eos(); eos.has_value() && eos->id >= 0) {
      ends_[eos->id] = eos_policy_;
      end_texts_.push_back(eos->content);
    }
    for (const std::string& token : eot_tokens) {
      const auto id = tokenizer_.id_of(token);
      if (!id.has_value()) {
        throw Error(ErrorCode::kInvalidInput,
                    str("eot_tokens: got '", token, "', expected a token of the vocabulary"));
      }
      ends_.try_emplace(*id, eot_policy_);
      end_texts_.push_back(token);
    }
  }

  void mark_turns(const Conversation& conversation,
                  const text::ChatRequest& request,
                  const std::string& rendered,
                  const std::string& where,
                  Sample& sample) const {
    const Alignment alignment(tokenizer_, sample.input_ids, rendered);
    std::size_t settled = 0;  // turns do not overlap
    for (std::size_t i = 0; i < conversation.messages.size(); ++i) {
      if (!conversation.trained[i]) continue;
      const auto span = find_turn(template_, request, rendered, i, end_texts_);
      if (!span.has_value() || span->begin < settled) {
        throw Error(ErrorCode::kInvalidInput,
                    str(where, ": message ", i, ": its words cannot be told apart in what ",
                        template_.name(), " makes of the conversation"));
      }
      settled = span->end;
      const std::size_t begin = alignment.token_at(span->begin, true);
      const std::size_t end = std::max(begin, alignment.token_at(span->end, false));
      std::fill(sample.trained.begin() + static_cast<std::ptrdiff_t>(begin),
                sample.trained.begin() + static_cast<std::ptrdiff_t>(end), std::uint8_t{1});
      mark_end_of_turn(end, sample);
    }
    mark_other_ends(sample);
  }

  // The end token behind a trained turn: one of the known ones within three tokens, else a special
  // token that follows at once. Without it a model never learns to stop.
  void mark_end_of_turn(std::size_t at, Sample& sample) const {
    const std::size_t last = std::min(sample.input_ids.size(), at + 3);
    for (std::size_t i = at; i < last; ++i) {
      const auto end = ends_.find(sample.input_ids[i]);
      if (end == ends_.end()) continue;
      if (end->second == EosTraining::kTurn) sample.trained[i] = 1;
      return;
    }
    if (eos_policy_ != EosTraining::kTurn) return;
    if (at < last && tokenizer_.is_special(sample.input_ids[at])) {
      sample.trained[at] = 1;
    } else if (!std::exchange(told_of_no_end_, true)) {
      log(LogLevel::kWarning, str(template_.name(), ": no end token follows a trained turn, so a ",
                                  "model trained on it does not learn to stop; see eot_tokens"));
    }
  }

  // Policies that do not look at turns.
  void mark_other_ends(Sample& sample) const {
    std::map<std::int32_t, std::size_t> last;
    for (std::size_t i = 0; i < sample.input_ids.size(); ++i) {
      const auto end = ends_.find(sample.input_ids[i]);
      if (end == ends_.end()) continue;
      if (end->second == EosTraining::kAll) sample.trained[i] = 1;
      if (end->second == EosTraining::kLast) last[end->first] = i;
      if (end->second == EosTraining::kNone) sample.trained[i] = 0;
    }
    for (const auto& [id, at] : last) sample.trained[at] = 1;
  }

  ConversationReader reader_;
  text::Tokenizer tokenizer_;
  text::ChatTemplate template_;
  io::Json variables_;
  bool train_on_inputs_;
  EosTraining eos_policy_, eot_policy_;
  std::map<std::int32_t, EosTraining> ends_;  // end tokens and when they are trained
  std::vector<std::string> end_texts_;
  mutable bool told_of_no_end_ = false;
};

}  // namespace

std::unique_ptr<PromptFormat> chat_format(const DatasetOptions& dataset,
                                          const TrainOptions& options,
                                          const text::Tokenizer& tokenizer,
                                          const std::string& tokenizer_folder) {
  return std::make_unique<Chat>(dataset, options, tokenizer, tokenizer_folder);
}

}  // namespace moesmith::train
