"""Every kernel and dtype through NVRTC, which needs no GPU: it compiles, spills nothing, and keeps to its registers."""

import ctypes
import functools
import importlib.metadata
import os
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import samples_of

from gpugrad.backend import kernels
from gpugrad.backend.fused import launch, pointwise
from gpugrad.ops import REGISTRY

ARCHITECTURES = ["sm_80", "sm_90", "sm_100"]
TYPES = {"float32": "float", "float64": "double", "float16": "__half", "bfloat16": "__nv_bfloat16"}
FLAGS = ("false", "true")

# Registers of a thread. A multiprocessor has 65536: with 64, two blocks of 512 threads or one of 1024 fit beside
# each other, which keeps enough loads in flight. The gradient of a normalisation holds two rows and two
# accumulators, and has at most 512 threads; of optimizers that keep all they can three blocks of 256 fit.
BUDGET = {"standardize_slope": 128}
BUDGET |= {
    f"{name}<{kind}, true{more}>": 80
    for kind in ("double, 2", "__half, 8", "__nv_bfloat16, 8")
    for name, more in (("adam", ""), ("rmsprop", ", true"))
}
BUDGET["nadam<double, 2>"] = 80
USUAL_BUDGET = 64


def installed(package, file):
    """The path of a file of an installed package."""
    try:
        found = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("NVRTC is not installed: pip install 'gpugrad[nvrtc]'")
    return next(each for each in found if each.name.startswith(file)).locate()


@functools.cache
def nvrtc():
    return ctypes.CDLL(str(installed("nvidia-cuda-nvrtc", "libnvrtc.so")))


def check(program, status):
    if status:
        pytest.fail(f"NVRTC failed with status {status}:\n{log(program)[:4000]}")


def log(program):
    size = ctypes.c_size_t()
    nvrtc().nvrtcGetProgramLogSize(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    nvrtc().nvrtcGetProgramLog(program, text)
    return text.value.decode()


USAGE = re.compile(
    r"entry function '(\w+)' for.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers",
    re.S,
)


def usage(file, code, names, architecture):
    """Registers, bytes on the stack and bytes spilled of each kernel: compiled as CuPy does."""
    library, program = nvrtc(), ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), code.encode(), file.encode(), 0, None, None)
    for name in names:
        library.nvrtcAddNameExpression(program, name.encode())
    include = installed("nvidia-cuda-runtime", "cuda_fp16.h").parent
    options = [
        *kernels.options(names[0]),
        f"--gpu-architecture={architecture}",
        "--ptxas-options=-v",
        "-ftz=true",
        "--device-as-default-execution-space",
        f"-I{include}",
    ]
    encoded = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    check(program, library.nvrtcCompileProgram(program, len(options), encoded))
    lowered = {}
    for name in names:
        answer = ctypes.c_char_p()
        check(program, library.nvrtcGetLoweredName(program, name.encode(), ctypes.byref(answer)))
        lowered[answer.value.decode()] = name
    found = {}
    for name, stack, stores, loads, registers in USAGE.findall(log(program)):
        found[lowered[name]] = int(registers), int(stack), int(stores) + int(loads)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    assert set(found) == set(names)
    return found


def templates(dtype, *options, aligned=16):
    """The geometries that need most registers: of rows that fit into them, and of others. Unaligned ones for float32.

    The first ones are short.
    """
    # Rows know a dtype by its size alone.
    kind = np.dtype("f2" if dtype == "bfloat16" else dtype)
    lengths = [1 << k for k in range(10, 18)]
    found = [[launch.rows(1000, n - odd, kind, aligned, *options) for n in lengths] for odd in (0, 1)]
    chosen = [max(hows, key=lambda how: how.width * how.packs) for hows in found] + [hows[-1] for hows in found]
    return [how.template() for how in (chosen if dtype == "float32" else chosen[::2])]


def is_short(template):
    return template.count(",") == 2


def softmax():
    for dtype, c in TYPES.items():
        for template in templates(dtype):
            long = "" if is_short(template) else "_long"
            yield f"softmax{long}<{c}, {template}, false>"
            yield f"logsumexp{long}<{c}, {template}>"
            yield from (f"cross_entropy{long}<{c}, {template}, {flag}>" for flag in FLAGS)
        for template in templates(dtype, 2):
            yield f"softmax_slope{'' if is_short(template) else '_long'}<{c}, {template}, false>"
            yield f"softmax_slope{'' if is_short(template) else '_long'}<{c}, {template}, true>"
        for template in templates(dtype, 3, aligned=8) if dtype == "float64" else templates(dtype, 2):
            yield f"soft_cross_entropy{'' if is_short(template) else '_long'}<{c}, {template}>"
        yield f"softmax<{c}, {templates(dtype)[0]}, true>"
        for width in widths(dtype):
            places = 1 if dtype == "float64" else min(width, 2)
            yield from (f"cross_entropy_columns<{c}, {places}, {flag}>" for flag in FLAGS)
            yield f"soft_cross_entropy_columns<{c}, {places}>"
            yield f"scaled_rows<{c}, {width}>"
    yield from (f"chosen_weights<{c}>" for c in ("float", "double"))


def widths(dtype):
    """The widest access, and for float32 the narrowest."""
    return {"float32": (4, 1), "float64": (2,)}.get(dtype, (8,))


def norm():
    for dtype, c in TYPES.items():
        # Weights may be wider than what they multiply.
        weight = "float" if c == "__half" else c
        for template in templates(dtype):
            yield f"standardize{'' if is_short(template) else '_long'}<{c}, {weight}, {template}, true>"
        for template in templates(dtype, 2, 512, 8 if dtype == "float64" else 16):
            if is_short(template):
                yield f"standardize_slope<{c}, {weight}, {template}, true, true>"
            else:
                yield f"standardize_slope_long<{c}, {weight}, {template}, true>"
        yield from (f"channel_standardize<{c}, {weight}, {width}>" for width in widths(dtype))
        for width in widths(dtype):
            yield f"standardize_parts<{c}, {width}, true>"
            yield f"channel_slope<{c}, {width}>"
            yield f"channel_moments<{c}, {width}, false>"
            yield f"channel_slopes<{c}, {width}, false>"
        yield f"channel_moments<{c}, 1, true>"
        yield f"channel_slopes<{c}, 1, true>"
        yield f"merge_slopes<{'double' if c == 'double' else 'float'}, {c}>"
    yield from (f"merge_moments<{c}>" for c in ("float", "double"))


def reduce():
    for dtype, c in TYPES.items():
        between = "double" if c == "double" else "float"
        for width in widths(dtype):
            for combine in ("Sum", "Larger", "Smaller"):
                yield f"reduce_rows<{c}, {between}, {combine}, {width}, 256>"
                yield f"reduce_columns<{c}, {between}, {combine}, {width}, 32>"
            yield f"reduce_rows<{c}, {c}, Sum, {width}, 4>"
            yield from (f"reduce_columns<{between}, {c}, Sum, {min(width, 4)}, {lanes}>" for lanes in (2, 8))


BY_ELEMENT = ("adagrad", "adadelta", "radam", "adamax", "nadam", "rprop", "asgd")


def optim():
    yield "prepare"
    yield from (f"{name}_numbers<{c}>" for name in ("nadam", "asgd") for c in ("float", "double"))
    for dtype, c in TYPES.items():
        for width in widths(dtype):
            yield from (f"sgd<{c}, {width}, {flag}>" for flag in FLAGS)
            yield from (f"adam<{c}, {width}, {flag}>" for flag in FLAGS)
            yield from (f"rmsprop<{c}, {width}, {flag}, {flag}>" for flag in FLAGS)
            yield from (f"{name}<{c}, {width}>" for name in BY_ELEMENT)
            yield from (f"norm_parts<{c}, {width}, {p}>" for p in range(3))
            yield f"rescale<{c}, {width}, {c}>"
        yield from (f"norm_total<{c}, {p}>" for p in range(3))


def philox():
    yield from ("words", "below", "integers", "uniform_float32", "uniform_float64", "normal_float32", "normal_float64")


def dropout():
    yield from (f"dropout<{c}, {width}>" for dtype, c in TYPES.items() for width in widths(dtype))


def index():
    yield from ("sort_count", "sort_scan", "sort_move", "sort_keys<int>", "sort_keys<long long>")
    yield from (f"{name}<{kind}>" for name in ("check_range", "ravel_index") for kind in ("int", "long long"))
    for name in ("combine_tiles", "join_tiles"):
        yield from (f"{name}<{c}, 1, Maximum>" for c in ("bool", "signed char", "long long"))
        for dtype, c in TYPES.items():
            yield from (f"{name}<{c}, {width}, Add>" for width in widths(dtype))
            yield from (f"{name}<{c}, 1, {how}>" for how in ("Multiply", "Maximum", "Minimum"))
    for dtype, c in TYPES.items():
        yield from (f"take_rows<{c}, long long, {x}, {width}>" for x in ("u32", "i64") for width in widths(dtype))


def window():
    names = ("unfold", "fold", "maxima", "maxima_slope", "averages")
    yield from (f"{name}<{c}>" for name in names for c in TYPES.values())
    yield from (f"averages_slope<{c}, {width}>" for dtype, c in TYPES.items() for width in widths(dtype))


FILES = {each.__name__: each for each in (softmax, norm, reduce, index, optim, dropout, philox, window)}


def check_usage(found):
    wrong = []
    for name, (registers, stack, spilled) in found.items():
        budget = BUDGET.get(name) or BUDGET.get(name.split("<")[0], USUAL_BUDGET)
        if registers > budget or spilled:
            wrong.append(f"{name}: {registers} registers of {budget}, {stack} bytes of stack, {spilled} bytes spilled")
    assert not wrong, "\n".join(wrong)


@functools.cache
def compilation():
    """All of them, compiled side by side."""
    nvrtc()
    pool = ThreadPoolExecutor(os.cpu_count())
    return {
        (file, architecture): pool.submit(
            usage, f"{file}.cu", kernels.source(file), list(dict.fromkeys(names())), architecture
        )
        for file, names in FILES.items()
        for architecture in ARCHITECTURES
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", FILES)
def test_kernels_compile_without_spills(file, architecture):
    check_usage(compilation()[file, architecture].result())


def test_every_kernel_is_compiled():
    """Each kernel that a source defines is in the lists above."""
    for file, names in FILES.items():
        defined = re.findall(r"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(", kernels.source(file))
        assert set(defined) == {name.split("<")[0] for name in names()}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", TYPES)
def test_a_generated_chain_compiles(name, architecture):
    ml_dtypes = pytest.importorskip("ml_dtypes") if name == "bfloat16" else None
    dtype = np.dtype(ml_dtypes.bfloat16) if ml_dtypes else np.dtype(name)
    nodes = [pointwise.Node("input", (), (0,), dtype), pointwise.Node("input", (), (1,), dtype)]
    nodes.append(pointwise.Node("add", (0, 1), (), dtype))
    nodes += [
        pointwise.Node(op, (k + 2,), params, dtype)
        for k, (op, params) in enumerate((("gelu", ("none",)), ("silu", ())))
    ]
    chain = pointwise.fuse(nodes, (2, 4))._chain
    side = np.zeros(64, dtype)
    layout = pointwise._layout(
        (64, 64),
        [
            ((64, 64), (64 * dtype.itemsize, dtype.itemsize), dtype.itemsize, 16),
            (side.shape, side.strides, dtype.itemsize, 16),
        ],
        16 // dtype.itemsize,
    )
    code, _ = pointwise._source(chain, layout)
    check_usage(usage("fused.cu", code, ["fused"], architecture))


@pytest.mark.parametrize("name", TYPES)
def test_a_chain_with_a_dropout_compiles(name):
    ml_dtypes = pytest.importorskip("ml_dtypes") if name == "bfloat16" else None
    dtype, word = np.dtype(ml_dtypes.bfloat16) if ml_dtypes else np.dtype(name), np.dtype("uint64")
    nodes = [pointwise.Node("input", (), (k,), d) for k, d in enumerate((dtype, dtype, word, word))]
    nodes += [pointwise.Node("dropout", (0, 2, 3), (0, 1 << 31, 2.0), dtype), pointwise.Node("add", (4, 1), (), dtype)]
    chain = pointwise.fuse(nodes, (5,))._chain
    array, number = ((64,), (dtype.itemsize,), dtype.itemsize, 16), ((), (), 8, 16)
    for most in (8, 1):
        code, _ = pointwise._source(chain, pointwise._layout((64,), [array, array, number, number], most))
        check_usage(usage("fused.cu", code, ["fused"], ARCHITECTURES[0]))


def calls(name, dtype):
    """The ways to call an op in a chain: which of four inputs (the last one a mask) it gets, and parameters."""
    count = len(REGISTRY[name].inputs)
    operands = tuple(3 if k == pointwise.MASKS.get(name) else k for k in range(count))
    kinds = [pointwise.BOOL if k == 3 else dtype for k in operands]
    for params in dict.fromkeys(tuple(sample[count:]) for sample in samples_of(REGISTRY[name])):
        plain = all(p is None or isinstance(p, bool | int | float | str) for p in params)
        if plain and pointwise.can_fuse(name, kinds, params):
            yield operands, params


@pytest.mark.parametrize("name", ["float32", "float64", "int64"])
def test_every_op_of_chains_compiles(name):
    """All that are there for a dtype, side by side in one kernel."""
    dtype = np.dtype(name)
    nodes = [pointwise.Node("input", (), (k,), dtype) for k in range(3)]
    nodes.append(pointwise.Node("input", (), (3,), pointwise.BOOL))
    for op in sorted(pointwise.known_ops() & REGISTRY.keys()):
        out = pointwise.BOOL if op in pointwise.TESTS else dtype
        nodes += [pointwise.Node(op, operands, params, out) for operands, params in calls(op, dtype)]
    assert len(nodes) > (35 if name == "int64" else 100)
    chain = pointwise.fuse(nodes, range(4, len(nodes)))._chain
    inputs = [((64,), (n,), n, 16) for n in (*[dtype.itemsize] * 3, 1)]
    code, _ = pointwise._source(chain, pointwise._layout((64,), inputs, 1))
    usage("fused.cu", code, ["fused"], "sm_90")
