"""``gpugrad info``: what this machine can do."""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .. import backend
from ..backend import cpu, cuda
from ..data.download import cache_folder
from ..version import __version__
from . import CommandError

EXTRAS = {
    "plot": ("matplotlib", "curves and pictures"),
    "bfloat16": ("ml_dtypes", "bfloat16 tensors"),
    "tensorboard": ("tensorboardX", "event files of train --monitor"),
    "torchvision": ("torchvision", "its data sets and transforms"),
    "test": ("pytest", "the tests"),
}


def choose_device(asked: str, quiet: bool = False) -> backend.device:
    """The device for ``auto`` (CUDA where it can be used), ``cpu``, ``cuda`` or ``cuda:N``.

    Args:
        quiet: do not say why ``auto`` is the CPU.

    Raises:
        CommandError: a CUDA device was asked for and cannot be used; says why and what to do.
    """
    if asked == "auto":
        found = cuda.diagnose()
        if not found.usable and not quiet:
            print(f"On the CPU: {found.message()}")
        asked = "cuda" if found.usable else "cpu"
    try:
        return backend.resolve(asked)
    except RuntimeError as error:
        raise CommandError(f"--device {asked}: {error}") from None


def environment(device: backend.device) -> dict[str, Any]:
    """What a run ran on, for its configuration file."""
    facts: dict[str, Any] = {
        "gpugrad": __version__, "python": platform.python_version(), "numpy": np.__version__, "blas": blas(),
        "platform": platform.platform(), "device": str(device),
    }  # fmt: skip
    if device.type == "cuda":
        found = cuda.diagnose()
        facts |= {"gpu": cuda.device_name(device.index or 0), "cupy": found.cupy_version, "cuda": found.runtime_version}
    else:
        facts["cpu"] = processor()
    return facts


def processor() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def memory() -> str:
    """The size of the machine's memory."""
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    except (AttributeError, ValueError, OSError):
        return "unknown"


def blas() -> str:
    """The BLAS that NumPy calls, with the number of threads it takes where that can be found out."""
    found = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    text = f"{found.get('name', 'unknown')} {found.get('version', '')}".strip()
    threads = _blas_threads()
    return f"{text}, {threads} threads" if threads else text


def _blas_threads() -> int | None:
    for library in Path(np.__file__).parent.parent.glob("numpy.libs/*openblas*"):
        loaded = ctypes.CDLL(str(library))
        for name in ("scipy_openblas_get_num_threads64_", "openblas_get_num_threads64_", "openblas_get_num_threads"):
            if hasattr(loaded, name):
                return int(getattr(loaded, name)())
    return None


def run(args: argparse.Namespace) -> int:
    """Print versions, processor, CUDA and extras."""
    found = cuda.diagnose()
    rows = [
        ("gpugrad", f"{__version__} in {Path(__file__).parent.parent}"),
        ("Python", f"{platform.python_version()} ({sys.executable})"),
        ("NumPy", f"{np.__version__}, BLAS: {blas()}"),
        ("system", platform.platform()),
        ("CPU", f"{processor()}, {cpu.get_num_threads()} of {os.cpu_count()} cores usable"),
        ("memory", memory()),
        ("CuPy", found.cupy_version or "not installed"),
    ]
    if found.driver_version:
        rows.append(("driver", f"for CUDA up to {found.driver_version}"))
    if found.runtime_version:
        rows.append(("CUDA", found.runtime_version))
    rows += [(f"cuda:{k}", cuda.device_name(k)) for k in range(found.device_count)]
    if not found.usable:
        rows.append(("devices", "cpu"))
        rows.append(("no CUDA", f"{found.reason}\n{found.fix}"))
    for extra, (module, use) in EXTRAS.items():
        present = importlib.util.find_spec(module) is not None
        state = "present" if present else f"not installed: pip install 'gpugrad[{extra}]'"
        rows.append((f"[{extra}]", f"{module}, for {use}: {state}"))
    kernels = os.environ.get("CUPY_CACHE_DIR") or Path.home() / ".cupy" / "kernel_cache"
    rows.append(("caches", f"{cache_folder()} (data sets)\n{kernels} (kernels that CuPy compiled)"))
    for name, text in rows:
        print(f"{name:<14}{text.replace(chr(10), chr(10) + ' ' * 14)}")
    return 0
