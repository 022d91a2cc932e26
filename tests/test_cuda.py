"""CUDA devices, real or simulated: ``gg.cuda``, transfers, device guards, memory, and matrix products by cuBLASLt."""

import contextlib
import gc
import itertools
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import close, host

import gpugrad as gg
import gpugrad.nn.functional as F
from gpugrad.backend import cuda, gemm

if not cuda.diagnose().usable:
    pytest.skip(cuda.diagnose().message(), allow_module_level=True)
if not cuda.simulated():
    pytestmark = pytest.mark.gpu

xp = cuda.cupy()
two_devices = pytest.mark.skipif(gg.cuda.device_count() < 2, reason="needs two CUDA devices")


# Devices.


def test_what_devices_are():
    assert gg.cuda.is_available()
    assert gg.cuda.current_device() == 0
    properties = gg.cuda.get_device_properties(0)
    assert properties.name == gg.cuda.get_device_name("cuda:0")
    assert gg.cuda.get_device_capability() == (properties.major, properties.minor)
    free, total = gg.cuda.mem_get_info()
    assert 0 < free <= total
    assert total == pytest.approx(properties.total_memory, rel=0.05)
    gg.cuda.synchronize()
    for wrong in ("cuda:99", 99):
        with pytest.raises(RuntimeError, match="invalid device"):
            gg.cuda.get_device_name(wrong)
    with pytest.raises(ValueError, match="Expected a cuda device"):
        gg.cuda.set_device("cpu")


@two_devices
def test_the_current_device_is_where_things_are_made():
    with gg.cuda.device(1):
        assert gg.cuda.current_device() == 1
        assert gg.zeros(2, device="cuda").device == gg.device("cuda", 1)
        with gg.cuda.device(None), gg.cuda.device(-1):
            assert gg.cuda.current_device() == 1
    assert gg.cuda.current_device() == 0
    gg.cuda.set_device("cuda:1")
    try:
        assert gg.zeros(2).cuda().device.index == 1
    finally:
        gg.cuda.set_device(0)
    with gg.cuda.device_of(gg.zeros(2, device="cuda:1")):
        assert gg.cuda.current_device() == 1


@two_devices
def test_work_runs_on_the_device_of_its_operands():
    x = gg.tensor([[1.0, 2.0], [3.0, 4.0]], device="cuda:1", requires_grad=True)
    w = gg.ones(2, 2, device="cuda:1", requires_grad=True)
    out = gg.nn.functional.gelu(x @ w + 1).softmax(-1).log().sum()
    out.backward()
    assert {t.device.index for t in (out, x.grad, w.grad)} == {1}
    assert gg.cuda.current_device() == 0
    (second,) = gg.autograd.grad((x * x * x).sum(), x, create_graph=True)
    second.sum().backward()
    assert x.grad.device.index == 1


@two_devices
def test_gradients_cross_devices():
    x = gg.tensor([1.0, 2.0], device="cuda:0", requires_grad=True)
    moved = (x * 2).to("cuda:1")
    ((moved * moved).sum() + (moved * 3).sum()).backward()
    assert x.grad.device.index == 0
    close(x.grad, [14.0, 22.0])
    y = gg.tensor([1.0, 2.0], requires_grad=True)
    (y.to("cuda:1") ** 2).sum().backward()
    assert y.grad.device.type == "cpu"
    close(y.grad, [2.0, 4.0])


@two_devices
def test_copies_between_devices_wait_for_the_streams_of_both():
    there, here = gg.cuda.Stream("cuda:0"), gg.cuda.Stream("cuda:1")
    with gg.cuda.stream(there), gg.cuda.stream(here):
        x = gg.arange(10000, device="cuda:0").float()
        moved = x.to("cuda:1")
        x += 1
        close(moved * 2, np.arange(10000) * 2.0)


@two_devices
def test_kernels_run_on_the_device_of_their_operands():
    found = []
    for device in ("cpu", "cuda:1"):
        gg.manual_seed(0)
        images, words = gg.randn(2, 3, 8, 8).to(device), gg.randn(2, 5, 4).to(device)
        model = gg.nn.Sequential(gg.nn.Conv2d(3, 4, 3, padding=1), gg.nn.ReLU(), gg.nn.MaxPool2d(2)).to(device)
        attended = gg.nn.functional.scaled_dot_product_attention(words, words, words, is_causal=True)
        (model(images).sum() + attended.sum()).backward()
        gg.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        gg.optim.SGD(model.parameters(), lr=0.1).step()
        assert attended.device == images.device == model[0].weight.grad.device
        found.append([host(t) for t in (attended, *model.parameters())])
    for a, b in zip(*found, strict=True):
        close(b, a, 1e-5, 1e-6)


@two_devices
@pytest.mark.parametrize("kind", [gg.optim.SGD, gg.optim.Adam, gg.optim.RMSprop])
def test_optimizers_step_on_the_device_of_their_parameters(kind):
    weights = []
    for device in ("cpu", "cuda:1"):
        gg.manual_seed(0)
        model = gg.nn.Linear(3, 2).to(device)
        optimizer = kind(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            (model(gg.ones(4, 3, device=device)) ** 2).mean().backward()
            optimizer.step()
        weights.append(model.weight)
    close(weights[1], weights[0], 1e-5, 1e-6)


@pytest.mark.parametrize("other", ["cpu", pytest.param("cuda:1", marks=two_devices)])
def test_tensors_of_two_devices_are_not_mixed(other):
    with pytest.raises(RuntimeError, match=f"found at least two devices, cuda:0 and {other}"):
        gg.ones(2, device="cuda:0") + gg.ones(2, device=other)


def test_the_current_device_belongs_to_the_thread():
    seen = []
    with gg.cuda.device(gg.cuda.device_count() - 1):
        thread = threading.Thread(target=lambda: seen.append(gg.cuda.current_device()))
        thread.start()
        thread.join()
    assert seen == [0]


def test_transfers_keep_values_and_order():
    x = gg.arange(6).reshape(2, 3).t()
    there = x.to("cuda", non_blocking=True)
    assert there.device.type == "cuda"
    close(there.cpu(), x)
    close(x.cuda().to("cpu", gg.float32), x)
    assert there.cuda() is there
    with pytest.raises(TypeError):
        np.asarray(there._data)


def test_pinned_memory(monkeypatch):
    x = gg.arange(6.0).reshape(2, 3)
    assert not x.is_pinned()
    pinned = x.pin_memory()
    assert pinned.is_pinned()
    assert pinned.pin_memory() is pinned
    assert pinned[1:, ::2].is_pinned()
    assert not (pinned + 1).is_pinned()
    close(pinned, x, 0, 0)
    pinned += 1
    close(pinned - x, gg.ones(2, 3))
    for made in (gg.tensor([1], pin_memory=True), gg.zeros(2, pin_memory=True), gg.randn(3, pin_memory=True)):
        assert made.is_pinned()
    assert gg.zeros(0, 3).pin_memory().shape == (0, 3)
    there = pinned.cuda()
    assert not there.is_pinned()
    for wrong in (there.pin_memory, lambda: gg.ones(2, device="cuda", pin_memory=True)):
        with pytest.raises(RuntimeError, match="only dense CPU tensors can be pinned"):
            wrong()
    w = gg.ones(2, 3, requires_grad=True)
    (w.pin_memory() * 3).sum().backward()
    close(w.grad, gg.full((2, 3), 3.0))
    monkeypatch.setattr(cuda, "diagnose", lambda: cuda.Diagnosis(False, reason="there is no driver"))
    assert not pinned.is_pinned()
    with pytest.raises(RuntimeError, match="there is no driver"):
        x.pin_memory()


def test_copies_that_are_only_begun():
    x = gg.arange(6.0).reshape(2, 3)
    pinned = x.pin_memory()
    there = pinned.to("cuda", non_blocking=True)
    other = pinned.cuda(non_blocking=True) + there.copy_(pinned * 2, non_blocking=True)
    back, halves = other.to("cpu", non_blocking=True), other.to("cpu", gg.float16, non_blocking=True)
    into = gg.empty(2, 3, pin_memory=True)
    assert into.copy_(there, non_blocking=True) is into
    gg.cuda.synchronize()
    close([back, halves, into], [x * 3, x * 3, x * 2])
    assert halves.dtype == gg.float16
    assert back.is_pinned()
    assert halves.is_pinned()
    assert not other.cpu().is_pinned()
    module = gg.nn.Linear(2, 2).to("cuda", non_blocking=True)
    assert module.weight.is_cuda


@pytest.mark.parametrize("non_blocking", [False, True])
def test_copies_into_tensors_on_the_host(non_blocking):
    source = gg.arange(6.0, device="cuda").reshape(2, 3)
    pinned, pageable, apart = gg.zeros(2, 3, pin_memory=True), gg.zeros(2, 3), gg.zeros(3, 2)
    for into in (pinned, pageable, apart.t(), gg.zeros(2, 3, dtype=gg.int64, pin_memory=True)):
        into.copy_(source, non_blocking)
        gg.cuda.synchronize()
        close(into, source)
    close(apart, source.t())
    close(
        gg.zeros(4, 3, pin_memory=True).copy_(source[1], non_blocking), [[3, 4, 5]] * 4
    )  # broadcast, so not begun only
    w, kept = gg.ones(3, requires_grad=True), gg.zeros(3, pin_memory=True)
    kept.copy_(w.cuda() * 2, non_blocking)
    (kept * kept).sum().backward()
    close(w.grad, [8.0] * 3)
    product = pinned * w.detach().requires_grad_()
    pinned.copy_(source, non_blocking)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()


def simulated_only():
    if not cuda.simulated():
        pytest.skip("looks into the simulator")
    from gpugrad.backend.simulator import memory, runtime

    return memory, runtime


def test_page_locked_memory_lives_as_long_as_it_is_copied(monkeypatch):
    memory, runtime = simulated_only()
    monkeypatch.setattr(runtime.Event, "done", False)
    before = len(memory.PINNED)
    device = gg.ones(3, device="cuda")
    gg.ones(3).pin_memory().to("cuda", non_blocking=True)
    device.to("cpu", non_blocking=True)
    gg.empty(3, pin_memory=True).copy_(device, non_blocking=True)
    assert len(memory.PINNED) == before + 3
    monkeypatch.undo()
    assert gg.ones(2).pin_memory().is_pinned()  # whoever asks for more gives back what is done
    assert len(memory.PINNED) == before


def test_only_what_cannot_change_meanwhile_is_not_waited_for(monkeypatch):
    simulated_only()
    seen = []
    plain = xp.asarray, xp.ndarray.get
    monkeypatch.setattr(
        xp, "asarray", lambda a, **how: (seen.append(how.get("blocking", False)), plain[0](a, **how))[1]
    )
    monkeypatch.setattr(
        xp.ndarray, "get", lambda a, **how: (seen.append(how.get("blocking", True)), plain[1](a, **how))[1]
    )
    pinned, pageable, device = gg.ones(2).pin_memory(), gg.ones(2), gg.ones(2, device="cuda")
    rows = gg.ones(3, 2).pin_memory()
    for move, waits in [
        (lambda: pageable.cuda(), False),  # CuPy takes a copy of it first
        (lambda: pinned.cuda(), True),
        (lambda: pinned.cuda(non_blocking=True), False),
        (lambda: pinned.to("cuda", None, True), False),
        (lambda: device.copy_(pinned), True),
        (lambda: device.copy_(pinned, non_blocking=True), False),
        (lambda: device.cpu(), True),
        (lambda: device.to("cpu", non_blocking=True), False),
        (lambda: pinned.copy_(device), True),
        (lambda: pinned.copy_(device, non_blocking=True), False),
        (lambda: pageable.copy_(device, non_blocking=True), True),
        (lambda: rows.copy_(device, non_blocking=True), True),  # which the host then reads
    ]:
        seen.clear()
        move()
        assert seen == [waits]


@two_devices
def test_copies_to_the_host_are_in_the_stream_of_their_device(monkeypatch):
    plain, seen = xp.ndarray.get, []
    monkeypatch.setattr(
        xp.ndarray, "get", lambda a, **how: (seen.append(xp.cuda.runtime.getDevice()), plain(a, **how))[1]
    )
    x = gg.ones(2, device="cuda:1")
    assert x.cpu().tolist() == x.tolist() == [1, 1]
    assert seen == [1, 1]


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_pin_their_batches(workers):
    data = [{"x": gg.tensor([k, k + 0.5]), "name": str(k)} for k in range(5)]
    batches = list(gg.utils.data.DataLoader(data, 2, num_workers=workers, pin_memory=True))
    assert [batch["name"] for batch in batches] == [["0", "1"], ["2", "3"], ["4"]]
    for k, batch in enumerate(batches):
        assert batch["x"].is_pinned()
        assert batch["x"][0].tolist() == [2 * k, 2 * k + 0.5]
    [batch] = gg.utils.data.DataLoader(data, 5, pin_memory=True, collate_fn=Pinnable)
    assert batch.pinned

    class Numbers(gg.utils.data.IterableDataset):
        def __iter__(self):
            return iter([(1, 2.0), (3, 4.0)])

    for ints, floats in gg.utils.data.DataLoader(Numbers(), num_workers=workers, pin_memory=True):
        assert ints.is_pinned()
        assert floats.is_pinned()
    elsewhere = gg.utils.data.TensorDataset(gg.ones(2, device="cuda"))
    with pytest.raises(RuntimeError, match="only dense CPU tensors"):
        list(gg.utils.data.DataLoader(elsewhere, 2, num_workers=workers, pin_memory=True))


class Pinnable(list):
    pinned = False

    def pin_memory(self):
        self.pinned = True
        return self


# Memory.


def test_memory_is_counted():
    gg.cuda.empty_cache()
    before = gg.cuda.memory_allocated()
    gg.cuda.reset_peak_memory_stats()
    x = gg.zeros(1000, 1000, device="cuda")
    assert gg.cuda.memory_allocated() - before == 4_000_256  # whole blocks of 512 bytes
    y = x + 1
    del x, y
    assert gg.cuda.memory_allocated() == before
    assert gg.cuda.max_memory_allocated() - before >= 8_000_000
    assert gg.cuda.memory_reserved() - before >= 8_000_000
    gg.cuda.empty_cache()
    assert gg.cuda.memory_reserved() - before < 4_000_000
    gg.cuda.reset_max_memory_allocated()
    assert gg.cuda.max_memory_allocated() == gg.cuda.memory_allocated()
    summary = gg.cuda.memory_summary("cuda:0", abbreviated=True)
    assert "device 0" in summary
    assert f"{gg.cuda.mem_get_info()[1] / 2**20:,.1f} MiB" in summary


def test_the_memory_held_at_most_and_statistics():
    gg.cuda.empty_cache()
    gg.cuda.reset_peak_memory_stats()
    before = gg.cuda.memory_reserved()
    x = gg.zeros(1000, 1000, device="cuda")
    del x
    gg.cuda.empty_cache()
    assert gg.cuda.max_memory_reserved() - before >= 4_000_000 > gg.cuda.memory_reserved() - before
    stats = gg.cuda.memory_stats("cuda")
    assert stats["allocated_bytes.all.current"] == gg.cuda.memory_allocated()
    assert stats["allocated_bytes.all.peak"] == gg.cuda.max_memory_allocated()
    assert stats["reserved_bytes.all.current"] == gg.cuda.memory_reserved()
    assert stats["reserved_bytes.all.peak"] == gg.cuda.max_memory_reserved()
    gg.cuda.reset_peak_memory_stats()
    assert gg.cuda.max_memory_reserved() == gg.cuda.memory_reserved()


def test_the_state_of_the_generator():
    gg.cuda.manual_seed(3)
    assert gg.cuda.initial_seed() == 3
    state, states = gg.cuda.get_rng_state(), gg.cuda.get_rng_state_all()
    assert len(states) == gg.cuda.device_count()
    first = gg.rand(3, device="cuda").tolist()
    gg.cuda.set_rng_state(state, "cuda:0")
    assert gg.rand(3, device="cuda").tolist() == first
    gg.cuda.set_rng_state_all(states)
    assert gg.rand(3, device="cuda").tolist() == first
    for seed in (gg.cuda.seed, gg.cuda.seed_all):
        seed()
        assert gg.cuda.initial_seed() != 3
    gg.manual_seed(0)


def test_the_stream_may_be_set():
    before, side = gg.cuda.current_stream(), gg.cuda.Stream()
    try:
        gg.cuda.set_stream(side)
        assert gg.cuda.current_stream() == side
        gg.cuda.set_stream(None)
        assert gg.cuda.current_stream() == side
        x = gg.ones(3, device="cuda") * 2
    finally:
        gg.cuda.set_stream(before)
    assert gg.cuda.current_stream() == before
    side.synchronize()
    assert x.tolist() == [2.0] * 3
    with gg.cuda.StreamContext(side), gg.cuda.stream(None):
        assert gg.cuda.current_stream() == side
    assert gg.cuda.current_stream() == before


# Graphs.


def test_a_recorded_training_step_is_the_step():
    results = []
    for recorded in (False, True):
        gg.manual_seed(0)
        model = gg.nn.Sequential(gg.nn.Linear(4, 8), gg.nn.Dropout(0.3), gg.nn.GELU(), gg.nn.Linear(8, 2)).to("cuda")
        optimizer = gg.optim.Adam(model.parameters(), 0.05)
        batches = [(gg.randn(6, 4).cuda(), gg.randn(6, 2).cuda()) for _ in range(8)]
        x, y = (t.clone() for t in batches[0])
        losses = []

        def step(model=model, optimizer=optimizer, x=x, y=y):
            optimizer.zero_grad(set_to_none=True)
            loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        side = gg.cuda.Stream()
        side.wait_stream(gg.cuda.current_stream())
        with gg.cuda.stream(side):
            for _ in range(3):
                step()
        gg.cuda.current_stream().wait_stream(side)
        graph = gg.cuda.CUDAGraph()
        if recorded:
            with gg.cuda.graph(graph):
                loss = step()
        for k, batch in enumerate(batches):
            x.copy_(batch[0])
            y.copy_(batch[1])
            optimizer.param_groups[0]["lr"] = 0.05 / (k + 1)
            if recorded:
                graph.replay()
            else:
                loss = step()
            losses.append(loss.item())
        results.append(
            (losses, [p.tolist() for p in model.parameters()], [p.grad.tolist() for p in model.parameters()])
        )
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-6)
    for a, b in zip(*(result[1] + result[2] for result in results), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    optimizer.param_groups[0]["eps"] = 0.1
    with pytest.raises(RuntimeError, match="capture it anew"):
        graph.replay()


def test_what_a_graph_cannot_do():
    graph, x = gg.cuda.CUDAGraph(), gg.ones(2, device="cuda")
    for action in (graph.replay, graph.capture_end):
        with pytest.raises(RuntimeError, match="capture"):
            action()
    with pytest.raises(RuntimeError, match=r"item .*x.sum\(\).item\(\)"), gg.cuda.graph(graph):
        x.sum().item()
    graph.capture_begin(pool=graph.pool())
    y = x * 2 + 1
    with pytest.raises(RuntimeError, match="preceding"):
        graph.replay()
    graph.capture_end()
    with pytest.raises(RuntimeError, match="already"):
        graph.capture_begin()
    x.fill_(5)
    graph.replay()
    assert y.tolist() == [11.0] * 2
    graph.reset()
    with pytest.raises(RuntimeError, match="preceding"):
        graph.replay()


def test_the_peak_is_counted_from_the_start():
    code = (
        "import gpugrad as gg; gg.zeros(1000, 1000, device='cuda'); x = gg.ones(100, device='cuda'); "
        "print(gg.cuda.max_memory_allocated(), gg.cuda.memory_allocated())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["4000256", "512"]


def test_the_memory_of_captured_graphs_is_counted():
    x = gg.zeros(1000, 1000, device="cuda")
    scale = gg.ones(1000, device="cuda")
    step = gg.compile(lambda scale: (x * scale).sum(0).exp(), warmup=1)
    step(scale)
    gg.cuda.synchronize()
    gc.collect()  # capturing does, and graphs of earlier tests may be among the garbage
    allocated, reserved = gg.cuda.memory_allocated(), gg.cuda.memory_reserved()
    step(scale)
    kept, held = gg.cuda.memory_allocated() - allocated, gg.cuda.memory_reserved() - reserved
    assert 0 < kept < 100_000
    assert held >= kept
    gg.cuda.reset_peak_memory_stats()
    level = gg.cuda.memory_allocated()
    for _ in range(2):
        y = gg.zeros(1000, 1000, device="cuda")
        assert gg.cuda.max_memory_allocated() == level + 4_000_256
        del y
    del step  # and with it memory that counted: less is in use, and more can be before there is a new peak
    y = gg.zeros(1000, 1000, device="cuda")
    assert gg.cuda.max_memory_allocated() == level + 4_000_256
    z = gg.zeros(1000, 1000, device="cuda")
    assert gg.cuda.max_memory_allocated() == gg.cuda.memory_allocated() > level + 8_000_000 - kept
    del y, z
    if gg.cuda.device_count() > 1:
        before = gg.cuda.max_memory_allocated(0)
        gg.zeros(4000, 1000, device="cuda:1")
        assert gg.cuda.max_memory_allocated(1) >= 16_000_000
        assert gg.cuda.max_memory_allocated(0) == before


def test_running_out_of_memory_says_what_was_asked_for():
    total = gg.cuda.mem_get_info()[1]
    with pytest.raises(
        gg.cuda.OutOfMemoryError, match=r"CUDA out of memory. Tried to allocate .* GiB. GPU 0 has a total"
    ):
        gg.empty(total // 2, device="cuda")
    assert issubclass(gg.cuda.OutOfMemoryError, RuntimeError)
    gg.cuda.empty_cache()
    x = gg.ones(1 << 20, device="cuda", requires_grad=True)
    gg.cuda.empty_cache()  # else there may be room in what is kept
    try:
        gg.cuda.set_per_process_memory_fraction((gg.cuda.memory_reserved() + (1 << 20)) / total)
        with pytest.raises(gg.cuda.OutOfMemoryError, match="limited to"):
            x * 2
    finally:
        gg.cuda.set_per_process_memory_fraction(0)
    with pytest.raises(ValueError, match="Allowed range"):
        gg.cuda.set_per_process_memory_fraction(2)
    close((x * 2).sum(), 2 << 20)


# Streams.


def test_streams_and_events():
    stream, start, end = gg.cuda.Stream(), gg.cuda.Event(enable_timing=True), gg.cuda.Event(enable_timing=True)
    assert gg.cuda.current_stream() == gg.cuda.default_stream() != stream
    with gg.cuda.stream(stream):
        assert gg.cuda.current_stream() == stream
        start.record()
        x = gg.ones(1000, device="cuda") * 2
        end.record()
        assert not gg.cuda.is_current_stream_capturing()
    with gg.cuda.stream(None):
        gg.cuda.current_stream().wait_stream(stream)
        gg.cuda.current_stream().wait_event(end)
        end.wait()
    stream.synchronize()
    end.synchronize()
    assert stream.query()
    assert end.query()
    assert start.elapsed_time(end) >= 0
    close(x.sum(), 2000)
    assert len({stream, gg.cuda.Stream()}) == 2


def test_memory_that_another_stream_works_with_is_kept_until_it_is_done(monkeypatch):
    gg.cuda.synchronize()
    gg.cuda.empty_cache()
    before, side = gg.cuda.memory_allocated(), gg.cuda.Stream()
    x = gg.zeros(1000, 1000, device="cuda")
    x.record_stream(side)
    row = x[3]
    row.record_stream(gg.cuda.current_stream())
    del x
    side.synchronize()
    gg.zeros(1, device="cuda")
    assert gg.cuda.memory_allocated() - before == 4_000_256  # a view is left
    if cuda.simulated():
        with monkeypatch.context() as patch:
            patch.setattr(xp.cuda.Event, "done", False)
            del row
            for _ in range(2):
                gg.zeros(1, device="cuda")
                assert gg.cuda.memory_allocated() - before == 4_000_256
    else:
        del row
        gg.cuda.empty_cache()
    gg.cuda.synchronize()
    gg.zeros(1, device="cuda")
    assert gg.cuda.memory_allocated() == before
    # Captured work has memory and stream for itself.
    step = gg.compile(lambda x: (x * 2).record_stream(gg.cuda.current_stream()) or x + 1, warmup=1)
    assert [float(step(gg.ones((), device="cuda"))) for _ in range(3)] == [2.0] * 3


def test_streams_of_what_does_not_fit():
    with pytest.raises(NotImplementedError, match="on a CUDA device, but this one is on cpu"):
        gg.ones(2).record_stream(gg.cuda.Stream())
    with pytest.raises(TypeError, match="Stream, but got int"):
        gg.ones(2, device="cuda").record_stream(0)
    if gg.cuda.device_count() > 1:
        with pytest.raises(ValueError, match="is on cuda:0, but the stream on cuda:1"):
            gg.ones(2, device="cuda").record_stream(gg.cuda.Stream("cuda:1"))


@two_devices
def test_a_stream_brings_its_device():
    with gg.cuda.Stream("cuda:1") as stream:
        assert gg.cuda.current_device() == 1
        assert stream.device.index == 1
    assert gg.cuda.current_device() == 0


# Matrix products.


def layouts(array):
    """The same matrices in device memory in every layout that products meet."""
    straight = xp.asarray(array)
    yield straight
    if array.ndim < 2:
        yield xp.asarray(np.repeat(array, 2))[::2]
        return
    yield xp.asarray(np.ascontiguousarray(array.swapaxes(-1, -2))).swapaxes(-1, -2)
    yield xp.asarray(np.repeat(np.repeat(array, 2, -1), 2, -2))[..., ::2, ::2]
    yield xp.asarray(np.ascontiguousarray(array[..., ::-1]))[..., ::-1]
    wider = xp.zeros((*array.shape[:-1], array.shape[-1] + 3), array.dtype)
    wider[..., 1:-2] = straight
    yield wider[..., 1:-2]


SHAPES = [
    ((3, 4), (4, 5)),
    ((1, 4), (4, 1)),
    ((1, 1), (1, 1)),
    ((5, 1), (1, 7)),
    ((4,), (4,)),
    ((4,), (4, 3)),
    ((2, 4), (4,)),
    ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (3, 4, 2)),
    ((3, 2, 2), (1, 2, 2)),
    ((4,), (2, 4, 3)),
    ((2, 3, 4), (4,)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 2)),
    ((0, 2, 3), (3, 4)),
]
TOLERANCE = {"float16": 2e-2, "float32": 1e-5, "float64": 1e-12}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("left", "right"), SHAPES, ids=str)
def test_products_of_every_layout(left, right, dtype):
    draw = np.random.default_rng(0)
    a, b = draw.uniform(-1, 1, left).astype(dtype), draw.uniform(-1, 1, right).astype(dtype)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    for x, y in itertools.product(layouts(a), layouts(b)):
        before = host(x).copy(), host(y).copy()
        out = gemm.matmul(x, y)
        assert out.dtype == dtype
        assert out.flags.c_contiguous
        close(out, expected, TOLERANCE[dtype], TOLERANCE[dtype])
        close((x, y), before, 0, 0)


def test_products_into_given_memory():
    a, b = xp.arange(6.0).reshape(2, 3), xp.arange(12.0).reshape(3, 4)
    for out in (xp.empty((2, 4)), xp.empty((4, 2)).T, xp.empty((2, 8))[:, ::2]):
        assert gemm.matmul(a, b, out) is out
        close(out, host(a) @ host(b))


def test_products_that_do_not_fit():
    for left, right in [((2, 3), (2, 3)), ((3,), (2,)), ((2, 3, 4), (3, 4, 5)), ((), (3,))]:
        with pytest.raises(ValueError, match=r"shape|dimension|inner"):
            gemm.matmul(xp.zeros(left), xp.zeros(right))


def test_products_of_integers():
    x = xp.arange(6).reshape(2, 3)
    close(gemm.matmul(x, x.T), host(x) @ host(x).T, 0, 0)


def _gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


EPILOGUES = {"": lambda x: x, "relu": lambda x: np.maximum(x, 0), "gelu": _gelu}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", EPILOGUES)
@pytest.mark.parametrize("biased", [False, True])
def test_bias_and_activation(dtype, activation, biased):
    draw = np.random.default_rng(1)
    a, b, bias = (draw.uniform(-1, 1, shape).astype(dtype) for shape in [(6, 8), (8, 16), (16,)])
    out = gemm.matmul(xp.asarray(a), xp.asarray(b), bias=xp.asarray(bias) if biased else None, activation=activation)
    plain = a.astype(np.float64) @ b.astype(np.float64) + (bias.astype(np.float64) if biased else 0)
    close(out, EPILOGUES[activation](plain), TOLERANCE[dtype], TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_sums_of_the_left_operand(dtype):
    draw = np.random.default_rng(2)
    gradient, x = draw.uniform(-1, 1, (8, 4)).astype(dtype), draw.uniform(-1, 1, (8, 16)).astype(dtype)
    sums = xp.empty(4, dtype)
    out = gemm.matmul(xp.asarray(gradient).T, xp.asarray(x), sums=sums)
    close(out, gradient.T.astype("f8") @ x.astype("f8"), TOLERANCE[dtype], TOLERANCE[dtype])
    close(sums, gradient.astype("f8").sum(0), TOLERANCE[dtype], TOLERANCE[dtype])


def test_empty_products_still_have_their_bias():
    out = gemm.matmul(xp.zeros((2, 0)), xp.zeros((0, 3)), bias=xp.arange(3.0) - 1, activation="relu")
    close(out, [[0, 0, 1]] * 2)


def test_the_older_constructors():
    made = gg.cuda.FloatTensor([1, 2])
    assert made.is_cuda
    assert isinstance(made, gg.cuda.FloatTensor)
    assert not isinstance(made, gg.FloatTensor)
    assert made.type() == "gpugrad.cuda.FloatTensor"
    for dtype in (gg.cuda.LongTensor, "torch.cuda.LongTensor"):
        assert isinstance(gg.ones(2).type(dtype), gg.cuda.LongTensor)
    for dtype in (gg.LongTensor, made.long().cpu().type()):
        assert isinstance(made.type(dtype), gg.LongTensor)
    assert gg.cuda.is_bf16_supported()


def test_old_constructors_as_types_move_tensors_too():
    x = gg.ones(2, dtype=gg.float64, requires_grad=True)
    there = x.type(gg.cuda.FloatTensor)
    assert (there.device.type, there.dtype) == ("cuda", gg.float32)
    assert there.type(gg.cuda.FloatTensor) is there
    assert there.type(gg.float64).is_cuda
    back = there.type("torch.FloatTensor")
    assert back.device.type == "cpu"
    assert gg.ones(2).type("gpugrad.cuda.LongTensor").is_cuda
    back.sum().backward()
    assert x.grad.tolist() == [1, 1]


def test_what_was_moved_once_can_be_used_for_many_backward_passes():
    leaf = gg.ones(2, dtype=gg.float64, requires_grad=True)
    moved = leaf.float().to("cuda")
    for _ in range(3):
        (moved * 2).sum().backward()
    assert leaf.grad.tolist() == [6, 6]
    assert leaf.grad.device.type == "cpu"
    (first,) = gg.autograd.grad((moved**2).sum(), leaf, create_graph=True)
    assert gg.autograd.grad(first.sum(), leaf)[0].tolist() == [2, 2]


def test_tf32_is_a_switch():
    a = np.random.default_rng(3).uniform(-1, 1, (64, 64)).astype(np.float32)
    exact = a.astype(np.float64) @ a

    def error():
        return np.abs(host(gemm.matmul(xp.asarray(a), xp.asarray(a))) - exact).max()

    assert not gg.backends.cuda.matmul.allow_tf32
    assert error() < 1e-5
    gg.backends.cuda.matmul.allow_tf32 = True
    try:
        assert 1e-5 < error() < 3e-2
    finally:
        gg.backends.cuda.matmul.allow_tf32 = False


def test_products_can_be_captured():
    stream = xp.cuda.Stream(non_blocking=True)
    with stream:
        a, b = xp.ones((4, 4), np.float32), xp.full((4, 4), 2, np.float32)
        gemm.matmul(a, b)
        stream.begin_capture()
        out = gemm.matmul(a, b)
        b += 1
        graph = stream.end_capture()
        for factor in (2, 3, 4):
            graph.launch()
            stream.synchronize()
            close(out, np.full((4, 4), 4 * factor))


@pytest.mark.parametrize("epilogue", [False, True])
def test_what_cublaslt_does_not_support_is_left_to_cupy(epilogue, monkeypatch):
    a, b = xp.arange(6.0, dtype=np.float32).reshape(2, 3), xp.arange(15.0, dtype=np.float32).reshape(3, 5) - 7
    bias = xp.arange(5.0, dtype=np.float32) if epilogue else None
    monkeypatch.setattr(gemm, "_plan", lambda problem: SimpleNamespace(supported=False))
    out = gemm.matmul(a, b, bias=bias, activation="relu" if epilogue else "")
    expected = host(a) @ host(b)
    close(out, np.maximum(expected + np.arange(5), 0) if epilogue else expected)


def test_nothing_is_written_into_a_dimension_without_elements():
    # CuPy would divide by its size.
    x, index = gg.zeros(0, 4, device="cuda"), gg.tensor([0, 2], device="cuda")
    changes = [
        lambda: x.__setitem__(index, 1.0),
        lambda: (x.clone().requires_grad_() * 1).__setitem__(index, gg.ones(4, device="cuda")),
        lambda: x.index_put_((index,), gg.ones(4, device="cuda")),
        lambda: x.put_(index, gg.ones(2, device="cuda")),
        lambda: x.scatter_(0, gg.tensor([[0, 0]], device="cuda"), 1.0),
    ]
    for change in changes:
        with pytest.raises((IndexError, RuntimeError), match=r"size 0|of 0 elements"):
            change()


def _places(*values):
    return gg.tensor(values, device="cuda")


# What is asked of x (3, 4), with the error.
OUT_OF_RANGE = {
    "reading": (lambda x: x[_places(0, 3)], IndexError, "index 3 is out of bounds"),
    "reading backwards": (lambda x: x[:, _places(-5)], IndexError, "index -5 is out of bounds"),
    "reading ints": (lambda x: x.long()[_places(0, 3)], IndexError, "index 3 is out of bounds for dimension 0"),
    "reading by two": (lambda x: x[_places(2, 0), _places(3, 4)], IndexError, "index 4 is out of bounds"),
    "writing": (lambda x: x.__setitem__((..., _places(9)), 1), IndexError, "index 9 is out of bounds for dimension 1"),
    "index_put": (lambda x: x.index_put((_places(3),), x[0]), IndexError, "index 3 is out of bounds"),
    "adding": (lambda x: x.index_put((_places(3),), x[0], True), IndexError, "index 3 is out of bounds"),
    "gather": (
        lambda x: x.gather(1, _places(0, 4)[None]),
        RuntimeError,
        r"gather\(\): index 4 .* dimension 1 .* size 4",
    ),
    "scatter": (lambda x: x.scatter(0, _places(-1)[None], 1.0), RuntimeError, r"scatter\(\): index -1"),
    "scatter_add": (lambda x: x.scatter_add(0, _places(3)[None], x), RuntimeError, r"scatter_add\(\): index 3"),
    "index_select": (lambda x: x.index_select(0, _places(3)), IndexError, r"index_select\(\): index 3"),
    "index_add": (lambda x: x.index_add(0, _places(-1), x[:1]), IndexError, r"index_add\(\): index -1"),
    "index_fill": (lambda x: x.index_fill(0, _places(3), 1.0), IndexError, r"index_fill\(\): index 3"),
    "take": (lambda x: x.take(_places(3, 12)), IndexError, "index 12 on a tensor of 12 elements"),
    "put": (lambda x: x.put(_places(-13), x[0, :1]), IndexError, "index -13 on a tensor of 12 elements"),
    "embedding": (lambda x: F.embedding(_places(1, 3), x), IndexError, r"embedding\(\): index 3"),
    "embedding of ints": (lambda x: F.embedding(_places(1, -1), x.long()), IndexError, r"embedding\(\): index -1"),
    "one_hot": (lambda x: F.one_hot(_places(1, 3), 3), RuntimeError, r"one_hot\(\): index 3"),
    "cross_entropy": (lambda x: F.cross_entropy(x, _places(0, 1, 4)), IndexError, "Target 4 is out of bounds"),
    "nll_loss": (lambda x: F.nll_loss(x, _places(0, -1, 1)), IndexError, "Target -1 is out of bounds"),
}


@pytest.mark.parametrize("what", OUT_OF_RANGE)
def test_an_index_out_of_range_is_an_error_when_the_host_waits(what):
    call, error, message = OUT_OF_RANGE[what]
    x = gg.arange(12.0, device="cuda").reshape(3, 4)
    call(x)
    with pytest.raises(error, match=f"{message}.*CUDA_LAUNCH_BLOCKING"):
        x.sum().item()
    assert x.shape == (3, 4)
    gg.cuda.synchronize()
    call(x)
    waiting = gg.cuda.Event()
    waiting.record()
    with pytest.raises(error, match=message):
        waiting.synchronize()
    call(x)
    with pytest.raises(error, match=message):
        gg.cuda.current_stream().synchronize()


@pytest.mark.parametrize("what", OUT_OF_RANGE)
def test_where_calls_wait_an_index_out_of_range_is_their_error(what, monkeypatch):
    call, error, message = OUT_OF_RANGE[what]
    x = gg.arange(12.0, device="cuda").reshape(3, 4)
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "1")
    with pytest.raises(error, match=message):
        call(x)


def test_a_captured_step_tells_of_an_index_out_of_range(monkeypatch):
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "1")  # which must not make it wait while it is recorded
    weight = gg.ones(5, 3, device="cuda", requires_grad=True)

    @gg.compile
    def step(index, target):
        weight.grad = None
        loss = F.cross_entropy(F.embedding(index, weight), target)
        loss.backward()
        return loss

    for _ in range(4):
        step(_places(0, 4), _places(0, 2)).item()
    loss = step(_places(0, 4), _places(0, 3))
    with pytest.raises(IndexError, match="Target 3 is out of bounds"):
        loss.item()
    loss = step(_places(0, 5), _places(0, 2))
    with pytest.raises(IndexError, match=r"embedding\(\): index 5"):
        loss.item()
    assert step(_places(0, 4), _places(0, 2)).item() == pytest.approx(np.log(3))


def test_plans_are_made_once():
    a = xp.ones((32, 48), np.float32)
    gemm.matmul(a, a.T)
    count = len(gemm._mine.plans)
    gemm.matmul(xp.zeros((32, 48), np.float32), a.T)
    assert len(gemm._mine.plans) == count


def test_what_cublaslt_calls_invalid_is_left_to_cupy(monkeypatch):
    a = xp.ones((7, 5))
    library = SimpleNamespace(**{name: getattr(gemm._library(), name) for name in gemm._SIGNATURES})
    library.cublasLtMatmulAlgoGetHeuristic = lambda *args: 7
    monkeypatch.setattr(gemm, "_library", lambda: library)
    with pytest.warns(UserWarning, match="refuses .* with status 7"):
        close(gemm.matmul(a, a.T), np.full((7, 7), 5))


def test_a_recording_that_runs_out_of_memory_frees_nothing_of_its_own(monkeypatch):
    """What a recording's pool grows by comes from the device, or from what the default pool keeps."""
    asked, freed = [], []

    class Error(RuntimeError):
        pass

    def memory(size):
        asked.append(size)
        if len(asked) > len(freed) and size < 100:
            raise Error("cudaErrorMemoryAllocation: out of memory")
        return size

    pool = SimpleNamespace(free_all_blocks=lambda: freed.append(True), total_bytes=lambda: 0)
    fake = SimpleNamespace(
        cuda=SimpleNamespace(
            memory=SimpleNamespace(
                Memory=memory, MemoryPointer=lambda mem, offset: (mem, offset), OutOfMemoryError=MemoryError
            ),
            runtime=SimpleNamespace(CUDARuntimeError=Error),
        ),
        get_default_memory_pool=lambda: pool,
    )
    monkeypatch.setattr(cuda, "cupy", lambda: fake)
    assert cuda.allocate(100) == (100, 0)
    assert not freed
    with pytest.raises(MemoryError):
        cuda.allocate(50)
    assert len(freed) == 2


def test_few_plans_are_kept(monkeypatch):
    monkeypatch.setattr(gemm, "_MOST_PLANS", 3)
    for n in range(101, 108):
        close(gemm.matmul(xp.ones((n, n)), xp.ones((n, n))), np.full((n, n), n))
        assert len(gemm._mine.plans) <= 3


def test_every_thread_has_its_own_plans():
    results = []

    def work():
        x = gg.ones(3, 3, device="cuda")
        results.extend(host((x @ x).sum()) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [27.0] * 60


def test_training_follows_the_cpu():
    """The same seed gives the same weights, batches, dropout masks and, to rounding, losses."""
    losses = []
    for device in ("cpu", "cuda"):
        gg.manual_seed(7)
        model = gg.nn.Sequential(
            gg.nn.Linear(12, 32), gg.nn.LayerNorm(32), gg.nn.ReLU(), gg.nn.Dropout(0.2), gg.nn.Linear(32, 5)
        ).to(device)
        optimizer = gg.optim.AdamW(model.parameters(), lr=1e-2)
        x = gg.randn(64, 12, device=device)
        target = gg.randint(0, 5, (64,), device=device)
        found = []
        for _ in range(50):
            rows = gg.randperm(64, device=device)[:16]
            loss = gg.nn.functional.cross_entropy(model(x[rows]), target[rows])
            optimizer.zero_grad()
            loss.backward()
            gg.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            found.append(loss.item())
        losses.append(found)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    assert losses[0][-1] < losses[0][0]


def test_save_on_cpu_moves_what_is_saved_and_back():
    gg.manual_seed(0)
    model = gg.nn.Sequential(gg.nn.Linear(8, 16), gg.nn.GELU(), gg.nn.Dropout(0.5), gg.nn.LayerNorm(16)).cuda()
    save_on_cpu = gg.autograd.graph.save_on_cpu
    found, held = [], []
    for context in (contextlib.nullcontext(), save_on_cpu(), save_on_cpu(pin_memory=True)):
        gg.manual_seed(1)
        x = gg.randn(512, 8, device="cuda", requires_grad=True)
        before = gg.cuda.memory_allocated()
        with context:
            y = model(x)
        held.append(gg.cuda.memory_allocated() - before)
        found.append(gg.autograd.grad(y.square().sum(), [x, *model.parameters()]))
        del x, y
    assert max(held[1:]) <= held[0] / 3, held
    close(found[1], found[0], 0, 0)
    close(found[2], found[0], 0, 0)
