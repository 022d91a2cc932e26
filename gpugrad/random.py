"""Random tensors, seeds and generators; see ``gpugrad.backend.random`` for how the numbers are made."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .backend import cuda, dtypes, lazy
from .backend import random as streams
from .backend.device import module_of, on
from .backend.quiet import quiet
from .engine import modes, no_grad
from .ops import REGISTRY, core
from .ops.core import raw, with_out
from .ops.shape import parse_size
from .tensor import Tensor

__all__ = [
    "Generator",
    "bernoulli",
    "binomial",
    "default_generator",
    "fork_rng",
    "get_rng_state",
    "initial_seed",
    "manual_seed",
    "multinomial",
    "normal",
    "poisson",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "randperm",
    "seed",
    "set_rng_state",
]


Generator = streams.Generator
Generator.wrap = staticmethod(Tensor._wrap)

default_generator = streams.default_generator
"""The generator of everything that is given none."""


def manual_seed(seed: int) -> Generator:
    """Seed the default generator, and return it.

    Raises:
        ValueError: ``seed`` does not fit into 64 bits.
    """
    return default_generator.manual_seed(builtins.int(seed))


def seed() -> int:
    """Seed the default generator with a number that the operating system chooses, and return the number."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The state of the default generator, a tensor of two int64."""
    return default_generator.get_state()


def set_rng_state(new_state: Any) -> None:
    """Let the default generator continue from what ``get_rng_state`` returned.

    Raises:
        RuntimeError: ``new_state`` is no such tensor.
    """
    default_generator.set_state(new_state)


@contextmanager
def fork_rng(devices: Any = None, enabled: bool = True, device_type: str = "cuda") -> Iterator[None]:
    """Give the default generator its state back at the end of the block.

    Args:
        devices, device_type: accepted as in PyTorch; one generator serves every device.
        enabled: False makes this do nothing.
    """
    if not enabled:
        yield
        return
    with streams.fork_rng():
        yield


def _made(array: Any, requires_grad: bool, pin: bool = False) -> Tensor:
    made = Tensor._wrap(cuda.pinned(array) if pin else array)
    if requires_grad:
        made.requires_grad = True
    return made


def _dtype(dtype: Any) -> np.dtype:
    return dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)


@with_out
def rand(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
    **named: Any,
) -> Tensor:
    """Uniform draws on [0, 1) in a new tensor of shape ``size`` (``rand(2, 3)``, ``rand((2, 3))``, ``rand(size=...)``).

    Raises:
        TypeError: ``size`` is not made of ints.
        NotImplementedError: the dtype is not floating point.
    """
    shape = parse_size("rand", size, named)
    return _made(streams.uniform(shape, 0.0, 1.0, _dtype(dtype), device, generator), requires_grad, pin_memory)


@with_out
def randn(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
    **named: Any,
) -> Tensor:
    """Standard normal draws in a new tensor of shape ``size``.

    Raises:
        TypeError: ``size`` is not made of ints.
        NotImplementedError: the dtype is not floating point.
    """
    shape = parse_size("randn", size, named)
    return _made(streams.normal(shape, 0.0, 1.0, _dtype(dtype), device, generator), requires_grad, pin_memory)


@with_out
def randint(
    *args: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
    **named: Any,
) -> Tensor:
    """Integers from ``low`` to ``high - 1``: ``randint(high, size)`` or ``randint(low, high, size)``; int64 by default.

    Raises:
        TypeError: the arguments are none of these.
        RuntimeError: the range is empty or does not fit the dtype.
    """
    names = ("low", "high", "size") if len(args) + len(named) == 3 or "low" in named else ("high", "size")
    given = dict(zip(names, args, strict=False)) | named
    if len(args) + len(named) != len(given) or not {"high", "size"} <= set(given) <= set(names):
        raise TypeError(f"randint() expects (high, size) or (low, high, size), but got {args} and {named}")
    low, high = _bounds("randint", given.get("low", 0), given["high"])
    if not isinstance(given["size"], tuple | list):
        raise TypeError(f"randint(): the size must be a tuple of ints, but got {given['size']!r}")
    shape = parse_size("randint", (given["size"],), {})
    kind = dtypes.int64 if dtype is None else dtypes.as_dtype(dtype)
    return _made(streams.randint(low, high, shape, kind, device, generator), requires_grad, pin_memory)


def _bounds(name: str, low: Any, high: Any) -> tuple[int, int]:
    for value in (low, high):
        if isinstance(value, float) or not hasattr(value, "__index__"):
            raise TypeError(f"{name}(): the bounds must be ints, but got {low!r} and {high!r}")
    return low.__index__(), high.__index__()


@with_out
def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """The integers from 0 to ``n - 1`` in random order; int64 by default.

    Raises:
        RuntimeError: ``n`` is negative.
    """
    order = streams.permutation(n, device, generator)
    return _made(order if dtype is None else order.astype(dtypes.as_dtype(dtype)), requires_grad, pin_memory)


def rand_like(
    input: Tensor,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """``rand`` with the shape, dtype and device of ``input``."""
    shape, kind, where = _like(input, dtype, device)
    return rand(shape, generator=generator, dtype=kind, device=where, requires_grad=requires_grad)


def randn_like(
    input: Tensor,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """``randn`` with the shape, dtype and device of ``input``."""
    shape, kind, where = _like(input, dtype, device)
    return randn(shape, generator=generator, dtype=kind, device=where, requires_grad=requires_grad)


def randint_like(
    input: Tensor,
    low: int = 0,
    high: int | None = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """``randint(low, high)``, or ``randint(high)``, with the shape, dtype and device of ``input``."""
    low, high = (0, low) if high is None else (low, high)
    shape, kind, where = _like(input, dtype, device)
    return randint(low, high, shape, generator=generator, dtype=kind, device=where, requires_grad=requires_grad)


def _like(input: Tensor, dtype: Any, device: Any) -> tuple[tuple[int, ...], Any, Any]:
    return input._data.shape, input.dtype if dtype is None else dtype, input.device if device is None else device


def normal(
    mean: Any,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Normal draws: one for each element of ``mean`` and ``std`` where these are tensors, else of shape ``size``.

    Raises:
        TypeError: neither is a tensor, and no size was given.
        RuntimeError: a ``std`` is negative.
    """
    like = next((t for t in (mean, std) if isinstance(t, Tensor)), None)
    if like is None:
        if size is None:
            raise TypeError("normal() needs a size when mean and std are numbers")
        shape = parse_size("normal", (size,), {})
        return _made(streams.normal(shape, mean, std, _dtype(dtype), device, generator), requires_grad)
    if size is not None:
        raise TypeError("normal() takes no size when mean or std is a tensor")
    if isinstance(std, Tensor) and bool((std._data < 0).any()):
        raise RuntimeError("normal expects all elements of std >= 0.0")
    if not isinstance(std, Tensor) and not std >= 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    with no_grad():
        spread = mean * 0 + std
        draws = streams.normal(spread._data.shape, 0.0, 1.0, spread.dtype, like.device, generator)
        return Tensor._wrap(draws) * std + mean


def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """Zeros and ones in the dtype of ``input``: ones with the probability that ``input`` says, or ``p`` where given.

    Raises:
        RuntimeError: a probability is not in [0, 1].
    """
    return Tensor._wrap(_bernoulli(input, input if p is None else p, generator).astype(input.dtype))


def _bernoulli(target: Tensor, p: Any, generator: Generator | None) -> Any:
    if not isinstance(p, Tensor):
        return streams.bernoulli_mask(target._data.shape, p, target.device, generator)
    if not p.is_floating_point():
        raise NotImplementedError(f"bernoulli needs floating-point probabilities, but got {p.dtype}")
    if not bool(((p._data >= 0) & (p._data <= 1)).all()):
        raise RuntimeError("bernoulli expects every probability to be in [0, 1]")
    return streams.uniform(target._data.shape, 0.0, 1.0, p.dtype, target.device, generator) < p._data


def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Indices drawn with the probabilities that a row of ``input`` gives, up to a factor.

    Without replacement by the exponential race (Efraimidis and Spirakis, "Weighted random
    sampling with a reservoir", 2006), in the order drawn; indices of probability 0 come last.

    Args:
        input: weights, ``(n,)`` or ``(m, n)``.
        num_samples: how many to draw from each row.
        replacement: whether an index may be drawn again.

    Returns:
        int64, ``(num_samples,)`` or ``(m, num_samples)``.

    Raises:
        RuntimeError: the weights are not floating point, negative, not finite, or all zero, or
            there are too few of them.
    """
    weights = input._data
    if weights.ndim not in (1, 2):
        raise RuntimeError(f"prob_dist must be 1 or 2 dim, but got shape {tuple(weights.shape)}")
    if not input.is_floating_point():
        raise RuntimeError(f"multinomial only supports floating-point dtypes for input, got: {input.dtype}")
    if num_samples <= 0:
        raise RuntimeError(f"cannot sample n_sample <= 0 samples, got {num_samples}")
    if not replacement and num_samples > weights.shape[-1]:
        raise RuntimeError(
            f"cannot sample n_sample > prob_dist.size(-1) without replacement: {num_samples} of {weights.shape[-1]}"
        )
    xp = module_of(weights)
    with on(input.device):
        rows = weights.astype(np.float64).reshape(-1, weights.shape[-1])
        if not bool((xp.isfinite(rows) & (rows >= 0)).all()):
            raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
        edges = xp.cumsum(rows, axis=1)
        if not bool((edges[:, -1] > 0).all()):
            raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
        if replacement or num_samples == 1:
            draws = streams.uniform((len(rows), num_samples), 0.0, 1.0, np.float64, input.device, generator)
            draws *= edges[:, -1:]
            found = xp.empty(draws.shape, np.int64)
            if len(rows) <= num_samples:
                for edge, draw, row in zip(edges, draws, found, strict=True):
                    row[:] = xp.searchsorted(edge, draw, side="right")
            else:
                for k in range(num_samples):
                    found[:, k] = (edges <= draws[:, k : k + 1]).sum(axis=1)
        else:
            arrivals = -xp.log1p(-streams.uniform(rows.shape, 0.0, 1.0, np.float64, input.device, generator))
            arrivals /= xp.where(rows > 0, rows, 1)
            arrivals[rows == 0] = np.inf
            found = xp.argsort(arrivals, axis=1, kind="stable")[:, :num_samples]
        return Tensor._wrap(xp.ascontiguousarray(found.reshape(*weights.shape[:-1], num_samples)))


# Counts, in float64: by inversion where few are expected, else by transformed rejection (Hörmann, "The transformed
# rejection method for generating Poisson random variables" and "The generation of binomial random variates", 1993).
_FEW = 10.0


def _by_inversion(draws: Any, first: Any, ratio: Callable[[int], Any]) -> Any:
    """The counts whose cumulative probabilities enclose the draws, from the probability of 0 and that of k to k - 1."""
    count = draws * 0
    term, cumulative = first, first
    k = 0
    while bool((beyond := (draws >= cumulative) & (term > 1e-30)).any()):
        count += beyond
        k += 1
        term = term * ratio(k)
        cumulative = cumulative + term
    return count


def _by_rejection(
    draw: Callable[[], Any],
    mean: Any,
    slope: Any,
    width: Any,
    quick: Any,
    scale: Any,
    most: Any,
    score: Callable[..., Any],
) -> Any:
    """Counts from a hat that ``slope`` and ``width`` shape; ``score(k)`` is the log-probability, up to a constant."""
    xp = module_of(mean)
    count = mean * 0
    pending = count == 0
    while bool(pending.any()):
        u, v = draw() - 0.5, 1 - draw()
        edge = 0.5 - xp.abs(u)
        k = xp.floor((2 * slope / edge + width) * u + mean)
        inside = (k >= 0) & (k <= most)
        k = xp.where(inside, k, 0)
        accepted = xp.log(v * scale / (slope / (edge * edge) + width)) <= score(k)
        taken = pending & inside & (((edge >= 0.07) & (v <= quick)) | accepted)
        count = xp.where(taken, k, count)
        pending &= ~taken
    return count


def _counted(few: Any, inversion: Callable[[], Any], rejection: Callable[[], Any]) -> Any:
    if bool(few.all()):
        return inversion()
    return module_of(few).where(few, inversion(), rejection()) if bool(few.any()) else rejection()


def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Draws from the Poisson distributions whose rates are the elements of ``input``, in its dtype.

    Raises:
        NotImplementedError: ``input`` is not floating point.
        RuntimeError: a rate is negative or not finite.
    """
    if not input.is_floating_point():
        raise NotImplementedError(f"poisson needs floating-point rates, but got {input.dtype}")
    rate = lazy.settled(input._data).astype(np.float64)
    xp = module_of(rate)
    if not bool(((rate >= 0) & (rate < np.inf)).all()):
        raise RuntimeError("invalid Poisson rate, expected rate to be non-negative and finite")

    def draw() -> Any:
        return streams.uniform(rate.shape, 0.0, 1.0, np.float64, input.device, generator)

    def inversion() -> Any:
        mean = xp.where(few, rate, 0)
        return _by_inversion(draw(), xp.exp(-mean), lambda k: mean / k)

    def rejection() -> Any:
        mean = xp.where(few, _FEW, rate)
        width = 0.931 + 2.53 * xp.sqrt(mean)
        slope = 0.02483 * width - 0.059
        quick, scale = 0.9277 - 3.6224 / (width - 2), 1.1239 + 1.1328 / (width - 3.4)

        def score(k: Any) -> Any:
            return k * xp.log(mean) - mean - raw.lgamma(k + 1)

        return _by_rejection(draw, mean + 0.43, slope, width, quick, scale, np.inf, score)

    few = rate < _FEW
    with on(input.device), quiet():
        return Tensor._wrap(_counted(few, inversion, rejection).astype(input.dtype))


def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """How many of ``count`` trials succeed, each with probability ``prob``; broadcast, in their dtype.

    Raises:
        ValueError: ``count`` is not floating point.
        RuntimeError: the dtypes differ, a count is negative, or a probability is not in [0, 1].
    """
    if not count.is_floating_point():
        raise ValueError(f"binomial only supports floating-point dtypes for count, got: {count.dtype}")
    if count.dtype != prob.dtype:
        raise RuntimeError(f"binomial: count is {count.dtype} and prob {prob.dtype}; expected the same dtype")
    core.check_same_device("binomial", [count._data, prob._data])
    xp = module_of(count._data)
    given = [lazy.settled(t._data).astype(np.float64) for t in (count, prob)]
    shape = np.broadcast_shapes(*[a.shape for a in given])
    n, chance = xp.broadcast_to(xp.floor(given[0]), shape), xp.broadcast_to(given[1], shape)
    if not bool(((n >= 0) & (n < np.inf) & (chance >= 0) & (chance <= 1)).all()):
        raise RuntimeError("binomial expects counts that are not negative and probabilities in [0, 1]")
    p = xp.minimum(chance, 1 - chance)

    def draw() -> Any:
        return streams.uniform(n.shape, 0.0, 1.0, np.float64, count.device, generator)

    def inversion() -> Any:
        trials = xp.where(few, n, 0)
        first = xp.exp(trials * xp.log1p(-p))
        return _by_inversion(draw(), first, lambda k: p / (1 - p) * xp.maximum(trials + 1 - k, 0) / k)

    def rejection() -> Any:
        trials, q = xp.where(few, 4 * _FEW, n), xp.where(few, 0.25, p)
        spread = xp.sqrt(trials * q * (1 - q))
        width = 1.15 + 2.53 * spread
        slope = 0.0248 * width - 0.0873 + 0.01 * q

        def log_probability(k: Any) -> Any:
            return k * xp.log(q / (1 - q)) - raw.lgamma(k + 1) - raw.lgamma(trials - k + 1)

        quick, scale = 0.92 - 4.2 / width, (2.83 + 5.1 / width) * spread
        highest = log_probability(xp.floor((trials + 1) * q))
        hat = (trials * q + 0.5, slope, width, quick, scale)
        return _by_rejection(draw, *hat, trials, lambda k: log_probability(k) - highest)

    few = n * p < _FEW
    with on(count.device), quiet():
        successes = xp.minimum(_counted(few, inversion, rejection), n)
        return Tensor._wrap(xp.where(chance > 0.5, n - successes, successes).astype(count.dtype))


# Rounds in each of which at least 95 in 100 draws are accepted: after all, one in 10**20 is left over.
_GAMMA_ROUNDS = 16


def _gamma_logarithms(a: Any, where: Any, generator: Generator | None) -> Any:
    """Logarithms of gamma draws, float64.

    Marsaglia and Tsang, "A simple method for generating gamma variables", 2000: for ``a < 1`` a draw for ``a + 1``
    times ``U ** (1 / a)``. Each round has its own place in the stream, so that what is drawn next does not depend on
    how many there were.
    """
    xp = module_of(a)
    blocks = -(-a.size // 4)
    seed, offset, place = streams.reserve(blocks * (2 * _GAMMA_ROUNDS + 1), generator)

    def drawn(draw: Callable[..., Any], size: int, k: int) -> Any:
        return draw((size,), 0.0, 1.0, np.float64, where, streams.at(seed, offset + k * blocks, place))

    def proposed(d: Any, x: Any, u: Any) -> tuple[Any, Any]:
        cube = 1 + x / xp.sqrt(9 * d)
        cube *= cube * cube
        log_cube = xp.log(xp.maximum(cube, 1e-300))
        return xp.log(d) + log_cube, (cube <= 0) | (xp.log(1 - u) >= x * x / 2 + d * (1 - cube + log_cube))

    shift = xp.where(a < 1, a + 1, a).reshape(-1) - 1 / 3
    n, found = shift.size, xp.empty_like(shift)
    left = xp.arange(n) if place is None else xp.ones(n, np.bool_)
    for k in range(1, 2 * _GAMMA_ROUNDS, 2):
        if place is None:
            if not left.size:
                break
            x, u = drawn(streams.normal, left.size, k), drawn(streams.uniform, left.size, k + 1)
            found[left], rejected = proposed(shift[left], x, u)
            left = left[rejected]
        else:
            # While work is being captured the host cannot look how many are left; they get the same draws.
            turn = xp.cumsum(left) - 1
            x, u = drawn(streams.normal, n, k)[turn], drawn(streams.uniform, n, k + 1)[turn]
            logs, rejected = proposed(shift, x, u)
            found = xp.where(left, logs, found)
            left &= rejected
    found = found.reshape(a.shape)
    if place is not None or bool((a < 1).any()):
        found += xp.where(a < 1, xp.log(1 - drawn(streams.uniform, n, 0)).reshape(a.shape) / a, 0)
    return found


def log_standard_gamma(input: Tensor, generator: Generator | None = None) -> Tensor:
    """The logarithms of draws from the gamma distributions of these shape parameters and rate 1, in float64.

    Gradients flow to ``input``, by implicit reparameterisation.

    Raises:
        NotImplementedError: ``input`` is not floating point.
    """
    if not input.is_floating_point():
        raise NotImplementedError(f"gamma draws need a floating-point shape parameter, but got {input.dtype}")
    with on(input.device), quiet():
        draws = _gamma_logarithms(lazy.settled(input._data).astype(np.float64), input.device, generator)
    return REGISTRY["gamma_path"](input, Tensor._wrap(draws))


def _fill(name: str, target: Tensor, array: Any) -> Tensor:
    """Write draws into a tensor; its gradient no longer flows to what it was computed from."""
    if modes.grad and target._needs_grad:
        draws = Tensor._wrap(array)
        nothing = Tensor._wrap(module_of(array).zeros(array.shape, np.bool_))
        return core.inplace(name, lambda t: REGISTRY["keep"](t, nothing) + draws, target)
    core.check_inplace(name, target, False)
    core.memory_to_change(target)[...] = array
    target._bump()
    return target


def uniform_(self: Tensor, from_: float = 0.0, to: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill the tensor with uniform draws on [from_, to).

    Raises:
        RuntimeError: ``from_`` is above ``to``, or the tensor is a leaf that needs a gradient.
    """
    return _fill("uniform_", self, streams.uniform(self._data.shape, from_, to, self.dtype, self.device, generator))


def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill the tensor with normal draws.

    Raises:
        RuntimeError: ``std`` is negative, or the tensor is a leaf that needs a gradient.
    """
    return _fill("normal_", self, streams.normal(self._data.shape, mean, std, self.dtype, self.device, generator))


def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill the tensor with ones, with probability ``p`` (a number, or a tensor of its shape), and zeros.

    Raises:
        RuntimeError: a probability is not in [0, 1], or the tensor is a leaf that needs a gradient.
    """
    return _fill("bernoulli_", self, _bernoulli(self, p, generator).astype(self.dtype))


def random_(
    self: Tensor, from_: int | None = None, to: int | None = None, *, generator: Generator | None = None
) -> Tensor:
    """Fill the tensor with integers: ``random_()`` over all that its dtype holds exactly from 0 on,
    ``random_(to)`` from 0 to ``to - 1``, ``random_(from_, to)`` from ``from_`` to ``to - 1``.

    Raises:
        RuntimeError: the range is empty or does not fit the dtype.
    """
    if from_ is None:
        digits = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53, "bool": 0}.get(self.dtype.name)
        from_, to = 0, builtins.int(np.iinfo(self.dtype).max) + 1 if digits is None else 2**digits + 1
    elif to is None:
        from_, to = 0, from_
    low, high = _bounds("random_", from_, to)
    return _fill("random_", self, streams.randint(low, high, self._data.shape, self.dtype, self.device, generator))


def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill the tensor with draws from the exponential distribution of rate ``lambd``.

    Raises:
        RuntimeError: ``lambd`` is not positive, or the tensor is a leaf that needs a gradient.
    """
    if not lambd > 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd}")
    draws = streams.uniform(self._data.shape, 0.0, 1.0, self.dtype, self.device, generator)
    xp = module_of(draws)
    return _fill("exponential_", self, -xp.log1p(-draws) / draws.dtype.type(lambd))


for _method in (uniform_, normal_, bernoulli_, random_, exponential_, bernoulli, multinomial):
    setattr(Tensor, _method.__name__, _method)
