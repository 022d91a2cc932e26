// The threads of a block, each a fiber with a small stack of its own, and the barriers between them.
//
// A fiber runs until it waits (barrier, shuffle, vote) or returns. When all have, the scheduler looks for
// waiting groups that are complete and lets them go on; when there is none, some threads wait for others
// that will never come, and the launch ends with an error that says who waits where. The order in which
// threads and warps run is chosen by a seed, so that code that relies on one order fails.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static const int warpSize = 32;

namespace cuda_sim {

enum { MAX_THREADS = 1024, WARP = 32, MAX_SHARED = 227 << 10 };
#if defined(__SANITIZE_ADDRESS__)
enum { STACK = 512 << 10 };
#else
enum { STACK = 128 << 10 };
#endif

// Saves the registers that a call keeps, and the stack pointer in *from; goes on where `to` was saved.
#if defined(__x86_64__) && defined(__ELF__)
extern "C" void cuda_sim_switch(void** from, void* to) __attribute__((visibility("hidden")));
__asm__(
    ".text\n.globl cuda_sim_switch\n.hidden cuda_sim_switch\n.type cuda_sim_switch,@function\ncuda_sim_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n");
struct Context {
    void* place;
    void prepare(char* stack, size_t size, void (*entry)()) {
        void** top = reinterpret_cast<void**>(stack + size);
        *--top = nullptr;  // at the entry of a function the stack is 8 off a multiple of 16
        *--top = reinterpret_cast<void*>(entry);
        for (int k = 0; k < 6; ++k) *--top = nullptr;
        place = top;
    }
    void go(Context& to) { cuda_sim_switch(&place, to.place); }
};
#elif defined(__aarch64__) && defined(__ELF__)
extern "C" void cuda_sim_switch(void** from, void* to) __attribute__((visibility("hidden")));
__asm__(
    ".text\n.globl cuda_sim_switch\n.hidden cuda_sim_switch\n.type cuda_sim_switch,%function\ncuda_sim_switch:\n"
    "sub sp, sp, #160\nstp x19, x20, [sp, #0]\nstp x21, x22, [sp, #16]\nstp x23, x24, [sp, #32]\n"
    "stp x25, x26, [sp, #48]\nstp x27, x28, [sp, #64]\nstp x29, x30, [sp, #80]\nstp d8, d9, [sp, #96]\n"
    "stp d10, d11, [sp, #112]\nstp d12, d13, [sp, #128]\nstp d14, d15, [sp, #144]\n"
    "mov x9, sp\nstr x9, [x0]\nmov sp, x1\n"
    "ldp x19, x20, [sp, #0]\nldp x21, x22, [sp, #16]\nldp x23, x24, [sp, #32]\n"
    "ldp x25, x26, [sp, #48]\nldp x27, x28, [sp, #64]\nldp x29, x30, [sp, #80]\nldp d8, d9, [sp, #96]\n"
    "ldp d10, d11, [sp, #112]\nldp d12, d13, [sp, #128]\nldp d14, d15, [sp, #144]\nadd sp, sp, #160\nret\n");
struct Context {
    void* place;
    void prepare(char* stack, size_t size, void (*entry)()) {
        void** top = reinterpret_cast<void**>(stack + size) - 20;
        std::memset(top, 0, 160);
        top[11] = reinterpret_cast<void*>(entry);
        place = top;
    }
    void go(Context& to) { cuda_sim_switch(&place, to.place); }
};
#else
#include <ucontext.h>
struct Context {
    ucontext_t place;
    void prepare(char* stack, size_t size, void (*entry)()) {
        getcontext(&place);
        place.uc_stack.ss_sp = stack;
        place.uc_stack.ss_size = size;
        place.uc_link = nullptr;
        makecontext(&place, entry, 0);
    }
    void go(Context& to) { swapcontext(&place, &to.place); }
};
#endif

enum State { READY, AT_BARRIER, IN_WARP, DONE };

// What a warp does together.
enum Collective { SYNC, SHUFFLE, ANY, ALL, BALLOT, MATCH, ADD, MIN, MAX, UMIN, UMAX, AND, OR, XOR };
enum Vote { NONE, COUNT, EVERY, SOME };

struct Thread {
    Context context;
    State state;
    int line;          // where it waits
    int vote;          // of a barrier
    Collective what;   // of a warp
    unsigned mask;
    int source;        // the lane a shuffle reads
    uint64_t value, result;
    uint3 index;
#if defined(__SANITIZE_ADDRESS__)
    void* fake_stack;
#endif
};

static Thread threads[MAX_THREADS];
static Context scheduler;
inline char* stacks;  // one for all compiled libraries: a process may have only so many mappings
static int count, current;
static void (*body)();
static char message[1024];
static bool failed;
alignas(1024) static unsigned char dynamic_shared[MAX_SHARED];

#if defined(__SANITIZE_ADDRESS__)
static const void* main_stack;
static size_t main_size;
static void* main_fake;
#endif

// Gives the processor to the scheduler; returns when this thread may go on.
inline void yield(bool last = false) {
#if defined(__SANITIZE_ADDRESS__)
    Thread& self = threads[current];
    __sanitizer_start_switch_fiber(last ? nullptr : &self.fake_stack, main_stack, main_size);
#endif
    threads[current].context.go(scheduler);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(threads[current].fake_stack, nullptr, nullptr);
#endif
}

inline void resume(int t) {
    current = t;
    threadIdx = threads[t].index;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&main_fake, stacks + (size_t)t * STACK, STACK);
#endif
    scheduler.go(threads[t].context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(main_fake, nullptr, nullptr);
#endif
}

inline void entry() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &main_stack, &main_size);
#endif
    body();
    threads[current].state = DONE;
    yield(true);
    __builtin_unreachable();
}

// Ends the launch with an error; the first one counts. Called by a thread, it does not return.
template <class... Args>
inline void fail(const char* format, Args... args) {
    if (!failed) std::snprintf(message, sizeof message, format, args...);
    failed = true;
}

inline void fail_here(const char* what, int line) {
    const uint3 i = threads[current].index;
    fail("%s at line %d, block (%u, %u, %u), thread (%u, %u, %u)", what, line, blockIdx.x, blockIdx.y, blockIdx.z,
         i.x, i.y, i.z);
    yield();
}

// Pseudo-random numbers for the order of threads (Marsaglia's xorshift).
static uint64_t order_state;
inline unsigned pick(unsigned below) {
    order_state ^= order_state << 13;
    order_state ^= order_state >> 7;
    order_state ^= order_state << 17;
    return (unsigned)((order_state >> 16) % below);
}

inline void shuffle(int* items, int n) {
    for (int k = n - 1; k > 0; --k) {
        const int other = (int)pick(k + 1), item = items[k];
        items[k] = items[other];
        items[other] = item;
    }
}

// 0: ascending; 1: descending; else warps, and lanes within them, in an order drawn from the seed.
inline void choose_order(int* order, uint64_t seed) {
    if (seed < 2) {
        for (int t = 0; t < count; ++t) order[t] = seed ? count - 1 - t : t;
        return;
    }
    int warps[MAX_THREADS / WARP], n = (count + WARP - 1) / WARP, at = 0;
    for (int w = 0; w < n; ++w) warps[w] = w;
    shuffle(warps, n);
    for (int w = 0; w < n; ++w) {
        const int first = at;
        for (int t = warps[w] * WARP; t < count && t < (warps[w] + 1) * WARP; ++t) order[at++] = t;
        shuffle(order + first, at - first);
    }
}

bool release_warp(int first);

// Lets the block pass its barrier if every thread is at the same one.
inline bool release_block() {
    int all = 1, any = 0, sum = 0;
    for (int t = 0; t < count; ++t) {
#ifdef GPUGRAD_CUDA_SIM_LENIENT  // as devices are, which CuPy's own kernels count on
        if (threads[t].state == DONE) continue;
        if (threads[t].state != AT_BARRIER) return false;
#else
        if (threads[t].state != AT_BARRIER || threads[t].line != threads[0].line) return false;
#endif
        const bool vote = threads[t].value != 0;
        all &= vote;
        any |= vote;
        sum += vote;
    }
    for (int t = 0; t < count; ++t) {
        threads[t].result = threads[t].vote == COUNT ? sum : threads[t].vote == EVERY ? all : any;
        if (threads[t].state == AT_BARRIER) threads[t].state = READY;
    }
    return true;
}

inline void report_deadlock() {
    static const char* const where[] = {"is ready", "waits at a barrier", "waits for its warp", "has returned"};
    int length = std::snprintf(message, sizeof message, "threads wait for each other forever in block (%u, %u, %u): ",
                               blockIdx.x, blockIdx.y, blockIdx.z);
    // One thread of each kind of waiting says enough.
    int shown = 0;
    for (int t = 0; t < count && shown < 6; ++t) {
        bool known = false;
        for (int other = 0; other < t && !known; ++other) {
            known = threads[other].state == threads[t].state &&
                    (threads[t].state == DONE ||
                     (threads[other].line == threads[t].line && threads[other].mask == threads[t].mask));
        }
        if (known) continue;
        const Thread& it = threads[t];
        length += std::snprintf(message + length, sizeof message - length, "%sthread (%u, %u, %u) %s",
                                shown++ ? "; " : "", it.index.x, it.index.y, it.index.z, where[it.state]);
        if (it.state == AT_BARRIER || it.state == IN_WARP)
            length += std::snprintf(message + length, sizeof message - length, " at line %d", it.line);
        if (it.state == IN_WARP)
            length += std::snprintf(message + length, sizeof message - length, " with mask 0x%08x", it.mask);
    }
    failed = true;
}

inline void run_block(uint64_t seed) {
    if (!stacks) {
        void* memory = mmap(nullptr, (size_t)MAX_THREADS * STACK, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) return fail("no memory for the stacks of a block's threads");
        stacks = (char*)memory;
        // The last page of each stack, which grows downwards, cannot be touched.
        for (int t = 0; t < MAX_THREADS; ++t) mprotect(stacks + (size_t)t * STACK, 4096, PROT_NONE);
    }
    int order[MAX_THREADS];
    for (int t = 0; t < count; ++t) {
        Thread& it = threads[t];
        // Tops at different distances, or all would compete for the same lines of the cache.
        it.context.prepare(stacks + (size_t)t * STACK, STACK - t % 61 * 128, entry);
        it.state = READY;
        it.mask = 0;
        it.index = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
    }
    while (true) {
        choose_order(order, seed);
        bool done = true;
        for (int k = 0; k < count; ++k) {
            if (threads[order[k]].state == READY) resume(order[k]);
            if (failed) return;
            done &= threads[order[k]].state == DONE;
        }
        if (done) return;
        bool moved = false;
        for (int first = 0; first < count; first += WARP) moved |= release_warp(first);
        if (failed) return;
        if (!moved && !release_block()) return report_deadlock();
    }
}

inline uint64_t barrier(int line, int vote, int value) {
    Thread& self = threads[current];
    self.state = AT_BARRIER;
    self.line = line;
    self.vote = vote;
    self.value = (uint64_t)(value != 0);
    yield();
    return threads[current].result;
}

}  // namespace cuda_sim

static inline void __syncthreads(int line = __builtin_LINE()) { cuda_sim::barrier(line, cuda_sim::NONE, 0); }
static inline int __syncthreads_count(int predicate, int line = __builtin_LINE()) {
    return (int)cuda_sim::barrier(line, cuda_sim::COUNT, predicate);
}
static inline int __syncthreads_and(int predicate, int line = __builtin_LINE()) {
    return (int)cuda_sim::barrier(line, cuda_sim::EVERY, predicate);
}
static inline int __syncthreads_or(int predicate, int line = __builtin_LINE()) {
    return (int)cuda_sim::barrier(line, cuda_sim::SOME, predicate);
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __threadfence_system() {}
static inline void __trap(int line = __builtin_LINE()) { cuda_sim::fail_here("__trap()", line); }
#undef assert
#define assert(condition) ((condition) ? (void)0 : cuda_sim::fail_here("assertion failed: " #condition, __LINE__))
