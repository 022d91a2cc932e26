"""What the CPU does with large arrays: parts that stay in cache, masks as bits, sums in groups; and no warnings."""

import threading
import time
import weakref

import numpy as np
import pytest
from helpers import close, gradients, recorded

import gpugrad as gg
from gpugrad.backend import blas, cpu
from gpugrad.backend.quiet import quiet
from gpugrad.ops import banded, elementwise


def test_parts_compute_what_the_whole_does(case, monkeypatch):
    inputs = case.inputs()
    outs = case.run(inputs)
    found = gradients(outs, inputs) if recorded(outs) else []
    monkeypatch.setattr(cpu, "BLOCK", 4)
    monkeypatch.setattr(cpu, "WHOLE", 4)
    monkeypatch.setattr(elementwise, "BRANCHES", 0)
    parts = case.run(inputs)
    close(parts, outs, 1e-12, 1e-14)
    if recorded(parts):
        close(gradients(parts, inputs), found, 1e-12, 1e-14)


test_parts_compute_what_the_whole_does.on_cuda = False


@pytest.mark.parametrize("dtype", ["bool", "uint8", "float16", "int32", "float32", "float64"])
@pytest.mark.parametrize("shape", [(3000,), (50, 60)])
def test_where_and_masks_of_every_size_of_element(dtype, shape):
    draw = np.random.default_rng(0)
    a, b = (draw.integers(0, 2, shape).astype(dtype) for _ in range(2))
    mask = draw.random(shape) < 0.5
    tensors = gg.tensor(mask), gg.tensor(a), gg.tensor(b)
    assert np.array_equal(gg.where(*tensors).numpy(), np.where(mask, a, b))
    assert np.array_equal(gg.where(tensors[0][:1], *tensors[1:]).numpy(), np.where(mask[:1], a, b))
    assert np.array_equal(tensors[1].masked_fill(tensors[0], 1).numpy(), np.where(mask, np.ones((), dtype), a))


@pytest.mark.parametrize(
    ("shape", "dim"),
    [
        ((5000,), None),
        ((40_000, 3), 0),
        ((3, 3000, 5), 1),
        ((900, 4, 30), (0, 2)),
        ((700, 500), None),
        ((2000, 20), (0, 1)),
    ],
)
@pytest.mark.parametrize("keepdim", [False, True])
def test_sums_are_as_accurate_as_pairwise_ones(shape, dim, keepdim):
    x = np.random.default_rng(0).uniform(0.5, 1.5, shape).astype(np.float32)
    axes = tuple(range(len(shape))) if dim is None else dim
    exact = x.astype(np.float64).sum(axis=axes, keepdims=keepdim)
    for array in (x, np.asfortranarray(x)):
        for name, scale in (("sum", 1), ("mean", exact.size / x.size)):
            found = getattr(gg, name)(gg.tensor(array), axes, keepdim)
            assert found.dtype == gg.float32
            assert found.shape == exact.shape
            np.testing.assert_allclose(found.numpy(), exact * scale, rtol=5e-7)


def test_float16_sums_do_not_overflow_or_stall():
    x = gg.full((60_000,), 2.0, dtype=gg.float16)
    assert x.mean().item() == 2.0
    assert x.sum().item() == np.inf
    assert (x / 1000).sum().item() == pytest.approx(120, rel=1e-3)


@pytest.mark.filterwarnings("error")
def test_infinities_and_nan_are_no_reason_to_warn():
    x = gg.tensor([0.0, -1.0, 1e30, -1e30, 1e4, -1e4, gg.inf, -gg.inf, gg.nan], requires_grad=True)
    for out in (x.exp(), x.log(), x * x, x / 0, x.sqrt(), x.sigmoid(), x - x, x**-2, gg.nn.functional.silu(x), x.std()):
        out.sum().backward()
    for dtype in (gg.float16, gg.int64):
        assert x.detach().to(dtype).dtype == dtype


def test_users_keep_their_own_numpy_settings():
    with quiet():
        gg.tensor([1.0]) / 0
    with np.errstate(divide="raise"):
        gg.tensor([1.0]) / 0
        with pytest.raises(FloatingPointError):
            np.ones(1) / 0
    with pytest.warns(RuntimeWarning, match="divide"):
        np.ones(1) / 0


@pytest.fixture
def two_threads():
    before = gg.get_num_threads()
    gg.set_num_threads(2)
    yield
    gg.set_num_threads(before)


@pytest.fixture
def watch(monkeypatch):
    watch = blas._Watch()
    watch._trials = 0
    monkeypatch.setattr(blas, "_watch", watch)
    return watch


def _operands(shape, dtype, layout):
    m, k, n = shape
    draw = np.random.default_rng(0)
    a, b = draw.standard_normal((m, k)).astype(dtype), draw.standard_normal((k, n)).astype(dtype)
    if layout == "turned":
        return np.asfortranarray(a), np.asfortranarray(b)
    if layout == "gaps":
        a, b = np.pad(a, ((0, 0), (0, 3)))[:, :k], np.asfortranarray(np.pad(b, ((0, 5), (0, 0))))[:k]
    return a, b


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["plain", "turned", "gaps"])
@pytest.mark.parametrize("shape", [(300, 500, 200), (200, 500, 301), (17, 1024, 1024), (1001, 16, 1100)])
@pytest.mark.parametrize("threads", [2, 4])
def test_a_product_has_the_same_bits_in_several_threads_as_in_one(shape, dtype, layout, threads, two_threads, watch):
    gg.set_num_threads(threads)
    a, b = _operands(shape, dtype, layout)
    assert a.shape[0] * b.size >= blas.MIDDLE
    if blas._library().batch:
        assert blas._plan(a.dtype, threads, (a.shape, a.strides), (b.shape, b.strides)) is not None
    together = blas.matmul(np, a, b)
    watch._rest.lost(np.inf, 0)
    alone = blas.matmul(np, a, b)
    np.testing.assert_array_equal(together, alone)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(together, exact, rtol=0, atol=1e-4 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("shape", [(1, 600, 300), (64, 256, 96), (33, 1024, 700), (65, 256, 96)])
def test_a_product_of_few_rows_is_made_turned_and_turned_back(shape, two_threads, watch):
    a, b = _operands(shape, "float32", "plain")
    b = np.asfortranarray(b)
    assert blas._few_rows(a, b) == (shape[0] <= 64)
    found = blas.matmul(np, a, b)
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, a.astype(np.float64) @ b, rtol=0, atol=2e-4)


@pytest.mark.parametrize("change", ["every other", "reversed", "bytes", "mixed", "unequal"])
def test_a_product_that_cannot_be_cut_is_made_whole(change, two_threads, watch):
    a, b = _operands((300, 500, 200), "float32", "plain")
    exact = a.astype(np.float64) @ b
    if change == "every other":
        a = np.repeat(a, 2, axis=1)[:, ::2]
    elif change == "reversed":
        a, b = np.ascontiguousarray(a[:, ::-1])[:, ::-1], np.ascontiguousarray(b[::-1])[::-1]
    elif change == "bytes":
        a, b = a.astype(">f4"), b.astype(">f4")
    elif change == "mixed":
        b = b.astype(np.float64)
    else:
        with pytest.raises(ValueError, match="mismatch"):
            blas.matmul(np, a, b[1:])
        return
    np.testing.assert_allclose(blas.matmul(np, a, b), exact, rtol=0, atol=1e-4)


def test_one_thread_works_for_a_while_when_several_are_slower(two_threads, watch, monkeypatch):
    now, used = [100.0], []
    monkeypatch.setattr(blas, "perf_counter", lambda: now[0])
    threads = [2]
    library = blas._library()._replace(get_threads=lambda: threads[0], set_threads=lambda n: threads.__setitem__(0, n))
    monkeypatch.setattr(blas, "_library", lambda: library)
    watch._trials, busy = 2, False

    def call():
        used.append(threads[0])
        now[0] += 0.010 if threads[0] == 1 else 0.030 if busy else 0.006

    for _ in range(4):
        watch.run(call, 1000)
    assert used == [1, 1, 2, 2]
    busy, rests = True, []
    for _ in range(2000):
        watch.run(call, 1000)
        rests.append(watch._rest._until - now[0])
    tried = [k for k in range(2000) if used[4 + k] == 2]
    assert tried[0] == 0
    expected = [min(cpu._PATIENCE * 2**k * (0.030 - 0.010), cpu._LONGEST) for k in range(len(tried))]
    np.testing.assert_allclose([rests[k] for k in tried], expected)
    assert expected[-2:] == [cpu._LONGEST] * 2
    assert tried[1] == round(expected[0] / 0.010) + 1
    now[0] += cpu._LONGEST
    busy = False
    watch.run(call, 1000)
    watch.run(call, 1000)
    assert used[-2:] == [2, 2]
    for _ in range(100):
        watch.run(call, 1000)
    assert watch._rest._patience == cpu._PATIENCE


@pytest.mark.parametrize("size", [100, 17, 3, 0])
def test_parts_cover_everything_once(size, two_threads):
    seen = np.zeros(size, int)

    def task(start, stop):
        seen[start:stop] += 1

    cpu.parallel(task, size, 4)
    assert (seen == 1).all()


@pytest.mark.parametrize("which", ["first", "second"])
def test_an_error_in_a_part_is_raised_when_no_part_runs_any_more(which, two_threads):
    begun, running = threading.Barrier(2), []

    def task(start, stop):
        running.append(start)
        begun.wait(10)
        if (start == 0) == (which == "first"):
            running.remove(start)
            raise KeyError(which)
        time.sleep(0.05)
        running.remove(start)

    with pytest.raises(KeyError, match=which):
        cpu.parallel(task, 8, 4)
    assert not running
    seen = []
    cpu.parallel(lambda start, stop: seen.append((start, stop)), 8, 4)
    assert sorted(seen) == [(0, 4), (4, 8)]


def test_what_a_late_worker_has_not_begun_is_done_without_it(two_threads):
    cpu.parallel(lambda start, stop: None, 8, 4)
    wake = threading.Event()
    cpu._workers[0].tasks.put(wake.wait)
    array = np.ones(8)
    kept = weakref.ref(array)
    threads = []

    def task(start, stop, array=array):
        threads.append(threading.current_thread())
        array[start:stop] += 1

    cpu.parallel(task, 8, 4)
    assert threads == [threading.current_thread()] * 2
    assert (array == 2).all()
    del task, array
    assert kept() is None
    wake.set()


def test_parts_are_done_by_one_thread_for_a_while_when_threads_have_waited(two_threads, monkeypatch):
    clock = threading.local()
    now, waits = [100.0], [0.0]
    monkeypatch.setattr(cpu, "_rests", {})
    monkeypatch.setattr(cpu, "perf_counter", lambda: now[0])
    monkeypatch.setattr(cpu, "thread_time", lambda: getattr(clock, "worked", 0.0))
    lock, both = threading.Lock(), threading.Barrier(2)

    def task(start, stop):
        if shared[0]:
            both.wait(10)  # so that each thread does one part
        clock.worked = getattr(clock, "worked", 0.0) + 0.010
        with lock:
            now[0] += (0.010 + waits[0]) / 2 if shared[0] else 0.010
            threads.add(threading.get_ident())

    def run(side_by_side):
        threads.clear()
        shared[0] = side_by_side
        before = now[0]
        cpu.parallel(task, 8, 4)
        assert len(threads) == 1 + side_by_side
        return now[0] - before

    shared, threads = [True], set()
    for _ in range(3):
        assert run(True) == pytest.approx(0.010)
    waits[0] = 0.020
    assert run(True) == pytest.approx(0.030)
    rest = cpu._PATIENCE * (0.030 - cpu._ALONE * 0.020)
    for _ in range(int(rest / 0.020) + 1):
        assert run(False) == pytest.approx(0.020)
    run(True)
    assert run(False) == pytest.approx(0.020)
    now[0] += 2 * rest
    waits[0] = 0.0
    for _ in range(3):
        run(True)


SETTINGS = [  # kernel, stride, padding, dilation, output padding
    ((3, 3), (1, 1), (0, 0), (1, 1), (0, 0)),
    ((5, 2), (1, 1), (2, 1), (1, 1), (0, 0)),
    ((2, 3), (2, 3), (1, 0), (1, 1), (1, 2)),
    ((3, 2), (1, 2), (2, 3), (2, 1), (0, 1)),
    ((2, 4), (2, 1), (0, 4), (3, 2), (1, 0)),
    ((1, 1), (1, 1), (0, 1), (1, 1), (0, 0)),
]


@pytest.fixture
def with_bands(monkeypatch):
    def start():
        monkeypatch.setattr(banded, "_GAIN", np.inf)
        monkeypatch.setattr(banded, "_BLOCK", 1000)
        monkeypatch.setattr(blas, "MIDDLE", 0)
        monkeypatch.setattr(blas, "shares", lambda dtype: True)

    return start


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "more"), SETTINGS)
def test_banded_matrices_convolve_as_unrolled_windows_do(
    kernel, stride, padding, dilation, more, transposed, with_bands
):
    draw = np.random.default_rng(0)
    inputs = [
        gg.tensor(draw.standard_normal(shape), requires_grad=True)
        for shape in ((5, 7, 8, 3) if not transposed else (5, 7, 8, 4), (4, 3, *kernel), (3 if transposed else 4,))
    ]
    inputs[0] = gg.tensor(inputs[0].detach().numpy().transpose(0, 3, 1, 2), requires_grad=True)  # not contiguous

    def run():
        x, w, b = inputs
        if transposed:
            return gg.conv_transpose2d(x, w, b, stride, padding, more, 1, dilation)
        return gg.conv2d(x, w, b, stride, padding, dilation)

    expected = run()
    slopes = gg.autograd.grad((expected * expected).sum(), inputs)
    with_bands()
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("forward", "weight", "transpose"):
            method = getattr(banded.Bands, name)
            patch.setattr(banded.Bands, name, lambda *a, m=method, n=name: (calls.append(n), m(*a))[1])
        found = run()
        close(gg.autograd.grad((found * found).sum(), inputs), slopes, 1e-12, 1e-12)
    close([found], [expected], 1e-12, 1e-12)
    assert sorted(calls) == ["forward", "transpose", "weight"]


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_only_windows_that_hold_it_see_what_is_not_finite(value, with_bands):
    x = np.ones((1, 1, 6, 6), np.float32)
    x[0, 0, 2, 1] = value
    with_bands()
    with gg.no_grad():
        forward = gg.conv2d(gg.tensor(x), gg.ones(2, 1, 2, 2))
        back = gg.conv_transpose2d(gg.tensor(x), gg.ones(1, 2, 2, 2))
    assert np.argwhere(~np.isfinite(forward.numpy()[0, 0])).tolist() == [[1, 0], [1, 1], [2, 0], [2, 1]]
    assert np.argwhere(~np.isfinite(back.numpy()[0, 1])).tolist() == [[2, 1], [2, 2], [3, 1], [3, 2]]


def test_a_weight_that_is_not_finite_reaches_no_further_than_its_products():
    weight = gg.tensor([[[[1.0, np.inf, 1.0]]]])
    found = gg.conv_transpose2d(gg.ones(2, 1, 8, 9), weight).numpy()
    assert np.isinf(found[..., 1:-1]).all()
    assert (found[..., [0, -1]] == 1).all()


def test_banded_matrices_are_for_few_kernels_on_narrow_images_in_several_threads(two_threads):
    def suits(batch, channels, size, kernels, side, dtype="float32"):
        out = (size - side + 1,) * 2
        return banded.suits(np, np.empty(0, dtype), (batch, channels, size, size), kernels, (side, side), out, 1)

    assert suits(128, 6, 14, 16, 5) == bool(blas._library().batch)
    assert not suits(2, 6, 14, 16, 5)
    assert not suits(128, 6, 14, 64, 5)
    assert not suits(128, 6, 64, 16, 3)
    assert not suits(128, 6, 14, 16, 5, "float16")
    gg.set_num_threads(1)
    assert not suits(128, 6, 14, 16, 5)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("layout", ["plain", "strided", "read-only", "empty"])
def test_axpby(dtype, layout):
    draw = np.random.default_rng(0)
    x, y = (draw.standard_normal(0 if layout == "empty" else 2000).astype(dtype) for _ in range(2))
    if layout == "strided":
        x, y = x[::2], y[::2]
    if layout == "read-only":
        x.flags.writeable = False
    expected = 0.1 * x.astype(np.float64) + 0.7 * y.astype(np.float64)
    blas.axpby(np, 0.1, x, 0.7, y, np.empty(x.shape, dtype))
    np.testing.assert_allclose(y, expected, rtol=0, atol=4 * float(np.finfo(dtype).eps))


def test_memory_for_repeated_use_starts_on_a_cache_line():
    assert cpu.empty(0, np.float32).shape == (0,)
    for size in (1, 1000, 100_000):
        array = cpu.empty(size, np.float32)
        assert array.shape == (size,)
        assert array.dtype == np.float32
        assert array.ctypes.data % 64 == 0


@pytest.mark.parametrize(("shape", "dim"), [((700, 512), 1), ((700, 500), 0), ((40, 90, 101), 1), ((300_000,), 0)])
def test_running_sums_and_products_of_large_arrays(shape, dim):
    x = np.random.default_rng(0).uniform(0.9, 1.1, shape).astype(np.float32)
    wide = x.astype(np.float64)
    for name in ("cumsum", "cumprod", "prod"):
        found = getattr(gg, name)(gg.tensor(x), dim)
        assert found.dtype == gg.float32
        rtol = 1e-4 if name == "prod" else 2e-7
        np.testing.assert_allclose(found.numpy(), getattr(np, name)(wide, dim), rtol=rtol, atol=1e-37)
