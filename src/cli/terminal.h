// SPDX-License-Identifier: Apache-2.0
// What the standard streams are, and lines that do not disturb a progress bar.
#pragma once

#include <string>
#include <string_view>

namespace moesmith::cli {

// stderr is a terminal that understands cursor movement: the progress bar is drawn there.
bool can_draw();
bool stdout_is_terminal();
// Colour may be used on stdout: a terminal, and NO_COLOR is unset or empty.
bool can_color();
// Columns of the terminal on stderr; 80 where that is unknown.
int terminal_width();

// A line on stdout, or a note on stderr ("moesmith: ..."). A status line that stands is taken away
// before it and drawn again after it.
void print_line(std::string_view line);
void print_note(std::string_view line);
// Text as it is, without a line end; flushed.
void print_text(std::string_view text);
// The status line: redrawn in place on stderr, cut to the terminal's width; "" takes it away. Does
// nothing unless can_draw().
void set_status(std::string_view line);

// What a model wrote, with control characters that would move the cursor as U+FFFD.
std::string harmless(std::string_view text);

// For emphasis where can_color(), else as it is.
std::string bold(std::string_view text);

// Columns that a UTF-8 text takes, counted as one per character.
int columns(std::string_view text);

}  // namespace moesmith::cli
