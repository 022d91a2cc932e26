"""Convolution of narrow images on the CPU: rows of windows as products with a banded matrix.

All windows in a row of an image are one product of the image's rows that they cover with a matrix
that holds each kernel once for each window, side by side.  It multiplies by many zeros; but the
rows need not be unrolled along the width, which takes longer where the kernels are few, and the
products are large enough for BLAS to share them between threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..backend import blas
from .windows import Ints

_BLOCK = 1 << 27  # multiplications made at once
_MULTIPLICATIONS, _COPIES = 30.0, 1.5  # how many of them a thread does in a nanosecond
_GAIN = 0.8  # of the time of unrolled windows


def suits(xp: Any, array: Any, images: Ints, kernels: int, kernel: Ints, out: Ints, groups: int) -> bool:
    """Whether this is the quicker way for ``images`` (N, C, H, W) of the array's dtype and so many kernels."""
    if xp is not np or len(kernel) != 2 or groups != 1 or not blas.shares(array.dtype):
        return False
    width, positions = images[3], kernels * out[1]
    unrolled = positions * kernel[1] / _MULTIPLICATIONS + out[1] * kernel[1] / _COPIES
    each = positions * width / (2 * _MULTIPLICATIONS) + width / _COPIES
    return each < _GAIN * unrolled and math.prod(images[:2]) * out[0] * kernel[0] * width * positions >= blas.MIDDLE


def finite(x: np.ndarray) -> bool:
    """Whether ``x`` is free of what makes its products with zeros something else than zero."""
    flat = x.ravel()
    return bool(np.isfinite(np.dot(flat, flat)))


class Bands:
    """A convolution of images of one size.

    Args:
        size: height and width of the images.
        kernel, out, stride, padding, dilation: of the convolution, along the height and the width.
    """

    def __init__(self, size: Ints, kernel: Ints, out: Ints, stride: Ints, padding: Ints, dilation: Ints) -> None:
        self.size, self.kernel, self.out = size, kernel, out
        self.stride, self.padding, self.dilation = stride, padding, dilation

    def forward(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """(N, C, H, W) with weights (O, C, h, w) to (N, O, *out)."""
        matrix = self._spread(weight)
        result = np.empty((x.shape[0], weight.shape[0], *self.out), x.dtype)
        for some in self._blocks(x.shape[0], matrix.size):
            products = blas.matmul(np, self._rows(x[some]), matrix)
            result[some] = products.reshape(self.out[0], -1, weight.shape[0], self.out[1]).transpose(1, 2, 0, 3)
        return result

    def weight(self, x: np.ndarray, other: np.ndarray) -> np.ndarray:
        """The gradient of the weights, (O, C, h, w), of ``other``, that of the result."""
        channels, kernels = x.shape[1], other.shape[1]
        shape = (channels, self.kernel[0], self.size[1], kernels, self.out[1])
        total: Any = 0
        for some in self._blocks(x.shape[0], math.prod(shape)):
            total += blas.matmul(np, self._rows(x[some]).T, self._gathered(other[some]))
        matrix = np.zeros(self._whole(*shape[:2], kernels), x.dtype)
        self._inside(matrix)[...] = total.reshape(shape)
        return self._bands(matrix).sum(axis=-1).transpose(3, 0, 1, 2)

    def transpose(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """(N, O, *out) with weights (O, C, h, w) to (N, C, H, W)."""
        matrix = self._spread(weight.swapaxes(1, 2))
        (height, width), channels, padding = self.size, weight.shape[1], self.padding[0]
        result = np.empty((x.shape[0], channels, height, width), x.dtype)
        reached = (self.out[0] - 1) * self.stride[0] + 1
        for some in self._blocks(x.shape[0], matrix.size):
            products = blas.matmul(np, self._gathered(x[some]), matrix.T)
            products = products.reshape(self.out[0], -1, self.kernel[0], channels, width)
            rows = np.zeros((height + 2 * padding, products.shape[1], channels, width), x.dtype)
            for k in range(self.kernel[0]):
                start = k * self.dilation[0]
                rows[start : start + reached : self.stride[0]] += products[:, :, k]
            result[some] = rows[padding : padding + height].transpose(1, 2, 0, 3)
        return result

    def _blocks(self, batch: int, matrix: int) -> Iterator[slice]:
        """Samples to take at once with a matrix of so many elements."""
        step = max(1, _BLOCK // max(1, self.out[0] * matrix))
        return (slice(start, start + step) for start in range(0, batch, step))

    def _rows(self, x: np.ndarray) -> np.ndarray:
        """The rows of images (N, C, H, W) that each row of windows covers: (out N, C h W)."""
        padding = self.padding[0]
        if padding:
            padded = np.zeros((*x.shape[:2], x.shape[2] + 2 * padding, x.shape[3]), x.dtype)
            padded[:, :, padding:-padding] = x
            x = padded
        sample, channel, row, element = x.strides
        rows = np.lib.stride_tricks.as_strided(
            x,
            (self.out[0], *x.shape[:2], self.kernel[0], x.shape[3]),
            (row * self.stride[0], sample, channel, row * self.dilation[0], element),
        )
        return rows.reshape(self.out[0] * x.shape[0], -1)

    def _gathered(self, x: np.ndarray) -> np.ndarray:
        """Results (N, O, *out) row by row: (out N, O out)."""
        return x.transpose(2, 0, 1, 3).reshape(self.out[0] * x.shape[0], -1)

    def _spread(self, weight: np.ndarray) -> np.ndarray:
        """The banded matrix (A B W, O out) of weights (O, A, B, w)."""
        kernels, first, second, _ = weight.shape
        matrix = np.zeros(self._whole(first, second, kernels), weight.dtype)
        self._bands(matrix)[...] = weight.transpose(1, 2, 3, 0)[..., None]
        return self._inside(matrix).reshape(-1, kernels * self.out[1])

    def _whole(self, first: int, second: int, kernels: int) -> Ints:
        """The shape of a banded matrix for images padded along the width."""
        reached = (self.out[1] - 1) * self.stride[1] + (self.kernel[1] - 1) * self.dilation[1] + 1
        return (first, second, max(reached, self.padding[1] + self.size[1]), kernels, self.out[1])

    def _inside(self, matrix: np.ndarray) -> np.ndarray:
        """The part of such a matrix that belongs to the images themselves."""
        return matrix[:, :, self.padding[1] : self.padding[1] + self.size[1]]

    def _bands(self, matrix: np.ndarray) -> np.ndarray:
        """Where such a matrix holds the kernels: (A, B, w, O, out)."""
        first, second, element, kernel, window = matrix.strides
        return np.lib.stride_tricks.as_strided(
            matrix,
            (*matrix.shape[:2], self.kernel[1], *matrix.shape[3:]),
            (first, second, element * self.dilation[1], kernel, element * self.stride[1] + window),
        )
