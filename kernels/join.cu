// Arrays written one after the other, as the gradients of parameters that are updated together: one launch for up
// to MOST of them, whose addresses are arguments.
#include "common.cuh"

constexpr int MOST = 64, EACH = 8;

struct Parts {
    u64 address[MOST];
    i64 start[MOST + 1];  // of each array in the result; then the end of the last one
    int block[MOST];      // the first that works on each
    int count;
};

template <class T>
__global__ void __launch_bounds__(256) join(const __grid_constant__ Parts parts, T* __restrict__ out) {
    int part = 0;
    for (int step = MOST / 2; step; step /= 2)
        if (part + step < parts.count && parts.block[part + step] <= (int)blockIdx.x) part += step;
    const T* from = reinterpret_cast<const T*>(parts.address[part]);
    const i64 size = parts.start[part + 1] - parts.start[part];
    const i64 first = (i64)((int)blockIdx.x - parts.block[part]) * (256 * EACH) + threadIdx.x;
    out += parts.start[part];
    T held[EACH];
#pragma unroll
    for (int k = 0; k < EACH; ++k)
        if (first + k * 256 < size) held[k] = from[first + k * 256];
#pragma unroll
    for (int k = 0; k < EACH; ++k)
        if (first + k * 256 < size) out[first + k * 256] = held[k];
}
