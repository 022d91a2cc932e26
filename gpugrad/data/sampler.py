"""Samplers: in which order the samples of a dataset come.

A sampler of this module makes the order of a whole epoch at once, as an array or a
range (``_order``), which batches are then slices of.  A random one makes it from a
seed drawn for the epoch; ``state_dict`` gives that seed, and after
``load_state_dict`` the next epoch has the same order again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np

from ..backend import random
from ..backend.random import Generator
from .dataset import shortcut
from .streams import draw_seed

T_co = TypeVar("T_co", covariant=True)


class Sampler(Generic[T_co]):
    """An order of samples: a subclass defines ``__iter__`` and, for most uses, ``__len__``."""

    def __init__(self, data_source: Sized | None = None):
        pass

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError("Subclasses of Sampler should implement __iter__.")


class SequentialSampler(Sampler[int]):
    """The samples in their order."""

    def __init__(self, data_source: Sized):
        self.data_source = data_source

    def _order(self) -> range:
        return range(len(self.data_source))

    def __iter__(self) -> Iterator[int]:
        return iter(self._order())

    def __len__(self) -> int:
        return len(self.data_source)


class _RandomOrder(Sampler[int]):
    """A sampler whose order follows from a seed drawn for each epoch."""

    generator: Generator | None
    _seed: int | None = None
    _again = False

    def _stream(self) -> Generator:
        """The random numbers of an epoch that begins."""
        if self._again:
            self._again = False
        else:
            self._seed = draw_seed(self.generator)
        assert self._seed is not None
        return Generator("cpu").manual_seed(self._seed)

    def state_dict(self) -> dict[str, Any]:
        """The seed of the latest epoch."""
        return {"seed": self._seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give the next epoch the order of the one in which ``state`` was taken."""
        self._seed, self._again = state["seed"], state["seed"] is not None

    def _order(self) -> Any:
        raise NotImplementedError

    def __iter__(self) -> Iterator[int]:
        order = self._order()
        return iter(order.tolist() if isinstance(order, np.ndarray) else order)


_PART = 2**16


class _Draws:
    """Independent draws of numbers below ``n``, made as they are needed: a loader without end asks for 10**10 of them.

    Slices are taken one after the other.
    """

    def __init__(self, stream: Generator, n: int, count: int):
        self._stream, self._n, self._count = stream, n, count
        self._made, self._start = np.empty(0, np.int64), 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, part: slice) -> np.ndarray:
        stop = min(part.stop, self._count)
        self._made, self._start = self._made[part.start - self._start :], part.start
        while len(self._made) < stop - self._start:
            more = random.randint(0, self._n, _PART, device="cpu", generator=self._stream)
            self._made = np.concatenate([self._made, more])
        return self._made[: stop - self._start]

    def __iter__(self) -> Iterator[int]:
        for start in range(0, self._count, _PART):
            yield from self[start : start + _PART].tolist()


class RandomSampler(_RandomOrder):
    """The samples in random order, anew for each epoch.

    Args:
        data_source: the dataset.
        replacement: draw each sample independently of the others.
        num_samples: samples in an epoch; all of them by default.  More than there are: one
            permutation after the other.
        generator: the stream to draw from; the default one if None.

    Raises:
        TypeError: ``replacement`` is not a bool.
        ValueError: ``num_samples`` is not a positive int.
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ):
        if not isinstance(replacement, bool):
            raise TypeError(f"replacement should be a boolean value, but got replacement={replacement}")
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        self.generator = generator
        _check_count(self.num_samples)

    @property
    def num_samples(self) -> int:
        """How many samples an epoch has."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def _order(self) -> Any:
        stream, n, wanted = self._stream(), len(self.data_source), self.num_samples
        if self.replacement and wanted > _PART:
            return _Draws(stream, n, wanted)
        if self.replacement:
            return random.randint(0, n, wanted, device="cpu", generator=stream)
        parts = [random.permutation(n, "cpu", stream) for _ in range(-(-wanted // n))]
        return (parts[0] if len(parts) == 1 else np.concatenate(parts))[:wanted]

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(_RandomOrder):
    """Given indices in random order, anew for each epoch."""

    def __init__(self, indices: Sequence[int], generator: Generator | None = None):
        self.indices = indices
        self.generator = generator

    def _order(self) -> np.ndarray:
        order = random.permutation(len(self.indices), "cpu", self._stream())
        return np.asarray(self.indices)[order] if len(order) else order

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(_RandomOrder):
    """Indices 0 to n - 1, drawn with probabilities in proportion to ``weights``.

    Without replacement the draws are those with the smallest exponential variates of
    rate ``weights`` (Efraimidis and Spirakis, "Weighted random sampling with a
    reservoir", 2006).

    Raises:
        ValueError: ``num_samples`` is not a positive int, ``replacement`` no bool, ``weights`` not 1-D.
        RuntimeError: a weight is negative or not finite, all are 0, or too few are not 0 to draw
            ``num_samples`` without replacement.
    """

    def __init__(
        self,
        weights: Sequence[float],
        num_samples: int,
        replacement: bool = True,
        generator: Generator | None = None,
    ):
        _check_count(num_samples)
        if not isinstance(replacement, bool):
            raise ValueError(f"replacement should be a boolean value, but got replacement={replacement}")
        self.weights = np.array(weights, np.float64)
        if self.weights.ndim != 1:
            raise ValueError(f"weights should be a 1d sequence but given weights have shape {self.weights.shape}")
        if not (np.isfinite(self.weights) & (self.weights >= 0)).all() or not self.weights.any():
            raise RuntimeError("invalid weights: they must be finite, not negative, and not all 0")
        possible = np.count_nonzero(self.weights)
        if not replacement and num_samples > possible:
            raise RuntimeError(
                f"cannot draw {num_samples} samples without replacement: only {possible} weights are not 0"
            )
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def _order(self) -> np.ndarray:
        stream, weights = self._stream(), self.weights
        if self.replacement:
            ends = np.cumsum(weights)
            draws = random.uniform(self.num_samples, dtype=np.float64, device="cpu", generator=stream)
            # Rounding may carry the largest draw up to the last end.
            last = int(np.flatnonzero(weights)[-1])
            return np.minimum(np.searchsorted(ends, draws * ends[-1], side="right"), last)
        draws = random.uniform(len(weights), dtype=np.float64, device="cpu", generator=stream)
        with np.errstate(divide="ignore", invalid="ignore"):
            times = -np.log1p(-draws) / weights  # infinite, or NaN, where a weight is 0: both are sorted last
        return np.argsort(times, kind="stable")[: self.num_samples]

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[Any]]):
    """Lists of the ``batch_size`` next indices of a sampler.

    Args:
        sampler: any iterable of indices.
        batch_size: indices in a list.
        drop_last: leave out a last list that is shorter.

    Raises:
        ValueError: ``batch_size`` is not a positive int, or ``drop_last`` no bool.
    """

    def __init__(self, sampler: Iterable[Any], batch_size: int, drop_last: bool):
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size <= 0:
            raise ValueError(f"batch_size should be a positive integer value, but got batch_size={batch_size}")
        if not isinstance(drop_last, bool):
            raise ValueError(f"drop_last should be a boolean value, but got drop_last={drop_last}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def _batches(self) -> Iterator[Any]:
        """The batches, as slices of the order where the sampler makes it whole; it is made at once."""
        size, keep_last = self.batch_size, not self.drop_last
        whole = shortcut(self.sampler, "_order", "__iter__")
        if whole is not None:
            order = whole()
            stop = len(order) if keep_last else len(order) // size * size
            return (order[start : start + size] for start in range(0, stop, size))
        indices = iter(self.sampler)
        lists = iter(lambda: list(islice(indices, size)), [])
        return (each for each in lists if keep_last or len(each) == size)

    def __iter__(self) -> Iterator[list[Any]]:
        for batch in self._batches():
            yield batch.tolist() if isinstance(batch, np.ndarray) else list(batch)

    def state_dict(self) -> dict[str, Any] | None:
        """The state of the sampler, if it has one."""
        return self.sampler.state_dict() if hasattr(self.sampler, "state_dict") else None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hand the state to the sampler."""
        self.sampler.load_state_dict(state)  # type: ignore[attr-defined]

    def __len__(self) -> int:
        full, rest = divmod(len(self.sampler), self.batch_size)  # type: ignore[arg-type]
        return full + bool(rest and not self.drop_last)


def _check_count(num_samples: Any) -> None:
    if not isinstance(num_samples, int) or isinstance(num_samples, bool) or num_samples <= 0:
        raise ValueError(f"num_samples should be a positive integer value, but got num_samples={num_samples}")
