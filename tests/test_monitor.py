"""GradientMonitor: the figures, when it looks, what it costs, and what it writes."""

import importlib.util
import json
import math
import sys
import time
import types

import numpy as np
import pytest
from helpers import host

import gpugrad as gg
from gpugrad import monitor, nn
from gpugrad.monitor import GradientMonitor
from gpugrad.nn.utils import clip_grad
from gpugrad.utils.tensorboard import SummaryWriter as EventWriter


def setup(width=16, rows=32, device="cpu", **options):
    gg.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 3)).to(device)
    optimizer = gg.optim.SGD(model.parameters(), lr=0.1)
    x, y = gg.randn(rows, 8, device=device), gg.randint(0, 3, (rows,), device=device)

    def step(clip=None):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()

    return model, optimizer, step, GradientMonitor(model, optimizer, **options)


def test_the_figures_are_those_of_the_gradients_before_clipping(device):
    model, _, step, watch = setup(bins=10, device=device)
    weights = {name: host(p).copy() for name, p in model.named_parameters()}
    step(clip=0.01)
    after = {name: host(p).copy() for name, p in model.named_parameters()}
    clipped = {name: host(p.grad) for name, p in model.named_parameters()}
    (record,) = watch.records
    assert record["step"] == 1
    assert record["clipped_norm"] == pytest.approx(0.01, rel=1e-3)
    scale = record["total_norm"] / math.sqrt(sum((g.astype(float) ** 2).sum() for g in clipped.values()))
    assert record["total_norm"] > 0.1
    assert set(record["parameters"]) == set(weights)
    for name, row in record["parameters"].items():
        g = clipped[name].astype(float) * scale
        assert row["mean"] == pytest.approx(g.mean(), rel=1e-3, abs=1e-8)
        assert row["std"] == pytest.approx(g.std(), rel=1e-3)
        assert row["norm"] == pytest.approx(np.linalg.norm(g), rel=1e-3)
        assert row["nonfinite"] == 0
        update = np.linalg.norm(after[name] - weights[name]) / np.linalg.norm(weights[name])
        assert row["update_ratio"] == pytest.approx(update, rel=1e-3)
        counts, edges = np.histogram(g, 10)
        assert row["histogram"]["counts"] == counts.tolist()
        assert row["histogram"]["low"] == pytest.approx(edges[0], rel=1e-3)
    json.loads(json.dumps(record))


def test_it_looks_at_the_first_step_then_at_the_interval_and_when_asked():
    model, optimizer, step, watch = setup(interval=5)
    for k in range(12):
        if k == 6:
            watch.request()
        step()
    assert [r["step"] for r in watch.records] == [1, 5, 7, 10]
    assert watch.step == 12
    watch.step = 18  # as when a run goes on
    step()
    step()
    assert [r["step"] for r in watch.records] == [1, 5, 7, 10, 20]
    watch.request()
    watch.close()
    step()
    assert watch.step == 20
    assert not clip_grad.watchers
    assert not optimizer._step_pre_hooks
    assert not any(m._hooks and m._hooks.forward for m in model.modules() if hasattr(m, "_hooks"))


def test_between_it_costs_next_to_nothing_and_under_a_tenth_in_all():
    _, _, step, watch = setup(width=256, rows=128)
    step()
    assert not clip_grad.watchers
    assert not watch._relu_handles
    assert not watch._weights

    def seconds(look):
        times = []
        for _ in range(15):
            if look:
                watch.request()
            start = time.process_time()  # what other programs do meanwhile does not count
            step()
            times.append(time.process_time() - start)
        return min(times)

    plain = seconds(False)
    assert (seconds(True) - plain) / watch.interval < 0.1 * plain
    assert watch.interval == 100
    watch.close()


def test_compiled_steps_are_looked_at_and_not_changed(device):
    def run(watched, compiled, count=17):
        gg.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3)).to(device)
        optimizer = gg.optim.Adam(model.parameters(), lr=0.05)
        x, y = gg.randn(32, 8, device=device), gg.randint(0, 3, (32,), device=device)
        calls = []

        def step():
            calls.append(1)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            return loss.detach()

        step = gg.compile(step) if compiled else step
        watch = GradientMonitor(model, optimizer, interval=4) if watched else None
        losses = []
        for k in range(count):
            if watch and k == 9:
                watch.request()
            losses.append(step())
        return [float(loss) for loss in losses], watch, calls, step

    plain, *_ = run(False, True)
    losses, watch, calls, step = run(True, True)
    assert losses == plain
    assert [r["step"] for r in watch.records] == [1, 4, 8, 10, 12, 16]
    if device == "cuda":
        assert len(calls) == 4  # two that warm up, and a record of each kind
    for found, expected in zip(watch.records, run(True, False)[1].records, strict=True):
        assert found["dead_relu"] == expected["dead_relu"]
        assert found["clipped_norm"] == pytest.approx(expected["clipped_norm"], rel=1e-4)
        for name, row in found["parameters"].items():
            for what in ("mean", "std", "norm", "update_ratio"):
                assert row[what] == pytest.approx(expected["parameters"][name][what], rel=1e-3, abs=1e-6), what
            assert sum(row["histogram"]["counts"]) == sum(expected["parameters"][name]["histogram"]["counts"])
    watch.request()
    watch.close()
    step()
    assert watch.step == 17
    assert not clip_grad.watchers


def test_a_monitor_that_comes_after_the_capture_counts(device):
    model, optimizer, step, watch = setup(device=device)
    watch.close()
    step = gg.compile(step)
    for _ in range(4):
        step()
    with GradientMonitor(model, optimizer, interval=3) as late:
        for _ in range(4):
            step()
    assert [r["step"] for r in late.records] == [1, 3]


def test_two_optimizer_steps_in_one_compiled_call_are_both_counted(device):
    _, _, step, watch = setup(device=device, interval=6)

    @gg.compile
    def both():
        step()
        step()

    for _ in range(8):
        both()
    assert watch.step == 16
    assert [r["step"] for r in watch.records] == ([1, 6, 12] if device == "cpu" else [1, 7, 13])
    watch.close()


def test_dead_units_and_what_is_not_finite():
    model, _, step, watch = setup(width=4)
    with gg.no_grad():
        model[0].weight[:3] = 0
        model[0].bias[:3] = gg.tensor([-1.0, -1.0, 1.0])
        model[0].weight[3] = 0
        model[0].bias[3] = 1
    step()
    assert watch.records[-1]["dead_relu"] == {"1": 0.5}
    watch.request()
    model.eval()
    model(gg.zeros(1, 8) - 100)
    model.train()
    with gg.no_grad():
        model[2].bias[0] = math.nan
    step()
    assert watch.records[-1]["nonfinite"] > 0
    assert "nan or inf" in watch.table()
    watch.close()


def test_a_unit_is_dead_only_if_it_is_in_every_pass_of_a_step():
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU())
    with gg.no_grad():
        model[0].weight[...] = gg.tensor([[1.0], [-1.0]])
    optimizer = gg.optim.SGD(model.parameters(), lr=0.1)
    with GradientMonitor(model, optimizer) as watch:
        for sign in (1.0, -1.0):
            model(gg.ones(3, 1) * sign).sum().backward()
        optimizer.step()
    assert watch.records[0]["dead_relu"] == {"1": 0.0}


def test_modules_and_optimizers_alone():
    model, optimizer, step, watch = setup()
    watch.close()
    alone = GradientMonitor(model)
    step()
    assert not alone.records
    record = alone.record()
    assert record["step"] == alone.step == 1
    assert "update_ratio" not in record["parameters"]["0.weight"]
    assert alone.record()["step"] == 2
    alone.close()
    with GradientMonitor(optimizer) as watch:
        step()
    assert list(watch.records[0]["parameters"]) == ["0.0", "0.1", "0.2", "0.3"]
    assert watch.records[0]["dead_relu"] == {}


def test_lines_of_json_and_pictures(tmp_path):
    seen = []
    _, _, step, watch = setup(interval=2, log=tmp_path / "gradients.jsonl", on_record=seen.append)
    for _ in range(4):
        step(clip=0.1)
    lines = [json.loads(line) for line in (tmp_path / "gradients.jsonl").read_text().splitlines()]
    assert lines == watch.records == seen
    if importlib.util.find_spec("matplotlib"):
        for path in watch.draw(tmp_path):
            assert path.read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="no record"):
        monitor.draw([], tmp_path)
    watch.close()


def test_event_files_go_through_the_writer(tmp_path, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder, **options):
            written.append(("folder", folder))

        def __getattr__(self, name):
            return lambda *args, **kwargs: written.append((name, *args, kwargs))

    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    _, _, step, watch = setup(tensorboard=tmp_path / "events")
    step()
    watch.close()
    assert written[0] == ("folder", str(tmp_path / "events"))
    assert written[-1][0] == "close"
    scalars = {entry[1] for entry in written if entry[0] == "add_scalar"}
    assert {"gradients/total_norm", "norm/0.weight", "update_ratio/2.bias", "dead_relu/1"} <= scalars
    histogram = next(entry[-1] for entry in written if entry[0] == "add_histogram_raw")
    assert sum(histogram["bucket_counts"]) == histogram["num"] == 16 * 8
    assert len(histogram["bucket_limits"]) == len(histogram["bucket_counts"])
    with EventWriter(tmp_path, flush_secs=1) as writer:
        writer.add_scalars("loss", {"train": gg.tensor(1.5, requires_grad=True)}, global_step=gg.tensor(2))
        with pytest.raises(RuntimeError, match="viz"):
            writer.add_graph(nn.ReLU(), gg.ones(1))
    assert written[-2:] == [("add_scalars", "loss", {"train": 1.5}, {"global_step": 2}), ("close", {})]
    assert isinstance(written[-2][2]["train"], np.ndarray)


@pytest.mark.skipif(not importlib.util.find_spec("tensorboardX"), reason="tensorboardX is not installed")
def test_event_files_are_written(tmp_path):
    _, _, step, watch = setup(tensorboard=tmp_path)
    step()
    watch.close()
    (events,) = tmp_path.glob("events.out.tfevents.*")
    assert b"update_ratio/0.weight" in events.read_bytes()


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(TypeError, match="int"):
        GradientMonitor(1)
    with pytest.raises(ValueError, match="no parameters"):
        GradientMonitor(nn.ReLU())
    with pytest.raises(ValueError, match="interval"):
        setup(interval=0)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"gpugrad\[tensorboard\]"):
        setup(tensorboard=tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    _, _, step, watch = setup()
    step()
    with pytest.raises(ImportError, match=r"gpugrad\[plot\]"):
        watch.draw(tmp_path)
    watch.close()
