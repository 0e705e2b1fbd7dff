// SPDX-License-Identifier: Apache-2.0
// One function per filter, by subject: filters_text.cc, filters_number.cc, filters_sequence.cc,
// filters_select.cc.
#pragma once

#include "text/jinja/arguments.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/value.h"

namespace moesmith::text::jinja {

Value filter_abs(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_attr(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_batch(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_capitalize(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_center(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_length(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_default(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_dictsort(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_escape(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_first(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_float(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_force_escape(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_format(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_indent(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_int(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_items(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_join(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_last(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_list(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_lower(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_map(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_max(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_min(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_reject(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_rejectattr(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_replace(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_reverse(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_round(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_safe(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_select(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_selectattr(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_slice(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_sort(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_string(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_sum(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_title(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_tojson(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_trim(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_truncate(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_unique(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_upper(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_wordcount(Interpreter& interpreter, const Value& value, const Arguments& arguments);

}  // namespace moesmith::text::jinja
