"""What values may be: ``constraint.check(value)`` says which are; named as in PyTorch, for transforms to refer to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Constraint:
    """A set of values.

    Attributes:
        event_dim: how many dimensions make up one value.
        is_discrete: whether the values are whole numbers.
    """

    event_dim = 0
    is_discrete = False

    def check(self, value: Any) -> Any:
        """Which of the values are in the set; one answer for the last ``event_dim`` dimensions."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class _Test(Constraint):
    def __init__(self, name: str, test: Callable[[Any], Any], event_dim: int = 0, is_discrete: bool = False):
        self.name, self.test, self.event_dim, self.is_discrete = name, test, event_dim, is_discrete

    def check(self, value: Any) -> Any:
        return self.test(value)

    def __repr__(self) -> str:
        return self.name


def interval(lower_bound: Any, upper_bound: Any) -> Constraint:
    """Numbers between two bounds, which they may be."""
    return _Test(
        f"Interval(lower_bound={lower_bound}, upper_bound={upper_bound})",
        lambda x: (lower_bound <= x) & (x <= upper_bound),
    )


def greater_than(lower_bound: Any) -> Constraint:
    """Numbers above a bound."""
    return _Test(f"GreaterThan(lower_bound={lower_bound})", lambda x: lower_bound < x)


def greater_than_eq(lower_bound: Any) -> Constraint:
    """Numbers that are no less than a bound."""
    return _Test(f"GreaterThanEq(lower_bound={lower_bound})", lambda x: lower_bound <= x)


def less_than(upper_bound: Any) -> Constraint:
    """Numbers below a bound."""
    return _Test(f"LessThan(upper_bound={upper_bound})", lambda x: x < upper_bound)


def integer_interval(lower_bound: Any, upper_bound: Any) -> Constraint:
    """Whole numbers between two bounds, which they may be."""
    return _Test(
        f"IntegerInterval(lower_bound={lower_bound}, upper_bound={upper_bound})",
        lambda x: (x % 1 == 0) & (lower_bound <= x) & (x <= upper_bound),
        is_discrete=True,
    )


real = _Test("Real()", lambda x: x == x)
real_vector = _Test("RealVector()", lambda x: (x == x).all(-1), 1)
boolean = _Test("Boolean()", lambda x: (x == 0) | (x == 1), is_discrete=True)
positive, nonnegative = greater_than(0.0), greater_than_eq(0.0)
unit_interval = interval(0.0, 1.0)
nonnegative_integer = _Test("IntegerGreaterThan(lower_bound=0)", lambda x: (x % 1 == 0) & (x >= 0), is_discrete=True)
positive_integer = _Test("IntegerGreaterThan(lower_bound=1)", lambda x: (x % 1 == 0) & (x >= 1), is_discrete=True)
simplex = _Test("Simplex()", lambda x: (x >= 0).all(-1) & ((x.sum(-1) - 1).abs() < 1e-6), 1)
