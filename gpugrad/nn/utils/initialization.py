"""Modules whose parameters are about to get other values."""

from __future__ import annotations

import inspect
from typing import Any

from ...random import fork_rng


def skip_init(module_cls: Any, *args: Any, **kwargs: Any) -> Any:
    """A module whose parameters have no values yet to speak of; the random generator stays as it is.

    Args:
        module_cls: a Module that takes ``device``.
        args, kwargs: its arguments.

    Raises:
        RuntimeError: it is no Module, or does not take ``device``.
    """
    from ..modules import Module

    if not (isinstance(module_cls, type) and issubclass(module_cls, Module)):
        raise RuntimeError(f"Expected a Module; got {module_cls}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError("Module must support a 'device' arg to skip initialization")
    with fork_rng():
        return module_cls(*args, **kwargs)
