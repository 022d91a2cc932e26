// __half and __nv_bfloat16: 16 bits of storage, arithmetic in float and rounded once to nearest even, which
// gives what the device gives (float has more than twice their digits).
#pragma once

namespace cuda_sim {

template <class T>
struct Same { typedef T type; };
template <class T>
using As = typename Same<T>::type;  // keeps an argument from deciding T

template <class To, class From>
inline To bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "bits of another size");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

// Rounds to `digits` binary digits after the leading one, exponents from `least` on.
inline double round_to(double x, int digits, int least) {
    if (x == 0 || !std::isfinite(x)) return x;
    int exponent = std::ilogb(x);
    if (exponent < least) exponent = least;
    return std::ldexp(std::nearbyint(std::ldexp(x, digits - exponent)), exponent - digits);
}

inline float half_to_float(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, fraction = h & 0x3ffu;
    if (exponent == 31) return bits<float>(sign | 0x7f800000u | (fraction << 13));
    if (exponent == 0) {
        const float value = (float)fraction * 0x1p-24f;
        return bits<float>(sign | bits<uint32_t>(value));
    }
    return bits<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
}

inline uint16_t float_to_half(float f) {
    const uint32_t x = bits<uint32_t>(f), sign = (x >> 16) & 0x8000u, magnitude = x & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return 0x7fffu;
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);  // rounds to 65536 or more
    if (magnitude < 0x38800000u) {                                   // subnormal: let float arithmetic round
        const float shifted = bits<float>(magnitude) + 0.5f;
        return (uint16_t)(sign | (bits<uint32_t>(shifted) - 0x3f000000u));
    }
    return (uint16_t)(sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13));
}

inline float bfloat16_to_float(uint16_t b) { return bits<float>((uint32_t)b << 16); }

inline uint16_t float_to_bfloat16(float f) {
    const uint32_t x = bits<uint32_t>(f);
    if ((x & 0x7fffffffu) > 0x7f800000u) return 0x7fffu;
    return (uint16_t)((x + 0x7fffu + ((x >> 16) & 1u)) >> 16);
}

}  // namespace cuda_sim

// TO_FLOAT, FROM_FLOAT: conversions. DIGITS, LEAST: of round_to. The conversions to numbers are implicit,
// as in CUDA's headers; the operators between two of the type are exact matches and win over them.
#define CUDA_SIM_SHORT_FLOAT(NAME, NAME2, RAW, TO_FLOAT, FROM_FLOAT, DIGITS, LEAST)                               \
    struct RAW { unsigned short x; };                                                                             \
    struct NAME {                                                                                                 \
        unsigned short __x;                                                                                       \
        NAME() = default;                                                                                         \
        NAME(const RAW& raw) : __x(raw.x) {}                                                                      \
        NAME(float f) : __x(cuda_sim::FROM_FLOAT(f)) {}                                                           \
        NAME(double d) : __x(cuda_sim::FROM_FLOAT((float)cuda_sim::round_to(d, DIGITS, LEAST))) {}                \
        template <class I, class = std::enable_if_t<std::is_integral<I>::value>>                                  \
        NAME(I i) : NAME((double)i) {}                                                                            \
        operator float() const { return cuda_sim::TO_FLOAT(__x); }                                                \
        operator RAW() const { return {__x}; }                                                                    \
        explicit operator bool() const { return (__x & 0x7fffu) != 0; }                                           \
        NAME& operator+=(const NAME& b) { return *this = NAME((float)*this + (float)b); }                         \
        NAME& operator-=(const NAME& b) { return *this = NAME((float)*this - (float)b); }                         \
        NAME& operator*=(const NAME& b) { return *this = NAME((float)*this * (float)b); }                         \
        NAME& operator/=(const NAME& b) { return *this = NAME((float)*this / (float)b); }                         \
    };                                                                                                            \
    static_assert(std::is_trivial<NAME>::value, "can be shared");                                                 \
    static inline NAME operator+(const NAME& a, const NAME& b) { return NAME((float)a + (float)b); }              \
    static inline NAME operator-(const NAME& a, const NAME& b) { return NAME((float)a - (float)b); }              \
    static inline NAME operator*(const NAME& a, const NAME& b) { return NAME((float)a * (float)b); }              \
    static inline NAME operator/(const NAME& a, const NAME& b) { return NAME((float)a / (float)b); }              \
    static inline NAME operator-(const NAME& a) { return RAW{(unsigned short)(a.__x ^ 0x8000u)}; }                \
    static inline NAME operator+(const NAME& a) { return a; }                                                     \
    static inline bool operator==(const NAME& a, const NAME& b) { return (float)a == (float)b; }                  \
    static inline bool operator!=(const NAME& a, const NAME& b) { return (float)a != (float)b; }                  \
    static inline bool operator<(const NAME& a, const NAME& b) { return (float)a < (float)b; }                    \
    static inline bool operator>(const NAME& a, const NAME& b) { return (float)a > (float)b; }                    \
    static inline bool operator<=(const NAME& a, const NAME& b) { return (float)a <= (float)b; }                  \
    static inline bool operator>=(const NAME& a, const NAME& b) { return (float)a >= (float)b; }                  \
    struct alignas(4) NAME2 {                                                                                     \
        NAME x, y;                                                                                                \
        NAME2() = default;                                                                                        \
        NAME2(const NAME& x, const NAME& y) : x(x), y(y) {}                                                       \
    };                                                                                                            \
    static inline NAME2 operator+(const NAME2& a, const NAME2& b) { return {a.x + b.x, a.y + b.y}; }              \
    static inline NAME2 operator-(const NAME2& a, const NAME2& b) { return {a.x - b.x, a.y - b.y}; }              \
    static inline NAME2 operator*(const NAME2& a, const NAME2& b) { return {a.x * b.x, a.y * b.y}; }              \
    static inline NAME2 operator/(const NAME2& a, const NAME2& b) { return {a.x / b.x, a.y / b.y}; }              \
    static inline NAME2& operator+=(NAME2& a, const NAME2& b) { return a = a + b; }                               \
    static inline NAME2& operator-=(NAME2& a, const NAME2& b) { return a = a - b; }                               \
    static inline NAME2& operator*=(NAME2& a, const NAME2& b) { return a = a * b; }                               \
    static inline NAME __hadd(NAME a, NAME b) { return a + b; }                                                   \
    static inline NAME __hsub(NAME a, NAME b) { return a - b; }                                                   \
    static inline NAME __hmul(NAME a, NAME b) { return a * b; }                                                   \
    static inline NAME __hdiv(NAME a, NAME b) { return a / b; }                                                   \
    static inline NAME __hneg(NAME a) { return -a; }                                                              \
    static inline NAME __habs(NAME a) { return RAW{(unsigned short)(a.__x & 0x7fffu)}; }                          \
    static inline NAME __hfma(NAME a, NAME b, NAME c) { return NAME((double)(float)a * (float)b + (float)c); }    \
    static inline NAME __hmax(NAME a, NAME b) { return NAME(fmaxf((float)a, (float)b)); }                         \
    static inline NAME __hmin(NAME a, NAME b) { return NAME(fminf((float)a, (float)b)); }                         \
    static inline bool __hgt(NAME a, NAME b) { return a > b; }                                                    \
    static inline bool __hge(NAME a, NAME b) { return a >= b; }                                                   \
    static inline bool __hlt(NAME a, NAME b) { return a < b; }                                                    \
    static inline bool __hle(NAME a, NAME b) { return a <= b; }                                                   \
    static inline bool __heq(NAME a, NAME b) { return a == b; }                                                   \
    static inline bool __hne(NAME a, NAME b) { return a != b; }                                                   \
    static inline bool __hisnan(NAME a) { return (float)a != (float)a; }                                          \
    static inline NAME hsqrt(NAME a) { return NAME(sqrtf((float)a)); }                                            \
    static inline NAME hexp(NAME a) { return NAME(expf((float)a)); }                                              \
    static inline NAME hlog(NAME a) { return NAME(logf((float)a)); }                                              \
    static inline NAME2 __hadd2(NAME2 a, NAME2 b) { return a + b; }                                               \
    static inline NAME2 __hsub2(NAME2 a, NAME2 b) { return a - b; }                                               \
    static inline NAME2 __hmul2(NAME2 a, NAME2 b) { return a * b; }                                               \
    static inline NAME2 __hfma2(NAME2 a, NAME2 b, NAME2 c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; }

CUDA_SIM_SHORT_FLOAT(__half, __half2, __half_raw, half_to_float, float_to_half, 10, -14)
CUDA_SIM_SHORT_FLOAT(__nv_bfloat16, __nv_bfloat162, __nv_bfloat16_raw, bfloat16_to_float, float_to_bfloat16, 7, -126)

typedef __half half;
typedef __half2 half2;
typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;

static inline __half __float2half(float f) { return __half(f); }
static inline __half __float2half_rn(float f) { return __half(f); }
static inline __half __double2half(double d) { return __half(d); }
static inline float __half2float(__half h) { return (float)h; }
static inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
static inline __half2 __float22half2_rn(float2 v) { return {__half(v.x), __half(v.y)}; }
static inline __half2 __float2half2_rn(float f) { return {__half(f), __half(f)}; }
static inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
static inline __half2 __half2half2(__half h) { return {h, h}; }
static inline __half2 make_half2(__half x, __half y) { return {x, y}; }
static inline float2 __half22float2(__half2 v) { return {(float)v.x, (float)v.y}; }
static inline __half __low2half(__half2 v) { return v.x; }
static inline __half __high2half(__half2 v) { return v.y; }
static inline float __low2float(__half2 v) { return (float)v.x; }
static inline float __high2float(__half2 v) { return (float)v.y; }
static inline __half __ushort_as_half(unsigned short x) { return __half_raw{x}; }
static inline unsigned short __half_as_ushort(__half h) { return h.__x; }

static inline __nv_bfloat16 __float2bfloat16(float f) { return __nv_bfloat16(f); }
static inline __nv_bfloat16 __float2bfloat16_rn(float f) { return __nv_bfloat16(f); }
static inline __nv_bfloat16 __double2bfloat16(double d) { return __nv_bfloat16(d); }
static inline float __bfloat162float(__nv_bfloat16 b) { return (float)b; }
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__nv_bfloat16(x), __nv_bfloat16(y)}; }
static inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return {__nv_bfloat16(v.x), __nv_bfloat16(v.y)}; }
static inline __nv_bfloat162 __float2bfloat162_rn(float f) { return {__nv_bfloat16(f), __nv_bfloat16(f)}; }
static inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
static inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 b) { return {b, b}; }
static inline __nv_bfloat162 make_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
static inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {(float)v.x, (float)v.y}; }
static inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 v) { return v.x; }
static inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 v) { return v.y; }
static inline float __low2float(__nv_bfloat162 v) { return (float)v.x; }
static inline float __high2float(__nv_bfloat162 v) { return (float)v.y; }
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short x) { return __nv_bfloat16_raw{x}; }
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 b) { return b.__x; }
