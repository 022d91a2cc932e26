"""Datasets: samples by index (Dataset) or one after the other (IterableDataset).

A dataset whose samples lie in arrays may define ``_take(indices)``: the collated
batch of these samples, or NotImplemented.  The DataLoader calls it, instead of
going through the samples one by one, when the batch is collated in the default way.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Generic, TypeVar

import numpy as np

from ..backend import device_of, transfer
from ..backend.random import Generator, permutation
from ..tensor import Tensor

T_co = TypeVar("T_co", covariant=True)


def shortcut(owner: Any, name: str, instead_of: str) -> Callable[..., Any] | None:
    """The method ``name`` that does the work of ``instead_of`` faster; None if a subclass redefined the latter."""
    for cls in type(owner).__mro__:
        if name in vars(cls):
            return getattr(owner, name)
        if instead_of in vars(cls):
            break
    return None


def take_rows(array: Any, indices: Sequence[int] | np.ndarray) -> Any:
    """A copy of rows of a NumPy or CuPy array: in one move if the indices are a range of step 1."""
    if isinstance(indices, range) and indices.step == 1 and 0 <= indices.start <= indices.stop <= len(array):
        return array[indices.start : indices.stop].copy()
    index = transfer(np.asarray(indices), device_of(array))
    # `take` is the faster, but copies the whole of an array that is not contiguous.
    return array.take(index, axis=0) if array.flags.c_contiguous else array[index]


class Dataset(Generic[T_co]):
    """Samples by index: a subclass defines ``__getitem__`` and, for most uses, ``__len__``."""

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError("Subclasses of Dataset should implement __getitem__.")

    def __add__(self, other: Dataset[T_co]) -> ConcatDataset[T_co]:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co], Iterable[T_co]):
    """Samples one after the other: a subclass defines ``__iter__``.

    With worker threads each of them iterates; ``get_worker_info()`` tells a worker its share.
    """


class TensorDataset(Dataset[tuple[Any, ...]]):
    """Samples that are rows of tensors (or arrays) of equal length.

    Attributes:
        tensors: the tensors.

    Raises:
        AssertionError: the lengths differ, or a tensor has no dimension.
        TypeError: an argument is no tensor or array.
    """

    def __init__(self, *tensors: Any):
        for t in tensors:
            if not isinstance(t, Tensor | np.ndarray):
                raise TypeError(f"TensorDataset expects tensors, but got {type(t).__name__}")
        if not tensors or any(not t.ndim for t in tensors) or len({len(t) for t in tensors}) > 1:
            raise AssertionError(f"Size mismatch between tensors: they have shapes {[tuple(t.shape) for t in tensors]}")
        self.tensors = tuple(t if isinstance(t, Tensor) else Tensor._wrap(t) for t in tensors)

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        return tuple(t[index] for t in self.tensors)

    def _take(self, indices: Any) -> Any:
        if any(t.requires_grad for t in self.tensors):
            return NotImplemented
        return [Tensor._wrap(take_rows(t._data, indices)) for t in self.tensors]

    def __len__(self) -> int:
        return len(self.tensors[0])


class Subset(Dataset[T_co]):
    """The samples of a dataset at given indices.

    Attributes:
        dataset, indices: as given.
    """

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]):
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """The samples at several indices, by the dataset's own ``__getitems__`` where it has one."""
        return get_items(self.dataset, [self.indices[i] for i in indices])

    def _take(self, indices: Any) -> Any:
        take = shortcut(self.dataset, "_take", "__getitem__")
        if take is None:
            return NotImplemented
        if isinstance(indices, range) and isinstance(self.indices, range):
            return take(self.indices[indices.start : indices.stop : indices.step])
        return take(np.array([int(self.indices[i]) for i in indices], np.int64))

    def __len__(self) -> int:
        return len(self.indices)


def get_items(dataset: Any, indices: list[Any]) -> list[Any]:
    """The samples at several indices: by ``__getitems__`` if the dataset has it."""
    many = getattr(dataset, "__getitems__", None)
    return [dataset[i] for i in indices] if many is None else many(indices)


class ConcatDataset(Dataset[T_co]):
    """Datasets one after the other.

    Attributes:
        datasets, cumulative_sizes: the parts, and where each ends.

    Raises:
        AssertionError: there is no dataset, or one is iterable-style.
    """

    def __init__(self, datasets: Iterable[Dataset[T_co]]):
        self.datasets = list(datasets)
        if not self.datasets:
            raise AssertionError("datasets should not be an empty iterable")
        if any(isinstance(d, IterableDataset) for d in self.datasets):
            raise AssertionError("ConcatDataset does not support IterableDataset")
        self.cumulative_sizes = list(accumulate(len(d) for d in self.datasets))  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> T_co:
        length = len(self)
        if not -length <= index < length:
            error = ValueError if index < 0 else IndexError
            raise error(f"absolute value of index should not exceed dataset length: got {index} for length {length}")
        index %= length
        part = bisect_right(self.cumulative_sizes, index)
        return self.datasets[part][index - (self.cumulative_sizes[part - 1] if part else 0)]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


class ChainDataset(IterableDataset[T_co]):
    """Iterable-style datasets one after the other."""

    def __init__(self, datasets: Iterable[IterableDataset[T_co]]):
        self.datasets = datasets

    def __iter__(self) -> Iterator[T_co]:
        for dataset in self.datasets:
            yield from dataset


def random_split(
    dataset: Dataset[T_co], lengths: Sequence[int | float], generator: Generator | None = None
) -> list[Subset[T_co]]:
    """Split a dataset at random into parts of given lengths, or of given fractions of it.

    Fractions that add up to 1 are rounded down; the samples left over go to the parts in turn.

    Raises:
        ValueError: the lengths do not add up to the dataset's, or a fraction is not in [0, 1].
    """
    total = len(dataset)  # type: ignore[arg-type]
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        for k, fraction in enumerate(lengths):
            if not 0 <= fraction <= 1:
                raise ValueError(f"Fraction at index {k} is not between 0 and 1: {fraction}")
        counts = [math.floor(total * fraction) for fraction in lengths]
        for k in range(total - sum(counts)):
            counts[k % len(counts)] += 1
        for k, count in enumerate(counts):
            if count == 0:
                warnings.warn(
                    f"Length of split at index {k} is 0. This might result in an empty dataset.", stacklevel=2
                )
    else:
        counts = list(lengths)  # type: ignore[arg-type]
    if sum(counts) != total or any(not isinstance(n, int | np.integer) or n < 0 for n in counts):
        raise ValueError(
            "Sum of input lengths does not equal the length of the input dataset! Expected ints from 0 on that add "
            f"up to {total}, or fractions that add up to 1, but got {list(lengths)}"
        )
    order = permutation(total, "cpu", generator).tolist()
    ends = list(accumulate(counts))
    return [Subset(dataset, order[end - count : end]) for end, count in zip(ends, counts, strict=True)]
