"""Optimizers that look at a parameter as a whole: Adafactor and Muon."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import graph, module_of, on
from ..backend.dtypes import float32, float64
from ..creation import finfo, tensor, zeros, zeros_like
from ..engine import enable_grad, no_grad
from ..ops import FUNCTIONS
from ..tensor import Tensor
from .algorithms import options
from .flat import Rate, guard_options, guard_state
from .optimizer import Optimizer


class _ByParameter(Optimizer):
    """An optimizer that updates one parameter after the other, by operations on tensors.

    A subclass defines ``_start`` and ``_update``.
    """

    def _start(self, p: Tensor) -> dict[str, Tensor]:
        """The state of a parameter before its first step."""
        raise NotImplementedError

    def _update(self, p: Tensor, g: Tensor, state: dict[str, Tensor], lr: Tensor, group: dict[str, Any]) -> None:
        """Change a parameter and its state in place by its gradient ``g``; the learning rate is float64, 0-d."""
        raise NotImplementedError

    def _forget(self) -> None:
        super()._forget()
        self._rates: dict[Any, tuple[Rate, Tensor]] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)

    @no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters that have a gradient, once.

        Args:
            closure: computes the loss anew, with gradients; its result is returned.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        guard_state(self)
        for number, group in enumerate(self.param_groups):
            params = [p for p in group["params"] if p._grad is not None]
            if graph.current() is not None:
                self._guard(params, group)
            for p in params:
                if not self.state[p]:
                    self.state[p].update(self._start(p))
                self._update(p, p._grad, self.state[p], self._rate(number, group, p), group)
        return loss

    def _guard(self, params: list[Tensor], group: dict[str, Any]) -> None:
        recording = graph.current()
        assert recording is not None
        if not all(self.state[p] for p in params):
            raise RuntimeError(
                f"{type(self).__name__} makes its state in this step, which cannot be captured; let it take a step "
                "with the same parameters first"
            )
        guard_options(recording, group)

        def before() -> None:
            for p in params:
                p._bump()

        recording.before.append(before)

    def _rate(self, number: int, group: dict[str, Any], p: Tensor) -> Tensor:
        """The learning rate on the device of a parameter; on a CUDA device one place for each group."""
        if not p.is_cuda:
            return tensor(float(group["lr"]), dtype=float64)
        found = self._rates.get((number, p.device))
        if found is None:
            with on(p.device):
                array = module_of(p._data).zeros(1, np.float64)
            found = self._rates[number, p.device] = Rate(array), Tensor._wrap(array.reshape(()))
        rate, lr = found
        with on(p.device):
            rate.refresh(group)
        recording = graph.current()
        if recording is not None:
            recording.before.append(lambda: rate.refresh(group))
        return lr


def _require(valid: bool, what: str, value: Any) -> None:
    if not valid:
        raise ValueError(f"{what} but is: {value}")


class Adafactor(_ByParameter):
    """Adafactor: of a matrix of second moments it keeps the means of rows and columns.

    Shazeer and Stern, "Adafactor: adaptive learning rates with sublinear memory cost", 2018, as PyTorch has it.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ):
        _require(lr >= 0, "Learning rate should be >= 0", lr)
        _require(beta2_decay <= 0, "beta2_decay should be <= 0", beta2_decay)
        _require(eps[0] is None or eps[0] >= 0, "epsilon1 should be >= 0", eps[0])
        _require(eps[1] >= 0, "epsilon2 should be >= 0", eps[1])
        _require(d >= 1, "Clipping threshold d should be >= 1", d)
        _require(weight_decay >= 0, "weight_decay should be >= 0", weight_decay)
        super().__init__(params, options(locals()))

    def _start(self, p: Tensor) -> dict[str, Tensor]:
        state = {"step": zeros((), dtype=float32, device=p.device)}
        if p.ndim < 2:
            return state | {"variance": zeros_like(p)}
        rows, columns = (*p.shape[:-1], 1), (*p.shape[:-2], 1, p.shape[-1])
        return state | {
            "row_var": zeros(rows, dtype=p.dtype, device=p.device),
            "col_var": zeros(columns, dtype=p.dtype, device=p.device),
        }

    def _update(self, p: Tensor, g: Tensor, state: dict[str, Tensor], lr: Tensor, group: dict[str, Any]) -> None:
        least, smallest = group["eps"]
        least = finfo(p.dtype).eps if least is None else least
        g = -g if group["maximize"] else g
        state["step"].add_(1)
        step = state["step"].to(float64)
        new = step ** group["beta2_decay"]
        root = math.sqrt(max(p.numel(), 1))
        alpha = (p.norm(2).to(float64) / root).clamp(min=smallest) * lr.minimum(step.rsqrt())
        if group["weight_decay"]:
            p.mul_(1 - lr * group["weight_decay"])
        if p.ndim > 1:
            rows, columns = state["row_var"], state["col_var"]
            for means, dim in ((rows, -1), (columns, -2)):
                square = g.norm(2, dim, True).square() / g.shape[dim]
                means.add_((square - means) * new)
            variance = rows * columns / rows.mean(-2, True).clamp(min=least)
        else:
            variance = state["variance"]
            variance.add_((g * g - variance) * new)
        update = variance.clamp(min=least * least).rsqrt() * g
        shorter = (update.norm(2).to(float64) / (root * group["d"])).clamp(min=1)
        p.sub_(update * (alpha / shorter))


class Muon(_ByParameter):
    """Muon: momentum whose singular values are all brought near one, for the matrices of hidden layers.

    Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024. The iteration is done in float32,
    of which PyTorch's, in bfloat16, differs by its rounding.

    Raises:
        ValueError: an option is out of its range, or a parameter is no matrix.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ):
        _require(lr >= 0, "Learning rate should be >= 0", lr)
        _require(momentum >= 0, "momentum should be >= 0", momentum)
        _require(weight_decay >= 0, "weight decay should be >= 0", weight_decay)
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        super().__init__(params, options(locals()))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of matrices.

        Raises:
            ValueError: a parameter is no matrix, or as for the class.
        """
        super().add_param_group(param_group)
        for p in param_group["params"]:
            if p.ndim != 2:
                raise ValueError(
                    f"Muon only supports 2D parameters whereas we found a parameter with size: {tuple(p.shape)}"
                )

    def _start(self, p: Tensor) -> dict[str, Tensor]:
        return {"momentum_buffer": zeros_like(p)}

    def _update(self, p: Tensor, g: Tensor, state: dict[str, Tensor], lr: Tensor, group: dict[str, Any]) -> None:
        momentum, buffer = group["momentum"], state["momentum_buffer"]
        buffer.lerp_(g, 1 - momentum)
        direction = g.lerp(buffer, momentum) if group["nesterov"] else buffer
        direction = _orthogonal(direction, group["ns_coefficients"], group["ns_steps"], group["eps"])
        rows, columns = p.shape
        if group["adjust_lr_fn"] == "match_rms_adamw":
            ratio = 0.2 * math.sqrt(max(rows, columns))
        else:
            ratio = math.sqrt(max(1.0, rows / max(columns, 1)))
        p.mul_(1 - lr * group["weight_decay"])
        p.sub_((direction * (lr * ratio)).to(p.dtype))


def _orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """The matrix with its singular values brought near one, by a quintic Newton-Schulz iteration.

    Raises:
        ValueError: there are not three coefficients, or 100 steps or more.
    """
    if steps >= 100:
        raise ValueError(f"Number of steps must be less than 100 for computational efficiency, but got {steps}")
    if len(coefficients) != 3:
        raise ValueError(f"Coefficients must be a tuple of exactly 3 values, but got {coefficients}")
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(float32)
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = FUNCTIONS["addmm"](x, FUNCTIONS["addmm"](gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
