"""Drawn graphs: what a box says, how large graphs are summed up, what is written without and with graphviz."""

import os
import re
import shutil
import sys
import time
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import gpugrad as gg
from gpugrad import nn, viz


@pytest.fixture(autouse=True)
def without_graphviz(monkeypatch):
    # The machine may have it or not; the tests say which.
    monkeypatch.setattr(viz.shutil, "which", lambda name: None)


def leaves(*values, device="cpu"):
    return [gg.tensor(v, device=device, requires_grad=True) for v in values]


def texts(graph):
    return [text.split("\\n") for text in re.findall(r'n\d+ \[label="(.*?)", fillcolor', graph.dot)]


def labels(graph):
    """The lines of each box, by its first one."""
    return {first: rest for first, *rest in texts(graph)}


def edges(graph):
    names = {n: text.split("\\n")[0] for n, text in re.findall(r'(n\d+) \[label="(.*?)", fillcolor', graph.dot)}
    return {(names[a], names[b]) for a, b in re.findall(r"(n\d+) -> (n\d+);", graph.dot)}


def test_boxes_show_op_dtype_value_and_gradient(device):
    x, y, z = leaves(-2.0, 5.0, -4.0, device=device)
    f = (x + y) * z
    graph = viz.graph(f, {"x": x, "y": y, "z": z, "f": f}, gradients=True)
    assert labels(graph) == {
        "x": ["float32", "value -2", "grad -4"],
        "y": ["float32", "value 5", "grad -4"],
        "z": ["float32", "value -4", "grad 3"],
        "add": ["float32", "value 3", "grad -4"],
        "f = mul": ["float32", "value -12", "grad 1"],
    }
    assert edges(graph) == {("x", "add"), ("y", "add"), ("add", "f = mul"), ("z", "f = mul")}
    assert x.grad is None
    f.backward()  # the graph is still there
    assert x.grad == -4


def test_gradients_of_backward_are_shown_where_they_were_kept():
    x, w = leaves([1.0, 2.0], [3.0, 4.0])
    product = x * w
    product.retain_grad()
    product.sum().backward(retain_graph=True)
    out = product.sum()
    found = labels(viz.graph(out, {"x": x}))
    assert found["x"] == ["float32 (2,)", "value [1, 2]", "grad [3, 4]"]
    assert found["mul"][-1] == "grad [1, 1]"
    before = product.grad.numpy().copy()
    viz.graph(out, gradients=True)
    assert np.array_equal(product.grad.numpy(), before)


def test_values_that_were_changed_since_or_freed_are_not_shown():
    x, y = leaves([1.0, 2.0], [3.0, 4.0])
    a = x * 1.0
    b = a * y
    a.add_(1.0)
    values = [lines[2] for lines in texts(viz.graph(b.sum())) if lines[0] == "mul" and len(lines) > 2]
    assert values == ["value [1, 2]", "value [3, 8]"]  # from x, not from the memory of a
    out = (x * y).sum()
    out.backward()
    assert not any(line.startswith("value") for line in labels(viz.graph(out))["mul"])
    with pytest.raises(RuntimeError, match="retain_graph"):
        viz.graph(out, gradients=True)


def test_large_values_are_not_shown_and_small_ones_are_computed_anew():
    (x,) = leaves(np.arange(7.0))
    found = labels(viz.graph((x + x).sum() * 0.5))
    assert found["leaf"] == ["float64 (7,)"]
    assert found["sum"] == ["float64", "value 42"]
    assert labels(viz.graph((x + x).sum(), max_values=7))["leaf"][1] == "value [0, 1, 2, 3, 4, 5, 6]"


def test_constants_several_results_and_leaf_outputs():
    (x,) = leaves([[1.0, 5.0], [7.0, 3.0]])
    mask = gg.tensor([[2.0, 2.0], [2.0, 2.0]])
    values, _indices = (x * mask).max(1)
    assert ("constant", "mul") in edges(viz.graph(values))
    low, high = x.split(1)
    assert labels(viz.graph([low, high]))["split"][0] == "float32 (1, 2)"
    assert set(labels(viz.graph(x))) == {"leaf"}


def test_modules_are_grouped_and_repeated_ones_drawn_once():
    block = [nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)) for _ in range(6)]
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(*block), nn.Linear(4, 1))
    graph = viz.graph(model(gg.ones(2, 3)).sum(), model)
    assert 'subgraph "cluster_1.0"' in graph.dot
    assert '"cluster_1.1"' not in graph.dot
    found = labels(graph)
    assert found["1.1 to 1.5"] == ["each like 1.0", "15 ops"]
    assert ("1.1 to 1.5", "linear") in edges(graph)
    assert "0.weight" in found
    assert "2.weight" in found


def test_modules_are_not_folded_when_what_they_hang_on_lies_outside():
    layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(5)])
    blocks = nn.ModuleDict({str(2 * k): layer for k, layer in enumerate(layers)})
    x = gg.ones(2, 4)
    for layer in layers:
        x = layer(x).tanh()
    names = [name for name, *_ in texts(viz.graph(x.sum(), blocks))]
    assert names.count("tanh") == names.count("linear") == 5


def test_modules_that_differ_are_all_drawn():
    model = nn.Sequential(*[nn.Linear(k + 2, k + 3) for k in range(6)])
    found = labels(viz.graph(model(gg.ones(2, 2)).sum(), model))
    assert sum(name.endswith("weight") for name in found) == 6


def test_a_graph_of_ten_thousand_ops_is_summed_up():
    (x,) = leaves(np.ones(3))
    y = x
    for _ in range(5000):
        y = y * 1.01 + x
    start = time.perf_counter()
    graph = viz.graph(y.sum())
    text = graph.svg()
    assert time.perf_counter() - start < 20
    assert len(texts(graph)) <= 40
    counted = [re.findall(r"(\d+) (mul|add|sum)", " ".join(lines)) for lines in texts(graph)]
    assert sum(int(n) for lines in counted for n, name in lines) == 10_001
    ET.fromstring(text)


def test_summaries_have_no_cycles():
    x, y = leaves([1.0], [2.0])
    for _ in range(100):
        x, y = x * y, x + y
    graph = viz.graph((x + y).sum(), max_nodes=20)
    pairs = {(int(a), int(b)) for a, b in re.findall(r"n(\d+) -> n(\d+);", graph.dot)}
    assert all(a < b for a, b in pairs)


@pytest.mark.parametrize("direction", ["LR", "TB"])
def test_the_own_layout_has_every_box_and_no_overlaps(direction, tmp_path):
    model = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True)
    graph = viz.graph(model(gg.ones(1, 3, 8)).sum(), model, direction=direction)
    root = ET.fromstring(graph.save(tmp_path / "graph.svg").read_text())
    space = "{http://www.w3.org/2000/svg}"
    boxes = [
        tuple(float(r.get(key)) for key in ("x", "y", "width", "height")) for r in root.findall(f"{space}g/{space}rect")
    ]
    assert len(boxes) == len(texts(graph))
    width, height = float(root.get("width")), float(root.get("height"))
    for k, (x, y, w, h) in enumerate(boxes):
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height
        for other_x, other_y, other_w, other_h in boxes[:k]:
            assert x + w <= other_x or other_x + other_w <= x or y + h <= other_y or other_y + other_h <= y


def test_a_notebook_gets_a_picture_and_names_are_escaped():
    (x,) = leaves(1.0)
    graph = viz.graph(x * 2, {'<a & "b">': x})
    assert graph._repr_svg_().startswith("<svg")
    ET.fromstring(graph._repr_svg_())
    assert r"<a & \"b\">" in str(graph)


def test_other_formats_need_graphviz(tmp_path, monkeypatch):
    (x,) = leaves(1.0)
    graph = viz.graph(x * 2)
    assert (graph.save(tmp_path / "graph.dot")).read_text() == graph.dot
    with pytest.raises(RuntimeError, match="graphviz"):
        graph.save(tmp_path / "graph.png")
    program = tmp_path / "dot"
    program.write_text(
        f'#!{sys.executable}\nimport sys\nprint(sys.argv[1], sys.stdin.read()[:7])\nsys.exit("b" in sys.argv[1])'
    )
    program.chmod(0o755)
    monkeypatch.setattr(viz.shutil, "which", lambda name: str(program))
    assert graph.save(tmp_path / "graph.png").read_text() == "-Tpng digraph\n"
    assert graph.svg() == "-Tsvg digraph\n"
    with pytest.raises(RuntimeError, match="cannot write 'bmp'"):
        graph.save(tmp_path / "graph.bmp")


_DOT = shutil.which("dot", path=os.environ.get("PATH"))


@pytest.mark.skipif(_DOT is None, reason="graphviz is not installed")
def test_graphviz_takes_the_text(monkeypatch):
    monkeypatch.setattr(viz.shutil, "which", lambda name: _DOT)
    model = nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(5)])
    assert "<svg" in viz.graph(model(gg.ones(2, 4)).sum(), model).svg()


def test_what_cannot_be_drawn_is_refused():
    (x,) = leaves([1.0, 2.0])
    with pytest.raises(ValueError, match="nothing was recorded"):
        viz.graph(gg.ones(2))
    with pytest.raises(TypeError, match="float"):
        viz.graph([1.0])
    with pytest.raises(TypeError, match="'x'"):
        viz.graph(x * 2, {"x": 1})
    with pytest.raises(RuntimeError, match="scalar"):
        viz.graph(x * 2, gradients=True)
    with pytest.raises(ValueError, match="direction"):
        viz.graph(x * 2, direction="up")
    with pytest.raises(ValueError, match="max_nodes"):
        viz.graph(x * 2, max_nodes=0)
