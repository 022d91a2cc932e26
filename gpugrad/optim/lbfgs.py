"""L-BFGS, with PyTorch's line search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend.quiet import quiet
from ..creation import zeros_like
from ..engine import enable_grad, no_grad
from ..ops import FUNCTIONS
from ..tensor import Tensor
from .algorithms import options, require
from .optimizer import Optimizer


def _dot(a: Tensor, b: Tensor) -> np.float64:
    """A product as a NumPy number: dividing by it gives inf or NaN where it is 0, as with tensors."""
    return np.float64(a.dot(b).item())


def _largest(t: Tensor) -> float:
    return t.abs().max().item()


def _cubic_minimum(x1: Any, f1: Any, g1: Any, x2: Any, f2: Any, g2: Any, bounds: Any = None) -> Any:
    """Where the cubic through two values with two slopes is lowest; the middle of the bounds where it has no minimum.

    Nocedal and Wright, "Numerical optimization", 2006, (3.59).
    """
    low, high = bounds or (min(x1, x2), max(x1, x2))
    with quiet():
        d1 = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
        square = d1**2 - g1 * g2
        if not square >= 0:
            return (low + high) / 2
        d2 = np.sqrt(square)
        if x1 <= x2:
            lowest = x2 - (x2 - x1) * ((g2 + d2 - d1) / (g2 - g1 + 2 * d2))
        else:
            lowest = x1 - (x1 - x2) * ((g1 + d2 - d1) / (g1 - g2 + 2 * d2))
    return min(max(lowest, low), high)


class _Point:
    """A step size with the loss there, the gradient, and the slope along the direction."""

    def __init__(self, t: Any, loss: float, gradient: Tensor, slope: Any):
        self.t, self.loss, self.gradient, self.slope = np.float64(t), loss, gradient, slope

    def lowest_before(self, other: _Point, bounds: Any = None) -> Any:
        """The minimum of the cubic through this point and another."""
        return _cubic_minimum(self.t, self.loss, self.slope, other.t, other.loss, other.slope, bounds)


def _strong_wolfe(
    evaluate: Callable[[Any], _Point], start: _Point, t: Any, reach: float, tolerance_change: float, max_ls: int
) -> tuple[_Point, int]:
    """A point where the strong Wolfe conditions hold (if one is found), and how many were tried.

    Nocedal and Wright, "Numerical optimization", 2006, algorithms 3.5 and 3.6, in the details as PyTorch does it.

    Args:
        start: the point at 0.
        reach: the largest element of the direction.
    """
    c1, c2 = 1e-4, 0.9

    def too_high(point: _Point) -> bool:
        return bool(point.loss > start.loss + c1 * point.t * start.slope)

    def flat(point: _Point) -> bool:
        return bool(abs(point.slope) <= -c2 * start.slope)

    before, new = start, evaluate(t)
    evaluations, iterations = 1, 0
    bracket = [start, new]
    while iterations < max_ls:
        bracket = [before, new]
        if too_high(new) or (iterations > 1 and new.loss >= before.loss):
            break
        if flat(new):
            return new, evaluations
        if new.slope >= 0:
            break
        bounds = new.t + 0.01 * (new.t - before.t), new.t * 10
        before, new = new, evaluate(before.lowest_before(new, bounds))
        evaluations, iterations = evaluations + 1, iterations + 1
        bracket = [start, new]

    stuck = False
    low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
    while iterations < max_ls:
        left, right = sorted(point.t for point in bracket)
        if (right - left) * reach < tolerance_change:
            break
        t = bracket[0].lowest_before(bracket[1])
        margin = 0.1 * (right - left)
        # A trial close to the end of the bracket twice, or at it, makes no progress; it is moved inside.
        if min(right - t, t - left) < margin:
            if stuck or t >= right or t <= left:
                t = right - margin if abs(t - right) < abs(t - left) else left + margin
                stuck = False
            else:
                stuck = True
        else:
            stuck = False
        new = evaluate(t)
        evaluations, iterations = evaluations + 1, iterations + 1
        if too_high(new) or new.loss >= bracket[low].loss:
            bracket[high] = new
            low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
            continue
        done = flat(new)
        if not done and new.slope * (bracket[high].t - bracket[low].t) >= 0:
            bracket[high] = bracket[low]
        bracket[low] = new
        if done:
            break
    return bracket[low], evaluations


class LBFGS(Optimizer):
    """L-BFGS (Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", 1989).

    Unlike the others it evaluates the loss several times in a step, waits for the device each time, and takes all
    parameters together: there can be only one group.

    Args:
        params: the parameters, all on one device.
        lr: the length of a step, in units of the direction.
        max_iter: iterations in a step.
        max_eval: evaluations of the loss in a step; 1.25 ``max_iter`` unless given.
        tolerance_grad: stop where no element of the gradient is above it.
        tolerance_change: stop where neither loss nor parameters change by more.
        history_size: how many past changes the direction is made of.
        line_search_fn: "strong_wolfe", or None to take steps of length ``lr``.

    Raises:
        ValueError: ``lr`` is negative, or there are several groups.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ):
        require(lr >= 0, "learning rate", lr)
        max_eval = max_iter * 5 // 4 if max_eval is None else max_eval
        super().__init__(params, options(locals()))
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    @property
    def _params(self) -> list[Tensor]:
        return self.param_groups[0]["params"]

    def _gradient(self) -> Tensor:
        """The gradients of all parameters as one vector."""
        found = [zeros_like(p) if p.grad is None else p.grad.detach() for p in self._params]
        return FUNCTIONS["cat"]([g.reshape(-1) for g in found])

    def _move(self, t: Any, direction: Tensor) -> None:
        start = 0
        for p in self._params:
            p.add_(direction[start : start + p.numel()].reshape(p.shape), alpha=float(t))
            start += p.numel()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Minimise for ``max_iter`` iterations.

        Args:
            closure: clears the gradients, computes the loss and its gradients, and returns it.

        Returns:
            The loss at the beginning.

        Raises:
            TypeError: there is no closure.
            RuntimeError: the line search is not known.
            ValueError: a second group was added.
        """
        if closure is None:
            raise TypeError(
                "LBFGS.step() needs a closure that computes the loss and its gradients, and returns the loss"
            )
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")
        if self.param_groups[0]["line_search_fn"] not in (None, "strong_wolfe"):
            raise RuntimeError("only 'strong_wolfe' is supported as line_search_fn")
        with no_grad():
            return self._minimise(enable_grad()(closure))

    def _minimise(self, closure: Callable[[], Any]) -> Any:
        group = self.param_groups[0]
        lr, max_iter, max_eval = float(group["lr"]), group["max_iter"], group["max_eval"]
        # As in PyTorch, what is kept for all parameters is kept with the first.
        state = self.state[self._params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        first_loss = closure()
        loss, gradient = float(first_loss), self._gradient()
        evaluations = 1
        state["func_evals"] += 1
        if _largest(gradient) <= group["tolerance_grad"]:
            return first_loss

        direction, t = state.get("d"), state.get("t")
        previous, previous_loss = state.get("prev_flat_grad"), state.get("prev_loss")
        changes, moves = list(state.get("old_dirs") or ()), list(state.get("old_stps") or ())
        inverses = [float(r) for r in state.get("ro") or ()]
        scale = float(state.get("H_diag") or 1)

        for iteration in range(1, max_iter + 1):
            state["n_iter"] += 1
            if state["n_iter"] == 1:
                direction = -gradient
            else:
                assert direction is not None
                change, move = gradient - previous, direction * float(t)
                curvature = _dot(change, move)
                if curvature > 1e-10:
                    if len(changes) == group["history_size"]:
                        for each in (changes, moves, inverses):
                            del each[0]
                    changes.append(change)
                    moves.append(move)
                    inverses.append(float(1 / curvature))
                    scale = float(curvature / _dot(change, change))
                direction = _direction(gradient, changes, moves, inverses, scale)
            previous, previous_loss = gradient, loss
            t = lr * min(1.0, 1.0 / gradient.abs().sum().item()) if state["n_iter"] == 1 else lr
            slope = _dot(gradient, direction)
            if slope > -group["tolerance_change"]:
                break

            tried = 0
            if group["line_search_fn"] is None:
                self._move(t, direction)
                if iteration < max_iter:
                    loss, gradient, tried = float(closure()), self._gradient(), 1
            else:
                start = _Point(0, loss, gradient, slope)
                budget = max_eval - evaluations
                point, tried = self._search(closure, start, t, direction, group["tolerance_change"], budget)
                loss, gradient, t = point.loss, point.gradient, float(point.t)
                self._move(t, direction)
            evaluations += tried
            state["func_evals"] += tried
            if (
                iteration == max_iter
                or evaluations >= max_eval
                or _largest(gradient) <= group["tolerance_grad"]
                or _largest(direction * t) <= group["tolerance_change"]
                or abs(loss - previous_loss) < group["tolerance_change"]
            ):
                break

        state.update(d=direction, t=t, old_dirs=changes, old_stps=moves, ro=inverses, H_diag=scale)
        state.update(prev_flat_grad=previous, prev_loss=previous_loss)
        return first_loss

    def _search(
        self, closure: Callable[[], Any], start: _Point, t: float, direction: Tensor, tolerance: float, budget: int
    ) -> tuple[_Point, int]:
        """A line search from where the parameters are; they are there again at its end."""
        origin = [p.clone() for p in self._params]

        def evaluate(t: Any) -> _Point:
            self._move(t, direction)
            loss, gradient = float(closure()), self._gradient()
            for p, value in zip(self._params, origin, strict=True):
                p.copy_(value)
            return _Point(t, loss, gradient, _dot(gradient, direction))

        return _strong_wolfe(evaluate, start, t, _largest(direction), tolerance, budget)


def _direction(
    gradient: Tensor, changes: list[Tensor], moves: list[Tensor], inverses: list[float], scale: float
) -> Tensor:
    """The two-loop recursion: minus the inverse Hessian that the history stands for, times the gradient."""
    found = -gradient
    weights = []
    for change, move, inverse in zip(changes[::-1], moves[::-1], inverses[::-1], strict=True):
        weights.append(_dot(move, found) * inverse)
        found.sub_(change, alpha=float(weights[-1]))
    found.mul_(scale)
    for change, move, inverse, weight in zip(changes, moves, inverses, weights[::-1], strict=True):
        found.add_(move, alpha=float(weight - _dot(change, found) * inverse))
    return found
