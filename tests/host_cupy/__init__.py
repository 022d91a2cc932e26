"""A pytest plugin: the real CuPy, and with it the tests for a GPU, on a machine that has none.

The simulator has a stand-in for CuPy, which is fast but may be kinder than CuPy is. Here CuPy itself runs: the CUDA
runtime that its wheel contains is turned over to ``runtime.cpp`` while it is loaded, NVRTC to the simulator's compiler,
Thrust to NumPy, and cuBLASLt to the simulator's. Streams are as late as they may be. Not there are cuBLAS and
cuSOLVER, whose tests are skipped, and the accelerators CUB and cuTENSOR.

It needs Linux on x86-64, g++, and ``pip install 'gpugrad[hostcuda]'``, the CuPy whose library it knows::

    PYTHONPATH=tests pytest -p host_cupy -m gpu tests/test_capture.py

The first run compiles some hundred kernels; the next finds them in the user's cache folder. With ``HOST_CUPY_FENCED=1``
each array has its own pages, and a kernel that leaves them crashes.
"""

import ctypes
import functools
import hashlib
import importlib.metadata
import importlib.util
import mmap
import os
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from gpugrad.backend import cuda
from gpugrad.backend.simulator import compiler, cublaslt

HERE = Path(__file__).parent
CACHE = compiler.cache_folder().parent / "host_cupy"
CUPY = Path(importlib.util.find_spec("cupy").origin).parent


def compiled(name, source, *flags):
    """A shared library of the cache, made by the host's compiler unless it is there."""
    path, version = compiler.compiler()
    key = hashlib.sha256("\0".join([source, version, *flags]).encode()).hexdigest()[:32]
    library = CACHE / f"{name}-{key}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            code = Path(scratch, "code.cpp")
            code.write_text(source)
            compiler._run([path, *flags, "-shared"], library, code)
    return library


def folder_of(header, package):
    """Where an installed package has a header."""
    files = importlib.metadata.files(package)
    found = next(file for file in files if file.as_posix().endswith(f"/include/{header}"))
    return Path(str(found.locate()).removesuffix(header))


def host_runtime():
    """The library of runtime.cpp, loaded under the name of the driver's."""
    headers = folder_of("cuda.h", "nvidia-cuda-runtime"), folder_of("crt/host_defines.h", "nvidia-cuda-crt")
    flags = ["-O1", "-std=c++17", "-fPIC", "-Wl,-soname,libcuda.so.1", *(f"-I{folder}" for folder in headers)]
    library = compiled("runtime", (HERE / "runtime.cpp").read_text(), *flags)
    return ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def turn_over(library, to):
    """Let each ``cudaName`` in a library jump to ``host_cudaName`` of another; what has none says so and fails."""
    kept.append(ctypes.CDLL(str(library)))
    maps = (line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(library)))
    base = next(int(line[0].split("-")[0], 16) for line in maps if line[2] == "00000000")
    names = subprocess.run(["nm", str(library)], capture_output=True, text=True, check=True).stdout
    found = [(base + int(at, 16), name) for at, name in re.findall(r"^(\w+) [tT] (cuda[A-Z]\w*)$", names, re.M)]
    if not found:
        raise RuntimeError(f"{library} does not name its functions: this CuPy is not the one that is known here")
    page, missing = mmap.PAGESIZE, ctypes.cast(to.host_missing, ctypes.c_void_p).value
    code = mmap.mmap(-1, 32 * len(found), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    kept.append(code)
    start = ctypes.addressof(ctypes.c_char.from_buffer(code))
    protect = ctypes.CDLL(None).mprotect
    for k, (place, name) in enumerate(found):
        function = getattr(to, f"host_{name}", None)
        target = start + 32 * k
        if function is None:
            text = ctypes.create_string_buffer(name.encode())
            kept.append(text)
            # mov rdi, text; mov rax, missing; jmp rax
            moves = b"\x48\xbf", ctypes.addressof(text), b"\x48\xb8", missing, b"\xff\xe0"
            code[32 * k : 32 * k + 22] = struct.pack("<2sQ2sQ2s", *moves)
        else:
            target = ctypes.cast(function, ctypes.c_void_p).value
        first = place & -page
        protect(ctypes.c_void_p(first), ctypes.c_size_t(2 * page), 7)
        jump = struct.pack("<6sQ", b"\xff\x25\0\0\0\0", target)  # jmp [rip]
        ctypes.memmove(place, jump, len(jump))


def submit(step):
    """Do work of Python's on CuPy's current stream: when it is its turn, and at each replay if it is captured."""
    steps.append(step)
    runtime.host_push(ctypes.c_void_p(cupy.cuda.get_current_stream().ptr), run_step, ctypes.c_longlong(len(steps) - 1))


@ctypes.CFUNCTYPE(None, ctypes.c_longlong)
def run_step(number):
    with np.errstate(all="ignore"):
        steps[number]()


def at(address, shape, dtype):
    """The device's memory at an address, as NumPy's."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size and not runtime.host_on_device(ctypes.c_void_p(address), ctypes.c_size_t(size)):
        raise RuntimeError("cudaErrorIllegalAddress")
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)


def sort(dtype, data, keys, shape):
    values = at(data, shape, dtype)
    submit(lambda: values.sort(axis=-1))


def argsort(dtype, index, data, keys, shape):
    values, order = at(data, shape, dtype), at(index, shape, np.intp)

    def step():
        order[...] = np.argsort(values, axis=-1, kind="stable")
        values.sort(axis=-1)

    submit(step)


def lexsort(dtype, index, keys, k, n):
    values, order = at(keys, (k, n), dtype), at(index, (n,), np.intp)
    submit(lambda: np.copyto(order, np.lexsort(values)))


def compile_for_the_host(source, options=(), arch=None, filename="", name_expressions=None, *_):
    """What CuPy's compile_using_nvrtc gives: an image and the names in it, here of a library of the host's compiler."""
    if "<cupy/" in source:
        names = KERNEL.findall(source)
        library = compiled_for_cupy(source, options, names)
    else:
        names = [*compiler.exported(source), *(name_expressions or ())]
        library = compiler.build(source, options, names)._name
    image = "\n".join(["HOST", str(library), *names]).encode() + b"\0"
    return image, {name: name for name in name_expressions} if name_expressions else None


KERNEL = re.compile(r"__global__\s+void\s+(\w+)\s*\(")


def compiled_for_cupy(source, options, names):
    """A library of kernels that CuPy wrote."""
    flags = [*compiler._ALWAYS, "-O0", "-std=c++17", "-fpermissive", "-D__CUDACC_VER_MAJOR__=13"]
    flags += ["-DGPUGRAD_CUDA_SIM_LENIENT", *(option for option in options if option.startswith(("-D", "-U")))]
    flags += [f"-I{folder}" for folder in (CACHE / "include", CUPY / "_core" / "include", compiler.INCLUDE)]
    text = re.sub(r"#include <cupy/(complex|carray|atomics)\.cuh>", "", source)
    code = compiler.translate(text.replace('extern "C" {', "inline namespace exported {"), names)
    # What its headers declare is in no namespace.
    code = code.replace('#include "cuda_sim.h"\nnamespace {', '#include "prelude.h"').replace("}  // namespace\n", "")
    return compiled("kernel", code, *flags[:-3], f"-I{parsed_prelude(tuple(flags))}", *flags[-3:], f"-I{HERE}")


@functools.cache
def parsed_prelude(flags):
    """The folder of prelude.h as GCC keeps it once parsed, which takes most of the time of a kernel."""
    path, _ = compiler.compiler()
    headers = b"".join(file.read_bytes() for file in (HERE / "prelude.h", *sorted(compiler.INCLUDE.glob("*.h"))))
    parsed = CACHE / hashlib.sha256("\0".join(flags).encode() + headers).hexdigest()[:32] / "prelude.h.gch"
    if not parsed.exists():
        parsed.parent.mkdir(exist_ok=True)
        compiler._run([path, *flags, "-x", "c++-header"], parsed, HERE / "prelude.h")
    return parsed.parent


def pytest_collection_modifyitems(items):
    for item in items:
        if "subprocess" in item.function.__code__.co_names:
            item.add_marker(pytest.mark.skip(reason="starts a process of its own, without this plugin"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    try:
        return (yield)
    except ImportError as error:
        if "Failure finding" not in str(error):
            raise
        pytest.skip(f"not on the host: {error}")


steps, kept = [], []
for name in ("cuda_fp16.h", "cuda_bf16.h"):  # the simulator's are in cuda_sim.h
    (CACHE / "include").mkdir(parents=True, exist_ok=True)
    (CACHE / "include" / name).touch()
runtime = host_runtime()
turn_over(next((CUPY.parent / "cupy_backends" / "cuda" / "api").glob("runtime.*.so")), runtime)

thrust = ModuleType("cupy.cuda.thrust")
vars(thrust).update(available=True, get_build_version=lambda: 0, sort=sort, argsort=argsort, lexsort=lexsort)
sys.modules["cupy.cuda.thrust"] = thrust
os.environ |= {"CUPY_ACCELERATORS": "", "CUPY_CACHE_IN_MEMORY": "1"}

import cupy  # noqa: E402
import cupy.cuda.compiler  # noqa: E402

vars(cupy.cuda.compiler).update(
    _compile_using_nvrtc_no_warning=compile_for_the_host,
    _get_nvrtc_version=lambda: (13, 0),
    _preprocess=lambda *args: "",
)
cublaslt._block = lambda address, size: at(address, (size,), np.uint8)
cublaslt.runtime = SimpleNamespace(submit=submit, get_current_stream=cupy.cuda.get_current_stream)
cuda.cublaslt = cublaslt.Library
if os.environ.get("HOST_CUPY_FENCED"):
    cuda.cupy()
    cupy.cuda.set_allocator(None)  # without a pool
