// The steps of the optimizers over flat buffers, as gpugrad/optim/algorithms.py defines them: each array is read
// once and written once, with 16-byte accesses and two packs of every array in flight in each thread (Adam: 28
// bytes for each float32 parameter).
//
// Everything that changes from step to step stands in device memory, so that a captured step can be replayed.
#include "common.cuh"

// What one launch of `prepare` works out in double precision for all threads of the step that follows.
struct Numbers {
    double lr;         // the learning rate
    double size;       // lr over Adam's first bias correction
    double root;       // 1 over the root of Adam's second bias correction
    double shrink;     // what decoupled weight decay multiplies the parameters by
    double decay;      // of SGD's momentum buffer, which the first gradient fills as it is,
    double share;      // and the share of the gradient that is added to it
    double gradient;   // what gradients are multiplied by: unscaled, clipped, negated to maximise
    double skip;       // not 0: a gradient is infinite or NaN, and the step is left out
};

// `scale` (of the loss), `found_inf` and `clip` may be null. `step` counts the steps that were not left out.
extern "C" __global__ void prepare(Numbers* numbers, double* step, const double* lr, const float* scale,
                                   const float* found_inf, const double* clip, double beta1, double beta2,
                                   double decoupled_decay, double momentum, double dampening, bool maximize) {
    const bool skip = found_inf && *found_inf != 0;
    const double count = *step + (skip ? 0 : 1);
    *step = count;
    Numbers n;
    n.lr = *lr;
    n.size = *lr / (1 - pow(beta1, count));
    n.root = 1 / sqrt(1 - pow(beta2, count));
    n.shrink = 1 - *lr * decoupled_decay;
    n.decay = count > 1 ? momentum : 0;
    n.share = count > 1 ? 1 - dampening : 1;
    n.gradient = (maximize ? -1.0 : 1.0) * (clip ? *clip : 1.0) / (scale ? (double)*scale : 1.0);
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

struct Larger {
    // NaN if either is.
    template <class A>
    __device__ A operator()(A a, A b) const {
        return a > b || a != a ? a : b;
    }
};

// What each block adds to the norm of a flat buffer: the sum of its squares, or with MAXIMUM its largest magnitude.
// The grid and the order are fixed, so the same gradients have the same norm to the last bit.
template <class T, int V, bool MAXIMUM>
__global__ void __launch_bounds__(256, 4) norm_parts(const T* __restrict__ x, i64 size, double* __restrict__ parts) {
    typedef wide<T> A;
    double found = 0;
    for (i64 start = (i64)blockIdx.x * 1024 * V; start < size; start += (i64)gridDim.x * 1024 * V) {
        A sum = 0;
        tile<V, 4, 256>(start, size, [&](i64 at, auto width) {
            constexpr int W = decltype(width)::value;
            const Pack<T, W> pack = load<W>(x + at);
#pragma unroll
            for (int i = 0; i < W; ++i) {
                const A value = pack.value[i];
                sum = MAXIMUM ? Larger()(value < 0 ? -value : value, sum) : sum + value * value;
            }
        });
        found = MAXIMUM ? Larger()((double)sum, found) : found + (double)sum;
    }
    found = MAXIMUM ? across<256>(found, Larger()) : across<256>(found, Plus());
    if (threadIdx.x == 0) parts[blockIdx.x] = found;
}

// The norm from the parts of all buffers, and the factor that shortens gradients to `longest`, as PyTorch has it.
// `found_inf`, if not null, becomes 1 where the norm is infinite or NaN. With `scale` the gradients were made from
// a loss multiplied by it, and the norm is that without.
template <bool MAXIMUM>
__global__ void __launch_bounds__(256, 4) norm_total(const double* __restrict__ parts, int count, double longest,
                                                  const float* scale, double* __restrict__ out, float* found_inf) {
    double found = 0;
    for (int i = threadIdx.x; i < count; i += 256) found = MAXIMUM ? Larger()(parts[i], found) : found + parts[i];
    found = MAXIMUM ? across<256>(found, Larger()) : across<256>(found, Plus());
    if (threadIdx.x) return;
    const double norm = (MAXIMUM ? found : sqrt(found)) / (scale ? (double)*scale : 1.0);
    const double factor = longest / (norm + 1e-6);
    out[0] = norm;
    out[1] = factor < 1 || factor != factor ? factor : 1.0;
    if (found_inf && !(norm <= 1.7976931348623157e308)) *found_inf = 1;
}

// x / scale * clip in place (either may be null); `found_inf`, if not null, becomes 1 where an element is infinite
// or NaN.
template <class T, int V>
__global__ void __launch_bounds__(256, 4) rescale(T* __restrict__ x, i64 size, const float* scale, const double* clip,
                                               float* found_inf) {
    typedef wide<T> A;
    const A factor = (clip ? *clip : 1.0) / (scale ? (double)*scale : 1.0);
    bool bad = false;
    over<V, 4, 256>(size, [&](i64 at, auto width) {
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
