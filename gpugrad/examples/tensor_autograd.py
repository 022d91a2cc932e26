"""((x a) b) a on tensors: a tensor used twice, one that is broadcast, and a gradient that starts as a matrix.

``a`` is used twice, so its gradient is the sum of two; ``b`` is a row that is broadcast over three, so its gradient
is summed over them. The result is a matrix: ``backward`` needs to be told the gradient to start from.
"""

import numpy as np

import gpugrad as gg
from gpugrad.examples import Run, start


def main(run: Run) -> None:
    """Compare with the formulas written out in NumPy and, where it is installed, with PyTorch."""
    draw = np.random.default_rng(run.seed)
    x0, a0, b0, start_gradient = (draw.standard_normal(shape) for shape in ((3, 3), (3, 3), (3,), (3, 3)))

    x, a, b = (gg.tensor(v, device=run.device, requires_grad=True) for v in (x0, a0, b0))
    out = ((x * a) * b) * a
    out.backward(gg.tensor(start_gradient, device=run.device))
    found = [t.grad.cpu().numpy() for t in (x, a, b)]

    g = start_gradient
    by_hand = [g * a0 * a0 * b0, 2 * g * x0 * a0 * b0, (g * x0 * a0 * a0).sum(0)]
    error = max(np.abs(u - v).max() for u, v in zip(found, by_hand, strict=True))
    run.result("largest difference from the formulas", f"{error:.1e}", goal="below 1e-12", reached=error < 1e-12)

    try:
        import torch
    except ImportError:
        run.say("PyTorch is not installed: not compared with it")
        return
    tx, ta, tb = (torch.tensor(v, requires_grad=True) for v in (x0, a0, b0))
    (((tx * ta) * tb) * ta).backward(torch.tensor(g))
    error = max(np.abs(u - t.grad.numpy()).max() for u, t in zip(found, (tx, ta, tb), strict=True))
    run.result(
        "largest difference from PyTorch", f"{error:.1e}", goal="below 1e-12", origin="equal", reached=error < 1e-12
    )


if __name__ == "__main__":
    start(main)
