"""How a tensor shows itself: as PyTorch's do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .backend import dtypes, to_numpy

_DEFAULTS: dict[str, Any] = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None}
_PROFILES: dict[str, dict[str, Any]] = {
    "default": _DEFAULTS,
    "short": {**_DEFAULTS, "precision": 2, "edgeitems": 2},
    "full": {**_DEFAULTS, "threshold": math.inf},
}
_options = dict(_DEFAULTS)


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors print.

    Args:
        precision: digits after the point.
        threshold: the number of elements above which only the edges are shown.
        edgeitems: how many elements (rows, ...) each edge has.
        linewidth: characters in a line.
        profile: "default", "short" (2 digits, 2 edge items) or "full" (never summarised).
        sci_mode: always or never scientific notation; None chooses by the range of the values.

    Raises:
        ValueError: the profile is unknown.
    """
    if profile is not None:
        if profile not in _PROFILES:
            raise ValueError(f"unknown profile {profile!r}: expected one of {', '.join(_PROFILES)}")
        _options.update(_PROFILES[profile])
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    _options.update({name: value for name, value in given.items() if value is not None}, sci_mode=sci_mode)


class _Formatter:
    """Texts of one width for the elements of an array."""

    def __init__(self, array: np.ndarray):
        self.floating = dtypes.is_floating(array.dtype)
        self.scientific, self.whole, self.width = False, True, 1
        if not self.floating:
            self.width = max((len(str(x)) for x in array.ravel().tolist()), default=1)
            return
        values = array.astype(np.float64).ravel()
        values = values[np.isfinite(values) & (values != 0)]
        if not values.size:
            return
        size = np.abs(values)
        largest, smallest = size.max(), size.min()
        self.whole = bool((values == np.ceil(values)).all())
        self.scientific = bool(largest / smallest > 1000 or largest > 1e8 or (not self.whole and smallest < 1e-4))
        if _options["sci_mode"] is not None:
            self.scientific = _options["sci_mode"]
        self.width = max(len(self._text(x)) for x in values.tolist())

    def _text(self, value: Any) -> str:
        if not self.floating:
            return str(value)
        if self.scientific:
            return f"{value:.{_options['precision']}e}"
        if self.whole:
            return f"{value:.0f}" + "." * math.isfinite(value)
        return f"{value:.{_options['precision']}f}"

    def __call__(self, value: Any) -> str:
        return self._text(value).rjust(self.width)


def _ends(n: int, summarized: bool) -> list[int | None]:
    """The positions to show along a dimension; None stands for those left out."""
    edge = _options["edgeitems"]
    return [*range(edge), None, *range(n - edge, n)] if summarized and n > 2 * edge else [*range(n)]


def _text(array: np.ndarray, indent: int, summarized: bool, show: _Formatter) -> str:
    if not array.ndim:
        return show(array.item())
    shown = _ends(len(array), summarized)
    if array.ndim == 1:
        texts = [" ..." if k is None else show(array[k].item()) for k in shown]
        step = max(1, (_options["linewidth"] - indent) // (show.width + 2))
        lines = [", ".join(texts[k : k + step]) for k in range(0, len(texts), step)]
        return f"[{(',' + chr(10) + ' ' * (indent + 1)).join(lines)}]"
    parts = ["..." if k is None else _text(array[k], indent + 1, summarized, show) for k in shown]
    return f"[{(',' + chr(10) * (array.ndim - 1) + ' ' * (indent + 1)).join(parts)}]"


def tensor_repr(tensor: Any) -> str:
    """The text of a tensor: its values, and what is not the default about it."""
    array = to_numpy(tensor._data)
    prefix = "tensor("
    default = dtypes.get_default_dtype()
    suffixes = [] if tensor.device.type == "cpu" else [f"device='{tensor.device}'"]
    if not array.size:
        text = "[]"
        suffixes += [f"size={tuple(array.shape)}"] if array.ndim != 1 else []
        usual = array.dtype == default
    else:
        summarized = array.size > _options["threshold"]
        sample = array
        if summarized:
            for axis, n in enumerate(array.shape):
                sample = sample.take([k for k in _ends(n, True) if k is not None], axis)
        text = _text(array, len(prefix), summarized, _Formatter(sample))
        usual = array.dtype in (default, dtypes.int64, dtypes.bool_)
    suffixes += [] if usual else [f"dtype=gpugrad.{array.dtype.name}"]
    if tensor.grad_fn is not None:
        suffixes.append(f"grad_fn={tensor.grad_fn!r}")
    elif tensor._needs_grad:
        suffixes.append("requires_grad=True")
    result = prefix + text
    used = len(result) - result.rfind("\n") + 1
    for suffix in suffixes:
        if used + len(suffix) + 2 > _options["linewidth"]:
            result += f",\n{' ' * len(prefix)}{suffix}"
            used = len(prefix) + len(suffix)
        else:
            result += f", {suffix}"
            used += len(suffix) + 2
    return f"{'Parameter containing:' + chr(10) if type(tensor).__name__ == 'Parameter' else ''}{result})"
