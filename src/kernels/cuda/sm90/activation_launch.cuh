// SPDX-License-Identifier: Apache-2.0
// The two products with an activation in their epilogue, one source file for each instance, since
// they take long to compile. Weights as [out, in] are k-major for up and have n contiguous for dA';
// transposed ones the other way round. Few models have transposed ones without interleaving: one
// tile shape each.
#pragma once

#include "kernels/cuda/sm90/d_activation_epilogue.cuh"
#include "kernels/cuda/sm90/epilogue.cuh"
#include "kernels/cuda/sm90/launch.cuh"

namespace moesmith::kernels::sm90 {

template <Pairing kPairing, Major kMajor, int kN>
void launch_up(const typename ActivationEpilogue<kPairing>::Params& epilogue,
               const Product& product,
               cudaStream_t stream);

template <Pairing kPairing, Major kMajor, int kN>
void launch_d_activation(const typename DActivationEpilogue<kPairing>::Params& epilogue,
                         const Product& product,
                         cudaStream_t stream);

template <>
void launch_up<Pairing::kHalves, Major::kK, 192>(
    const ActivationEpilogue<Pairing::kHalves>::Params&, const Product&, cudaStream_t);
template <>
void launch_up<Pairing::kHalves, Major::kK, 256>(
    const ActivationEpilogue<Pairing::kHalves>::Params&, const Product&, cudaStream_t);
template <>
void launch_up<Pairing::kNone, Major::kK, 192>(const ActivationEpilogue<Pairing::kNone>::Params&,
                                               const Product&,
                                               cudaStream_t);
template <>
void launch_up<Pairing::kNone, Major::kK, 256>(const ActivationEpilogue<Pairing::kNone>::Params&,
                                               const Product&,
                                               cudaStream_t);
template <>
void launch_up<Pairing::kHalves, Major::kMn, 256>(
    const ActivationEpilogue<Pairing::kHalves>::Params&, const Product&, cudaStream_t);
template <>
void launch_up<Pairing::kAdjacent, Major::kMn, 192>(
    const ActivationEpilogue<Pairing::kAdjacent>::Params&, const Product&, cudaStream_t);
template <>
void launch_up<Pairing::kAdjacent, Major::kMn, 256>(
    const ActivationEpilogue<Pairing::kAdjacent>::Params&, const Product&, cudaStream_t);
template <>
void launch_up<Pairing::kNone, Major::kMn, 256>(const ActivationEpilogue<Pairing::kNone>::Params&,
                                                const Product&,
                                                cudaStream_t);
template <>
void launch_d_activation<Pairing::kHalves, Major::kMn, 192>(
    const DActivationEpilogue<Pairing::kHalves>::Params&, const Product&, cudaStream_t);
template <>
void launch_d_activation<Pairing::kHalves, Major::kMn, 256>(
    const DActivationEpilogue<Pairing::kHalves>::Params&, const Product&, cudaStream_t);
template <>
void launch_d_activation<Pairing::kNone, Major::kMn, 192>(
    const DActivationEpilogue<Pairing::kNone>::Params&, const Product&, cudaStream_t);
template <>
void launch_d_activation<Pairing::kNone, Major::kMn, 256>(
    const DActivationEpilogue<Pairing::kNone>::Params&, const Product&, cudaStream_t);
template <>
void launch_d_activation<Pairing::kHalves, Major::kK, 192>(
    const DActivationEpilogue<Pairing::kHalves>::Params&, const Product&, cudaStream_t);
template <>
void launch_d_activation<Pairing::kAdjacent, Major::kK, 192>(
    const DActivationEpilogue<Pairing::kAdjacent>::Params&, const Product&, cudaStream_t);
template <>
void launch_d_activation<Pairing::kNone, Major::kK, 192>(
    const DActivationEpilogue<Pairing::kNone>::Params&, const Product&, cudaStream_t);

}  // namespace moesmith::kernels::sm90
