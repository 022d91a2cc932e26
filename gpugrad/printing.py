"""How a tensor shows itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from .backend import dtypes, to_numpy

_OPTIONS: dict[str, Any] = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None}


def set_printoptions(
    precision: int | None = None,
    threshold: int | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors print: digits, summarising, line width and scientific notation.

    Args:
        profile: "default", "short" (2 digits, 2 edge items) or "full" (never summarised).

    Raises:
        ValueError: the profile is unknown.
    """
    profiles = {"default": (4, 1000, 3), "short": (2, 1000, 2), "full": (4, 10**18, 3)}
    if profile is not None:
        if profile not in profiles:
            raise ValueError(f"unknown profile {profile!r}: expected one of {', '.join(profiles)}")
        _OPTIONS.update(zip(("precision", "threshold", "edgeitems"), profiles[profile], strict=True), linewidth=80)
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    _OPTIONS.update({name: value for name, value in given.items() if value is not None})
    _OPTIONS["sci_mode"] = sci_mode


def _formatter(values: np.ndarray) -> dict[str, Any]:
    finite = np.abs(values[np.isfinite(values) & (values != 0)].astype(np.float64))
    precision = _OPTIONS["precision"]
    if np.isfinite(values).all() and (values == np.trunc(values)).all() and (finite.size == 0 or finite.max() < 1e8):
        texts = [f"{x:.0f}." for x in values.ravel()]
    else:
        wide = finite.size > 0 and (finite.max() >= 1e8 or finite.min() < 1e-4 or finite.max() / finite.min() > 1000)
        letter = "e" if (_OPTIONS["sci_mode"] if _OPTIONS["sci_mode"] is not None else wide) else "f"
        texts = [f"{x:.{precision}{letter}}" for x in values.ravel()]
    width = max(map(len, texts), default=0)
    table = dict(zip(values.ravel().tolist(), texts, strict=True))

    def show(x: Any) -> str:
        return table.get(float(x), str(x)).rjust(width)

    return {"float_kind": show}


def tensor_repr(tensor: Any) -> str:
    """The text of a tensor: its values, and what is not the default about it."""
    array = to_numpy(tensor._data)
    extras = []
    if tensor.device.type != "cpu":
        extras.append(f"device='{tensor.device}'")
    if array.dtype not in (dtypes.get_default_dtype(), dtypes.int64, dtypes.bool_) or (
        array.size == 0 and array.dtype != dtypes.get_default_dtype()
    ):
        extras.append(f"dtype=gpugrad.{array.dtype.name}")
    if array.size == 0 and array.ndim != 1:
        extras.insert(0, f"size={tuple(array.shape)}")
    if tensor._node is not None:
        extras.append(f"grad_fn={tensor._node!r}")
    elif tensor._needs_grad:
        extras.append("requires_grad=True")
    name = "Parameter containing:\n" if type(tensor).__name__ == "Parameter" else ""
    head = "tensor("
    formatter: dict[str, Any] = {}
    shown = array
    if array.dtype.kind == "f" and array.size:
        edge = _OPTIONS["edgeitems"]
        if array.size > _OPTIONS["threshold"]:
            for axis, n in enumerate(array.shape):
                if n > 2 * edge:
                    shown = np.take(shown, [*range(edge), *range(n - edge, n)], axis=axis)
        formatter = _formatter(shown)
    body = np.array2string(
        array,
        separator=", ",
        prefix=head,
        formatter=formatter or None,
        threshold=_OPTIONS["threshold"],
        edgeitems=_OPTIONS["edgeitems"],
        max_line_width=_OPTIONS["linewidth"],
    )
    return f"{name}{head}{', '.join([body, *extras])})"
