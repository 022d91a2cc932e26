"""Least squares by gradient descent: the weights that the normal equations give."""

import numpy as np

import gpugrad as gg
from gpugrad.examples import Run, start


def main(run: Run) -> None:
    """Fit 100 noisy points in 5 dimensions."""
    draw = np.random.default_rng(run.seed)
    X = draw.standard_normal((100, 5))
    y = X @ draw.standard_normal(5) + 0.05 * draw.standard_normal(100)
    exact = np.linalg.solve(X.T @ X, X.T @ y)

    inputs, targets = (gg.tensor(v, device=run.device) for v in (X, y))
    w = gg.zeros(5, dtype=gg.float64, device=run.device, requires_grad=True)
    for step in range(1000):
        loss = ((inputs @ w - targets) ** 2).mean()
        (slope,) = gg.autograd.grad(loss, w)
        with gg.no_grad():
            w -= 0.1 * slope
        if step in (0, 9, 99, 999):
            run.say(f"step {step + 1:>4}: loss {loss.item():.6f}")
    error = np.linalg.norm(w.detach().cpu().numpy() - exact) / np.linalg.norm(exact)
    run.result(
        "relative difference from np.linalg.solve",
        f"{error:.1e}",
        goal="below 1e-7",
        origin="equal",
        reached=error < 1e-7,
    )


if __name__ == "__main__":
    start(main)
