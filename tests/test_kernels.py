"""The CUDA kernels against NumPy in float64, on a GPU or in the simulator (``GPUGRAD_CUDA_SIM=1``)."""

import functools
import itertools
import math

import numpy as np
import pytest
from helpers import samples_of

import gpugrad as gg
from gpugrad.backend import cuda, kernels, random
from gpugrad.backend.fused import dropout, indexing, norm, optim, pointwise, reduction, softmax, window
from gpugrad.ops import REGISTRY, trace
from gpugrad.ops.core import fusion
from gpugrad.optim import algorithms

diagnosis = cuda.diagnose()
pytestmark = [pytest.mark.skipif(not diagnosis.usable, reason=diagnosis.message())]
if not cuda.simulated():
    pytestmark.append(pytest.mark.gpu)

# Of the largest result: some roundings of the dtype, more where sums are long.
TOLERANCES = {"float32": 2e-6, "float64": 2e-13, "float16": 1e-3, "bfloat16": 8e-3}
DTYPES = list(TOLERANCES)


@pytest.fixture(params=DTYPES)
def dtype(request):
    if request.param == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    return np.dtype(request.param)


@pytest.fixture
def together(monkeypatch):
    """Runs some work twice: first to see which kernels it needs, which are compiled together, then in earnest.

    Compiled each by itself, as they are in use, they would take the tests' time several times over.
    """

    def run(work):
        wanted = {}

        def note(device, code, kernel, shared):
            wanted.setdefault(code, set()).add(kernel)
            return lambda *args, **options: None

        with monkeypatch.context() as patch:
            patch.setattr(kernels, "_function", note)
            patch.setattr(kernels, "resident", lambda kernel, block: 1)
            work()
        found = {}
        for code, names in wanted.items():
            templates = sorted(name for name in names if "<" in name)
            module = cuda.cupy().RawModule(code=code, options=kernels.OPTIONS, name_expressions=templates or None)
            found |= {(code, name): module.get_function(name).kernel for name in names}
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "_function", lambda device, code, kernel, shared: found[code, kernel])
            return work()

    return run


def values(shape, dtype, seed=0, scale=1.0, shift=0.0):
    draw = np.random.default_rng([seed, *shape])
    return (draw.normal(size=shape) * scale + shift).astype(dtype)


def on_device(array, unaligned=False):
    """The array on the device; ``unaligned`` starts it one element into a buffer."""
    xp = cuda.cupy()
    if not unaligned:
        return xp.asarray(array)
    buffer = xp.empty(array.size + 1, array.dtype)
    buffer[1:] = xp.asarray(array.reshape(-1))
    return buffer[1:].reshape(array.shape)


def close(found, expected, dtype, factor=1.0, least=1e-30):
    expected = np.asarray(expected, np.float64)
    found = found.get()
    assert found.shape == expected.shape
    assert found.dtype == dtype
    found = found.astype(np.float64)
    with np.errstate(invalid="ignore"):
        assert np.array_equal(np.isnan(found), np.isnan(expected))
        inside = np.isfinite(expected)
        assert np.array_equal(found[~inside], expected[~inside], equal_nan=True)
        largest = max(np.abs(expected[inside]).max(initial=0.0), least)
        error = np.abs(found - expected)[inside].max(initial=0.0) / largest
    assert error <= TOLERANCES[dtype.name] * factor


def reference(name, *args, recording=()):
    """The op's own forward on float64."""
    wide = [a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype.kind not in "iub" else a for a in args]
    with np.errstate(all="ignore"):
        return REGISTRY[name].forward(np, *wide, *recording)


def lengths(dtype):
    """Row lengths from one element to beyond every threshold of the geometry; all of them for float32."""
    if dtype == np.float32:
        return [(3, 1), (9, 2), (33, 10), (5, 31), (2, 1000), (2, 1023), (1, 2048), (2, 8191), (1, 32768), (1, 33001)]
    return [(33, 10), (2, 1003), (1, 40001)]


def shapes(dtype):
    for shape in lengths(dtype):
        yield shape, False
    yield (3, 64), True


# Softmax and cross-entropy


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(name, dtype, together):
    rows = [(values(shape, dtype, scale=4.0), unaligned) for shape, unaligned in shapes(dtype)]
    inputs = [on_device(*row) for row in rows]
    outs = together(lambda: [getattr(softmax, name)(x, 1) for x in inputs])
    for (array, _), out in zip(rows, outs, strict=True):
        close(out, reference(name, array, 1), dtype)


@pytest.mark.parametrize("name", ["softmax_slope", "log_softmax_slope"])
def test_gradient_of_softmax(name, dtype, together):
    rows = []
    for shape, unaligned in shapes(dtype):
        result = reference(name.removesuffix("_slope"), values(shape, dtype), 1).astype(dtype)
        rows.append((values(shape, dtype, 1), result, unaligned))
    inputs = [(on_device(g), on_device(y, unaligned)) for g, y, unaligned in rows]
    outs = together(lambda: [getattr(softmax, name)(g, y, -1) for g, y in inputs])
    for (g, y, _), out in zip(rows, outs, strict=True):
        close(out, reference(name, g, y, 1), dtype, 4)


def test_logsumexp(dtype, together):
    rows = [(values(shape, dtype, scale=4.0), unaligned) for shape, unaligned in shapes(dtype)]
    inputs = [on_device(*row) for row in rows]
    outs = together(lambda: [softmax.logsumexp(x, (1,), False) for x in inputs])
    for (array, _), out in zip(rows, outs, strict=True):
        close(out, reference("logsumexp", array, (1,), False), dtype)


def test_rows_of_infinities_and_nan(together):
    rows = [[1.0, np.nan, 2.0], [np.inf, 1.0, 2.0], [-np.inf] * 3, [-np.inf, 3.0, -np.inf], [np.inf, np.nan, 1.0]]
    arrays = []
    for width in (3, 300, 40000):
        arrays.append(np.full((5, width), -1.0, np.float32))
        arrays[-1][:, -3:] = rows
        arrays[-1][2:4, :-3] = -np.inf
    given = [on_device(array) for array in arrays]
    outs = together(lambda: [(softmax.softmax(x, 1), softmax.log_softmax(x, 1)) for x in given])
    sums = together(lambda: [softmax.logsumexp(x, (1,), True) for x in given])
    for array, (plain, logarithm), total in zip(arrays, outs, sums, strict=True):
        close(plain, reference("softmax", array, 1), array.dtype)
        close(logarithm, reference("log_softmax", array, 1), array.dtype)
        close(total, reference("logsumexp", array, (1,), True), array.dtype)


def entropy(array, target, weight, reduction, smoothing, g, ignore_index=1):
    x = gg.tensor(array.astype(np.float64), requires_grad=True)
    w = None if weight is None else gg.tensor(weight.astype(np.float64))
    loss = gg.nn.functional.cross_entropy(
        x, gg.tensor(target), w, ignore_index=ignore_index, reduction=reduction, label_smoothing=smoothing
    )
    loss.backward(gg.tensor(g.astype(np.float64)))
    return loss.detach().numpy(), x.grad.numpy()


def logits(dtype):
    """Shapes of logits (N, C, ...), and whether the classes of a place lie side by side in memory."""
    if dtype == np.float32:
        yield from ((shape, False) for shape in lengths(dtype))
        yield from (((2, 1, 5), False), ((3, 21, 2, 4), False), ((2, 70, 33), False), ((1, 1003, 6), False))
        yield from (((2, 300, 260), False), ((3, 21, 2, 4), True), ((2, 1003, 3), True), ((1, 9000, 2), True))
    else:
        yield from (((33, 10), False), ((2, 1003), False), ((1, 40001), False))
        yield from (((3, 21, 2, 4), False), ((2, 70, 33), False), ((3, 21, 2, 4), True))


def loss_and_slopes(kernel, x, g):
    """The loss, the same without a gradient, the logits' gradient and its divisor, and that for the gradient ``g``."""
    loss, (slope, divisor) = kernel(True)
    alone, nothing = kernel(False)
    assert nothing is None
    assert slope.strides == x.strides
    scaled = softmax.scaled_rows(slope, g, divisor)
    return loss, alone, slope, divisor, g if scaled is NotImplemented else scaled


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_and_its_gradient(dtype, smoothing, together):
    cases, inputs = [], []
    for k, (shape, is_last) in enumerate(logits(dtype)):
        how = ("mean", "sum", "none")[k % 3]
        places, classes = (shape[0], *shape[2:]), shape[1]
        array = values(shape, dtype, scale=3.0)
        target = np.random.default_rng(classes).integers(0, classes, places)
        target.reshape(-1)[-1] = 1
        weight = values((classes,), dtype, shift=3.0) ** 2 if k % 2 else None
        g = np.asarray(values(places, dtype) if how == "none" else 1.5, dtype)
        cases.append((array, target, weight, how, smoothing, g))
        last = np.ascontiguousarray(np.moveaxis(array, 1, -1))
        x = cuda.cupy().moveaxis(on_device(last), -1, 1) if is_last else on_device(array)
        inputs.append([x, *[None if a is None else on_device(a) for a in (target, weight, g)]])

    def work():
        return [
            loss_and_slopes(functools.partial(softmax.cross_entropy, x, target, weight, 1, how, smoothing), x, g)
            for (x, target, weight, g), (*_, how, _, _) in zip(inputs, cases, strict=True)
        ]

    for case, (loss, alone, slope, divisor, gradient) in zip(cases, together(work), strict=True):
        expected = entropy(*case)
        least = 0.1 if case[0].shape[1] == 1 else 1e-30  # then it is 0, but for rounding
        close(loss, expected[0], dtype)
        assert np.array_equal(loss.get(), alone.get(), equal_nan=True)
        if gradient.shape == slope.shape:
            close(gradient, expected[1], dtype, 2, least)
        # As the kernel leaves it: for a loss of gradient 1.
        *given, g = case
        whole = slope.get() if divisor is None else (slope.get() / (divisor.get() or 1)).astype(dtype)
        close(on_device(whole), entropy(*given, np.ones_like(g))[1], dtype, 2, least)


def test_cross_entropy_where_no_row_counts_and_of_weights_that_are_zero():
    x = values((4, 6), np.float32)
    zero, some = np.zeros(6, np.float32), np.arange(6, dtype=np.float32)
    ignored, mixed, all_there = (np.array(t) for t in ([-1] * 4, [0, -1, 3, -1], [0, 1, 2, 0]))
    for target, weight, how in itertools.product(
        (ignored, mixed, all_there), (None, zero, some), ("mean", "sum", "none")
    ):
        g = np.ones(4 if how == "none" else (), np.float32)
        for smoothing in (0.0, 0.2):
            expected = entropy(x, target, weight, how, smoothing, g, -1)
            args = on_device(x), on_device(target), None if weight is None else on_device(weight)
            loss, (slope, _) = softmax.cross_entropy(*args, -1, how, smoothing, True)
            close(loss, expected[0], x.dtype)
            close(slope, expected[1], x.dtype, 2)
            places = [on_device(np.stack([a, a], -1)) for a in (x, target)]
            loss, (slope, _) = softmax.cross_entropy(*places, args[2], -1, how, smoothing, True)
            close(loss if how != "none" else loss[:, 0], expected[0] * (2 if how == "sum" else 1), x.dtype)
            close(slope[..., 1], expected[1] / (2 if how == "mean" else 1), x.dtype, 2)


def test_cross_entropy_of_many_places(together):
    """So many that the sum of their weights is made of parts."""
    x, target = values((1, 3, 20000), np.float32), np.random.default_rng(0).integers(0, 3, (1, 20000))
    weight = np.array([1.0, 0.5, 3.0], np.float32)
    given = [on_device(a) for a in (x, target, weight)]
    loss, (slope, _) = together(lambda: softmax.cross_entropy(*given, 1, "mean", 0.1, True))
    expected = entropy(x, target, weight, "mean", 0.1, np.ones(()))
    close(loss, expected[0], x.dtype, 4)
    close(slope, expected[1], x.dtype, 4)


def test_cross_entropy_takes_targets_and_logits_as_they_come():
    x, target = values((6, 8), np.float32), np.arange(6)
    expected = entropy(x, target, None, "mean", 0.0, np.ones(()))
    wide = on_device(np.repeat(x, 2, 1))[:, ::2]
    for given in (on_device(target.astype(np.int32)), on_device(np.repeat(target.astype(np.uint8), 2))[::2]):
        for each in (on_device(x), wide, on_device(np.ascontiguousarray(x.T)).T):
            loss, (slope, _) = softmax.cross_entropy(each, given, None, 1, "mean", 0.0, True)
            close(loss, expected[0], x.dtype)
            close(slope, expected[1], x.dtype, 2)
    assert softmax.cross_entropy(wide[:0], given[:0], None, 1, "mean", 0.0, True) is NotImplemented
    assert softmax.cross_entropy(wide.astype(np.int64), given, None, 1, "mean", 0.0, True) is NotImplemented


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels launched since it was last cleared."""
    names = []
    function, compiled = kernels.function, kernels.compiled

    def spy(name, kernel, *args):
        names.append(kernel.split("<")[0])
        return function(name, kernel, *args)

    def spy_compiled(code, kernel, *args):
        names.append(kernel)
        return compiled(code, kernel, *args)

    monkeypatch.setattr(kernels, "function", spy)
    monkeypatch.setattr(kernels, "compiled", spy_compiled)
    return names


ENTROPY = ["chosen_weights", "cross_entropy", "reduce_rows"]


def test_a_backward_from_one_makes_no_further_pass_over_the_gradient_of_logits(launched):
    cross_entropy = gg.nn.functional.cross_entropy
    target = gg.tensor(np.array([2, 0, 4, 1, 1, 3]), device="cuda")

    def run(backward, of=lambda x: x, **options):
        x = gg.tensor(values((6, 5), np.float32), device="cuda", requires_grad=True)
        logits = of(x)
        launched.clear()
        loss = cross_entropy(logits, target, **options)
        backward(loss, x, logits)
        return x.grad.cpu().numpy(), list(launched)

    plain, names = run(lambda loss, x, logits: loss.backward())
    assert names == ENTROPY
    assert run(lambda loss, x, logits: loss.backward(), reduction="sum")[1] == ENTROPY[1:]
    found, names = run(lambda loss, x, logits: (loss + 2.0).backward())
    assert np.array_equal(found, plain)
    assert names == ENTROPY
    found, names = run(lambda loss, x, logits: loss.backward(), lambda x: x.clone())
    assert np.array_equal(found, plain)
    assert names == ENTROPY

    # Other gradients, and hooks, which may change what they are given.
    def scaled(loss, x, logits):
        (loss * 64.0).backward()

    def given(loss, x, logits):
        loss.backward(gg.full((), 64.0, device="cuda"))

    def hooked(loss, x, logits):
        loss.register_hook(lambda g: g.mul_(64.0))
        loss.backward()

    for backward in (scaled, given, hooked):
        found, names = run(backward)
        assert np.array_equal(found, plain * 64)
        assert names == [*ENTROPY, "scaled_rows"]

    # What is kept for another backward is not handed out.
    def twice(loss, x, logits):
        logits.register_hook(lambda g: g.mul_(2.0))
        loss.backward(retain_graph=True)
        x.grad.mul_(0.5)
        first = x.grad.clone()
        loss.backward()
        assert x.grad.tolist() == (first * 3).tolist()
        x.grad = first

    assert np.array_equal(run(twice, lambda x: x.clone())[0], plain)

    def second(loss, x, logits):
        (gradient,) = gg.autograd.grad(loss, x, create_graph=True)
        (gradient * gradient).sum().backward()

    expected = gg.tensor(values((6, 5), np.float32), requires_grad=True)
    second(cross_entropy(expected, target.cpu()), expected, None)
    assert np.allclose(run(second)[0], expected.grad.numpy(), atol=1e-6)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_small_gradients_of_a_loss_that_is_scaled_survive(half):
    """In float16 a gradient that was divided by the number of rows at once would be gone."""
    half = np.dtype(pytest.importorskip("ml_dtypes").bfloat16) if half == "bfloat16" else np.dtype(half)
    rows = 1 << 14
    x = gg.tensor(values((rows, 2), np.float32).astype(half), device="cuda", requires_grad=True)
    x.data[:, 0] += 6.0
    loss = gg.nn.functional.cross_entropy(x, gg.zeros(rows, dtype=gg.int64, device="cuda"))
    (loss * 2.0**14).backward()
    wide = x.detach().cpu().double().requires_grad_()
    loss = gg.nn.functional.cross_entropy(wide, gg.zeros(rows, dtype=gg.int64)) * 2.0**14
    loss.backward()
    assert np.allclose(x.grad.cpu().double().numpy(), wide.grad.numpy(), rtol=0.03, atol=1e-7)


def test_ops_on_cross_entropy_agree_with_the_cpu(launched):
    """Label smoothing, weights and more dimensions by the kernels, also where classes are moved to their place."""
    weight = values((7,), np.float32, shift=3.0) ** 2
    target = np.random.default_rng(0).integers(0, 7, (3, 4))
    for how, smoothing in itertools.product(("mean", "sum", "none"), (0.0, 0.1)):
        grads = []
        for device in ("cpu", "cuda"):
            x = gg.tensor(values((3, 4, 7), np.float32), device=device, requires_grad=True)
            w, t = gg.tensor(weight, device=device), gg.tensor(target, device=device)
            launched.clear()
            moved = x.transpose(1, 2)
            options = {"ignore_index": 2, "reduction": how, "label_smoothing": smoothing}
            for logits in (moved, moved.contiguous()):
                gg.nn.functional.cross_entropy(logits, t, w, **options).mean().backward()
            grads.append(x.grad.cpu().numpy())
        assert {"cross_entropy", "cross_entropy_columns"} <= set(launched)
        assert np.allclose(*grads, atol=1e-6)


def test_the_gradient_of_logsumexp_is_one_kernel(launched):
    for kind, near in (("float32", 1e-6), ("float16", 5e-4), ("bfloat16", 4e-3)):
        if kind == "bfloat16":
            pytest.importorskip("ml_dtypes")
        x = values((3, 4, 5), np.float32, scale=3.0)
        for dims, keepdim in ((-1, False), ((0, 2), True), (1, False)):
            leaf = gg.tensor(x, device="cuda").to(getattr(gg, kind)).requires_grad_()
            out = leaf.logsumexp(dims, keepdim)
            launched.clear()
            out.backward(gg.full_like(out, 3.0))
            assert launched == ["fused"]
            expected = leaf.detach().cpu().double().requires_grad_()
            (expected.logsumexp(dims, keepdim).sum() * 3.0).backward()
            assert np.allclose(leaf.grad.cpu().double().numpy(), expected.grad.numpy(), rtol=2 * near, atol=3 * near)


def test_cross_entropy_of_a_class_that_is_not_there_is_nan():
    x, target = on_device(values((3, 4), np.float32)), on_device(np.array([1, 4, -5]))
    loss, _ = softmax.cross_entropy(x, target, None, -100, "none", 0.0, False)
    assert np.isnan(loss.get()).tolist() == [False, True, True]
    loss, (slope, _) = softmax.cross_entropy(x, target, None, -100, "mean", 0.1, True)
    assert np.isnan(loss.get())
    assert np.isnan(slope.get()).all()
    with pytest.raises(IndexError, match=r"Target (4|-5) is out of bounds"):
        cuda.raise_faults()


@pytest.mark.parametrize("shape", [(9, 30), (3, 70000), (2, 30, 7)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_every_kernel_of_cross_entropy_reports_a_class_that_is_not_there(shape, smoothing):
    x = on_device(values(shape, np.float32))
    for wrong in (shape[1], -1):
        target = np.ones((shape[0], *shape[2:]), np.int64)
        target.flat[-1] = wrong
        given = x, on_device(target), None
        softmax.cross_entropy(*given, wrong, "sum", smoothing, True)
        cuda.synchronize()
        softmax.cross_entropy(*given, -100, "sum", smoothing, True)
        with pytest.raises(IndexError, match=f"Target {wrong} is out of bounds"):
            cuda.synchronize()


def soft_entropy(array, target, weight, reduction, smoothing, g):
    x = gg.tensor(array.astype(np.float64), requires_grad=True)
    shares = gg.tensor(target.astype(np.float64)) * (1 - smoothing) + smoothing / array.shape[1]
    if weight is not None:
        shares *= gg.tensor(weight.astype(np.float64)).reshape(-1, *(1,) * (array.ndim - 2))
    losses = -(gg.log_softmax(x, 1) * shares).sum(1)
    loss = losses if reduction == "none" else getattr(losses, reduction)()
    loss.backward(gg.tensor(g.astype(np.float64)))
    return loss.detach().numpy(), x.grad.numpy()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_with_probabilities_and_its_gradient(dtype, smoothing, together):
    cases, inputs = [], []
    for k, (shape, is_last) in enumerate(logits(dtype)):
        how, xp = ("mean", "sum", "none")[k % 3], cuda.cupy()
        array, target = values(shape, dtype, scale=3.0), values(shape, np.float64, 1) ** 2
        target = (target / target.sum(1, keepdims=True)).astype(dtype)
        weight = values(shape[1:2], dtype, shift=3.0) ** 2 if k % 2 else None
        g = np.asarray(values((shape[0], *shape[2:]), dtype) if how == "none" else 1.5, dtype)
        cases.append((array, target, weight, how, smoothing, g))
        x = on_device(np.ascontiguousarray(np.moveaxis(array, 1, -1)))
        x = xp.moveaxis(x, -1, 1) if is_last else on_device(array, k == 1)
        inputs.append([x, *[None if a is None else on_device(a) for a in (target, weight, g)]])

    def work():
        return [
            loss_and_slopes(functools.partial(softmax.soft_cross_entropy, x, target, weight, how, smoothing), x, g)
            for (x, target, weight, g), (*_, how, _, _) in zip(inputs, cases, strict=True)
        ]

    for case, (loss, alone, slope, divisor, gradient) in zip(cases, together(work), strict=True):
        expected = soft_entropy(*case)
        least = 0.1 if case[0].shape[1] == 1 else 1e-30  # then it is 0, but for rounding
        close(loss, expected[0], dtype, 2, least)
        assert np.array_equal(loss.get(), alone.get())
        if gradient.shape == slope.shape:
            close(gradient, expected[1], dtype, 3, least)
        *given, g = case
        whole = slope.get() if divisor is None else (slope.get() / divisor.get()).astype(dtype)
        close(on_device(whole), soft_entropy(*given, np.ones_like(g))[1], dtype, 3, least)


def test_cross_entropy_with_probabilities_of_infinities_and_nan():
    x = np.tile(np.float32([1.0, -np.inf, 2.0, 0.5]), (6, 1))
    x[1, 0], x[2, 2], x[3], x[5, 1] = np.nan, np.inf, -np.inf, 1.0
    target = np.tile(np.float32([0.5, 0.25, 0.0, 0.25]), (6, 1))
    target[4, 1] = 0.0
    for shape in ((6, 4), (6, 4, 1), (2, 4, 3)):
        a, t = (np.moveaxis(v.reshape(-1, *shape[2:], 4), -1, 1) if len(shape) == 3 else v for v in (x, target))
        with np.errstate(all="ignore"):
            expected = soft_entropy(a, t, None, "none", 0.0, np.ones((shape[0], *shape[2:])))
        a, t = (on_device(np.ascontiguousarray(v)) for v in (a, t))
        loss, (slope, _) = softmax.soft_cross_entropy(a, t, None, "none", 0.0, True)
        close(loss, expected[0], np.dtype(np.float32))
        close(slope, expected[1], np.dtype(np.float32), 2)


SOFT = ["soft_cross_entropy", "reduce_rows"]


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_cross_entropy_with_probabilities_is_one_pass(kind, launched):
    cross_entropy, found = gg.nn.functional.cross_entropy, []
    target = np.random.default_rng(0).dirichlet(np.ones(5), 6).astype(np.float32)
    cases = [("cpu", "float64", True), ("cuda", kind, True), ("cuda", kind, False)]
    for device, name, fused in cases:
        x = gg.tensor(values((6, 5), np.float32)).to(device, getattr(gg, name)).requires_grad_()
        t = gg.tensor(target).to(device, getattr(gg, name))
        weight = gg.tensor([1.0, 0.5, 2.0, 1.0, 0.25]).to(device, getattr(gg, name))
        grads = []
        with fusion(fused):
            for scale, options in (
                (1, {}),
                (64, {"label_smoothing": 0.1, "weight": weight}),
                (1, {"reduction": "sum"}),
            ):
                launched.clear()
                loss = cross_entropy(x, t, **options)
                (loss * scale if scale > 1 else loss).backward()
                later = ["scaled_rows"] if scale > 1 or (kind == "float16" and not options) else []
                assert device == "cpu" or not fused or [n for n in launched if n != "fused"] == SOFT + later
                grads += [loss.detach(), x.grad]
                x.grad = None
            # Gradients of the target, and of gradients.
            both = x.detach().requires_grad_(), t.detach().requires_grad_()
            first = gg.autograd.grad(cross_entropy(*both, label_smoothing=0.1), both, create_graph=True)
            grads += [*first, *gg.autograd.grad(sum((g * g).sum() for g in first) * 64, both)]
        found.append([g.detach().cpu().double().numpy() for g in grads])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert np.allclose(a, b, rtol=1e-5 if kind == "float32" else 2e-2, atol=1e-6 if kind == "float32" else 5e-3)


def test_cross_entropy_with_probabilities_takes_what_comes():
    """Of several dtypes and layouts, and in more dimensions."""
    x, target = values((6, 8, 4), np.float32), np.abs(values((6, 8, 4), np.float32, 1))
    expected = soft_entropy(x, target, None, "mean", 0.0, np.ones(()))
    wide = [on_device(np.repeat(a, 2, 1))[:, ::2] for a in (x, target)]
    turned = [on_device(np.ascontiguousarray(a.T)).T for a in (x, target)]
    for a, b in itertools.product((on_device(x), wide[0], turned[0]), (on_device(target), wide[1], turned[1])):
        loss, (slope, _) = softmax.soft_cross_entropy(a, b, None, "mean", 0.0, True)
        close(loss, expected[0], x.dtype)
        close(slope, expected[1], x.dtype, 3)
    assert softmax.soft_cross_entropy(a[:0], b[:0], None, "mean", 0.0, True) is NotImplemented
    assert softmax.soft_cross_entropy(a, b.astype(np.float64), None, "mean", 0.0, True) is NotImplemented
    mixed = gg.nn.functional.cross_entropy(
        gg.tensor(x, device="cuda").half(), gg.tensor(target, device="cuda", dtype=gg.float64)
    )
    assert mixed.dtype == gg.float64
    assert np.allclose(mixed.item(), expected[0], rtol=1e-3)


# Normalisation

ROWS = [((33, 10), 1), ((3, 1024), 1), ((2, 3, 5), 2), ((9, 1001), 1), ((2, 9001), 1)]
CHANNELS = [(6, 5, 3, 3), (20, 40), (3, 4, 8, 8), (700, 3), (2, 3, 300), (1, 2, 9000), (3, 1, 3001)]


def normalized(dtype):
    """Shapes, dimensions and whether centred."""
    rows = ROWS if dtype == np.float32 else ROWS[1:2] + ROWS[4:]
    cases = [(shape, tuple(range(len(shape) - count, len(shape))), True) for shape, count in rows]
    cases += [(shape, dims, False) for shape, dims, _ in cases[1::2]]
    channels = CHANNELS if dtype == np.float32 else CHANNELS[2:3]
    return cases + [(shape, (0, *range(2, len(shape))), True) for shape in channels]


@pytest.mark.parametrize("affine", [True, False])
def test_normalisation(affine, dtype, together):
    cases = []
    for shape, dims, centered in normalized(dtype):
        size = shape[1:2] if dims[0] == 0 else shape[dims[0] :]
        weight = values(size, dtype, 1, shift=1.0) if affine else None
        bias = values(size, dtype, 2) if affine else None
        cases.append((values(shape, dtype, shift=2.0), weight, bias, dims, 1e-5, centered))
    inputs = [[on_device(a) if isinstance(a, np.ndarray) else a for a in case] for case in cases]
    outs = together(lambda: [norm.standardize(*each, True) for each in inputs])
    for case, (out, (mean, var)) in zip(cases, outs, strict=True):
        expected, (its_mean, its_var) = reference("standardize", *case, recording=(True,))
        close(out, expected, dtype)
        sums = np.dtype("float64" if dtype == np.float64 else "float32")
        close(var, its_var, sums, 2)
        assert (mean is None) == (its_mean is None)
        if mean is not None:
            close(mean, its_mean, sums, 2)


def test_gradient_of_normalisation(dtype, together):
    cases = []
    sums = np.dtype("float64" if dtype == np.float64 else "float32")
    for shape, dims, centered in normalized(dtype):
        size = shape[1:2] if dims[0] == 0 else shape[dims[0] :]
        x = values(shape, dtype, shift=1.0)
        _, (mean, var) = reference("standardize", x, None, None, dims, 1e-5, centered, recording=(True,))
        rstd = (1 / np.sqrt(var + 1e-5)).astype(sums)
        mean = None if mean is None else mean.astype(sums)
        cases.append((values(shape, dtype, 1), x, values(size, dtype, 2, shift=1.0), mean, rstd, dims, True))
        cases.append((*cases[-1][:2], None, *cases[-1][3:6], False))
    inputs = [[on_device(a) if isinstance(a, np.ndarray) else a for a in case] for case in cases]
    outs = together(lambda: [norm.standardize_slope(*each) for each in inputs])
    for case, found in zip(cases, outs, strict=True):
        for out, expected in zip(found, reference("standardize_slope", *case), strict=True):
            close(out, expected, dtype, 2)


def test_channels_of_a_few_large_images_are_shared_among_blocks(monkeypatch):
    monkeypatch.setattr(kernels, "multiprocessors", lambda device: 132)
    x = on_device(values((1, 3, 32, 1024), np.float32, shift=2.0))
    moments, parts = norm._over_channels("channel_moments", 3, (x,), None)
    assert parts == 8
    assert (moments[..., 0].get() == 4096).all()


@pytest.mark.parametrize("skip", [0, 1, 2])
def test_weights_wider_than_their_input(skip, together):
    """Also where they start so many elements into a buffer."""
    half, single = np.dtype("float16"), np.dtype("float32")
    x, weight = values((4, 24), half), values((24,), single, 1)
    given = [on_device(x), *[on_device(np.concatenate([weight[:skip], weight]))[skip:] for _ in range(2)]]
    out, (mean, var) = together(lambda: norm.standardize(*given, (1,), 1e-5, True, True))
    close(out, reference("standardize", x, weight, weight, (1,), 1e-5, True, recording=(True,))[0], half)
    rstd = on_device((1 / np.sqrt(var.get() + 1e-5)).astype(single))
    g = on_device(values((4, 24), half, 2))
    outs = together(lambda: norm.standardize_slope(g, given[0], given[1], mean, rstd, (1,), True))
    assert [out.dtype for out in outs] == [half, single, single]


def test_the_gradient_of_weights_is_the_same_every_time():
    x, g = (on_device(values((300, 33), np.float32, k)) for k in range(2))
    weight = on_device(values((33,), np.float32))
    mean, rstd = (on_device(values((300, 1), np.float32, k, shift=2.0)) for k in range(2))
    first, second = (norm.standardize_slope(g, x, weight, mean, rstd, (1,), True) for _ in range(2))
    assert all(np.array_equal(a.get(), b.get()) for a, b in zip(first, second, strict=True))


# Reductions


def test_reductions(dtype, together):
    sizes = [(3, 1), (33, 10), (2, 5001), (1, 20000), (2000, 7), (65, 64), (2, 3, 4)]
    sizes += [(2001, 2), (2500, 16), (300, 33), (700, 1)]
    if dtype != np.float32:
        sizes = [sizes[1], sizes[3], sizes[7]]
    rows = [(values(size, dtype), False) for size in sizes] + [(values((3, 64), dtype), True)] * (dtype == np.float32)
    names = [("sum", 4), ("mean", 4), ("amax", 1), ("amin", 1)]
    cases = []
    for (array, unaligned), (name, factor) in itertools.product(rows, names):
        for dims in ((0,), (array.ndim - 1,), tuple(range(array.ndim))):
            cases.append((array, on_device(array, unaligned), name, dims, factor))
    outs = together(lambda: [getattr(reduction, name)(x, dims, dims == (0,)) for _, x, name, dims, _ in cases])
    for (array, _, name, dims, factor), out in zip(cases, outs, strict=True):
        expected = reference(name, array, dims, dims == (0,))
        # Sums can cancel: the error is one of the largest partial sum.
        scale = np.abs(array.astype(np.float64)).sum(dims).max() / max(np.abs(expected).max(), 1e-30)
        close(out, expected, dtype, factor * max(1.0, 0.05 * scale if name in ("sum", "mean") else 1.0))


def test_few_columns_are_the_work_of_whole_warps():
    lanes = [reduction._column_parts(1 << 20, columns, 4, 132)[0] for columns in (2, 8, 12, 32, 36, 4096)]
    assert lanes == [2, 2, 8, 8, 32, 32]
    # Enough blocks for all multiprocessors, and none with next to nothing to do.
    for rows, columns in ((1 << 20, 8), (1 << 20, 12), (1 << 20, 4096), (200, 8), (200, 4096)):
        lanes, tiles, parts = reduction._column_parts(rows, columns, 4, 132)
        assert (parts * tiles >= 512) == (rows > 200)
        assert parts == 1 or rows * lanes // (256 * parts) >= 8


def test_extremes_of_nan(together):
    array = np.zeros((3, 700), np.float32)
    array[1, 5] = np.nan
    x = on_device(array)
    outs = together(lambda: [reduction.amax(x, dims, False) for dims in ((0,), (1,), (0, 1))])
    assert [int(np.isnan(out.get()).sum()) for out in outs] == [1, 1, 1]


# What kernels do not take


def test_what_kernels_leave_to_the_generic_forward():
    x = on_device(values((6, 8), np.float32))
    ints = cuda.cupy().zeros((6, 8), np.int64)
    empty = cuda.cupy().zeros((0, 8), np.float32)
    for wrong in (x.T, x[::2], ints, empty):
        assert indexing.take_rows(wrong, ints) is NotImplemented
        assert softmax.softmax(wrong, 1) is NotImplemented
        assert softmax.log_softmax_slope(wrong, wrong, 1) is NotImplemented
        assert norm.standardize(wrong, None, None, (1,), 1e-5, True, True) is NotImplemented
        assert norm.standardize_slope(wrong, wrong, None, None, x, (1,), False) is NotImplemented
    for wrong in (x.T, x[:, ::2], ints, empty):
        assert reduction.sum(wrong, (1,), False) is NotImplemented
    assert softmax.softmax(x, 0) is NotImplemented
    assert softmax.logsumexp(x, (0, 1), False) is NotImplemented
    assert reduction.sum(x.reshape(2, 3, 8), (1,), False) is NotImplemented
    assert norm.standardize(x, x[0].astype(np.float64), None, (1,), 1e-5, True, True) is NotImplemented


def test_ops_use_the_kernels_and_fusion_turns_them_off(monkeypatch):
    calls = []
    function = kernels.function

    def spy(name, *args):
        calls.append(name)
        return function(name, *args)

    monkeypatch.setattr(kernels, "function", spy)
    x = gg.tensor(values((3, 5), np.float32), device="cuda", requires_grad=True)
    with fusion(False):
        gg.nn.functional.layer_norm(x, (5,)).softmax(1).sum().backward()
    assert calls == []
    gg.nn.functional.layer_norm(x, (5,)).softmax(1).sum().backward()
    assert {"norm", "softmax", "reduce"} <= set(calls)


# Rows picked, and summed where they fall

SUMS = [(1, 1, 1), (6, 3, 4), (300, 5, 7), (5000, 1, 70000), (4100, 8, 3), (64, 1000, 300)]


def test_sums_of_rows(dtype, together, monkeypatch):
    """Few and many rows for each place, more places than one digit of the sort has, negative ones, unaligned rows.

    The same to the last bit every time, and where it can be chosen in whatever order threads and blocks run.
    """
    cases = []
    for k, (size, columns, count) in enumerate(SUMS if dtype == np.float32 else SUMS[2:4]):
        places = np.random.default_rng(k).integers(-count, count, size)
        cases.append((values((size, columns), dtype), places.astype(np.int32 if k % 2 else np.int64), count))
    given = [(on_device(rows, True), on_device(places), count) for rows, places, count in cases]
    outs = []
    for order in "0123":
        monkeypatch.setenv("GPUGRAD_CUDA_SIM_ORDER", order)
        outs.append(together(lambda: [indexing.sum_rows(*each) for each in given]))
    for (rows, places, count), *each in zip(cases, *outs, strict=True):
        expected = np.zeros((count, rows.shape[1]))
        np.add.at(expected, places, rows.astype(np.float64))
        close(each[0], expected, dtype, 4)
        assert len({out.get().tobytes() for out in each}) == 1


@pytest.mark.parametrize("many", [2, 3, 64])
def test_many_rows_on_few_places(many, monkeypatch, together):
    """They are joined in rounds, of which there are many if a thread goes through few tiles in each."""
    monkeypatch.setattr(indexing, "_MANY", np.int64(many))
    cases = []
    for k, (size, columns, count) in enumerate([(2100, 3, 3), (1500, 4, 1), (3000, 1, 40), (1920, 2, 5), (700, 2, 2)]):
        places = np.random.default_rng(k).integers(0, count, size) ** (1 + k % 2)
        cases.append((values((size, columns), np.float32, k), places, count))
    given = [(on_device(rows), on_device(places), count) for rows, places, count in cases]
    outs = []
    for order in "03":
        monkeypatch.setenv("GPUGRAD_CUDA_SIM_ORDER", order)
        outs.append(together(lambda: [indexing.sum_rows(*each) for each in given]))
    for (rows, places, count), *each in zip(cases, *outs, strict=True):
        expected = np.zeros((count, rows.shape[1]))
        inside = places < count
        np.add.at(expected, places[inside], rows[inside].astype(np.float64))
        close(each[0], expected, rows.dtype, 20)
        assert each[0].get().tobytes() == each[1].get().tobytes()


def test_counts_of_many_tiles_are_summed():
    counts = np.random.default_rng(0).integers(0, 9, (256, 600)).astype(np.uint32)
    on, totals = on_device(counts), on_device(np.zeros(256, np.uint32))
    kernels.function("index", "sort_scan")((256,), (256,), (on, np.int64(600), totals))
    assert np.array_equal(totals.get(), counts.sum(1))
    assert np.array_equal(on.get(), counts.cumsum(1) - counts)


HOW = ["add", "multiply", "maximum", "minimum"]


def test_elements_are_combined_where_they_fall(dtype, together):
    array, source = values((70,), dtype), values((700,), dtype, shift=1.5)
    source[[3, 50]] = np.nan, np.inf
    places = np.random.default_rng(0).integers(0, 60, 700)
    places[300:600] = 33  # more than one thread goes through
    source[300:600] = 1 + source[300:600] / 1000
    places[[7, 8]] = 70, -71  # there are no such places
    given = [on_device(a) for a in (array, source, places)]
    outs = together(lambda: [indexing.combine_at(*given, how) for how in HOW])
    for how, out in zip(HOW, outs, strict=True):
        expected = array.astype(np.float64)
        keep = np.delete(np.arange(700), [7, 8])
        with np.errstate(invalid="ignore"):
            getattr(np, how).at(expected, places[keep], source[keep].astype(np.float64))
        close(out, expected, dtype, 20)


@pytest.mark.parametrize("kind", ["int64", "int32", "int8", "uint8", "bool"])
def test_integers_are_combined_as_on_the_cpu(kind, together):
    """They wrap around, and those of 64 bits stay exact."""
    draw = np.random.default_rng(1)
    most = 1 if kind == "bool" else min(np.iinfo(kind).max, 2**62)
    array, source = (draw.integers(0 if kind == "bool" else -(most // 2), most, n, endpoint=True) for n in (9, 40))
    array, source, places = array.astype(kind), source.astype(kind), draw.integers(0, 9, 40).astype(np.int16)
    given = [on_device(a) for a in (array, source, places)]
    hows = HOW if kind != "bool" else ["add", "maximum"]
    outs = together(lambda: [indexing.combine_at(*given, how) for how in hows])
    for how, out in zip(hows, outs, strict=True):
        expected = array.copy()
        with np.errstate(over="ignore"):
            getattr(np, how).at(expected, places, source)
        assert np.array_equal(out.get(), expected)


def test_places_in_several_dimensions(together):
    parts = np.array([[0], [-3], [2], [3]]), np.array([0, -5, 4, 5, -6], np.int32)
    given = [on_device(part) for part in parts]
    out = together(lambda: indexing.ravel_index(*given, (3, 5))).get()
    first, second = np.array([0, 0, 2, -1]), np.array([0, 0, 4, -1, -1])
    inside = (first >= 0)[:, None] & (second >= 0)
    assert np.array_equal(out, np.where(inside, first[:, None] * 5 + second, -(2**62)))
    with pytest.raises(IndexError, match="index 3 is out of bounds for a dimension with size 3"):
        cuda.raise_faults()


def test_indexing_by_several_arrays_is_reproducible(monkeypatch):
    """Values and gradients as on the CPU, bit by bit whatever the order of threads and blocks; NaN out of range."""
    x, i, j = values((6, 5, 4), np.float32), *np.random.default_rng(2).integers(-4, 4, (2, 500))
    for index in (lambda i, j: (i, j), lambda i, j: (slice(None), i, j), lambda i, j: (i, slice(None), j)):
        found = []
        for device, order in (("cpu", "0"), *(("cuda", order) for order in "0123")):
            monkeypatch.setenv("GPUGRAD_CUDA_SIM_ORDER", order)
            place = index(gg.tensor(i, device=device), gg.tensor(j, device=device))
            t = gg.tensor(x, device=device, requires_grad=True)
            out = t[place]
            weight = gg.tensor(values(tuple(out.shape), np.float32), device=device)
            out.backward(weight)
            where = tuple(None if isinstance(part, slice) else part for part in place)
            put = gg.tensor(x, device=device).index_put_(where, weight, accumulate=True)
            found.append([a.detach().cpu().numpy() for a in (out, t.grad, put)])
        for out, *sums in found[1:]:
            assert np.array_equal(out, found[0][0])
            for k, total in enumerate(sums, 1):
                assert np.allclose(total, found[0][k], rtol=1e-5, atol=1e-5)
                assert total.tobytes() == found[1][k].tobytes()
        outside = index(gg.tensor([0, 3, -7], device="cuda"), gg.tensor([9, 0, 0], device="cuda"))
        t = gg.tensor(x, device="cuda", requires_grad=True)
        picked = t[outside]
        with pytest.raises(IndexError, match="is out of bounds for a dimension with size"):
            gg.cuda.synchronize()
        assert picked.isnan().sum().item() == picked.numel() * 2 // 3
        picked.nan_to_num(0.0).sum().backward()
        with pytest.raises(IndexError, match="is out of bounds for a dimension with size"):
            gg.cuda.synchronize()
        assert t.grad.sum().item() == picked.numel() // 3


def test_rows_are_picked(dtype, together):
    cases = []
    for count, columns, size in ((5, 3, 7), (300, 64, 20)):
        cases.append((values((count, columns), dtype), np.random.default_rng(size).integers(0, count, (size, 2))))
    given = [[on_device(a) for a in case] for case in cases]
    outs = together(lambda: [indexing.take_rows(*each) for each in given])
    for (rows, places), out in zip(cases, outs, strict=True):
        assert np.array_equal(out.get(), rows[places])


def test_a_row_that_is_not_there_is_nan(together):
    rows = on_device(values((4, 3), np.float32))
    places = on_device(np.array([0, 4, -1, 3]))
    check = ("row {wrong} of {limit}", KeyError)
    out = together(lambda: indexing.take_rows(rows, places, 0, check)).get()
    assert np.isnan(out).all(1).tolist() == [False, True, True, False]
    with pytest.raises(KeyError, match=r"row (4|-1) of 4"):
        cuda.raise_faults()
    cuda.raise_faults()  # once
    together(lambda: indexing.take_rows(rows, places))


# Windows

# Input, weight, stride, padding, dilation, groups.
CONVOLUTIONS = [
    ((2, 3, 9), (4, 3, 3), (2,), (1,), (2,), 1),
    ((3, 2, 7, 8), (4, 2, 3, 2), (1, 2), (1, 0), (2, 1), 1),
    ((2, 4, 5, 6), (6, 2, 3, 3), (1, 1), (1, 1), (1, 1), 2),
    ((2, 4, 6, 5), (4, 1, 3, 3), (2, 1), (0, 2), (1, 1), 4),
    ((2, 3, 4, 5), (5, 3, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((1, 2, 5, 4, 6), (3, 2, 2, 3, 2), (1, 2, 1), (1, 0, 1), (2, 1, 1), 1),
]


@pytest.mark.parametrize("room", [1 << 28, 100], ids=["at once", "by sample"])
@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "no bias"])
def test_convolutions(dtype, room, with_bias, monkeypatch, together):
    monkeypatch.setattr(window, "_ROOM", room)
    cases, given = [], []
    for sizes, kernel, *settings in CONVOLUTIONS:
        x, w = values(sizes, dtype), values(kernel, dtype, 1)
        b = values(kernel[:1], dtype, 2) if with_bias else None
        exact = [None if a is None else a.astype(np.float64) for a in (x, w, b)]
        forward = REGISTRY["conv"].forward(np, *exact, *settings)
        g = values(forward.shape, dtype, 3)
        # Back to a size that the convolution could have come from.
        b2 = values((kernel[1] * settings[3],), dtype, 4) if with_bias else None
        stride, padding, dilation, groups = settings
        small, count = sizes[2:], len(stride)
        extra = tuple(
            n - ((m - 1) * s - 2 * p + d * (k - 1) + 1)
            for n, m, k, s, p, d in zip(small, forward.shape[2:], kernel[2:], stride, padding, dilation, strict=True)
        )
        g64, b264 = g.astype(np.float64), None if b2 is None else b2.astype(np.float64)
        back = REGISTRY["conv_transpose"].forward(np, g64, exact[1], b264, stride, padding, extra, dilation, groups)
        slope = REGISTRY["conv_weight"].forward(np, exact[0], g64, kernel[2:], stride, padding, dilation, groups)
        cases.append((forward, back, slope, g64.sum(axis=(0, *range(2, 2 + count)))))
        given.append(([None if a is None else on_device(a) for a in (x, w, b, g, b2)], kernel[2:], small, settings))

    def work():
        outs = []
        for (x, w, b, g, b2), kernel, small, settings in given:
            outs.append(
                (
                    window.conv(x, w, b, tuple(g.shape[2:]), *settings),
                    window.conv_transpose(g, w, b2, small, *settings),
                    window.conv_weight(x, g, kernel, *settings),
                    window.sum_channels(g),
                )
            )
        return outs

    for expected, found in zip(cases, together(work), strict=True):
        for e, f in zip(expected, found, strict=True):
            close(f, e, dtype)


def test_convolutions_of_what_is_not_contiguous(together):
    x, w = values((6, 7, 3, 2), np.float32), values((3, 3, 4, 3), np.float32, 1)
    settings = ((1, 1), (1, 1), (1, 1), 1)
    turned = x.transpose(3, 2, 0, 1), w.transpose(2, 1, 0, 3)
    forward = REGISTRY["conv"].forward(np, *turned, None, *settings)
    a, b = on_device(x).transpose(3, 2, 0, 1), on_device(w).transpose(2, 1, 0, 3)
    close(together(lambda: window.conv(a, b, None, forward.shape[2:], *settings)), forward, np.dtype(np.float32))


# Size along the dimension, kernel, stride, padding, dilation, windows.
POOLS = [(6, 2, 2, 0, 1, 3), (9, 3, 2, 1, 1, 5), (7, 3, 1, 1, 2, 5), (5, 2, 3, 1, 1, 2), (4, 4, 4, 0, 1, 1)]


def test_maxima_of_windows(dtype, together):
    cases, given = [], []
    for (length, kernel, stride, padding, dilation, size), (before, after) in itertools.product(
        POOLS, ((3, 1), (2, 5))
    ):
        # Few values, so that some are equal, and NaN and infinities among them.
        x = np.random.default_rng(length).integers(-2, 3, (before, length, after)).astype(dtype)
        x.reshape(-1)[::7], x.reshape(-1)[3::11] = np.nan, -np.inf
        settings = (1, kernel, stride, padding, dilation)
        out, winners = REGISTRY["max_along"].forward(np, x.astype(np.float64), *settings, size, False, True)
        g = np.random.default_rng(1).integers(-3, 4, out.shape).astype(dtype)
        back = REGISTRY["unpool_along"].forward(
            np, g.astype(np.float64), winners, 1, length, kernel, stride, padding, dilation
        )
        cases.append((out, winners, back))
        given.append((on_device(x), on_device(g), on_device(winners), settings, size, length))

    def work():
        return [
            (*window.max_along(x, *settings, size, False, True), window.unpool_along(g, w, 1, length, *settings[1:]))
            for x, g, w, settings, size, length in given
        ]

    for expected, found in zip(cases, together(work), strict=True):
        for e, f in zip(expected, found, strict=True):
            np.testing.assert_array_equal(f.get().astype(np.float64), e.astype(np.float64))


# Size, kernel, stride, padding, windows: of one to three dimensions.
MEANS = [
    ((6,), (2,), (2,), (0,), (3,)),
    ((9,), (4,), (1,), (2,), (10,)),
    ((5, 6), (3, 3), (2, 2), (1, 1), (3, 4)),  # the last windows end beyond the padding
    ((8, 16), (2, 2), (2, 2), (0, 0), (4, 8)),
    ((7, 5), (7, 5), (7, 5), (0, 0), (1, 1)),
    ((7, 5), (2, 1), (2**40, 3), (0, 0), (1, 2)),
    ((3, 4, 6), (2, 3, 2), (1, 2, 3), (1, 0, 0), (4, 1, 2)),
]


@pytest.mark.parametrize("most", [1 << 31, 150], ids=["at once", "by parts"])
def test_means_of_windows(dtype, most, monkeypatch, together):
    monkeypatch.setattr(window, "_MOST", most)
    cases, given = [], []
    for k, ((size, *geometry, out), (include_pad, divisor)) in enumerate(
        itertools.product(MEANS, ((True, None), (False, None), (True, -3)))
    ):
        x, g = values((2, 3, *size), dtype, k), values((2, 3, *out), dtype, k + 1)
        wide = [a.astype(np.float64) for a in (x, g)]
        forward = REGISTRY["avg_pool"].forward(np, wide[0], *geometry, out, include_pad, divisor)
        back = REGISTRY["avg_unpool"].forward(np, wide[1], size, *geometry, include_pad, divisor)
        cases.append((forward, back))
        given.append((on_device(x, bool(k % 2)), on_device(g), size, geometry, out, include_pad, divisor))

    def work():
        return [
            (window.avg_pool(x, *geometry, out, *how), window.avg_unpool(g, size, *geometry, *how))
            for x, g, size, geometry, out, *how in given
        ]

    for expected, found in zip(cases, together(work), strict=True):
        for e, f in zip(expected, found, strict=True):
            close(f, e, dtype)


def test_means_of_what_is_not_contiguous_and_of_nothing(together):
    x, geometry = values((4, 6, 3, 2), np.float32), ((2, 3), (2, 3), (0, 0))
    a = on_device(x).transpose(3, 2, 0, 1)
    forward = REGISTRY["avg_pool"].forward(np, x.transpose(3, 2, 0, 1), *geometry, (2, 2), True, None)
    close(together(lambda: window.avg_pool(a, *geometry, (2, 2), True, None)), forward, np.dtype(np.float32))
    assert window.avg_pool(a[:0], *geometry, (2, 2), True, None) is NotImplemented
    assert window.avg_pool(a, *geometry, (0, 2), True, None) is NotImplemented
    assert window.avg_unpool(a[:0], (8, 18), *geometry, True, None) is NotImplemented


@pytest.mark.parametrize("fused", [True, False])
def test_average_pooling_and_its_gradients_agree_with_the_cpu(fused, launched):
    found = []
    for device in ("cpu", "cuda"):
        x = gg.tensor(values((2, 3, 7, 8), np.float32), device=device, requires_grad=True)
        launched.clear()
        with fusion(fused):
            out = gg.nn.functional.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False)
            whole = gg.nn.functional.adaptive_avg_pool2d(out, 1)
            (grad,) = gg.autograd.grad((whole**3).sum() + (out**2).sum(), x, create_graph=True)
            (second,) = gg.autograd.grad((grad**2).sum(), x)
        found.append([t.detach().cpu().numpy() for t in (out, whole, grad, second)])
    # Forward and both gradients, of windows and of the whole.
    assert launched.count("averages") == 2 * fused
    assert launched.count("averages_slope") == 4 * fused
    for a, b in zip(*found, strict=True):
        assert np.allclose(a, b, rtol=1e-5, atol=1e-6)


# Dropout


def test_dropout_draws_the_mask_that_the_cpu_draws(dtype, together):
    sizes = ((1,), (7, 9), (3, 1024), (5000,)) if dtype == np.float32 else ((7, 9), (3, 1024))
    arrays = [values(size, dtype, shift=5.0) for size in sizes]
    place = cuda.cupy().asarray(np.array([9, 100], np.uint64))
    given = [on_device(a, a.ndim == 1) for a in arrays]

    def work():
        outs = []
        for x in given:
            outs.append(dropout.dropout(x, 9, 103, None, 3 << 30, 4 / 3))
            # Under replay the seed and the first block are read from device memory.
            outs.append(dropout.dropout(x, 0, 3, place, 3 << 30, 4 / 3))
            outs.append(dropout.dropout(x, 9, 103, None, 3 << 30, 4 / 3, x))
        return outs

    outs = together(work)
    for array, out, again, added in zip(arrays, outs[::3], outs[1::3], outs[2::3], strict=True):
        mask = random.bernoulli_mask(array.shape, 0.75, "cpu", random.at(9, 103, None))
        wide = array.astype(np.float64)
        close(out, np.where(mask, wide * (4 / 3), 0), dtype)
        assert np.array_equal(out.get(), again.get())
        close(added, wide + np.where(mask, wide * (4 / 3), 0), dtype)


def test_dropout_and_its_gradient_agree_with_the_cpu():
    grads = {}
    for device, enabled in (("cpu", True), ("cuda", True), ("cuda", False)):
        gg.manual_seed(3)
        x = gg.tensor(values((17, 5), np.float32), device=device, requires_grad=True)
        with fusion(enabled):
            out = gg.nn.functional.dropout(gg.nn.functional.dropout(x, 0.25), 0.5)
            (grad,) = gg.autograd.grad(out.sum(), x, create_graph=True)
            grads[device, enabled] = [a.detach().cpu().numpy() for a in (out, grad)]
    first, *others = grads.values()
    for other in others:
        assert np.allclose(first[0], other[0])
        assert np.array_equal(first[1], other[1])


@pytest.mark.parametrize("norm_first", [False, True])
def test_dropout_beside_a_residual_is_one_kernel_each_way(norm_first, launched):
    found = []
    for device, enabled in (("cpu", True), ("cuda", True), ("cuda", False)):
        gg.manual_seed(0)
        layer = gg.nn.TransformerEncoderLayer(8, 2, 16, 0.25, batch_first=True, norm_first=norm_first)
        layer = layer.to(device)
        x = gg.tensor(values((2, 5, 8), np.float32), device=device, requires_grad=True)
        launched.clear()
        with fusion(enabled):
            layer(x).square().mean().backward()
        # Of the attention weights, inside of the second part, and one beside each residual; again for the gradient.
        assert launched.count("dropout") == 8 * (device == "cuda" and enabled)
        found.append([t.detach().cpu().numpy() for t in (x.grad, layer.linear1.weight.grad)])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert np.allclose(a, b, atol=1e-5)


def test_a_dropout_that_is_watched_gives_what_it_gives_by_itself():
    layer = gg.nn.TransformerEncoderLayer(4, 1, 8, 0.5, batch_first=True).to("cuda")
    x = gg.ones(2, 3, 4, device="cuda")
    seen = []
    layer.dropout1.register_forward_hook(lambda module, args, out: seen.append((len(args), (out == 0).any().item())))
    gg.manual_seed(0)
    first = layer(x)
    assert seen == [(1, True)]
    layer.dropout1._hooks = None
    gg.manual_seed(0)
    assert np.allclose(layer(x).detach().cpu().numpy(), first.detach().cpu().numpy(), atol=1e-6)
    layer.dropout1 = gg.nn.Identity()
    layer.eval()
    assert np.allclose(layer(x).detach().cpu().numpy(), layer.cpu()(x.cpu()).detach().numpy(), atol=1e-6)


# Optimizers


def update(kind, arrays, state, numbers, group):
    params, gradients = arrays
    first, second, third = state
    decay = group.get("weight_decay", 0.0)
    if kind is algorithms.Adamax:
        optim.adamax(params, gradients, first, second, numbers, group["betas"], group["eps"], decay)
    elif kind is algorithms.NAdam:
        decay = 0.0 if group["decoupled_weight_decay"] else decay
        optim.nadam(params, gradients, first, second, numbers, group["betas"], group["eps"], decay)
    elif kind is algorithms.Rprop:
        optim.rprop(params, gradients, first, second, numbers, group["etas"], group["step_sizes"])
    elif kind is algorithms.ASGD:
        optim.asgd(params, gradients, first, numbers, group["lambd"], decay)
    elif kind is algorithms.SGD:
        momentum = group["momentum"]
        optim.sgd(params, gradients, first if momentum else None, numbers, momentum, decay, group["nesterov"])
    elif kind is algorithms.RMSprop:
        buffers = (first, second if group["momentum"] else None, third if group["centered"] else None)
        options = (group["alpha"], group["eps"], group["momentum"], decay)
        optim.rmsprop(params, gradients, *buffers, numbers, *options)
    elif kind is algorithms.Adagrad:
        optim.adagrad(params, gradients, first, numbers, group["eps"], decay)
    elif kind is algorithms.Adadelta:
        optim.adadelta(params, gradients, first, second, numbers, group["rho"], group["eps"], decay)
    elif kind is algorithms.RAdam:
        decay = 0.0 if group["decoupled_weight_decay"] else decay
        optim.radam(params, gradients, first, second, numbers, group["betas"], group["eps"], decay)
    else:
        decay = 0.0 if group["decoupled_weight_decay"] else decay
        largest = third if group["amsgrad"] else None
        optim.adam(params, gradients, first, second, largest, numbers, group["betas"], group["eps"], decay)


OPTIMIZERS = [
    (algorithms.SGD, {}),
    (algorithms.SGD, {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01, "maximize": True}),
    (algorithms.SGD, {"momentum": 0.9, "nesterov": True}),
    (algorithms.RMSprop, {"weight_decay": 0.1}),
    (algorithms.RMSprop, {"centered": True, "momentum": 0.9, "maximize": True}),
    (algorithms.Adam, {"weight_decay": 0.1, "maximize": True}),
    (algorithms.Adam, {"amsgrad": True}),
    (algorithms.AdamW, {}),
    (algorithms.Adagrad, {"lr_decay": 0.5, "weight_decay": 0.1, "maximize": True}),
    (algorithms.Adadelta, {"weight_decay": 0.1, "maximize": True}),
    (algorithms.Adadelta, {"rho": 0.5, "eps": 1e-3}),
    (algorithms.RAdam, {"weight_decay": 0.1, "maximize": True}),
    (algorithms.RAdam, {"betas": (0.5, 0.6), "weight_decay": 0.1, "decoupled_weight_decay": True}),
    (algorithms.RAdam, {"betas": (0.5, 0.9)}),
    (algorithms.Adamax, {"weight_decay": 0.1, "maximize": True}),
    (algorithms.NAdam, {"weight_decay": 0.1, "maximize": True}),
    (algorithms.NAdam, {"betas": (0.5, 0.9), "weight_decay": 0.1, "decoupled_weight_decay": True}),
    (algorithms.Rprop, {"maximize": True}),
    (algorithms.ASGD, {"weight_decay": 0.1, "lambd": 0.1, "t0": 3}),
]


@pytest.mark.parametrize(("kind", "options"), OPTIMIZERS, ids=lambda value: getattr(value, "__name__", None))
def test_optimizers_step_as_on_the_cpu(kind, options, dtype, together):
    """With a loss scale, a step left out for an infinite gradient, and an unaligned buffer."""
    xp = cuda.cupy()
    sizes = ((1, False), (4099, False), (640, True)) if dtype == np.float32 else ((4099, False),)
    param = gg.tensor(np.zeros(1), requires_grad=True)
    group = kind([param], lr=0.01, **options).param_groups[0]
    scalars = kind([param], lr=0.01, **options)._scalars(group)
    decoupled = group["weight_decay"] if group.get("decoupled_weight_decay") else 0.0
    fixed = {"momentum": group.get("momentum", 0.0), "dampening": group.get("dampening", 0.0)}
    fixed |= {"betas": group.get("betas", (0.0, 0.0)), "decoupled_decay": decoupled, "maximize": group["maximize"]}
    fixed |= {"lr_decay": group.get("lr_decay", 0.0), "rectify": kind is algorithms.RAdam}

    def gradients(size):
        return [values((size,), dtype, seed, scale=8.0) for seed in range(1, 9)]

    def run(size, unaligned):
        params = on_device(values((size,), dtype), unaligned)
        state = [on_device(np.zeros(size, dtype), unaligned) for _ in range(3)]
        numbers, step, lr = optim.numbers(), xp.zeros(()), xp.asarray(0.01)
        found_inf = xp.zeros((), np.float32)
        control = {"scale": xp.asarray(8.0, np.float32), "found_inf": found_inf}
        kept = [xp.full(1, value, np.float32) for value in scalars.values()]
        if kind is algorithms.Rprop:
            state[1][...] = 0.01
        first, second, *others = gradients(size)
        for k, g in enumerate([first, second, np.full(size, np.inf), *others]):
            found_inf[...] = k == 2
            optim.prepare(numbers, step, lr, **fixed, **control)
            if kind is algorithms.NAdam:
                optim.nadam_numbers(numbers, step, *kept, group["betas"][0], group["momentum_decay"])
            elif kind is algorithms.ASGD:
                optim.asgd_numbers(numbers, step, *kept, group["lambd"], group["alpha"], group["t0"])
            update(kind, (params, [(on_device(g.astype(dtype)), 0)]), state, numbers, group)
        return params, step

    for (size, _), (params, step) in zip(sizes, together(lambda: [run(*each) for each in sizes]), strict=True):
        param = gg.tensor(values((size,), dtype).astype(np.float64), requires_grad=True)
        optimizer = kind([param], lr=0.01, **options)
        for g in gradients(size):
            param.grad = gg.tensor(g.astype(np.float64) / 8)
            optimizer.step()
        assert step.get() == 8
        close(params, param.detach().numpy(), dtype, 3)


def test_one_launch_updates_many_parameters(dtype, together):
    """More than one launch takes, of all sizes, some gradients unaligned: as one after the other, to the last bit."""
    sizes = [1, 7, 512, 513, 3000, 0, 40000, 8] * 9
    starts = list(itertools.accumulate((-(-n // optim.GAP) * optim.GAP for n in sizes), initial=0))
    given = [on_device(values((n,), dtype, k), k % 5 == 4 and n > 0) for k, n in enumerate(sizes)]
    pairs = list(zip(given, starts, strict=False))
    host = [values((starts[-1],), dtype, k + 100) for k in range(3)]
    flat, single = ([on_device(a) for a in (*host[:2], abs(host[2]))] for _ in range(2))
    options = ((0.9, 0.99), 1e-8, 0.1)

    def work():
        numbers = optim.numbers()
        optim.prepare(numbers, cuda.cupy().zeros(()), cuda.cupy().asarray(0.01), betas=options[0])
        optim.adam(flat[0], pairs, flat[1], flat[2], None, numbers, *options)
        for g, start in pairs:
            p, m, v = (a[start : start + g.size] for a in single)
            optim.adam(p, [(g, 0)], m, v, None, numbers, *options)

    together(work)
    for joint, one_by_one, before in zip(flat, single, host, strict=True):
        assert joint.get().tobytes() == one_by_one.get().tobytes()
        assert not np.array_equal(joint.get(), before)


def test_norms_of_many_arrays(dtype, together, monkeypatch):
    """More arrays than one launch takes, empty, unaligned, transposed and longer ones than one block's part among them.

    Bit by bit the same every time, and where it can be chosen in whatever order threads and blocks run.
    """
    sizes = [*range(33), 16384, 16385, 40003] if dtype == np.float32 else [0, 3, 70003]
    arrays = [values((size,), dtype) for size in sizes] + [values((40, 3), dtype)]
    given = [on_device(a, a.size % 2 == 1) for a in arrays[:-1]] + [on_device(arrays[-1]).T]
    flat = np.concatenate([a.astype(np.float64).ravel() for a in arrays])
    orders = (1, 2, 3, math.inf)
    outs = together(lambda: [optim.norm(given, p, np.dtype(dtype)) for p in orders])
    for p, out in zip(orders, outs, strict=True):
        if p == 3:
            assert out is NotImplemented
            continue
        close(out, np.linalg.norm(flat, p), dtype, 2)
        for order in "123":
            monkeypatch.setenv("GPUGRAD_CUDA_SIM_ORDER", order)
            assert together(lambda p=p: optim.norm(given, p, np.dtype(dtype))).get().tobytes() == out.get().tobytes()
    assert together(lambda: optim.norm(given[:1], 2, np.dtype(dtype))).get() == 0


def test_unscaling_and_clipping(dtype, together):
    xp = cuda.cupy()
    arrays = [values((size,), dtype, size) for size in (1, 4099, 0, 40003)] + [values((6, 5), dtype)]
    scale = xp.asarray(4.0, np.float32)
    norms = [xp.asarray(n, dtype) for n in (30.0, 2.0, math.nan)]
    found_inf = xp.zeros((), np.float32)

    def work():
        outs = []
        for total in norms:
            given = [on_device(a, a.size == 4099) for a in arrays[:-1]] + [on_device(arrays[-1]).T]
            strided = on_device(arrays[-1])[:, ::2]
            left = optim.rescale([*given, strided, given[0]], scale, total, 3.0, found_inf)
            assert len(left) == 2
            assert left[0] is strided
            assert left[1] is given[0]
            outs.append((given, strided))
        return outs

    for (given, strided), factor in zip(together(work), (3 / (30 + 1e-6), 1.0, math.nan), strict=True):
        for array, out in zip([*arrays[:-1], arrays[-1].T], given, strict=True):
            close(out, array.astype(np.float64) / 4 * factor, dtype)
        assert np.array_equal(strided.get(), arrays[-1][:, ::2])
    assert found_inf.get() == 0


def test_a_model_is_clipped_by_few_launches_and_without_waiting(monkeypatch):
    """Parameters of two dtypes, one gradient transposed; as on the CPU, and the same to the last bit every time."""
    launches = []
    function = kernels.function
    monkeypatch.setattr(kernels, "function", lambda name, *args: launches.append(args[0]) or function(name, *args))
    monkeypatch.setattr(gg.Tensor, "item", lambda self: pytest.fail("the host waits"))
    found = []
    for device, order in (("cpu", "0"), ("cuda", "0"), ("cuda", "3")):
        monkeypatch.setenv("GPUGRAD_CUDA_SIM_ORDER", order)
        params = []
        for k in range(80):
            kind = np.float16 if k % 20 == 19 else np.float32
            params.append(gg.zeros(k + 1, 3, device=device, dtype=kind, requires_grad=True))
            params[-1].grad = gg.tensor(values((3, k + 1), kind, k), device=device).T
        launches.clear()
        total = gg.nn.utils.clip_grad_norm_(params, 2.0)
        assert total.dtype == np.float32
        if device == "cuda":
            assert (
                sorted(name.split("<")[0] for name in launches) == ["norm_parts"] * 3 + ["norm_total"] + ["rescale"] * 3
            )
        found.append([a.detach().cpu().numpy() for a in (total, *[p.grad for p in params])])
    for one, two, three in zip(*found, strict=True):
        assert np.allclose(one, two, rtol=2e-3 if one.dtype == np.float16 else 2e-6, atol=1e-7)
        assert two.tobytes() == three.tobytes()


@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_tiles_end_where_arrays_end(beyond):
    """A tile has 4096 elements here, a block's part 16384; what follows the array stays as it is."""
    for size in (4096 + beyond, 16384 + beyond):
        buffer = on_device(np.ones(size + 8, np.float32))
        assert not optim.rescale([buffer[:size]], cuda.cupy().asarray(4.0, np.float32))
        assert buffer.get().tolist() == [0.25] * size + [1.0] * 8


def test_infinite_gradients_are_found(together):
    single = np.dtype("float32")
    arrays = [values((4099,), single) for _ in range(3)]
    arrays[0][4098], arrays[1][7] = np.inf, np.nan
    flags = cuda.cupy().zeros(3, np.float32)

    def work():
        flags[...] = 0
        for k, array in enumerate(arrays):
            optim.rescale([on_device(arrays[2]), on_device(array)], found_inf=flags[k])
        return [float(optim.norm([on_device(a)], p, single).get()) for a in arrays for p in (2, math.inf)]

    found = together(work)
    assert flags.get().tolist() == [1, 1, 0]
    assert found[:2] == [math.inf] * 2
    assert np.isnan(found[2:4]).all()
    assert np.isfinite(found[4:]).all()


# Generated chains of elementwise ops


def chain_of(op, args):
    """One op as a chain: its arrays, numbers and parameters as nodes."""
    nodes, arrays, operands = [], [], []
    for value in args[: len(op.inputs)]:
        if isinstance(value, np.ndarray):
            nodes.append(pointwise.Node("input", (), (len(arrays),), value.dtype))
            arrays.append(value)
        else:
            kind = np.dtype("float32") if isinstance(value, float) else np.dtype("int64")
            nodes.append(pointwise.Node("number", (), (value,), kind))
        operands.append(len(nodes) - 1)
    return nodes, arrays, tuple(operands)


def elementwise_samples():
    for op in REGISTRY.values():
        if op.name not in pointwise.known_ops() or op.samples is None:
            continue
        for sample in samples_of(op):
            args = [a.numpy() if isinstance(a, gg.Tensor) else a for a in sample]
            if not any(a is None for a in args[: len(op.inputs)]):
                yield op, args


def with_odd_values(args):
    """The arguments, floating-point arrays of one shape with pairs of NaN, infinities and zeros at their end."""
    arrays = [a for a in args if isinstance(a, np.ndarray)]
    if any(a.dtype != np.float32 or a.shape != arrays[0].shape for a in arrays):
        return args
    odd = [np.nan, np.inf, -np.inf, 0.0, 1.0, -2.5]
    pairs = iter(np.meshgrid(odd, odd))
    return [
        np.concatenate([a.ravel(), next(pairs).ravel()]).astype(np.float32)
        if isinstance(a, np.ndarray) and len(arrays) < 3
        else a
        for a in args
    ]


def test_every_elementwise_op_as_a_chain(together):
    """All ops of which ``kernels/pointwise.cuh`` has a formula, on their samples, against their forwards."""
    cases = []
    for op, args in elementwise_samples():
        args = [a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype == np.float64 else a for a in args]
        args = with_odd_values(args)
        nodes, arrays, operands = chain_of(op, args)
        params = tuple(args[len(op.inputs) :])
        kinds = [a.dtype for a in arrays]
        if not arrays or not pointwise.can_fuse(op.name, kinds, params):
            continue
        with np.errstate(all="ignore"):
            expected = op.forward(np, *args, *([False] if op.aux else []))
        expected = np.asarray(expected[0] if op.aux else expected)
        if op.name == "heaviside":
            expected = expected.astype(np.float32)
        nodes.append(pointwise.Node(op.name, operands, params, expected.dtype))
        cases.append((op, arrays, expected, pointwise.fuse(nodes, (len(nodes) - 1,))))
    assert len({case[0].name for case in cases}) > 80
    run_chains(cases)


def run_chains(cases):
    """All chains in one source, which compiles in a fraction of the time."""
    codes, launches = [], []
    for op, arrays, expected, fused in cases:
        given = [on_device(a) for a in arrays]
        chain = fused._chain
        key = (16, *[(a.shape, a.strides, pointwise.alignment(a)) for a in given])
        shape, code, grid, sizes = chain.plan(key)
        body = code[code.rindex('extern "C"') :]
        codes.append(body.replace(" fused(", f" fused{len(codes)}("))
        launches.append((op, given, expected, shape, chain.results[0], grid, (*sizes, *fused._numbers)))
    head = kernels.inlined('#include "common.cuh"\n#include "pointwise.cuh"\n', "chains.cu")
    module = cuda.cupy().RawModule(code=head + "\n".join(codes), options=kernels.OPTIONS)
    for k, (op, given, expected, shape, dtype, grid, rest) in enumerate(launches):
        out = cuda.cupy().empty(shape, dtype)
        module.get_function(f"fused{k}").kernel((grid,), (256,), (*given, out, *rest))
        if dtype.kind == "f":
            close(out, expected, dtype, 4)
        else:
            assert np.array_equal(out.get(), expected), op.name


SINGLE = np.dtype("float32")


def bias_gelu(dtype):
    """(x + bias, its GELU where it is positive and 0.5 elsewhere, and the condition)."""
    nodes = [pointwise.Node("input", (), (k,), dtype) for k in range(2)]
    nodes.append(pointwise.Node("add", (0, 1), (), dtype))
    nodes.append(pointwise.Node("gelu", (2,), ("none",), dtype))
    nodes.append(pointwise.Node("number", (), (0.5,), SINGLE))
    nodes.append(pointwise.Node("gt", (2, 4), (), pointwise.BOOL))
    nodes.append(pointwise.Node("where", (5, 3, 4), (), dtype))
    return pointwise.fuse(nodes, (2, 6, 5))


def test_chains_broadcast(dtype, together):
    def layouts():
        yield values((7, 33), dtype), values((33,), dtype), lambda x: x
        yield values((7, 64), dtype), values((64,), dtype), lambda x: x
        yield values((7, 64), dtype), values((7, 1), dtype), lambda x: x
        yield values((5000,), dtype), values((1,), dtype), lambda x: x
        yield values((4, 6, 8), dtype), values((6, 1), dtype), lambda x: x
        yield values((4, 1, 8), dtype), values((6, 1), dtype), lambda x: x
        yield values((8, 12), dtype), values((8,), dtype), lambda x: x.T
        yield values((12, 9), dtype), values((8,), dtype), lambda x: x[:, 1:]
        yield values((12, 16), dtype), values((8,), dtype), lambda x: x[:, ::2]
        yield values((0, 3), dtype), values((3,), dtype), lambda x: x
        yield values((), dtype), values((), dtype), lambda x: x

    cases = list(layouts()) if dtype == SINGLE else list(layouts())[1:2]
    fused = bias_gelu(dtype)
    given = [(view(on_device(x)), on_device(b)) for x, b, view in cases]
    outs = together(lambda: [fused(arrays) for arrays in given])
    erf = np.vectorize(math.erf, otypes=[float])
    for (x, b, view), (total, chosen, above) in zip(cases, outs, strict=True):
        # Nothing is rounded before it is written.
        exact = view(x).astype(np.float64) + b.astype(np.float64)
        if dtype == SINGLE:
            exact = exact.astype(np.float32).astype(np.float64)
        close(total, exact, dtype)
        assert np.array_equal(above.get(), exact > 0.5)
        gelu = 0.5 * exact * (1 + erf(exact / math.sqrt(2)))
        close(chosen, np.where(exact > 0.5, gelu, 0.5), dtype)


def test_chains_write_into_given_arrays_and_share_their_kernel(together):
    x = values((300,), SINGLE)
    single = [pointwise.Node("input", (), (0,), SINGLE), pointwise.Node("number", (), (0.25,), SINGLE)]
    single.append(pointwise.Node("mul", (0, 1), (), SINGLE))
    other = [single[0], single[1]._replace(params=(3.0,)), single[2]]
    first, second = (pointwise.fuse(nodes, (2,)) for nodes in (single, other))
    assert first._chain is second._chain

    def work():
        target = on_device(x)
        (out,) = first((target,), (target,))
        assert out is target
        return target, second((target,))[0]

    target, tripled = together(work)
    close(target, x * 0.25, SINGLE)
    close(tripled, x * 0.75, SINGLE)


def test_the_code_of_a_chain_is_kept_once_for_all_shapes():
    """It is long, and a program may see many shapes."""
    dtype = np.dtype(np.float32)
    nodes = [pointwise.Node("input", (), (k,), dtype) for k in range(2)]
    chain = pointwise.fuse([*nodes, pointwise.Node("add", (0, 1), (), dtype)], (2,))._chain
    codes = [chain.plan((16, ((n, 8), (32, 4), 16), ((8,), (4,), 16)))[1] for n in (3, 5, 70)]
    assert codes[0] is codes[1] is codes[2]


def test_chains_of_mixed_dtypes(together):
    half, ints = np.dtype("float16"), np.dtype("int64")
    a, b, mask = values((40,), half), np.arange(40), np.arange(40) % 3 == 0
    nodes = [pointwise.Node("input", (), (k,), d) for k, d in enumerate((half, ints, pointwise.BOOL))]
    nodes.append(pointwise.Node("mul", (0, 1), (), half))
    nodes.append(pointwise.Node("keep", (3, 2), (), half))
    nodes.append(pointwise.Node("cast", (4,), (), np.dtype("int32")))
    nodes.append(pointwise.Node("lt", (1, 0), (), pointwise.BOOL))
    fused = pointwise.fuse(nodes, (4, 5, 6))
    given = [on_device(v) for v in (a, b, mask)]
    kept, whole, less = together(lambda: fused(given))
    exact = np.where(mask, a.astype(np.float64) * b, 0)
    close(kept, exact, half)
    assert np.array_equal(whole.get(), np.trunc(exact).astype(np.int32))
    assert np.array_equal(less.get(), b < a)


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_activations_and_their_gradients_are_one_kernel_each(kind, monkeypatch):
    names = []
    compiled = kernels.compiled
    monkeypatch.setattr(kernels, "compiled", lambda code, name: names.append(name) or compiled(code, name))
    functions = gg.nn.functional
    for function in (functions.gelu, functions.silu, functions.mish, functions.elu, functions.softplus):
        found = []
        for device, enabled in (("cpu", True), ("cuda", True), ("cuda", False)):
            x = gg.tensor(values((6, 5), np.float32).astype(kind), device=device, requires_grad=True)
            names.clear()
            with fusion(enabled):
                out = function(x)
                out.backward(gg.full_like(out, 0.5))
            found.append([a.detach().cpu().numpy().astype(np.float64) for a in (out, x.grad)])
            # The first two make their derivatives too, which leaves a product.
            count = 1 if function in (functions.gelu, functions.silu) else 2
            assert names == ["fused"] * (count if device == "cuda" and enabled else 0)
        for other in found[1:]:
            assert np.allclose(found[0], other, atol=TOLERANCES[kind] * 2)


def test_rules_that_cannot_be_traced_run_as_they_are():
    x = on_device(values((6,), SINGLE))
    assert trace.run(lambda F, g: F.sum(g, (0,), False), x) is NotImplemented
    assert trace.run(lambda F, g: g if g else -g, x) is NotImplemented
    assert trace.run(lambda F, g: F.constant(g), x) is NotImplemented
    assert trace.run(lambda F, g, other: g * other.shape[0], x, x) is NotImplemented
    assert trace.run(lambda F, g: g * 2, on_device(np.arange(3, dtype=np.uint32))) is NotImplemented
