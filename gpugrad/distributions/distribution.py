"""What all distributions have in common."""

from __future__ import annotations

from typing import Any

from ..creation import broadcast_shapes
from ..engine import no_grad
from ..tensor import Size, Tensor
from . import constraints
from .utils import lazy_property, tensor_like


class Distribution:
    """The base class of distributions: a batch of them, independent of each other.

    Parameters and the arguments of ``log_prob`` are checked unless ``validate_args`` is False, which saves waiting
    for the device.

    Attributes:
        batch_shape: the shape of the batch.
        event_shape: the shape of one draw; empty for distributions of single numbers.
        arg_constraints: what the parameters have to be, by name.
        support: the constraint that possible outcomes meet.
        has_rsample: whether there are draws through which gradients flow.
        has_enumerate_support: whether all outcomes can be listed.
        mean, variance, stddev, mode: of each.
    """

    has_rsample: Any = False
    has_enumerate_support: Any = False
    arg_constraints: dict[str, constraints.Constraint] = {}
    _validate_args = __debug__
    # Tensors that do not begin with the dimensions of the batch.
    _unbatched: tuple[str, ...] = ()

    def __init__(self, batch_shape: Any = (), event_shape: Any = (), validate_args: bool | None = None):
        self.batch_shape, self.event_shape = Size(batch_shape), Size(event_shape)
        if validate_args is not None:
            self._validate_args = validate_args
        if not self._validate_args:
            return
        for name, constraint in self.arg_constraints.items():
            value = getattr(self, name) if self._is_at_hand(name) else None
            if isinstance(value, Tensor) and not constraints.is_dependent(constraint):
                self._require(name, value, constraint.check(value), constraint)

    def _is_at_hand(self, name: str) -> bool:
        return name in vars(self) or not isinstance(getattr(type(self), name), lazy_property)

    def _require(self, name: str, value: Any, valid: Any, what: Any) -> None:
        if not bool(valid.all()):
            raise ValueError(
                f"Expected parameter {name} (Tensor of shape {tuple(value.shape)}) of distribution {self!r} to satisfy "
                f"the constraint {what!r}, but found invalid values:\n{value}"
            )

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether distributions check their arguments when they are not told; at first, unless Python runs with -O.

        Raises:
            ValueError: ``value`` is no bool.
        """
        if value not in (True, False):
            raise ValueError(f"set_default_validate_args expects a bool, but got {value!r}")
        Distribution._validate_args = value

    def __repr__(self) -> str:
        shown = []
        for name in self.arg_constraints:
            if self._is_at_hand(name):
                value = getattr(self, name)
                if isinstance(value, Tensor):
                    value = value.item() if value.numel() == 1 else tuple(value.shape)
                shown.append(f"{name}: {value}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def _known(self, what: str) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} does not implement {what}")

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distributions broadcast to another batch shape; parameters are not copied.

        Args:
            _instance: the distribution to fill, where the ``expand`` of a derived class has made one.

        Raises:
            RuntimeError: the batch does not broadcast to this shape.
        """
        batch_shape, before = Size(batch_shape), len(self.batch_shape)
        new = self._get_checked_instance(type(self), _instance)
        for name, value in vars(self).items():
            if isinstance(value, Tensor) and name not in self._unbatched:
                value = value.expand(*batch_shape, *value.shape[before:])
            elif isinstance(value, Distribution):
                value = value.expand((*batch_shape, *value.batch_shape[before:]))
            vars(new)[name] = value
        new.batch_shape = batch_shape
        return new

    def _get_checked_instance(self, cls: type, _instance: Any = None) -> Any:
        """An empty distribution of this type for ``expand`` to fill, or the one that a derived class has made."""
        return type(self).__new__(type(self)) if _instance is None else _instance

    @property
    def support(self) -> Any:
        raise self._known("support")

    @property
    def mean(self) -> Tensor:
        raise self._known("mean")

    @property
    def mode(self) -> Tensor:
        """The likeliest outcome of each.

        Raises:
            NotImplementedError: it is not known.
        """
        raise self._known("mode")

    @property
    def variance(self) -> Tensor:
        raise self._known("variance")

    @property
    def stddev(self) -> Tensor:
        """The standard deviation of each."""
        return self.variance.sqrt()

    def _extended_shape(self, sample_shape: Any = ()) -> Size:
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

    def _validate_sample(self, value: Tensor) -> None:
        dims = len(self.event_shape)
        if value.ndim < dims or value.shape[value.ndim - dims :] != self.event_shape:
            raise ValueError(
                f"The right-most size of value must match event_shape: {tuple(value.shape)} vs "
                f"{tuple(self.event_shape)}."
            )
        shape = (*self.batch_shape, *self.event_shape)
        try:
            broadcast_shapes(value.shape, shape)
        except RuntimeError:
            raise ValueError(
                f"Value is not broadcastable with batch_shape+event_shape: {tuple(value.shape)} vs {shape}."
            ) from None
        if not bool(self.support.check(value).all()):
            raise ValueError(
                f"Expected the value (of shape {tuple(value.shape)}) to be within the support ({self.support!r}) of "
                f"the distribution {self!r}, but some elements are not; validate_args=False gives their log_prob all "
                "the same"
            )

    def _outcome(self, value: Any, like: Tensor) -> Tensor:
        """``value`` as a tensor, checked."""
        value = tensor_like(value, like)
        if self._validate_args:
            self._validate_sample(value)
        return value

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the probability (or density) of ``value``, which broadcasts against the batch.

        Raises:
            ValueError: it is no possible outcome, or does not broadcast.
        """
        raise self._known("log_prob")

    def cdf(self, value: Tensor) -> Tensor:
        """The probability of an outcome of at most ``value``.

        Raises:
            NotImplementedError: it is not known.
            ValueError: as for ``log_prob``.
        """
        raise self._known("cdf")

    def icdf(self, value: Tensor) -> Tensor:
        """The outcome below which one is with probability ``value``.

        Raises:
            NotImplementedError: it is not known.
        """
        raise self._known("icdf")

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All outcomes, along a new first dimension; of shape ``(n, *batch_shape, *event_shape)``.

        Args:
            expand: False gives the dimensions of the batch the size 1.

        Raises:
            NotImplementedError: they cannot be listed.
        """
        raise self._known("enumerate_support")

    def _listed(self, values: Tensor, expand: bool) -> Tensor:
        """Outcomes of shape ``(n, *event_shape)`` as ``enumerate_support`` gives them."""
        values = values.reshape(len(values), *(1,) * len(self.batch_shape), *self.event_shape)
        return values.expand(len(values), *self.batch_shape, *self.event_shape) if expand else values

    def entropy(self) -> Tensor:
        """The entropy of each.

        Raises:
            NotImplementedError: it is not known.
        """
        raise self._known("entropy")

    def perplexity(self) -> Tensor:
        """The exponential of the entropy of each."""
        return self.entropy().exp()
