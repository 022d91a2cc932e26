"""Resizing, sampling and rearranging images."""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import Any

import numpy as np

from ...backend import graph, module_of
from ...ops import FUNCTIONS, REGISTRY
from ...ops.core import as_tensors
from ...ops.pool import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from ...ops.windows import Ints, output_size, spatial
from ...tensor import Tensor

__all__ = [
    "affine_grid",
    "channel_shuffle",
    "fold",
    "grid_sample",
    "interpolate",
    "pixel_shuffle",
    "pixel_unshuffle",
    "unfold",
    "upsample",
    "upsample_bilinear",
    "upsample_nearest",
]

_MODES = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}
_AREA = {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}


def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resize (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Args:
        size: the new spatial size, an int or one per dimension; or else
        scale_factor: how many times larger, a number or one per dimension.
        mode: "nearest", "nearest-exact", "area", "linear" (one dimension), "bilinear" or "bicubic" (two),
            "trilinear" (three).
        align_corners: the corner elements' centres, not their outer edges, stay where they are.
        recompute_scale_factor: use the ratio of the sizes, not ``scale_factor``, to find positions.
        antialias: making an image smaller, average over all that falls into an element of the result, as PIL does
            ("bilinear" and "bicubic").

    Raises:
        ValueError: not exactly one of ``size`` and ``scale_factor``, of the wrong length, or ``align_corners`` or
            ``antialias`` with a mode that has none.
        NotImplementedError: a mode for another number of dimensions.
    """
    (input,) = as_tensors("interpolate", (input,))
    dims = input.ndim - 2
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(
            "Anti-alias option is restricted to bilinear and bicubic modes and requires a 4-D tensor as input"
        )
    if (
        mode not in ("nearest", "nearest-exact", "area", *_MODES)
        or dims not in (1, 2, 3)
        or _MODES.get(mode, dims) != dims
    ):
        raise NotImplementedError(
            f"Got {input.ndim}D input, mode {mode!r}: only 3D, 4D and 5D input Tensors supported for the modes: "
            "nearest | nearest-exact | area | linear (3D) | bilinear (4D) | bicubic (4D) | trilinear (5D)"
        )
    if mode not in _MODES and align_corners is not None:
        raise ValueError(
            "align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | trilinear"
        )
    if (size is None) == (scale_factor is None):
        some = "either size or scale_factor should be defined"
        raise ValueError(some if size is None else "only one of size or scale_factor should be defined")
    if size is not None and recompute_scale_factor:
        raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
    given = size if size is not None else scale_factor
    given = tuple(given) if isinstance(given, tuple | list) else (given,) * dims
    if len(given) != dims:
        raise ValueError(
            f"Input and {'output size' if size is not None else 'scale_factor'} must have the same number of spatial "
            f"dimensions, but got input with spatial dimensions of {list(input.shape[2:])} and {list(given)}."
        )
    old = tuple(input.shape[2:])
    factors: tuple[float | None, ...] = (None,) * dims
    if size is not None:
        if not all(hasattr(n, "__index__") for n in given):
            raise TypeError(f"expected size to be one of int or a tuple of ints, but got {size!r}")
        new = tuple(n.__index__() for n in given)
    else:
        new = tuple(int(n * f) for n, f in zip(old, given, strict=True))
        factors = factors if recompute_scale_factor else tuple(float(f) for f in given)
    if min(new) < 1 or 0 in old:
        raise RuntimeError(
            f"Input and output sizes should be greater than 0, but got input (size: {list(old)}) output (size: "
            f"{list(new)})"
        )
    if mode == "area":
        return _AREA[dims](input, new)
    if mode in ("nearest", "nearest-exact"):
        return _nearest(input, new, factors, 0.5 if mode == "nearest-exact" else 0.0)
    resizing = partial(_resizing, _cubic_taps if mode == "bicubic" else _linear_taps)
    if antialias:
        resizing = partial(_averaging, mode == "bicubic")
    for i, (n, m, factor) in enumerate(zip(old, new, factors, strict=True)):
        if n != m or factor not in (None, 1.0):
            input = REGISTRY["apply_along"](input, resizing(n, m, factor, bool(align_corners)), 2 + i)
    return input if new != old else FUNCTIONS["clone"](input)


def _nearest(input: Tensor, new: Ints, factors: tuple[float | None, ...], centre: float) -> Tensor:
    old = tuple(input.shape[2:])
    whole = tuple(m // n for n, m in zip(old, new, strict=True))
    exact = all(m % n == 0 and f in (None, m // n) for n, m, f in zip(old, new, factors, strict=True))
    if exact:
        # Each element repeated: what averaging over windows does to a gradient.
        return REGISTRY["avg_unpool"](input, new, whole, whole, (0,) * len(new), True, 1)
    xp = module_of(input._data)
    for i, (n, m, factor) in enumerate(zip(old, new, factors, strict=True)):
        scale = np.float32(1 / factor) if factor else np.float32(n) / np.float32(m)
        places = np.minimum(((np.arange(m, dtype=np.float32) + np.float32(centre)) * scale).astype(np.int64), n - 1)
        input = REGISTRY["index_select"](input, Tensor._wrap(graph.constant(xp, places)), 2 + i)
    return input


def _linear_taps(t: np.ndarray) -> list[tuple[int, np.ndarray]]:
    return [(0, 1 - t), (1, t)]


def _cubic_taps(t: np.ndarray) -> list[tuple[int, np.ndarray]]:
    return [(k, _cubic(k - t, -0.75)) for k in (-1, 0, 1, 2)]


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Cubic convolution (Keys 1981)."""
    x = np.abs(x)
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _resizing(taps: Any, old: int, new: int, factor: float | None, align_corners: bool) -> np.ndarray:
    """The matrix that resizes a line."""
    steps = np.arange(new, dtype=np.float64)
    scale = _scale(old, new, factor, align_corners)
    if align_corners:
        places = steps * scale
    else:
        places = (steps + 0.5) * scale - 0.5
        places = np.maximum(places, 0) if taps is _linear_taps else places
    first = np.floor(places)
    matrix = np.zeros((new, old))
    for offset, weight in taps(places - first):
        np.add.at(matrix, (np.arange(new), np.clip(first.astype(np.int64) + offset, 0, old - 1)), weight)
    return matrix


def _averaging(cubic: bool, old: int, new: int, factor: float | None, align_corners: bool) -> np.ndarray:
    """The matrix that resizes a line with a filter as wide as the elements of the result, as PIL and PyTorch do it."""
    scale = _scale(old, new, factor, align_corners)
    width = max(scale, 1.0)
    reach = width * (2 if cubic else 1)
    centres = (np.arange(new)[:, None] + 0.5) * scale
    inside = np.arange(old)
    inside = (inside >= np.trunc(centres - reach + 0.5)) & (inside < np.trunc(centres + reach + 0.5))
    offsets = (np.arange(old) + 0.5 - centres) / width
    weights = inside * (_cubic(offsets, -0.5) if cubic else np.maximum(1 - np.abs(offsets), 0))
    return weights / weights.sum(1, keepdims=True)


def _scale(old: int, new: int, factor: float | None, align_corners: bool) -> float:
    if align_corners:
        return (old - 1) / (new - 1) if new > 1 else 0.0
    return 1 / factor if factor else old / new


def upsample(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
) -> Tensor:
    """The old name of :func:`interpolate`."""
    warnings.warn("`nn.functional.upsample` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2)
    return interpolate(input, size, scale_factor, mode, align_corners)


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(..., C r r, H, W) to (..., C, H r, W r), r being ``upscale_factor`` (Shi et al. 2016).

    Raises:
        RuntimeError: the channels do not divide, or there are fewer than three dimensions.
    """
    r = upscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-3] % (r * r):
        raise RuntimeError(
            "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, "
            f"but got input of size {list(input.shape)} and upscale_factor={r}"
        )
    *lead, channels, height, width = input.shape
    parts = input.reshape(-1, channels // (r * r), r, r, height, width).permute(0, 1, 4, 2, 5, 3)
    return parts.reshape(*lead, channels // (r * r), height * r, width * r)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(..., C, H r, W r) to (..., C r r, H, W): undoes :func:`pixel_shuffle`.

    Raises:
        RuntimeError: height or width does not divide, or there are fewer than three dimensions.
    """
    r = downscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-2] % r or input.shape[-1] % r:
        raise RuntimeError(
            "pixel_unshuffle expects height and width to be divisible by downscale_factor, but got input of size "
            f"{list(input.shape)} and downscale_factor={r}"
        )
    *lead, channels, height, width = input.shape
    parts = input.reshape(-1, channels, height // r, r, width // r, r).permute(0, 1, 3, 5, 2, 4)
    return parts.reshape(*lead, channels * r * r, height // r, width // r)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """(N, C, ...) with the channels of ``groups`` groups interleaved (Zhang et al. 2018, ShuffleNet).

    Raises:
        RuntimeError: the channels do not divide, or there are fewer than three dimensions.
    """
    if input.ndim < 3:
        raise RuntimeError(f"channel_shuffle expects input with > 2 dims, but got input with sizes {list(input.shape)}")
    if groups <= 0 or input.shape[1] % groups:
        raise RuntimeError(
            f"channel_shuffle: groups must be positive and divide the {input.shape[1]} channels, but got {groups}"
        )
    parts = input.reshape(input.shape[0], groups, input.shape[1] // groups, *input.shape[2:])
    return parts.transpose(1, 2).reshape(tuple(input.shape))


def _settings(name: str, **given: Any) -> list[Ints]:
    return [spatial(name, label, value, 2) for label, value in given.items()]


def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """The windows of (N, C, H, W) as columns: (N, C * window size, windows).

    Raises:
        RuntimeError: no window fits, or a setting is out of range.
    """
    kernel, dilation, padding, stride = _settings(
        "unfold", kernel_size=kernel_size, dilation=dilation, padding=padding, stride=stride
    )
    if input.ndim == 3:
        return unfold(input.unsqueeze(0), kernel, dilation, padding, stride).squeeze(0)
    if input.ndim != 4 or min(kernel + dilation + stride) < 1 or min(padding) < 0:
        raise RuntimeError(
            "unfold: expected (C, H, W) or (N, C, H, W) and positive settings, but got input of size "
            f"{list(input.shape)}, kernel_size={kernel}, dilation={dilation}, padding={padding}, stride={stride}"
        )
    out = output_size(tuple(input.shape[2:]), kernel, stride, padding, dilation)
    if min(out) < 1:
        raise RuntimeError(
            f"Given input with spatial size {tuple(input.shape[2:])}, kernel_size={kernel}, dilation={dilation}, "
            f"padding={padding}, stride={stride}, calculated shape of the array of sliding blocks as {out}, but its "
            "components must be at least one."
        )
    x = REGISTRY["pad_constant"](input, ((0, 0), (0, 0), *((p, p) for p in padding)), 0)
    for i in (0, 1):
        x = REGISTRY["unfold"](x, 2 + i, dilation[i] * (kernel[i] - 1) + 1, stride[i])[..., :: dilation[i]]
    return x.permute(0, 1, 4, 5, 2, 3).reshape(input.shape[0], input.shape[1] * math.prod(kernel), math.prod(out))


def fold(
    input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """Columns (N, C * window size, windows) added up in the places of the windows of (N, C, *output_size).

    Raises:
        RuntimeError: the columns do not fit the windows, or a setting is out of range.
    """
    size, kernel, dilation, padding, stride = _settings(
        "fold", output_size=output_size, kernel_size=kernel_size, dilation=dilation, padding=padding, stride=stride
    )
    if input.ndim == 2:
        return fold(input.unsqueeze(0), size, kernel, dilation, padding, stride).squeeze(0)
    if input.ndim != 3 or min(size + kernel + dilation + stride) < 1 or min(padding) < 0:
        raise RuntimeError(
            "fold: expected (C * window size, windows) with or without N before it and positive settings, but got "
            f"input of size {list(input.shape)}, output_size={size}, kernel_size={kernel}, dilation={dilation}, "
            f"padding={padding}, stride={stride}"
        )
    spans = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    padded = tuple(n + 2 * p for n, p in zip(size, padding, strict=True))
    out = tuple((n - m) // s + 1 for n, m, s in zip(padded, spans, stride, strict=True))
    area = math.prod(kernel)
    if input.shape[1] % area or min(out) < 1 or math.prod(out) != input.shape[2]:
        raise RuntimeError(
            f"Given output_size={size}, kernel_size={kernel}, dilation={dilation}, padding={padding}, stride={stride}, "
            f"expected input of size (N, C * {area}, {' * '.join(map(str, out))}), but got {list(input.shape)}"
        )
    channels = input.shape[1] // area
    x = input.reshape(-1, channels, *kernel, *out).permute(0, 1, 4, 5, 2, 3)
    for i in (1, 0):
        shape = (*x.shape[:-1], spans[i])
        x = REGISTRY["slice_add"](x, shape, (..., slice(None, None, dilation[i])))
        x = REGISTRY["unfold_sum"](x, (*shape[: 2 + i], padded[i], *shape[3 + i : -1]), 2 + i, spans[i], stride[i])
    return x[:, :, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]


def _default_corners(name: str, align_corners: bool | None) -> bool:
    if align_corners is None:
        warnings.warn(
            f"Default {name} behavior has changed to align_corners=False since 1.3.0. Please specify "
            "align_corners=True if the old behavior is desired.",
            stacklevel=3,
        )
    return bool(align_corners)


def affine_grid(theta: Tensor, size: Any, align_corners: bool | None = None) -> Tensor:
    """The positions, for :func:`grid_sample`, that affine maps take each pixel of an output from.

    Args:
        theta: (N, 2, 3) or (N, 3, 4).
        size: of the output: (N, C, H, W) or (N, C, D, H, W).
        align_corners: -1 and 1 are the centres of the corner pixels, not their outer edges.

    Raises:
        ValueError: the shapes do not fit.
    """
    size = tuple(int(n) for n in size)
    dims = len(size) - 2
    if dims not in (2, 3) or tuple(theta.shape) != (size[0], dims, dims + 1):
        raise ValueError(
            f"Expected a batch of {dims}D affine matrices of shape {size[0]}x{dims}x{dims + 1} for size {list(size)}. "
            f"Got {list(theta.shape)}."
        )
    corners = _default_corners("affine_grid", align_corners)
    lines = []
    for n in size[2:]:
        line = np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
        lines.append(line if corners else line * (n - 1) / n)
    points = np.stack([*np.meshgrid(*lines, indexing="ij")[::-1], np.ones(size[2:])], -1).reshape(-1, dims + 1)
    base = Tensor._wrap(module_of(theta._data).asarray(points.astype(theta.dtype)))
    return (base @ theta.transpose(1, 2)).reshape(size[0], *size[2:], dims)


def _reflected(x: Tensor, low: float, high: float) -> Tensor:
    """``x`` mirrored at two bounds until it lies between them."""
    span = high - low
    if span <= 0:
        return x * 0
    shifted = (x - low).abs()
    turns = (shifted / span).floor().detach()
    rest = shifted - turns * span
    even = turns - 2 * (turns / 2).floor() == 0
    return rest.where(even, span - rest) + low


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """Sample (N, C, H, W) or (N, C, D, H, W) at positions between -1 and 1.

    Args:
        grid: (N, H_out, W_out, 2), or (N, D_out, H_out, W_out, 3): x, y (and z), x going along the last dimension.
        mode: "bilinear" (of all dimensions) or "nearest".
        padding_mode: what lies outside: "zeros", "border" (the nearest edge) or "reflection".
        align_corners: -1 and 1 are the centres of the corner pixels, not their outer edges.

    Raises:
        RuntimeError: the shapes do not fit.
        ValueError: an unknown mode, or "bicubic", which is not supported.
    """
    if mode not in ("bilinear", "nearest"):
        raise ValueError(f"grid_sample(): expected mode to be 'bilinear' or 'nearest', but got: '{mode}'")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(
            f"grid_sample(): expected padding_mode to be 'zeros', 'border', or 'reflection', but got: '{padding_mode}'"
        )
    dims = input.ndim - 2
    if dims not in (2, 3) or grid.ndim != input.ndim or grid.shape[0] != input.shape[0] or grid.shape[-1] != dims:
        raise RuntimeError(
            f"grid_sample(): expected grid to have size {dims} in last dimension, and input and grid to have the same "
            f"batch size and 4 or 5 dimensions, but got input with sizes {list(input.shape)} and grid with sizes "
            f"{list(grid.shape)}"
        )
    corners = _default_corners("grid_sample", align_corners)
    size = tuple(input.shape[2:])
    places = []
    for i, n in enumerate(size):
        x = grid[..., dims - 1 - i]
        x = (x + 1) * ((n - 1) / 2) if corners else ((x + 1) * n - 1) / 2
        if padding_mode == "reflection":
            x = _reflected(x, 0, n - 1) if corners else _reflected(x, -0.5, n - 0.5)
        places.append(x if padding_mode == "zeros" else x.clamp(0, n - 1))
    rows = input.reshape(input.shape[0], input.shape[1], math.prod(size))
    lows = [x.detach().round() if mode == "nearest" else x.detach().floor() for x in places]
    total: Any = None
    for corner in range(1 if mode == "nearest" else 2**dims):
        index: Any = 0
        weight: Any = None
        inside: Any = None
        for i, n in enumerate(size):
            step = corner >> i & 1
            at = lows[i] + step if step else lows[i]
            within = (at >= 0) & (at <= n - 1)
            inside = within if inside is None else inside & within
            index = index * n + at.clamp(0, n - 1).nan_to_num(0.0).long()
            if mode == "bilinear":
                part = places[i] - lows[i] if step else 1 - (places[i] - lows[i])
                weight = part if weight is None else weight * part
        values = _picked(rows, index).masked_fill(~inside.unsqueeze(1), 0.0)
        values = values if weight is None else values * weight.unsqueeze(1)
        total = values if total is None else total + values
    return total


def _picked(rows: Tensor, index: Tensor) -> Tensor:
    """Elements of (N, C, L) at positions (N, ...), for all channels."""
    flat = index.reshape(index.shape[0], 1, -1).expand(-1, rows.shape[1], -1)
    return rows.gather(2, flat).reshape(*rows.shape[:2], *index.shape[1:])


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """The former name of :func:`interpolate` with ``mode="nearest"``."""
    warnings.warn(
        "`nn.functional.upsample_nearest` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2
    )
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """The former name of :func:`interpolate` with ``mode="bilinear"`` and ``align_corners=True``."""
    warnings.warn(
        "`nn.functional.upsample_bilinear` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2
    )
    return interpolate(input, size, scale_factor, "bilinear", True)
