// Sums, means and extremes of rows and of columns: one read of the input. What one block cannot do is cut into
// parts, whose results are reduced by a second launch; the order is fixed, and there are no atomics, so the same
// input gives the same sum to the last bit. Extremes are NaN where there is one.
#include "common.cuh"

struct Smaller {
    template <class A>
    __device__ A operator()(A a, A b) const {
        return a < b || a != a ? a : b;
    }
    template <class A>
    __device__ static A neutral() {
        return infinity();
    }
};

struct Larger {
    template <class A>
    __device__ A operator()(A a, A b) const {
        return a > b || a != a ? a : b;
    }
    template <class A>
    __device__ static A neutral() {
        return -infinity();
    }
};

struct Sum : Plus {
    template <class A>
    __device__ static A neutral() {
        return 0;
    }
};

// Each group of G threads reduces one part of a row, of `part` elements (fewer at its end), and writes what it finds,
// times `factor`. Sums run in V * 4 independent chains in each thread.
template <class T, class Out, class Combine, int V, int G>
__global__ void __launch_bounds__(block_of<G>, 1024 / block_of<G>)
    reduce_rows(const T* __restrict__ input, Out* __restrict__ out, i64 rows, i64 columns, i64 part, double factor) {
    typedef wide<T> A;
    constexpr int N = 4;
    const i64 parts = (columns + part - 1) / part;
    const i64 at = row_of_group<G>(), row = at / parts, start = at % parts * part;
    const i64 length = row < rows ? (columns - start < part ? columns - start : part) : 0;
    const T* from = input + row * columns + start;
    Combine combine;
    A found[N][V];
#pragma unroll
    for (int k = 0; k < N; ++k)
#pragma unroll
        for (int i = 0; i < V; ++i) found[k][i] = Combine::template neutral<A>();
    for (i64 column = (i64)(threadIdx.x % G) * V; column < length; column += N * G * V) {
#pragma unroll
        for (int k = 0; k < N; ++k) {
            if (column + k * G * V < length) {
                const Pack<T, V> pack = load<V>(from + column + k * G * V);
#pragma unroll
                for (int i = 0; i < V; ++i) found[k][i] = combine((A)pack.value[i], found[k][i]);
            }
        }
    }
    A all = found[0][0];
#pragma unroll
    for (int k = 0; k < N; ++k)
#pragma unroll
        for (int i = 0; i < V; ++i)
            if (k || i) all = combine(all, found[k][i]);
    all = across<G>(all, combine);
    if (length && threadIdx.x % G == 0) out[at] = (Out)(all * (A)factor);
}

// A block of 32 x 8 threads reduces 32 V columns of some of the rows: gridDim.y blocks share the rows of a column.
template <class T, class Out, class Combine, int V>
__global__ void __launch_bounds__(256)
    reduce_columns(const T* __restrict__ input, Out* __restrict__ out, i64 rows, i64 columns, double factor) {
    typedef wide<T> A;
    constexpr int N = 4;
    __shared__ A shared[8][32 * V];
    const int lane = threadIdx.x % 32, line = threadIdx.x / 32;
    const i64 column = ((i64)blockIdx.x * 32 + lane) * V, step = (i64)gridDim.y * 8;
    Combine combine;
    A found[V];
#pragma unroll
    for (int i = 0; i < V; ++i) found[i] = Combine::template neutral<A>();
    if (column < columns) {
        for (i64 row = (i64)blockIdx.y * 8 + line; row < rows; row += N * step) {
            Pack<T, V> pack[N];
#pragma unroll
            for (int k = 0; k < N; ++k)
                if (row + k * step < rows) pack[k] = load<V>(input + (row + k * step) * columns + column);
#pragma unroll
            for (int k = 0; k < N; ++k) {
                if (row + k * step < rows) {
#pragma unroll
                    for (int i = 0; i < V; ++i) found[i] = combine((A)pack[k].value[i], found[i]);
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < V; ++i) shared[line][lane * V + i] = found[i];
    __syncthreads();
    for (int k = threadIdx.x; k < 32 * V; k += 256) {
        const i64 mine = (i64)blockIdx.x * 32 * V + k;
        if (mine >= columns) continue;
        A all = shared[0][k];
#pragma unroll
        for (int other = 1; other < 8; ++other) all = combine(all, shared[other][k]);
        out[blockIdx.y * columns + mine] = (Out)(all * (A)factor);
    }
}
