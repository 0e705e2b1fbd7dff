// SPDX-License-Identifier: Apache-2.0
// A row of the table of implementations. A new one is a folder that defines these functions, and a
// row in table.cc; planner, checks and the conformance suite pick it up from there.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "moesmith/experts.h"

namespace moesmith::experts {

// Nothing, or the one reason why an implementation does not take a request.
using Refusal = std::optional<std::string>;

// What a row does for Device::kCuda. Nothing is allocated, nothing waits for the device; `eager`
// alone does both.
struct CudaImplementation {
  Refusal (*refuses)(const ExpertsRequest& request);
  std::string (*describe)(const ExpertsRequest& request);
  ExpertsSizes (*sizes)(const ExpertsRequest& request, std::int64_t num_tokens);
  void (*forward)(const ExpertsRequest& request, const ForwardArgs& args, const CudaStream& stream);
  void (*backward)(const ExpertsRequest& request,
                   const BackwardArgs& args,
                   const CudaStream& stream);
};

struct Implementation {
  const char* name;
  Refusal (*refuses)(const ExpertsRequest& request);
  // How an accepted request would run on this machine, for people: "oneDNN 2.6.3, ...".
  std::string (*describe)(const ExpertsRequest& request);
  ExpertsSizes (*sizes)(const ExpertsRequest& request, std::int64_t num_tokens, int num_threads);
  // The plan has checked the arguments; T >= 0. Must write every element of what is asked for,
  // also when T is 0 or no slot is owned.
  void (*forward)(const ExpertsRequest& request, const ForwardArgs& args, ThreadPool& pool);
  void (*backward)(const ExpertsRequest& request, const BackwardArgs& args, ThreadPool& pool);
  // Bytes of its packed copies of frozen weights, and how to fill them; null: it packs none.
  std::int64_t (*packed_bytes)(const ExpertsRequest& request) = nullptr;
  void (*pack)(const ExpertsRequest& request,
               const ExpertsWeights& weights,
               std::span<std::byte> packed,
               ThreadPool& pool) = nullptr;
  const CudaImplementation* cuda = nullptr;  // null: the functions above refuse kCuda themselves
};

// The refusal and the description of the half that the request's device asks for.
Refusal refusal_of(const Implementation& one, const ExpertsRequest& request);
std::string description_of(const Implementation& one, const ExpertsRequest& request);

// Best first for many tokens; auto_table.h has the order in which `auto` asks them. One that is
// only named here has nothing but `refuses`.
std::span<const Implementation> implementations();

// The functions of each folder, for the table.
namespace on_cuda {
extern const CudaImplementation kScattermoe;
extern const CudaImplementation kSonicmoe;
extern const CudaImplementation kGroupedMm;
extern const CudaImplementation kEager;
}  // namespace on_cuda
namespace eager {
Refusal refuses(const ExpertsRequest& request);
std::string describe(const ExpertsRequest& request);
ExpertsSizes sizes(const ExpertsRequest& request, std::int64_t num_tokens, int num_threads);
void forward(const ExpertsRequest& request, const ForwardArgs& args, ThreadPool& pool);
void backward(const ExpertsRequest& request, const BackwardArgs& args, ThreadPool& pool);
}  // namespace eager
namespace scattermoe {
Refusal refuses(const ExpertsRequest& request);
std::string describe(const ExpertsRequest& request);
ExpertsSizes sizes(const ExpertsRequest& request, std::int64_t num_tokens, int num_threads);
void forward(const ExpertsRequest& request, const ForwardArgs& args, ThreadPool& pool);
void backward(const ExpertsRequest& request, const BackwardArgs& args, ThreadPool& pool);
std::int64_t packed_bytes(const ExpertsRequest& request);
void pack(const ExpertsRequest& request,
          const ExpertsWeights& weights,
          std::span<std::byte> packed,
          ThreadPool& pool);
}  // namespace scattermoe
namespace grouped_mm {
Refusal refuses(const ExpertsRequest& request);
std::string describe(const ExpertsRequest& request);
ExpertsSizes sizes(const ExpertsRequest& request, std::int64_t num_tokens, int num_threads);
void forward(const ExpertsRequest& request, const ForwardArgs& args, ThreadPool& pool);
void backward(const ExpertsRequest& request, const BackwardArgs& args, ThreadPool& pool);
}  // namespace grouped_mm
namespace batched_mm {
Refusal refuses(const ExpertsRequest& request);
std::string describe(const ExpertsRequest& request);
ExpertsSizes sizes(const ExpertsRequest& request, std::int64_t num_tokens, int num_threads);
void forward(const ExpertsRequest& request, const ForwardArgs& args, ThreadPool& pool);
void backward(const ExpertsRequest& request, const BackwardArgs& args, ThreadPool& pool);
}  // namespace batched_mm

}  // namespace moesmith::experts
