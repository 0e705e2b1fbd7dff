// SPDX-License-Identifier: Apache-2.0
// What a language model is worth on text it has not seen: held-out bits per byte with every byte
// counted, and how long a run its samples share with the corpus it was trained on.
//
//   held_out MODEL_FOLDER TRAIN.jsonl VALID.jsonl [num_samples]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "model/causal_lm.h"
#include "moesmith/error.h"
#include "text/tokenizer/tokenizer.h"
#include "train/generate.h"

namespace {

using namespace moesmith;

// The checkpoint was trained on samples of this length; each token is predicted from at least half
// of it, where the text has that much.
constexpr std::int64_t kWindow = 512;
constexpr std::int64_t kStride = kWindow / 2;
constexpr std::int64_t kSampleTokens = 200;

std::vector<std::string> read_texts(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw Error(ErrorCode::kNotFound, path + ": cannot be read");
  std::vector<std::string> texts;
  for (std::string line; std::getline(file, line);) {
    const io::Json row = io::Json::parse(line, path);
    texts.push_back(io::JsonRef(row, path).at("text").as_string());
  }
  return texts;
}

model::Batch window(const std::vector<std::int32_t>& ids,
                    std::int64_t begin,
                    std::int64_t first_scored) {
  const auto size = static_cast<std::int64_t>(ids.size());
  const std::int64_t end = std::min(size, begin + kWindow);
  model::Batch batch;
  batch.segment_offsets = {0, end - begin};
  for (std::int64_t i = begin; i < end; ++i) {
    batch.input_ids.push_back(ids[static_cast<std::size_t>(i)]);
    batch.position_ids.push_back(static_cast<std::int32_t>(i - begin));
    const bool scored = i + 1 < end && i + 1 >= first_scored;
    batch.labels.push_back(scored ? ids[static_cast<std::size_t>(i) + 1] : -100);
  }
  return batch;
}

double bits_per_byte(model::CausalLM& model,
                     const text::Tokenizer& tokenizer,
                     const std::vector<std::string>& texts) {
  double nats = 0;
  std::size_t bytes = 0;
  for (const std::string& text : texts) {
    const auto ids = tokenizer.encode(text, false);
    nats += std::log(static_cast<double>(model.vocab_size()));  // nothing predicts the first token
    std::int64_t scored = 1;
    for (std::int64_t begin = 0; scored < static_cast<std::int64_t>(ids.size()); begin += kStride) {
      nats += model.evaluate(window(ids, begin, scored)).sum;
      scored = std::min(static_cast<std::int64_t>(ids.size()), begin + kWindow);
    }
    bytes += text.size();
  }
  return nats / std::log(2.0) / static_cast<double>(bytes);
}

std::size_t longest_shared_run(std::string_view sample, std::string_view corpus) {
  std::size_t longest = 0;
  for (std::size_t at = 0; at + longest < sample.size(); ++at) {
    while (at + longest < sample.size() &&
           corpus.find(sample.substr(at, longest + 1)) != std::string_view::npos) {
      ++longest;
    }
  }
  return longest;
}

int run(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: held_out MODEL_FOLDER TRAIN.jsonl VALID.jsonl [num_samples]\n");
    return 2;
  }
  ThreadPool pool;
  model::LoadRequest request;
  request.folder = argv[1];
  auto model = model::CausalLM::load(request, pool);
  const auto tokenizer = text::Tokenizer::load(argv[1]);
  const auto train = read_texts(argv[2]);
  const auto valid = read_texts(argv[3]);
  std::printf("held out: %.4f bits per byte\n", bits_per_byte(model, tokenizer, valid));

  std::string corpus;
  for (const std::string& text : train) corpus += text + '\n';
  const int num_samples = argc > 4 ? std::atoi(argv[4]) : 5;
  model::GenerationOptions options;
  options.max_new_tokens = kSampleTokens;
  options.temperature = 0.8;
  options.repetition_penalty = 1.0;
  for (int i = 0; i < num_samples; ++i) {
    // Each sample starts as a held-out chapter does.
    const auto prompt =
        tokenizer.encode(valid[static_cast<std::size_t>(i) % valid.size()].substr(0, 40), false);
    options.seed = i;
    const auto generation = train::generate(model, prompt, {}, options);
    const std::string sample = tokenizer.decode(generation.tokens, true);
    std::printf("sample %d shares a run of %zu of its %zu characters with the corpus: ...%s\n\n",
                i + 1, longest_shared_run(sample, corpus), sample.size(), sample.c_str());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "held_out: error: %s\n", error.what());
    return 2;
  }
}
