"""Transforms of images, under the names of torchvision.transforms.

An image is an array of shape (height, width) or (height, width, channels), or a tensor
of shape (..., height, width); PIL images are read as arrays.  Random transforms draw from
the stream of the batch that is being made (see ``streams``), so a run does not depend on
the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import module_of
from ..tensor import Tensor
from . import streams
from .dataset import shortcut

Image = Any

_MODES = ("constant", "edge", "reflect", "symmetric")


class Compose:
    """Transforms one after the other."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]):
        self.transforms = list(transforms)

    def __call__(self, image: Image) -> Any:
        """The image, transformed."""
        for transform in self.transforms:
            image = transform(image)
        return image

    def _on_batch(self, images: Any) -> Any:
        steps = [shortcut(transform, "_on_batch", "__call__") for transform in self.transforms]
        if None in steps:
            return NotImplemented
        for step in steps:
            images = step(images)  # type: ignore[misc]
            if images is NotImplemented:
                break
        return images

    def __repr__(self) -> str:
        return f"Compose({self.transforms})"


class Lambda:
    """A function of one's own."""

    def __init__(self, lambd: Callable[[Any], Any]):
        if not callable(lambd):
            raise TypeError(f"Lambda expects a function, but got {type(lambd).__name__}")
        self.lambd = lambd

    def __call__(self, image: Image) -> Any:
        """The image, transformed."""
        return self.lambd(image)


class ToTensor:
    """An image as a tensor of shape (channels, height, width).

    uint8 becomes float32 from 0 to 1; other dtypes keep their values.

    Raises:
        TypeError: no image.
        ValueError: not two or three dimensions.
    """

    def __call__(self, image: Image) -> Tensor:
        """The image, transformed."""
        if not isinstance(image, np.ndarray) and not hasattr(image, "__array_interface__"):
            raise TypeError(f"ToTensor expects an image (an array or a PIL image), but got {type(image).__name__}")
        pixels = np.asarray(image)
        if pixels.ndim not in (2, 3):
            raise ValueError(f"ToTensor expects an image of 2 or 3 dimensions, but got {pixels.ndim}")
        return Tensor._wrap(self._on_batch(pixels[None])[0])

    def _on_batch(self, images: Any) -> Any:
        xp = module_of(images)
        planes = images[:, None] if images.ndim == 3 else xp.moveaxis(images, -1, 1)
        if planes.dtype == np.uint8:
            return xp.ascontiguousarray(xp.divide(planes, np.float32(255)))
        return xp.array(planes, order="C")


class Normalize:
    """``(image - mean) / std`` for each channel of a float tensor of shape (..., channels, height, width).

    Raises:
        TypeError: no float tensor.
        ValueError: a standard deviation is 0, there are fewer than three dimensions, or another
            number of channels than of means.
    """

    def __init__(self, mean: Any, std: Any, inplace: bool = False):
        self.mean, self.std, self.inplace = mean, std, inplace
        self._mean, self._std = (np.array(value, np.float64).reshape(-1, 1, 1) for value in (mean, std))
        if not self._std.all():
            raise ValueError(f"Normalize: std evaluated to zero, leading to division by zero: {std}")

    def __call__(self, image: Tensor) -> Tensor:
        """The image, transformed."""
        if not isinstance(image, Tensor) or not image.is_floating_point():
            kind = image.dtype if isinstance(image, Tensor) else type(image).__name__
            raise TypeError(f"Normalize expects a float tensor, but got {kind}; put ToTensor before it")
        if image.ndim < 3:
            raise ValueError(f"Normalize expects a tensor of shape (..., C, H, W), but got {tuple(image.shape)}")
        result = image._data if self.inplace else image._data.copy()
        self._change(result)
        if self.inplace:
            image._bump()
            return image
        return Tensor._wrap(result)

    def _on_batch(self, images: Any) -> Any:
        if images.dtype.kind != "f":
            return NotImplemented
        self._change(images)
        return images

    def _change(self, pixels: Any) -> None:
        xp, channels = module_of(pixels), pixels.shape[-3]
        if not {len(self._mean), len(self._std)} <= {1, channels}:
            raise ValueError(
                f"Normalize: {len(self._mean)} means and {len(self._std)} standard deviations for {channels} channels"
            )
        pixels -= xp.asarray(self._mean, pixels.dtype)
        pixels /= xp.asarray(self._std, pixels.dtype)

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean}, std={self.std})"


def _on_pixels(image: Image, change: Callable[[Any, int], Any]) -> Any:
    """``change(pixels, axis of the height)`` for the pixels of an image; the result is of the image's kind."""
    if isinstance(image, Tensor):
        return Tensor._wrap(change(image._data, image.ndim - 2))
    return change(np.asarray(image), 0)


def _cut(pixels: Any, axis: int, top: int, left: int, height: int, width: int) -> Any:
    return pixels[(slice(None),) * axis + (slice(top, top + height), slice(left, left + width))].copy()


def _pad(pixels: Any, axis: int, margins: Sequence[int], mode: str, fill: float) -> Any:
    left, top, right, bottom = margins
    widths = [(0, 0)] * axis + [(top, bottom), (left, right)] + [(0, 0)] * (pixels.ndim - axis - 2)
    if mode != "constant":
        return module_of(pixels).pad(pixels, widths, mode=mode)
    shape = tuple(size + sum(width) for size, width in zip(pixels.shape, widths, strict=True))
    out = module_of(pixels).full(shape, fill, pixels.dtype)
    out[tuple(slice(width[0], width[0] + size) for size, width in zip(pixels.shape, widths, strict=True))] = pixels
    return out


def _pair(size: int | Sequence[int], what: str) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size if len(size) == 2 else (*size, *size)
    if height < 1 or width < 1:
        raise ValueError(f"{what}: the size must be positive, but is {size}")
    return height, width


def _margins(padding: int | Sequence[int], mode: str) -> tuple[int, int, int, int]:
    if mode not in _MODES:
        raise ValueError(f"padding_mode must be one of {', '.join(_MODES)}, but is {mode!r}")
    sides = (padding,) if isinstance(padding, int) else tuple(padding)
    if len(sides) not in (1, 2, 4):
        raise ValueError(f"Padding must be an int or a 1, 2, or 4 element tuple, not a {len(sides)} element tuple")
    left, top, right, bottom = sides * (4 // len(sides))
    return left, top, right, bottom


class Pad:
    """Add margins: one width for all, (left and right, top and bottom), or (left, top, right, bottom)."""

    def __init__(self, padding: int | Sequence[int], fill: float = 0, padding_mode: str = "constant"):
        self.padding, self.fill, self.padding_mode = _margins(padding, padding_mode), fill, padding_mode

    def __call__(self, image: Image) -> Any:
        """The image, transformed."""
        return _on_pixels(image, lambda pixels, axis: _pad(pixels, axis, self.padding, self.padding_mode, self.fill))


class CenterCrop:
    """The middle of an image, padded with zeros where it is smaller than ``size``."""

    def __init__(self, size: int | Sequence[int]):
        self.size = _pair(size, "CenterCrop")

    def __call__(self, image: Image) -> Any:
        """The image, transformed."""
        return _on_pixels(image, self._crop)

    def _crop(self, pixels: Any, axis: int) -> Any:
        height, width = self.size
        more_h, more_w = max(0, height - pixels.shape[axis]), max(0, width - pixels.shape[axis + 1])
        if more_h or more_w:
            pixels = _pad(pixels, axis, (more_w // 2, more_h // 2, (more_w + 1) // 2, (more_h + 1) // 2), "constant", 0)
        top, left = (round((pixels.shape[axis + k] - self.size[k]) / 2.0) for k in (0, 1))
        return _cut(pixels, axis, top, left, height, width)


class RandomCrop:
    """A part of an image, at a random place.

    Args:
        size: height and width of the part.
        padding: margins to add before, as for :class:`Pad`.
        pad_if_needed: add margins to an image that is smaller than ``size``.
        fill, padding_mode: as for :class:`Pad`.

    Raises:
        ValueError: the image is smaller than ``size``.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        padding: int | Sequence[int] | None = None,
        pad_if_needed: bool = False,
        fill: float = 0,
        padding_mode: str = "constant",
    ):
        self.size = _pair(size, "RandomCrop")
        self.padding = _margins(padding or 0, padding_mode)
        self.pad_if_needed, self.fill, self.padding_mode = pad_if_needed, fill, padding_mode

    def __call__(self, image: Image) -> Any:
        """The image, transformed."""
        return _on_pixels(image, self._crop)

    def _crop(self, pixels: Any, axis: int) -> Any:
        if any(self.padding):
            pixels = _pad(pixels, axis, self.padding, self.padding_mode, self.fill)
        height, width = self.size
        more_h, more_w = max(0, height - pixels.shape[axis]), max(0, width - pixels.shape[axis + 1])
        if self.pad_if_needed and (more_h or more_w):
            pixels = _pad(pixels, axis, (more_w, more_h, more_w, more_h), self.padding_mode, self.fill)
        room_h, room_w = pixels.shape[axis] - height, pixels.shape[axis + 1] - width
        if room_h < 0 or room_w < 0:
            raise ValueError(
                f"Required crop size {self.size} is larger than input image size {tuple(pixels.shape[axis : axis + 2])}"
            )
        top, left = int(streams.random() * (room_h + 1)), int(streams.random() * (room_w + 1))
        return _cut(pixels, axis, top, left, height, width)


class RandomHorizontalFlip:
    """Exchange left and right with probability ``p``."""

    _offset = 1

    def __init__(self, p: float = 0.5):
        self.p = p

    def __call__(self, image: Image) -> Any:
        """The image, transformed."""
        if streams.random() >= self.p:
            return image
        return _on_pixels(image, lambda pixels, axis: module_of(pixels).flip(pixels, axis + self._offset).copy())


class RandomVerticalFlip(RandomHorizontalFlip):
    """Exchange top and bottom with probability ``p``."""

    _offset = 0


class Resize:
    """Another size, by bilinear interpolation that averages over what it shrinks.

    uint8 is rounded.  The result is torchvision's for tensors.

    Args:
        size: (height, width), or an int for the smaller of the two, the other in proportion.
    """

    def __init__(self, size: int | Sequence[int]):
        self.size = size
        _pair(size, "Resize")

    def __call__(self, image: Image) -> Any:
        """The image, transformed."""
        return _on_pixels(image, self._resize)

    def _resize(self, pixels: Any, axis: int) -> Any:
        old = pixels.shape[axis], pixels.shape[axis + 1]
        if isinstance(self.size, int) or len(self.size) == 1:
            short = self.size if isinstance(self.size, int) else self.size[0]
            long = int(short * max(old) / min(old))
            new = (short, long) if old[0] <= old[1] else (long, short)
        else:
            new = self.size[0], self.size[1]
        xp = module_of(pixels)
        result = pixels if pixels.dtype.kind == "f" else pixels.astype(np.float32)
        for k in (1, 0):
            if old[k] != new[k]:
                weights = xp.asarray(_weights(old[k], new[k]), result.dtype)
                result = xp.moveaxis(xp.tensordot(result, weights, axes=(axis + k, 1)), -1, axis + k)
        if pixels.dtype.kind != "f":
            info = np.iinfo(pixels.dtype)
            result = xp.clip(xp.rint(result), info.min, info.max).astype(pixels.dtype)
        return xp.array(result, order="C")


def _weights(old: int, new: int) -> np.ndarray:
    """How much each of ``old`` pixels counts in each of ``new``: triangles about their centres."""
    scale = old / new
    reach = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale
    distance = (np.arange(old) + 0.5)[None] - centres[:, None]
    weights = np.maximum(0.0, 1.0 - np.abs(distance) / reach)
    return weights / weights.sum(1, keepdims=True)
