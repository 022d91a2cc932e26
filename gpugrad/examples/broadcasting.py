"""One tensor for scalars, vectors, matrices and any rank above, mixed with plain arrays and numbers.

A NumPy array or a Python number may stand on either side of an operator; it is a constant. Shapes broadcast
as in NumPy, and gradients come back in the shape of the tensor they belong to.
"""

import numpy as np

import gpugrad as gg
from gpugrad.examples import Run, start


def main(run: Run) -> None:
    """Differentiate expressions of every rank and compare with the gradients by hand."""
    draw = np.random.default_rng(run.seed)
    m, v, s, stack = draw.standard_normal((4, 3)), draw.standard_normal(3), 1.7, draw.standard_normal((2, 5, 4, 3))

    def leaf(value: object) -> gg.Tensor:
        return gg.tensor(np.asarray(value), device=run.device, requires_grad=True)

    M, V, S, T = leaf(m), leaf(v), leaf(s), leaf(stack)
    cases = [
        ("scalar x vector", (S * V).sum(), {S: v.sum(), V: np.full(3, s)}),
        ("matrix + vector", ((M + V) * M.detach()).sum(), {M: m, V: m.sum(0)}),
        ("matrix @ vector", (M @ V).sum(), {M: np.tile(v, (4, 1)), V: m.sum(0)}),
        ("vector @ matrix.T", (V @ M.T).sum(), {M: np.tile(v, (4, 1)), V: m.sum(0)}),
        ("matrix.T @ matrix", (M.T @ M.detach()).sum(), {M: np.tile(m.sum(1)[:, None], (1, 3))}),
        ("rank 4 @ rank 1", (T @ V).sum(), {T: np.broadcast_to(v, stack.shape), V: stack.sum((0, 1, 2))}),
        ("mean of rank 4", (T * V).mean(), {T: np.broadcast_to(v / T.numel(), stack.shape)}),
    ]
    if run.device.type == "cpu":  # NumPy arrays live on the CPU, and so must tensors that meet them
        cases.append(("array - 2 / tensor", (m - 2 / V).sum(), {V: 4 * 2 / v**2}))
        cases.append(("array @ tensor", (m @ V).sum(), {V: m.sum(0)}))
    worst = 0.0
    for name, out, expected in cases:
        found = gg.autograd.grad(out, list(expected))
        error = max(np.abs(g.cpu().numpy() - e).max() for g, e in zip(found, expected.values(), strict=True))
        run.say(f"{name:<20} largest error of a gradient {error:.1e}")
        worst = max(worst, error)
    run.result(
        f"largest error over {len(cases)} expressions",
        f"{worst:.1e}",
        goal="below 1e-12; any rank, plain arrays mix in",
        origin="ranks up to 2, no plain arrays",
        reached=worst < 1e-12,
    )


if __name__ == "__main__":
    start(main)
