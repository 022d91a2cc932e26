"""Random numbers: one counter-based generator, the same on every device.

Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011).  Block ``b`` of the stream of a seed is the cipher of the counter
``(b, 0, 0, 0)`` under the key ``(seed, 0)``: four 64-bit words.  A draw takes as
many whole blocks as it needs from the generator's offset on, whatever the device.

On the CPU the words come from NumPy's Philox, which steps its counter before it
makes a block; ``kernels/philox.cu`` makes the same words, and the same values
from them, on a CUDA device.  A value of at most 32 bits uses half a word, the low
half first.
"""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import cuda, kernels
from .device import Array, DeviceLike, device, module_for, on, resolve

DEFAULT_SEED = 67280421310721
"""The seed of a generator that was given none; PyTorch's."""

_CHUNK = 16384  # words at a time: what is made of them stays in cache
_WORD = 2**64
_observers = threading.local()


class Generator:
    """A stream of random numbers: a seed, and the number of blocks already taken from it.

    The same seed gives the same draws on every device.

    Attributes:
        device: where it was made for, as in PyTorch; it serves every device.
    """

    # The tensor layer, above this one, makes it wrap a state in a tensor.
    wrap: Callable[[np.ndarray], Any] = staticmethod(lambda state: state)

    def __init__(self, device: DeviceLike = "cpu"):
        self.device = resolve(device)
        self._lock = threading.RLock()
        self._philox: Any = None
        self._place: Any = None
        self._replays = False  # whether what it draws was taken from another one before
        self.manual_seed(DEFAULT_SEED)

    def __repr__(self) -> str:
        return f"Generator(device='{self.device}', seed={self._seed}, offset={self._offset})"

    def __reduce__(self) -> Any:
        return _restore, (type(self), str(self.device), self._seed, self._offset)

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of ``seed`` from its beginning.

        Raises:
            RuntimeError: ``seed`` is not an int.
            ValueError: it does not fit into 64 bits.
        """
        if isinstance(seed, bool) or not hasattr(seed, "__index__"):
            raise RuntimeError(f"manual_seed expected an int, but got {type(seed).__name__}")
        if not -(2**63) <= seed < _WORD:
            raise ValueError(f"manual_seed expected an int of 64 bits, from -2**63 to 2**64 - 1, but got {seed}")
        with self._lock:
            self._seed, self._offset = int(seed) % _WORD, 0
        return self

    def seed(self) -> int:
        """Start from a seed that the operating system chooses, and return it."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self._seed

    def initial_seed(self) -> int:
        """The seed in use."""
        return self._seed

    def get_state(self) -> Any:
        """Seed and offset, a tensor of two int64."""
        return self.wrap(np.array([self._seed, self._offset], np.uint64).view(np.int64))

    def set_state(self, state: Any) -> None:
        """Continue from what ``get_state`` returned.

        Raises:
            RuntimeError: ``state`` is no such thing.
        """
        state = np.asarray(state)
        if state.shape != (2,) or state.dtype != np.int64 or state[1] < 0:
            raise RuntimeError(
                f"expected a generator's state, two int64 (seed, offset), but got {state.dtype} of shape {state.shape}"
            )
        with self._lock:
            self._seed, self._offset = int(state[0]) % _WORD, int(state[1])

    def _take(self, blocks: int) -> tuple[int, int]:
        """The seed and the first block of the next draw."""
        if not self._replays:
            for observe in getattr(_observers, "stack", ()):
                observe(self)
        first, self._offset = self._offset, self._offset + blocks
        return self._seed, first

    def _words(self, blocks: int) -> Callable[[int], np.ndarray]:
        """NumPy's generator, about to make the words of the next draw."""
        if self._place is not None:
            raise RuntimeError(
                "random numbers cannot be drawn on the CPU while work on a CUDA device is being captured"
            )
        seed, first = self._take(blocks)
        counter = np.zeros(4, np.uint64)
        if first:
            counter[0] = first - 1
        else:
            counter[:] = _WORD - 1
        if self._philox is None:
            # At the first draw: importing numpy.random takes a while.
            self._philox = np.random.Philox(0)
        self._philox.state = {
            "bit_generator": "Philox",
            "state": {"counter": counter, "key": np.array([seed, 0], np.uint64)},
            "buffer": np.zeros(4, np.uint64),
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }
        return self._philox.random_raw

    @contextmanager
    def captured(self, place: Array) -> Iterator[Callable[[], None]]:
        """For draws that are recorded to be run again: their kernels read seed and offset from ``place``.

        The recorded work moves ``place`` on by itself; it is written to only when draws were made in between.

        Args:
            place: two uint64 in device memory.

        Yields:
            A function to call before each run: it moves the stream on.
        """
        with self._lock:
            before, self._offset, self._place = self._offset, 0, place
            blocks, there = 0, (0, 0)

            def advance() -> None:
                nonlocal there
                if blocks:
                    with self._lock:
                        seed, first = self._take(blocks)
                    if (seed, first) != there:
                        place[...] = module_for(device("cuda")).asarray((seed, first), np.uint64)
                    there = seed, first + blocks

            try:
                yield advance
                if self._offset:
                    place[1:] += np.uint64(self._offset)
            finally:
                blocks, self._offset, self._place = self._offset, before, None


def reserve(blocks: int, generator: Generator | None = None) -> tuple[int, int, Any]:
    """Take some blocks of the stream, for a kernel that draws by itself: seed, first block, and ``place`` or None."""
    generator = default_generator if generator is None else generator
    with generator._lock:
        return *generator._take(blocks), generator._place


def at(seed: int, offset: int, place: Any) -> Generator:
    """A generator whose next draws are those that were reserved."""
    generator = _restore(Generator, "cpu", seed, offset)
    generator._place, generator._replays = place, True
    return generator


@contextmanager
def observed(observe: Callable[[Generator], None]) -> Iterator[None]:
    """Call ``observe(generator)`` before each draw that this thread makes in the block."""
    stack = _observers.__dict__.setdefault("stack", [])
    stack.append(observe)
    try:
        yield
    finally:
        stack.pop()


def _restore(kind: type[Generator], where: str, seed: int, offset: int) -> Generator:
    generator = kind(where)
    generator._seed, generator._offset = seed, offset
    return generator


default_generator = Generator()


@contextmanager
def fork_rng(generator: Generator = default_generator) -> Iterator[None]:
    """Give the generator its state back at the end of the block."""
    state = generator.get_state()
    try:
        yield
    finally:
        generator.set_state(state)


def _draw(
    kernel: str,
    convert: Callable[..., None],
    per_word: int,
    shape: Any,
    dtype: Any,
    where: DeviceLike,
    generator: Generator | None,
    *args: Any,
) -> Array:
    """A new array of draws, ``per_word`` of them from each word: by ``convert(words, out, *args)`` or by the kernel."""
    where = resolve(where)
    generator = default_generator if generator is None else generator
    if not isinstance(generator, Generator):
        raise TypeError(f"generator must be a gpugrad.Generator, not {type(generator).__name__}")
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if min(shape, default=0) < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    size = math.prod(shape)
    blocks = -(-size // (4 * per_word))
    if where.type != "cpu":
        with on(where), generator._lock:
            if generator._place is None and cuda.is_capturing():
                raise RuntimeError(
                    "work that is captured can draw from the default generator only: what another one draws "
                    "would be the same in each run"
                )
            out = module_for(where).empty(shape, dtype)
            place = np.uint64(0) if generator._place is None else generator._place
            seed, offset = generator._take(blocks)
            kernels.launch(
                "philox", kernel, blocks, (np.uint64(seed), np.uint64(offset), place, np.int64(size), out, *args)
            )
        return out
    flat = np.empty(size, dtype)
    with generator._lock:
        words = generator._words(blocks)
        for start in range(0, size, _CHUNK * per_word):
            part = flat[start : start + _CHUNK * per_word]
            made = words(4 * -(-part.size // (4 * per_word)))
            if part.size == made.size * per_word:
                convert(made, part, *args)
            else:
                whole = np.empty(made.size * per_word, dtype)
                convert(made, whole, *args)
                part[:] = whole[: part.size]
    return flat.reshape(shape)


def _copy(words: np.ndarray, out: np.ndarray) -> None:
    out[:] = words


def words(n: int, device: DeviceLike = None, generator: Generator | None = None) -> Array:
    """``n`` random 64-bit words, as uint64."""
    return _draw("words", _copy, 1, n, np.uint64, device, generator)


@functools.cache
def _floating(dtype: Any) -> tuple[np.dtype, np.dtype, str, int]:
    """A floating-point dtype, the one to draw in (float32 for those of 16 bits), its name, and the digits to draw."""
    dtype = np.dtype(dtype)
    digits = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}.get(dtype.name)
    if digits is None:
        raise NotImplementedError(f"uniform and normal draws are for floating-point dtypes, not for {dtype}")
    work = np.dtype(np.float32) if dtype.itemsize == 2 else dtype
    return dtype, work, work.name, digits


def _uniform(words: np.ndarray, out: np.ndarray, shift: Any, factor: Any, low: Any, last: Any) -> None:
    bits = words.view(f"u{out.itemsize}")
    bits >>= shift
    # As signed integers, which they fit, they convert faster.
    out[:] = bits.view(f"i{out.itemsize}")
    out *= factor
    if low:
        out += low
    # Rounding can reach `high` in a sum, and in a product when fewer digits will be kept.
    if low or shift > 11:
        np.minimum(out, last, out=out)


def uniform(
    shape: Any,
    low: float = 0.0,
    high: float = 1.0,
    dtype: Any = np.float32,
    device: DeviceLike = None,
    generator: Generator | None = None,
) -> Array:
    """Draws from the uniform distribution on [low, high): multiples of the dtype's epsilon, scaled.

    Raises:
        RuntimeError: ``low`` is above ``high``, or one of them is not finite.
        NotImplementedError: the dtype is not floating point.
    """
    if not (low <= high and math.isfinite(high - low)):
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low} > to={high}")
    dtype, work, name, digits = _floating(dtype)
    real = work.type
    last = real(high)
    if low or work is not dtype:
        last = real(np.nextafter(dtype.type(high), dtype.type(low)))
    shift = np.uint32(8 * work.itemsize - digits)
    scale = (shift, real(math.ldexp(high - low, -digits)), real(low), last)
    per_word = 8 // work.itemsize
    out = _draw(f"uniform_{name}", _uniform, per_word, shape, work, device, generator, *scale)
    return out.astype(dtype, copy=False)


def _normal(words: np.ndarray, out: np.ndarray, mean: Any, std: Any) -> None:
    """Box and Muller, "A note on the generation of random normal deviates", 1958."""
    real = out.dtype.type
    bits = words.view(f"u{out.itemsize}")
    if out.itemsize == 4:
        first, second, digits = bits[0::2] & np.uint32(2**31 - 1), bits[1::2] >> np.uint32(8), (31, 24)
    else:
        first, second, digits = bits[0::2] >> np.uint64(11), bits[1::2] >> np.uint64(11), (53, 53)
    radius = first.view(f"i{out.itemsize}").astype(out.dtype)
    radius *= real(2.0 ** -digits[0])
    radius += real(2.0 ** -(digits[0] + 1))  # never 0
    np.log(radius, out=radius)
    radius *= real(-2)
    np.sqrt(radius, out=radius)
    angle = second.view(f"i{out.itemsize}").astype(out.dtype)
    angle *= real(2 * math.pi * 2.0 ** -digits[1])
    np.multiply(radius, np.cos(angle), out=out[0::2])
    np.sin(angle, out=angle)
    np.multiply(radius, angle, out=out[1::2])
    if std != 1:
        out *= std
    if mean:
        out += mean


def normal(
    shape: Any,
    mean: float = 0.0,
    std: float = 1.0,
    dtype: Any = np.float32,
    device: DeviceLike = None,
    generator: Generator | None = None,
) -> Array:
    """Draws from the normal distribution; on two devices equal to rounding.

    Raises:
        RuntimeError: ``std`` is negative.
        NotImplementedError: the dtype is not floating point.
    """
    if not std >= 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    dtype, work, name, _ = _floating(dtype)
    real, per_word = work.type, 8 // work.itemsize
    out = _draw(f"normal_{name}", _normal, per_word, shape, work, device, generator, real(mean), real(std))
    return out.astype(dtype, copy=False)


def _below(words: np.ndarray, out: np.ndarray, threshold: Any) -> None:
    if threshold >> 32:
        out[:] = True
    else:
        np.less(words.view(np.uint32), np.uint32(threshold), out=out)


def bernoulli_mask(
    shape: Any, keep_probability: float, device: DeviceLike = None, generator: Generator | None = None
) -> Array:
    """Booleans that are true with the given probability (to 32 bits).

    Raises:
        RuntimeError: the probability is not in [0, 1].
    """
    if not 0 <= keep_probability <= 1:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={keep_probability}")
    return _draw("below", _below, 2, shape, np.bool_, device, generator, np.uint64(round(keep_probability * 2**32)))


def _multiply_high(a: np.ndarray, b: int) -> np.ndarray:
    """The high 64 bits of each product."""
    low, high = a & np.uint64(2**32 - 1), a >> np.uint64(32)
    b_low, b_high = np.uint64(b % 2**32), np.uint64(b >> 32)
    carry = high * b_low + (low * b_low >> np.uint64(32))
    if not b_high:
        return carry >> np.uint64(32)
    middle = low * b_high + (carry & np.uint64(2**32 - 1))
    return high * b_high + (carry >> np.uint64(32)) + (middle >> np.uint64(32))


def _integers(words: np.ndarray, out: np.ndarray, low: Any, span: Any) -> None:
    # A span of 2**64 does not fit and is given as 0.
    if span:
        words = _multiply_high(words, int(span))
    words += low
    out[:] = words.view(np.int64)


def randint(
    low: int,
    high: int,
    shape: Any,
    dtype: Any = np.int64,
    device: DeviceLike = None,
    generator: Generator | None = None,
) -> Array:
    """Integers from ``low`` to ``high - 1``: the high half of word times span, so biased by less than span / 2**64.

    Raises:
        RuntimeError: the range is empty or does not fit the dtype.
    """
    dtype = np.dtype(dtype)
    low, high = int(low), int(high)
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    if dtype.kind in "biu":
        least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        if low < least or high - 1 > most:
            raise RuntimeError(
                f"randint: the range [{low}, {high}) is out of bounds for {dtype}, which holds [{least}, {most}]"
            )
    span = np.uint64((high - low) % _WORD)
    out = _draw("integers", _integers, 1, shape, np.int64, device, generator, np.uint64(low % _WORD), span)
    return out.astype(dtype, copy=False)


def permutation(n: int, device: DeviceLike = None, generator: Generator | None = None) -> Array:
    """The integers from 0 to ``n - 1`` in random order, as int64.

    The order is that of random keys whose lowest bits are the integers themselves: sorting
    the keys sorts both, and gives the same answer whichever way the device sorts.
    """
    where = resolve(device)
    keys = words(n, where, generator)
    low_bits = np.uint64((1 << max(n - 1, 0).bit_length()) - 1)
    with on(where):
        keys &= ~low_bits
        keys |= module_for(where).arange(n, dtype=np.uint64)
        keys.sort()
        keys &= low_bits
        return keys.view(np.int64)
