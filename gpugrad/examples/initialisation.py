"""Initial weights: why Xavier's and He's keep a signal alive through thirty layers, and a fixed size does not."""

import gpugrad as gg
from gpugrad import nn
from gpugrad.examples import Run, start
from gpugrad.examples.run import COLORS

CHOICES = {
    "normal, 0.03": (nn.Tanh, lambda w: nn.init.normal_(w, 0.0, 0.03)),
    "Xavier, tanh": (nn.Tanh, lambda w: nn.init.xavier_normal_(w, gain=nn.init.calculate_gain("tanh"))),
    "Xavier, ReLU": (nn.ReLU, nn.init.xavier_normal_),
    "He, ReLU": (nn.ReLU, lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu")),
}


def main(run: Run) -> None:
    """Measure activations and gradients, layer by layer."""
    width, depth = (64, 30) if run.quick else (256, 30)
    sizes, slopes = {}, {}
    for name, (activation, fill) in CHOICES.items():
        h = gg.randn(200, width, device=run.device)
        layers, kept = [], []
        for _ in range(depth):
            layer = nn.Linear(width, width, bias=False, device=run.device)
            fill(layer.weight)
            h = activation()(layer(h))
            layers.append(layer)
            kept.append(h)
        h.square().sum().backward()
        sizes[name] = [t.detach().square().mean().sqrt().item() for t in kept]
        slopes[name] = [layer.weight.grad.norm().item() for layer in layers]
        run.say(f"{name:<13} size after layer 1: {sizes[name][0]:.2g}, after layer {depth}: {sizes[name][-1]:.2g}")
    for name in ("Xavier, tanh", "He, ReLU"):
        ratio = sizes[name][-1] / sizes[name][0]
        run.result(
            f"{name}: size after layer {depth} / after layer 1",
            f"{ratio:.2f}",
            goal="between 0.1 and 10",
            origin="words",
            reached=0.1 < ratio < 10,
        )
    ratio = sizes["normal, 0.03"][-1] / sizes["normal, 0.03"][0]
    run.result("normal, 0.03: the same", f"{ratio:.0e}", goal="vanishes", reached=ratio < 1e-6)

    figure = run.figure(9, 3.8)
    if figure:
        for axes, values, heading in zip(
            figure.subplots(1, 2), (sizes, slopes), ("size of activations", "norm of weight gradients"), strict=True
        ):
            for k, (name, series) in enumerate(values.items()):
                axes.plot(range(1, depth + 1), series, ["-", "--", "-.", ":"][k], color=COLORS[k], label=name)
            axes.set(title=heading, xlabel="layer", yscale="log")
            axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="center right", bbox_to_anchor=(1.0, 0.35))
        run.save(figure, "initialisation.png")


if __name__ == "__main__":
    start(main)
