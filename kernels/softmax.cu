// Softmax, log-softmax and logsumexp of rows, and the gradients of the first two.
//
// A row that fits into the registers of its threads (32 numbers each) is read once and written once, which is all
// the traffic there must be. A longer one is read twice by its block; the second time most of it comes from the
// L2 cache, since the rows in flight (one for each multiprocessor) take less than that.
#include "common.cuh"

// The largest of some numbers, and the sum of exp(x - largest). With GUARD an infinite maximum is not subtracted:
// logsumexp of an infinity is that infinity, while softmax of it is NaN.
template <class T, bool GUARD>
struct Exponentials {
    typedef wide<T> A;
    A largest = -infinity(), sum = 0;

    // Nothing above -infinity so far: the exponentials are 0, of whatever maximum the others will find.
    __device__ __forceinline__ bool empty() const {
        return largest == -infinity();
    }
    __device__ __forceinline__ A shift() const {
        return empty() || (GUARD && isinf(largest)) ? A(0) : largest;
    }
    __device__ __forceinline__ void raise(A limit) {
        if (!(limit > largest)) return;
        const A before = shift();
        const bool first = empty();
        largest = limit;
        sum = first ? sum : sum * exponential<T>(before - shift());
    }
    __device__ __forceinline__ void add(A x) {
        sum += exponential<T>(x - shift());
    }
};

struct Merge {
    template <class E>
    __device__ __forceinline__ E operator()(E a, E b) const {
        a.raise(b.largest);
        b.raise(a.largest);
        a.sum += b.sum;
        return a;
    }
};

template <class T, bool GUARD>
__device__ __forceinline__ Exponentials<T, GUARD> exchanged(const Exponentials<T, GUARD>& x, int offset) {
    Exponentials<T, GUARD> other;
    other.largest = exchanged(x.largest, offset);
    other.sum = exchanged(x.sum, offset);
    return other;
}

template <bool GUARD, class T, int V, int N, int G>
__device__ __forceinline__ Exponentials<T, GUARD> exponentials(const Row<T, V, N, G>& row, int columns) {
    typedef wide<T> A;
    A largest = -infinity();
    row.each(columns, [&](A x, int, int) { largest = x > largest ? x : largest; });
    Exponentials<T, GUARD> found;
    found.raise(largest);
    row.each(columns, [&](A x, int, int) { found.add(x); });
    return across<G>(found, Merge());
}

// The same for a row of any length, by all threads of a block of G, a few packs at a time.
template <bool GUARD, int V, int G, class T>
__device__ __forceinline__ Exponentials<T, GUARD> exponentials_of_long(const T* row, i64 columns) {
    typedef wide<T> A;
    constexpr int N = sizeof(T) == 8 ? 2 : 4;
    Exponentials<T, GUARD> found;
    for (i64 start = 0; start < columns; start += N * G * V) {
        const int rest = (int)(columns - start < N * G * V ? columns - start : N * G * V);
        Row<T, V, N, G> part;
        part.read(row + start, rest);
        A largest = -infinity();
        part.each(rest, [&](A x, int, int) { largest = x > largest ? x : largest; });
        found.raise(largest);
        part.each(rest, [&](A x, int, int) { found.add(x); });
    }
    return across<G>(found, Merge());
}

template <class T, bool LOG>
struct Normalize {
    typedef wide<T> A;
    A shift, scale;
    __device__ __forceinline__ explicit Normalize(const Exponentials<T, false>& e)
        : shift(LOG ? log(e.sum) : e.largest), scale(LOG ? e.largest : quotient(A(1), e.sum)) {}
    __device__ __forceinline__ A operator()(A x, int, int) const {
        return LOG ? x - scale - shift : exponential<T>(x - shift) * scale;
    }
};

template <class T, int V, int N, int G, bool LOG>
__global__ void __launch_bounds__(block_of<G>, 1024 / block_of<G>) softmax(const T* __restrict__ input, T* __restrict__ out, i64 rows,
                                                       int columns) {
    const i64 at = row_of_group<G>();
    // A group without a row takes part in the exchanges of its warp all the same.
    const int length = at < rows ? columns : 0;
    Row<T, V, N, G> row;
    row.read(input + at * columns, length);
    row.write(out + at * columns, length, Normalize<T, LOG>(exponentials<false>(row, length)));
}

template <class T, int V, int G, bool LOG>
__global__ void __launch_bounds__(G, 1024 / G) softmax_long(const T* __restrict__ input, T* __restrict__ out, i64 columns) {
    constexpr int N = sizeof(T) == 8 ? 2 : 4;
    input += blockIdx.x * columns;
    out += blockIdx.x * columns;
    const Normalize<T, LOG> normalize(exponentials_of_long<false, V, G>(input, columns));
    // From the end, which was read last.
    for (i64 start = (columns - 1) / (N * G * V) * (N * G * V); start >= 0; start -= N * G * V) {
        const int rest = (int)(columns - start < N * G * V ? columns - start : N * G * V);
        Row<T, V, N, G> part;
        part.read(input + start, rest);
        part.write(out + start, rest, normalize);
    }
}

template <class T, int V, int N, int G>
__global__ void __launch_bounds__(block_of<G>, 1024 / block_of<G>) logsumexp(const T* __restrict__ input, T* __restrict__ out, i64 rows,
                                                         int columns) {
    const i64 at = row_of_group<G>();
    const int length = at < rows ? columns : 0;
    Row<T, V, N, G> row;
    row.read(input + at * columns, length);
    const Exponentials<T, true> e = exponentials<true>(row, length);
    if (length && threadIdx.x % G == 0) out[at] = (T)(log(e.sum) + e.shift());
}

template <class T, int V, int G>
__global__ void __launch_bounds__(G, 1024 / G) logsumexp_long(const T* __restrict__ input, T* __restrict__ out, i64 columns) {
    const Exponentials<T, true> e = exponentials_of_long<true, V, G>(input + blockIdx.x * columns, columns);
    if (threadIdx.x == 0) out[blockIdx.x] = (T)(log(e.sum) + e.shift());
}

// The gradient g taken back through a softmax with the result y: y (g - sum(g y)); through a log-softmax:
// g - exp(y) sum(g).
template <class T, bool LOG>
__device__ __forceinline__ wide<T> slope_term(wide<T> g, wide<T> y) {
    return LOG ? g : g * y;
}

template <class T, bool LOG>
__device__ __forceinline__ wide<T> slope(wide<T> g, wide<T> y, wide<T> sum) {
    return LOG ? g - exponential<T>(y) * sum : (g - sum) * y;
}

template <class T, int V, int N, int G, bool LOG>
__global__ void __launch_bounds__(block_of<G>, 1024 / block_of<G>) softmax_slope(const T* __restrict__ gradient,
                                                             const T* __restrict__ result, T* __restrict__ out,
                                                             i64 rows, int columns) {
    typedef wide<T> A;
    const i64 at = row_of_group<G>();
    const int length = at < rows ? columns : 0;
    Row<T, V, N, G> g, y;
    g.read(gradient + at * columns, length);
    y.read(result + at * columns, length);
    A sum = 0;
    g.each(length, [&](A x, int k, int i) { sum += slope_term<T, LOG>(x, (A)y.pack[k].value[i]); });
    sum = across<G>(sum, Plus());
    g.write(out + at * columns, length, [&](A x, int k, int i) { return slope<T, LOG>(x, (A)y.pack[k].value[i], sum); });
}

template <class T, int V, int G, bool LOG>
__global__ void __launch_bounds__(G, 1024 / G) softmax_slope_long(const T* __restrict__ gradient, const T* __restrict__ result,
                                                        T* __restrict__ out, i64 columns) {
    typedef wide<T> A;
    constexpr int N = sizeof(T) == 2 ? 1 : 2;
    const i64 offset = blockIdx.x * columns;
    A sum = 0;
    for (i64 start = 0; start < columns; start += N * G * V) {
        const int rest = (int)(columns - start < N * G * V ? columns - start : N * G * V);
        Row<T, V, N, G> g, y;
        g.read(gradient + offset + start, rest);
        if (!LOG) y.read(result + offset + start, rest);
        g.each(rest, [&](A x, int k, int i) { sum += LOG ? x : x * (A)y.pack[k].value[i]; });
    }
    sum = across<G>(sum, Plus());
    for (i64 start = (columns - 1) / (N * G * V) * (N * G * V); start >= 0; start -= N * G * V) {
        const int rest = (int)(columns - start < N * G * V ? columns - start : N * G * V);
        Row<T, V, N, G> g, y;
        g.read(gradient + offset + start, rest);
        y.read(result + offset + start, rest);
        g.write(out + offset + start, rest,
                [&](A x, int k, int i) { return slope<T, LOG>(x, (A)y.pack[k].value[i], sum); });
    }
}

// Cross-entropy of rows of logits with one class each: the loss of each row, and (where `gradient` is not null) the
// gradient of the logits for a loss of gradient 1 that is not yet divided by the sum of the weights: both from
// one read of the logits. A row whose class is `ignored` has loss and gradient 0; a class there is none of gives NaN.
template <class T>
struct Choice {
    typedef wide<T> A;
    A weight;
    int column;  // -1 for none

    __device__ __forceinline__ Choice(i64 target, const A* weights, i64 columns, i64 ignored) {
        const bool valid = target >= 0 && target < columns;
        column = valid && target != ignored ? (int)target : -1;
        if (target == ignored) weight = 0;
        else if (!valid) weight = __int_as_float(0x7fffffff);
        else weight = weights ? weights[target] : A(1);
    }
    // 0 for an ignored row, whatever it holds.
    __device__ __forceinline__ A loss(const Exponentials<T, false>& e, const T* row) const {
        if (weight == 0) return 0;
        return weight * (log(e.sum) + e.largest - (column < 0 ? A(0) : (A)row[column]));
    }
};

template <class T>
struct ClassGradient {
    typedef wide<T> A;
    A largest, scale, weight;
    __device__ __forceinline__ ClassGradient(const Exponentials<T, false>& e, A weight)
        : largest(e.largest), scale(quotient(weight, e.sum)), weight(weight) {}
    __device__ __forceinline__ A operator()(A x, bool chosen) const {
        return weight == 0 ? A(0) : exponential<T>(x - largest) * scale - (chosen ? weight : A(0));
    }
};

template <class T, int V, int N, int G>
__global__ void __launch_bounds__(block_of<G>, 1024 / block_of<G>)
    cross_entropy(const T* __restrict__ input, const i64* __restrict__ target, const wide<T>* __restrict__ weights,
                  i64 ignored, wide<T>* __restrict__ losses, T* __restrict__ gradient, i64 rows, int columns) {
    typedef wide<T> A;
    const i64 at = row_of_group<G>();
    const int length = at < rows ? columns : 0;
    Row<T, V, N, G> row;
    row.read(input + at * columns, length);
    const Exponentials<T, false> e = exponentials<false>(row, length);
    if (!length) return;
    const Choice<T> choice(target[at], weights, columns, ignored);
    if (threadIdx.x % G == 0) losses[at] = choice.loss(e, input + at * columns);
    if (!gradient) return;
    const ClassGradient<T> slope(e, choice.weight);
    row.write(gradient + at * columns, length,
              [&](A x, int k, int i) { return slope(x, row.column(k) + i == choice.column); });
}

template <class T, int V, int G>
__global__ void __launch_bounds__(G, 1024 / G)
    cross_entropy_long(const T* __restrict__ input, const i64* __restrict__ target,
                       const wide<T>* __restrict__ weights, i64 ignored, wide<T>* __restrict__ losses,
                       T* __restrict__ gradient, i64 columns) {
    typedef wide<T> A;
    constexpr int N = sizeof(T) == 8 ? 2 : 4;
    input += blockIdx.x * columns;
    const Exponentials<T, false> e = exponentials_of_long<false, V, G>(input, columns);
    const Choice<T> choice(target[blockIdx.x], weights, columns, ignored);
    if (threadIdx.x == 0) losses[blockIdx.x] = choice.loss(e, input);
    if (!gradient) return;
    gradient += blockIdx.x * columns;
    const ClassGradient<T> slope(e, choice.weight);
    for (i64 start = (columns - 1) / (N * G * V) * (N * G * V); start >= 0; start -= N * G * V) {
        const int rest = (int)(columns - start < N * G * V ? columns - start : N * G * V);
        Row<T, V, N, G> part;
        part.read(input + start, rest);
        part.write(gradient + start, rest,
                   [&](A x, int k, int i) { return slope(x, start + part.column(k) + i == choice.column); });
    }
}

// The sum or mean of the rows' losses, and what the gradient is to be multiplied by: 1, or 1 over the sum of the
// weights. One block, in a fixed order: 12 bytes a row are little beside the logits.
template <class T>
__global__ void __launch_bounds__(1024)
    cross_entropy_total(const wide<T>* __restrict__ losses, const i64* __restrict__ target,
                        const wide<T>* __restrict__ weights, i64 ignored, i64 rows, i64 columns, bool mean,
                        T* __restrict__ out, wide<T>* __restrict__ factor) {
    typedef wide<T> A;
    A loss = 0, weight = 0;
    for (i64 row = threadIdx.x; row < rows; row += 1024) {
        loss += losses[row];
        if (mean) weight += Choice<T>(target[row], weights, columns, ignored).weight;
    }
    loss = across<1024>(loss, Plus());
    if (mean) weight = across<1024>(weight, Plus());
    if (threadIdx.x == 0) {
        *out = (T)(mean ? loss / weight : loss);
        *factor = mean ? 1 / weight : A(1);
    }
}

// Rows times `scale` (one number, or with `each` one for each row) and `factor` (if it is not null). With `each` there
// are fewer than 2^32 elements.
template <class T, int V>
__global__ void __launch_bounds__(256, 4) scaled_rows(const T* __restrict__ input, const T* __restrict__ scale,
                                                   const wide<T>* __restrict__ factor, T* __restrict__ out, i64 size,
                                                   u32 columns, bool each) {
    typedef wide<T> A;
    over<V, 4, 256>(size, [&](i64 at, auto width) {
        constexpr int W = decltype(width)::value;
        const Pack<T, W> x = load<W>(input + at);
        const A by = (A)scale[each ? (u32)at / columns : 0] * (factor ? *factor : A(1));
        Pack<T, W> y;
#pragma unroll
        for (int i = 0; i < W; ++i) y.value[i] = (T)((A)x.value[i] * by);
        store<W>(out + at, y);
    });
}
