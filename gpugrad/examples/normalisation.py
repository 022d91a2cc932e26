"""Batch and layer normalisation: a deep network that badly chosen weights would keep from learning."""

import gpugrad as gg
from gpugrad import nn
from gpugrad.examples import Run, start
from gpugrad.examples.run import COLORS


def main(run: Run) -> None:
    """Train ten layers with weights of a third of the usual size, without normalisation and with either kind."""
    images, labels = gg.data.MNIST(train=True, source="bundled").as_tensors()
    count = 1000 if run.quick else 5000
    images, labels = images[:count].to(run.device), labels[:count].to(run.device)
    curves: dict[str, list[float]] = {}
    for name, norm in (("none", None), ("batch", nn.BatchNorm1d), ("layer", nn.LayerNorm)):
        gg.manual_seed(run.seed)
        layers: list[nn.Module] = [nn.Flatten()]
        for k in range(10):
            linear = nn.Linear(784 if k == 0 else 64, 64)
            with gg.no_grad():
                linear.weight *= 0.3
                linear.bias.zero_()
            layers += [linear, *([norm(64)] if norm else []), nn.ReLU()]
        model = nn.Sequential(*layers, nn.Linear(64, 10)).to(run.device)
        optimizer = gg.optim.Adam(model.parameters(), lr=1e-3)
        curves[name] = []
        for _ in range(3 if run.quick else 8):
            hits = 0
            for rows in gg.randperm(count).to(run.device).split(100):
                optimizer.zero_grad()
                logits = model(images[rows])
                nn.functional.cross_entropy(logits, labels[rows]).backward()
                optimizer.step()
                hits += (logits.detach().argmax(1) == labels[rows]).sum()
            curves[name].append(hits.item() / count)
        run.say(f"{name:<5} train accuracy {curves[name][-1]:.1%}")
    goal = 0.4 if run.quick else 0.85
    for name in ("batch", "layer"):
        run.result(
            f"train accuracy with {name} normalisation",
            f"{curves[name][-1]:.1%}",
            goal=f"at least {goal:.0%}, and above that without",
            origin="words",
            reached=curves[name][-1] >= max(goal, curves["none"][-1]),
        )

    figure = run.figure(6, 3.6)
    if figure:
        axes = figure.subplots()
        for k, (name, values) in enumerate(curves.items()):
            style = {"color": COLORS[k], "linestyle": ["-", "--", "-."][k], "marker": "o"}
            axes.plot(range(1, len(values) + 1), [100 * v for v in values], **style, label=f"normalisation: {name}")
        axes.set(title="ten layers with weights that are too small", xlabel="epoch", ylabel="train accuracy, %")
        axes.legend()
        axes.grid(alpha=0.3)
        run.save(figure, "normalisation.png")


if __name__ == "__main__":
    start(main)
