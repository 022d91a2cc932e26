"""SGD, momentum, RMSprop and Adam, chosen by name: step for step what their formulas say, and a race down a valley.

An optimizer holds parameters; ``step`` moves them against their gradients, ``zero_grad`` forgets these.
"""

from collections.abc import Callable

import numpy as np

import gpugrad as gg
from gpugrad.examples import Run, start
from gpugrad.examples.run import COLORS

CHOICES = {
    "sgd": lambda p: gg.optim.SGD(p, lr=0.01),
    "momentum": lambda p: gg.optim.SGD(p, lr=0.01, momentum=0.9),
    "rmsprop": lambda p: gg.optim.RMSprop(p, lr=0.01),
    "rmsprop with momentum": lambda p: gg.optim.RMSprop(p, lr=0.01, momentum=0.9),
    "adam": lambda p: gg.optim.Adam(p, lr=0.01),
    "adam with weight decay": lambda p: gg.optim.Adam(p, lr=0.01, weight_decay=0.1),
}


def formula(name: str) -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:
    """The update of an optimizer, written out: a function of weights, gradient and number of the step."""
    m = v = buffer = 0.0

    def update(w: np.ndarray, g: np.ndarray, t: int) -> np.ndarray:
        nonlocal m, v, buffer
        if name in ("sgd", "momentum"):
            buffer = (0.9 if name == "momentum" else 0.0) * buffer + g
            return w - 0.01 * buffer
        if name.startswith("rmsprop"):
            v = 0.99 * v + 0.01 * g * g
            buffer = (0.9 if "momentum" in name else 0.0) * buffer + g / (np.sqrt(v) + 1e-8)
            return w - 0.01 * buffer
        g = g + 0.1 * w if "decay" in name else g
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        return w - 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)

    return update


def valley(x: gg.Tensor, y: gg.Tensor) -> gg.Tensor:
    """Rosenbrock's function, 0 at (1, 1): a bent valley, steep across and flat along."""
    return (1 - x) ** 2 + 20 * (y - x * x) ** 2


def main(run: Run) -> None:
    """Compare 200 steps with the formulas, then draw the paths."""
    draw = np.random.default_rng(run.seed)
    steps = 50 if run.quick else 200
    first, slopes = draw.standard_normal(20), draw.standard_normal((steps, 20))
    worst = 0.0
    for name, make in CHOICES.items():
        w = gg.tensor(first, device=run.device, requires_grad=True)
        optimizer, update, expected = make([w]), formula(name), first
        for t, g in enumerate(slopes, start=1):
            w.grad = gg.tensor(g, device=run.device)
            optimizer.step()
            expected = update(expected, g, t)
            worst = max(worst, np.abs(w.detach().cpu().numpy() - expected).max())
    run.result(
        f"largest difference from the formulas in {steps} steps of {len(CHOICES)} optimizers",
        f"{worst:.1e}",
        goal="below 1e-12",
        origin="momentum and RMSprop differ from theirs",
        reached=worst < 1e-12,
    )

    paths = {}
    for name, make in CHOICES.items():
        p = gg.tensor([-1.2, 1.0], dtype=gg.float64, device=run.device, requires_grad=True)
        optimizer = make([p])
        optimizer.param_groups[0]["lr"] = 0.002 if "sgd" in name or name == "momentum" else 0.02
        trace = [p.tolist()]
        for _ in range(100 if run.quick else 400):
            optimizer.zero_grad()
            valley(p[0], p[1]).backward()
            optimizer.step()
            trace.append(p.tolist())
        paths[name] = np.array(trace)
        run.say(f"{name:<23} ends at ({trace[-1][0]:.3f}, {trace[-1][1]:.3f})")

    figure = run.figure(9, 5)
    if figure:
        axes = figure.subplots()
        x, y = np.meshgrid(np.linspace(-1.6, 1.6, 200), np.linspace(-0.6, 1.8, 200))
        axes.contour(x, y, (1 - x) ** 2 + 20 * (y - x * x) ** 2, levels=np.geomspace(0.1, 200, 14), colors="0.8")
        for k, (name, trace) in enumerate(paths.items()):
            style = ["-", "--", ":"][k % 3]
            axes.plot(*trace.T, style, color=COLORS[k], label=name, linewidth=1.8)
            axes.plot(*trace[-1], "o", color=COLORS[k])
        axes.plot(1, 1, "k*", markersize=14)
        axes.set(title="400 steps down Rosenbrock's valley to the star", xlabel="x", ylabel="y", ylim=(-0.6, 1.8))
        axes.legend(loc="upper center", fontsize=8, ncols=3)
        run.save(figure, "optimizers.png", dpi=90)


if __name__ == "__main__":
    start(main)
