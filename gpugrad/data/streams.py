"""The random numbers of data loading: one seed for each epoch, one stream for each batch.

Random transforms draw from the stream of the batch they work on.  It depends on
the epoch's seed and the batch's number alone, so the result is the same with any
number of workers, and after a resume in the middle of an epoch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np

from ..backend.random import Generator, uniform, words

_STRIDE = 32  # a batch has 2**32 blocks of the epoch's stream to itself
_AHEAD = 256  # a call for a single number costs as much as one for so many


class _Current(threading.local):
    stream: Iterator[float] | None = None


_current = _Current()


def draw_seed(generator: Generator | None = None) -> int:
    """A new seed from a generator (None: the default one)."""
    return int(words(1, "cpu", generator)[0])


def enter(seed: int, batch: int) -> None:
    """From now on this thread draws from the stream of a batch."""
    _current.stream = _stream(seed, batch)


def leave() -> None:
    """From now on this thread draws from the default generator."""
    _current.stream = None


def random() -> float:
    """A uniform draw from [0, 1), from this thread's stream."""
    if _current.stream is None:
        return float(uniform((), dtype=np.float64, device="cpu"))
    return next(_current.stream)


def _stream(seed: int, batch: int) -> Iterator[float]:
    generator = Generator("cpu")
    generator.set_state(np.array([seed, batch << _STRIDE], np.uint64).view(np.int64))
    while True:
        yield from uniform(_AHEAD, dtype=np.float64, device="cpu", generator=generator).tolist()
