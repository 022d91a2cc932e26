"""The engine: the walk, who owns gradients, what is saved and when it goes, in-place changes, modes, hooks, threads."""

import gc
import itertools
import os
import re
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref

import numpy as np
import pytest
from helpers import close, needs_torch, torch
from hypothesis import given
from hypothesis import strategies as st

import gpugrad as gg
from gpugrad import engine
from gpugrad.autograd import Function, backward, detect_anomaly, grad, set_detect_anomaly
from gpugrad.backend import device
from gpugrad.ops import REGISTRY


def leaf(*shape, seed=0):
    values = np.random.default_rng(seed).uniform(0.5, 1.5, shape)
    return gg.tensor(values, requires_grad=True)


def shares(a, b):
    return np.shares_memory(a._data, b._data)


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def calls(monkeypatch):
    """Counts how often each rule of an op runs: ``calls("mul")["input"]``."""

    def count(name):
        op = REGISTRY[name]
        seen = dict.fromkeys(op.inputs, 0)

        def watched(label, rule):
            def run(*args):
                seen[label] += 1
                return rule(*args)

            return run

        for wanted in itertools.product([False, True], repeat=len(op.inputs)):
            plan = op.plan(wanted)
            rules = tuple((i, watched(op.inputs[i], rule), needs) for i, rule, needs in plan.rules)
            monkeypatch.setattr(plan, "rules", rules)
        return seen

    return count


# The walk


def test_a_chain_of_100000_ops_runs_backward_and_is_deallocated():
    x = leaf(2)
    y = x
    for _ in range(50_000):
        y = (y + 1e-6) * 0.99999
    y.sum().backward()
    close(x.grad, np.full(2, 0.99999**50_000), 1e-6)
    del y


def test_a_chain_that_is_never_walked_is_deallocated():
    y = leaf(2)
    for _ in range(30_000):
        y = -y
    del y


def test_views_of_views_may_be_changed_in_place():
    x = leaf(2)
    y = x * 1
    for _ in range(50):
        y = y[:]
        y += 1
    y.sum().backward()
    close(x.grad, np.ones(2))


def test_a_long_chain_can_be_differentiated_twice():
    x = leaf(2)
    y = x
    for _ in range(2_000):
        y = y * 1.0001
    (first,) = grad((y * y).sum(), x, create_graph=True)
    first.sum().backward()
    close(x.grad, np.full(2, 2 * 1.0001**4_000), 1e-9)


def test_the_walk_visits_nodes_not_paths():
    x = leaf(3)
    y = x
    for _ in range(60):
        y = y + y
    y.sum().backward()
    close(x.grad, np.full(3, 2.0**60))
    z = x
    for _ in range(60):
        z = z + z.tanh() * 0.1
    z.sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


def test_operands_are_told_apart_by_position():
    x = leaf(3, 3)
    identity = np.eye(3)
    expected = {
        "sub": np.zeros((3, 3)),
        "div": np.zeros((3, 3)),
        "add": np.full((3, 3), 2.0),
        "mul": 2 * x.detach().numpy(),
        "matmul": np.ones((3, 3)) @ x.detach().numpy().T + x.detach().numpy().T @ np.ones((3, 3)),
    }
    for name, wanted in expected.items():
        (found,) = grad(getattr(gg, name)(x, x).sum(), x)
        close(found, wanted)
    (found,) = grad((x @ x @ x).sum(), x)
    one, v = np.ones((3, 3)), x.detach().numpy()
    close(found, one @ v.T @ v.T + v.T @ one @ v.T + v.T @ v.T @ one)
    assert identity.shape == x.shape


def test_a_second_loss_on_a_shared_graph_is_right():
    x = leaf(4)
    shared = x.exp() * x
    first, second = (shared * 2).sum(), (shared * shared).sum()
    first.backward(retain_graph=True)
    one = x.grad.clone()
    x.grad = None
    second.backward()
    v = x.detach().numpy()
    slope = np.exp(v) * (1 + v)
    close(one, 2 * slope)
    close(x.grad, 2 * v * np.exp(v) * slope)


def test_several_roots_some_of_which_lie_on_the_path_of_others():
    x = leaf(3)
    y = x * 2
    z = y * y
    backward([y, z], [gg.tensor(np.ones(3)), gg.tensor(np.full(3, 10.0))], retain_graph=True)
    close(x.grad, 2 + 10 * 8 * x.detach().numpy())
    (found,) = grad([y, y], x, [gg.tensor(np.ones(3)), gg.tensor(np.ones(3))])
    close(found, np.full(3, 4.0))


def test_roots_that_are_leaves():
    x = leaf(3)
    x.backward(gg.tensor(np.ones(3)))
    x.backward(gg.tensor(np.ones(3)))
    close(x.grad, np.full(3, 2.0))
    (found,) = grad(x, x, gg.tensor(np.full(3, 5.0)))
    close(found, np.full(3, 5.0))


def test_outputs_of_one_op_get_their_own_gradients():
    x = leaf(6)
    first, _, third = x.split(2)
    (first * 2 + third * 5).sum().backward()
    close(x.grad, [2, 2, 0, 0, 5, 5])
    x.grad = None
    a, b, _ = x.split(2)
    (a * b).sum().backward()
    v = x.detach().numpy()
    close(x.grad, [*v[2:4], *v[:2], 0, 0])


# Who owns a gradient


@pytest.mark.parametrize("create_graph", [False, True])
def test_the_gradient_of_a_number_can_be_changed_in_place(create_graph):
    scale = gg.tensor(0.5, requires_grad=True)
    for turn in (1, 2):
        (scale.exp() * gg.ones(3)).sum().backward(create_graph=create_graph and turn == 1)
        assert isinstance(scale.grad._data, np.ndarray)
        assert float(scale.grad) == pytest.approx(turn * 3 * np.exp(0.5))
    gg.nn.utils.clip_grad_norm_([scale], 1.0)
    assert float(scale.grad) == pytest.approx(1.0, rel=1e-5)
    scale.grad.zero_()
    assert float(scale.grad) == 0


@pytest.mark.parametrize(
    "combine",
    [
        lambda a, b: a + b,
        lambda a, b: a.reshape(-1).reshape(2, 3) + b,
        lambda a, b: (a.T + b.T).T,
        lambda a, b: (a + b) + (a + b),
        lambda a, b: gg.stack([a, b]).sum(0),
        lambda a, b: gg.cat([a, b])[:2] + b,
        lambda a, b: a[None].expand(1, 2, 3).squeeze(0) + b,
    ],
)
def test_no_two_tensors_share_a_gradient(combine):
    a, b = leaf(2, 3), leaf(2, 3)
    start = gg.tensor(np.ones((2, 3)))
    out = combine(a, b)
    out.backward(start, retain_graph=True)
    assert not shares(a.grad, b.grad)
    assert not shares(a.grad, start)
    assert not shares(b.grad, start)
    before = b.grad.numpy().copy()
    out.backward(start)
    close(b.grad, 2 * before)
    close(start, np.ones((2, 3)))
    b.grad.zero_()
    assert a.grad.numpy().any()
    da, db = grad(combine(a, b), [a, b], start)
    assert not shares(da, db)
    assert not shares(da, start)
    assert not shares(db, start)


def test_gradients_add_up_in_the_same_tensor():
    x = leaf(3)
    (x * 2).sum().backward()
    kept = x.grad
    (x * 3).sum().backward()
    assert x.grad is kept
    close(kept, np.full(3, 5.0))


def test_a_gradient_seen_by_a_hook_stays_as_it_was():
    x = leaf(3)
    seen = []
    x.register_hook(seen.append)
    (x * 2).sum().backward()
    (x * 3).sum().backward()
    close(seen[0], np.full(3, 2.0))
    close(seen[1], np.full(3, 3.0))


def test_a_gradient_assigned_by_the_user_is_added_to():
    x = leaf(3)
    x.grad = gg.tensor(np.full(3, 7.0))
    x.sum().backward()
    close(x.grad, np.full(3, 8.0))


@pytest.mark.parametrize(
    ("value", "error"),
    [(np.ones(4), "shape"), (np.ones(3, np.float32), "dtype")],
)
def test_an_assigned_gradient_must_fit(value, error):
    with pytest.raises(RuntimeError, match=error):
        leaf(3).grad = gg.tensor(value)


def test_many_uses_of_a_tensor_add_up():
    x = leaf(3)
    total = x * 1
    for k in range(2, 30):
        total = total + x * k
    total.sum().backward()
    close(x.grad, np.full(3, sum(range(30))))


def test_gradients_are_contiguous_and_have_the_dtype_of_their_tensor():
    x = gg.tensor(np.ones((3, 2), np.float32), requires_grad=True)
    y = gg.tensor(np.ones((2, 3)), requires_grad=True)
    (x.T * y).sum().backward()
    assert x.grad.dtype == gg.float32
    assert x.grad.is_contiguous()
    assert y.grad.dtype == gg.float64


# What is saved, and when it goes


def test_saved_values_go_as_soon_as_they_are_used():
    x = leaf(1000)
    first = (x * 2).exp()
    second = first.exp()
    loss = second.log().sum()
    kept = [weakref.ref(t._data) for t in (first, second)]
    alive = []
    first.register_hook(lambda g: alive.append([r() is not None for r in kept]))
    x.register_hook(lambda g: alive.append([r() is not None for r in kept]))
    del first, second
    loss.backward()
    assert alive == [[True, False], [False, False]]


def test_an_op_saves_only_what_its_rules_name():
    x, c = leaf(1000), gg.tensor(np.ones(1000))
    doubled = x * 2
    kept = weakref.ref(doubled._data)
    result = (doubled + c).sum()
    del doubled
    assert kept() is None
    result.backward()


def test_constants_are_saved_only_for_those_who_need_them():
    x, w = gg.tensor(np.ones((5, 4))), leaf(4, 3)
    product = x * 3 @ w
    node = product.grad_fn
    assert [v.shape for v in node.values if isinstance(v, np.ndarray)] == [(5, 4)]


@pytest.mark.parametrize("again", [lambda y, x: y.backward(), lambda y, x: grad(y, x)])
@pytest.mark.parametrize("first", [lambda y, x: y.backward(), lambda y, x: grad(y, x)])
def test_a_second_backward_is_refused(first, again):
    x = leaf(3)
    y = (x * x).sum()
    first(y, x)
    with pytest.raises(RuntimeError, match=r"second time.*retain_graph=True"):
        again(y, x)


def test_retain_graph_keeps_the_graph():
    x = leaf(3)
    y = (x * x).exp().sum()
    for _ in range(3):
        y.backward(retain_graph=True)
    once = x.grad.numpy() / 3
    x.grad = None
    y.backward()
    close(x.grad, once)
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_a_graph_that_saved_nothing_may_be_walked_again():
    x = leaf(3)
    y = (x + 1).sum()
    y.backward()
    y.backward()
    close(x.grad, np.full(3, 2.0))


class Squared(Function):
    @staticmethod
    def forward(ctx, x):
        out = x * x
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx, g):
        x, _ = ctx.saved_tensors
        return 2 * x * g


def _in_place(x):
    y = x * 2
    y *= x
    y[0] = x[1] * 3
    y[1:] += 1
    return y


@pytest.mark.parametrize(
    "build",
    [
        lambda x: (x * x).exp().sum(),
        lambda x: (x.reshape(2, 2) @ x.reshape(2, 2)).tanh()[0],
        _in_place,
        lambda x: gg.stack([x, x]).mean(),
        Squared.apply,
        lambda x: gg.cat(list((x * 2).split(2))).relu_(),
    ],
    ids=["chain", "matmul", "in_place", "stack", "function", "split"],
)
@pytest.mark.parametrize("walk", [None, "backward", "grad", "create_graph"])
def test_nothing_waits_for_the_garbage_collector(build, walk, no_collector):
    x = leaf(4)
    y = build(x)
    y.register_hook(lambda g: None)
    if walk == "backward":
        y.retain_grad()
        y.sum().backward()
    elif walk is not None:
        (found,) = grad(y.sum(), x, create_graph=walk == "create_graph")
        del found
    watched = [weakref.ref(y), weakref.ref(y.grad_fn), weakref.ref(y._data)]
    del y
    assert [r() for r in watched] == [None] * 3
    assert gc.collect() == 0 or gc.garbage == []


def test_memory_does_not_grow_over_training_steps(no_collector):
    w = leaf(200, 200)
    data = gg.tensor(np.ones((50, 200)))

    def step():
        loss = ((data @ w).tanh() * (data @ w)).mean()
        loss.backward()
        with gg.no_grad():
            w.sub_(w.grad, alpha=0.01)
        w.grad = None

    for _ in range(3):
        step()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(20):
        step()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 100_000


def test_no_gradient_is_allocated_before_it_is_asked_for():
    x = leaf(3)
    y = x * 2
    assert x.grad is None
    assert y.grad is None
    y.sum().backward()
    assert y.grad is None
    data = gg.tensor(np.ones(3))
    (x * data).sum().backward()
    assert data.grad is None


# In-place changes


@pytest.mark.parametrize(
    ("record", "change", "named", "shape"),
    [
        (lambda y: y * y, lambda y, z: y.add_(1), "mul", (2, 3)),
        (lambda y: y.exp(), lambda y, z: z.mul_(2), "exp", (2, 3)),
        (lambda y: y.exp(), lambda y, z: z[0].mul_(2), "exp", (2, 3)),
        (lambda y: y * y, lambda y, z: y[0, 1:].zero_(), "mul", (2, 3)),
        (lambda y: y * y, lambda y, z: y.reshape(-1).zero_(), "mul", (2, 3)),
        (lambda y: y * y, lambda y, z: y.detach().zero_(), "mul", (2, 3)),
        (lambda y: y * y, lambda y, z: y.__setitem__((0, 0), 5.0), "mul", (2, 3)),
        (lambda y: y * y, lambda y, z: y.copy_(gg.tensor(np.ones((2, 3)))), "mul", (2, 3)),
        (lambda y: y[0] * y[1], lambda y, z: y.zero_(), "mul", (3,)),
    ],
)
def test_a_change_of_a_saved_value_is_noticed(record, change, named, shape):
    x = leaf(2, 3)
    y = x * 2
    z = record(y)
    with gg.no_grad():
        change(y, z)
    with pytest.raises(RuntimeError, match="modified by an inplace operation") as caught:
        z.sum().backward()
    assert re.search(rf"'{named}'.*{re.escape(str(shape))}.*version 1", str(caught.value))


def test_a_change_of_what_was_not_saved_is_no_matter():
    x = leaf(3)
    y = x * 2
    z = y + 1
    y.zero_()
    z.sum().backward()
    close(x.grad, np.full(3, 2.0))


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize(
    "change",
    [lambda z: z.mul_(3), lambda z: z[0].zero_(), lambda z: z.__setitem__(0, 5.0), lambda z: z.add_(1).add_(1)],
)
@pytest.mark.parametrize(
    "record",
    [
        lambda y: y / (y * y).sum(-1, keepdim=True),
        lambda y: 1 / y,
        lambda y: gg.einsum("ij,kj->ik", y, y),
        lambda y: gg.nn.functional.avg_pool1d(y[None], 2),
    ],
)
def test_results_that_pytorch_does_not_save_can_be_changed(record, change, grad):
    x = leaf(2, 3)
    z = record(x * 2)
    first = z.detach().clone().requires_grad_()
    with gg.set_grad_enabled(grad):
        change(z)
        changed = first * 1
        change(changed)
    upstream = gg.tensor(np.arange(1.0, z.numel() + 1).reshape(z.shape))
    (expected,) = gg.autograd.grad(changed, first, upstream) if grad else (upstream,)
    (wanted,) = gg.autograd.grad(record(x * 2), x, expected)
    close(gg.autograd.grad(z, x, upstream)[0], wanted.numpy())


def test_leaves_that_need_gradients_are_not_changed_in_place():
    x = leaf(4)
    for change in (
        lambda: x.add_(1),
        lambda: x[1:].zero_(),
        lambda: x.__setitem__(0, 1.0),
        lambda: x.reshape(2, 2).T.mul_(2),
    ):
        before = x.detach().numpy().copy()
        with pytest.raises(RuntimeError, match="leaf"):
            change()
        close(x, before, 0, 0)
    with gg.no_grad():
        x.add_(1)
        x[0] = 5
    assert x.is_leaf
    assert x.requires_grad


def test_an_in_place_change_enters_the_history():
    x, w = leaf(3), leaf(3, seed=1)
    y = x * 1
    y *= w
    y += x
    y[0] = w[1] * 2
    y.sum().backward()
    close(x.grad, [0, *(w.detach().numpy()[1:] + 1)])
    close(w.grad, [0, x.detach().numpy()[1] + 2, x.detach().numpy()[2]])


def test_a_change_through_a_view_reaches_the_base_and_its_other_views():
    x, w = leaf(2, 3), leaf(3, seed=1)
    base = x * 1
    row, column = base[0], base[:, 1]
    row.mul_(w)
    (column * 10).sum().backward()
    close(w.grad, [0, 10 * x.detach().numpy()[0, 1], 0])
    expected = np.zeros((2, 3))
    expected[:, 1] = 10
    expected[0, 1] *= w.detach().numpy()[1]
    close(x.grad, expected)


def test_a_change_of_the_base_reaches_nested_views():
    x, w = leaf(4, 4), leaf(4, 4, seed=1)
    base = x * 1
    deep = base[1:][:, :2].T.reshape(2, 3)[1]
    base.mul_(w)
    deep.sum().backward()
    expected = np.zeros((4, 4))
    expected[1:, 1] = 1
    close(x.grad, expected * w.detach().numpy())
    close(w.grad, expected * x.detach().numpy())


def test_views_from_before_their_base_was_reshaped_in_place_are_refused_after_a_change():
    for change in (lambda base, view: base.mul_(2), lambda base, view: view.mul_(2)):
        base = leaf(3, 3) * 1
        view = base[0]
        base.t_()
        view.sum().backward()
        with pytest.raises(RuntimeError, match="reshaped in place"):
            change(base, view).sum() + view.sum()
        change(base, base[0])


def test_a_constant_that_a_recorded_value_is_written_into_needs_a_gradient():
    x = leaf(3)
    y = gg.tensor(np.zeros((2, 3)))
    y[1] = x * 2
    assert y.requires_grad
    (y * y).sum().backward()
    close(x.grad, 8 * x.detach().numpy())


def test_in_place_results_must_fit():
    x = gg.tensor(np.ones(3, np.float32))
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        x.add_(gg.tensor(np.ones((2, 3), np.float32)))
    with pytest.raises(RuntimeError, match="can't be cast"):
        gg.tensor([1, 2]).add_(0.5)
    with pytest.raises(RuntimeError, match="broadcast"):
        x.copy_(gg.tensor(np.ones(4)))
    close(x, np.ones(3))


STEPS = {
    "row": lambda t, u: t[0],
    "tail": lambda t, u: t[:, 1:],
    "turn": lambda t, u: t.permute(*reversed(range(t.ndim))),
    "flat": lambda t, u: t.reshape(-1),
    "scale_": lambda t, u: t.mul_(3),
    "shift_": lambda t, u: t.add_(1),
    "times_": lambda t, u: t.mul_(u),
    "plus_": lambda t, u: t.add_(u),
    "set": lambda t, u: t.__setitem__(0, u[0] if u.ndim == t.ndim else 2.0),
    "square": lambda t, u: t * t,
    "wave": lambda t, u: t.tanh(),
    "sum": lambda t, u: t + u,
}


@needs_torch
@given(
    st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=9)
)
def test_programs_of_views_and_in_place_changes_do_what_pytorch_does(program):
    values = np.random.default_rng(0).uniform(0.5, 1.5, (3, 3))
    mine = [gg.tensor(values, requires_grad=True)]
    theirs = [torch.tensor(values, requires_grad=True)]
    mine.append(mine[0] * 1)
    theirs.append(theirs[0] * 1)

    def run(tensors, backward):
        results = list(tensors)
        for name, i, j in program:
            target = results[1 + i % (len(results) - 1)]
            made = STEPS[name](target, results[j % len(results)])
            if made is not None and made is not target:
                results.append(made)
        total = sum((t * t).sum() * (k + 1) for k, t in enumerate(results[1:]))
        total.backward()
        return results

    try:
        expected = run(theirs, None)
    except (RuntimeError, IndexError):
        return  # shapes that do not fit, or a change that PyTorch refuses
    found = run(mine, None)
    for a, b in zip(found, expected, strict=True):
        close(a, b.detach().numpy())
    close(mine[0].grad, theirs[0].grad.numpy())


# Devices


class Elsewhere(np.ndarray):
    """An array that claims to live on another device."""


def test_tensors_on_different_devices_are_refused(monkeypatch):
    def place(array):
        return device("cuda", 0) if isinstance(array, Elsewhere) else device("cpu")

    monkeypatch.setattr(engine, "device_of", place)
    here = leaf(3)
    there = gg.Tensor._wrap(np.ones(3).view(Elsewhere))
    for combine in (
        lambda: here + there,
        lambda: gg.stack([here, there]),
        lambda: here @ there,
        lambda: gg.where(here > 0, here, there),
    ):
        with pytest.raises(RuntimeError, match="same device") as caught:
            combine()
        assert "cpu" in str(caught.value)
        assert "cuda:0" in str(caught.value)


# Pruning


def test_rules_run_only_for_inputs_that_need_gradients(calls):
    seen = calls("mul")
    x, c = leaf(3), gg.tensor(np.ones(3))
    (x * c).sum().backward()
    (c * x).sum().backward()
    assert seen == {"input": 1, "other": 1}


def test_grad_runs_only_rules_on_the_way_to_its_inputs(calls):
    seen, exps = calls("mul"), calls("exp")
    x, y = leaf(3), leaf(3, seed=1)
    z = (x.exp() * y).sum()
    (found,) = grad(z, y)
    assert seen == {"input": 0, "other": 1}
    assert exps == {"input": 0}
    close(found, np.exp(x.detach().numpy()))


def test_grad_touches_no_grad_attribute():
    x, y = leaf(3), leaf(3, seed=1)
    grad((x * y).sum(), [x, y])
    assert x.grad is None
    assert y.grad is None


def test_backward_to_some_inputs_touches_only_these():
    x, y = leaf(3), leaf(3, seed=1)
    middle = x * 2
    (middle * y).sum().backward(inputs=[x, middle])
    assert y.grad is None
    close(x.grad, 2 * y.detach().numpy())
    close(middle.grad, y.detach().numpy())
    with pytest.raises(RuntimeError, match="cannot be empty"):
        y.sum().backward(inputs=[])


def test_grad_with_respect_to_intermediate_results():
    x = leaf(3)
    y = x * 2
    z = y * y
    dz_dy, dz_dx = grad(z.sum(), [y, x])
    close(dz_dy, 2 * y.detach().numpy())
    close(dz_dx, 8 * x.detach().numpy())


def test_inputs_that_are_not_used():
    x, y = leaf(3), leaf(2)
    with pytest.raises(RuntimeError, match="allow_unused=True"):
        grad(x.sum(), [x, y])
    assert grad(x.sum(), [x, y], allow_unused=True)[1] is None
    close(grad(x.sum(), [x, y], materialize_grads=True)[1], np.zeros(2))
    with pytest.raises(RuntimeError, match="does not require grad"):
        grad(x.sum(), gg.tensor(np.ones(3)))


def test_arguments_of_backward_are_checked():
    x = leaf(3)
    with pytest.raises(RuntimeError, match="implicitly created only for scalar outputs"):
        (x * 2).backward()
    with pytest.raises(RuntimeError, match=r"Mismatch in shape.*\(2,\).*\(3,\)"):
        (x * 2).backward(gg.tensor(np.ones(2)))
    with pytest.raises(RuntimeError, match="does not require grad"):
        gg.tensor(1.0).backward()
    with pytest.raises(RuntimeError, match="floating point"):
        gg.tensor([1, 2]).requires_grad_()
    with pytest.raises(RuntimeError, match="2 tensors and 1 gradients"):
        backward([x, x], [gg.tensor(np.ones(3))])
    with pytest.raises(RuntimeError, match="leaf"):
        (x * 2).requires_grad = False


def test_one_element_tensors_start_from_one_whatever_their_shape():
    x = leaf(1, 1)
    (x * 3).backward()
    close(x.grad, [[3.0]])


# Modes


def test_no_grad_records_nothing():
    x = leaf(3)
    with gg.no_grad():
        y = x * 2
        assert not gg.is_grad_enabled()
        with gg.enable_grad():
            z = x * 3
        assert not gg.is_grad_enabled()
    assert gg.is_grad_enabled()
    assert not y.requires_grad
    assert y.grad_fn is None
    assert z.requires_grad


@pytest.mark.parametrize(
    "make",
    [
        lambda: gg.no_grad,
        lambda: gg.no_grad(),
        lambda: gg.inference_mode,
        lambda: gg.inference_mode(),
        lambda: gg.set_grad_enabled(False),
    ],
)
def test_modes_as_decorators(make):
    mode = make()
    x = leaf(3)

    @mode
    def evaluate():
        return (x * 2).requires_grad

    @mode
    def several():
        for k in range(3):
            received = yield (x * k).requires_grad
            assert received in (None, k)
        return (x * 2).requires_grad

    assert evaluate.__name__ == "evaluate"
    for _ in range(2):
        assert not evaluate()
        assert gg.is_grad_enabled()
    running = several()
    assert next(running) is False
    assert gg.is_grad_enabled()
    assert running.send(0) is False
    assert (x * 2).requires_grad
    assert list(running) == [False]


def test_a_decorated_generator_passes_on_what_is_thrown_into_it():
    closed = []

    @gg.no_grad()
    def count():
        try:
            for k in range(5):
                try:
                    yield k
                except KeyError:
                    yield gg.is_grad_enabled()
        finally:
            closed.append(gg.is_grad_enabled())

    running = count()
    assert next(running) == 0
    assert running.throw(KeyError) is False
    running.close()
    assert closed == [False]
    assert gg.is_grad_enabled()


def test_modes_end_with_the_block_when_it_raises():
    for mode in (gg.no_grad, gg.inference_mode, lambda: gg.set_grad_enabled(False), detect_anomaly):
        with pytest.raises(KeyError), mode():
            raise KeyError
        assert gg.is_grad_enabled()
        assert not gg.is_inference_mode_enabled()


def test_set_grad_enabled_works_as_a_call():
    try:
        gg.set_grad_enabled(False)
        assert not (leaf(2) * 2).requires_grad
    finally:
        gg.set_grad_enabled(True)
    with gg.set_grad_enabled(False):
        assert not gg.is_grad_enabled()
    assert gg.is_grad_enabled()


def test_modes_belong_to_their_thread():
    seen = {}
    inside, done = threading.Event(), threading.Event()

    def other():
        inside.wait(10)
        seen["other"] = gg.is_grad_enabled()
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with gg.no_grad():
        inside.set()
        done.wait(10)
        seen["main"] = gg.is_grad_enabled()
    thread.join()
    assert seen == {"other": True, "main": False}


def test_inference_tensors_stay_out_of_graphs():
    x = leaf(3)
    with gg.inference_mode():
        assert gg.is_inference_mode_enabled()
        made = gg.tensor(np.ones(3)) * 2
        made.add_(1)
        with gg.inference_mode(False):
            assert (x * 2).requires_grad
    assert not made.requires_grad
    with pytest.raises(RuntimeError, match=r"(?i)inference tensor"):
        made.requires_grad_()
    with pytest.raises(RuntimeError, match=r"(?i)inference tensor"):
        made.add_(1)
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):
        x * made
    (x * made.clone()).sum().backward()
    close(x.grad, np.full(3, 3.0))
    (x + made).sum().backward()


def test_detach_and_data_share_memory_without_history():
    x = leaf(3)
    y = x * 2
    assert shares(y.detach(), y)
    assert not y.detach().requires_grad
    assert y.detach().is_leaf
    assert shares(x.data, x)
    x.data.zero_()
    close(x, np.zeros(3))
    y.detach_()
    assert y.is_leaf
    assert not y.requires_grad


# Hooks


def test_hooks_see_and_change_gradients_in_order():
    x = leaf(3)
    y = x * 2
    order = []
    y.register_hook(lambda g: order.append("first") or g * 10)
    second = y.register_hook(lambda g: order.append("second") or g + 1)
    x.register_hook(lambda g: order.append("leaf") or None)
    y.sum().backward(retain_graph=True)
    assert order == ["first", "second", "leaf"]
    close(x.grad, np.full(3, 22.0))
    second.remove()
    second.remove()
    x.grad = None
    y.sum().backward()
    close(x.grad, np.full(3, 20.0))


def test_hooks_run_once_on_the_complete_gradient():
    x = leaf(3)
    y = x * 2
    seen = []
    y.register_hook(lambda g: seen.append(g.numpy().copy()))
    (y * 2 + y * 3 + y).sum().backward()
    close(seen, [np.full(3, 6.0)])


def test_hooks_on_one_of_several_outputs():
    x = leaf(4)
    a, b = x.split(2)
    seen = []
    b.register_hook(lambda g: seen.append(g) or g * 5)
    (a + b * 2).sum().backward()
    close(seen, [np.full(2, 2.0)])
    close(x.grad, [1, 1, 10, 10])


def test_a_hook_is_removed_at_the_end_of_its_block():
    x = leaf(3)
    with x.register_hook(lambda g: g * 2):
        x.sum().backward()
    x.sum().backward()
    close(x.grad, np.full(3, 3.0))


def test_a_hook_must_keep_the_shape():
    x = leaf(3)
    x.register_hook(lambda g: g.sum())
    with pytest.raises(RuntimeError, match="shape"):
        x.sum().backward()
    with pytest.raises(RuntimeError, match="doesn't require gradient"):
        gg.tensor(1.0).register_hook(print)


def test_hooks_in_a_recorded_backward_are_recorded():
    x = leaf(3)
    y = x * x
    y.register_hook(lambda g: g * x)
    (first,) = grad(y.sum(), x, create_graph=True)
    close(first, 2 * x.detach().numpy() ** 2)
    (second,) = grad(first.sum(), x)
    close(second, 4 * x.detach().numpy())


def test_retain_grad_keeps_the_gradient_of_a_result():
    x = leaf(3)
    y = x * 2
    y.retain_grad()
    assert y.retains_grad
    assert not x.retains_grad
    (y * y).sum().backward(retain_graph=True)
    close(y.grad, 2 * y.detach().numpy())
    y.register_hook(lambda g: g * 3)
    y.grad = None
    (y * 1).sum().backward()
    close(y.grad, np.full(3, 3.0))
    with pytest.raises(RuntimeError, match="requires_grad=False"):
        gg.tensor(1.0).retain_grad()


def test_retained_gradients_are_the_tensors_own():
    x = leaf(3)
    y = x * 1
    y.retain_grad()
    start = gg.tensor(np.ones(3))
    y.backward(start)
    assert not shares(y.grad, start)
    assert not shares(y.grad, x.grad)


def test_post_accumulate_hooks():
    x = leaf(3)
    seen = []

    def step(t):
        seen.append(t.grad.numpy().copy())
        t.grad = None

    handle = x.register_post_accumulate_grad_hook(step)
    (x * 2).sum().backward()
    (x * 3).sum().backward()
    close(seen, [np.full(3, 2.0), np.full(3, 3.0)])
    assert x.grad is None
    handle.remove()
    x.sum().backward()
    assert len(seen) == 2
    with pytest.raises(RuntimeError, match="non-leaf"):
        (x * 2).register_post_accumulate_grad_hook(step)


# Anomaly mode


def test_anomaly_mode_names_the_op_and_the_line():
    x = gg.tensor([0.0, 1.0], requires_grad=True)
    with detect_anomaly():
        y = (x * 0).sqrt().sum()  # marks the line
        with pytest.raises(RuntimeError, match="NaN") as caught:
            y.backward()
    assert "'mul'" in str(caught.value)
    assert "marks the line" in str(caught.value)
    assert "test_engine.py" in str(caught.value)
    assert "gpugrad" + os.sep + "ops" not in str(caught.value)


def test_infinities_and_nan_are_values_and_warn_of_nothing():
    x = gg.tensor(np.array([0.0, -1.0, np.inf, np.nan, 800.0]), requires_grad=True)
    y = (x.log() * x.exp() / (x - x)).tanh()
    (first,) = grad(y.sum(), x, create_graph=True)
    (first * first).sum().backward()
    x.mul(0).reciprocal().sum().backward()


def test_without_anomaly_mode_nan_passes():
    x = gg.tensor([0.0, 1.0], requires_grad=True)
    (x * 0).sqrt().sum().backward()
    assert np.isnan(x.grad.numpy()).any()
    set_detect_anomaly(True)
    try:
        with pytest.raises(RuntimeError, match="NaN"):
            (x * 0).sqrt().sum().backward()
    finally:
        set_detect_anomaly(False)


# Higher order


def test_derivatives_up_to_the_fourth():
    x = leaf(3)
    v = x.detach().numpy()
    y = (x**5).sum()
    for expected in (5 * v**4, 20 * v**3, 60 * v**2, 120 * v):
        (found,) = grad(y, x, create_graph=True)
        close(found, expected)
        y = found.sum()
    y = (x.exp() * x).sum()
    for order in range(1, 5):
        (found,) = grad(y, x, create_graph=True)
        close(found, np.exp(v) * (v + order))
        y = found.sum()


def test_backward_with_create_graph_accumulates_a_recorded_gradient():
    x = leaf(3)
    (x**3).sum().backward(create_graph=True)
    assert x.grad.requires_grad
    (second,) = grad(x.grad.sum(), x)
    close(second, 6 * x.detach().numpy())
    x.grad = None


def test_gradients_of_gradients_through_shared_and_broadcast_tensors():
    x, w = leaf(4, 3), leaf(3, seed=1)
    y = ((x * w).tanh() * x).sum()
    first = grad(y, [x, w], create_graph=True)
    penalty = sum((g * g).sum() for g in first)
    second = grad(penalty, [x, w])

    def numeric(target):
        result = np.zeros(target.shape)
        for index in np.ndindex(target.shape):
            sides = []
            for step in (1e-5, -1e-5):
                values = {id(t): t.detach().numpy().copy() for t in (x, w)}
                values[id(target)][index] += step
                a, b = (gg.tensor(values[id(t)], requires_grad=True) for t in (x, w))
                found = grad(((a * b).tanh() * a).sum(), [a, b])
                sides.append(sum((g * g).sum().item() for g in found))
            result[index] = (sides[0] - sides[1]) / 2e-5
        return result

    close(second[0], numeric(x), 1e-6, 1e-6)
    close(second[1], numeric(w), 1e-6, 1e-6)


def test_mixed_second_derivatives():
    x, y = leaf(3), leaf(3, seed=1)
    (dx,) = grad((x * x * y).sum(), x, create_graph=True)
    (dxy,) = grad(dx.sum(), y)
    close(dxy, 2 * x.detach().numpy())


# Threads


def _in_threads(work, count=4):
    errors = []

    def run(k):
        try:
            work(k)
        except BaseException as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=run, args=(k,)) for k in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    if errors:
        raise errors[0]


def test_threads_with_graphs_of_their_own():
    results = {}

    def work(k):
        x = leaf(50, seed=k)
        for _ in range(20):
            x.grad = None
            (x.exp() * x).tanh().sum().backward()
        results[k] = (x.detach().numpy(), x.grad.numpy())

    _in_threads(work)
    for v, found in results.values():
        close(found, (1 - np.tanh(np.exp(v) * v) ** 2) * np.exp(v) * (1 + v))


class SlowlyAdded(np.ndarray):
    """An array whose in-place addition gives other threads time to get in between."""

    def __iadd__(self, other):
        total = np.asarray(self) + other
        time.sleep(0.002)
        self[...] = total
        return self


def test_threads_that_share_a_leaf_lose_no_gradient():
    x = leaf(50)
    x.grad = gg.Tensor._wrap(np.zeros(50).view(SlowlyAdded))

    def work(k):
        for _ in range(10):
            (x * 2.0).sum().backward()

    _in_threads(work)
    close(np.asarray(x.grad.numpy()), np.full(50, 2.0 * 10 * 4))


def test_threads_that_share_a_graph():
    x = leaf(50)
    y = (x.exp() * x).sum()

    def work(k):
        for _ in range(50):
            y.backward(retain_graph=True)

    _in_threads(work)
    v = x.detach().numpy()
    close(x.grad, 200 * np.exp(v) * (1 + v))


def test_ops_may_be_used_first_by_several_threads():
    # Two threads that met in the first call of an op both filled its cache.
    code = (
        "import sys, threading, numpy as np, gpugrad as gg\n"
        "from gpugrad.ops.pointwise import Elementwise\n"
        "from gpugrad.ops import REGISTRY\n"
        "sys.setswitchinterval(1e-6)\n"
        "ops = [op for op in REGISTRY.values() if isinstance(op, Elementwise) and op.differentiable]\n"
        "ops = [op for op in ops if op.inputs == ('input',) and not op.params]\n"
        "x = gg.tensor(np.full(2, 0.5), requires_grad=True)\n"
        "start, errors = threading.Barrier(8), []\n"
        "def work():\n"
        "    start.wait()\n"
        "    for op in ops:\n"
        "        try:\n"
        "            gg.autograd.grad(op(x), x, gg.tensor(np.ones(2)))\n"
        "        except Exception as error:\n"
        "            errors.append((op, error))\n"
        "threads = [threading.Thread(target=work) for _ in range(8)]\n"
        "[t.start() for t in threads]\n"
        "[t.join() for t in threads]\n"
        "print(errors, len(ops) > 20)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert out.stdout.strip() == "[] True", out.stderr


def test_threads_that_share_weights_in_recorded_ops():
    w = leaf(20)
    expected = 2 * w.detach().numpy()

    def work(k):
        for _ in range(50):
            (found,) = grad((w * w).sum(), w)
            close(found, expected)

    _in_threads(work)


# Nodes


def test_nodes_show_the_graph():
    x = leaf(3)
    y = x * 2
    z = (y + x).sum()
    assert repr(y.grad_fn) == "<MulBackward>"
    assert x.grad_fn is None
    assert x.is_leaf
    assert not y.is_leaf
    ((parent, slot),) = z.grad_fn.next_functions
    assert repr(parent) == "<AddBackward>"
    assert slot == 0
    assert parent.next_functions[0][0] is y.grad_fn
    assert parent.next_functions[1][0] is x


def test_recursion_limit_does_not_matter():
    code = (
        "import sys, numpy as np, gpugrad as gg\n"
        "x = gg.tensor(np.ones(2), requires_grad=True)\n"
        "y = x\n"
        "sys.setrecursionlimit(120)\n"
        "for _ in range(5000): y = y * 1.0\n"
        "(g,) = gg.autograd.grad(y.sum(), x, create_graph=True)\n"
        "print(float(g.sum()))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert out.stdout.strip() == "2.0", out.stderr


def test_what_lies_behind_a_tensor_asked_for_can_be_differentiated_later():
    x = gg.tensor([[1.0, -2.0], [3.0, 0.5]], requires_grad=True)
    y = x @ x
    z = (y.relu() * y).sum()
    (first,) = gg.autograd.grad(z, y)
    (again,) = gg.autograd.grad(y, x, first)
    fresh = x.detach().requires_grad_()
    w = fresh @ fresh
    (w.relu() * w).sum().backward()
    assert again.tolist() == fresh.grad.tolist()
    with pytest.raises(RuntimeError, match="a second time"):
        gg.autograd.grad(y.sum(), x)
