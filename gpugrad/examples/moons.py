"""Two moons: a small network learns two half circles that lie inside each other, with its decision boundary drawn."""

import numpy as np

import gpugrad as gg
from gpugrad import nn
from gpugrad.examples import Run, start
from gpugrad.examples.run import COLORS


def make_moons(samples: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points on an upper half circle and on a lower one shifted into it, with noise; and which one each is on."""
    draw = np.random.default_rng(seed)
    angle = np.linspace(0, np.pi, samples // 2)
    upper = np.stack([np.cos(angle), np.sin(angle)], 1)
    lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], 1)
    points = np.concatenate([upper, lower]) + noise * draw.standard_normal((samples, 2))
    return points, np.repeat([0, 1], samples // 2)


def main(run: Run) -> None:
    """Train a 2-16-16-1 network with plain gradient descent on the root of the mean squared error."""
    points, sides = make_moons(100, 0.1, run.seed)
    x = gg.tensor(points, dtype=gg.float32, device=run.device)
    y = gg.tensor(2.0 * sides - 1, dtype=gg.float32, device=run.device)
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1)).to(run.device)
    optimizer = gg.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    steps = 200 if run.quick else 500
    for step in range(steps):
        optimizer.zero_grad()
        out = model(x).squeeze(1)
        loss = nn.functional.mse_loss(out, y).sqrt()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % (steps // 4) == 0:
            run.say(f"step {step + 1:>3}: loss {losses[-1]:.4f}")
    with gg.no_grad():
        accuracy = ((model(x).squeeze(1) > 0) == (y > 0)).float().mean().item()
    run.result(
        "train accuracy on 100 points", f"{accuracy:.0%}", goal="100%", origin="learns it", reached=accuracy == 1
    )

    figure = run.figure(9, 4)
    if figure:
        left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
        grid = np.stack(np.meshgrid(np.linspace(-1.6, 2.6, 200), np.linspace(-1.1, 1.6, 150)), -1)
        with gg.no_grad():
            score = model(gg.tensor(grid.reshape(-1, 2), dtype=gg.float32, device=run.device))
        score = score.cpu().numpy().reshape(grid.shape[:2])
        left.contourf(*grid.transpose(2, 0, 1), score, levels=np.linspace(-2, 2, 17), cmap="PuOr", extend="both")
        left.contour(*grid.transpose(2, 0, 1), score, levels=[0], colors="black")
        for side, marker in enumerate("o^"):
            left.scatter(*points[sides == side].T, marker=marker, color=COLORS[1 - side], edgecolor="white", s=45)
        left.set(title=f"decision boundary, {accuracy:.0%} right", xlabel="x", ylabel="y")
        right.plot(losses, color=COLORS[0])
        right.set(title="root mean squared error", xlabel="step", yscale="log")
        right.grid(alpha=0.3)
        run.save(figure, "moons.png")


if __name__ == "__main__":
    start(main)
