// SPDX-License-Identifier: Apache-2.0
// stdout and stderr.
#include "cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace moesmith::cli {
namespace {

std::string& status() {
  static std::string line;
  return line;
}

bool is_set(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0';
}

bool is_dumb() {
  const char* term = std::getenv("TERM");
  return term == nullptr || std::strcmp(term, "dumb") == 0;
}

void write(std::FILE* to, std::string_view text) { std::fwrite(text.data(), 1, text.size(), to); }

// NOTE: "\r" and erase-to-end-of-line, which every terminal since the VT100 has.
void erase() {
  if (!status().empty()) {
    write(stderr, "\r\x1b[K");
    std::fflush(stderr);
  }
}

void draw() {
  if (!status().empty()) {
    write(stderr, status());
    std::fflush(stderr);
  }
}

// The first `width` characters; never half of one.
std::string_view cut(std::string_view text, int width) {
  std::size_t i = 0;
  for (int n = 0; i < text.size(); ++i) {
    const bool starts = (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80;
    if (starts && n++ == width) {
      break;
    }
  }
  return text.substr(0, i);
}

}  // namespace

bool can_draw() {
  static const bool draws = isatty(STDERR_FILENO) == 1 && !is_dumb();
  return draws;
}

bool stdout_is_terminal() {
  static const bool terminal = isatty(STDOUT_FILENO) == 1;
  return terminal;
}

bool can_color() {
  static const bool colors = stdout_is_terminal() && !is_dumb() && !is_set("NO_COLOR");
  return colors;
}

int terminal_width() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    return size.ws_col;
  }
  return 80;
}

void print_line(std::string_view line) {
  erase();
  write(stdout, line);
  write(stdout, "\n");
  std::fflush(stdout);
  draw();
}

void print_note(std::string_view line) {
  erase();
  write(stderr, "moesmith: ");
  write(stderr, line);
  write(stderr, "\n");
  draw();
}

void print_text(std::string_view text) {
  write(stdout, text);
  std::fflush(stdout);
}

void set_status(std::string_view line) {
  if (!can_draw()) {
    return;
  }
  // The last column stays free: writing there makes some terminals begin a new line.
  const std::string_view shown = cut(line, terminal_width() - 1);
  if (shown == status()) {
    return;
  }
  erase();
  status() = shown;
  draw();
}

std::string harmless(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool control = static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
    if (control && c != '\n' && c != '\t') {
      out += "\xEF\xBF\xBD";
    } else {
      out += c;
    }
  }
  return out;
}

std::string bold(std::string_view text) {
  return can_color() ? "\x1b[1m" + std::string(text) + "\x1b[0m" : std::string(text);
}

int columns(std::string_view text) {
  int count = 0;
  for (const char c : text) {
    count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }
  return count;
}

}  // namespace moesmith::cli
