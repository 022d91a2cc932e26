// What the lanes of a warp do together: shuffles, votes, reductions. Every lane that the mask names must call
// the same function with the same mask. The device lets lanes go on without those that have returned, if they
// returned early enough; here they may be missing only if the block never had them.
#pragma once

namespace cuda_sim {

inline uint64_t combine(Collective what, uint64_t a, uint64_t b) {
    switch (what) {
        case ADD: return a + b;
        case MIN: return (int)a < (int)b ? a : b;
        case MAX: return (int)a > (int)b ? a : b;
        case UMIN: return (unsigned)a < (unsigned)b ? a : b;
        case UMAX: return (unsigned)a > (unsigned)b ? a : b;
        case AND: return a & b;
        case OR: return a | b;
        default: return a ^ b;
    }
}

// The results of a complete group of lanes.
inline void finish(int first, unsigned group) {
    unsigned ballot = 0;
    uint64_t total = 0;
    bool started = false;
    for (int lane = 0; lane < WARP; ++lane) {
        if (!(group >> lane & 1u)) continue;
        const Thread& it = threads[first + lane];
        if (it.value) ballot |= 1u << lane;
        total = started ? combine(it.what, total, it.value) : it.value;
        started = true;
    }
    for (int lane = 0; lane < WARP; ++lane) {
        if (!(group >> lane & 1u)) continue;
        Thread& it = threads[first + lane];
        switch (it.what) {
            case SYNC: break;
            case SHUFFLE:
                if (!(group >> it.source & 1u)) {
                    fail("a shuffle at line %d reads lane %d, which takes no part in it (mask 0x%08x), "
                         "in block (%u, %u, %u), thread (%u, %u, %u)",
                         it.line, it.source, it.mask, blockIdx.x, blockIdx.y, blockIdx.z, it.index.x, it.index.y,
                         it.index.z);
                    return;
                }
                it.result = threads[first + it.source].value;
                break;
            case ANY: it.result = ballot != 0; break;
            case ALL: it.result = ballot == group; break;
            case BALLOT: it.result = ballot; break;
            case MATCH:
                it.result = 0;
                for (int other = 0; other < WARP; ++other)
                    if ((group >> other & 1u) && threads[first + other].value == it.value) it.result |= 1u << other;
                break;
            default: it.result = total;
        }
        it.state = READY;
    }
}

// Lets the groups of a warp go on that are complete; whether there was one.
inline bool release_warp(int first) {
    unsigned existing = 0, left = 0;
    for (int lane = 0; lane < WARP && first + lane < count; ++lane) {
        existing |= 1u << lane;
        if (threads[first + lane].state == IN_WARP) left |= 1u << lane;
    }
    bool moved = false;
    while (left && !failed) {
        const int leader = __builtin_ctz(left);
        const Thread& it = threads[first + leader];
        unsigned group = 0;
        for (int lane = leader; lane < WARP; ++lane) {
            if (!(left >> lane & 1u)) continue;
            const Thread& other = threads[first + lane];
            if (other.mask == it.mask && other.what == it.what && other.line == it.line)
                group |= 1u << lane;
        }
        left &= ~group;
        if (group == (it.mask & existing)) {
            finish(first, group);
            moved = true;
        }
    }
    return moved;
}

inline uint64_t collective(Collective what, unsigned mask, uint64_t value, int source, int line) {
    Thread& self = threads[current];
    if (!(mask >> (current % WARP) & 1u)) {
        fail("line %d: lane %d calls a warp function whose mask 0x%08x does not name it, in block (%u, %u, %u), "
             "thread (%u, %u, %u)",
             line, current % WARP, mask, blockIdx.x, blockIdx.y, blockIdx.z, self.index.x, self.index.y, self.index.z);
        yield();
    }
    self.state = IN_WARP;
    self.what = what;
    self.mask = mask;
    self.value = value;
    self.source = source;
    self.line = line;
    yield();
    return threads[current].result;
}

template <class T>
inline T exchange(unsigned mask, T value, int source, int line) {
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "shuffles move at most 8 bytes");
    uint64_t raw = 0;
    std::memcpy(&raw, &value, sizeof value);
    raw = collective(SHUFFLE, mask, raw, source, line);
    std::memcpy(&value, &raw, sizeof value);
    return value;
}

inline int lane() { return current % WARP; }

}  // namespace cuda_sim

static inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE()) {
    cuda_sim::collective(cuda_sim::SYNC, mask, 0, 0, line);
}
// Out of a segment of `width` lanes, a lane reads itself.
template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, int line = __builtin_LINE()) {
    const int base = cuda_sim::lane() & ~(width - 1);
    return cuda_sim::exchange(mask, value, base + (source & (width - 1)), line);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE()) {
    const int lane = cuda_sim::lane(), base = lane & ~(width - 1), source = lane - (int)delta;
    return cuda_sim::exchange(mask, value, source < base ? lane : source, line);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE()) {
    const int lane = cuda_sim::lane(), end = (lane & ~(width - 1)) + width, source = lane + (int)delta;
    return cuda_sim::exchange(mask, value, source >= end ? lane : source, line);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, int line = __builtin_LINE()) {
    const int lane = cuda_sim::lane(), end = (lane & ~(width - 1)) + width, source = lane ^ bits;
    return cuda_sim::exchange(mask, value, source >= end ? lane : source, line);
}

#define CUDA_SIM_VOTE(NAME, WHAT, RESULT)                                                           \
    static inline RESULT NAME(unsigned mask, int predicate, int line = __builtin_LINE()) {          \
        return (RESULT)cuda_sim::collective(cuda_sim::WHAT, mask, predicate != 0, 0, line);         \
    }
CUDA_SIM_VOTE(__any_sync, ANY, int)
CUDA_SIM_VOTE(__all_sync, ALL, int)
CUDA_SIM_VOTE(__ballot_sync, BALLOT, unsigned)

#define CUDA_SIM_REDUCE(NAME, T, WHAT)                                                              \
    static inline T NAME(unsigned mask, T value, int line = __builtin_LINE()) {                     \
        return (T)cuda_sim::collective(cuda_sim::WHAT, mask, (uint64_t)value, 0, line);             \
    }
CUDA_SIM_REDUCE(__reduce_add_sync, unsigned, ADD)
CUDA_SIM_REDUCE(__reduce_add_sync, int, ADD)
CUDA_SIM_REDUCE(__reduce_min_sync, unsigned, UMIN)
CUDA_SIM_REDUCE(__reduce_min_sync, int, MIN)
CUDA_SIM_REDUCE(__reduce_max_sync, unsigned, UMAX)
CUDA_SIM_REDUCE(__reduce_max_sync, int, MAX)
CUDA_SIM_REDUCE(__reduce_and_sync, unsigned, AND)
CUDA_SIM_REDUCE(__reduce_or_sync, unsigned, OR)
CUDA_SIM_REDUCE(__reduce_xor_sync, unsigned, XOR)

template <class T>
inline unsigned __match_any_sync(unsigned mask, T value, int line = __builtin_LINE()) {
    uint64_t raw = 0;
    std::memcpy(&raw, &value, sizeof value);
    return (unsigned)cuda_sim::collective(cuda_sim::MATCH, mask, raw, 0, line);
}

// Which lanes run together is chance on the device; here it is all that have not returned.
static inline unsigned __activemask() {
    unsigned mask = 0;
    const int first = cuda_sim::current / 32 * 32;
    for (int lane = 0; lane < 32 && first + lane < cuda_sim::count; ++lane)
        if (cuda_sim::threads[first + lane].state != cuda_sim::DONE) mask |= 1u << lane;
    return mask;
}
