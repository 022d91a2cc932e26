"""What all distributions have in common."""

from __future__ import annotations

from typing import Any

from ..creation import as_tensor, broadcast_shapes
from ..engine import no_grad
from ..tensor import Size, Tensor


class Distribution:
    """The base class of distributions: a batch of them, independent of each other.

    Parameters and the arguments of ``log_prob`` are checked unless ``validate_args`` is False, which saves waiting
    for the device.

    Attributes:
        batch_shape: the shape of the batch.
        event_shape: the shape of one draw; empty for distributions of single numbers.
        mean, variance, stddev, mode: of each.
    """

    has_rsample = False
    mean: Tensor
    variance: Tensor
    _shown: tuple[str, ...] = ()

    def __init__(self, batch_shape: Any = (), event_shape: Any = (), validate_args: bool | None = None):
        self.batch_shape, self.event_shape = Size(batch_shape), Size(event_shape)
        self._validates = validate_args is not False

    def __repr__(self) -> str:
        found = {name: getattr(self, name) for name in self._shown}
        shown = [f"{name}: {t.item() if t.numel() == 1 else tuple(t.shape)}" for name, t in found.items()]
        return f"{type(self).__name__}({', '.join(shown)})"

    @property
    def mode(self) -> Tensor:
        """The likeliest outcome of each.

        Raises:
            NotImplementedError: it is not known.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement mode")

    @property
    def stddev(self) -> Tensor:
        """The standard deviation of each."""
        return self.variance.sqrt()

    def _extended(self, sample_shape: Any) -> Size:
        return Size((*sample_shape, *self.batch_shape, *self.event_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape ``(*sample_shape, *batch_shape, *event_shape)``, without a gradient."""
        with no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws through which gradients flow to the parameters.

        Raises:
            NotImplementedError: the distribution has none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no draws with a gradient; use sample")

    def _possible(self, value: Any) -> Any:
        """Which outcomes are possible at all."""
        raise NotImplementedError

    def _outcome(self, value: Any, like: Tensor) -> Tensor:
        """``value`` as a tensor, checked."""
        if not isinstance(value, Tensor):
            value = as_tensor(value, dtype=like.dtype, device=like.device)
        if not self._validates:
            return value
        shape = (*self.batch_shape, *self.event_shape)
        try:
            broadcast_shapes(value.shape, shape)
        except RuntimeError:
            raise ValueError(
                f"Value is not broadcastable with batch_shape+event_shape: {tuple(value.shape)} vs {shape}."
            ) from None
        if not bool(self._possible(value).all()):
            raise ValueError(
                f"Expected the value (of shape {tuple(value.shape)}) to be within the support of the distribution "
                f"{self!r}, but some elements are not; validate_args=False gives their log_prob all the same"
            )
        return value

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the probability (or density) of ``value``, which broadcasts against the batch.

        Raises:
            ValueError: it is no possible outcome, or does not broadcast.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement log_prob")

    def cdf(self, value: Tensor) -> Tensor:
        """The probability of an outcome of at most ``value``.

        Raises:
            NotImplementedError: it is not known.
            ValueError: as for ``log_prob``.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement cdf")

    def entropy(self) -> Tensor:
        """The entropy of each.

        Raises:
            NotImplementedError: it is not known.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement entropy")

    def perplexity(self) -> Tensor:
        """The exponential of the entropy of each."""
        return self.entropy().exp()
