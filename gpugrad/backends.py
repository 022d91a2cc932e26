"""Switches that trade exactness for speed, under PyTorch's names: ``backends.cuda.matmul.allow_tf32``."""

from __future__ import annotations

from types import SimpleNamespace

from .backend.gemm import switches

cuda = SimpleNamespace(matmul=switches)
