"""NAdam and ASGD, whose state holds numbers that follow from all the steps before, written with tensor operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..creation import tensor
from ..engine import enable_grad, no_grad
from ..tensor import Tensor
from .algorithms import _require_betas, _require_common, options, require
from .optimizer import Optimizer


class _ByTensor(Optimizer):
    """An optimizer that updates one parameter after the other."""

    def __init__(self, params: Any, defaults: dict[str, Any]):
        if defaults["differentiable"]:
            raise RuntimeError("differentiable=True is not supported: steps are not recorded")
        super().__init__(params, defaults)

    def _begin(self, param: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        """The state of a parameter before its first step, but for the count of steps."""
        raise NotImplementedError

    def _update(self, param: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any], step: int) -> None:
        """Make a step, from 1 on."""
        raise NotImplementedError

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters that have a gradient, once.

        Args:
            closure: computes the loss anew, with gradients; its result is returned.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with no_grad():
            for group in self.param_groups:
                for param in group["params"]:
                    if param.grad is not None:
                        self._step_one(param, group)
        return loss

    def _step_one(self, param: Tensor, group: dict[str, Any]) -> None:
        state = self.state[param]
        if not state:
            state["step"] = tensor(0.0)
            state.update(self._begin(param, group))
        state["step"] += 1
        gradient = param.grad
        assert gradient is not None
        gradient = -gradient if group["maximize"] else gradient
        self._update(param, gradient, state, group, int(state["step"]))


class NAdam(_ByTensor):
    """Adam with Nesterov's momentum (Dozat, "Incorporating Nesterov momentum into Adam", 2016).

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ):
        _require_common(lr, weight_decay, eps)
        _require_betas(betas)
        require(momentum_decay >= 0, "momentum_decay value", momentum_decay)
        super().__init__(params, options(locals()))

    def _begin(self, param: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        zeros = (param.new_zeros(param.shape) for _ in range(2))
        return {"mu_product": tensor(1.0), "exp_avg": next(zeros), "exp_avg_sq": next(zeros)}

    def _update(self, param: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any], step: int) -> None:
        (beta1, beta2), lr, decay = group["betas"], float(group["lr"]), group["weight_decay"]
        if decay and group["decoupled_weight_decay"]:
            param.mul_(1 - lr * decay)
        elif decay:
            gradient = gradient.add(param, alpha=decay)
        now, following = (beta1 * (1 - 0.5 * 0.96 ** (k * group["momentum_decay"])) for k in (step, step + 1))
        state["mu_product"] *= now
        product = state["mu_product"].item()
        average, square = state["exp_avg"], state["exp_avg_sq"]
        average.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        scale = square.div(1 - beta2**step).sqrt_().add_(group["eps"])
        param.addcdiv_(gradient, scale, value=-lr * (1 - now) / (1 - product))
        param.addcdiv_(average, scale, value=-lr * following / (1 - product * following))


class ASGD(_ByTensor):
    """Averaged SGD (Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992).

    The average of each parameter is ``ax`` in its state.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ):
        _require_common(lr, weight_decay)
        super().__init__(params, options(locals()))

    def _begin(self, param: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        return {"eta": tensor(float(group["lr"])), "mu": tensor(1.0), "ax": param.new_zeros(param.shape)}

    def _update(self, param: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any], step: int) -> None:
        eta, mu, average = state["eta"].item(), state["mu"].item(), state["ax"]
        if group["weight_decay"]:
            gradient = gradient.add(param, alpha=group["weight_decay"])
        param.mul_(1 - group["lambd"] * eta).add_(gradient, alpha=-eta)
        average.add_(param.sub(average).mul_(mu)) if mu != 1 else average.copy_(param)
        lr = float(group["lr"])
        state["eta"].fill_(lr / (1 + group["lambd"] * lr * step) ** group["alpha"])
        state["mu"].fill_(1 / max(1, step - group["t0"]))
