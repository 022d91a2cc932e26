"""The version of gpugrad, kept apart so that the build can read it, and that of CUDA."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "cuda":  # asked for when needed: finding out takes a while
        from .backend.cuda import diagnose

        return diagnose().runtime_version
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
