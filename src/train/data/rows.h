// SPDX-License-Identifier: Apache-2.0
// The rows of a data set's files: JSON Lines, a JSON array, or plain text (one row a file).
#pragma once

#include <functional>
#include <string>

#include "io/json.h"
#include "train/options.h"

namespace moesmith::train {

// `where` is "<file>:<line>" (of a JSON array "<file>[<index>]").
using RowVisitor = std::function<void(const io::Json& row, const std::string& where)>;

// Calls `visit` for each row that the split selects, in the order of the files' names and of their
// lines; one row is in memory at a time. A text file is the row
// {<field>: contents}. Throws Error: kNotFound for a path or split that is not there, kInvalidInput
// "<file>:<line>: <what>" for a row that is no JSON object, or a file type that is not read.
void visit_rows(const DatasetOptions& dataset, const RowVisitor& visit);

}  // namespace moesmith::train
