// SPDX-License-Identifier: Apache-2.0
// Dispatch to the command, help, and errors to exit codes.
#include "cli/app.h"

#include <exception>
#include <new>

#include "cli/command.h"
#include "cli/terminal.h"
#include "config/schema.h"
#include "core/cpu_topology.h"
#include "core/log.h"
#include "core/text.h"

namespace moesmith::cli {
namespace {

std::string usage() {
  std::string out =
      "Fine-tunes Mixture-of-Experts language models.\n\nUsage: moesmith COMMAND CONFIG.yml "
      "[--key value ...]\n\nCommands:\n";
  for (const Command& command : commands()) {
    out +=
        str("  ", command.name, std::string(14 - command.name.size(), ' '), command.summary, "\n");
  }
  return out +
         "\nmoesmith COMMAND --help lists a command's flags; moesmith --version prints the "
         "version.\n"
         "Exit codes: 0 done, 1 failed, 2 the input is wrong, 130 interrupted.";
}

std::string command_help(const Command& command) {
  std::string out = str(command.summary, "\n\nUsage: moesmith ", command.name);
  out += command.subject.empty() ? "" : str(" ", command.subject);
  out += command.takes_keys ? (command.needs_config ? " CONFIG.yml" : " [CONFIG.yml]") : "";
  out += command.options.empty() ? "" : " [options]";
  out += command.takes_keys ? " [--key value ...]\n" : "\n";
  if (!command.more.empty()) {
    out += str("\n", command.more, "\n");
  }
  out += "\nOptions:\n";
  for (const Option& option : command.options) {
    const std::string flag =
        str("  --", option.name, option.value.empty() ? "" : " ", option.value);
    out += flag + std::string(flag.size() < 34 ? 36 - flag.size() : 2, ' ') +
           std::string(option.help) + "\n";
  }
  out += "  --help                            This text.\n";
  if (command.takes_keys) {
    out += "\nKeys of the configuration, as flags that beat the file:\n\n" + config::flags_help();
    out.pop_back();
  }
  out.pop_back();
  return out;
}

const Command& find_command(const std::string& name) {
  std::vector<std::string> known;
  for (const Command& command : commands()) {
    if (command.name == name) {
      return command;
    }
    known.emplace_back(command.name);
  }
  const std::string meant = nearest(name, known);
  throw Error(ErrorCode::kInvalidInput,
              str("unknown command ", name,
                  meant.empty() ? "; see moesmith --help" : str("; did you mean ", meant, "?")));
}

int run_command(const std::vector<std::string>& words) {
  if (words.empty()) {
    throw Error(ErrorCode::kInvalidInput, "got no command; see moesmith --help");
  }
  if (words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    print_line(usage());
    return kDone;
  }
  if (words[0] == "--version" || words[0] == "-V") {
    print_line("moesmith " MOESMITH_VERSION);
    return kDone;
  }
  const Command& command = find_command(words[0]);
  const Arguments arguments = parse_arguments({words.begin() + 1, words.end()}, command.options);
  if (arguments.help) {
    print_line(command_help(command));
    return kDone;
  }
  if (command.needs_config && arguments.config_file.empty()) {
    throw Error(ErrorCode::kInvalidInput,
                str("got no configuration, expected: moesmith ", command.name, " CONFIG.yml"));
  }
  return command.run(arguments);
}

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidInput:
    case ErrorCode::kNotFound:
    case ErrorCode::kUnsupported:
    case ErrorCode::kOutOfMemory:
      return kWrongInput;
    case ErrorCode::kInterrupted:
      return kInterrupted;
    case ErrorCode::kIo:
    case ErrorCode::kInternal:
      break;
  }
  return kFailed;
}

}  // namespace

const std::vector<Command>& commands() {
  static const std::vector<Command> table = {
      train_command(),   inference_command(), merge_lora_command(), validate_command(),
      explain_command(), doctor_command(),    bench_command()};
  return table;
}

config::Config read_config(const Arguments& arguments, config::Purpose purpose) {
  config::Config config = config::load_config(arguments.config_file, arguments.overrides, purpose);
  for (const std::string& notice : config.notices) {
    print_note(notice);
  }
  return config;
}

void place_memory(const config::RuntimeOptions& runtime) {
  interleave_memory(nodes_to_interleave(runtime.numa, numa_nodes(), allowed_cpus()));
}

int run_app(const std::vector<std::string>& words) {
  set_log_sink([](LogLevel level, const std::string& line) {
    print_note(level == LogLevel::kWarning ? "warning: " + line : line);
  });
  try {
    return run_command(words);
  } catch (const Error& error) {
    set_status("");
    print_note(str("error: ", error.what()));
    return exit_code(error.code());
  } catch (const std::bad_alloc&) {
    set_status("");
    print_note("error: out of memory");
    return kFailed;
  } catch (const std::exception& error) {
    set_status("");
    print_note(str("error: internal: ", error.what()));
    return kFailed;
  }
}

}  // namespace moesmith::cli
