// What the kernels that CuPy generates include, for the host's compiler; parsed once.
#include "cuda_sim.h"

#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <tuple>

using std::ptrdiff_t;
using std::size_t;

static inline bool __hisinf(__nv_bfloat16 a) { return (a.__x & 0x7fffu) == 0x7f80u; }
template <class T>
struct complex;

#include <cupy/atomics.cuh>
#include <cupy/carray.cuh>
