"""Regression with a small network: every weight, after 20 epochs, as backpropagation written out in NumPy gives it."""

import numpy as np

import gpugrad as gg
from gpugrad import nn
from gpugrad.examples import Run, start


def make_regression(samples: int, features: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and a linear function of them with random coefficients, scaled to variance 1."""
    draw = np.random.default_rng(seed)
    X = draw.standard_normal((samples, features))
    y = X @ draw.uniform(0, 100, (features, 1))
    return X, (y - y.mean()) / y.std()


def by_hand(weights: list[np.ndarray], X: np.ndarray, y: np.ndarray, lr: float, epochs: int) -> list[np.ndarray]:
    """The same training with the gradients of each layer written out."""
    w1, b1, w2, b2 = (w.copy() for w in weights)
    for _ in range(epochs):
        z = X @ w1.T + b1
        a = np.maximum(z, 0)
        d_out = 2 * (a @ w2.T + b2 - y) / len(X)
        d_z = (d_out @ w2) * (z > 0)
        w2 -= lr * (d_out.T @ a)
        b2 -= lr * d_out.sum(0)
        w1 -= lr * (d_z.T @ X)
        b1 -= lr * d_z.sum(0)
    return [w1, b1, w2, b2]


def main(run: Run) -> None:
    """Train with ``nn`` and ``optim`` in float64, and compare."""
    X, y = make_regression(100, 5, run.seed)
    model = nn.Sequential(nn.Linear(5, 10), nn.ReLU(), nn.Linear(10, 1)).double().to(run.device)
    first = [p.detach().cpu().numpy().copy() for p in model.parameters()]
    optimizer = gg.optim.SGD(model.parameters(), lr=1e-2)
    inputs, targets = (gg.tensor(v, device=run.device) for v in (X, y))
    for epoch in range(20):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        if epoch % 5 == 4:
            run.say(f"epoch {epoch + 1:>2}: loss {loss.item():.6f}")
    found = [p.detach().cpu().numpy() for p in model.parameters()]

    expected = by_hand(first, X, y, 1e-2, 20)
    error = max(np.abs(a - b).max() for a, b in zip(found, expected, strict=True))
    run.result("largest difference from NumPy", f"{error:.1e}", goal="below 1e-9", reached=error < 1e-9)
    try:
        import torch
    except ImportError:
        run.say("PyTorch is not installed: not compared with it")
        return
    theirs = torch.nn.Sequential(torch.nn.Linear(5, 10), torch.nn.ReLU(), torch.nn.Linear(10, 1)).double()
    with torch.no_grad():
        for p, value in zip(theirs.parameters(), first, strict=True):
            p.copy_(torch.tensor(value))
    descent = torch.optim.SGD(theirs.parameters(), lr=1e-2)
    for _ in range(20):
        descent.zero_grad()
        torch.nn.functional.mse_loss(theirs(torch.tensor(X)), torch.tensor(y)).backward()
        descent.step()
    error = max(np.abs(a - p.detach().numpy()).max() for a, p in zip(found, theirs.parameters(), strict=True))
    run.result(
        "largest difference from PyTorch", f"{error:.1e}", goal="below 1e-9", origin="below 1e-5", reached=error < 1e-9
    )


if __name__ == "__main__":
    start(main)
