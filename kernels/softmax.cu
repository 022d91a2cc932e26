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

// Cross-entropy of logits with one class for each row: the loss of each row, and (where `gradient` is not null) the
// gradient of the logits, both from one read of the logits. `totals` holds what a mean is divided by, the sum of the
// targets' weights, and the sum of all classes' weights. Known before, they let the gradient be written as it will be
// used. Only float16 holds it undivided: its small numbers must still meet the scale of the loss.
template <class T>
constexpr bool is_divided_later = false;
template <>
constexpr bool is_divided_later<__half> = true;

// The weight of a class; NaN for one that there is none of, which the loss reports.
template <class A>
__device__ __forceinline__ A weight_of(i64 target, const A* weights, i64 columns) {
    if (target < 0 || target >= columns) return __int_as_float(0x7fffffff);
    return weights ? weights[target] : A(1);
}

// What a row's target makes of its logits. With SMOOTH a share of the target is spread evenly over the classes, whose
// losses have their own weights. An ignored row has loss and gradient 0, whatever it holds.
template <class T, bool SMOOTH>
struct Choice {
    typedef wide<T> A;
    const A* weights;
    A chosen = 0, even = 0, all = 0;  // the factors of the target's logarithm, of each one, and of all together
    A scale;
    int column;  // -1 for none
    bool counts;

    __device__ __forceinline__ Choice(i64 target, const A* weights, const A* totals, i64 columns, i64 ignored,
                                      A smoothing, bool mean)
        : weights(weights), scale(mean ? 1 / totals[0] : A(1)), counts(target != ignored) {
        column = counts && target >= 0 && target < columns ? (int)target : -1;
        if (!counts) return;
        all = chosen = weight_of(target, weights, columns);
        if (SMOOTH) {
            chosen *= 1 - smoothing;
            even = smoothing / columns;
            all = chosen + even * (weights ? totals[1] : (A)columns);
        }
    }
    __device__ __forceinline__ static A spread(A x, const A* weights, i64 column) {
        return SMOOTH && weights ? x * weights[column] : x;
    }
    // `logit` is the target's, `rest` the weighted sum of all of them less the largest. Where no row counts, the mean
    // is 0 / 0.
    __device__ __forceinline__ A loss(const Exponentials<T, false>& e, A logit, A rest, i64 target, i64 columns,
                                      u64* fault, i64 site) const {
        if (!counts) return 0 * scale;
        if (column < 0) report(fault, site, target, columns);
        A found = chosen * (log(e.sum) + e.largest - logit);
        if (SMOOTH) found += (all - chosen) * log(e.sum) - even * rest;
        return found * scale;
    }
};

template <class T, bool SMOOTH>
struct ClassGradient {
    typedef wide<T> A;
    const A* weights;
    A largest, factor, chosen, even;
    int column;
    bool counts;
    __device__ __forceinline__ ClassGradient(const Exponentials<T, false>& e, const Choice<T, SMOOTH>& choice)
        : weights(choice.weights), largest(e.largest), column(choice.column), counts(choice.counts) {
        const A scale = is_divided_later<T> && isfinite(choice.scale) ? A(1) : choice.scale;
        factor = quotient(choice.all * scale, e.sum);
        chosen = choice.chosen * scale;
        even = choice.even * scale;
    }
    __device__ __forceinline__ A operator()(A x, i64 at) const {
        if (!counts) return 0;
        const A slope = exponential<T>(x - largest) * factor - (at == column ? chosen : A(0));
        return SMOOTH ? slope - Choice<T, SMOOTH>::spread(even, weights, at) : slope;
    }
};

template <class T, int V, int N, int G, bool SMOOTH>
__global__ void __launch_bounds__(block_of<G>, 1024 / block_of<G>)
    cross_entropy(const T* __restrict__ input, const i64* __restrict__ target, const wide<T>* __restrict__ weights,
                  const wide<T>* __restrict__ totals, i64 ignored, wide<T> smoothing, bool mean,
                  wide<T>* __restrict__ losses, T* __restrict__ gradient, u64* fault, i64 site, i64 rows,
                  int columns) {
    typedef wide<T> A;
    const i64 at = row_of_group<G>();
    const int length = at < rows ? columns : 0;
    Row<T, V, N, G> row;
    row.read(input + at * columns, length);
    const Exponentials<T, false> e = exponentials<false>(row, length);
    A rest = 0;
    if (SMOOTH) {
        row.each(length, [&](A x, int k, int i) {
            rest += Choice<T, SMOOTH>::spread(x - e.largest, weights, row.column(k) + i);
        });
        rest = across<G>(rest, Plus());
    }
    if (!length) return;
    const Choice<T, SMOOTH> choice(target[at], weights, totals, columns, ignored, smoothing, mean);
    if (threadIdx.x % G == 0) {
        const A logit = choice.column < 0 ? A(0) : (A)input[at * columns + choice.column];
        losses[at] = choice.loss(e, logit, rest, target[at], columns, fault, site);
    }
    if (!gradient) return;
    const ClassGradient<T, SMOOTH> slope(e, choice);
    row.write(gradient + at * columns, length, [&](A x, int k, int i) { return slope(x, row.column(k) + i); });
}

template <class T, int V, int G, bool SMOOTH>
__global__ void __launch_bounds__(G, 1024 / G)
    cross_entropy_long(const T* __restrict__ input, const i64* __restrict__ target,
                       const wide<T>* __restrict__ weights, const wide<T>* __restrict__ totals, i64 ignored,
                       wide<T> smoothing, bool mean, wide<T>* __restrict__ losses, T* __restrict__ gradient,
                       u64* fault, i64 site, i64 columns) {
    typedef wide<T> A;
    constexpr int N = sizeof(T) == 8 ? 2 : 4;
    input += blockIdx.x * columns;
    const Exponentials<T, false> e = exponentials_of_long<false, V, G>(input, columns);
    const Choice<T, SMOOTH> choice(target[blockIdx.x], weights, totals, columns, ignored, smoothing, mean);
    const ClassGradient<T, SMOOTH> slope(e, choice);
    A rest = 0;
    if (SMOOTH || gradient) {
        gradient = gradient ? gradient + blockIdx.x * columns : gradient;
        for (i64 start = (columns - 1) / (N * G * V) * (N * G * V); start >= 0; start -= N * G * V) {
            const int length = (int)(columns - start < N * G * V ? columns - start : N * G * V);
            Row<T, V, N, G> part;
            part.read(input + start, length);
            if (SMOOTH) {
                part.each(length, [&](A x, int k, int i) {
                    rest += Choice<T, SMOOTH>::spread(x - e.largest, weights, start + part.column(k) + i);
                });
            }
            if (gradient) {
                part.write(gradient + start, length,
                           [&](A x, int k, int i) { return slope(x, start + part.column(k) + i); });
            }
        }
    }
    if (SMOOTH) rest = across<G>(rest, Plus());
    if (threadIdx.x == 0) {
        const A logit = choice.column < 0 ? A(0) : (A)input[choice.column];
        losses[blockIdx.x] = choice.loss(e, logit, rest, target[blockIdx.x], columns, fault, site);
    }
}

// Packs of the classes from `start` on, `step` apart and `length` elements from one class to the next, where there are so
// many.
template <class T, int V, int U>
__device__ __forceinline__ void load_classes(Pack<T, V> (&into)[U], const T* from, int start, int step, int classes,
                                             i64 length) {
#pragma unroll
    for (int u = 0; u < U; ++u)
        if (start + u * step < classes) into[u] = load<V>(from + (start + u * step) * length);
}

template <class T, int V, int U>
__device__ __forceinline__ void store_classes(T* to, const Pack<T, V> (&from)[U], int start, int step, int classes,
                                              i64 length) {
#pragma unroll
    for (int u = 0; u < U; ++u)
        if (start + u * step < classes) store<V>(to + (start + u * step) * length, from[u]);
}

// What the threads of a block of 256 that share a place have found, combined: in the end it is in the first row of
// each array, of `lanes` places.
template <class T, int V>
__device__ __forceinline__ void merge_shares(Exponentials<T, false> (&found)[V], wide<T> (&tops)[V][256],
                                             wide<T> (&sums)[V][256], int thread, int lanes) {
    const int share = thread / lanes, shares = 256 / lanes;
    for (int near = shares; near; near /= 2) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
            if (near < shares && share < near) {
                Exponentials<T, false> other;
                other.largest = tops[v][thread + near * lanes];
                other.sum = sums[v][thread + near * lanes];
                found[v] = Merge()(found[v], other);
            }
            if (share < near) {
                tops[v][thread] = found[v].largest;
                sums[v][thread] = found[v].sum;
            }
        }
        __syncthreads();
    }
}

template <int V, class A>
__device__ __forceinline__ void add_shares(A (&found)[V], A (&totals)[V][256], int thread, int lanes) {
    const int share = thread / lanes, shares = 256 / lanes;
    for (int near = shares; near; near /= 2) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
            if (near < shares && share < near) found[v] += totals[v][thread + near * lanes];
            if (share < near) totals[v][thread] = found[v];
        }
        __syncthreads();
    }
}

// The same for logits (N, C, length): the classes of one place lie `length` apart. A block of 256 threads works on
// `lanes` times V neighbouring places, the classes of which are dealt out to 256 / lanes threads (a power of two), four
// at a time. They are read twice, the second time mostly from the L1 or L2 cache.
template <class T, int V, bool SMOOTH>
__global__ void __launch_bounds__(256, 4)
    cross_entropy_columns(const T* __restrict__ input, const i64* __restrict__ target,
                          const wide<T>* __restrict__ weights, const wide<T>* __restrict__ totals, i64 ignored,
                          wide<T> smoothing, bool mean, wide<T>* __restrict__ losses, T* __restrict__ gradient,
                          u64* fault, i64 site, i64 places, int columns, i64 length, int lanes) {
    typedef wide<T> A;
    constexpr int U = 4;
    __shared__ A tops[V][256], sums[V][256];
    const int thread = threadIdx.x, lane = thread % lanes, share = thread / lanes, shares = 256 / lanes;
    const i64 at = ((i64)blockIdx.x * lanes + lane) * V;
    // Threads without a place take part in the barriers all the same.
    const int classes = at < places ? columns : 0;
    const i64 start = at / length * columns * length + at % length;
    input += start;
    gradient = gradient ? gradient + start : gradient;

    Exponentials<T, false> found[V];
    for (int first = share; first < classes; first += U * shares) {
        Pack<T, V> pack[U];
        load_classes(pack, input, first, shares, classes, length);
#pragma unroll
        for (int v = 0; v < V; ++v) {
            A largest = -infinity();
#pragma unroll
            for (int u = 0; u < U; ++u) {
                if (first + u * shares < classes && (A)pack[u].value[v] > largest) largest = (A)pack[u].value[v];
            }
            found[v].raise(largest);
#pragma unroll
            for (int u = 0; u < U; ++u)
                if (first + u * shares < classes) found[v].add((A)pack[u].value[v]);
        }
    }
    merge_shares(found, tops, sums, thread, lanes);
    A rest[V] = {};
    if ((SMOOTH || gradient) && share < classes) {
        for (int first = (classes - 1 - share) / (U * shares) * (U * shares) + share; first >= 0;
             first -= U * shares) {
            Pack<T, V> pack[U];
            load_classes(pack, input, first, shares, classes, length);
#pragma unroll
            for (int v = 0; v < V; ++v) {
                Exponentials<T, false> e;
                e.largest = tops[v][lane];
                e.sum = sums[v][lane];
                const ClassGradient<T, SMOOTH> slope(
                    e, Choice<T, SMOOTH>(target[at + v], weights, totals, columns, ignored, smoothing, mean));
#pragma unroll
                for (int u = 0; u < U; ++u) {
                    const int column = first + u * shares;
                    if (column < classes) {
                        const A x = (A)pack[u].value[v];
                        if (SMOOTH) rest[v] += Choice<T, SMOOTH>::spread(x - e.largest, weights, column);
                        pack[u].value[v] = (T)slope(x, column);
                    }
                }
            }
            if (gradient) store_classes(gradient, pack, first, shares, classes, length);
        }
    }
    if (SMOOTH) {
        __shared__ A rests[V][256];
        add_shares(rest, rests, thread, lanes);
    }
    if (share == 0 && classes) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
            Exponentials<T, false> e;
            e.largest = tops[v][lane];
            e.sum = sums[v][lane];
            const Choice<T, SMOOTH> choice(target[at + v], weights, totals, columns, ignored, smoothing, mean);
            const A logit = choice.column < 0 ? A(0) : (A)input[choice.column * length + v];
            losses[at + v] = choice.loss(e, logit, rest[v], target[at + v], columns, fault, site);
        }
    }
}

// Cross-entropy with a target that says how probable each class is: with shares p of the classes, the loss of a row is
// sum(p) log(sum(exp(x))) - sum(p x), and the gradient of its logits sum(p) softmax(x) - p. Both come from one read of
// logits and target where they fit into registers, from two otherwise. For float16 `scale` is left to be met later, as
// above.
template <class T>
struct Shares {
    typedef wide<T> A;
    const A* weights;
    A kept, even;
    __device__ __forceinline__ Shares(const A* weights, A smoothing, int columns)
        : weights(weights), kept(1 - smoothing), even(smoothing / columns) {}
    __device__ __forceinline__ A operator()(A probability, i64 column) const {
        const A share = probability * kept + even;
        return weights ? share * weights[column] : share;
    }
};

template <class T, int V, int N, int G>
__global__ void __launch_bounds__(block_of<G>, 1024 / block_of<G>)
    soft_cross_entropy(const T* __restrict__ input, const T* __restrict__ target, const wide<T>* __restrict__ weights,
                       wide<T> smoothing, wide<T> scale, wide<T>* __restrict__ losses, T* __restrict__ gradient,
                       i64 rows, int columns) {
    typedef wide<T> A;
    const i64 at = row_of_group<G>();
    const int length = at < rows ? columns : 0;
    Row<T, V, N, G> row, chances;
    row.read(input + at * columns, length);
    chances.read(target + at * columns, length);
    const Shares<T> share(weights, smoothing, columns);
    const Exponentials<T, false> e = exponentials<false>(row, length);
    A all = 0, rest = 0;
    chances.each(length, [&](A t, int k, int i) {
        const A p = share(t, row.column(k) + i);
        all += p;
        rest += p * ((A)row.pack[k].value[i] - e.largest);
    });
    all = across<G>(all, Plus());
    rest = across<G>(rest, Plus());
    if (!length) return;
    if (threadIdx.x % G == 0) losses[at] = (all * log(e.sum) - rest) * scale;
    if (!gradient) return;
    const A by = is_divided_later<T> ? A(1) : scale, factor = quotient(all * by, e.sum);
    row.write(gradient + at * columns, length, [&](A x, int k, int i) {
        return exponential<T>(x - e.largest) * factor - share((A)chances.pack[k].value[i], row.column(k) + i) * by;
    });
}

template <class T, int V, int G>
__global__ void __launch_bounds__(G, 1024 / G)
    soft_cross_entropy_long(const T* __restrict__ input, const T* __restrict__ target,
                            const wide<T>* __restrict__ weights, wide<T> smoothing, wide<T> scale,
                            wide<T>* __restrict__ losses, T* __restrict__ gradient, i64 columns) {
    typedef wide<T> A;
    constexpr int N = sizeof(T) == 4 ? 2 : 1;
    input += blockIdx.x * columns;
    target += blockIdx.x * columns;
    gradient = gradient ? gradient + blockIdx.x * columns : gradient;
    const Exponentials<T, false> e = exponentials_of_long<false, V, G>(input, columns);
    const Shares<T> share(weights, smoothing, columns);
    A all = 0, rest = 0;
    for (i64 start = 0; start < columns; start += N * G * V) {
        const int length = (int)(columns - start < N * G * V ? columns - start : N * G * V);
        Row<T, V, N, G> part;
        part.read(target + start, length);
        part.each(length, [&](A t, int k, int i) { all += share(t, start + part.column(k) + i); });
    }
    all = across<G>(all, Plus());
    const A by = is_divided_later<T> ? A(1) : scale, factor = quotient(all * by, e.sum), largest = e.largest;
    all *= log(e.sum);
    for (i64 start = (columns - 1) / (N * G * V) * (N * G * V); start >= 0; start -= N * G * V) {
        const int length = (int)(columns - start < N * G * V ? columns - start : N * G * V);
        Row<T, V, N, G> part, chances;
        part.read(input + start, length);
        chances.read(target + start, length);
        const auto slope = [&](A x, int k, int i) {
            const A p = share((A)chances.pack[k].value[i], start + part.column(k) + i);
            rest += p * (x - largest);
            return exponential<T>(x - largest) * factor - p * by;
        };
        if (gradient) part.write(gradient + start, length, slope);
        else part.each(length, slope);
    }
    rest = across<G>(rest, Plus());
    if (threadIdx.x == 0) losses[blockIdx.x] = (all - rest) * scale;
}

// Of (N, C, length), shared among threads as by cross_entropy_columns.
template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    soft_cross_entropy_columns(const T* __restrict__ input, const T* __restrict__ target,
                               const wide<T>* __restrict__ weights, wide<T> smoothing, wide<T> scale,
                               wide<T>* __restrict__ losses, T* __restrict__ gradient, i64 places, int columns,
                               i64 length, int lanes) {
    typedef wide<T> A;
    constexpr int U = 4;
    __shared__ A tops[V][256], sums[V][256], alls[V][256], rests[V][256];
    const int thread = threadIdx.x, lane = thread % lanes, first = thread / lanes, step = 256 / lanes;
    const i64 at = ((i64)blockIdx.x * lanes + lane) * V;
    // Threads without a place take part in the barriers all the same.
    const int classes = at < places ? columns : 0;
    const i64 origin = at / length * columns * length + at % length;
    input += origin;
    target += origin;
    gradient = gradient ? gradient + origin : gradient;
    const Shares<T> share(weights, smoothing, columns);

    Exponentials<T, false> found[V];
    A all[V] = {};
    for (int start = first; start < classes; start += U * step) {
        Pack<T, V> x[U], t[U];
        load_classes(x, input, start, step, classes, length);
        load_classes(t, target, start, step, classes, length);
#pragma unroll
        for (int v = 0; v < V; ++v) {
            A largest = -infinity();
#pragma unroll
            for (int u = 0; u < U; ++u)
                if (start + u * step < classes && (A)x[u].value[v] > largest) largest = (A)x[u].value[v];
            found[v].raise(largest);
#pragma unroll
            for (int u = 0; u < U; ++u) {
                if (start + u * step < classes) {
                    found[v].add((A)x[u].value[v]);
                    all[v] += share((A)t[u].value[v], start + u * step);
                }
            }
        }
    }
    merge_shares(found, tops, sums, thread, lanes);
    add_shares(all, alls, thread, lanes);
    A rest[V] = {};
    if (first < classes) {
        const A by = is_divided_later<T> ? A(1) : scale;
        for (int start = (classes - 1 - first) / (U * step) * (U * step) + first; start >= 0; start -= U * step) {
            Pack<T, V> x[U], t[U];
            load_classes(x, input, start, step, classes, length);
            load_classes(t, target, start, step, classes, length);
#pragma unroll
            for (int v = 0; v < V; ++v) {
                const A largest = tops[v][lane], factor = quotient(alls[v][lane] * by, sums[v][lane]);
#pragma unroll
                for (int u = 0; u < U; ++u) {
                    if (start + u * step < classes) {
                        const A above = (A)x[u].value[v] - largest, p = share((A)t[u].value[v], start + u * step);
                        rest[v] += p * above;
                        x[u].value[v] = (T)(exponential<T>(above) * factor - p * by);
                    }
                }
            }
            if (gradient) store_classes(gradient, x, start, step, classes, length);
        }
    }
    add_shares(rest, rests, thread, lanes);
    if (first == 0 && classes) {
#pragma unroll
        for (int v = 0; v < V; ++v)
            losses[at + v] = (alls[v][lane] * log(sums[v][lane]) - rests[v][lane]) * scale;
    }
}

// The sum of the targets' weights, of `part` targets for each block.
template <class A>
__global__ void __launch_bounds__(1024)
    chosen_weights(const i64* __restrict__ target, const A* __restrict__ weights, i64 ignored, i64 count, i64 columns,
                   i64 part, A* __restrict__ out) {
    const i64 start = blockIdx.x * part, stop = start + part < count ? start + part : count;
    A sum = 0;
    for (i64 at = start + threadIdx.x; at < stop; at += 1024) {
        const i64 chosen = target[at];
        if (chosen != ignored) sum += weight_of(chosen, weights, columns);
    }
    sum = across<1024>(sum, Plus());
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

// Rows times `scale` (one number, or with `each` one for each row), divided by `divisor` (if it is not null), unless
// that is 0. With `each` there are fewer than 2^32 elements.
template <class T, int V>
__global__ void __launch_bounds__(256, 4) scaled_rows(const T* __restrict__ input, const T* __restrict__ scale,
                                                   const wide<T>* __restrict__ divisor, T* __restrict__ out, i64 size,
                                                   u32 columns, bool each) {
    typedef wide<T> A;
    const A factor = divisor && *divisor != 0 ? 1 / *divisor : A(1);
    over<V, 4, 256>(size, [&](i64 at, auto width) {
        constexpr int W = decltype(width)::value;
        const Pack<T, W> x = load<W>(input + at);
        const A by = (A)scale[each ? (u32)at / columns : 0] * factor;
        Pack<T, W> y;
#pragma unroll
        for (int i = 0; i < W; ++i) y.value[i] = (T)((A)x.value[i] * by);
        store<W>(out + at, y);
    });
}
