// Intrinsics: memory, atomics (one thread runs at a time, so plain reads and writes), integers, floating point.
// Included inside a namespace without a name: the C library has an __expf and others of its own.
#pragma once

#define CUDA_SIM_LOAD(NAME)                                 \
    template <class T>                                      \
    inline T NAME(const T* address) { return *address; }
CUDA_SIM_LOAD(__ldg)
CUDA_SIM_LOAD(__ldca)
CUDA_SIM_LOAD(__ldcg)
CUDA_SIM_LOAD(__ldcs)
CUDA_SIM_LOAD(__ldcv)
CUDA_SIM_LOAD(__ldlu)
#define CUDA_SIM_STORE(NAME)                                \
    template <class T>                                      \
    inline void NAME(T* address, T value) { *address = value; }
CUDA_SIM_STORE(__stwb)
CUDA_SIM_STORE(__stcg)
CUDA_SIM_STORE(__stcs)
CUDA_SIM_STORE(__stwt)

#define CUDA_SIM_ATOMIC(NAME, EXPRESSION)                                   \
    template <class T>                                                      \
    inline T NAME(T* address, cuda_sim::As<T> value) {                      \
        const T old = *address;                                             \
        *address = EXPRESSION;                                              \
        return old;                                                         \
    }
CUDA_SIM_ATOMIC(atomicAdd, old + value)
CUDA_SIM_ATOMIC(atomicSub, old - value)
CUDA_SIM_ATOMIC(atomicExch, value)
CUDA_SIM_ATOMIC(atomicMin, (value < old ? value : old))
CUDA_SIM_ATOMIC(atomicMax, (old < value ? value : old))
CUDA_SIM_ATOMIC(atomicAnd, old & value)
CUDA_SIM_ATOMIC(atomicOr, old | value)
CUDA_SIM_ATOMIC(atomicXor, old ^ value)
CUDA_SIM_ATOMIC(atomicInc, (old >= value ? T(0) : old + 1))
CUDA_SIM_ATOMIC(atomicDec, (old == 0 || old > value ? value : old - 1))
template <class T>
inline T atomicCAS(T* address, cuda_sim::As<T> compare, cuda_sim::As<T> value) {
    const T old = *address;
    if (std::memcmp(&old, &compare, sizeof old) == 0) *address = value;
    return old;
}

static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
static inline long long __mul64hi(long long a, long long b) { return (long long)((__int128)a * b >> 64); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
static inline int __mulhi(int a, int b) { return (int)((int64_t)a * b >> 32); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline unsigned __brev(unsigned x) {
    unsigned reversed = 0;
    for (int k = 0; k < 32; ++k) reversed |= (x >> k & 1u) << (31 - k);
    return reversed;
}
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    return (unsigned)((((uint64_t)high << 32 | low) << (shift & 31)) >> 32);
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return (unsigned)(((uint64_t)high << 32 | low) >> (shift & 31));
}

static inline int __float_as_int(float x) { return cuda_sim::bits<int>(x); }
static inline unsigned __float_as_uint(float x) { return cuda_sim::bits<unsigned>(x); }
static inline float __int_as_float(int x) { return cuda_sim::bits<float>(x); }
static inline float __uint_as_float(unsigned x) { return cuda_sim::bits<float>(x); }
static inline long long __double_as_longlong(double x) { return cuda_sim::bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return cuda_sim::bits<double>(x); }

// The build turns contraction into fused multiply-add off, so these round as they say.
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __frsqrt_rn(float a) { return (float)(1.0 / sqrt((double)a)); }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __dsqrt_rn(double a) { return sqrt(a); }
static inline double __drcp_rn(double a) { return 1.0 / a; }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __expf(float x) { return expf(x); }
static inline float __exp10f(float x) { return powf(10.0f, x); }
static inline float __logf(float x) { return logf(x); }
static inline float __log2f(float x) { return log2f(x); }
static inline float __log10f(float x) { return log10f(x); }
static inline float __powf(float x, float y) { return powf(x, y); }
static inline float __sinf(float x) { return sinf(x); }
static inline float __cosf(float x) { return cosf(x); }
static inline float __tanf(float x) { return tanf(x); }
static inline float __tanhf(float x) { return tanhf(x); }
static inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }
static inline int __float2int_rn(float x) { return (int)nearbyintf(x); }
static inline int __float2int_rz(float x) { return (int)x; }
static inline int __float2int_rd(float x) { return (int)floorf(x); }
static inline int __float2int_ru(float x) { return (int)ceilf(x); }
static inline long long __float2ll_rn(float x) { return (long long)nearbyintf(x); }
static inline long long __double2ll_rn(double x) { return (long long)nearbyint(x); }
static inline float __int2float_rn(int x) { return (float)x; }
static inline float __uint2float_rn(unsigned x) { return (float)x; }
static inline float __ll2float_rn(long long x) { return (float)x; }
static inline float __double2float_rn(double x) { return (float)x; }

static inline float rsqrtf(float x) { return (float)(1.0 / sqrt((double)x)); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline float rsqrt(float x) { return rsqrtf(x); }
static inline float rcbrtf(float x) { return 1.0f / cbrtf(x); }
static inline float exp10f(float x, int) { return powf(10.0f, x); }
static inline double normcdf(double x) { return 0.5 * erfc(-x * 0.70710678118654752440); }
static inline float normcdff(float x) { return (float)normcdf((double)x); }
static inline float erfcxf(float x) { return (float)(exp((double)x * x) * erfc((double)x)); }
static inline double sinpi(double x) { return sin(3.14159265358979323846 * x); }
static inline double cospi(double x) { return cos(3.14159265358979323846 * x); }
static inline float sinpif(float x) { return (float)sinpi((double)x); }
static inline float cospif(float x) { return (float)cospi((double)x); }
static inline void sincospif(float x, float* s, float* c) { *s = sinpif(x), *c = cospif(x); }

using std::abs;
using std::acos;
using std::acosh;
using std::asin;
using std::asinh;
using std::atan;
using std::atan2;
using std::atanh;
using std::ceil;
using std::cos;
using std::cosh;
using std::erf;
using std::erfc;
using std::exp;
using std::exp2;
using std::expm1;
using std::floor;
using std::fma;
using std::fmax;
using std::fmin;
using std::fmod;
using std::isfinite;
using std::isinf;
using std::isnan;
using std::lgamma;
using std::log;
using std::log10;
using std::log1p;
using std::log2;
using std::pow;
using std::round;
using std::signbit;
using std::sin;
using std::sinh;
using std::sqrt;
using std::tan;
using std::tanh;
using std::trunc;

// Of two types, as on the device; for floating point they ignore NaN.
template <class A, class B, class T = std::common_type_t<A, B>>
inline std::enable_if_t<std::is_arithmetic<T>::value, T> min(A a, B b) {
    if constexpr (std::is_floating_point<T>::value) return std::fmin((T)a, (T)b);
    else return (T)b < (T)a ? (T)b : (T)a;
}
template <class A, class B, class T = std::common_type_t<A, B>>
inline std::enable_if_t<std::is_arithmetic<T>::value, T> max(A a, B b) {
    if constexpr (std::is_floating_point<T>::value) return std::fmax((T)a, (T)b);
    else return (T)a < (T)b ? (T)b : (T)a;
}

#define CUDART_INF_F (__builtin_inff())
#define CUDART_NAN_F (__builtin_nanf(""))
#define CUDART_INF (__builtin_inf())
#define CUDART_NAN (__builtin_nan(""))
