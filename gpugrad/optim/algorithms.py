"""The update rules that treat each element by itself, Adam and its kin among them.

Their arithmetic follows PyTorch's step by step.  ``foreach``, ``fused`` and
``capturable`` are accepted and change nothing: there is one implementation.
"""

from __future__ import annotations

import math
from typing import Any

from ..backend.blas import axpby
from ..backend.fused import optim as kernels
from .flat import FlatOptimizer, effective_gradient


def require(valid: bool, what: str, value: Any) -> None:
    """Raise ValueError unless an option is valid."""
    if not valid:
        raise ValueError(f"Invalid {what}: {value}")


def _require_common(lr: Any, weight_decay: float, eps: float = 0.0) -> None:
    require(lr >= 0, "learning rate", lr)
    require(eps >= 0, "epsilon value", eps)
    require(weight_decay >= 0, "weight_decay value", weight_decay)


def _require_betas(betas: Any) -> None:
    for i, beta in enumerate(betas):
        require(0 <= beta < 1, f"beta parameter at index {i}", beta)


def _track_square(xp: Any, average: Any, g: Any, decay: float, scratch: Any) -> None:
    """``average = decay * average + (1 - decay) * g**2``."""
    xp.multiply(g, g, scratch)
    axpby(xp, 1 - decay, scratch, decay, average, scratch)


def options(arguments: dict[str, Any]) -> dict[str, Any]:
    """The default options of a constructor: its arguments but for the parameters."""
    return {name: value for name, value in arguments.items() if name not in ("self", "params", "__class__")}


class SGD(FlatOptimizer):
    """Stochastic gradient descent, with momentum (Polyak's or Nesterov's) as PyTorch defines it.

    Raises:
        ValueError: an option is out of its range.
    """

    _counts = False

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        _require_common(lr, weight_decay)
        require(momentum >= 0, "momentum value", momentum)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(params, options(locals()))

    def _buffers(self, group: dict[str, Any]) -> dict[str, float]:
        return {"momentum_buffer": 0.0} if group["momentum"] else {}

    def _numbers(self, group: dict[str, Any], step: int, *scalars: Any) -> Any:
        # The first gradient fills the buffer as it is.
        decay, weight = (0.0, 1.0) if step == 1 else (group["momentum"], 1 - group["dampening"])
        return (
            float(group["lr"]),
            group["momentum"],
            decay,
            weight,
            group["nesterov"],
            group["weight_decay"],
            group["maximize"],
        )

    def _prepare(self, group: dict[str, Any]) -> dict[str, Any]:
        return {name: group[name] for name in ("momentum", "dampening", "maximize")}

    @staticmethod
    def _kernel(p: Any, g: Any, state: Any, numbers: Any, group: dict[str, Any]) -> None:
        buffer = state[0] if state else None
        kernels.sgd(p, g, buffer, numbers, group["momentum"], group["weight_decay"], group["nesterov"])

    @staticmethod
    def _update(xp: Any, p: Any, g: Any, state: Any, scratch: Any, numbers: Any) -> None:
        lr, momentum, decay, weight, nesterov, weight_decay, maximize = numbers
        g = effective_gradient(xp, p, g, scratch[0], weight_decay, maximize)
        t = scratch[1]
        if momentum:
            (buffer,) = state
            axpby(xp, weight, g, decay, buffer, t)
            if nesterov:
                axpby(xp, -lr * momentum, buffer, 1.0, p, t)
            else:
                g = buffer
        axpby(xp, -lr, g, 1.0, p, t)


class RMSprop(FlatOptimizer):
    """RMSprop (Tieleman and Hinton, lecture 6.5 of "Neural networks for machine learning", 2012).

    ``centered`` divides by the estimated standard deviation (Graves, "Generating sequences
    with recurrent neural networks", 2013).

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        _require_common(lr, weight_decay, eps)
        require(momentum >= 0, "momentum value", momentum)
        require(alpha >= 0, "alpha value", alpha)
        super().__init__(params, options(locals()))

    def _buffers(self, group: dict[str, Any]) -> dict[str, float]:
        names = ["square_avg"] + ["momentum_buffer"] * (group["momentum"] > 0) + ["grad_avg"] * bool(group["centered"])
        return dict.fromkeys(names, 0.0)

    def _numbers(self, group: dict[str, Any], step: int, *scalars: Any) -> Any:
        options = ("alpha", "eps", "momentum", "centered", "weight_decay", "maximize")
        return float(group["lr"]), *[group[name] for name in options]

    def _prepare(self, group: dict[str, Any]) -> dict[str, Any]:
        return {"maximize": group["maximize"]}

    @staticmethod
    def _kernel(p: Any, g: Any, state: Any, numbers: Any, group: dict[str, Any]) -> None:
        average = state[-1] if group["centered"] else None
        buffer = state[1] if group["momentum"] > 0 else None
        options = [group[name] for name in ("alpha", "eps", "momentum", "weight_decay")]
        kernels.rmsprop(p, g, state[0], buffer, average, numbers, *options)

    @staticmethod
    def _update(xp: Any, p: Any, g: Any, state: Any, scratch: Any, numbers: Any) -> None:
        lr, alpha, eps, momentum, centered, weight_decay, maximize = numbers
        t = scratch[1]
        g = effective_gradient(xp, p, g, scratch[0], weight_decay, maximize)
        _track_square(xp, state[0], g, alpha, t)
        if centered:
            axpby(xp, 1 - alpha, g, alpha, state[-1], t)
            xp.multiply(state[-1], state[-1], t)
            xp.subtract(state[0], t, t)
            xp.sqrt(t, t)
        else:
            xp.sqrt(state[0], t)
        xp.add(t, eps, t)
        xp.divide(g, t, t)
        if momentum > 0:
            axpby(xp, 1.0, t, momentum, state[1], t)
            t = state[1]
        axpby(xp, -lr, t, 1.0, p, scratch[1])


class Adam(FlatOptimizer):
    """Adam (Kingma and Ba, "Adam: a method for stochastic optimization", 2014).

    ``amsgrad`` divides by the largest second moment so far (Reddi et al., "On the
    convergence of Adam and beyond", 2018).

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ):
        _require_common(lr, weight_decay, eps)
        _require_betas(betas)
        super().__init__(params, options(locals()))

    def _buffers(self, group: dict[str, Any]) -> dict[str, float]:
        names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
        return dict.fromkeys(names if group["amsgrad"] else names[:2], 0.0)

    def _numbers(self, group: dict[str, Any], step: int, *scalars: Any) -> Any:
        (beta1, beta2), lr, eps = group["betas"], float(group["lr"]), group["eps"]
        # m * size / (sqrt(v) / root + eps) = m * (size * root) / (sqrt(v) + eps * root) saves a pass over memory.
        root = math.sqrt(1 - beta2**step)
        size = lr / (1 - beta1**step) * root
        eps *= root
        decay, shrink = group["weight_decay"], 1.0
        if group["decoupled_weight_decay"]:
            decay, shrink = 0, 1 - lr * decay
        return beta1, beta2, size, eps, decay, shrink, group["maximize"]

    def _prepare(self, group: dict[str, Any]) -> dict[str, Any]:
        decay = group["weight_decay"] if group["decoupled_weight_decay"] else 0.0
        return {"betas": group["betas"], "decoupled_decay": decay, "maximize": group["maximize"]}

    @staticmethod
    def _kernel(p: Any, g: Any, state: Any, numbers: Any, group: dict[str, Any]) -> None:
        decay = 0.0 if group["decoupled_weight_decay"] else group["weight_decay"]
        largest = state[2] if group["amsgrad"] else None
        kernels.adam(p, g, state[0], state[1], largest, numbers, group["betas"], group["eps"], decay)

    @staticmethod
    def _update(xp: Any, p: Any, g: Any, state: Any, scratch: Any, numbers: Any) -> None:
        beta1, beta2, size, eps, decay, shrink, maximize = numbers
        t = scratch[1]
        if shrink != 1:
            xp.multiply(p, shrink, p)
        g = effective_gradient(xp, p, g, scratch[0], decay, maximize)
        axpby(xp, 1 - beta1, g, beta1, state[0], t)
        _track_square(xp, state[1], g, beta2, t)
        xp.sqrt(state[1] if len(state) == 2 else xp.maximum(state[2], state[1], out=state[2]), t)
        xp.add(t, eps, t)
        xp.divide(state[0], t, t)
        axpby(xp, -size, t, 1.0, p, t)


class AdamW(Adam):
    """Adam with weight decay apart from the gradient.

    Loshchilov and Hutter, "Decoupled weight decay regularization", 2017.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )


class Adagrad(FlatOptimizer):
    """Adagrad.

    Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization", 2011.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        _require_common(lr, weight_decay, eps)
        require(lr_decay >= 0, "lr_decay value", lr_decay)
        require(initial_accumulator_value >= 0, "initial_accumulator_value value", initial_accumulator_value)
        super().__init__(params, options(locals()))

    def _buffers(self, group: dict[str, Any]) -> dict[str, float]:
        return {"sum": group["initial_accumulator_value"]}

    def _numbers(self, group: dict[str, Any], step: int, *scalars: Any) -> Any:
        lr = float(group["lr"]) / (1 + (step - 1) * group["lr_decay"])
        return lr, group["eps"], group["weight_decay"], group["maximize"]

    def _prepare(self, group: dict[str, Any]) -> dict[str, Any]:
        return {"lr_decay": group["lr_decay"], "maximize": group["maximize"]}

    @staticmethod
    def _kernel(p: Any, g: Any, state: Any, numbers: Any, group: dict[str, Any]) -> None:
        kernels.adagrad(p, g, state[0], numbers, group["eps"], group["weight_decay"])

    @staticmethod
    def _update(xp: Any, p: Any, g: Any, state: Any, scratch: Any, numbers: Any) -> None:
        lr, eps, weight_decay, maximize = numbers
        (total,) = state
        t = scratch[1]
        g = effective_gradient(xp, p, g, scratch[0], weight_decay, maximize)
        xp.multiply(g, g, t)
        xp.add(total, t, total)
        xp.sqrt(total, t)
        xp.add(t, eps, t)
        xp.divide(g, t, t)
        axpby(xp, -lr, t, 1.0, p, t)


class Adadelta(FlatOptimizer):
    """Adadelta (Zeiler, "ADADELTA: an adaptive learning rate method", 2012).

    Raises:
        ValueError: an option is out of its range.
    """

    _scratch = 3

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        _require_common(lr, weight_decay, eps)
        require(0 <= rho <= 1, "rho value", rho)
        super().__init__(params, options(locals()))

    def _buffers(self, group: dict[str, Any]) -> dict[str, float]:
        return {"square_avg": 0.0, "acc_delta": 0.0}

    def _numbers(self, group: dict[str, Any], step: int, *scalars: Any) -> Any:
        return float(group["lr"]), *[group[name] for name in ("rho", "eps", "weight_decay", "maximize")]

    def _prepare(self, group: dict[str, Any]) -> dict[str, Any]:
        return {"maximize": group["maximize"]}

    @staticmethod
    def _kernel(p: Any, g: Any, state: Any, numbers: Any, group: dict[str, Any]) -> None:
        kernels.adadelta(p, g, state[0], state[1], numbers, group["rho"], group["eps"], group["weight_decay"])

    @staticmethod
    def _update(xp: Any, p: Any, g: Any, state: Any, scratch: Any, numbers: Any) -> None:
        lr, rho, eps, weight_decay, maximize = numbers
        square_avg, acc_delta = state
        t, delta = scratch[1:3]
        g = effective_gradient(xp, p, g, scratch[0], weight_decay, maximize)
        _track_square(xp, square_avg, g, rho, t)
        xp.sqrt(xp.add(square_avg, eps, t), t)
        xp.sqrt(xp.add(acc_delta, eps, delta), delta)
        xp.divide(delta, t, delta)
        xp.multiply(delta, g, delta)
        _track_square(xp, acc_delta, delta, rho, t)
        axpby(xp, -lr, delta, 1.0, p, t)


class RAdam(FlatOptimizer):
    """RAdam (Liu et al., "On the variance of the adaptive learning rate and beyond", 2019).

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ):
        _require_common(lr, weight_decay, eps)
        _require_betas(betas)
        super().__init__(params, options(locals()))

    def _buffers(self, group: dict[str, Any]) -> dict[str, float]:
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def _numbers(self, group: dict[str, Any], step: int, *scalars: Any) -> Any:
        (beta1, beta2), lr = group["betas"], float(group["lr"])
        correction2 = 1 - beta2**step
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * step * beta2**step / correction2
        size, adapts = lr / (1 - beta1**step), length > 5
        if adapts:
            variance = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            size *= math.sqrt(variance * correction2)
        decay, shrink = group["weight_decay"], 1.0
        if group["decoupled_weight_decay"]:
            decay, shrink = 0, 1 - lr * decay
        return beta1, beta2, size, adapts, group["eps"], decay, shrink, group["maximize"]

    def _prepare(self, group: dict[str, Any]) -> dict[str, Any]:
        decay = group["weight_decay"] if group["decoupled_weight_decay"] else 0.0
        return {"betas": group["betas"], "decoupled_decay": decay, "rectify": True, "maximize": group["maximize"]}

    @staticmethod
    def _kernel(p: Any, g: Any, state: Any, numbers: Any, group: dict[str, Any]) -> None:
        decay = 0.0 if group["decoupled_weight_decay"] else group["weight_decay"]
        kernels.radam(p, g, state[0], state[1], numbers, group["betas"], group["eps"], decay)

    @staticmethod
    def _update(xp: Any, p: Any, g: Any, state: Any, scratch: Any, numbers: Any) -> None:
        beta1, beta2, size, adapts, eps, decay, shrink, maximize = numbers
        t = scratch[1]
        if shrink != 1:
            xp.multiply(p, shrink, p)
        g = effective_gradient(xp, p, g, scratch[0], decay, maximize)
        axpby(xp, 1 - beta1, g, beta1, state[0], t)
        _track_square(xp, state[1], g, beta2, t)
        direction = state[0]
        if adapts:
            xp.sqrt(state[1], t)
            xp.add(t, eps, t)
            direction = xp.divide(state[0], t, t)
        axpby(xp, -size, direction, 1.0, p, t)


class Adamax(FlatOptimizer):
    """Adamax: Adam with the largest gradient of late in the place of the second moment (Kingma and Ba 2014).

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
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ):
        _require_common(lr, weight_decay, eps)
        _require_betas(betas)
        super().__init__(params, options(locals()))

    def _buffers(self, group: dict[str, Any]) -> dict[str, float]:
        return {"exp_avg": 0.0, "exp_inf": 0.0}

    def _numbers(self, group: dict[str, Any], step: int, *scalars: Any) -> Any:
        beta1, beta2 = group["betas"]
        size = float(group["lr"]) / (1 - beta1**step)
        return beta1, beta2, size, group["eps"], group["weight_decay"], group["maximize"]

    def _prepare(self, group: dict[str, Any]) -> dict[str, Any]:
        return {"betas": group["betas"], "maximize": group["maximize"]}

    @staticmethod
    def _kernel(p: Any, g: Any, state: Any, numbers: Any, group: dict[str, Any]) -> None:
        kernels.adamax(p, g, state[0], state[1], numbers, group["betas"], group["eps"], group["weight_decay"])

    @staticmethod
    def _update(xp: Any, p: Any, g: Any, state: Any, scratch: Any, numbers: Any) -> None:
        beta1, beta2, size, eps, weight_decay, maximize = numbers
        first, largest = state
        t = scratch[1]
        g = effective_gradient(xp, p, g, scratch[0], weight_decay, maximize)
        axpby(xp, 1 - beta1, g, beta1, first, t)
        xp.add(xp.abs(g, t), eps, t)
        xp.multiply(largest, beta2, largest)
        xp.maximum(largest, t, out=largest)
        xp.divide(first, largest, t)
        axpby(xp, -size, t, 1.0, p, t)


class NAdam(FlatOptimizer):
    """Adam with Nesterov's momentum (Dozat, "Incorporating Nesterov momentum into Adam", 2016).

    Raises:
        ValueError: an option is out of its range.
    """

    _scratch = 3

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

    def _buffers(self, group: dict[str, Any]) -> dict[str, float]:
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def _scalars(self, group: dict[str, Any]) -> dict[str, float]:
        return {"mu_product": 1.0}

    @staticmethod
    def _momentum(group: dict[str, Any], step: int) -> float:
        return group["betas"][0] * (1 - 0.5 * 0.96 ** (step * group["momentum_decay"]))

    def _scalars_after(self, group: dict[str, Any], step: int, *scalars: Any) -> tuple[Any, ...]:
        return (scalars[0] * self._momentum(group, step),)

    def _numbers(self, group: dict[str, Any], step: int, *scalars: Any) -> Any:
        (beta1, beta2), lr = group["betas"], float(group["lr"])
        now, then = self._momentum(group, step), self._momentum(group, step + 1)
        product = float(self._scalars_after(group, step, *scalars)[0])
        # As for Adam, the second moment's correction is put into the factors.
        root = math.sqrt(1 - beta2**step)
        share, size = lr * (1 - now) / (1 - product) * root, lr * then / (1 - product * then) * root
        decay, shrink = group["weight_decay"], 1.0
        if group["decoupled_weight_decay"]:
            decay, shrink = 0, 1 - lr * decay
        return beta1, beta2, share, size, group["eps"] * root, decay, shrink, group["maximize"]

    def _prepare(self, group: dict[str, Any]) -> dict[str, Any]:
        decay = group["weight_decay"] if group["decoupled_weight_decay"] else 0.0
        return {"betas": group["betas"], "decoupled_decay": decay, "maximize": group["maximize"]}

    def _prepare_scalars(self, numbers: Any, steps: Any, *scalars_and_group: Any) -> None:
        product, group = scalars_and_group
        kernels.nadam_numbers(numbers, steps, product, group["betas"][0], group["momentum_decay"])

    @staticmethod
    def _kernel(p: Any, g: Any, state: Any, numbers: Any, group: dict[str, Any]) -> None:
        decay = 0.0 if group["decoupled_weight_decay"] else group["weight_decay"]
        kernels.nadam(p, g, state[0], state[1], numbers, group["betas"], group["eps"], decay)

    @staticmethod
    def _update(xp: Any, p: Any, g: Any, state: Any, scratch: Any, numbers: Any) -> None:
        beta1, beta2, share, size, eps, decay, shrink, maximize = numbers
        t, direction = scratch[1:3]
        if shrink != 1:
            xp.multiply(p, shrink, p)
        g = effective_gradient(xp, p, g, scratch[0], decay, maximize)
        axpby(xp, 1 - beta1, g, beta1, state[0], t)
        _track_square(xp, state[1], g, beta2, t)
        xp.multiply(state[0], size, direction)
        axpby(xp, share, g, 1.0, direction, t)
        xp.sqrt(state[1], t)
        xp.add(t, eps, t)
        xp.divide(direction, t, t)
        xp.subtract(p, t, p)


class Rprop(FlatOptimizer):
    """Resilient backpropagation: steps by the gradients' signs alone.

    Riedmiller and Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm", 1993.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        require(lr >= 0, "learning rate", lr)
        if not 0 < etas[0] < 1 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        super().__init__(params, options(locals()))

    def _buffers(self, group: dict[str, Any]) -> dict[str, float]:
        return {"prev": 0.0, "step_size": float(group["lr"])}

    def _numbers(self, group: dict[str, Any], step: int, *scalars: Any) -> Any:
        return *group["etas"], *group["step_sizes"], group["maximize"]

    def _prepare(self, group: dict[str, Any]) -> dict[str, Any]:
        return {"maximize": group["maximize"]}

    @staticmethod
    def _kernel(p: Any, g: Any, state: Any, numbers: Any, group: dict[str, Any]) -> None:
        kernels.rprop(p, g, state[0], state[1], numbers, group["etas"], group["step_sizes"])

    @staticmethod
    def _update(xp: Any, p: Any, g: Any, state: Any, scratch: Any, numbers: Any) -> None:
        *factors, least, most, maximize = numbers
        minus, plus = (p.dtype.type(factor) for factor in factors)
        before, size = state
        t = scratch[1]
        g = effective_gradient(xp, p, g, scratch[0], 0, maximize)
        turn = xp.multiply(g, before, t)
        # A NaN makes the step one, too.
        factor = xp.where(turn > 0, plus, xp.where(turn < 0, minus, xp.where(turn == 0, p.dtype.type(1), turn)))
        xp.multiply(size, factor, size)
        xp.minimum(xp.maximum(size, least, out=size), most, out=size)
        before[...] = xp.where(turn < 0, p.dtype.type(0), g)
        xp.multiply(xp.sign(before, t), size, t)
        xp.subtract(p, t, p)


class ASGD(FlatOptimizer):
    """SGD with the average of all parameters so far in the state's ``ax``.

    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992.

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

    def _buffers(self, group: dict[str, Any]) -> dict[str, float]:
        return {"ax": 0.0}

    def _scalars(self, group: dict[str, Any]) -> dict[str, float]:
        return {"eta": float(group["lr"]), "mu": 1.0}

    def _scalars_after(self, group: dict[str, Any], step: int, *scalars: Any) -> tuple[Any, ...]:
        lr = float(group["lr"])
        return lr / (1 + group["lambd"] * lr * step) ** group["alpha"], 1 / max(1, step - group["t0"])

    def _numbers(self, group: dict[str, Any], step: int, *scalars: Any) -> Any:
        eta, mu = map(float, scalars)
        return eta, mu, 1 - group["lambd"] * eta, group["weight_decay"], group["maximize"]

    def _prepare(self, group: dict[str, Any]) -> dict[str, Any]:
        return {"maximize": group["maximize"]}

    def _prepare_scalars(self, numbers: Any, steps: Any, *scalars_and_group: Any) -> None:
        eta, mu, group = scalars_and_group
        kernels.asgd_numbers(numbers, steps, eta, mu, group["lambd"], group["alpha"], group["t0"])

    @staticmethod
    def _kernel(p: Any, g: Any, state: Any, numbers: Any, group: dict[str, Any]) -> None:
        kernels.asgd(p, g, state[0], numbers, group["lambd"], group["weight_decay"])

    @staticmethod
    def _update(xp: Any, p: Any, g: Any, state: Any, scratch: Any, numbers: Any) -> None:
        eta, mu, kept, weight_decay, maximize = numbers
        (average,) = state
        t = scratch[1]
        g = effective_gradient(xp, p, g, scratch[0], weight_decay, maximize)
        xp.multiply(p, kept, p)
        axpby(xp, -eta, g, 1.0, p, t)
        if mu == 1:
            average[...] = p
        else:
            xp.multiply(xp.subtract(p, average, t), mu, t)
            xp.add(average, t, average)
