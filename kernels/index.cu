// Rows that fall on the same place, combined, as gradients of embedding, gather and indexing need it: the same to
// the last bit every time, since no floating-point number is added atomically.
//
// The places are sorted, stably, by a radix sort of 8 bits a pass (28 bytes of traffic for each place and pass);
// then each place combines its rows in their order. Runs of sorted places are cut into equal tiles, so that many rows
// on one place are the work of many threads. The rows are read once, the result is written once.
#include "common.cuh"

constexpr int TILE = 2048, WARPS = 8, EACH = TILE / WARPS;

// Reports what is neither in [low, limit) nor `ignored`.
template <class I>
__global__ void __launch_bounds__(256)
    check_range(const I* __restrict__ index, i64 size, i64 low, i64 limit, i64 ignored, u64* fault, i64 site) {
    const i64 at = (i64)blockIdx.x * 256 + threadIdx.x;
    if (at >= size) return;
    const i64 found = index[at];
    if ((found < low || found >= limit) && found != ignored) report(fault, site, found, limit);
}

// One dimension's part of places that are counted through several: places * length + part. Negative parts count
// from the end; what is out of range makes the place one that there is not, however negative places are taken.
template <class I>
__global__ void __launch_bounds__(256)
    ravel_index(const I* __restrict__ part, i64 size, i64 length, i64* __restrict__ places, bool first, u64* fault,
                i64 site) {
    const i64 at = (i64)blockIdx.x * 256 + threadIdx.x;
    if (at >= size) return;
    i64 place = part[at];
    if (place < 0) place += length;
    const i64 before = first ? 0 : places[at];
    const bool inside = place >= 0 && place < length;
    if (!inside) report(fault, site, part[at], length);
    places[at] = before < 0 || !inside ? -((i64)1 << 62) : before * length + place;
}

// Places as unsigned keys: negative ones count from the end, and what is out of range comes after all others.
template <class I>
__global__ void __launch_bounds__(256) sort_keys(const I* __restrict__ places, i64 size, i64 count,
                                                 u32* __restrict__ keys, u32* __restrict__ order) {
    const i64 at = (i64)blockIdx.x * 256 + threadIdx.x;
    if (at >= size) return;
    i64 place = places[at];
    if (place < 0) place += count;
    keys[at] = place >= 0 && place < count ? (u32)place : (u32)count;
    order[at] = (u32)at;
}

// How often each value of a digit occurs in each tile: counts[digit][tile].
extern "C" __global__ void __launch_bounds__(256) sort_count(const u32* __restrict__ keys, i64 size, int shift,
                                                             u32* __restrict__ counts) {
    __shared__ u32 found[256];
    found[threadIdx.x] = 0;
    __syncthreads();
    const i64 start = (i64)blockIdx.x * TILE;
    for (i64 at = start + threadIdx.x; at < start + TILE && at < size; at += 256)
        atomicAdd(&found[keys[at] >> shift & 255], 1u);
    __syncthreads();
    counts[(i64)threadIdx.x * gridDim.x + blockIdx.x] = found[threadIdx.x];
}

// The sum of what the threads before this one of a block of 256 have, and of all of them.
__device__ __forceinline__ u32 sum_before(u32 mine, u32& all) {
    __shared__ u32 sums[WARPS];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    u32 sum = mine;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
        const u32 other = __shfl_up_sync(0xffffffffu, sum, step);
        if (lane >= step) sum += other;
    }
    if (lane == 31) sums[warp] = sum;
    __syncthreads();
    u32 before = sum - mine;
    all = 0;
#pragma unroll
    for (int k = 0; k < WARPS; ++k) {
        if (k < warp) before += sums[k];
        all += sums[k];
    }
    __syncthreads();
    return before;
}

// Each count becomes the sum of those before it of the same digit, for which there is a block.
extern "C" __global__ void __launch_bounds__(256) sort_scan(u32* __restrict__ counts, i64 tiles,
                                                            u32* __restrict__ totals) {
    counts += blockIdx.x * tiles;
    u32 total = 0;
    for (i64 start = 0; start < tiles; start += 256) {
        const i64 at = start + threadIdx.x;
        u32 all;
        const u32 before = sum_before(at < tiles ? counts[at] : 0, all);
        if (at < tiles) counts[at] = total + before;
        total += all;
    }
    if (threadIdx.x == 0) totals[blockIdx.x] = total;
}

// Moves keys and order to where the scanned counts say. A warp goes through its part of the tile 32 keys at a time;
// lanes with equal digits find their rank among each other by a vote.
extern "C" __global__ void __launch_bounds__(256)
    sort_move(const u32* __restrict__ keys, const u32* __restrict__ order, i64 size, int shift,
              const u32* __restrict__ counts, const u32* __restrict__ totals, u32* __restrict__ keys_out,
              u32* __restrict__ order_out) {
    __shared__ u32 next[WARPS][256];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int k = 0; k < WARPS; ++k) next[k][threadIdx.x] = 0;
    __syncthreads();
    const i64 start = (i64)blockIdx.x * TILE + warp * EACH;
    for (int k = lane; k < EACH; k += 32)
        if (start + k < size) atomicAdd(&next[warp][keys[start + k] >> shift & 255], 1u);
    __syncthreads();
    // Thread d: where each warp's keys of digit d go.
    u32 all;
    u32 place = sum_before(totals[threadIdx.x], all) + counts[(i64)threadIdx.x * gridDim.x + blockIdx.x];
    for (int k = 0; k < WARPS; ++k) {
        const u32 count = next[k][threadIdx.x];
        next[k][threadIdx.x] = place;
        place += count;
    }
    __syncthreads();
    for (int k = lane; k < EACH; k += 32) {
        const bool valid = start + k < size;
        const u32 key = valid ? keys[start + k] : 0;
        const u32 digit = valid ? key >> shift & 255 : 256;
        const u32 equal = __match_any_sync(0xffffffffu, digit);
        const u32 rank = __popc(equal & ((1u << lane) - 1));
        const u32 to = valid ? next[warp][digit] + rank : 0;
        __syncwarp();
        if (valid) {
            if (rank == 0) next[warp][digit] += __popc(equal);
            keys_out[to] = key;
            order_out[to] = order[start + k];
        }
        __syncwarp();
    }
}

// What rows are combined in: integers wrap as they do in their own type.
template <class T>
struct Total {
    typedef wide<T> type;
};
#define IN_64_BITS(T)      \
    template <>            \
    struct Total<T> {      \
        typedef i64 type;  \
    };
IN_64_BITS(bool)
IN_64_BITS(signed char)
IN_64_BITS(unsigned char)
IN_64_BITS(short)
IN_64_BITS(int)
IN_64_BITS(i64)

// NaN is the larger and the smaller of any two.
struct Add {
    template <class A>
    __device__ static A combine(A a, A b) {
        return a + b;
    }
    __device__ static i64 combine(i64 a, i64 b) {
        return (i64)((u64)a + (u64)b);
    }
};
struct Multiply {
    template <class A>
    __device__ static A combine(A a, A b) {
        return a * b;
    }
    __device__ static i64 combine(i64 a, i64 b) {
        return (i64)((u64)a * (u64)b);
    }
};
struct Maximum {
    template <class A>
    __device__ static A combine(A a, A b) {
        return a > b || a != a ? a : b;
    }
};
struct Minimum {
    template <class A>
    __device__ static A combine(A a, A b) {
        return a < b || a != a ? a : b;
    }
};

// `out` combined with what one thread found for a pack of it.
template <int V, class How, class T, class A>
__device__ __forceinline__ void finish(T* out, const A (&found)[V]) {
    Pack<T, V> made = load<V>(out);
#pragma unroll
    for (int i = 0; i < V; ++i) made.value[i] = (T)How::combine((A)made.value[i], found[i]);
    store<V>(out, made);
}

constexpr i64 RUN = 64;

// A thread goes through one pack of the rows of RUN sorted places. What belongs to a place that also has rows in
// other tiles goes to `parts`: two rows for each tile, of the place it begins with and of the one it ends with.
template <class T, int V, class How>
__global__ void __launch_bounds__(256, 4)
    combine_tiles(const T* __restrict__ rows, const u32* __restrict__ order, const u32* __restrict__ keys, i64 size,
                  typename Total<T>::type* __restrict__ parts, T* __restrict__ out, i64 count, u32 columns) {
    typedef typename Total<T>::type A;
    const u32 packs = columns / V;
    const i64 at = (i64)blockIdx.x * 256 + threadIdx.x, tile = at / packs, start = tile * RUN;
    if (start >= size) return;
    const i64 column = at % packs * V, stop = start + RUN < size ? start + RUN : size;
    constexpr int AHEAD = V > 4 ? 2 : 4;
    A found[V];
    for (i64 base = start; base < stop; base += AHEAD) {
        Pack<T, V> ahead[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; ++k)
            if (base + k < stop) ahead[k] = load<V>(rows + (i64)order[base + k] * columns + column);
#pragma unroll
        for (int k = 0; k < AHEAD; ++k) {
            const i64 now = base + k;
            if (now >= stop) break;
            const u32 key = keys[now];
            const bool first = now == start || keys[now - 1] != key, last = now + 1 == stop || keys[now + 1] != key;
#pragma unroll
            for (int i = 0; i < V; ++i) {
                const A value = (A)ahead[k].value[i];
                found[i] = first ? value : How::combine(found[i], value);
            }
            if (!last || key >= count) continue;
            const bool enters = start && keys[start - 1] == key;
            const bool leaves = now + 1 == stop && stop < size && keys[stop] == key;
            if (enters || leaves) {
#pragma unroll
                for (int i = 0; i < V; ++i) parts[(tile * 2 + !enters) * columns + column + i] = found[i];
            } else {
                finish<V, How>(out + key * (i64)columns + column, found);
            }
        }
    }
}

// The parts of places with rows in several tiles are joined in rounds, so that however many rows are on one place, no
// thread goes through more than `many` tiles. In a round each step-th tile has joined those up to the next such one.
// Now the tiles at multiples of step * many do that with them, and the tile in which a place begins goes on to the
// first of those; where the place ends before, it is done.
template <class T, int V, class How>
__global__ void __launch_bounds__(256)
    join_tiles(const u32* __restrict__ keys, i64 size, typename Total<T>::type* __restrict__ parts, T* __restrict__ out,
               i64 count, u32 columns, i64 step, i64 many) {
    typedef typename Total<T>::type A;
    const u32 packs = columns / V;
    const i64 at = (i64)blockIdx.x * 256 + threadIdx.x, tile = at / packs, start = tile * RUN, stop = start + RUN;
    if (start >= size) return;
    parts += at % packs * V;
    A found[V];
    // Joins what a place has in the tiles from `next` to `limit`; says whether it goes on there.
    auto join = [&](i64 own, u32 key, i64 next, i64 limit) {
#pragma unroll
        for (int i = 0; i < V; ++i) found[i] = parts[own * columns + i];
        for (; next * RUN < size && keys[next * RUN] == key; next += step) {
            if (next == limit) return true;
#pragma unroll
            for (int i = 0; i < V; ++i) found[i] = How::combine(found[i], parts[next * 2 * columns + i]);
        }
        return false;
    };
    const auto keep = [&](i64 own) {
#pragma unroll
        for (int i = 0; i < V; ++i) parts[own * columns + i] = found[i];
    };
    if (tile && tile % (step * many) == 0 && keys[start] < count && keys[start - 1] == keys[start]) {
        join(tile * 2, keys[start], tile + step, tile + step * many);
        keep(tile * 2);
    }
    if (stop >= size) return;
    const u32 key = keys[stop];
    if (key >= count || keys[stop - 1] != key || (tile && keys[start - 1] == key)) return;
    const i64 next = (tile + step) / step * step, limit = (next + step * many - 1) / (step * many) * (step * many);
    if (next * RUN >= size || keys[next * RUN] != key) return;
    if (join(tile * 2 + 1, key, next, limit)) keep(tile * 2 + 1);
    else finish<V, How>(out + key * (i64)columns + at % packs * V, found);
}

// Rows picked by number in each of several arrays of `count` rows, a pack for each thread; NaN, and a report, where
// there is no such row. X counts the threads.
template <class T, class I, class X, int V>
__global__ void __launch_bounds__(256) take_rows(const T* __restrict__ rows, const I* __restrict__ places,
                                                 T* __restrict__ out, i64 total, i64 size, i64 count, u32 columns,
                                                 u64* fault, i64 site) {
    const X packs = columns / V, at = (X)blockIdx.x * 256 + threadIdx.x, row = at / packs;
    if (at >= (X)total) return;
    const i64 column = (i64)(at % packs) * V, place = places[row % (X)size], array = row / (X)size;
    Pack<T, V> made;
    if (place >= 0 && place < count) {
        made = load<V>(rows + (array * count + place) * columns + column);
    } else {
        report(fault, site, place, count);
#pragma unroll
        for (int i = 0; i < V; ++i) made.value[i] = (T)__int_as_float(0x7fffffff);
    }
    store<V>(out + (i64)at * V, made);
}
