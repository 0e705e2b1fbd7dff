# Builds the stand-alone tests and benchmarks of the Hopper kernels with nvcc alone, in the current
# directory: make -f bench/cuda_sm90/build.mk ROOT=path/to/repository -j
ROOT ?= .
SM90 = $(ROOT)/src/kernels/cuda/sm90
FLAGS = -std=c++20 -O3 -gencode=arch=compute_90a,code=sm_90a -I$(ROOT)/src -I$(ROOT)/include \
        -I$(ROOT)/bench/cuda_sm90 --extended-lambda -Xptxas -v -lineinfo
OBJECTS = $(patsubst $(SM90)/%,%.o,$(wildcard $(SM90)/*.cu $(SM90)/*.cc))
HEADERS = $(wildcard $(SM90)/*.cuh $(SM90)/*.h)

all: sm90_test sm90_bench weight_gradient_test weight_gradient_bench
%.cu.o: $(SM90)/%.cu $(HEADERS)
	@nvcc $(FLAGS) -c $< -o $@ 2> $@.log || (cat $@.log; false)
	@grep -E "C751[0-8]|warning|[1-9][0-9]* bytes spill" $@.log | cut -c1-200 || true
%.cc.o: $(SM90)/%.cc $(HEADERS)
	@nvcc $(FLAGS) -c $< -o $@ 2> $@.log || (cat $@.log; false)
sm90_test.o: $(ROOT)/tests/cuda_sm90/sm90_test.cu $(ROOT)/bench/cuda_sm90/problem.cuh $(HEADERS)
	@nvcc $(FLAGS) -c $< -o $@ 2> $@.log || (cat $@.log; false)
sm90_bench.o: $(ROOT)/bench/cuda_sm90/sm90_bench.cu $(ROOT)/bench/cuda_sm90/problem.cuh $(HEADERS)
	@nvcc $(FLAGS) -c $< -o $@ 2> $@.log || (cat $@.log; false)
weight_gradient_test.o: $(ROOT)/tests/cuda_sm90/weight_gradient_test.cu $(HEADERS)
	@nvcc $(FLAGS) -c $< -o $@ 2> $@.log || (cat $@.log; false)
weight_gradient_bench.o: $(ROOT)/bench/cuda_sm90/weight_gradient_bench.cu $(HEADERS)
	@nvcc $(FLAGS) -c $< -o $@ 2> $@.log || (cat $@.log; false)
cublas.o: $(ROOT)/src/cuda/cublas.cc $(ROOT)/src/cuda/cublas.h
	@nvcc $(FLAGS) -c $< -o $@
sm90_bench weight_gradient_bench: cublas.o
sm90_test sm90_bench weight_gradient_test weight_gradient_bench: %: %.o $(OBJECTS)
	@nvcc -arch=sm_90a -cudart static $^ -o $@ -ldl
