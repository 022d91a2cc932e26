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

// A block of 8 warps reduces L V columns of some of the rows: L neighbouring lanes take a row, so that a warp has 32 / L
// of them at a time. gridDim.y blocks share the rows of a column.
template <class T, class Out, class Combine, int V, int L>
__global__ void __launch_bounds__(256)
    reduce_columns(const T* __restrict__ input, Out* __restrict__ out, i64 rows, i64 columns, double factor) {
    typedef wide<T> A;
    constexpr int N = 4, lines = 256 / L;
    __shared__ A shared[8][L * V];
    const int lane = threadIdx.x % L, line = threadIdx.x / L;
    const i64 column = ((i64)blockIdx.x * L + lane) * V, step = (i64)gridDim.y * lines;
    Combine combine;
    A found[V];
#pragma unroll
    for (int i = 0; i < V; ++i) found[i] = Combine::template neutral<A>();
    if (column < columns) {
        for (i64 row = (i64)blockIdx.y * lines + line; row < rows; row += N * step) {
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
    for (int i = 0; i < V; ++i) {
#pragma unroll
        for (int offset = L; offset < 32; offset *= 2) found[i] = combine(found[i], exchanged(found[i], offset));
        if (threadIdx.x % 32 < L) shared[threadIdx.x / 32][lane * V + i] = found[i];
    }
    __syncthreads();
    for (int k = threadIdx.x; k < L * V; k += 256) {
        const i64 mine = (i64)blockIdx.x * L * V + k;
        if (mine >= columns) continue;
        A all = shared[0][k];
#pragma unroll
        for (int other = 1; other < 8; ++other) all = combine(all, shared[other][k]);
        out[blockIdx.y * columns + mine] = (Out)(all * (A)factor);
    }
}
