"""Inside or outside the unit circle: how the boundary of a network of 1, 2, 3 or 9 tanh units grows.

One unit can only cut the plane in two; two cut a strip, three a triangle, and nine bend it into a circle.
"""

import numpy as np

import gpugrad as gg
from gpugrad import nn
from gpugrad.examples import Run, start
from gpugrad.examples.run import COLORS

WIDTHS = (1, 2, 3, 9)
SPAN = np.linspace(-1.8, 1.8, 73)


def main(run: Run) -> None:
    """Train the four networks side by side; animate their boundaries and draw loss and accuracy."""
    draw = np.random.default_rng(run.seed)
    points = draw.uniform(-1.8, 1.8, (600, 2))
    inside = (points**2).sum(1) < 1
    x = gg.tensor(points, dtype=gg.float32, device=run.device)
    y = gg.tensor(np.where(inside, 1.0, -1.0), dtype=gg.float32, device=run.device)
    grid = np.stack(np.meshgrid(SPAN, SPAN), -1)
    places = gg.tensor(grid.reshape(-1, 2), dtype=gg.float32, device=run.device)

    epochs = 40 if run.quick else 300
    shots = sorted({round(e) for e in np.geomspace(1, epochs, 4 if run.quick else 32)})
    curves, boundaries = {}, {}
    for width in WIDTHS:
        model = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 1), nn.Tanh()).to(run.device)
        optimizer = gg.optim.Adam(model.parameters(), lr=0.03)
        loader = gg.utils.data.DataLoader(gg.utils.data.TensorDataset(x, y), batch_size=50, shuffle=True)
        history, pictures = [], []
        for epoch in range(1, epochs + 1):
            for xs, ys in loader:
                optimizer.zero_grad()
                nn.functional.mse_loss(model(xs).squeeze(1), ys).backward()
                optimizer.step()
            with gg.no_grad():
                out = model(x).squeeze(1)
                loss, right = nn.functional.mse_loss(out, y).item(), ((out > 0) == (y > 0)).float().mean().item()
                history.append((loss, right))
                if epoch in shots:
                    pictures.append(model(places).cpu().numpy().reshape(grid.shape[:2]))
        curves[width], boundaries[width] = np.array(history), pictures
        goal = {9: 0.85 if run.quick else 0.97}.get(width, 0.0)
        run.result(
            f"accuracy with hidden width {width}",
            f"{curves[width][-1, 1]:.1%}",
            goal=f"at least {goal:.0%}" if goal else "the boundary drawn",
            origin="boundary drawn",
            reached=curves[width][-1, 1] >= goal,
        )

    def boundary(shot: int, size: float) -> object:
        figure = run.figure(4 * size, 1.12 * size)
        if figure:
            for axes, width in zip(figure.subplots(1, 4), WIDTHS, strict=True):
                score = boundaries[width][shot]
                axes.contourf(
                    SPAN, SPAN, score, levels=np.linspace(-0.9, 0.9, 7), cmap="PuOr", extend="both", alpha=0.5
                )
                axes.contour(SPAN, SPAN, score, levels=[0], colors="black")
                axes.add_artist(_circle())
                for which, marker, color in ((inside, "^", COLORS[0]), (~inside, "o", COLORS[1])):
                    axes.scatter(*points[which][::3].T, s=size * size * 1.5, marker=marker, color=color)
                right = curves[width][shots[shot] - 1, 1]
                axes.set(xticks=[], yticks=[], aspect="equal", title=f"width {width}: {right:.1%}")
            figure.suptitle(f"epoch {shots[shot]}", fontsize=11)
        return figure

    final = boundary(-1, 3)
    if final:
        run.save(final, "circle.png")
        run.animate([boundary(k, 1.7) for k in range(len(shots))], "circle.gif")
        figure = run.figure(9, 3.6)
        loss, accuracy = figure.subplots(1, 2)
        for k, width in enumerate(WIDTHS):
            style = {"color": COLORS[k], "linestyle": ["-", "--", "-.", "-"][k], "label": f"width {width}"}
            loss.plot(curves[width][:, 0], **style)
            accuracy.plot(100 * curves[width][:, 1], **style)
        loss.set(title="loss", xlabel="epoch", yscale="log")
        accuracy.set(title="accuracy, %", xlabel="epoch")
        accuracy.legend()
        for axes in (loss, accuracy):
            axes.grid(alpha=0.3)
        run.save(figure, "circle_curves.png")


def _circle() -> object:
    from matplotlib.patches import Circle

    return Circle((0, 0), 1, fill=False, linestyle=":", linewidth=1.2)


if __name__ == "__main__":
    start(main)
