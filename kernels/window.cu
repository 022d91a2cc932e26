// Sliding windows: unrolled for the matrix products of a convolution, folded back, their maxima and their means.
//
// A thread that unrolls has one window of one channel: its place takes divisions, the elements of the window do not.
// Neighbouring threads write neighbouring columns; what they read twice comes from the cache. Folding and the
// gradients of maxima and means gather what goes to one place, in a fixed order, so that no sum is atomic.
#include "common.cuh"

// How windows lie along a dimension.
#define AXIS(a) int a##_size, int a##_out, int a##_kernel, int a##_stride, int a##_padding, int a##_dilation

// columns[sample][channel, offset in the window][window], where a sample and an offset are so far from the next.
template <class T>
__global__ void __launch_bounds__(256)
    unfold(const T* __restrict__ input, T* __restrict__ columns, u32 count, u32 channels, u32 sample_step,
           u32 offset_step, AXIS(d), AXIS(h), AXIS(w)) {
    const u32 at = blockIdx.x * 256u + threadIdx.x;
    if (at >= count) return;
    const u32 windows = (u32)d_out * h_out * w_out, plane = at / windows, window = at % windows;
    const u32 line = window / w_out;
    const int d_first = (int)(line / h_out) * d_stride - d_padding;
    const int h_first = (int)(line % h_out) * h_stride - h_padding;
    const int w_first = (int)(window % w_out) * w_stride - w_padding;
    const T* from = input + (i64)plane * d_size * h_size * w_size;
    const u32 offsets = (u32)d_kernel * h_kernel * w_kernel;
    T* to = columns + (i64)(plane / channels) * sample_step + (i64)(plane % channels) * offsets * offset_step + window;
    for (int i = 0; i < d_kernel; ++i) {
        const int d = d_first + i * d_dilation;
        for (int j = 0; j < h_kernel; ++j) {
            const int h = h_first + j * h_dilation;
            const bool inside = (u32)d < (u32)d_size && (u32)h < (u32)h_size;
            const T* row = from + ((i64)d * h_size + h) * w_size;
            for (int k = 0; k < w_kernel; ++k) {
                const int w = w_first + k * w_dilation;
                *to = inside && (u32)w < (u32)w_size ? row[w] : (T)0.0f;
                to += offset_step;
            }
        }
    }
}

// The window in which an element has this offset, -1 if there is none.
__device__ __forceinline__ int window_of(int element, int offset, int out, int stride) {
    const int start = element - offset;
    if (start < 0) return -1;
    const int window = stride == 1 ? start : start / stride;
    return window < out && window * stride == start ? window : -1;
}

// What unfold puts into many places, added up, and a bias for each channel if there is one.
template <class T>
__global__ void __launch_bounds__(256)
    fold(const T* __restrict__ columns, const T* __restrict__ bias, T* __restrict__ out, u32 count, u32 channels,
         u32 sample_step, u32 offset_step, AXIS(d), AXIS(h), AXIS(w)) {
    typedef wide<T> A;
    const u32 at = blockIdx.x * 256u + threadIdx.x;
    if (at >= count) return;
    const u32 places = (u32)d_size * h_size * w_size, plane = at / places, place = at % places, line = place / w_size;
    const int d = (int)(line / h_size) + d_padding, h = (int)(line % h_size) + h_padding;
    const int w = (int)(place % w_size) + w_padding;
    const u32 channel = plane % channels, offsets = (u32)d_kernel * h_kernel * w_kernel;
    const T* from = columns + (i64)(plane / channels) * sample_step + (i64)channel * offsets * offset_step;
    A sum = bias ? (A)bias[channel] : (A)0;
    for (int i = 0; i < d_kernel; ++i) {
        const int d_window = window_of(d, i * d_dilation, d_out, d_stride);
        if (d_window < 0) continue;
        for (int j = 0; j < h_kernel; ++j) {
            const int h_window = window_of(h, j * h_dilation, h_out, h_stride);
            if (h_window < 0) continue;
            const T* row = from + (i64)(i * h_kernel + j) * w_kernel * offset_step
                         + ((i64)d_window * h_out + h_window) * w_out;
            for (int k = 0; k < w_kernel; ++k, row += offset_step) {
                const int w_window = window_of(w, k * w_dilation, w_out, w_stride);
                if (w_window >= 0) sum += (A)row[w_window];
            }
        }
    }
    out[at] = (T)sum;
}

// Along the middle one of three dimensions, the largest of each window and its offset. The first of equal ones wins;
// NaN is larger than all, and the last NaN the largest.
template <class T>
__global__ void __launch_bounds__(256)
    maxima(const T* __restrict__ input, T* __restrict__ out, unsigned char* __restrict__ winners, i64 count, u32 after,
           AXIS(w)) {
    const i64 at = (i64)blockIdx.x * 256 + threadIdx.x;
    if (at >= count) return;
    const i64 line = at / after;
    const u32 column = at % after;
    const int start = (int)(line % w_out) * w_stride - w_padding;
    const T* from = input + line / w_out * w_size * after + column;
    T best = (T)0.0f;
    int winner = -1;
    for (int k = 0; k < w_kernel; ++k) {
        const int w = start + k * w_dilation;
        if ((u32)w >= (u32)w_size) continue;
        const T value = from[(i64)w * after];
        if (winner < 0 || (wide<T>)value > (wide<T>)best || (wide<T>)value != (wide<T>)value) {
            best = value;
            winner = k;
        }
    }
    out[at] = best;
    if (winners) winners[at] = (unsigned char)winner;
}

// Each element added to the place that won in its window.
template <class T>
__global__ void __launch_bounds__(256)
    maxima_slope(const T* __restrict__ input, const unsigned char* __restrict__ winners, T* __restrict__ out, i64 count,
                 u32 after, AXIS(w)) {
    const i64 at = (i64)blockIdx.x * 256 + threadIdx.x;
    if (at >= count) return;
    const i64 line = at / after, first = line / w_size * w_out * after + at % after;
    const int w = (int)(line % w_size) + w_padding;
    wide<T> sum = 0;
    for (int k = 0; k < w_kernel; ++k) {
        const int window = window_of(w, k * w_dilation, w_out, w_stride);
        if (window >= 0 && winners[first + (i64)window * after] == k) sum += (wide<T>)input[first + (i64)window * after];
    }
    out[at] = (T)sum;
}

// The elements of a window, from first to before last, and how many it is divided by along this dimension.
struct Extent {
    int first, last, divisor;
    __device__ __forceinline__ Extent(int window, int size, int kernel, int stride, int padding, bool with_padding) {
        const int start = window * stride - padding, stop = min(start + kernel, size + padding);
        first = max(start, 0);
        last = min(stop, size);
        divisor = with_padding ? stop - start : last - first;
    }
};
#define EXTENT(a, window) Extent(window, a##_size, a##_kernel, a##_stride, a##_padding, with_padding)

// The windows that an element lies in, from first to before last.
struct Cover {
    int first, last;
    __device__ __forceinline__ Cover(int element, int out, int kernel, int stride, int padding) {
        const int place = element + padding;
        first = place < kernel ? 0 : (place - kernel) / stride + 1;
        last = min(place / stride + 1, out);
    }
};
#define COVER(a, element) Cover(element, a##_out, a##_kernel, a##_stride, a##_padding)

// 1 over a whole number; in double precision by Newton's method, since its quotient is a call that takes registers.
template <class A>
__device__ __forceinline__ A reciprocal(A number) {
    A found = quotient(1.0f, (float)number);
    if (sizeof(A) == 8) {
#pragma unroll
        for (int k = 0; k < 2; ++k) found *= 2 - number * found;
    }
    return found;
}

// The mean of each window: its sum times `scale`, or divided by its own size if that is 0.
template <class T>
__global__ void __launch_bounds__(256, 4)
    averages(const T* __restrict__ input, T* __restrict__ out, u32 count, wide<T> scale, bool with_padding, AXIS(d),
             AXIS(h), AXIS(w)) {
    typedef wide<T> A;
    const u32 at = blockIdx.x * 256u + threadIdx.x;
    if (at >= count) return;
    const u32 line = at / w_out, layer = line / h_out, plane = layer / d_out;
    const Extent d = EXTENT(d, layer % d_out);
    const Extent h = EXTENT(h, line % h_out);
    const Extent w = EXTENT(w, at % w_out);
    const T* from = input + (i64)plane * d_size * h_size * w_size;
    A sum = 0;
    for (int i = d.first; i < d.last; ++i) {
        for (int j = h.first; j < h.last; ++j) {
            const T* row = from + ((i64)i * h_size + j) * w_size;
            for (int k = w.first; k < w.last; ++k) sum += (A)row[k];
        }
    }
    out[at] = (T)(sum * (scale != 0 ? scale : reciprocal((A)d.divisor * h.divisor * w.divisor)));
}

// Each element shared out over its window. A thread makes V neighbours of the result.
template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    averages_slope(const T* __restrict__ input, T* __restrict__ out, u32 count, wide<T> scale, bool with_padding,
                   AXIS(d), AXIS(h), AXIS(w)) {
    typedef wide<T> A;
    const u32 at = (blockIdx.x * 256u + threadIdx.x) * V;
    if (at >= count) return;
    const u32 line = at / w_size, layer = line / h_size, plane = layer / d_size;
    const Cover d = COVER(d, layer % d_size);
    const Cover h = COVER(h, line % h_size);
    const T* from = input + (i64)plane * d_out * h_out * w_out;
    const int column = at % w_size;
    A sum[V] = {};
    for (int i = d.first; i < d.last; ++i) {
        for (int j = h.first; j < h.last; ++j) {
            const T* row = from + ((i64)i * h_out + j) * w_out;
            const A area = (A)EXTENT(d, i).divisor * EXTENT(h, j).divisor;
#pragma unroll
            for (int v = 0; v < V; ++v) {
                const Cover w = COVER(w, column + v);
                for (int k = w.first; k < w.last; ++k) {
                    sum[v] += (A)row[k] * (scale != 0 ? scale : reciprocal(area * EXTENT(w, k).divisor));
                }
            }
        }
    }
    Pack<T, V> made;
#pragma unroll
    for (int v = 0; v < V; ++v) made.value[v] = (T)sum[v];
    store<V>(out + at, made);
}
