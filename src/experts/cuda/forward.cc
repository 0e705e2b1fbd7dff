// SPDX-License-Identifier: Apache-2.0
// u1 = s1 x A1^T; h = x W1^T + u1 B1^T + b1 and a = act(h) in its epilogue; u2 = s2 a A2^T; per row
// y = a W2^T + u2 B2^T + b2; per token the weighted sum of its rows in slot order.
#include "cuda/launch.h"
#include "experts/cuda/layer.h"
#include "experts/cuda/passes.h"
#include "experts/routing.h"

namespace moesmith::experts::on_cuda {

namespace gpu = kernels::gpu;

void run_forward(const ExpertsRequest& request, const ForwardArgs& args, const CudaStream& stream) {
  const cuda::DeviceGuard guard(stream.device);
  const ExpertsInputs& inputs = args.inputs;
  Carver carver(args.scratch.data());
  Work work = Work::forward(carver, request, inputs.num_tokens);
  work.use_factors(request, inputs);
  const SavedState saved =
      SavedState::at(args.saved.data(), request, row_capacity(request, inputs.num_tokens));
  const Layer layer{request, inputs, work, stream.stream};
  layer.prepare();

  const Needs needs(request);
  void* u_1 = needs.save_u_1 ? saved.u_1 : work.u_1;
  void* u_2 = needs.save_u_2 ? saved.u_2 : work.u_2;
  const int rank_2 = work.lora_2.padded_rank;
  if (needs.lora_1) {
    layer.rank_product(layer.by_token(inputs.hidden, request.hidden),
                       layer.factor_a(work.lora_1, request.hidden), request.hidden,
                       work.lora_1.padded_rank, request.gate_up_lora.lora_scale, u_1);
  }
  layer.pre_activation(u_1, saved.h, work.a);
  if (needs.lora_2) {
    layer.rank_product(layer.by_row(work.a, request.inter),
                       layer.factor_a(work.lora_2, request.inter), request.inter, rank_2,
                       request.down_lora.lora_scale, u_2);
  }

  gpu::RowProduct product;
  product.segment[product.num_segments++] = {layer.by_row(work.a, request.inter), layer.down(),
                                             static_cast<int>(request.inter)};
  if (needs.lora_2) {
    product.segment[product.num_segments++] = {layer.by_row(u_2, rank_2),
                                               layer.factor_b(work.lora_2, request.hidden), rank_2};
  }
  product.n = static_cast<int>(request.hidden);
  product.epilogue.out = work.per_row;
  product.epilogue.ld = request.hidden;
  if (request.down_bias) product.epilogue.bias = inputs.weights.down_bias;
  product.epilogue.bias_is_f32 = request.weight_dtype == DType::kF32;
  layer.run(product, true);

  gpu::combine(work.rows,
               {work.per_row, request.hidden, inputs.num_tokens, true,
                Layer::target({GradMode::kOverwrite, request.compute_dtype}, args.output)},
               layer.f32(), stream.stream);
}

}  // namespace moesmith::experts::on_cuda
