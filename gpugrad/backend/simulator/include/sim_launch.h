// Typed entry points: what a kernel's parameters are, and how it is called over a grid.
#pragma once

extern "C" {
// Its fields are those of gpugrad/backend/simulator/launch.py.
struct cuda_sim_launch {
    unsigned grid[3], block[3], shared;
    uint64_t order;
};
struct cuda_sim_parameter {
    int size, kind, pointee_size, pointee_kind;  // kinds: below
};
}

// The shared variables of the file, side by side; absent if it has none.
extern "C" {
extern char __start_cuda_sim_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_cuda_sim_shared[] __attribute__((weak, visibility("hidden")));
}

namespace cuda_sim {

enum Kind { OTHER, BOOL, SIGNED, UNSIGNED, FLOATING, POINTER, BFLOAT16 };

template <class T>
constexpr int kind_of() {
    using V = std::remove_cv_t<T>;
    return std::is_pointer<V>::value                                              ? POINTER
           : std::is_same<V, bool>::value                                         ? BOOL
           : std::is_floating_point<V>::value || std::is_same<V, __half>::value   ? FLOATING
           : std::is_same<V, __nv_bfloat16>::value                                ? BFLOAT16
           : std::is_integral<V>::value || std::is_enum<V>::value
               ? (std::is_signed<V>::value ? SIGNED : UNSIGNED)
               : OTHER;
}

template <class T>
struct Size { static constexpr int value = sizeof(T); };
template <>
struct Size<void> { static constexpr int value = 0; };
template <>
struct Size<const void> { static constexpr int value = 0; };

template <class T>
constexpr cuda_sim_parameter describe_one() {
    using V = std::remove_cv_t<T>;
    using P = std::remove_pointer_t<V>;
    return {sizeof(V), kind_of<V>(), std::is_pointer<V>::value ? Size<P>::value : 0,
            std::is_pointer<V>::value ? kind_of<P>() : 0};
}

template <class... A>
int describe(void (*)(A...), cuda_sim_parameter* into) {
    const cuda_sim_parameter all[] = {describe_one<A>()..., {}};
    if (into) std::memcpy(into, all, sizeof...(A) * sizeof(cuda_sim_parameter));
    return (int)sizeof...(A);
}

template <class T>
T argument(void* from) {
    T value;
    std::memcpy((void*)&value, from, sizeof value);
    return value;
}

static void** arguments;

template <auto kernel, class... A, size_t... I>
void call(void (*)(A...), std::index_sequence<I...>) {
    kernel(argument<std::remove_cv_t<A>>(arguments[I])...);
}

template <auto kernel, class... A>
void call_with(void (*function)(A...)) {
    call<kernel>(function, std::make_index_sequence<sizeof...(A)>());
}

template <auto kernel>
void thread_body() { call_with<kernel>(kernel); }

inline void poison_shared(unsigned dynamic) {
    if (__start_cuda_sim_shared)
        std::memset(__start_cuda_sim_shared, 0xff, __stop_cuda_sim_shared - __start_cuda_sim_shared);
    std::memset(dynamic_shared, 0xff, dynamic);
}

// Returns what went wrong, or null.
template <auto kernel>
const char* launch(const cuda_sim_launch* how, void** args) {
    blockDim = {how->block[0], how->block[1], how->block[2]};
    gridDim = {how->grid[0], how->grid[1], how->grid[2]};
    count = (int)(blockDim.x * blockDim.y * blockDim.z);
    arguments = args;
    body = thread_body<kernel>;
    order_state = how->order * 0x9E3779B97F4A7C15ull | 1;
    failed = false;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(dynamic_shared, MAX_SHARED);
    __asan_poison_memory_region(dynamic_shared + how->shared, MAX_SHARED - how->shared);
#endif
    const uint64_t blocks = (uint64_t)gridDim.x * gridDim.y * gridDim.z;
    for (uint64_t k = 0; k < blocks && !failed; ++k) {
        const uint64_t b = how->order == 1 ? blocks - 1 - k : k;
        blockIdx = {(unsigned)(b % gridDim.x), (unsigned)(b / gridDim.x % gridDim.y),
                    (unsigned)(b / gridDim.x / gridDim.y)};
        poison_shared(how->shared);
        run_block(how->order);
    }
#if defined(__SANITIZE_ADDRESS__)
    if (failed && stacks) __asan_unpoison_memory_region(stacks, (size_t)MAX_THREADS * STACK);
#endif
    return failed ? message : nullptr;
}

}  // namespace cuda_sim
