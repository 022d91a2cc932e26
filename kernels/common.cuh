// What the kernels share. The loader puts this text in the place of the line that includes it.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef long long i64;
typedef unsigned long long u64;
typedef unsigned int u32;

// Sums of 16-bit numbers are float, others have the dtype they are made of.
template <class T>
struct Wide {
    typedef float type;
};
template <>
struct Wide<double> {
    typedef double type;
};
template <class T>
using wide = typename Wide<T>::type;

// Tells the host of a number that lies outside of what there is: `site` stands for who was given it, `limit` is what it
// must stay below. `fault` is in the host's memory. The first one stays until the host has read it.
__device__ __forceinline__ void report(u64* fault, i64 site, i64 wrong, i64 limit) {
    if (!fault || atomicCAS(fault, 0ull, (u64)site)) return;
    fault[1] = (u64)wrong;
    fault[2] = (u64)limit;
}

// N neighbours, read or written by one access of up to 16 bytes.
template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Pack {
    T value[N];
};

template <int N, class T>
__device__ __forceinline__ Pack<T, N> load(const T* from) {
    return *reinterpret_cast<const Pack<T, N>*>(from);
}

template <int N, class T>
__device__ __forceinline__ void store(T* to, const Pack<T, N>& pack) {
    *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

// Asks for the line of an address to be brought to the L2 cache, and does not wait.
__device__ __forceinline__ void prefetch(const void* address) {
#ifdef __CUDACC_RTC__
    asm volatile("prefetch.L2 [%0];" ::"l"(address));
#endif
}

// N neighbours, however many bytes they are: weights may be wider than what they multiply.
template <int N, class T>
__device__ __forceinline__ Pack<T, N> load_wide(const T* from) {
    constexpr int most = sizeof(T) * N <= 16 ? N : 16 / sizeof(T);
    Pack<T, N> made;
#pragma unroll
    for (int k = 0; k < N; k += most) {
        const Pack<T, most> part = load<most>(from + k);
#pragma unroll
        for (int i = 0; i < most; ++i) made.value[k + i] = part.value[i];
    }
    return made;
}

__device__ __forceinline__ float infinity() {
    return __int_as_float(0x7f800000);
}

// The exponential. What is rounded to 16 bits gets the hardware's exponential of base 2 without corrections.
template <class T>
__device__ __forceinline__ float exponential(float x) {
    return sizeof(T) == 2 ? exp2f(x * 1.4426950408889634f) : expf(x);
}
template <class T>
__device__ __forceinline__ double exponential(double x) {
    return exp(x);
}

// A quotient to 2 ulp, for divisors between 2^-126 and 2^126: without the branch that other ones need.
__device__ __forceinline__ float quotient(float x, float y) {
    return __fdividef(x, y);
}
__device__ __forceinline__ double quotient(double x, double y) {
    return x / y;
}

// A root to 2 ulp, of what is not negative: without the branch of the exact one.
__device__ __forceinline__ float root(float x) {
    const float found = x * rsqrtf(x);
    return x > 0 && x < infinity() ? found : x;
}
__device__ __forceinline__ double root(double x) {
    return sqrt(x);
}

struct Plus {
    template <class A>
    __device__ A operator()(A a, A b) const {
        return a + b;
    }
};

template <class A>
__device__ __forceinline__ A exchanged(A x, int offset) {
    return __shfl_xor_sync(0xffffffffu, x, offset);
}

// What a group of G neighbouring threads holds, combined; every one of them gets the same answer, bit for bit.
// G is a power of two: part of a warp, or (with barriers) the whole block.
template <int G, class A, class Combine>
__device__ __forceinline__ A across(A x, Combine combine) {
#pragma unroll
    for (int offset = (G < 32 ? G : 32) / 2; offset; offset /= 2) x = combine(x, exchanged(x, offset));
    if constexpr (G > 32) {
        constexpr int warps = G / 32;
        __shared__ A partial[warps];
        if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
        __syncthreads();
        x = partial[threadIdx.x % warps];
#pragma unroll
        for (int offset = warps / 2; offset; offset /= 2) x = combine(x, exchanged(x, offset));
        __syncthreads();
    }
    return x;
}

// A row of `columns` elements in the registers of G threads: thread t holds the packs t, t + G, ... of V elements.
// It stays in its own dtype there, which for 16 bits halves the registers.
template <class T, int V, int N, int G>
struct Row {
    Pack<T, V> pack[N];

    __device__ __forceinline__ static int column(int k) {
        return (k * G + (int)threadIdx.x % G) * V;
    }
    // All loads are issued before the first value is used.
    __device__ __forceinline__ void read(const T* row, int columns) {
#pragma unroll
        for (int k = 0; k < N; ++k)
            if (column(k) < columns) pack[k] = load<V>(row + column(k));
    }
    // Has a row that will be read brought nearer, by one thread for each line of 128 bytes.
    __device__ __forceinline__ static void expect(const T* row, int columns) {
#pragma unroll
        for (int k = 0; k < N; ++k)
            if (column(k) < columns && column(k) * sizeof(T) % 128 == 0) prefetch(row + column(k));
    }
    // Calls visit(value, k, i) for each element there is.
    template <class Visit>
    __device__ __forceinline__ void each(int columns, Visit visit) const {
#pragma unroll
        for (int k = 0; k < N; ++k) {
            if (column(k) < columns) {
#pragma unroll
                for (int i = 0; i < V; ++i) visit((wide<T>)pack[k].value[i], k, i);
            }
        }
    }
    // Writes make(value, k, i) in the place of each element.
    template <class Make>
    __device__ __forceinline__ void write(T* row, int columns, Make make) const {
#pragma unroll
        for (int k = 0; k < N; ++k) {
            if (column(k) < columns) {
                Pack<T, V> made;
#pragma unroll
                for (int i = 0; i < V; ++i) made.value[i] = (T)make((wide<T>)pack[k].value[i], k, i);
                store<V>(row + column(k), made);
            }
        }
    }
};

// A block is one group of G threads, or, where they are a part of a warp, as many as fit into 128 threads.
template <int G>
constexpr int block_of = G > 32 ? G : 128;

// The row that this thread works on.
template <int G>
__device__ __forceinline__ i64 row_of_group() {
    return (i64)blockIdx.x * (block_of<G> / G) + threadIdx.x / G;
}

template <int N>
struct Width {
    static constexpr int value = N;
};

// Calls visit(i, Width<V>()) for the packs of V in a tile of N packs for each thread; where the tile goes beyond
// `size`, visit(i, Width<1>()) for the elements there are.
template <int V, int N, int THREADS, class Visit>
__device__ __forceinline__ void tile(i64 start, i64 size, Visit visit) {
    if (start + THREADS * V * N <= size) {
#pragma unroll
        for (int k = 0; k < N; ++k) visit(start + (k * THREADS + (int)threadIdx.x) * V, Width<V>());
    } else {
        for (i64 i = start + threadIdx.x; i < size; i += THREADS) visit(i, Width<1>());
    }
}

// One tile for each block.
template <int V, int N, int THREADS, class Visit>
__device__ __forceinline__ void over(i64 size, Visit visit) {
    tile<V, N, THREADS>((i64)blockIdx.x * (THREADS * V * N), size, visit);
}
