/* SPDX-License-Identifier: Apache-2.0 */
/* The experts layer for C and for whatever can call C: moesmith/experts.h, call by call, as plain
 * structs and opaque handles. Shapes, layouts, dtypes and lifetimes are that header's.
 *
 * Every function that can fail returns a moesmith_status; what went wrong is then in
 * moesmith_last_error() of the same thread. Nothing throws, prints or exits. Structs begin with
 * struct_bytes, their size as the caller was compiled: another size is an error, so that a caller
 * of another version is told instead of misread. Fields that are not named must be 0. */
#ifndef MOESMITH_C_API_H_
#define MOESMITH_C_API_H_

#include <stdint.h>

#if defined(__GNUC__)
#define MOESMITH_C_API __attribute__((visibility("default")))
#else
#define MOESMITH_C_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a struct, an enumerator or a function changes. */
#define MOESMITH_ABI_VERSION 2

typedef enum moesmith_status {
  MOESMITH_OK = 0,
  MOESMITH_INVALID_INPUT = 1, /* a request or call that contradicts itself */
  MOESMITH_NOT_FOUND = 2,
  MOESMITH_UNSUPPORTED = 3, /* well formed, but no implementation takes it; the text has reasons */
  MOESMITH_OUT_OF_MEMORY = 4,
  MOESMITH_IO = 5,
  MOESMITH_INTERRUPTED = 6,
  MOESMITH_INTERNAL = 7 /* a defect of Moesmith, or an error of the CUDA runtime */
} moesmith_status;

enum { MOESMITH_CPU = 0, MOESMITH_CUDA = 1 };                               /* device */
enum { MOESMITH_F32 = 0, MOESMITH_BF16 = 1, MOESMITH_F64 = 2 };             /* dtype */
enum { MOESMITH_I64 = 10, MOESMITH_I32 = 11 };                              /* dtype of an index */
enum { MOESMITH_NO_GRAD = 0, MOESMITH_OVERWRITE = 1, MOESMITH_ACCUMULATE }; /* gradient mode */
enum { MOESMITH_CONCATENATED = 0, MOESMITH_INTERLEAVED = 1, MOESMITH_SEPARATE = 2 };
enum {
  MOESMITH_SILU = 0,
  MOESMITH_GELU = 1,
  MOESMITH_GELU_TANH = 2,
  MOESMITH_RELU = 3,
  MOESMITH_RELU2 = 4
};

typedef struct moesmith_lora {
  int64_t lora_rank; /* 0: none */
  float lora_scale;
  int32_t dtype;
} moesmith_lora;

typedef struct moesmith_gradient {
  int32_t mode;
  int32_t dtype; /* MOESMITH_F32 or the dtype of the thing itself */
} moesmith_gradient;

typedef struct moesmith_activation {
  int32_t kind;
  int32_t gated;
  int32_t has_gate_max, has_up_limit; /* whether the two that follow are meant */
  float gate_max, up_limit;
  float alpha; /* of MOESMITH_SILU: g sigmoid(alpha g); 1 elsewhere */
  float up_shift;
} moesmith_activation;

typedef struct moesmith_request {
  uint32_t struct_bytes;
  int32_t device;
  int32_t cuda_device;
  int32_t expert_parallel;
  const char* implementation; /* "auto" or a name of the table */
  int64_t num_experts, top_k, hidden, inter, max_tokens, max_rows;
  int32_t compute_dtype, weight_dtype, index_dtype, route_weights_dtype, d_output_dtype;
  int32_t gate_up_layout;
  int32_t transposed, gate_up_bias, down_bias, aligned_weights; /* each 0 or 1 */
  int32_t recompute_h, double_sums;
  int32_t packed_weights; /* calls read what moesmith_pack made */
  int32_t reserved;
  moesmith_activation activation;
  moesmith_lora gate_up_lora, down_lora;
  moesmith_gradient d_hidden, d_top_k_weights, d_gate_up, d_down, d_gate_up_bias, d_down_bias;
  moesmith_gradient d_gate_up_a, d_gate_up_b, d_down_a, d_down_b;
} moesmith_request;

/* One projection of every expert. Element (e, row, col) is number
 * e * expert_stride + row * row_stride + col after data; or, where base is not NULL, number
 * row * row_stride + col after base[e], and data and expert_stride are not read. */
typedef struct moesmith_projection {
  const void* data;
  const void* const* base; /* [E] or NULL */
  int64_t expert_stride, row_stride;
} moesmith_projection;

typedef struct moesmith_inputs {
  int64_t num_tokens;
  const void *hidden, *top_k_index, *top_k_weights;
  moesmith_projection gate_up, up, down; /* up: MOESMITH_SEPARATE only */
  const void *gate_up_bias, *down_bias;
  const void *gate_up_a, *gate_up_b, *down_a, *down_b;
  const void* packed; /* what moesmith_pack filled; NULL where moesmith_plan_packed_bytes is 0 */
  int64_t packed_bytes;
} moesmith_inputs;

typedef struct moesmith_forward_args {
  uint32_t struct_bytes;
  uint32_t reserved;
  moesmith_inputs inputs;
  void* output;
  void *saved, *scratch;
  int64_t saved_bytes, scratch_bytes; /* what the two hold */
} moesmith_forward_args;

typedef struct moesmith_backward_args {
  uint32_t struct_bytes;
  uint32_t reserved;
  moesmith_inputs inputs;
  const void* d_output;
  const void* saved;
  void* scratch;
  int64_t saved_bytes, scratch_bytes;
  void *d_hidden, *d_top_k_weights, *d_gate_up, *d_down, *d_gate_up_bias, *d_down_bias;
  void *d_gate_up_a, *d_gate_up_b, *d_down_a, *d_down_b;
} moesmith_backward_args;

typedef struct moesmith_pack_args {
  uint32_t struct_bytes;
  uint32_t reserved;
  moesmith_projection gate_up, up, down;
  void* packed; /* 64-byte alignment is best */
  int64_t packed_bytes;
} moesmith_pack_args;

typedef struct moesmith_sizes {
  uint32_t struct_bytes;
  uint32_t reserved;
  int64_t saved_bytes, forward_scratch_bytes, backward_scratch_bytes;
} moesmith_sizes;

typedef struct moesmith_plan moesmith_plan; /* immutable: any thread may use it */
typedef struct moesmith_pool moesmith_pool; /* a fixed set of threads; calls on it queue */

MOESMITH_C_API int32_t moesmith_abi_version(void); /* MOESMITH_ABI_VERSION of the library */
MOESMITH_C_API const char* moesmith_version(void); /* such as "0.1.0" */
MOESMITH_C_API int32_t moesmith_has_cuda(void);    /* 1 when built with the CUDA parts */

/* What the last failed call of this thread said; "" before the first. Valid until the thread's next
 * failed call. */
MOESMITH_C_API const char* moesmith_last_error(void);

/* num_threads counts the caller; 0: as many as the process may use. */
MOESMITH_C_API moesmith_status moesmith_pool_create(int32_t num_threads, moesmith_pool** pool);
MOESMITH_C_API void moesmith_pool_destroy(moesmith_pool* pool); /* NULL is fine */
MOESMITH_C_API int32_t moesmith_pool_num_threads(const moesmith_pool* pool);

/* The caller destroys *plan. What the request points to is not read after the call. */
MOESMITH_C_API moesmith_status moesmith_plan_create(const moesmith_request* request,
                                                    moesmith_plan** plan);
MOESMITH_C_API void moesmith_plan_destroy(moesmith_plan* plan); /* NULL is fine */
/* The name that runs, and one line about how; both live as long as the plan. */
MOESMITH_C_API const char* moesmith_plan_implementation(const moesmith_plan* plan);
MOESMITH_C_API const char* moesmith_plan_text(const moesmith_plan* plan);
/* For calls of up to num_tokens tokens on a pool of up to num_threads; CUDA plans take 1. */
MOESMITH_C_API moesmith_status moesmith_plan_sizes(const moesmith_plan* plan,
                                                   int64_t num_tokens,
                                                   int32_t num_threads,
                                                   moesmith_sizes* sizes);

/* Bytes of the copies of frozen weights that calls of a plan with packed_weights read; 0 without,
 * and for an implementation that has none. A plan that wants fewer gradients, else of the same
 * request, reads the copies made for one that wants more. */
MOESMITH_C_API int64_t moesmith_plan_packed_bytes(const moesmith_plan* plan);
/* Fills args->packed from the weights; calls then no longer read gate_up, up and down. */
MOESMITH_C_API moesmith_status moesmith_pack(const moesmith_plan* plan,
                                             const moesmith_pack_args* args,
                                             moesmith_pool* pool);

MOESMITH_C_API moesmith_status moesmith_forward(const moesmith_plan* plan,
                                                const moesmith_forward_args* args,
                                                moesmith_pool* pool);
MOESMITH_C_API moesmith_status moesmith_backward(const moesmith_plan* plan,
                                                 const moesmith_backward_args* args,
                                                 moesmith_pool* pool);
/* stream: a cudaStream_t of that device, NULL its default one. Work is queued. */
MOESMITH_C_API moesmith_status moesmith_forward_cuda(const moesmith_plan* plan,
                                                     const moesmith_forward_args* args,
                                                     int32_t cuda_device,
                                                     void* stream);
MOESMITH_C_API moesmith_status moesmith_backward_cuda(const moesmith_plan* plan,
                                                      const moesmith_backward_args* args,
                                                      int32_t cuda_device,
                                                      void* stream);

#ifdef __cplusplus
}
#endif

#endif /* MOESMITH_C_API_H_ */
