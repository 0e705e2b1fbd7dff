// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cctype>
#include <new>

#include "core/text.h"
#include "moesmith/error.h"
#include "text/tokenizer/regex_syntax.h"
#include "text/tokenizer/unicode.h"

namespace moesmith::text {

struct Regex::Code {
  Code(pcre2_code* compiled, std::string source) : code(compiled), pattern(std::move(source)) {}
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() { pcre2_code_free(code); }

  pcre2_code* code;
  std::string pattern;  // as the file spells it, for messages
};

namespace {

std::string message_of(int error) {
  unsigned char buffer[256];
  pcre2_get_error_message(error, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

// What matching writes to. The stack grows on demand: 32 KiB of machine stack, PCRE2's default for
// compiled code, does not take a word of a few thousand alternations.
struct Scratch {
  Scratch()
      : data(pcre2_match_data_create(1, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(std::size_t{32} << 10, std::size_t{64} << 20, nullptr)) {
    if (data == nullptr || context == nullptr) throw std::bad_alloc();
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }

  pcre2_match_data* data;
  pcre2_match_context* context;
  pcre2_jit_stack* stack;
};

}  // namespace

Regex Regex::compile(std::string_view pattern, const std::string& where) {
  const std::string translated = oniguruma_to_pcre2(pattern, where);
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  if (context == nullptr) throw std::bad_alloc();
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &offset, context);
  pcre2_compile_context_free(context);
  if (code == nullptr) {
    throw Error(ErrorCode::kInvalidInput, str(where, ": the pattern \"", pattern,
                                              "\" does not compile: ", message_of(error)));
  }
  // Where the system forbids pages that are written and run, patterns are interpreted.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  Regex regex;
  regex.code_ = std::make_shared<const Code>(code, std::string(pattern));
  return regex;
}

Regex Regex::literal(std::string_view text, const std::string& where) {
  std::string escaped;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80 && !std::isalnum(byte)) {
      const char* digits = "0123456789abcdef";
      escaped += str("\\x{", digits[byte >> 4], digits[byte & 15], "}");
    } else {
      escaped += c;
    }
  }
  return compile(escaped, where);
}

std::vector<Span> Regex::find_all(std::string_view subject) const {
  static thread_local Scratch scratch;
  std::vector<Span> spans;
  const auto* text = reinterpret_cast<PCRE2_SPTR>(subject.data());
  const PCRE2_SIZE* found = pcre2_get_ovector_pointer(scratch.data);
  std::size_t start = 0;
  while (start <= subject.size()) {
    int rc = pcre2_match(code_->code, text, subject.size(), start, PCRE2_NO_UTF_CHECK, scratch.data,
                         scratch.context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter keeps its stack on the heap
      rc = pcre2_match(code_->code, text, subject.size(), start, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                       scratch.data, scratch.context);
    }
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0) {
      throw Error(ErrorCode::kInvalidInput,
                  str("tokenizer pattern \"", code_->pattern, "\" on a text of ", subject.size(),
                      " bytes: ", message_of(rc)));
    }
    const Span span{found[0], found[1]};
    const bool repeats_end =
        span.begin == span.end && !spans.empty() && spans.back().end == span.end;
    if (!repeats_end) {
      spans.push_back(span);
      start = span.end;
    } else if (span.end < subject.size()) {  // an empty match right behind the last one
      start = span.end;
      unicode::next(subject, start);
    } else {
      break;
    }
  }
  return spans;
}

}  // namespace moesmith::text
