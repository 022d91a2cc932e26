"""Compiles CUDA C++ with the host's compiler, into a library that runs its kernels on the CPU.

The source is used as it is, behind ``include/cuda_sim.h``; three spellings that a
host compiler cannot be taught by macros are replaced, line by line.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

INCLUDE = Path(__file__).parent / "include"

# What cuda_sim.h supplies already.
_SUPPLIED = re.compile(
    r"^[ \t]*#[ \t]*include[ \t]*[<\"](cuda_fp16\.h|cuda_bf16\.h|math_constants\.h|cuda_runtime\.h)[>\"]", re.M
)
_PARENTHESES = r"\((?:[^()]|\([^()]*\))*\)"
_KERNEL = re.compile(
    rf'extern\s+"C"\s+__global__\s+(?:__launch_bounds__\s*{_PARENTHESES}\s*)?void\s+'
    rf"(?:__launch_bounds__\s*{_PARENTHESES}\s*)?(\w+)\s*\("
)
_DYNAMIC_SHARED = re.compile(
    rf"extern\s+__shared__\s+(?:__align__\s*{_PARENTHESES}\s+)?([\w:<>\s]+?)\s+(\w+)\s*\[\s*\]"
)
_FAST_TO_COMPILE = ("-O0",)  # tests spend more time on compiling than on running
_FAST_TO_RUN = ("-O1",)
_SANITIZED = (
    *_FAST_TO_COMPILE,
    "-g",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
    "-fno-omit-frame-pointer",
)
_ALWAYS = ("-fPIC", "-w", "-ffp-contract=off", "-fno-strict-aliasing")


class CompileException(Exception):
    """The host compiler refused a kernel; CuPy's name for it."""


def sanitizing() -> bool:
    """Whether kernels are to be compiled with AddressSanitizer and UndefinedBehaviorSanitizer."""
    return os.environ.get("GPUGRAD_CUDA_SIM_SANITIZE", "") not in ("", "0")


@functools.cache
def compiler() -> tuple[str, str]:
    """The host's C++ compiler and its version.

    Raises:
        RuntimeError: there is none; says what to install.
    """
    asked = os.environ.get("CXX")
    for name in (asked,) if asked else ("c++", "g++", "clang++"):
        path = shutil.which(name)
        if path:
            return path, subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    looked = f"CXX names {asked!r}, which is not there" if asked else "none of c++, g++, clang++ was found"
    raise RuntimeError(
        f"simulating CUDA kernels needs a C++ compiler on this machine, and {looked}. "
        "Install one (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++; macOS: xcode-select --install)"
    )


def sanitizer_environment() -> dict[str, str]:
    """The variables of a process that runs sanitized kernels: the sanitizers' libraries must be loaded first."""
    path, _ = compiler()
    found = []
    for name in ("libasan.so", "libubsan.so"):
        answer = subprocess.run([path, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        library = answer.stdout.strip()
        if not os.path.isabs(library):
            raise RuntimeError(f"{path} has no {name}: install its sanitizer libraries")
        found.append(os.path.realpath(library))
    return {
        **os.environ,
        "GPUGRAD_CUDA_SIM": "1",
        "GPUGRAD_CUDA_SIM_SANITIZE": "1",
        "LD_PRELOAD": ":".join(found),
        # Python itself leaks, and takes more memory than it names.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:handle_segv=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


def cache_folder() -> Path:
    """Where compiled kernels are kept: ``gpugrad/simulator`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "gpugrad" / "simulator"


def exported(code: str) -> list[str]:
    """The names of the ``extern "C"`` kernels in a source."""
    return _KERNEL.findall(code)


def translate(code: str, kernels: Sequence[str]) -> str:
    """The C++ for the host: the source between the simulator's header and one entry point per kernel."""
    code = _SUPPLIED.sub("", code)
    code = _DYNAMIC_SHARED.sub(r"static \1* const \2 = reinterpret_cast<\1*>(cuda_sim::dynamic_shared)", code)
    code = re.sub(r'extern\s+"C"\s+(?=__global__)', "", code)
    # Without a name, the namespace keeps kernels apart from the C library's functions of the same name.
    parts = ['#include "cuda_sim.h"', "namespace {", '#line 1 "kernel.cu"', code, "}  // namespace"]
    for k, name in enumerate(kernels):
        parts.append(
            f'extern "C" const char* cuda_sim_launch_{k}(const cuda_sim_launch* how, void** args) '
            f"{{ return cuda_sim::launch<&{name}>(how, args); }}\n"
            f'extern "C" int cuda_sim_describe_{k}(cuda_sim_parameter* into) '
            f"{{ return cuda_sim::describe(&{name}, into); }}"
        )
    return "\n".join(parts) + "\n"


@functools.cache
def _headers() -> bytes:
    return b"\0".join(path.read_bytes() for path in sorted(INCLUDE.glob("*.h")))


def _host_options(options: Sequence[str]) -> list[str]:
    """The NVRTC options that mean something to the host's compiler."""
    return [option.replace("--std", "-std") for option in options if re.match(r"--?std=|-D|-U", option)]


def _folder() -> Path:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.gettempdir()) / f"gpugrad-simulator-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _run(command: Sequence[str], into: Path, source: Path) -> None:
    """Compile into a file that is whole as soon as it is there, whoever else compiles the same."""
    with tempfile.TemporaryDirectory(dir=into.parent) as scratch:
        made = os.path.join(scratch, "made")
        result = subprocess.run([*command, str(source), "-o", made], capture_output=True, text=True)
        if result.returncode:
            raise CompileException(
                f"{command[0]} does not compile this kernel for the simulator:\n{result.stderr[-4000:]}"
            )
        os.replace(made, into)


@functools.cache
def _precompiled(path: str, version: str, flags: tuple[str, ...], folder: Path) -> list[str]:
    """The option that makes GCC find the simulator's header already parsed, which halves the time of a build."""
    if "clang" in version:
        return []
    key = hashlib.sha256("\0".join([version, path, *flags]).encode() + _headers()).hexdigest()[:32]
    parsed = folder / key / "cuda_sim.h.gch"
    if not parsed.exists():
        parsed.parent.mkdir(exist_ok=True)
        _run([path, *flags, "-x", "c++-header"], parsed, INCLUDE / "cuda_sim.h")
    return [f"-I{parsed.parent}"]


def build(code: str, options: Sequence[str], kernels: Sequence[str], optimized: bool = False) -> ctypes.CDLL:
    """The library of a source, compiled unless an equal one was before.

    Args:
        optimized: it will run for long (not for the sanitizers, under which compiling always takes longer).

    Raises:
        RuntimeError: there is no compiler, or the sanitizers were asked for in a process that cannot run them.
        CompileException: the compiler refuses the source.
    """
    if sanitizing() and not hasattr(ctypes.CDLL(None), "__asan_init"):
        raise RuntimeError("GPUGRAD_CUDA_SIM_SANITIZE works in processes that are started with sanitizer_environment()")
    path, version = compiler()
    text = translate(code, kernels)
    plain = _FAST_TO_RUN if optimized else _FAST_TO_COMPILE
    flags = [*_ALWAYS, *(_SANITIZED if sanitizing() else plain), *_host_options(options)]
    if not any("std=" in flag for flag in flags):
        flags.append("-std=c++17")
    key = hashlib.sha256("\0".join([text, version, path, *flags]).encode() + _headers()).hexdigest()[:32]
    folder = _folder()
    library = folder / f"{key}.so"
    if not library.exists():
        parsed = _precompiled(path, version, tuple(flags), folder)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            source = Path(scratch) / "kernel.cpp"
            source.write_text(text, encoding="utf-8")
            _run([path, *flags, *parsed, f"-I{INCLUDE}", "-shared", "-x", "c++"], library, source)
    return ctypes.CDLL(str(library))
