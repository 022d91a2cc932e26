// Dropout that draws its mask as it goes, and draws the same one again for the gradient: one read and one write,
// and no mask in memory. A thread makes one block of the random stream, which decides about eight elements; the
// mask is that of the kernel `below` in philox.cu. The cipher takes some 40 integer instructions an element, about
// as long as the traffic of 32-bit elements. What the result is to be added to (if that is not null) goes with it.
#include "common.cuh"
#include "philox.cuh"

template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    dropout(const T* __restrict__ input, const T* __restrict__ residual, T* __restrict__ out, i64 size, u64 seed,
            u64 offset, const u64* __restrict__ place, u64 threshold, wide<T> scale) {
    typedef wide<T> A;
    // Under graph replay the seed and the offset of the run stand in device memory.
    if (place) {
        seed = place[0];
        offset += place[1];
    }
    const i64 number = (i64)blockIdx.x * 256 + threadIdx.x, start = number * 8;
    if (start >= size) return;
    const Block block = philox(offset + (u64)number, seed);
    if (start + 8 <= size) {
        Pack<T, V> packs[8 / V], others[8 / V] = {};
#pragma unroll
        for (int k = 0; k < 8 / V; ++k) packs[k] = load<V>(input + start + k * V);
        if (residual) {
#pragma unroll
            for (int k = 0; k < 8 / V; ++k) others[k] = load<V>(residual + start + k * V);
        }
#pragma unroll
        for (int k = 0; k < 8 / V; ++k) {
#pragma unroll
            for (int i = 0; i < V; ++i) {
                const bool kept = half_word(block, k * V + i) < threshold;
                const A rest = residual ? (A)others[k].value[i] : A(0);
                packs[k].value[i] = (T)(kept ? (A)packs[k].value[i] * scale + rest : rest);
            }
            store<V>(out + start + k * V, packs[k]);
        }
    } else {
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            if (start + k < size) {
                const A rest = residual ? (A)residual[start + k] : A(0);
                out[start + k] = (T)(half_word(block, k) < threshold ? (A)input[start + k] * scale + rest : rest);
            }
        }
    }
}
