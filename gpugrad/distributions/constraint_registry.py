"""Transforms from unconstrained numbers to values that meet a constraint."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from . import constraints, transforms

__all__ = ["ConstraintRegistry", "biject_to", "transform_to"]


class ConstraintRegistry:
    """Called with a constraint, gives a transform from the real numbers to what meets it."""

    def __init__(self) -> None:
        self._registry: dict[type, Callable[[Any], Any]] = {}

    def register(self, constraint: Any, factory: Callable[[Any], Any] | None = None) -> Any:
        """Let ``factory(constraint)`` make the transforms for a kind of constraint; without it, a decorator.

        Raises:
            TypeError: ``constraint`` is neither a constraint nor a type of them.
        """
        if factory is None:
            return lambda factory: self.register(constraint, factory)
        kind = type(constraint) if isinstance(constraint, constraints.Constraint) else constraint
        if not isinstance(kind, type) or not issubclass(kind, constraints.Constraint):
            raise TypeError(f"Expected constraint to be either a Constraint subclass or instance, but got {constraint}")
        self._registry[kind] = factory
        return factory

    def __call__(self, constraint: Any) -> Any:
        try:
            factory = self._registry[type(constraint)]
        except KeyError:
            raise NotImplementedError(f"Cannot transform {type(constraint).__name__} constraints") from None
        return factory(constraint)


biject_to = ConstraintRegistry()
"""Transforms with an inverse."""

transform_to = ConstraintRegistry()
"""Transforms that may give one value for several, and are good for optimisation."""


def _both(*kinds: Any) -> Callable[..., Any]:
    def register(factory: Callable[[ConstraintRegistry, Any], Any]) -> Any:
        for registry in (biject_to, transform_to):
            for kind in kinds:
                registry.register(kind, functools.partial(factory, registry))
        return factory

    return register


@_both(constraints.real)
def _real(registry: ConstraintRegistry, constraint: Any) -> Any:
    return transforms.identity_transform


@_both(constraints.independent)
def _independent(registry: ConstraintRegistry, constraint: Any) -> Any:
    return transforms.IndependentTransform(registry(constraint.base_constraint), constraint.reinterpreted_batch_ndims)


@_both(constraints.positive, constraints.nonnegative)
def _above(registry: ConstraintRegistry, constraint: Any) -> Any:
    bound = constraint.lower_bound
    if isinstance(bound, int | float) and bound == 0:
        return transforms.ExpTransform()
    return transforms.ComposeTransform([transforms.ExpTransform(), transforms.AffineTransform(bound, 1)])


@_both(constraints.less_than)
def _below(registry: ConstraintRegistry, constraint: Any) -> Any:
    return transforms.ComposeTransform(
        [transforms.ExpTransform(), transforms.AffineTransform(constraint.upper_bound, -1)]
    )


@_both(constraints.interval, constraints.half_open_interval)
def _interval(registry: ConstraintRegistry, constraint: Any) -> Any:
    low, high = constraint.lower_bound, constraint.upper_bound
    if isinstance(low, int | float) and isinstance(high, int | float) and (low, high) == (0, 1):
        return transforms.SigmoidTransform()
    return transforms.ComposeTransform([transforms.SigmoidTransform(), transforms.AffineTransform(low, high - low)])


@_both(constraints.corr_cholesky)
def _corr_cholesky(registry: ConstraintRegistry, constraint: Any) -> Any:
    return transforms.CorrCholeskyTransform()


@_both(constraints.cat)
def _cat(registry: ConstraintRegistry, constraint: Any) -> Any:
    return transforms.CatTransform([registry(c) for c in constraint.cseq], constraint.dim, constraint.lengths)


@_both(constraints.stack)
def _stack(registry: ConstraintRegistry, constraint: Any) -> Any:
    return transforms.StackTransform([registry(c) for c in constraint.cseq], constraint.dim)


biject_to.register(constraints.simplex, lambda constraint: transforms.StickBreakingTransform())
transform_to.register(constraints.simplex, lambda constraint: transforms.SoftmaxTransform())
transform_to.register(constraints.lower_cholesky, lambda constraint: transforms.LowerCholeskyTransform())
for _kind in (constraints.positive_definite, constraints.positive_semidefinite):
    transform_to.register(_kind, lambda constraint: transforms.PositiveDefiniteTransform())
