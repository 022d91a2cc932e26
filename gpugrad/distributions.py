"""Probability distributions: samples, log-probabilities and entropies, with PyTorch's names."""

from __future__ import annotations

import math
from typing import Any

from .creation import as_tensor, broadcast_shapes
from .engine import no_grad
from .nn import functional as F
from .ops import FUNCTIONS
from .random import bernoulli, multinomial, normal, rand
from .tensor import Size, Tensor

where = FUNCTIONS["where"]

__all__ = ["Bernoulli", "Categorical", "Distribution", "Normal", "Uniform", "kl_divergence"]


def _tensors(*values: Any) -> list[Tensor]:
    """Parameters as tensors of one shape: numbers take the dtype and the device of the tensors beside them."""
    like = next((value for value in values if isinstance(value, Tensor)), as_tensor(0.0))
    found = [v if isinstance(v, Tensor) else as_tensor(v, dtype=like.dtype, device=like.device) for v in values]
    shape = broadcast_shapes(*[t.shape for t in found])
    return [t.expand(shape) for t in found]


def _check(what: str, valid: Any) -> None:
    if not bool(valid.all()):
        raise ValueError(f"{what}, but some are not")


class Distribution:
    """The base class of distributions: a batch of them, independent of each other.

    Attributes:
        batch_shape: of the parameters; ``event_shape`` is that of one draw and always empty here.
        mean, variance, stddev: of each.
    """

    event_shape = Size()
    has_rsample = False
    mean: Tensor
    variance: Tensor

    def __init__(self, batch_shape: Any):
        self.batch_shape = Size(batch_shape)

    @property
    def stddev(self) -> Tensor:
        """The standard deviation of each."""
        return self.variance.sqrt()

    def _extended(self, sample_shape: Any) -> Size:
        return Size((*sample_shape, *self.batch_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape ``(*sample_shape, *batch_shape)``, without a gradient."""
        with no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws through which gradients flow to the parameters.

        Raises:
            NotImplementedError: the distribution has none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no draws with a gradient; use sample")

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the probability (or density) of ``value``, which broadcasts against the batch."""
        raise NotImplementedError

    def entropy(self) -> Tensor:
        """The entropy of each."""
        raise NotImplementedError


class Categorical(Distribution):
    """One of the numbers ``0 .. n - 1``; give ``probs`` or ``logits`` of shape ``(*batch, n)``, which are normalised.

    Raises:
        ValueError: not just one of the two is given, or a probability is negative or NaN.
    """

    def __init__(self, probs: Tensor | None = None, logits: Tensor | None = None, validate_args: bool | None = None):
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        if probs is not None:
            if validate_args is not False:
                _check("probs must not be negative", probs >= 0)
            self.probs = probs / probs.sum(-1, keepdim=True)
            tiny = 2.0**-23 if self.probs.itemsize < 8 else 2.0**-52
            self.logits = self.probs.clamp(tiny, 1 - tiny).log()
        else:
            assert logits is not None
            if validate_args is not False:
                _check("logits must be numbers", logits == logits)
            self.logits = logits.log_softmax(-1)
            self.probs = logits.softmax(-1)
        super().__init__(self.probs.shape[:-1])

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape ``(*sample_shape, *batch_shape)``, int64."""
        count = math.prod(sample_shape)
        rows = self.probs.detach().reshape(-1, self.probs.shape[-1])
        return multinomial(rows, count, replacement=True).t().reshape(self._extended(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the probability of ``value``, ints that broadcast against the batch."""
        shape = broadcast_shapes(value.shape, self.batch_shape)
        logits = self.logits.expand(*shape, self.logits.shape[-1])
        return logits.gather(-1, value.long().expand(shape).unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """The entropy of each."""
        return -(self.logits.clamp(min=-3e38) * self.probs).sum(-1)


class Normal(Distribution):
    """The normal distribution.

    Args:
        loc, scale: the mean and the standard deviation, tensors or numbers, which broadcast.

    Raises:
        ValueError: a scale is not positive.
    """

    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None):
        self.loc, self.scale = _tensors(loc, scale)
        if validate_args is not False:
            _check("scale must be positive", self.scale > 0)
        super().__init__(self.loc.shape)

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """``loc``."""
        return self.loc

    @property
    def variance(self) -> Tensor:  # type: ignore[override]
        """``scale`` squared."""
        return self.scale**2

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws through which gradients flow to ``loc`` and ``scale``."""
        shape = self._extended(sample_shape)
        return self.loc + self.scale * normal(0.0, 1.0, shape, dtype=self.loc.dtype, device=self.loc.device)

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density at ``value``."""
        return -((value - self.loc) ** 2) / (2 * self.variance) - self.scale.log() - 0.5 * math.log(2 * math.pi)

    def entropy(self) -> Tensor:
        """The entropy of each."""
        return 0.5 + 0.5 * math.log(2 * math.pi) + self.scale.log()


class Uniform(Distribution):
    """The uniform distribution on ``[low, high)``.

    Raises:
        ValueError: a ``low`` is not below its ``high``.
    """

    has_rsample = True

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None):
        self.low, self.high = _tensors(low, high)
        if validate_args is not False:
            _check("low must be below high", self.low < self.high)
        super().__init__(self.low.shape)

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """The middle."""
        return (self.low + self.high) / 2

    @property
    def variance(self) -> Tensor:  # type: ignore[override]
        """A twelfth of the width squared."""
        return (self.high - self.low) ** 2 / 12

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws through which gradients flow to ``low`` and ``high``."""
        draws = rand(self._extended(sample_shape), dtype=self.low.dtype, device=self.low.device)
        return self.low + draws * (self.high - self.low)

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density at ``value``; minus infinity outside."""
        inside = ((self.low <= value) & (value < self.high)).to(self.low.dtype)
        return inside.log() - (self.high - self.low).log()

    def entropy(self) -> Tensor:
        """The entropy of each."""
        return (self.high - self.low).log()


class Bernoulli(Distribution):
    """0 or 1; give ``probs``, that of 1, or ``logits``, its log-odds.

    Raises:
        ValueError: not just one of the two is given, or a probability is outside of [0, 1].
    """

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        if probs is not None:
            (self.probs,) = _tensors(probs)
            if validate_args is not False:
                _check("probs must be between 0 and 1", (self.probs >= 0) & (self.probs <= 1))
            tiny = 2.0**-23 if self.probs.itemsize < 8 else 2.0**-52
            inner = self.probs.clamp(tiny, 1 - tiny)
            self.logits = inner.log() - (-inner).log1p()
        else:
            (self.logits,) = _tensors(logits)
            self.probs = self.logits.sigmoid()
        super().__init__(self.probs.shape)

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """``probs``."""
        return self.probs

    @property
    def variance(self) -> Tensor:  # type: ignore[override]
        """``probs (1 - probs)``."""
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape ``(*sample_shape, *batch_shape)``, in the dtype of ``probs``."""
        return bernoulli(self.probs.detach().expand(self._extended(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the probability of ``value``."""
        shape = broadcast_shapes(value.shape, self.batch_shape)
        return -F.binary_cross_entropy_with_logits(self.logits.expand(shape), value.expand(shape), reduction="none")

    def entropy(self) -> Tensor:
        """The entropy of each."""
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")


def _divergence(p: Tensor, q: Tensor, log_ratio: Tensor) -> Tensor:
    """What one outcome adds: nothing where it never happens in ``p``, infinity where it never does in ``q`` alone."""
    return where(p == 0, 0.0, where(q == 0, math.inf, p * log_ratio))


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """The Kullback-Leibler divergence of ``q`` from ``p``, for two of one kind.

    Raises:
        NotImplementedError: for other pairs.
    """
    if isinstance(p, Normal) and isinstance(q, Normal):
        ratio = (p.scale / q.scale) ** 2
        return 0.5 * (ratio + ((p.loc - q.loc) / q.scale) ** 2 - 1 - ratio.log())
    if isinstance(p, Categorical) and isinstance(q, Categorical):
        return _divergence(p.probs, q.probs, p.logits - q.logits).sum(-1)
    if isinstance(p, Bernoulli) and isinstance(q, Bernoulli):
        ones = _divergence(p.probs, q.probs, F.logsigmoid(p.logits) - F.logsigmoid(q.logits))
        return ones + _divergence(1 - p.probs, 1 - q.probs, F.logsigmoid(-p.logits) - F.logsigmoid(-q.logits))
    raise NotImplementedError(f"kl_divergence is not known for {type(p).__name__} and {type(q).__name__}")
