// SPDX-License-Identifier: Apache-2.0
// u1 = s1 x A1^T; h = x W1^T + u1 B1^T + b1; a = act(h); u2 = s2 a A2^T; per row y = a W2^T +
// u2 B2^T + b2; per token the weighted sum of its rows in slot order.
#include "cuda/launch.h"
#include "experts/cuda/unfused.h"
#include "experts/routing.h"
#include "kernels/cuda/common/unfused.h"

namespace moesmith::experts::on_cuda {

namespace gpu = kernels::gpu;

void unfused_forward(const ExpertsRequest& request,
                     const ForwardArgs& args,
                     const CudaStream& stream,
                     GroupedProducts& products) {
  const cuda::DeviceGuard guard(stream.device);
  const ExpertsInputs& inputs = args.inputs;
  Carver carver(args.scratch.data());
  const UnfusedWork work = UnfusedWork::forward(carver, request, inputs.num_tokens);
  products.carve(carver, request);
  const SavedState saved =
      SavedState::at(args.saved.data(), request, row_capacity(request, inputs.num_tokens));
  const UnfusedLayer to{{request, inputs, work.common, stream.stream}, work, products};
  const Layer& layer = to.layer;
  layer.prepare();
  products.begin(work.common.rows, stream);

  const Needs needs(request);
  void* u_1 = needs.save_u_1 ? saved.u_1 : work.u_1;
  void* u_2 = needs.save_u_2 ? saved.u_2 : work.u_2;
  void* h = needs.save_h ? saved.h : work.h;
  const std::int64_t hidden = request.hidden, inter = request.inter;
  to.gather(inputs.hidden, layer.f32(), work.x);
  if (needs.lora_1) {
    to.rank_product(work.x, hidden, layer.factor_a(work.common.lora_1, hidden),
                    work.common.lora_1.padded_rank, request.gate_up_lora.lora_scale, u_1);
  }
  to.pre_activation(u_1, h);
  gpu::activate_rows(work.common.rows, gpu::Activation::of(request), h, work.a, nullptr, inter,
                     layer.f32(), layer.stream);
  const int rank_2 = work.common.lora_2.padded_rank;
  if (needs.lora_2) {
    to.rank_product(work.a, inter, layer.factor_a(work.common.lora_2, inter), rank_2,
                    request.down_lora.lora_scale, u_2);
  }
  to.multiply(work.a, inter, layer.down(), inputs.weights.down.base, hidden, inter, false);
  if (needs.lora_2) {
    to.multiply(u_2, rank_2, layer.factor_b(work.common.lora_2, hidden), {}, hidden, rank_2, true);
  }
  if (request.down_bias) {
    gpu::round_rows(work.common.rows,
                    {work.sums, hidden, 1.0f, inputs.weights.down_bias,
                     request.weight_dtype == DType::kF32, work.sums, nullptr},
                    true, layer.stream);
  }
  gpu::combine(work.common.rows,
               {work.sums, hidden, inputs.num_tokens, true,
                Layer::target({GradMode::kOverwrite, request.compute_dtype}, args.output)},
               true, layer.stream);
}

}  // namespace moesmith::experts::on_cuda
