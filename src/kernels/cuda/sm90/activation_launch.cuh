// SPDX-License-Identifier: Apache-2.0
// The two products with an activation in their epilogue, one source file for each instance: each
// takes half a minute to compile.
#pragma once

#include "kernels/cuda/sm90/epilogue.cuh"
#include "kernels/cuda/sm90/launch.cuh"

namespace moesmith::kernels::sm90 {

template <bool kGated, int kN>
void launch_up(const typename ActivationEpilogue<kGated>::Params& epilogue,
               const Product& product,
               cudaStream_t stream);

template <bool kGated, int kN>
void launch_d_activation(const typename DActivationEpilogue<kGated>::Params& epilogue,
                         const Product& product,
                         cudaStream_t stream);

template <>
void launch_up<true, 256>(const ActivationEpilogue<true>::Params&, const Product&, cudaStream_t);
template <>
void launch_up<true, 192>(const ActivationEpilogue<true>::Params&, const Product&, cudaStream_t);
template <>
void launch_up<false, 256>(const ActivationEpilogue<false>::Params&, const Product&, cudaStream_t);
template <>
void launch_up<false, 192>(const ActivationEpilogue<false>::Params&, const Product&, cudaStream_t);
template <>
void launch_d_activation<true, 256>(const DActivationEpilogue<true>::Params&,
                                    const Product&,
                                    cudaStream_t);
template <>
void launch_d_activation<true, 192>(const DActivationEpilogue<true>::Params&,
                                    const Product&,
                                    cudaStream_t);
template <>
void launch_d_activation<false, 256>(const DActivationEpilogue<false>::Params&,
                                     const Product&,
                                     cudaStream_t);
template <>
void launch_d_activation<false, 192>(const DActivationEpilogue<false>::Params&,
                                     const Product&,
                                     cudaStream_t);

}  // namespace moesmith::kernels::sm90
