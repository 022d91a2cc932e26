// What a .cu file needs to be compiled by a host C++ compiler and run on the CPU: the language extensions,
// types and intrinsics of CUDA C++. Included before the kernels' source by gpugrad/backend/simulator/compiler.py.
#pragma once

#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __align__(n) alignas(n)
#define __launch_bounds__(...)
#define __grid_constant__
#define __CUDACC__ 1
#define __CUDA_ARCH__ 900
#define GPUGRAD_CUDA_SIM 1

// Blocks run one after the other, so what a block shares can be static. In one section, it can be filled
// with garbage before each block; AddressSanitizer guards only what is in the usual one.
#ifdef __SANITIZE_ADDRESS__
#define __shared__ static
#else
#define __shared__ static __attribute__((section("cuda_sim_shared")))
#endif

#include "sim_types.h"
#include "sim_half.h"
#include "sim_threads.h"
#include "sim_warp.h"
#include "sim_launch.h"
namespace {
#include "sim_math.h"
}
