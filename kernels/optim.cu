// The steps of the optimizers over flat buffers, as gpugrad/optim/algorithms.py defines them: each array is read
// once and written once, with 16-byte accesses (Adam: 28 bytes for each float32 parameter). One launch updates many
// parameters, whose gradients lie anywhere.
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
    double share;      // and the share of the gradient that is added to it; for NAdam and ASGD see below
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

// Up to MOST arrays that one launch works on. A block has a part of `each` elements of one of them.
constexpr int MOST = 64;
struct Parts {
    u64 address[MOST];
    i64 size[MOST], start[MOST];  // start: where what belongs to an array lies in flat buffers
    int block[MOST];              // the first that works on each
    int count;
};

template <class T>
struct Part {
    T* array;
    i64 start, size;
};

// The part of this block.
template <class T>
__device__ __forceinline__ Part<T> part_of_block(const Parts& parts, i64 each) {
    int k = 0;
#pragma unroll
    for (int step = MOST / 2; step; step /= 2)
        if (k + step < parts.count && parts.block[k + step] <= (int)blockIdx.x) k += step;
    const i64 first = ((int)blockIdx.x - parts.block[k]) * each, rest = parts.size[k] - first;
    return {reinterpret_cast<T*>(parts.address[k]) + first, parts.start[k] + first, rest < each ? rest : each};
}

// visit(i, width) for the packs of a part, N of them in flight.
template <int V, int N, class Visit>
__device__ __forceinline__ void through(i64 size, Visit visit) {
    for (i64 start = 0; start < size; start += 256 * V * N) tile<V, N, 256>(start, size, visit);
}

// Packs of each array that a thread has in flight: of double precision one, for which registers suffice.
template <class T>
constexpr int IN_FLIGHT = sizeof(T) == 8 ? 1 : 2;

// Blocks that find room on a multiprocessor: one less where all that can be kept is, and not in float32.
template <class T, bool... KEPT>
constexpr int RESIDENT = (KEPT && ...) && sizeof(T) != 4 ? 3 : 4;

// One less where only double precision does not find room for what it keeps.
template <class T>
constexpr int ROOMY = sizeof(T) == 8 ? 3 : 4;

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
    sgd(const __grid_constant__ Parts parts, i64 each, T* __restrict__ params, T* __restrict__ buffers,
        const Numbers* __restrict__ numbers, double momentum_, double weight_decay_, bool nesterov) {
    typedef wide<T> A;
    if (numbers->skip) return;
    const Part<const T> gradients = part_of_block<const T>(parts, each);
    const A lr = numbers->lr, factor = numbers->gradient, decay = numbers->decay, share = numbers->share;
    const A momentum = momentum_, weight_decay = weight_decay_;
    through<V, IN_FLIGHT<T>>(gradients.size, [&](i64 at, auto width) {
        constexpr int W = decltype(width)::value;
        const i64 to = gradients.start + at;
        Pack<T, W> p = load<W>(params + to), b;
        const Pack<T, W> g = load<W>(gradients.array + at);
        if (MOMENTUM) b = load<W>(buffers + to);
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
        store<W>(params + to, p);
        if (MOMENTUM) store<W>(buffers + to, b);
    });
}

template <class T, int V, bool MOMENTUM, bool CENTERED>
__global__ void __launch_bounds__(256, RESIDENT<T, MOMENTUM, CENTERED>)
    rmsprop(const __grid_constant__ Parts parts, i64 each, T* __restrict__ params, T* __restrict__ squares,
            T* __restrict__ buffers, T* __restrict__ averages, const Numbers* __restrict__ numbers, double alpha_,
            double eps_, double momentum_, double weight_decay_) {
    typedef wide<T> A;
    if (numbers->skip) return;
    const Part<const T> gradients = part_of_block<const T>(parts, each);
    const A lr = numbers->lr, factor = numbers->gradient;
    const A alpha = alpha_, rest = 1 - alpha_, eps = eps_, momentum = momentum_, weight_decay = weight_decay_;
    through<V, IN_FLIGHT<T>>(gradients.size, [&](i64 at, auto width) {
        constexpr int W = decltype(width)::value;
        const i64 to = gradients.start + at;
        Pack<T, W> p = load<W>(params + to), s = load<W>(squares + to), b, a;
        const Pack<T, W> g = load<W>(gradients.array + at);
        if (MOMENTUM) b = load<W>(buffers + to);
        if (CENTERED) a = load<W>(averages + to);
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
        store<W>(params + to, p);
        store<W>(squares + to, s);
        if (MOMENTUM) store<W>(buffers + to, b);
        if (CENTERED) store<W>(averages + to, a);
    });
}

// Adam, AdamW (by numbers->shrink) and, with the largest second moments, AMSGrad.
template <class T, int V, bool AMSGRAD>
__global__ void __launch_bounds__(256, RESIDENT<T, AMSGRAD>)
    adam(const __grid_constant__ Parts parts, i64 each, T* __restrict__ params, T* __restrict__ firsts,
         T* __restrict__ seconds, T* __restrict__ largest, const Numbers* __restrict__ numbers, double beta1,
         double beta2, double eps_, double weight_decay_) {
    typedef wide<T> A;
    if (numbers->skip) return;
    const Part<const T> gradients = part_of_block<const T>(parts, each);
    const A step_size = numbers->size, unbiased = numbers->root;
    const A shrink = numbers->shrink, factor = numbers->gradient;
    const A new1 = 1 - beta1, old2 = beta2, new2 = 1 - beta2, eps = eps_, weight_decay = weight_decay_;
    through<V, IN_FLIGHT<T>>(gradients.size, [&](i64 at, auto width) {
        constexpr int W = decltype(width)::value;
        const i64 to = gradients.start + at;
        Pack<T, W> p = load<W>(params + to), m = load<W>(firsts + to), v = load<W>(seconds + to), most;
        const Pack<T, W> g = load<W>(gradients.array + at);
        if (AMSGRAD) most = load<W>(largest + to);
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
        store<W>(params + to, p);
        store<W>(firsts + to, m);
        store<W>(seconds + to, v);
        if (AMSGRAD) store<W>(largest + to, most);
    });
}

struct Larger {
    // NaN if either is.
    template <class A>
    __device__ A operator()(A a, A b) const {
        return a > b || a != a ? a : b;
    }
};

// A step of an optimizer with S buffers: rule(g, p, s) changes an element's state s[0], ..., s[S - 1] and says what its
// parameter p becomes.
template <int V, int S, class T, class Rule>
__device__ __forceinline__ void step(const Parts& parts, i64 each, T* __restrict__ params, T* const (&buffers)[S],
                                     const Numbers* __restrict__ numbers, wide<T> weight_decay, Rule rule) {
    typedef wide<T> A;
    if (numbers->skip) return;
    const Part<const T> gradients = part_of_block<const T>(parts, each);
    const A shrink = numbers->shrink, factor = numbers->gradient;
    through<V, IN_FLIGHT<T>>(gradients.size, [&](i64 at, auto width) {
        constexpr int W = decltype(width)::value;
        const i64 to = gradients.start + at;
        Pack<T, W> p = load<W>(params + to), state[S];
        const Pack<T, W> g = load<W>(gradients.array + at);
#pragma unroll
        for (int k = 0; k < S; ++k) state[k] = load<W>(buffers[k] + to);
#pragma unroll
        for (int i = 0; i < W; ++i) {
            A s[S];
#pragma unroll
            for (int k = 0; k < S; ++k) s[k] = (A)state[k].value[i];
            const A value = (A)p.value[i] * shrink;
            p.value[i] = (T)rule(effective(g.value[i], value, factor, weight_decay), value, s);
#pragma unroll
            for (int k = 0; k < S; ++k) state[k].value[i] = (T)s[k];
        }
        store<W>(params + to, p);
#pragma unroll
        for (int k = 0; k < S; ++k) store<W>(buffers[k] + to, state[k]);
    });
}

template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    adagrad(const __grid_constant__ Parts parts, i64 each, T* __restrict__ params, T* __restrict__ sums,
            const Numbers* __restrict__ numbers, double eps_, double weight_decay) {
    typedef wide<T> A;
    const A lr = numbers->lr, eps = eps_;
    T* const buffers[] = {sums};
    step<V>(parts, each, params, buffers, numbers, weight_decay, [=](A g, A p, A* s) {
        s[0] += g * g;
        return p - lr * quotient(g, root(s[0]) + eps);
    });
}

template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    adadelta(const __grid_constant__ Parts parts, i64 each, T* __restrict__ params, T* __restrict__ squares,
             T* __restrict__ deltas, const Numbers* __restrict__ numbers, double rho_, double eps_,
             double weight_decay) {
    typedef wide<T> A;
    const A lr = numbers->lr, rho = rho_, rest = 1 - rho_, eps = eps_;
    T* const buffers[] = {squares, deltas};
    step<V>(parts, each, params, buffers, numbers, weight_decay, [=](A g, A p, A* s) {
        s[0] = rho * s[0] + rest * g * g;
        const A delta = quotient(root(s[1] + eps), root(s[0] + eps)) * g;
        s[1] = rho * s[1] + rest * delta * delta;
        return p - lr * delta;
    });
}

template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    radam(const __grid_constant__ Parts parts, i64 each, T* __restrict__ params, T* __restrict__ firsts,
          T* __restrict__ seconds, const Numbers* __restrict__ numbers, double beta1, double beta2, double eps_,
          double weight_decay) {
    typedef wide<T> A;
    const A step_size = numbers->size, new1 = 1 - beta1, old2 = beta2, new2 = 1 - beta2, eps = eps_;
    const bool adapts = numbers->root != 0;
    T* const buffers[] = {firsts, seconds};
    step<V>(parts, each, params, buffers, numbers, weight_decay, [=](A g, A p, A* s) {
        s[0] += new1 * (g - s[0]);
        s[1] = old2 * s[1] + new2 * g * g;
        return p - step_size * (adapts ? quotient(s[0], root(s[1]) + eps) : s[0]);
    });
}

template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    adamax(const __grid_constant__ Parts parts, i64 each, T* __restrict__ params, T* __restrict__ firsts,
           T* __restrict__ largest, const Numbers* __restrict__ numbers, double beta1, double beta2, double eps_,
           double weight_decay) {
    typedef wide<T> A;
    const A step_size = numbers->size, new1 = 1 - beta1, old2 = beta2, eps = eps_;
    T* const buffers[] = {firsts, largest};
    step<V>(parts, each, params, buffers, numbers, weight_decay, [=](A g, A p, A* s) {
        s[0] += new1 * (g - s[0]);
        s[1] = Larger()(old2 * s[1], (g < 0 ? -g : g) + eps);
        return p - step_size * quotient(s[0], s[1]);
    });
}

// After `prepare`, for NAdam: what the first moment (size) and the gradient (share) are multiplied by. `product` is that
// of all steps' momenta.
template <class S>
__global__ void nadam_numbers(Numbers* numbers, const double* step, S* product, double beta1, double momentum_decay) {
    if (numbers->skip) return;
    const double now = beta1 * (1 - 0.5 * pow(0.96, *step * momentum_decay));
    const double next = beta1 * (1 - 0.5 * pow(0.96, (*step + 1) * momentum_decay));
    *product = *product * (S)now;
    const double so_far = *product;
    numbers->share = numbers->lr * (1 - now) / (1 - so_far);
    numbers->size = numbers->lr * next / (1 - so_far * next);
}

template <class T, int V>
__global__ void __launch_bounds__(256, ROOMY<T>)
    nadam(const __grid_constant__ Parts parts, i64 each, T* __restrict__ params, T* __restrict__ firsts,
          T* __restrict__ seconds, const Numbers* __restrict__ numbers, double beta1, double beta2, double eps_,
          double weight_decay) {
    typedef wide<T> A;
    // The second moment's correction is put into the other factors: one number less to keep in registers.
    const double corrected = 1 / numbers->root;
    const A size = numbers->size * corrected, share = numbers->share * corrected, eps = eps_ * corrected;
    const A new1 = 1 - beta1, old2 = beta2, new2 = 1 - beta2;
    T* const buffers[] = {firsts, seconds};
    step<V>(parts, each, params, buffers, numbers, weight_decay, [=](A g, A p, A* s) {
        s[0] += new1 * (g - s[0]);
        s[1] = old2 * s[1] + new2 * g * g;
        return p - quotient(share * g + size * s[0], root(s[1]) + eps);
    });
}

template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    rprop(const __grid_constant__ Parts parts, i64 each, T* __restrict__ params, T* __restrict__ befores,
          T* __restrict__ sizes, const Numbers* __restrict__ numbers, double minus_, double plus_, double least_,
          double most_) {
    typedef wide<T> A;
    const A minus = minus_, plus = plus_, least = least_, most = most_;
    T* const buffers[] = {befores, sizes};
    step<V>(parts, each, params, buffers, numbers, 0, [=](A g, A p, A* s) {
        const A turn = g * s[0], size = s[1] * (turn > 0 ? plus : turn < 0 ? minus : turn == 0 ? 1 : turn);
        s[0] = turn < 0 ? 0 : g;
        s[1] = size < least ? least : size > most ? most : size;
        return s[0] > 0 ? p - s[1] : s[0] < 0 ? p + s[1] : p - s[0] * s[1];
    });
}

// After `prepare`, for ASGD: the rate of this step (lr) and the share of its result in the average, and those of the next.
template <class S>
__global__ void asgd_numbers(Numbers* numbers, const double* step, S* eta, S* mu, double lambd, double alpha,
                             double t0) {
    if (numbers->skip) return;
    const double lr = numbers->lr, late = *step - t0;
    numbers->lr = *eta;
    numbers->share = *mu;
    *eta = (S)(lr / pow(1 + lambd * lr * *step, alpha));
    *mu = (S)(1 / (late > 1 ? late : 1.0));
}

template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    asgd(const __grid_constant__ Parts parts, i64 each, T* __restrict__ params, T* __restrict__ averages,
         const Numbers* __restrict__ numbers, double lambd, double weight_decay) {
    typedef wide<T> A;
    const A eta = numbers->lr, kept = 1 - lambd * numbers->lr, share = numbers->share;
    T* const buffers[] = {averages};
    step<V>(parts, each, params, buffers, numbers, weight_decay, [=](A g, A p, A* s) {
        const A value = p * kept - eta * g;
        s[0] = share == 1 ? value : s[0] + (value - s[0]) * share;
        return value;
    });
}

// What each part adds to a norm: the sum of its magnitudes (P = 1) or squares (2), or its largest magnitude (0). The
// cut and the order are fixed, so the same arrays have the same norm to the last bit.
template <class T, int V, int P>
__global__ void __launch_bounds__(256, 4) norm_parts(const __grid_constant__ Parts parts, i64 each,
                                                     double* __restrict__ sums) {
    typedef wide<T> A;
    const Part<const T> part = part_of_block<const T>(parts, each);
    double found = 0;
    for (i64 start = 0; start < part.size; start += 1024 * V) {
        A sum = 0;
        tile<V, 4, 256>(start, part.size, [&](i64 at, auto width) {
            constexpr int W = decltype(width)::value;
            const Pack<T, W> pack = load<W>(part.array + at);
#pragma unroll
            for (int i = 0; i < W; ++i) {
                const A value = pack.value[i], magnitude = value < 0 ? -value : value;
                sum = P == 0 ? Larger()(magnitude, sum) : sum + (P == 1 ? magnitude : value * value);
            }
        });
        found = P == 0 ? Larger()((double)sum, found) : found + (double)sum;
    }
    found = P == 0 ? across<256>(found, Larger()) : across<256>(found, Plus());
    if (threadIdx.x == 0) sums[blockIdx.x] = found;
}

// The norm from the parts of all arrays.
template <class T, int P>
__global__ void __launch_bounds__(256, 4) norm_total(const double* __restrict__ sums, int count, T* __restrict__ out) {
    double found = 0;
    for (int i = threadIdx.x; i < count; i += 256) found = P == 0 ? Larger()(sums[i], found) : found + sums[i];
    found = P == 0 ? across<256>(found, Larger()) : across<256>(found, Plus());
    if (threadIdx.x == 0) *out = (T)(wide<T>)(P == 2 ? sqrt(found) : found);
}

// Arrays divided by `scale` and shortened from `norm` to `longest`, as PyTorch has it, in place (either may be null).
// `found_inf`, if not null, becomes 1 where an element is infinite or NaN.
template <class T, int V, class N>
__global__ void __launch_bounds__(256, 4)
    rescale(const __grid_constant__ Parts parts, i64 each, const float* scale, const N* norm, double longest,
            float* found_inf) {
    typedef wide<T> A;
    double shorter = 1;
    if (norm) {
        shorter = longest / ((double)(wide<N>)*norm + 1e-6);
        shorter = shorter < 1 || shorter != shorter ? shorter : 1.0;
    }
    const A factor = shorter / (scale ? (double)*scale : 1.0);
    if (factor == 1 && !found_inf) return;
    const Part<T> part = part_of_block<T>(parts, each);
    bool bad = false;
    through<V, 4>(part.size, [&](i64 at, auto width) {
        constexpr int W = decltype(width)::value;
        Pack<T, W> pack = load<W>(part.array + at);
#pragma unroll
        for (int i = 0; i < W; ++i) {
            const A value = pack.value[i];
            bad = bad || !isfinite(value);
            pack.value[i] = (T)(value * factor);
        }
        store<W>(part.array + at, pack);
    });
    // Whoever finds one writes the same 1.
    if (bad && found_inf) *found_inf = 1;
}
