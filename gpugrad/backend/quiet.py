"""Silence for NumPy's floating-point warnings: inf and NaN are values here, as in PyTorch, and no reason to warn.

``numpy.errstate`` costs microseconds, too much for every op.  What it does is set a
context variable, which is cheap; this module finds that variable and sets it directly.
The user's own NumPy settings are never touched: they are back as soon as the op ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any

import numpy as np


def _find() -> tuple[ContextVar[Any], Any]:
    """The context variable that ``numpy.errstate`` sets, and its value when everything is ignored."""
    before = copy_context()
    with np.errstate(all="ignore"):
        inside = copy_context()
    changed = [(variable, value) for variable, value in inside.items() if before.get(variable) is not value]
    return changed[0] if changed else (ContextVar("gpugrad.quiet"), None)


_variable, _ignore_all = _find()

hush = partial(_variable.set, _ignore_all)
"""Silence this thread; returns what ``unhush`` takes, in a ``finally``."""
unhush = _variable.reset


@contextmanager
def quiet() -> Iterator[None]:
    """A block in which NumPy reports no overflow, division by zero or invalid value."""
    token = hush()
    try:
        yield
    finally:
        unhush(token)
