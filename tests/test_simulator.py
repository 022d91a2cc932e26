"""The simulated CUDA device: kernels do there what they do on a GPU, and what a GPU would hide is caught."""

import operator
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from gpugrad.backend import cuda, kernels
from gpugrad.backend.simulator import compiler, launch, memory, runtime
from gpugrad.backend.simulator.module import cupy

try:
    compiler.compiler()
except RuntimeError as reason:
    pytest.skip(str(reason), allow_module_level=True)

ORDERS = [0, 1, 2, 3]


def kernel(code, name=None, **options):
    """The kernel of a source: the first, or that of a name expression."""
    code = textwrap.dedent(code)
    module = launch.RawModule(code=code, name_expressions=[name] if name and "<" in name else None, **options)
    return module.get_function(name or compiler.exported(code)[0])


@pytest.fixture(params=ORDERS)
def order(request, monkeypatch):
    monkeypatch.setenv("GPUGRAD_CUDA_SIM_ORDER", str(request.param))
    return request.param


# Threads.


def test_threads_and_blocks_know_where_they_are(order):
    run = kernel("""
        extern "C" __global__ void where(int* out) {
            int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
            int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
            int threads = blockDim.x * blockDim.y * blockDim.z;
            out[block * threads + thread] = block * 1000 + thread;
        }""")
    out = np.full(2 * 3 * 2 * 4 * 3 * 5, -1, np.int32)
    run((2, 3, 2), (4, 3, 5), (out,))
    np.testing.assert_array_equal(out, (np.arange(12)[:, None] * 1000 + np.arange(60)).ravel())


SUM = """
    template <class T>
    __global__ void sum(const T* x, T* out, int n) {
        __shared__ float part[32];
        float s = 0;
        for (int i = threadIdx.x; i < n; i += blockDim.x) s += (float)x[(long long)blockIdx.x * n + i];
        for (int d = 16; d; d /= 2) s += __shfl_xor_sync(0xffffffffu, s, d);
        if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = s;
        __syncthreads();
        if (threadIdx.x == 0) {
            for (int w = 1; w < blockDim.x / 32; ++w) s += part[w];
            out[blockIdx.x] = (T)s;
        }
    }"""


@pytest.mark.parametrize(("name", "dtype"), [("float", "f4"), ("double", "f8"), ("__half", "f2")])
def test_shared_memory_barriers_and_shuffles(order, name, dtype):
    x = np.arange(3 * 70).reshape(3, 70).astype(dtype)
    out = np.empty(3, dtype)
    kernel(SUM, f"sum<{name}>")((3,), (96,), (x, out, np.int32(70)))
    np.testing.assert_array_equal(out, x.astype("f8").sum(1).astype(dtype))


def test_dynamic_shared_memory(order):
    run = kernel("""
        extern "C" __global__ void turn(float* x, int n) {
            extern __shared__ __align__(16) float held[];
            held[threadIdx.x] = x[threadIdx.x];
            __syncthreads();
            x[threadIdx.x] = held[n - 1 - threadIdx.x];
        }""")
    x = np.arange(50, dtype="f4")
    run((1,), (50,), (x, np.int32(50)), shared_mem=200)
    np.testing.assert_array_equal(x, np.arange(50)[::-1])
    with pytest.raises(launch.LaunchError, match="max_dynamic_shared_size_bytes"):
        run((1,), (50,), (x, np.int32(50)), shared_mem=60 << 10)
    run.max_dynamic_shared_size_bytes = 64 << 10
    run((1,), (50,), (x, np.int32(50)), shared_mem=60 << 10)


def test_warp_functions(order):
    run = kernel("""
        extern "C" __global__ void warp(int* out) {
            const unsigned all = 0xffffffffu;
            const int lane = threadIdx.x;
            int* mine = out + lane * 12;
            mine[0] = __shfl_sync(all, lane * 10, 3);
            mine[1] = __shfl_sync(all, lane * 10, 5, 4);
            mine[2] = __shfl_up_sync(all, lane, 2, 8);
            mine[3] = __shfl_down_sync(all, lane, 2, 8);
            mine[4] = __shfl_xor_sync(all, lane, 5);
            mine[5] = (int)__ballot_sync(all, lane % 3 == 0);
            mine[6] = __any_sync(all, lane == 40) * 2 + __all_sync(all, lane < 32);
            mine[7] = __reduce_add_sync(all, lane);
            mine[8] = __reduce_min_sync(all, 5 - lane);
            mine[9] = (int)__match_any_sync(all, lane / 16);
            mine[10] = lane < 8 ? (int)__ballot_sync(0xffu, lane & 1) : -1;
            mine[11] = (int)__shfl_xor_sync(all, (double)lane, 1);
        }""")
    out = np.empty((32, 12), np.int32)
    run((1,), (32,), (out,))
    lane = np.arange(32)
    expected = [
        np.full(32, 30),
        (lane // 4 * 4 + 1) * 10,
        np.where(lane % 8 < 2, lane, lane - 2),
        np.where(lane % 8 > 5, lane, lane + 2),
        lane ^ 5,
        np.full(32, sum(1 << k for k in range(0, 32, 3))),
        np.full(32, 1),
        np.full(32, lane.sum()),
        np.full(32, -26),
        np.where(lane < 16, 0xFFFF, 0xFFFF0000),
        np.where(lane < 8, 0b10101010, -1),
        lane ^ 1,
    ]
    np.testing.assert_array_equal(out, np.array(expected).T.astype(np.uint32).view(np.int32))


def test_votes_at_barriers_and_atomics(order):
    run = kernel("""
        extern "C" __global__ void vote(int* out, unsigned long long* total, float* sum, int* largest) {
            const int t = threadIdx.x;
            const int count = __syncthreads_count(t % 3 == 0), any = __syncthreads_or(t == 99),
                      all = __syncthreads_and(t != 7);
            if (t == 0) out[0] = count, out[1] = any, out[2] = all;
            atomicAdd(total, (unsigned long long)t);
            atomicAdd(sum, 0.5f);
            atomicMax(largest, t);
            atomicCAS(out + 3, 64, 1);
        }""")
    out, total, total_float = np.array([0, 0, 0, 64], np.int32), np.zeros(1, np.uint64), np.zeros(1, np.float32)
    largest = np.zeros(1, np.int32)
    run((1,), (100,), (out, total, total_float, largest))
    assert out.tolist() == [34, 1, 0, 1]
    assert (total[0], total_float[0], largest[0]) == (4950, 50, 99)


# Numbers.


def test_16_bit_floats_round_as_on_the_device():
    run = kernel("""
        #include <cuda_fp16.h>
        #include <cuda_bf16.h>
        extern "C" __global__ void convert(const float* x, __half* h, float* h_back, unsigned short* b, float* b_back,
                                           __half* sum, int n) {
            for (int i = threadIdx.x; i < n; i += blockDim.x) {
                h[i] = __float2half(x[i]);
                h_back[i] = __half2float(h[i]);
                const __nv_bfloat16 bf = __float2bfloat16(x[i]);
                b[i] = __bfloat16_as_ushort(bf);
                b_back[i] = (float)bf;
            }
            __syncthreads();
            for (int i = threadIdx.x; i < n; i += blockDim.x) sum[i] = h[i] * h[n - 1 - i] + __half(1.0f);
        }""")
    halves = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
    rng = np.random.default_rng(0)
    others = rng.integers(0, 2**32, 20000, dtype=np.uint32).view(np.float32)
    between = np.float32(1) + np.arange(-3000, 3000, dtype=np.float32) * np.float32(2**-13)
    x = np.concatenate([halves, others, between, np.float32([65519, 65520, 2**-25, 2**-24 * 1.5, 1e-40])])
    h, b = np.empty(x.size, np.float16), np.empty(x.size, np.uint16)
    h_back, b_back, total = np.empty_like(x), np.empty_like(x), np.empty_like(h)
    with np.errstate(all="ignore"):
        expected = x.astype(np.float16)
        products = (expected.astype("f4") * expected[::-1].astype("f4")).astype("f2")
        sums = (products.astype("f4") + 1).astype("f2")
        bits = x.view(np.uint32).astype(np.uint64)
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    kernel_args = (x, h, h_back, b, b_back, total, np.int32(x.size))
    run((1,), (32,), kernel_args)
    np.testing.assert_array_equal(h, expected)
    np.testing.assert_array_equal(h_back, expected.astype("f4"))
    numbers = ~np.isnan(x)
    np.testing.assert_array_equal(b[numbers], rounded[numbers])
    np.testing.assert_array_equal(b_back, (b.astype(np.uint32) << 16).view(np.float32))
    np.testing.assert_array_equal(total, sums)


# What a GPU would hide.

BUGS = {
    "a missing barrier": (
        """extern "C" __global__ void bug(float* x) {
            __shared__ float held[64];
            held[threadIdx.x] = x[threadIdx.x];
            x[threadIdx.x] = held[63 - threadIdx.x] + 1;
        }""",
        None,
    ),
    "a missing warp barrier": (
        """extern "C" __global__ void bug(float* x) {
            volatile __shared__ float held[64];
            held[threadIdx.x] = x[threadIdx.x];
            x[threadIdx.x] = held[threadIdx.x ^ 1] + 1;
            __syncthreads();
        }""",
        None,
    ),
    "shared memory that was never written": (
        """extern "C" __global__ void bug(float* x) {
            __shared__ float held[64];
            if (threadIdx.x != 3) held[threadIdx.x] = 1;
            __syncthreads();
            x[threadIdx.x] = held[threadIdx.x];
        }""",
        None,
    ),
    "an element that is not written": (
        """extern "C" __global__ void bug(float* x) { if (threadIdx.x < 63) x[threadIdx.x] = 1; }""",
        None,
    ),
    "a tail beyond the end": (
        """extern "C" __global__ void bug(float* x) { x[threadIdx.x + 1] = 1; }""",
        "'bug': memory was written behind the end of an array of 256 bytes",
    ),
    "a write before the start": (
        """extern "C" __global__ void bug(float* x) { x[(int)threadIdx.x - 1] = 1; }""",
        "'bug': memory was written before the start",
    ),
    "a barrier that not all reach": (
        """extern "C" __global__ void bug(float* x) { if (threadIdx.x < 40) __syncthreads(); }""",
        r"'bug': .*block \(1, 0, 0\): thread \(0, 0, 0\) waits at a barrier at line 1; "
        r"thread \(40, 0, 0\) has returned|block \(0, 0, 0\): thread \(0, 0, 0\) waits at a barrier at line 1",
    ),
    "two barriers in the place of one": (
        """extern "C" __global__ void bug(float* x) {
            if (threadIdx.x < 32) __syncthreads();
            else
                __syncthreads();
        }""",
        r"thread \(0, 0, 0\) waits at a barrier at line 2; thread \(32, 0, 0\) waits at a barrier at line 4",
    ),
    "a mask that names lanes that do not come": (
        """extern "C" __global__ void bug(float* x) {
            if (threadIdx.x % 32 < 16) x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 1);
        }""",
        r"waits for its warp at line 2 with mask 0xffffffff; thread \(16, 0, 0\) has returned",
    ),
    "a mask without the lane itself": (
        """extern "C" __global__ void bug(float* x) { x[threadIdx.x] = __shfl_sync(0xffffu, x[threadIdx.x], 0); }""",
        r"line 1: lane 16 calls a warp function whose mask 0x0000ffff does not name it",
    ),
    "a lane outside of the mask is read": (
        """extern "C" __global__ void bug(float* x) {
            if (threadIdx.x % 32 < 16) x[threadIdx.x] = __shfl_down_sync(0xffffu, x[threadIdx.x], 4);
        }""",
        r"a shuffle at line 2 reads lane 16, which takes no part in it",
    ),
    "a trap": (
        """extern "C" __global__ void bug(float* x) { if (threadIdx.x == 5) __trap(); }""",
        r"__trap\(\) at line 1, block \(0, 0, 0\), thread \(5, 0, 0\)",
    ),
}


def results_in_all_orders(code, monkeypatch):
    found = []
    for seed in ORDERS:
        monkeypatch.setenv("GPUGRAD_CUDA_SIM_ORDER", str(seed))
        x = cupy.empty(64, np.float32)
        if "= x[" in code:
            x[...] = cupy.arange(64, dtype=np.float32)
        kernel(code)((2,) if "barrier" in code else (1,), (64,), (x,))
        found.append(x.get())
    return found


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_caught(bug, monkeypatch):
    code, message = BUGS[bug]
    if message is None:
        # Such a bug shows in the result: it is garbage, or depends on the order in which threads run.
        found = results_in_all_orders(code, monkeypatch)
        assert any(np.isnan(x).any() or (x != found[0]).any() for x in found)
    else:
        with pytest.raises(launch.LaunchError, match=message):
            results_in_all_orders(code, monkeypatch)


def test_the_same_without_the_bug_is_right(monkeypatch):
    code = BUGS["a missing barrier"][0].replace("x[threadIdx.x];\n", "x[threadIdx.x]; __syncthreads();\n", 1)
    for x in results_in_all_orders(code, monkeypatch):
        np.testing.assert_array_equal(x, np.arange(64)[::-1] + 1)


SANITIZED = """
import sys
import numpy as np
from gpugrad.backend.simulator import launch
from gpugrad.backend.simulator.module import cupy

code = sys.argv[1]
x = cupy.zeros(64, np.float32)
launch.RawModule(code=code).get_function("bug")((1,), (64,), (x,), shared_mem=256)
print("nothing found")
"""

SANITIZER_BUGS = {
    "a read beyond the end": ("x[threadIdx.x] = x[threadIdx.x + 1];", "use-after-poison|heap-buffer-overflow"),
    "a read far beyond": ("x[threadIdx.x] = x[threadIdx.x + 100];", "use-after-poison|heap-buffer-overflow"),
    "a shared array overrun": (
        "__shared__ float b[64]; float* p = b; p[threadIdx.x + 1] = 1; __syncthreads(); x[threadIdx.x] = p[0];",
        "global-buffer-overflow|insufficient space",
    ),
    "dynamic shared memory overrun": ("extern __shared__ float b[]; b[threadIdx.x + 1] = 1;", "use-after-poison"),
    "a local array overrun": ("float b[4]; for (int k = 0; k < 4; ++k) b[k] = k; x[0] = b[(int)x[1] + 4];", "index 4"),
    "an unaligned vector": ("*(float4*)(x + 1) = make_float4(1, 2, 3, 4);", "misaligned address"),
    "an int that overflows": ("int n = 2147483647; x[0] = (float)(n + (int)blockDim.x);", "signed integer overflow"),
    "a shift too far": ("x[0] = (float)(1 << (int)blockDim.x);", "shift exponent 64"),
}


def sanitized(*arguments, timeout=600):
    try:
        environment = compiler.sanitizer_environment()
    except RuntimeError as reason:
        pytest.skip(str(reason))
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=timeout
    )


@pytest.mark.parametrize("bug", SANITIZER_BUGS)
def test_sanitizers_catch_the_rest(bug):
    body, message = SANITIZER_BUGS[bug]
    code = f'extern "C" __global__ void bug(float* x) {{\n{body}\n}}'
    done = sanitized("-c", SANITIZED, code)
    assert done.returncode
    assert "kernel.cu:2" in done.stderr
    assert any(part in done.stderr for part in message.split("|")), done.stderr[:2000]


def test_sanitizers_find_nothing_in_a_correct_kernel():
    code = BUGS["a missing barrier"][0].replace("x[threadIdx.x];\n", "x[threadIdx.x]; __syncthreads();\n", 1)
    done = sanitized("-c", SANITIZED, code)
    assert done.stdout == "nothing found\n", done.stderr


WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; import pytest; sys.exit(pytest.main(sys.argv[1:]))"


@pytest.mark.slow
@pytest.mark.skipif(not cuda.simulated(), reason="part of the tests on simulated devices: set GPUGRAD_CUDA_SIM=1")
def test_the_librarys_kernels_under_sanitizers():
    tests = [Path(__file__).with_name(name) for name in ("test_kernels.py", "test_random.py")]
    # One dtype: the others are instances of the same templates.
    chosen = "kernels_draw or float32 and not (log_ or one_kernel_each or True)"
    options = ["-p", "no:cacheprovider", "-x", "-k", chosen]
    done = sanitized("-c", WITHOUT_TORCH, *options, *map(str, tests), timeout=1800)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    assert " passed" in done.stdout or "100%" in done.stdout


def test_sanitizers_need_their_own_process(monkeypatch):
    monkeypatch.setenv("GPUGRAD_CUDA_SIM_SANITIZE", "1")
    with pytest.raises(RuntimeError, match="sanitizer_environment"):
        kernel('extern "C" __global__ void f() {}')


# Launches.


def test_arguments_are_checked_against_the_signature():
    run = kernel('extern "C" __global__ void f(const float* x, int n, float a, unsigned long long m, const void* p) {}')
    x = cupy.zeros(3, np.float32)
    good = (x, np.int32(1), np.float32(2), np.uint64(3), x)
    run((1,), (1,), good)
    run((1,), (1,), (None, np.int32(1), np.float32(2), 3, np.uint64(0)))
    for k, wrong, message in [
        (0, cupy.zeros(3, np.float64), "a pointer to float32, but an array of float64"),
        (0, np.float32(1), "a pointer to float32, but float32 was given"),
        (1, 1, "int32, but int64 was given"),
        (1, np.float32(1), "int32, but float32"),
        (1, x, "int32, but an array of float32"),
        (2, 2.0, "float32, but float64 was given"),
        (3, np.int32(1), "uint64, but int32"),
    ]:
        with pytest.raises(launch.LaunchError, match=f"argument {k} is {message}"):
            run((1,), (1,), (*good[:k], wrong, *good[k + 1 :]))
    with pytest.raises(launch.LaunchError, match="takes 5 arguments, but 4 were given"):
        run((1,), (1,), good[:4])
    with pytest.raises(TypeError, match="Unsupported type"):
        run((1,), (1,), (*good[:4], "text"))


def test_a_struct_is_passed_by_value():
    run = kernel(
        """struct Pair { double first; int second[3]; };
        extern "C" __global__ void f(const __grid_constant__ Pair pair, double* out) {
            out[threadIdx.x] = pair.first + pair.second[threadIdx.x];
        }"""
    )
    pair = np.zeros((), np.dtype([("first", "f8"), ("second", "i4", 3)], align=True))
    pair["first"], pair["second"] = 0.5, [1, 2, 3]
    out = cupy.zeros(3)
    run((1,), (3,), (pair, out))
    assert out.get().tolist() == [1.5, 2.5, 3.5]
    for wrong in (np.zeros(2, pair.dtype), np.zeros((), "f8")):
        with pytest.raises(launch.LaunchError, match="argument 0 is a struct of 24 bytes"):
            run((1,), (3,), (wrong, out))


@pytest.mark.parametrize(
    ("grid", "block"),
    [((0,), (32,)), ((1,), (0,)), ((1, 70000), (32,)), ((1,), (2048,)), ((1,), (32, 64)), ((2**31,), (1,))],
)
def test_geometry_is_that_of_a_device(grid, block):
    with pytest.raises(launch.LaunchError):
        kernel('extern "C" __global__ void f() {}')(grid, block, ())


def test_compilers_errors_name_the_line():
    with pytest.raises(compiler.CompileException, match=r"kernel\.cu:2.*nonsense"):
        kernel('extern "C" __global__ void f() {\nnonsense;\n}')


def test_names_that_are_not_there():
    module = launch.RawModule(code='extern "C" __global__ void f() {}')
    with pytest.raises(launch.LaunchError, match="no kernel 'g' among f"):
        module.get_function("g")


def test_no_compiler_says_what_to_install(monkeypatch):
    compiler.compiler.cache_clear()
    monkeypatch.setenv("CXX", "no-such-compiler")
    try:
        with pytest.raises(RuntimeError, match=r"no-such-compiler.*apt install g\+\+"):
            compiler.compiler()
    finally:
        compiler.compiler.cache_clear()


def test_compiled_kernels_are_kept_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = 'extern "C" __global__ void f() {}'
    kernel(code)
    (first,) = (tmp_path / "gpugrad" / "simulator").glob("*.so")
    monkeypatch.setattr(compiler, "_run", lambda *args: pytest.fail("compiled again"))
    kernel(code)((1,), (1,), ())
    assert [*(tmp_path / "gpugrad" / "simulator").glob("*.so")] == [first]


@pytest.mark.parametrize("name", ["philox"])
def test_the_librarys_sources_are_found_and_compile(name):
    assert launch.RawModule(code=kernels.source(name)).get_function("words").parameters


def test_a_kernel_that_runs_for_long_is_compiled_anew(monkeypatch):
    built, plain = [], compiler.build
    monkeypatch.setattr(compiler, "build", lambda *args: (built.append(args[-1]), plain(*args))[1])
    monkeypatch.setattr(launch, "_SECONDS", 1e-9)
    module = launch.RawModule(
        code="""extern "C" __global__ void add(float* x, float y) {
            __shared__ float all[32];
            all[threadIdx.x] = x[threadIdx.x] * 0.1f;
            __syncthreads();
            x[threadIdx.x] = all[31 - threadIdx.x] + y;
        }
        extern "C" __global__ void other(float* x) { x[0] = 0; }"""
    )
    add, expected = module.get_function("add"), np.arange(32, dtype=np.float32)
    x = cupy.asarray(expected)
    for _ in range(3):
        add((1,), (32,), (x, np.float32(3)))
        expected = (expected * np.float32(0.1))[::-1] + np.float32(3)
        np.testing.assert_array_equal(x.get(), expected)
    module.get_function("other")((1,), (1,), (x,))
    assert built == [False, True]


# Arrays.


def test_arrays_are_no_numpy_arrays():
    x = cupy.arange(6).reshape(2, 3)
    assert not isinstance(x, np.ndarray)
    for convert in (np.asarray, np.array):
        with pytest.raises(TypeError, match=r"use `\.get\(\)`"):
            convert(x)
    host = np.ones((2, 3))
    for mix in (lambda: x + host, lambda: host + x, lambda: cupy.add(x, host), lambda: cupy.where(x > 1, host, x)):
        with pytest.raises(TypeError, match="Unsupported type"):
            mix()
    with pytest.raises(TypeError, match="Unsupported type"):
        x[0] = host[0]
    np.testing.assert_array_equal((2 * x + np.float64(1)).get(), 2 * np.arange(6).reshape(2, 3) + 1)


def test_results_stay_on_the_device():
    x = cupy.arange(6.0).reshape(2, 3)
    for value in (x.sum(), x[0, 1], x.max(axis=0), cupy.linalg.norm(x), np.exp(x), abs(x), x.T, x > 1, x @ x.T):
        assert isinstance(value, cupy.ndarray)
    assert x[0, 1].shape == ()
    x[0, 1][...] = 9  # a view
    assert float(x[0, 1]) == 9
    assert [float(row.sum()) for row in x] == [11, 12]
    with pytest.raises(TypeError):
        hash(x)


def test_views_share_memory_and_know_their_base():
    x = cupy.zeros((3, 4), np.float32)
    for view in (x[1:], x.T, x.reshape(4, 3), x[..., None], cupy.broadcast_to(x, (2, 3, 4)), x.ravel(), x.view("i4")):
        assert view.base is x
    assert x[1:].data.ptr == x.data.ptr + 16
    for copy in (x + 0, x[[0, 1]], x.copy(), x.T.reshape(-1), x[x > 0]):
        assert copy.base is None
        assert copy.flags.c_contiguous


def test_new_memory_holds_garbage():
    assert np.isnan(cupy.empty(5, np.float32).get()).all()
    assert np.isnan(cupy.empty_like(cupy.zeros(5)).get()).all()
    assert (cupy.empty(5, np.int32).get().view(np.uint32) == 0xA5A5A5A5).all()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: cupy.take(x, cupy.zeros(1, int), axis=0, mode="clip"), TypeError),
        (lambda x: cupy.sum(x, where=x > 0), TypeError),
        (lambda x: cupy.sum([1, 2]), TypeError),
        (lambda x: x.argmin(None, None, None, False, 1), TypeError),
        (lambda x: cupy.ravel_multi_index(x), TypeError),
        (lambda x: cupy.multiply.at(x, 0, 1), NotImplementedError),
        (lambda x: cupy.maximum.reduce(x), NotImplementedError),
        (lambda x: cupy.add.at(x.astype(np.int64), 0, 1), TypeError),
        (lambda x: cupy.bitwise_count_all(x), AttributeError),
        (lambda x: cupy.apply_along_axis_everywhere, AttributeError),
        (lambda x: x.flags.writeable, AttributeError),
        (lambda x: x.ctypes, AttributeError),
        (lambda x: x.argwhere(), AttributeError),
    ],
)
def test_what_cupy_lacks_is_missing(call, error):
    with pytest.raises(error):
        call(cupy.zeros((2, 3)))


# Memory, devices, streams.


def test_pools_count_and_limit():
    pool = memory.MemoryPool()
    with memory.using_allocator(pool.malloc):
        x = cupy.zeros(1000, np.float32)
        assert pool.used_bytes() == pool.total_bytes() == 4096
        y = cupy.zeros(1000, np.float32)
        del x
        assert (pool.used_bytes(), pool.total_bytes()) == (4096, 8192)
        pool.free_all_blocks()
        assert pool.total_bytes() == 4096
        pool.set_limit(size=6000)
        with pytest.raises(memory.OutOfMemoryError, match=r"allocating 4,096 bytes .*limit set to: 6,000 bytes"):
            y + 1
        pool.set_limit(size=0)
        with pytest.raises(memory.OutOfMemoryError):
            cupy.zeros(1 << 40)


def test_arrays_of_another_device_are_refused():
    with runtime.Device(1):
        x = cupy.zeros(3)
        x += 1
    assert x.device.id == 1
    with pytest.raises(ValueError, match="array device = 1 while current = 0"):
        x + 1
    with pytest.raises(launch.LaunchError, match="argument 0 lives on device 1"):
        kernel('extern "C" __global__ void f(double* x) {}')((1,), (1,), (x,))
    np.testing.assert_array_equal(cupy.asarray(x).get(), np.ones(3))
    with pytest.raises(runtime.CUDARuntimeError):
        runtime.Device(2).use()


def captured(work):
    stream = runtime.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        try:
            work()
        finally:
            graph = stream.end_capture()
    return graph


def test_sorting_is_captured():
    x, kept = cupy.asarray([3.0, 1.0, 2.0]), []
    graph = captured(lambda: kept.extend([cupy.sort(x), cupy.argsort(x), cupy.argpartition(x, 0)[:1]]))
    for _ in range(2):
        graph.launch()
        assert kept[0].get().tolist() == sorted(x.get().tolist())
        assert kept[1].get().tolist() == np.argsort(x.get()).tolist()
        assert kept[2].get().tolist() == [np.argmin(x.get())]
        x *= -1


def test_captured_work_runs_at_launch_only():
    twice = kernel('extern "C" __global__ void f(float* x) { x[threadIdx.x] *= 2; }')
    x, kept = cupy.ones(4, np.float32), {}

    def work():
        kept["y"] = y = x + 1
        twice((1,), (4,), (y,))
        x[1:3] += y[1:3]
        kept["total"] = y.sum()
        y.reshape(2, 2)[0] = 0

    graph = captured(work)
    assert np.isnan(kept["y"].get()).all()
    assert x.get().tolist() == [1, 1, 1, 1]
    for expected_x, expected_y, total in [([1, 5, 5, 1], [0, 0, 4, 4], 16), ([1, 17, 17, 1], [0, 0, 12, 4], 32)]:
        graph.launch()
        assert x.get().tolist() == expected_x
        assert kept["y"].get().tolist() == expected_y
        assert float(kept["total"]) == total


@pytest.mark.parametrize("own", [True, False])
def test_graphs_need_a_pool_of_their_own(own):
    pool = memory.MemoryPool() if own else memory.default_pool
    x = cupy.ones(4)
    with memory.using_allocator(pool.malloc):
        graph = captured(lambda: cupy.multiply(x + 1, x, out=x))
    graph.launch()
    assert x.get().tolist() == [2] * 4
    y = cupy.ones(4)
    if own:
        graph.launch()
        assert (x + y).get().tolist() == [7] * 4
    else:
        with pytest.raises(RuntimeError, match="a pool of its own"):
            graph.launch()


class Foreign:
    """An array of another library, whose stream CuPy waits for."""

    __cuda_array_interface__ = cupy.zeros(1).__cuda_array_interface__


def test_a_graph_that_reads_memory_which_was_freed_reads_garbage():
    held, out = [cupy.ones(4)], cupy.zeros(4)
    graph = captured(lambda: cupy.add(held[0], 1, out=out))
    graph.launch()
    assert out.get().tolist() == [2] * 4
    held.clear()
    graph.launch()
    assert np.isnan(out.get()).all()


def test_few_arrays_are_joined_while_capturing():
    x = cupy.ones(2)
    found = []
    captured(lambda: found.append(cupy.concatenate([x] * 8))).launch()
    assert found[0].get().tolist() == [1] * 16


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.get(),
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: float(x[0, 0]),
        lambda x: cupy.asarray(np.ones(3)),
        lambda x: cupy.nonzero(x),
        lambda x: x[x > 0],
        lambda x: x @ x,
        lambda x: cupy.einsum("ij->i", x),
        lambda x: cupy.linalg.inv(x),
        lambda x: cupy.unique(x),
        lambda x: cupy.concatenate([x] * 9),
        lambda x: cupy.stack([x] * 9),
        lambda x: operator.iadd(x, Foreign()),
        lambda x: cupy.exp(Foreign()),
        lambda x: runtime.Device().synchronize(),
        lambda x: runtime.get_current_stream().synchronize(),
    ],
)
def test_what_cannot_be_captured_raises(work):
    x = cupy.ones((2, 2))

    def refused():
        with pytest.raises(runtime.CUDARuntimeError, match="capturing"):
            work(x)

    with pytest.raises(runtime.CUDARuntimeError, match="previous error during capture"):
        captured(refused)


def test_streams_and_events():
    with pytest.raises(RuntimeError, match="default"):
        runtime.Stream.null.begin_capture()
    stream = runtime.Stream()
    assert runtime.get_current_stream() == runtime.Stream.null
    with stream:
        assert runtime.get_current_stream() is stream
        start, end = stream.record(), stream.record()
    assert runtime.get_elapsed_time(start, end) >= 0
    with pytest.raises(runtime.CUDARuntimeError):
        runtime.get_elapsed_time(start, runtime.Event())
    with runtime.Device(1), pytest.raises(RuntimeError, match="does not match"):
        stream.__enter__()
