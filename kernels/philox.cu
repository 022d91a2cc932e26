// The CUDA twin of gpugrad/backend/random.py: one thread makes one block of the stream at a time and everything
// drawn from it.
#include "philox.cuh"

template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Pack {
    T value[N];
};

// Calls make(block, pack) for each block the n results need, and writes the packs one after the other.
// Under graph replay the seed and the offset of the run stand in device memory at `place`, and `offset`
// counts from there.
template <int N, class T, class Make>
__device__ inline void draw(u64 seed, u64 offset, const u64* place, i64 n, T* out, Make make) {
    if (place) {
        seed = place[0];
        offset += place[1];
    }
    const i64 step = (i64)gridDim.x * blockDim.x;
    for (i64 b = (i64)blockIdx.x * blockDim.x + threadIdx.x; b * N < n; b += step) {
        Pack<T, N> pack;
        make(philox(offset + (u64)b, seed), pack.value);
        if ((b + 1) * N <= n) {
            reinterpret_cast<Pack<T, N>*>(out)[b] = pack;
        } else {
#pragma unroll
            for (int k = 0; k < N; ++k) {
                if (b * N + k < n) out[b * N + k] = pack.value[k];
            }
        }
    }
}

// Box and Muller, "A note on the generation of random normal deviates", 1958. The products and sums that
// must round as NumPy's do are spelled out, so that they are not contracted.
__device__ inline void box_muller(float u, float angle, float mean, float std, float* out) {
    const float radius = sqrtf(-2.0f * logf(u));
    out[0] = __fadd_rn(__fmul_rn(__fmul_rn(radius, cosf(angle)), std), mean);
    out[1] = __fadd_rn(__fmul_rn(__fmul_rn(radius, sinf(angle)), std), mean);
}

__device__ inline void box_muller(double u, double angle, double mean, double std, double* out) {
    const double radius = sqrt(-2.0 * log(u));
    out[0] = __dadd_rn(__dmul_rn(__dmul_rn(radius, cos(angle)), std), mean);
    out[1] = __dadd_rn(__dmul_rn(__dmul_rn(radius, sin(angle)), std), mean);
}

extern "C" __global__ void words(u64 seed, u64 offset, const u64* place, i64 n, u64* out) {
    draw<4>(seed, offset, place, n, out, [](const Block& block, u64* to) {
        for (int k = 0; k < 4; ++k) to[k] = block.word[k];
    });
}

extern "C" __global__ void uniform_float32(u64 seed, u64 offset, const u64* place, i64 n, float* out,
                                           u32 shift, float factor, float low, float last) {
    draw<8>(seed, offset, place, n, out, [=](const Block& block, float* to) {
        for (int k = 0; k < 8; ++k) {
            const float x = __fadd_rn(__fmul_rn((float)(half_word(block, k) >> shift), factor), low);
            to[k] = x < last ? x : last;
        }
    });
}

extern "C" __global__ void uniform_float64(u64 seed, u64 offset, const u64* place, i64 n, double* out,
                                           u32 shift, double factor, double low, double last) {
    draw<4>(seed, offset, place, n, out, [=](const Block& block, double* to) {
        for (int k = 0; k < 4; ++k) {
            const double x = __dadd_rn(__dmul_rn((double)(block.word[k] >> shift), factor), low);
            to[k] = x < last ? x : last;
        }
    });
}

extern "C" __global__ void normal_float32(u64 seed, u64 offset, const u64* place, i64 n, float* out, float mean,
                                          float std) {
    draw<8>(seed, offset, place, n, out, [=](const Block& block, float* to) {
        for (int k = 0; k < 8; k += 2) {
            const float u = (float)(half_word(block, k) & 0x7fffffffu) * 0x1p-31f + 0x1p-32f;
            box_muller(u, (float)(half_word(block, k + 1) >> 8) * (6.2831853071795864f * 0x1p-24f), mean, std, to + k);
        }
    });
}

extern "C" __global__ void normal_float64(u64 seed, u64 offset, const u64* place, i64 n, double* out, double mean,
                                          double std) {
    draw<4>(seed, offset, place, n, out, [=](const Block& block, double* to) {
        for (int k = 0; k < 4; k += 2) {
            const double u = (double)(block.word[k] >> 11) * 0x1p-53 + 0x1p-54;
            box_muller(u, (double)(block.word[k + 1] >> 11) * (6.2831853071795864769 * 0x1p-53), mean, std, to + k);
        }
    });
}

extern "C" __global__ void below(u64 seed, u64 offset, const u64* place, i64 n, bool* out, u64 threshold) {
    draw<8>(seed, offset, place, n, out, [=](const Block& block, bool* to) {
        for (int k = 0; k < 8; ++k) to[k] = half_word(block, k) < threshold;
    });
}

extern "C" __global__ void integers(u64 seed, u64 offset, const u64* place, i64 n, i64* out, u64 low, u64 span) {
    draw<4>(seed, offset, place, n, out, [=](const Block& block, i64* to) {
        // A span of 2^64 does not fit and is given as 0.
        for (int k = 0; k < 4; ++k) {
            to[k] = (i64)(low + (span ? __umul64hi(block.word[k], span) : block.word[k]));
        }
    });
}
