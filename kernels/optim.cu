// The steps of the optimizers over flat buffers, as gpugrad/optim/algorithms.py defines them: each array is read
// once and written once, with 16-byte accesses and two packs of every array in flight in each thread (Adam: 28
// bytes for each float32 parameter).
//
// Everything that changes from step to step stands in device memory, so that a captured step can be replayed.
#include "common.cuh"

// What one launch of `prepare` works out in double precision for all threads of the step that follows.
struct Numbers {
    double lr;         // the learning rate, of Adagrad after its decay
    double size;       // lr over Adam's first bias correction; for RAdam times its rectification, if that is defined
    double root;       // 1 over the root of Adam's second bias correction; for RAdam not 0 if the step adapts
    double shrink;     // what decoupled weight decay multiplies the parameters by
    double decay;      // of SGD's momentum buffer, which the first gradient fills as it is,
    double share;      // and the share of the gradient that is added to it
    double gradient;   // what gradients are multiplied by: unscaled, clipped, negated to maximise
    double skip;       // not 0: a gradient is infinite or NaN, and the step is left out
};

// `scale` (of the loss) and `found_inf` may be null. `step` counts the steps that were not left out.
extern "C" __global__ void prepare(Numbers* numbers, double* step, const double* lr, const float* scale,
                                   const float* found_inf, double beta1, double beta2, double decoupled_decay,
                                   double momentum, double dampening, double lr_decay, bool rectify, bool maximize) {
    const bool skip = found_inf && *found_inf != 0;
    const double count = *step + (skip ? 0 : 1);
    *step = count;
    const double power = pow(beta2, count);
    Numbers n;
    n.lr = *lr / (1 + (count - 1) * lr_decay);
    n.size = n.lr / (1 - pow(beta1, count));
    n.root = 1 / sqrt(1 - power);
    if (rectify) {
        const double longest = 2 / (1 - beta2) - 1, length = longest - 2 * count * power / (1 - power);
        n.root = length > 5;
        if (length > 5)
            n.size *= sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length) *
                           (1 - power));
    }
    n.shrink = 1 - *lr * decoupled_decay;
    n.decay = count > 1 ? momentum : 0;
    n.share = count > 1 ? 1 - dampening : 1;
    n.gradient = (maximize ? -1.0 : 1.0) / (scale ? (double)*scale : 1.0);
    n.skip = skip;
    *numbers = n;
}

template <class T>
using Number = const wide<T>;

// The gradient of what is minimised, weight decay included.
template <class T>
__device__ __forceinline__ wide<T> effective(T g, wide<T> p, Number<T> factor, Number<T> weight_decay) {
    const wide<T> given = (wide<T>)g * factor;
    return weight_decay == 0 ? given : given + weight_decay * p;
}

template <class T, int V, bool MOMENTUM>
__global__ void __launch_bounds__(256, 4)
    sgd(T* __restrict__ params, const T* __restrict__ gradients, T* __restrict__ buffers, i64 size,
        const Numbers* __restrict__ numbers, double momentum_, double weight_decay_, bool nesterov) {
    typedef wide<T> A;
    if (numbers->skip) return;
    const A lr = numbers->lr, factor = numbers->gradient, decay = numbers->decay, share = numbers->share;
    const A momentum = momentum_, weight_decay = weight_decay_;
    over<V, 2, 256>(size, [&](i64 at, auto width) {
        constexpr int W = decltype(width)::value;
        Pack<T, W> p = load<W>(params + at), b;
        const Pack<T, W> g = load<W>(gradients + at);
        if (MOMENTUM) b = load<W>(buffers + at);
#pragma unroll
        for (int i = 0; i < W; ++i) {
            const A value = p.value[i];
            A step = effective(g.value[i], value, factor, weight_decay);
            if (MOMENTUM) {
                // At the first step whatever the buffer holds does not count.
                const A before = decay == 0 ? A(0) : decay * (A)b.value[i];
                const A after = before + share * step;
                b.value[i] = (T)after;
                step = nesterov ? step + momentum * after : after;
            }
            p.value[i] = (T)(value - lr * step);
        }
        store<W>(params + at, p);
        if (MOMENTUM) store<W>(buffers + at, b);
    });
}

template <class T, int V, bool MOMENTUM, bool CENTERED>
__global__ void __launch_bounds__(256, 4)
    rmsprop(T* __restrict__ params, const T* __restrict__ gradients, T* __restrict__ squares, T* __restrict__ buffers,
            T* __restrict__ averages, i64 size, const Numbers* __restrict__ numbers, double alpha_, double eps_,
            double momentum_, double weight_decay_) {
    typedef wide<T> A;
    if (numbers->skip) return;
    const A lr = numbers->lr, factor = numbers->gradient;
    const A alpha = alpha_, rest = 1 - alpha_, eps = eps_, momentum = momentum_, weight_decay = weight_decay_;
    over<V, 2, 256>(size, [&](i64 at, auto width) {
        constexpr int W = decltype(width)::value;
        Pack<T, W> p = load<W>(params + at), s = load<W>(squares + at), b, a;
        const Pack<T, W> g = load<W>(gradients + at);
        if (MOMENTUM) b = load<W>(buffers + at);
        if (CENTERED) a = load<W>(averages + at);
#pragma unroll
        for (int i = 0; i < W; ++i) {
            const A value = p.value[i];
            const A given = effective(g.value[i], value, factor, weight_decay);
            const A square = alpha * (A)s.value[i] + rest * given * given;
            s.value[i] = (T)square;
            A variance = square;
            if (CENTERED) {
                const A average = (A)a.value[i] + rest * (given - (A)a.value[i]);
                a.value[i] = (T)average;
                variance -= average * average;
            }
            A step = quotient(given, sqrt(variance) + eps);
            if (MOMENTUM) {
                step += momentum * (A)b.value[i];
                b.value[i] = (T)step;
            }
            p.value[i] = (T)(value - lr * step);
        }
        store<W>(params + at, p);
        store<W>(squares + at, s);
        if (MOMENTUM) store<W>(buffers + at, b);
        if (CENTERED) store<W>(averages + at, a);
    });
}

// Adam, AdamW (by numbers->shrink) and, with the largest second moments, AMSGrad.
template <class T, int V, bool AMSGRAD>
__global__ void __launch_bounds__(256, 4)
    adam(T* __restrict__ params, const T* __restrict__ gradients, T* __restrict__ firsts, T* __restrict__ seconds,
         T* __restrict__ largest, i64 size, const Numbers* __restrict__ numbers, double beta1, double beta2,
         double eps_, double weight_decay_) {
    typedef wide<T> A;
    if (numbers->skip) return;
    const A step_size = numbers->size, unbiased = numbers->root;
    const A shrink = numbers->shrink, factor = numbers->gradient;
    const A new1 = 1 - beta1, old2 = beta2, new2 = 1 - beta2, eps = eps_, weight_decay = weight_decay_;
    over<V, 2, 256>(size, [&](i64 at, auto width) {
        constexpr int W = decltype(width)::value;
        Pack<T, W> p = load<W>(params + at), m = load<W>(firsts + at), v = load<W>(seconds + at), most;
        const Pack<T, W> g = load<W>(gradients + at);
        if (AMSGRAD) most = load<W>(largest + at);
#pragma unroll
        for (int i = 0; i < W; ++i) {
            const A value = (A)p.value[i] * shrink;
            const A given = effective(g.value[i], value, factor, weight_decay);
            const A first = (A)m.value[i] + new1 * (given - (A)m.value[i]);
            const A second = old2 * (A)v.value[i] + new2 * given * given;
            m.value[i] = (T)first;
            v.value[i] = (T)second;
            A bound = second;
            if (AMSGRAD) {
                const A before = most.value[i];
                // A NaN stays, as in numpy.maximum.
                bound = before > second || before != before ? before : second;
                most.value[i] = (T)bound;
            }
            p.value[i] = (T)(value - quotient(step_size * first, root(bound) * unbiased + eps));
        }
        store<W>(params + at, p);
        store<W>(firsts + at, m);
        store<W>(seconds + at, v);
        if (AMSGRAD) store<W>(largest + at, most);
    });
}

// A step of an optimizer with S buffers: rule(g, s) changes an element's state s[0], ..., s[S - 1] and says what is
// taken off its parameter.
template <int V, int S, class T, class Rule>
__device__ __forceinline__ void step(T* __restrict__ params, const T* __restrict__ gradients, T* const (&buffers)[S],
                                     i64 size, const Numbers* __restrict__ numbers, wide<T> weight_decay, Rule rule) {
    typedef wide<T> A;
    if (numbers->skip) return;
    const A shrink = numbers->shrink, factor = numbers->gradient;
    over<V, 2, 256>(size, [&](i64 at, auto width) {
        constexpr int W = decltype(width)::value;
        Pack<T, W> p = load<W>(params + at), state[S];
        const Pack<T, W> g = load<W>(gradients + at);
#pragma unroll
        for (int k = 0; k < S; ++k) state[k] = load<W>(buffers[k] + at);
#pragma unroll
        for (int i = 0; i < W; ++i) {
            A s[S];
#pragma unroll
            for (int k = 0; k < S; ++k) s[k] = (A)state[k].value[i];
            const A value = (A)p.value[i] * shrink;
            p.value[i] = (T)(value - rule(effective(g.value[i], value, factor, weight_decay), s));
#pragma unroll
            for (int k = 0; k < S; ++k) state[k].value[i] = (T)s[k];
        }
        store<W>(params + at, p);
#pragma unroll
        for (int k = 0; k < S; ++k) store<W>(buffers[k] + at, state[k]);
    });
}

template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    adagrad(T* __restrict__ params, const T* __restrict__ gradients, T* __restrict__ sums, i64 size,
            const Numbers* __restrict__ numbers, double eps_, double weight_decay) {
    typedef wide<T> A;
    const A lr = numbers->lr, eps = eps_;
    T* const buffers[] = {sums};
    step<V>(params, gradients, buffers, size, numbers, weight_decay, [=](A g, A* s) {
        s[0] += g * g;
        return lr * quotient(g, sqrt(s[0]) + eps);
    });
}

template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    adadelta(T* __restrict__ params, const T* __restrict__ gradients, T* __restrict__ squares, T* __restrict__ deltas,
             i64 size, const Numbers* __restrict__ numbers, double rho_, double eps_, double weight_decay) {
    typedef wide<T> A;
    const A lr = numbers->lr, rho = rho_, rest = 1 - rho_, eps = eps_;
    T* const buffers[] = {squares, deltas};
    step<V>(params, gradients, buffers, size, numbers, weight_decay, [=](A g, A* s) {
        s[0] = rho * s[0] + rest * g * g;
        const A delta = quotient(sqrt(s[1] + eps), sqrt(s[0] + eps)) * g;
        s[1] = rho * s[1] + rest * delta * delta;
        return lr * delta;
    });
}

template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    radam(T* __restrict__ params, const T* __restrict__ gradients, T* __restrict__ firsts, T* __restrict__ seconds,
          i64 size, const Numbers* __restrict__ numbers, double beta1, double beta2, double eps_, double weight_decay) {
    typedef wide<T> A;
    const A step_size = numbers->size, new1 = 1 - beta1, old2 = beta2, new2 = 1 - beta2, eps = eps_;
    const bool adapts = numbers->root != 0;
    T* const buffers[] = {firsts, seconds};
    step<V>(params, gradients, buffers, size, numbers, weight_decay, [=](A g, A* s) {
        s[0] += new1 * (g - s[0]);
        s[1] = old2 * s[1] + new2 * g * g;
        return step_size * (adapts ? quotient(s[0], sqrt(s[1]) + eps) : s[0]);
    });
}

struct Larger {
    // NaN if either is.
    template <class A>
    __device__ A operator()(A a, A b) const {
        return a > b || a != a ? a : b;
    }
};

// One launch works on up to 32 arrays, whose addresses and sizes are arguments (unused ones are null and 0). Each is
// cut into parts of PART elements, a block for each.
constexpr i64 PART = 16384;
#define EACH(DO)                                                                                              \
    DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13) DO(14) DO(15)     \
    DO(16) DO(17) DO(18) DO(19) DO(20) DO(21) DO(22) DO(23) DO(24) DO(25) DO(26) DO(27) DO(28) DO(29) DO(30)  \
    DO(31)
#define ARRAY(K) T *array##K, i64 size##K,
// Of the block's part: its start, its size.
#define FIND(K)                                           \
    {                                                     \
        const i64 parts = (size##K + PART - 1) / PART;    \
        if (place >= 0 && place < parts) {                \
            x = array##K + place * PART;                  \
            size = size##K - place * PART;                \
        }                                                 \
        place -= parts;                                   \
    }
#define FIND_PART                \
    i64 place = blockIdx.x;      \
    T* x = nullptr;              \
    i64 size = 0;                \
    EACH(FIND)                   \
    if (size > PART) size = PART;

// What each part adds to a norm: the sum of its magnitudes (P = 1) or squares (2), or its largest magnitude (0). The
// cut and the order are fixed, so the same arrays have the same norm to the last bit.
template <class T, int V, int P>
__global__ void __launch_bounds__(256, 4) norm_parts(EACH(ARRAY) double* __restrict__ parts) {
    typedef wide<T> A;
    FIND_PART
    double found = 0;
    for (i64 start = 0; start < size; start += 1024 * V) {
        A sum = 0;
        tile<V, 4, 256>(start, size, [&](i64 at, auto width) {
            constexpr int W = decltype(width)::value;
            const Pack<T, W> pack = load<W>(x + at);
#pragma unroll
            for (int i = 0; i < W; ++i) {
                const A value = pack.value[i], magnitude = value < 0 ? -value : value;
                sum = P == 0 ? Larger()(magnitude, sum) : sum + (P == 1 ? magnitude : value * value);
            }
        });
        found = P == 0 ? Larger()((double)sum, found) : found + (double)sum;
    }
    found = P == 0 ? across<256>(found, Larger()) : across<256>(found, Plus());
    if (threadIdx.x == 0) parts[blockIdx.x] = found;
}

// The norm from the parts of all arrays.
template <class T, int P>
__global__ void __launch_bounds__(256, 4) norm_total(const double* __restrict__ parts, int count, T* __restrict__ out) {
    double found = 0;
    for (int i = threadIdx.x; i < count; i += 256) found = P == 0 ? Larger()(parts[i], found) : found + parts[i];
    found = P == 0 ? across<256>(found, Larger()) : across<256>(found, Plus());
    if (threadIdx.x == 0) *out = (T)(wide<T>)(P == 2 ? sqrt(found) : found);
}

// Arrays divided by `scale` and shortened from `norm` to `longest`, as PyTorch has it, in place (either may be null).
// `found_inf`, if not null, becomes 1 where an element is infinite or NaN.
template <class T, int V, class N>
__global__ void __launch_bounds__(256, 4)
    rescale(EACH(ARRAY) const float* scale, const N* norm, double longest, float* found_inf) {
    typedef wide<T> A;
    double shorter = 1;
    if (norm) {
        shorter = longest / ((double)(wide<N>)*norm + 1e-6);
        shorter = shorter < 1 || shorter != shorter ? shorter : 1.0;
    }
    const A factor = shorter / (scale ? (double)*scale : 1.0);
    if (factor == 1 && !found_inf) return;
    FIND_PART
    bool bad = false;
    for (i64 start = 0; start < size; start += 1024 * V)
        tile<V, 4, 256>(start, size, [&](i64 at, auto width) {
            constexpr int W = decltype(width)::value;
            Pack<T, W> pack = load<W>(x + at);
#pragma unroll
            for (int i = 0; i < W; ++i) {
                const A value = pack.value[i];
                bad = bad || !isfinite(value);
                pack.value[i] = (T)(value * factor);
            }
            store<W>(x + at, pack);
        });
    // Whoever finds one writes the same 1.
    if (bad && found_inf) *found_inf = 1;
}
