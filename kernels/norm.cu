// Layer, RMS and batch normalisation and their gradients. Variances take a pass of their own over values in
// registers, or are merged from parts that did (Chan, Golub and LeVeque, 1983).
//
// Rows (layer and RMS normalisation): forward reads x once and writes the result once; backward reads x and the
// gradient once and writes once. Weights are read again for each row, but come from the L1 cache: the grid is
// persistent, and each block works on row after row. So each thread also sees the same columns all the time, and
// keeps its share of the gradients of weight and bias in registers; they are written once for each block. These take
// so many that few blocks fit beside each other, so each asks for its next row before it works on this one.
//
// Channels (batch normalisation) are spread over the whole array, so that forward and backward read it twice.
#include "common.cuh"

template <class A>
struct Moments {
    A count = 0, mean = 0, squares = 0;  // the sum of the squared distances from the mean

    __device__ __forceinline__ void add(const Moments& other) {
        const A total = count + other.count;
        if (!(total > 0)) return;
        const A distance = other.mean - mean, share = other.count / total;
        squares += other.squares + distance * distance * count * share;
        mean += distance * share;
        count = total;
    }
};

// Two sums.
template <class A>
struct Sums {
    A first = 0, second = 0;

    __device__ __forceinline__ void add(const Sums& other) {
        first += other.first;
        second += other.second;
    }
};

struct Joined {
    template <class S>
    __device__ __forceinline__ S operator()(S a, const S& b) const {
        a.add(b);
        return a;
    }
};

template <class A>
__device__ __forceinline__ Moments<A> exchanged(const Moments<A>& x, int offset) {
    Moments<A> other;
    other.count = exchanged(x.count, offset);
    other.mean = exchanged(x.mean, offset);
    other.squares = exchanged(x.squares, offset);
    return other;
}

template <class A>
__device__ __forceinline__ Sums<A> exchanged(const Sums<A>& x, int offset) {
    Sums<A> other;
    other.first = exchanged(x.first, offset);
    other.second = exchanged(x.second, offset);
    return other;
}

// The weights of a pack of columns; 1 or 0 where there are none.
template <class A, int V, class W>
__device__ __forceinline__ void read_weights(const W* weights, i64 column, A otherwise, A* into) {
    if (weights) {
        const Pack<W, V> pack = load_wide<V>(weights + column);
#pragma unroll
        for (int i = 0; i < V; ++i) into[i] = (A)pack.value[i];
    } else {
#pragma unroll
        for (int i = 0; i < V; ++i) into[i] = otherwise;
    }
}

// One row's values, standardised, times weight, plus bias.
template <class T, class W, int V, int N, int G>
__device__ __forceinline__ void write_standard(const Row<T, V, N, G>& row, T* out, int columns, wide<T> mean,
                                               wide<T> scale, const W* weight, const W* bias) {
    typedef wide<T> A;
#pragma unroll
    for (int k = 0; k < N; ++k) {
        const int column = row.column(k);
        if (column >= columns) continue;
        A w[V], b[V];
        read_weights<A, V>(weight, column, A(1), w);
        read_weights<A, V>(bias, column, A(0), b);
        Pack<T, V> made;
#pragma unroll
        for (int i = 0; i < V; ++i) made.value[i] = (T)(((A)row.pack[k].value[i] - mean) * scale * w[i] + b[i]);
        store<V>(out + column, made);
    }
}

template <class T, class W, int V, int N, int G, bool CENTERED>
__global__ void __launch_bounds__(block_of<G>, 1024 / block_of<G>)
    standardize(const T* __restrict__ input, const W* __restrict__ weight, const W* __restrict__ bias,
                T* __restrict__ out, wide<T>* __restrict__ means, wide<T>* __restrict__ variances, i64 rows,
                int columns, double eps) {
    typedef wide<T> A;
    constexpr int groups = block_of<G> / G;
    for (i64 first = (i64)blockIdx.x * groups; first < rows; first += (i64)gridDim.x * groups) {
        const i64 at = first + threadIdx.x / G;
        const int length = at < rows ? columns : 0;
        Row<T, V, N, G> row;
        row.read(input + at * columns, length);
        A mean = 0;
        if (CENTERED) {
            row.each(length, [&](A x, int, int) { mean += x; });
            mean = across<G>(mean, Plus()) / columns;
        }
        A variance = 0;
        row.each(length, [&](A x, int, int) { variance += (x - mean) * (x - mean); });
        variance = across<G>(variance, Plus()) / columns;
        if (length && threadIdx.x % G == 0) {
            if (CENTERED) means[at] = mean;
            variances[at] = variance;
        }
        write_standard(row, out + at * columns, length, mean, 1 / sqrt(variance + (A)eps), weight, bias);
    }
}

// A row of any length by a block; it is read twice, the second time mostly from the L2 cache.
template <class T, class W, int V, int G, bool CENTERED>
__global__ void __launch_bounds__(G, 1024 / G)
    standardize_long(const T* __restrict__ input, const W* __restrict__ weight, const W* __restrict__ bias,
                     T* __restrict__ out, wide<T>* __restrict__ means, wide<T>* __restrict__ variances, i64 columns,
                     double eps) {
    typedef wide<T> A;
    constexpr int N = 2;
    input += blockIdx.x * columns;
    out += blockIdx.x * columns;
    Moments<A> moments;
    for (i64 start = 0; start < columns; start += N * G * V) {
        const int rest = (int)(columns - start < N * G * V ? columns - start : N * G * V);
        Row<T, V, N, G> part;
        part.read(input + start, rest);
        Moments<A> mine;
        if (CENTERED) {
            part.each(rest, [&](A x, int, int) { mine.mean += x, mine.count += 1; });
            mine.mean = mine.count > 0 ? mine.mean / mine.count : A(0);
        }
        part.each(rest, [&](A x, int, int) { mine.squares += (x - mine.mean) * (x - mine.mean); });
        if (CENTERED) moments.add(mine);
        else moments.squares += mine.squares;
    }
    A variance;
    if (CENTERED) {
        moments = across<G>(moments, Joined());
        variance = moments.squares / columns;
    } else {
        variance = across<G>(moments.squares, Plus()) / columns;
    }
    if (threadIdx.x == 0) {
        if (CENTERED) means[blockIdx.x] = moments.mean;
        variances[blockIdx.x] = variance;
    }
    for (i64 start = (columns - 1) / (N * G * V) * (N * G * V); start >= 0; start -= N * G * V) {
        const int rest = (int)(columns - start < N * G * V ? columns - start : N * G * V);
        Row<T, V, N, G> part;
        part.read(input + start, rest);
        write_standard(part, out + start, rest, moments.mean, 1 / sqrt(variance + (A)eps),
                       weight ? weight + start : weight, bias ? bias + start : bias);
    }
}

// The gradient of a standardisation. With `parts` not null, each block also writes there its share of the gradients
// of weight (columns numbers) and bias (columns numbers).
template <class T, class W, int V, int N, int G, bool CENTERED, bool AFFINE>
__global__ void __launch_bounds__(block_of<G>, 512 / block_of<G>)
    standardize_slope(const T* __restrict__ gradient, const T* __restrict__ input, const W* __restrict__ weight,
                      const wide<T>* __restrict__ means, const wide<T>* __restrict__ scales, T* __restrict__ out,
                      wide<T>* __restrict__ parts, i64 rows, int columns) {
    typedef wide<T> A;
    constexpr int groups = block_of<G> / G;
    A products[N][V] = {}, sums[N][V] = {};
    for (i64 first = (i64)blockIdx.x * groups; first < rows; first += (i64)gridDim.x * groups) {
        const i64 at = first + threadIdx.x / G;
        const int length = at < rows ? columns : 0;
        Row<T, V, N, G> g, x;
        g.read(gradient + at * columns, length);
        x.read(input + at * columns, length);
        const i64 next = at + (i64)gridDim.x * groups;
        if (next < rows) {
            g.expect(gradient + next * columns, columns);
            x.expect(input + next * columns, columns);
        }
        const A mean = CENTERED && length ? means[at] : A(0), scale = length ? scales[at] : A(0);
        Sums<A> along;
#pragma unroll
        for (int k = 0; k < N; ++k) {
            if (g.column(k) >= length) continue;
            A w[V];
            read_weights<A, V>(weight, g.column(k), A(1), w);
#pragma unroll
            for (int i = 0; i < V; ++i) {
                const A given = (A)g.pack[k].value[i], standard = ((A)x.pack[k].value[i] - mean) * scale;
                if (AFFINE) {
                    products[k][i] += given * standard;
                    sums[k][i] += given;
                }
                along.first += given * w[i];
                along.second += given * w[i] * standard;
            }
        }
        along = across<G>(along, Joined());
        const A shift = CENTERED ? along.first / columns : A(0), slope = along.second / columns;
#pragma unroll
        for (int k = 0; k < N; ++k) {
            if (g.column(k) >= length) continue;
            A w[V];
            read_weights<A, V>(weight, g.column(k), A(1), w);
            Pack<T, V> made;
#pragma unroll
            for (int i = 0; i < V; ++i) {
                const A standard = ((A)x.pack[k].value[i] - mean) * scale;
                made.value[i] = (T)(((A)g.pack[k].value[i] * w[i] - shift - standard * slope) * scale);
            }
            store<V>(out + at * columns + g.column(k), made);
        }
    }
    if constexpr (AFFINE) {
        parts += blockIdx.x * 2 * (i64)columns;
        if constexpr (groups == 1) {
#pragma unroll
            for (int k = 0; k < N; ++k) {
                const int column = (k * G + (int)threadIdx.x) * V;
#pragma unroll
                for (int i = 0; i < V; ++i) {
                    if (column + i < columns) {
                        parts[column + i] = products[k][i];
                        parts[columns + column + i] = sums[k][i];
                    }
                }
            }
        } else {
            // The groups of a block add up theirs, in order.
            __shared__ A shared[groups][N * G * V];
#pragma unroll
            for (int which = 0; which < 2; ++which) {
#pragma unroll
                for (int k = 0; k < N; ++k)
#pragma unroll
                    for (int i = 0; i < V; ++i)
                        shared[threadIdx.x / G][(k * G + threadIdx.x % G) * V + i] =
                            which ? sums[k][i] : products[k][i];
                __syncthreads();
                for (int column = threadIdx.x; column < columns; column += block_of<G>) {
                    A total = 0;
#pragma unroll
                    for (int group = 0; group < groups; ++group) total += shared[group][column];
                    parts[which * columns + column] = total;
                }
                __syncthreads();
            }
        }
    }
}

template <class T, class W, int V, int G, bool CENTERED>
__global__ void __launch_bounds__(G, 1024 / G)
    standardize_slope_long(const T* __restrict__ gradient, const T* __restrict__ input, const W* __restrict__ weight,
                           const wide<T>* __restrict__ means, const wide<T>* __restrict__ scales,
                           T* __restrict__ out, i64 columns) {
    typedef wide<T> A;
    const i64 offset = blockIdx.x * columns;
    const A mean = CENTERED ? means[blockIdx.x] : A(0), scale = scales[blockIdx.x];
    Sums<A> along;
    for (i64 at = (i64)threadIdx.x * V; at < columns; at += G * V) {
        const Pack<T, V> g = load<V>(gradient + offset + at), x = load<V>(input + offset + at);
        A w[V];
        read_weights<A, V>(weight, at, A(1), w);
#pragma unroll
        for (int i = 0; i < V; ++i) {
            const A given = (A)g.value[i] * w[i];
            along.first += given;
            along.second += given * ((A)x.value[i] - mean) * scale;
        }
    }
    along = across<G>(along, Joined());
    const A shift = CENTERED ? along.first / columns : A(0), slope = along.second / columns;
    for (i64 at = (i64)threadIdx.x * V; at < columns; at += G * V) {
        const Pack<T, V> g = load<V>(gradient + offset + at), x = load<V>(input + offset + at);
        A w[V];
        read_weights<A, V>(weight, at, A(1), w);
        Pack<T, V> made;
#pragma unroll
        for (int i = 0; i < V; ++i) {
            const A standard = ((A)x.value[i] - mean) * scale;
            made.value[i] = (T)(((A)g.value[i] * w[i] - shift - standard * slope) * scale);
        }
        store<V>(out + offset + at, made);
    }
}

// The shares of the gradients of weight and bias for long rows: a block takes 256 V columns of some of the rows.
template <class T, int V, bool CENTERED>
__global__ void __launch_bounds__(256, 4)
    standardize_parts(const T* __restrict__ gradient, const T* __restrict__ input,
                      const wide<T>* __restrict__ means, const wide<T>* __restrict__ scales,
                      wide<T>* __restrict__ parts, i64 rows, i64 columns) {
    typedef wide<T> A;
    const i64 column = ((i64)blockIdx.x * 256 + threadIdx.x) * V;
    if (column >= columns) return;
    A products[V] = {}, sums[V] = {};
    for (i64 row = blockIdx.y; row < rows; row += gridDim.y) {
        const Pack<T, V> g = load<V>(gradient + row * columns + column), x = load<V>(input + row * columns + column);
        const A mean = CENTERED ? means[row] : A(0), scale = scales[row];
#pragma unroll
        for (int i = 0; i < V; ++i) {
            products[i] += (A)g.value[i] * (((A)x.value[i] - mean) * scale);
            sums[i] += (A)g.value[i];
        }
    }
    parts += blockIdx.y * 2 * columns + column;
#pragma unroll
    for (int i = 0; i < V; ++i) {
        parts[i] = products[i];
        parts[columns + i] = sums[i];
    }
}

// What batch normalisation needs to know of each channel: the moments of its values forward, and backward the sums
// of the gradients and of their products with the distances of the values from the mean.
template <class T>
struct Values {
    typedef wide<T> A;
    typedef Moments<A> Found;
    const T* input;

    template <int V>
    __device__ __forceinline__ void visit(Found& found, i64 at, A) const {
        const Pack<T, V> x = load<V>(input + at);
        Found mine;
        mine.count = V;
#pragma unroll
        for (int i = 0; i < V; ++i) mine.mean += (A)x.value[i];
        mine.mean /= V;
#pragma unroll
        for (int i = 0; i < V; ++i) mine.squares += ((A)x.value[i] - mine.mean) * ((A)x.value[i] - mine.mean);
        found.add(mine);
    }
};

template <class T>
struct Slopes {
    typedef wide<T> A;
    typedef Sums<A> Found;
    const T *gradient, *input;

    template <int V>
    __device__ __forceinline__ void visit(Found& found, i64 at, A mean) const {
        const Pack<T, V> g = load<V>(gradient + at), x = load<V>(input + at);
#pragma unroll
        for (int i = 0; i < V; ++i) {
            found.first += (A)g.value[i];
            found.second += (A)g.value[i] * ((A)x.value[i] - mean);
        }
    }
};

// The blocks (c, 0), (c, 1), ... look at channel c of (samples, channels, length), whose packs, one sample's after
// the other's, follow each other in the order of their threads.
template <int V, class What>
__device__ __forceinline__ void over_channel(const What& what, const typename What::A* means,
                                             typename What::Found* parts, i64 samples, i64 channels, u32 length) {
    typename What::Found found;
    const u32 packs = length / V, first = blockIdx.y * 256 + threadIdx.x, step = gridDim.y * 256;
    const i64 channel = blockIdx.x;
    const typename What::A mean = means ? means[channel] : 0;
    u32 pack = first % packs;
    i64 sample = first / packs;
    const u32 over_packs = step % packs, over_samples = step / packs;
    while (sample < samples) {
        what.template visit<V>(found, (sample * channels + channel) * length + (i64)pack * V, mean);
        pack += over_packs;
        sample += over_samples;
        if (pack >= packs) pack -= packs, ++sample;
    }
    found = across<256>(found, Joined());
    if (threadIdx.x == 0) parts[channel * gridDim.y + blockIdx.y] = found;
}

// The same for (samples, channels): a block of 32 x 8 threads looks at 32 channels of some samples, so that its
// accesses are coalesced.
template <class What>
__device__ __forceinline__ void over_columns(const What& what, const typename What::A* means,
                                             typename What::Found* parts, i64 samples, i64 channels) {
    typedef typename What::Found Found;
    __shared__ Found shared[8][32];
    const int lane = threadIdx.x % 32, line = threadIdx.x / 32;
    const i64 channel = (i64)blockIdx.x * 32 + lane;
    Found found;
    if (channel < channels) {
        const typename What::A mean = means ? means[channel] : 0;
        for (i64 sample = (i64)blockIdx.y * 8 + line; sample < samples; sample += gridDim.y * 8)
            what.template visit<1>(found, sample * channels + channel, mean);
    }
    shared[line][lane] = found;
    __syncthreads();
    if (line == 0 && channel < channels) {
        for (int other = 1; other < 8; ++other) found.add(shared[other][lane]);
        parts[channel * gridDim.y + blockIdx.y] = found;
    }
}

template <class T, int V, bool COLUMNS>
__global__ void __launch_bounds__(256, 4) channel_moments(const T* __restrict__ input, Moments<wide<T>>* parts,
                                                       i64 samples, i64 channels, u32 length) {
    const Values<T> what = {input};
    const wide<T>* none = nullptr;
    if (COLUMNS) over_columns(what, none, parts, samples, channels);
    else over_channel<V>(what, none, parts, samples, channels, length);
}

template <class T, int V, bool COLUMNS>
__global__ void __launch_bounds__(256, 4)
    channel_slopes(const T* __restrict__ gradient, const T* __restrict__ input, const wide<T>* __restrict__ means,
                   Sums<wide<T>>* parts, i64 samples, i64 channels, u32 length) {
    const Slopes<T> what = {gradient, input};
    if (COLUMNS) over_columns(what, means, parts, samples, channels);
    else over_channel<V>(what, means, parts, samples, channels, length);
}

// Mean and variance of each channel from its parts; one thread each.
template <class T>
__global__ void __launch_bounds__(128)
    merge_moments(const Moments<T>* __restrict__ parts, int count, i64 channels, T* __restrict__ means,
                  T* __restrict__ variances) {
    const i64 channel = (i64)blockIdx.x * 128 + threadIdx.x;
    if (channel >= channels) return;
    Moments<T> found;
    for (int i = 0; i < count; ++i) found.add(parts[channel * count + i]);
    means[channel] = found.mean;
    variances[channel] = found.squares / found.count;
}

// The gradients of weight and bias of each channel, and what its values are multiplied by and added to backward:
// dx = gradient * slopes[0] + (x - mean) * slopes[1] + slopes[2].
template <class T, class W>
__global__ void __launch_bounds__(128)
    merge_slopes(const Sums<T>* __restrict__ parts, int count, i64 channels, T size, const W* __restrict__ weight,
                 const T* __restrict__ scales, T* __restrict__ slopes, W* __restrict__ of_weight,
                 W* __restrict__ of_bias) {
    const i64 channel = (i64)blockIdx.x * 128 + threadIdx.x;
    if (channel >= channels) return;
    Sums<T> found;
    for (int i = 0; i < count; ++i) found.add(parts[channel * count + i]);
    const T scale = scales[channel], factor = weight ? scale * (T)weight[channel] : scale;
    slopes[channel] = factor;
    slopes[channels + channel] = -factor * scale * scale * found.second / size;
    slopes[2 * channels + channel] = -factor * found.first / size;
    if (of_weight) {
        of_weight[channel] = (W)(found.second * scale);
        of_bias[channel] = (W)found.first;
    }
}

// The channel of an element of (samples, channels, length); 32-bit divisions, where they do, are far shorter.
__device__ __forceinline__ u32 channel_of(i64 at, i64 size, u32 channels, u32 length) {
    return size < (1ll << 32) ? (u32)at / length % channels : (u32)(at / length % channels);
}

// Every element of (samples, channels, length) by what its channel says: one read and one write. A pack lies in
// one channel, or (length 1) in neighbouring ones.
template <class T, class W, int V>
__global__ void __launch_bounds__(256, 4)
    channel_standardize(const T* __restrict__ input, const W* __restrict__ weight, const W* __restrict__ bias,
                        const wide<T>* __restrict__ means, const wide<T>* __restrict__ variances,
                        T* __restrict__ out, i64 size, u32 channels, u32 length, double eps) {
    typedef wide<T> A;
    over<V, 4, 256>(size, [&](i64 at, auto width) {
        constexpr int P = decltype(width)::value;
        const Pack<T, P> x = load<P>(input + at);
        Pack<T, P> made;
        u32 channel = channel_of(at, size, channels, length);
        A mean, scale, shift;
#pragma unroll
        for (int i = 0; i < P; ++i) {
            if (i == 0 || length == 1) {
                mean = means[channel];
                scale = 1 / sqrt(variances[channel] + (A)eps) * (weight ? (A)weight[channel] : A(1));
                shift = bias ? (A)bias[channel] : A(0);
                ++channel;
            }
            made.value[i] = (T)(((A)x.value[i] - mean) * scale + shift);
        }
        store<P>(out + at, made);
    });
}

template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    channel_slope(const T* __restrict__ gradient, const T* __restrict__ input, const wide<T>* __restrict__ means,
                  const wide<T>* __restrict__ slopes, T* __restrict__ out, i64 size, u32 channels, u32 length) {
    typedef wide<T> A;
    // Two packs of eight would need more registers than there are.
    over<V, V == 8 ? 1 : 2, 256>(size, [&](i64 at, auto width) {
        constexpr int P = decltype(width)::value;
        const Pack<T, P> g = load<P>(gradient + at), x = load<P>(input + at);
        Pack<T, P> made;
        u32 channel = channel_of(at, size, channels, length);
        A mean, of_g, of_x, shift;
#pragma unroll
        for (int i = 0; i < P; ++i) {
            if (i == 0 || length == 1) {
                mean = means[channel];
                of_g = slopes[channel];
                of_x = slopes[channels + channel];
                shift = slopes[2 * channels + channel];
                ++channel;
            }
            made.value[i] = (T)((A)g.value[i] * of_g + ((A)x.value[i] - mean) * of_x + shift);
        }
        store<P>(out + at, made);
    });
}
