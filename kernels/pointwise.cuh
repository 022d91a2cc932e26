// The elementwise ops of the registry, op_<name> for each, from which fused kernels are put together
// (gpugrad/backend/fused/pointwise.py). Inputs come first, all of one type unless they are masks, then parameters;
// Nothing stands for None. 16-bit operands come as float.
struct Nothing {};

#define OP1(NAME, EXPRESSION)                       \
    template <class A>                              \
    __device__ __forceinline__ A op_##NAME(A x) {   \
        return EXPRESSION;                          \
    }
#define OP2(NAME, EXPRESSION)                            \
    template <class A>                                   \
    __device__ __forceinline__ A op_##NAME(A x, A y) {   \
        return EXPRESSION;                               \
    }
#define TEST1(NAME, EXPRESSION)                        \
    template <class A>                                 \
    __device__ __forceinline__ bool op_##NAME(A x) {   \
        return EXPRESSION;                             \
    }
#define TEST2(NAME, EXPRESSION)                             \
    template <class A>                                      \
    __device__ __forceinline__ bool op_##NAME(A x, A y) {   \
        return EXPRESSION;                                  \
    }

OP2(add, x + y)
OP2(sub, x - y)
OP2(rsub, y - x)
OP2(mul, x * y)
OP2(div, x / y)
OP2(rdiv, y / x)
OP2(hypot, hypot(x, y))
OP2(atan2, atan2(x, y))
OP2(fmod, fmod(x, y))
OP2(trunc_divide, trunc(x / y))
OP1(neg, -x)
OP1(square, x * x)
OP1(sqrt, sqrt(x))
OP1(rsqrt, 1 / sqrt(x))
OP1(reciprocal, 1 / x)
OP1(exp, exp(x))
OP1(exp2, exp2(x))
OP1(expm1, expm1(x))
OP1(log, log(x))
OP1(log2, log2(x))
OP1(log10, log10(x))
OP1(log1p, log1p(x))
OP1(sin, sin(x))
OP1(cos, cos(x))
OP1(tan, tan(x))
OP1(asin, asin(x))
OP1(acos, acos(x))
OP1(atan, atan(x))
OP1(sinh, sinh(x))
OP1(cosh, cosh(x))
OP1(tanh, tanh(x))
OP1(asinh, asinh(x))
OP1(acosh, acosh(x))
OP1(atanh, atanh(x))
OP1(erf, erf(x))
OP1(erfc, erfc(x))
OP1(floor, floor(x))
OP1(ceil, ceil(x))
OP1(trunc, trunc(x))
OP1(frac, x - trunc(x))
OP1(abs, x < 0 || x == 0 ? A(0) - x : x)
OP1(sign, A((x > 0) - (x < 0)))
OP2(maximum, x > y || x != x ? x : y)
OP2(minimum, x < y || x != x ? x : y)
OP2(fmax, x >= y || y != y ? x : y)
OP2(fmin, x <= y || y != y ? x : y)
OP2(heaviside, x == 0 ? y : A(x > 0))
OP2(bitwise_and, x & y)
OP2(bitwise_or, x | y)
OP2(bitwise_xor, x ^ y)

TEST2(eq, x == y)
TEST2(ne, x != y)
TEST2(lt, x < y)
TEST2(le, x <= y)
TEST2(gt, x > y)
TEST2(ge, x >= y)
TEST2(logical_and, x != 0 && y != 0)
TEST2(logical_or, x != 0 || y != 0)
TEST2(logical_xor, (x != 0) != (y != 0))
TEST1(logical_not, x == 0)
TEST1(isnan, x != x)
TEST1(isinf, x - x != x - x && x == x)
TEST1(isfinite, x - x == x - x)
TEST1(isposinf, x > 0 && x - x != x - x)
TEST1(isneginf, x < 0 && x - x != x - x)

__device__ __forceinline__ bool op_bitwise_not(bool x) {
    return !x;
}
template <class A>
__device__ __forceinline__ A op_bitwise_not(A x) {
    return ~x;
}

// Rounded down, and the remainder with the sign of y, as NumPy defines them for floating point.
template <class A>
__device__ __forceinline__ A op_remainder(A x, A y) {
    const A rest = fmod(x, y);
    if (rest == 0) return copysign(A(0), y);
    return (rest < 0) != (y < 0) ? rest + y : rest;
}
template <class A>
__device__ __forceinline__ A op_floor_divide(A x, A y) {
    if (y == 0) return x / y;
    const A rest = fmod(x, y);
    A quotient = (x - rest) / y;
    if (rest != 0 && (rest < 0) != (y < 0)) quotient -= 1;
    if (quotient == 0) return copysign(A(0), x / y);
    const A below = floor(quotient);
    return quotient - below > A(0.5) ? below + 1 : below;
}
template <class A>
__device__ __forceinline__ A op_round(A x, Nothing) {
    return rint(x);
}

template <class A>
__device__ __forceinline__ A op_pow(A x, A y) {
    return pow(x, y);
}
// For some exponents that are plain numbers the elementwise op has something better, which at -0 and -infinity is
// something else.
template <class A>
struct Plain {
    A value;
};
template <class A>
__device__ __forceinline__ A op_pow(A x, Plain<A> exponent) {
    const A y = exponent.value;
    if (y == 2) return x * x;
    if (y == 3) return x * x * x;
    if (y == A(0.5)) return sqrt(x);
    if (y == A(-0.5)) return 1 / sqrt(x);
    if (y == -1) return 1 / x;
    return pow(x, y);
}
template <class A>
__device__ __forceinline__ A op_logaddexp(A x, A y) {
    const A smaller = exp(-op_abs(x - y));
    return op_maximum(x, y) + log1p(smaller > 0 ? smaller : A(0));
}
template <class A>
__device__ __forceinline__ A op_xlogy(A x, A y) {
    return x == 0 && y == y ? A(0) : x * log(y);
}

// Bounds and selection.
template <class A>
__device__ __forceinline__ A op_clamp(A x, A low, A high) {
    return op_minimum(op_maximum(x, low), high);
}
template <class A>
__device__ __forceinline__ A op_clamp(A x, Nothing, A high) {
    return op_minimum(x, high);
}
template <class A>
__device__ __forceinline__ A op_clamp(A x, A low, Nothing) {
    return op_maximum(x, low);
}
template <class A, class Low, class High>
__device__ __forceinline__ A op_clamp_numbers(A x, Low low, High high) {
    return op_clamp(x, low, high);
}
template <class A>
__device__ __forceinline__ A op_hardtanh(A x, A low, A high) {
    return op_clamp(x, low, high);
}
template <class A>
__device__ __forceinline__ A op_where(bool mask, A x, A y) {
    return mask ? x : y;
}
template <class A>
__device__ __forceinline__ A op_masked_fill(A x, bool mask, A value) {
    return mask ? value : x;
}
template <class A>
__device__ __forceinline__ A op_keep(A x, bool mask) {
    return mask ? x : A(0);
}
template <class A>
__device__ __forceinline__ A op_masked_scale(A x, bool mask, A scale) {
    return mask ? x * scale : A(0);
}
template <class A>
__device__ __forceinline__ A op_lerp(A x, A end, A weight) {
    const A step = end - x;
    return weight < A(0.5) ? x + weight * step : end - step * (1 - weight);
}
template <class A>
__device__ __forceinline__ A op_addcmul(A x, A a, A b, A value) {
    return x + a * b * value;
}
template <class A>
__device__ __forceinline__ A op_addcdiv(A x, A a, A b, A value) {
    return x + a / b * value;
}
template <class A>
__device__ __forceinline__ A op_threshold(A x, A threshold, A value) {
    return x <= threshold ? value : x;
}

// Activations.
OP1(relu, op_maximum(x, A(0)))
OP1(relu6, op_clamp(x, A(0), A(6)))
OP1(sigmoid, 1 / (1 + exp(-x)))
OP1(silu, x / (1 + exp(-x)))
OP1(softsign, x / (1 + op_abs(x)))
OP1(tanhshrink, x - tanh(x))
OP1(hardsigmoid, op_clamp(x + 3, A(0), A(6)) / 6)
OP1(hardswish, x * op_clamp(x + 3, A(0), A(6)) / 6)
OP1(logsigmoid, op_minimum(x, A(0)) - log1p(exp(-op_abs(x))))

template <class A>
__device__ __forceinline__ A op_mish(A x) {
    // tanh(log(1 + n)) for n = exp(x); 1 beyond x = 20, to the last bit.
    const A n = exp(op_minimum(x, A(20))), square = n * (n + 2);
    return x * (square / (square + 2));
}
template <class A>
__device__ __forceinline__ A op_leaky_relu(A x, A slope) {
    return x > 0 || slope == 0 ? op_maximum(x, A(0)) : x * slope;
}
// Where x is infinite the other branch is 0 times infinity for some parameters, so there is a choice, not a sum.
template <class A>
__device__ __forceinline__ A exponential_unit(A x, A alpha, A scale, A input_scale) {
    return x > 0 ? scale * x : alpha * scale * expm1(x * input_scale);
}
template <class A>
__device__ __forceinline__ A op_elu(A x, A alpha) {
    return exponential_unit(x, alpha, A(1), A(1));
}
template <class A>
__device__ __forceinline__ A op_celu(A x, A alpha) {
    return exponential_unit(x, alpha, A(1), 1 / alpha);
}
OP1(selu, exponential_unit(x, A(1.6732632423543772848170429916717), A(1.0507009873554804934193349852946), A(1)))
template <class A>
__device__ __forceinline__ A op_softplus(A x, A beta, A threshold) {
    const A scaled = x * beta;
    return scaled > threshold ? x : log1p(exp(scaled)) / beta;
}
template <class A>
__device__ __forceinline__ A op_gelu(A x, bool approximate) {
    const A inner = approximate ? tanh(x * (x * x * A(0.7978845608028654 * 0.044715) + A(0.7978845608028654)))
                                : erf(x * A(0.7071067811865476));
    return (inner + 1) * x * A(0.5);
}

// What is rounded to 16 bits: erfc to 1.5e-7 (Abramowitz and Stegun, 7.1.26), with the hardware's quotient and
// exponential. The exact one takes longer than to read and write 16 bits.
__device__ __forceinline__ float short_gelu(float x, bool approximate) {
    if (approximate) {
        const float inner = fmaf(x * x, -2.0f * 0.044715f * 0.7978845608f * 1.4426950409f, -2.0f * 0.7978845608f * 1.4426950409f);
        return quotient(x, 1 + exp2f(x * inner));
    }
    const float t = quotient(1.0f, fmaf(fabsf(x), 0.3275911f * 0.7071067812f, 1.0f));
    float tail = fmaf(t, 0.5f * 1.061405429f, 0.5f * -1.453152027f);
    tail = fmaf(t, tail, 0.5f * 1.421413741f);
    tail = fmaf(t, tail, 0.5f * -0.284496736f);
    tail = fmaf(t, tail, 0.5f * 0.254829592f) * t * exp2f(x * x * (-0.5f * 1.4426950409f));
    return x * (x > 0 ? 1 - tail : tail);
}

#undef OP1
#undef OP2
#undef TEST1
#undef TEST2
