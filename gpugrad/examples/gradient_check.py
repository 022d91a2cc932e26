"""Gradients checked by central differences, over the inputs and parameters of a network; a wrong one is caught.

(f(x + eps) - f(x - eps)) / 2 eps is right to about eps squared. In float64 with eps = 1e-6 that leaves ten digits.
"""

import numpy as np

import gpugrad as gg
from gpugrad import nn
from gpugrad.autograd import gradcheck, gradgradcheck
from gpugrad.examples import Run, start


def differences(loss: object, t: gg.Tensor, eps: float = 1e-6) -> np.ndarray:
    """The gradient of ``loss()`` with respect to ``t``, one element at a time."""
    gradient = np.zeros(t.numel())
    with gg.no_grad():
        flat = t.reshape(-1)
        for k in range(t.numel()):
            before = flat[k].item()
            flat[k] = before + eps
            above = loss().item()
            flat[k] = before - eps
            gradient[k] = (above - loss().item()) / (2 * eps)
            flat[k] = before
    return gradient.reshape(tuple(t.shape))


class WrongCube(gg.autograd.Function):
    """x ** 3 with a mistake in its gradient."""

    @staticmethod
    def forward(ctx, x):
        """The cube."""
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        """It should be 3 x ** 2."""
        (x,) = ctx.saved_tensors
        return 2 * x**2 * gradient


def main(run: Run) -> None:
    """Check by hand, then with ``gradcheck``."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Sigmoid(), nn.Linear(5, 3))
    model = model.double().to(run.device)
    x = gg.randn(7, 4, dtype=gg.float64, device=run.device, requires_grad=True)
    y = gg.randint(0, 3, (7,), device=run.device)

    def loss() -> gg.Tensor:
        return nn.functional.cross_entropy(model(x), y)

    loss().backward()
    worst = 0.0
    for name, t in [("input", x), *model.named_parameters()]:
        error = np.abs(t.grad.cpu().numpy() - differences(loss, t)).max()
        run.say(f"{name:<9} largest difference {error:.1e}")
        worst = max(worst, error)
    run.result("largest difference", f"{worst:.1e}", goal="below 1e-5", origin="below 1e-5", reached=worst < 1e-5)

    # The library's own check does the same, and the second order too.
    ok = gradcheck(lambda t: model(t).tanh(), x) and gradgradcheck(lambda t: model(t).tanh(), x)
    run.result("gradcheck and gradgradcheck of the network", "passed" if ok else "failed", goal="passed", reached=ok)
    caught = not gradcheck(WrongCube.apply, x, raise_exception=False)
    run.result("a wrong gradient", "caught" if caught else "missed", goal="caught", reached=caught)


if __name__ == "__main__":
    start(main)
