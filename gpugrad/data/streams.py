"""The random numbers of data loading: one seed for each epoch, one stream for each batch.

Random transforms draw from the stream of the batch they work on.  It depends on
the epoch's seed and the batch's number alone, so the result is the same with any
number of workers, and after a resume in the middle of an epoch.
"""

from __future__ import annotations

import threading

import numpy as np

from ..backend.random import Generator, uniform, words

_STRIDE = 32  # a batch has 2**32 blocks of the epoch's stream to itself


_AHEAD = 256  # a call for a single number costs as much as one for so many


class _Current(threading.local):
    place: tuple[int, int] | None = None
    generator: Generator | None = None
    drawn: list[float] = []


_current = _Current()


def draw_seed(generator: Generator | None = None) -> int:
    """A new seed from a generator (None: the default one)."""
    return int(words(1, "cpu", generator)[0])


def enter(seed: int, batch: int) -> None:
    """From now on this thread draws from the stream of a batch."""
    _current.place, _current.generator, _current.drawn = (seed, batch), None, []


def leave() -> None:
    """From now on this thread draws from the default generator."""
    _current.place = _current.generator = None


def random() -> float:
    """A uniform draw from [0, 1), from this thread's stream."""
    if _current.place is None:
        return float(uniform((), dtype=np.float64, device="cpu"))
    if not _current.drawn:
        if _current.generator is None:
            seed, batch = _current.place
            _current.generator = Generator("cpu")
            _current.generator.set_state(np.array([seed, batch << _STRIDE], np.uint64).view(np.int64))
        draws = uniform(_AHEAD, dtype=np.float64, device="cpu", generator=_current.generator)
        _current.drawn = draws[::-1].tolist()
    return _current.drawn.pop()
