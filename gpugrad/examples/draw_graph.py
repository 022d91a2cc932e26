"""Computational graphs, drawn: a product, a neuron with every value and gradient, a deep network.

``gg.viz.graph`` gives DOT text, and SVG with or without graphviz. In a notebook it shows itself.
"""

import re

import gpugrad as gg
from gpugrad import nn
from gpugrad.examples import Run, start


def main(run: Run) -> None:
    """Draw three graphs."""

    def leaf(value: float) -> gg.Tensor:
        return gg.tensor(value, dtype=gg.float64, device=run.device, requires_grad=True)

    a, b = leaf(2.0), leaf(-3.0)
    product = gg.viz.graph(a * b, {"a": a, "b": b}, gradients=True)
    product.save(run.path("graph_product.svg"))

    # A neuron, h = tanh(x1 w1 + x2 w2). The names may be those of inner results too.
    x1, w1, x2, w2 = leaf(2.0), leaf(-3.0), leaf(0.0), leaf(1.0)
    p1, p2 = x1 * w1, x2 * w2
    n = p1 + p2 + 6.8813735870195432  # chosen so that tanh' is 1/2
    h = n.tanh()
    names = {"x1": x1, "w1": w1, "x2": x2, "w2": w2, "x1 w1": p1, "x2 w2": p2, "n": n, "h": h}
    neuron = gg.viz.graph(h, names, gradients=True)
    neuron.save(run.path("graph_neuron.dot"))
    neuron.save(run.path("graph_neuron.svg"))
    boxes = re.findall(r'\[label="(.*?)"', neuron.dot)
    complete = sum("value" in box and "grad" in box for box in boxes)
    run.result(
        "boxes with value and gradient",
        f"{complete} of {len(boxes)}",
        goal="all",
        origin="every node with its data and its gradient",
        reached=complete == len(boxes),
    )
    h.backward()
    found = [round(t.grad.item(), 6) for t in (x1, w1, x2, w2)]
    run.result("gradients of h", found, goal="[-1.5, 1.0, 0.5, 0.0]", reached=found == [-1.5, 1.0, 0.5, 0.0])

    # Twelve equal layers: the first is drawn, the others are one box.
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 2 if run.quick else 12).to(run.device)
    graph = gg.viz.graph(model(gg.ones(1, 4, 16, device=run.device)).sum(), model, direction="TB")
    graph.save(run.path("graph_transformer.svg"))

    x = y = gg.ones(3, device=run.device, requires_grad=True)
    for _ in range(500 if run.quick else 5000):
        y = y * 0.99 + x
    graph = gg.viz.graph(y.sum())
    count = len(re.findall(r"\[label=", graph.dot))
    run.result("boxes for a graph of 10,000 ops", count, goal="a summary of at most 50", reached=count <= 50)


if __name__ == "__main__":
    start(main)
