// SPDX-License-Identifier: Apache-2.0
// Held-out bits per byte of an interpolated Kneser-Ney n-gram model (Kneser & Ney 1995; one
// discount an order, n1 / (n1 + 2 n2)), over bytes and over a tokenizer's tokens: what a language
// model has to beat.
//
//   ngram_baseline TRAIN.jsonl VALID.jsonl TOKENIZER_FOLDER [order]
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/text.h"
#include "io/json.h"
#include "moesmith/error.h"
#include "text/tokenizer/tokenizer.h"

namespace {

using moesmith::Error;
using moesmith::ErrorCode;
using Document = std::vector<std::int32_t>;

std::vector<std::string> read_texts(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw Error(ErrorCode::kNotFound, path + ": cannot be read");
  std::vector<std::string> texts;
  for (std::string line; std::getline(file, line);) {
    const auto row = moesmith::io::Json::parse(line, path);
    texts.push_back(moesmith::io::JsonRef(row, path).at("text").as_string());
  }
  return texts;
}

std::uint64_t mix(std::uint64_t hash, std::uint64_t word) {
  hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
  return hash ^ (hash >> 29);
}

class KneserNey {
 public:
  KneserNey(int order, std::int64_t vocabulary)
      : orders_(static_cast<std::size_t>(order)), vocabulary_(vocabulary) {}

  void train(const std::vector<Document>& documents) {
    for (const Document& document : documents) {
      for (std::size_t at = 0; at < document.size(); ++at) count(document, at);
    }
    for (Order& order : orders_) {
      double ones = 0, twos = 0;
      for (const auto& [gram, times] : order.grams) {
        ones += times == 1;
        twos += times == 2;
      }
      order.discount = ones > 0 ? ones / (ones + 2 * twos) : 0.5;
    }
  }

  double probability(const Document& document, std::size_t at) const {
    double p = 1.0 / static_cast<double>(vocabulary_);
    for (std::size_t n = 0; n < orders_.size() && n <= at; ++n) {
      const Order& order = orders_[n];
      const std::uint64_t context = hash(document, at - n, at);
      const auto found = order.contexts.find(context);
      if (found == order.contexts.end()) break;
      const auto gram =
          order.grams.find(mix(context, static_cast<std::uint64_t>(document[at]) + 1));
      const double times = gram == order.grams.end() ? 0.0 : static_cast<double>(gram->second);
      const auto& [total, kinds] = found->second;
      p = std::max(times - order.discount, 0.0) / static_cast<double>(total) +
          order.discount * static_cast<double>(kinds) / static_cast<double>(total) * p;
    }
    return p;
  }

 private:
  struct Order {
    std::unordered_map<std::uint64_t, std::uint32_t> grams;  // context + word
    std::unordered_map<std::uint64_t, std::pair<std::uint64_t, std::uint64_t>>
        contexts;  // total, kinds
    double discount = 0;
  };

  static std::uint64_t hash(const Document& document, std::size_t begin, std::size_t end) {
    std::uint64_t value = 0x51ed270b9f3c4d17u;
    for (std::size_t i = begin; i < end; ++i)
      value = mix(value, static_cast<std::uint64_t>(document[i]) + 1);
    return value;
  }

  // The longest gram counts as often as it occurs; a shorter one once for each new word seen before
  // it.
  void count(const Document& document, std::size_t at) {
    for (std::size_t n = std::min(orders_.size() - 1, at) + 1; n-- > 0;) {
      const std::uint64_t context = hash(document, at - n, at);
      Order& order = orders_[n];
      const bool is_new =
          ++order.grams[mix(context, static_cast<std::uint64_t>(document[at]) + 1)] == 1;
      auto& [total, kinds] = order.contexts[context];
      ++total;
      kinds += is_new ? 1 : 0;
      if (!is_new) break;
    }
  }

  std::vector<Order> orders_;
  std::int64_t vocabulary_;
};

template <class Encode>
double bits_per_byte(const std::vector<std::string>& train,
                     const std::vector<std::string>& valid,
                     int order,
                     std::int64_t vocabulary,
                     const Encode& encode) {
  std::vector<Document> documents;
  for (const std::string& text : train) documents.push_back(encode(text));
  KneserNey model(order, vocabulary);
  model.train(documents);
  double bits = 0;
  std::size_t bytes = 0;
  for (const std::string& text : valid) {
    const Document document = encode(text);
    for (std::size_t at = 0; at < document.size(); ++at)
      bits -= std::log2(model.probability(document, at));
    bytes += text.size();
  }
  return bits / static_cast<double>(bytes);
}

int run(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr,
                 "usage: ngram_baseline TRAIN.jsonl VALID.jsonl TOKENIZER_FOLDER [order]\n");
    return 2;
  }
  const auto train = read_texts(argv[1]);
  const auto valid = read_texts(argv[2]);
  const auto tokenizer = moesmith::text::Tokenizer::load(argv[3]);
  const int order = argc > 4 ? std::atoi(argv[4]) : 5;
  if (order < 1 || order > 16) throw Error(ErrorCode::kInvalidInput, "order: expected 1 to 16");
  const auto bytes = [](const std::string& text) {
    Document document;
    for (const char c : text) document.push_back(static_cast<unsigned char>(c));
    return document;
  };
  const auto tokens = [&](const std::string& text) { return tokenizer.encode(text, false); };
  std::printf("%d-gram over bytes:  %.4f bits per byte\n", order,
              bits_per_byte(train, valid, order, 256, bytes));
  std::printf("%d-gram over tokens: %.4f bits per byte\n", order,
              bits_per_byte(train, valid, order, tokenizer.vocab_size(), tokens));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ngram_baseline: error: %s\n", error.what());
    return 2;
  }
}
