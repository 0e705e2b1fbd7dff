// SPDX-License-Identifier: Apache-2.0
// YAML text to tree, through yaml-cpp's events: no second tree, and each event has its mark.
#include "config/tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "config/utf8.h"
#include "core/text.h"

namespace moesmith::config {
namespace {

// A configuration has a few hundred values. The limit stops aliases of aliases from growing without
// end.
constexpr std::int64_t kMaxNodes = 100'000;

// Position of a line's first byte; text.size() past the end. Lines count from 0.
std::size_t line_begin(std::string_view text, int line) {
  std::size_t begin = 0;
  for (int i = 0; i < line; ++i) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string_view::npos) {
      return text.size();
    }
    begin = end + 1;
  }
  return begin;
}

// yaml-cpp takes a quote that the end of the file closes as if it were closed.
bool quote_is_closed(std::string_view text, int line, int column) {
  const std::size_t open = line_begin(text, line) + static_cast<std::size_t>(column);
  if (open >= text.size() || (text[open] != '"' && text[open] != '\'')) {
    return true;  // a block scalar
  }
  for (std::size_t i = open + 1; i < text.size(); ++i) {
    if (text[open] == '"' && text[i] == '\\') {
      ++i;
    } else if (text[i] == text[open]) {
      const bool doubled = text[open] == '\'' && i + 1 < text.size() && text[i + 1] == '\'';
      if (!doubled) {
        return true;
      }
      ++i;
    }
  }
  return false;
}

// Column (from 1) of a tab in a line's indentation, 0 when there is none: yaml-cpp's message for it
// speaks of other things.
int tab_in_indentation(std::string_view text, int line) {
  const std::size_t begin = line_begin(text, line);
  const std::size_t content = text.find_first_not_of(" \t", begin);
  const std::size_t tab = text.substr(0, content).find('\t', begin);
  return tab == std::string_view::npos ? 0 : static_cast<int>(tab - begin) + 1;
}

class Builder : public YAML::EventHandler {
 public:
  Builder(std::string_view text, std::shared_ptr<const std::string> source, Location fixed)
      : text_(text), source_(std::move(source)), fixed_(std::move(fixed)) {}

  Node root;
  bool has_root = false;

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add(make(Node::Kind::kNull, mark), anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) {
      fail(location(mark), "an alias stands inside the value it names");
    }
    num_nodes_ += found->second.second;
    add(found->second.first, 0);
  }
  void OnScalar(const YAML::Mark& mark,
                const std::string& tag,
                YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_tag(mark, tag);
    if (tag != "?" && !quote_is_closed(text_, mark.line, mark.column)) {
      fail(location(mark), "a quote opened here is never closed");
    }
    Node node = make(Node::Kind::kScalar, mark);
    node.text = value;
    node.plain = tag == "?";
    add(std::move(node), anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark,
                       const std::string& tag,
                       YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    refuse_tag(mark, tag);
    open_.push_back({make(Node::Kind::kList, mark), anchor, num_nodes_, {}, false});
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark,
                  const std::string& tag,
                  YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    refuse_tag(mark, tag);
    open_.push_back({make(Node::Kind::kMap, mark), anchor, num_nodes_, {}, false});
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    Node node;
    YAML::anchor_t anchor;
    std::int64_t nodes_before;
    Node key;  // of a map: read, its value not yet
    bool has_key;
  };

  Location location(const YAML::Mark& mark) const {
    return fixed_.source ? fixed_ : Location{source_, mark.line + 1, mark.column + 1};
  }

  Node make(Node::Kind kind, const YAML::Mark& mark) const {
    Node node;
    node.kind = kind;
    node.at = location(mark);
    return node;
  }

  void refuse_tag(const YAML::Mark& mark, const std::string& tag) const {
    if (!tag.empty() && tag != "?" && tag != "!") {
      fail(location(mark), str("tag ", tag, " is not understood here; write the value alone"));
    }
  }

  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    const std::int64_t size = num_nodes_ - done.nodes_before;
    add(std::move(done.node), done.anchor, size);
  }

  void add(Node node, YAML::anchor_t anchor, std::int64_t size = 0) {
    if (++num_nodes_ > kMaxNodes) {
      fail(node.at, str("more than ", kMaxNodes, " values, aliases counted as often as used"));
    }
    if (anchor != 0) {
      anchors_[anchor] = {node, size + 1};
    }
    if (open_.empty()) {
      root = std::move(node);
      has_root = true;
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == Node::Kind::kList) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.has_key) {
      take_key(parent, std::move(node));
    } else {
      parent.node.keys.push_back(std::move(parent.key.text));
      parent.node.key_at.push_back(parent.key.at);
      parent.node.items.push_back(std::move(node));
      parent.has_key = false;
    }
  }

  static void take_key(Open& parent, Node key) {
    if (key.kind != Node::Kind::kScalar) {
      fail(key.at, str("got ", describe(key), " as a key, expected a name"));
    }
    const auto& keys = parent.node.keys;
    const auto twice = std::find(keys.begin(), keys.end(), key.text);
    if (twice != keys.end()) {
      const Location& first = parent.node.key_at[static_cast<std::size_t>(twice - keys.begin())];
      fail(key.at, str("key ", key.text, " is given twice, first in line ", first.line));
    }
    parent.key = std::move(key);
    parent.has_key = true;
  }

  std::string_view text_;
  std::shared_ptr<const std::string> source_;
  Location fixed_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, std::pair<Node, std::int64_t>> anchors_;
  std::int64_t num_nodes_ = 0;
};

Node parse(std::string_view text, std::shared_ptr<const std::string> source, Location fixed) {
  std::istringstream stream{std::string(text)};
  Builder builder(text, source, fixed);
  try {
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    if (builder.has_root) {
      Builder second(text, source, fixed);
      if (parser.HandleNextDocument(second) && second.has_root) {
        fail(second.root.at, "a second YAML document begins; expected one");
      }
    }
  } catch (const YAML::Exception& error) {
    const auto at = [&](int column) {
      return fixed.source ? fixed : Location{source, error.mark.line + 1, column};
    };
    if (const int tab = tab_in_indentation(text, error.mark.line); tab != 0) {
      fail(at(tab), "a tab indents this line; YAML allows spaces only");
    }
    fail(at(error.mark.column + 1), str("not YAML: ", error.msg));
  }
  return std::move(builder.root);
}

}  // namespace

Node parse_yaml(std::string_view text, const std::string& source) {
  const auto name = std::make_shared<const std::string>(source);
  if (const std::size_t bad = first_invalid_utf8(text); bad != text.size()) {
    const std::string_view before = text.substr(0, bad);
    const int line = static_cast<int>(std::count(before.begin(), before.end(), '\n')) + 1;
    const std::size_t start =
        before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
    fail({name, line, static_cast<int>(bad - start) + 1},
         "a byte that is not UTF-8 text; save the file as UTF-8");
  }
  return parse(text, name, {});
}

Node parse_yaml_value(std::string_view text, const Location& at) {
  if (first_invalid_utf8(text) != text.size()) {
    fail(at, "a byte that is not UTF-8 text");
  }
  return parse(text, at.source, at);
}

std::string Location::str() const {
  if (line == 0) {
    return source ? *source : "";
  }
  return moesmith::str(*source, ":", line, ":", column);
}

void fail(const Location& at, std::string_view what) {
  throw Error(ErrorCode::kInvalidInput, str(at.str(), ": ", what));
}

std::string describe(const Node& node) {
  switch (node.kind) {
    case Node::Kind::kNull:
      return "nothing";
    case Node::Kind::kScalar:
      return node.text.size() <= 60 ? str("\"", node.text, "\"")
                                    : str("\"", node.text.substr(0, 57), "...\"");
    case Node::Kind::kList:
      return "a list";
    case Node::Kind::kMap:
      return "a mapping";
  }
  return "";
}

Node scalar_node(std::string_view text, const Location& at) {
  Node node;
  node.kind = text.empty() ? Node::Kind::kNull : Node::Kind::kScalar;
  node.text = text;
  node.plain = true;
  node.at = at;
  return node;
}

const Node* Node::find(std::string_view key) const {
  const auto found = std::find(keys.begin(), keys.end(), key);
  return found == keys.end() ? nullptr : &items[static_cast<std::size_t>(found - keys.begin())];
}

Node* Node::find(std::string_view key) {
  return const_cast<Node*>(static_cast<const Node*>(this)->find(key));
}

void Node::set(std::string_view key, Node value) {
  if (Node* old = find(key)) {
    key_at[static_cast<std::size_t>(old - items.data())] = value.at;
    *old = std::move(value);
    return;
  }
  keys.emplace_back(key);
  key_at.push_back(value.at);
  items.push_back(std::move(value));
}

}  // namespace moesmith::config
