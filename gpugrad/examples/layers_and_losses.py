"""Layers and losses: activations, softmax and log-sum-exp, every loss with every reduction, at logits of 10,000 too.

Softmax is shifted by the maximum of its row and logarithms are taken of sums, never of probabilities, so
nothing overflows or becomes log(0).
"""

import numpy as np

import gpugrad as gg
from gpugrad import nn
from gpugrad.examples import Run, start
from gpugrad.nn import functional as F


def log_softmax(x: np.ndarray) -> np.ndarray:
    """In NumPy, along the last axis."""
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def main(run: Run) -> None:
    """Compare everything with formulas in NumPy."""
    draw = np.random.default_rng(run.seed)
    x, w, b = draw.standard_normal((5, 4)), draw.standard_normal((3, 4)), draw.standard_normal(3)
    target, labels = draw.uniform(0, 1, (5, 4)), draw.integers(0, 4, 5)
    X, W, B, T, L = (gg.tensor(v, device=run.device) for v in (x, w, b, target, labels))
    sigmoid = 1 / (1 + np.exp(-x))
    rows = np.arange(5)
    bce = -target * np.log(sigmoid) - (1 - target) * np.log(1 - sigmoid)

    layers = {
        "linear": (F.linear(X, W, B), x @ w.T + b),
        "relu": (F.relu(X), np.maximum(x, 0)),
        "tanh": (X.tanh(), np.tanh(x)),
        "sigmoid": (X.sigmoid(), sigmoid),
        "softmax": (F.softmax(X, 1), np.exp(log_softmax(x))),
        "log_softmax": (F.log_softmax(X, 1), log_softmax(x)),
        "logsumexp": (gg.logsumexp(X, 1), np.log(np.exp(x).sum(1))),
    }
    losses = {
        "cross_entropy": (F.cross_entropy, X, L, -log_softmax(x)[rows, labels]),
        "nll_loss": (F.nll_loss, F.log_softmax(X, 1), L, -log_softmax(x)[rows, labels]),
        "binary_cross_entropy": (F.binary_cross_entropy, X.sigmoid(), T, bce),
        "binary_cross_entropy_with_logits": (F.binary_cross_entropy_with_logits, X, T, bce),
        "mse_loss": (F.mse_loss, X, T, (x - target) ** 2),
        "l1_loss": (F.l1_loss, X, T, np.abs(x - target)),
    }
    worst = max(np.abs(found.cpu().numpy() - expected).max() for found, expected in layers.values())
    run.result(f"largest error over {len(layers)} layers", f"{worst:.1e}", goal="below 1e-12", reached=worst < 1e-12)
    worst = 0.0
    for function, input, aim, expected in losses.values():
        for reduction, reduced in (("none", expected), ("sum", expected.sum()), ("mean", expected.mean())):
            found = function(input, aim, reduction=reduction).cpu().numpy()
            worst = max(worst, np.abs(found - reduced).max())
    run.result(
        f"largest error over {len(losses)} losses and 3 reductions",
        f"{worst:.1e}",
        goal="below 1e-12",
        reached=worst < 1e-12,
    )

    # Very sure and very wrong: the loss is the logit itself, and its gradient is finite.
    big = gg.tensor([[1e4, -1e4], [-1e4, 1e4]], device=run.device, requires_grad=True)
    wrong = gg.tensor([1, 1], device=run.device)
    loss = nn.CrossEntropyLoss()(big, wrong) + nn.BCEWithLogitsLoss()(big, gg.zeros_like(big))
    loss.backward()
    finite = bool(big.grad.isfinite().all())
    run.result(
        "cross-entropy + BCE at logits of +-1e4",
        f"{loss.item():g}, gradients {'finite' if finite else 'not finite'}",
        goal="15000, finite",
        origin="overflow",
        reached=loss.item() == 15000 and finite,
    )


if __name__ == "__main__":
    start(main)
