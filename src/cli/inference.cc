// SPDX-License-Identifier: Apache-2.0
// moesmith inference: a reply to a prompt from a flag or stdin, or a chat, streamed as it is made.
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <iterator>

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/model_files.h"
#include "cli/prompt.h"
#include "cli/terminal.h"
#include "core/text.h"
#include "train/generate.h"

namespace moesmith::cli {
namespace {

class Session {
 public:
  Session(const config::Config& config, ThreadPool& pool)
      : files_(find_model_files(config)),
        tokenizer_(text::Tokenizer::load(files_.tokenizer)),
        stops_(stop_tokens(config, files_, tokenizer_)),
        options_(config.generation),
        model_(model::CausalLM::load(use_request(config, files_), pool)) {}

  const ModelFiles& files() const { return files_; }

  // Streams the reply to stdout until it ends or `stop` is set; returns it.
  std::string reply(const Prompt& prompt, const std::atomic<bool>& stop) {
    std::vector<std::int32_t> tokens = tokenizer_.encode(prompt.text, prompt.add_special_tokens);
    // A post-processor may close every text with the end token; the reply is still to come.
    if (prompt.add_special_tokens && tokens.size() > 1 &&
        std::binary_search(stops_.begin(), stops_.end(), tokens.back())) {
      tokens.pop_back();
    }
    text::StreamDecoder decoder(tokenizer_, true);
    std::string whole;
    const auto emit = [&](const std::string& piece) {
      whole += piece;
      print_text(stdout_is_terminal() ? harmless(piece) : piece);
    };
    train::generate(model_, tokens, stops_, options_, [&](std::int32_t token) {
      emit(decoder.push(token));
      return !stop.load();
    });
    emit(decoder.finish());
    if (whole.empty() || whole.back() != '\n') {
      print_text("\n");
    }
    return whole;
  }

 private:
  ModelFiles files_;
  text::Tokenizer tokenizer_;
  std::vector<std::int32_t> stops_;
  model::GenerationOptions options_;
  model::CausalLM model_;
};

constexpr std::string_view kChatHelp =
    "/new begins a new conversation, /quit ends; Ctrl-C cuts a reply off";

int chat(Session& session, const PromptFormat& format) {
  const bool asks = isatty(STDIN_FILENO) == 1;
  InterruptGuard guard(nullptr);
  Conversation conversation;
  if (asks) {
    print_line(kChatHelp);
  }
  std::string line;
  while (true) {
    if (asks) {
      print_text("> ");
    }
    if (!std::getline(std::cin, line) || line == "/quit") {
      return guard.interrupted() ? kInterrupted : kDone;
    }
    if (line == "/new") {
      conversation.clear();
    } else if (!line.empty() && line[0] == '/') {
      print_line(kChatHelp);
    } else if (!line.empty()) {
      conversation.add("user", line);
      conversation.add("assistant", session.reply(format.chat(conversation), guard.stop()));
      guard.rearm();
    }
  }
}

std::string prompt_from(const Arguments& arguments) {
  if (arguments.has("prompt")) {
    return arguments.options.at("prompt");
  }
  if (isatty(STDIN_FILENO) == 1) {
    print_note("reads the prompt from the terminal; end it with Ctrl-D");
  }
  std::string text{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  if (!text.empty() && text.back() == '\n') {
    text.pop_back();
  }
  return text;
}

int run(const Arguments& arguments) {
  const config::Config config = read_config(arguments, config::Purpose::kModel);
  const bool chats = arguments.has("chat");
  const std::string wanted = arguments.has("format") ? arguments.options.at("format") : "auto";
  if (chats && arguments.has("prompt")) {
    throw Error(ErrorCode::kInvalidInput, "--chat and --prompt exclude each other; give one");
  }
  const ModelFiles files = find_model_files(config);
  const PromptFormat format(config, files.tokenizer, chats ? "chat_template" : wanted);
  const std::string prompt = chats ? "" : prompt_from(arguments);
  if (!chats && prompt.empty()) {
    throw Error(ErrorCode::kInvalidInput,
                "the prompt is empty; give --prompt TEXT, or text on stdin");
  }
  place_memory(config.runtime);
  ThreadPool pool(static_cast<int>(config.runtime.threads));
  Session session(config, pool);
  if (chats) {
    return chat(session, format);
  }
  const InterruptGuard guard("\n");
  session.reply(format.instruction(prompt), guard.stop());
  return guard.interrupted() ? kInterrupted : kDone;
}

}  // namespace

Command inference_command() {
  return {
      "inference",
      "Continues a prompt, or chats, with the trained model.",
      "The prompt is --prompt's text, else what stdin holds. With adapter: lora the adapter is\n"
      "lora_model_dir, else output_dir; without one the weights in output_dir, else base_model.",
      true,
      true,
      {{"prompt", "TEXT", "The prompt."},
       {"chat", "", "A conversation, one line a turn; /new and /quit."},
       {"format", "NAME", "raw, alpaca, chat_template, or auto: as the first data set's type."}},
      run};
}

}  // namespace moesmith::cli
