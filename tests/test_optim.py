import copy
import itertools
import math
import pickle
import warnings

import numpy as np
import pytest
from helpers import ACCELERATED, close

import gpugrad as gg
from gpugrad import optim
from gpugrad.optim import flat, lr_scheduler

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")

# Larger than a block, so that it is cut; a few small ones, that share one; 0-d; empty.
SHAPES = [(3, 4), (4,), (), (190, 180), (5, 0), (40, 50)]


def options(**choices):
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


CASES = [
    ("SGD", {"lr": 0.1, "weight_decay": wd, "maximize": wd > 0, **momentum})
    for momentum in (
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.3},
        {"momentum": 0.9, "nesterov": True},
    )
    for wd in (0, 0.1)
]
CASES += [
    (name, {"lr": 0.01, "betas": (0.8, 0.95), **choice})
    for name in ("Adam", "AdamW")
    for choice in options(amsgrad=[False, True], weight_decay=[0, 0.1], maximize=[False, True])
]
CASES += [
    ("RMSprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-6, **choice})
    for choice in options(momentum=[0, 0.9], centered=[False, True], weight_decay=[0, 0.1], maximize=[False, True])
]
CASES += [
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.3, "weight_decay": 0.1}),
    ("Adagrad", {"maximize": True}),
    ("Adadelta", {"lr": 0.5, "rho": 0.8, "weight_decay": 0.1}),
    ("Adadelta", {"maximize": True}),
    ("RAdam", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1}),
    ("RAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("Adamax", {"lr": 0.01, "betas": (0.8, 0.95)}),
    ("Adamax", {"weight_decay": 0.1, "eps": 0.1, "maximize": True}),
    ("NAdam", {"lr": 0.01, "betas": (0.8, 0.95)}),
    ("NAdam", {"weight_decay": 0.1, "momentum_decay": 0.1, "maximize": True}),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("Rprop", {"lr": 0.1}),
    ("Rprop", {"etas": (0.3, 1.7), "step_sizes": (5e-3, 0.05), "maximize": True}),
    ("ASGD", {"lr": 0.1, "lambd": 0.1}),
    ("ASGD", {"t0": 5, "alpha": 0.5, "weight_decay": 0.1, "maximize": True}),
    ("Adam", {"lr": 0.0}),
    ("Adam", {"lr": 1e-30, "weight_decay": 0.1, "decoupled_weight_decay": True}),
]


def make_pair(rng, shapes=SHAPES, dtype="float64"):
    arrays = [rng.standard_normal(shape) for shape in shapes]
    ours = [gg.tensor(a, dtype=dtype, requires_grad=True) for a in arrays]
    theirs = [torch.nn.Parameter(torch.tensor(a, dtype=getattr(torch, dtype))) for a in arrays]
    return ours, theirs


def set_gradients(rng, ours, theirs, skip=()):
    for k, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        mine.grad = other.grad = None
        if k not in skip:
            g = rng.standard_normal(other.shape)
            mine.grad = gg.tensor(g, dtype=mine.dtype)
            other.grad = torch.tensor(g, dtype=other.dtype)


def assert_same(ours, theirs, rtol=1e-12):
    for mine, other in zip(ours, theirs, strict=True):
        other = other.detach().numpy()
        np.testing.assert_allclose(
            mine.detach().numpy(), other, rtol=0, atol=rtol * max(1, np.abs(other).max(initial=0))
        )


class Replay:
    """Numbers as from a generator, made once for all the cases below."""

    arrays: list = []

    def __init__(self):
        self.place = 0

    def standard_normal(self, shape):
        if self.place == len(self.arrays):
            self.arrays.append(np.random.default_rng(self.place).standard_normal(shape))
        self.place += 1
        return self.arrays[self.place - 1]


@needs_torch
@pytest.mark.parametrize(("name", "choice"), CASES, ids=str)
def test_fifty_steps_equal_pytorch(name, choice):
    rng = Replay()
    ours, theirs = make_pair(rng)
    mine, other = getattr(optim, name)(ours, **choice), getattr(torch.optim, name)(theirs, **choice)
    for step in range(50):
        # Some have no gradient in some steps; that one counts on its own.
        set_gradients(rng, ours, theirs, skip={0: (1,), 1: (3, 4), 2: range(6)}.get(step % 10, ()))
        given = [None if p.grad is None else p.grad.numpy().copy() for p in ours]
        mine.step()
        other.step()
        for p, g in zip(ours, given, strict=True):
            assert (p.grad is None) == (g is None)
            if g is not None:
                np.testing.assert_array_equal(p.grad.numpy(), g)
    assert_same(ours, theirs)
    saved, expected = mine.state_dict(), other.state_dict()
    assert saved["param_groups"] == expected["param_groups"]
    assert saved["state"].keys() == expected["state"].keys()
    for key, entry in expected["state"].items():
        assert list(saved["state"][key]) == list(entry)
        for item, value in entry.items():
            assert str(value.dtype) == f"torch.{saved['state'][key][item].dtype}"
            np.testing.assert_allclose(saved["state"][key][item].numpy(), value.numpy(), rtol=1e-11, atol=1e-13)


@needs_torch
@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "Adadelta", "Adamax", "NAdam", "Rprop", "ASGD"])
def test_float32_equals_pytorch_to_rounding(name):
    rng = np.random.default_rng(2)
    ours, theirs = make_pair(rng, dtype="float32")
    mine, other = getattr(optim, name)(ours, lr=0.01), getattr(torch.optim, name)(theirs, lr=0.01)
    for _ in range(10):
        set_gradients(rng, ours, theirs)
        mine.step()
        other.step()
    assert all(p.dtype == gg.float32 for p in ours)
    assert_same(ours, theirs, 1e-5)


@needs_torch
def test_options_may_change_between_steps():
    rng = np.random.default_rng(3)
    ours, theirs = make_pair(rng)
    mine, other = optim.SGD(ours, lr=0.1), torch.optim.SGD(theirs, lr=0.1)
    for change in ({}, {"momentum": 0.9}, {"lr": 0.01}, {"momentum": 0}, {"momentum": 0.5, "weight_decay": 0.1}):
        mine.param_groups[0].update(change)
        other.param_groups[0].update(change)
        for _ in range(2):
            set_gradients(rng, ours, theirs)
            mine.step()
            other.step()
    assert_same(ours, theirs)


@needs_torch
def test_groups_have_their_own_options():
    rng = np.random.default_rng(4)
    ours, theirs = make_pair(rng)

    def build(module, params):
        optimizer = module.Adam([{"params": params[0]}, {"params": params[1:3], "lr": 0.1}], lr=0.01)
        optimizer.add_param_group({"params": params[3:], "betas": (0.5, 0.9), "weight_decay": 0.1})
        return optimizer

    mine, other = build(optim, ours), build(torch.optim, theirs)
    for _ in range(5):
        set_gradients(rng, ours, theirs)
        mine.step()
        other.step()
    assert_same(ours, theirs)
    assert mine.state_dict()["param_groups"] == other.state_dict()["param_groups"]
    assert repr(mine) == repr(other)


@needs_torch
def test_a_state_dict_of_pytorch_loads():
    rng = np.random.default_rng(5)
    ours, theirs = make_pair(rng)
    other = torch.optim.Adam(theirs, lr=0.05, amsgrad=True)
    for _ in range(3):
        set_gradients(rng, ours, theirs)
        other.step()
    for p, q in zip(ours, theirs, strict=True):
        p.data = gg.tensor(q.detach().numpy())
    saved = other.state_dict()
    for entry in saved["state"].values():
        entry.update({name: gg.tensor(value.numpy()) for name, value in entry.items()})
    mine = optim.Adam(ours, amsgrad=True)
    mine.load_state_dict(saved)
    other = torch.optim.Adam(theirs, lr=0.05, amsgrad=True)
    other.load_state_dict(
        {
            "state": {k: {n: torch.tensor(v.numpy()) for n, v in entry.items()} for k, entry in saved["state"].items()},
            "param_groups": saved["param_groups"],
        }
    )
    for _ in range(3):
        set_gradients(rng, ours, theirs)
        mine.step()
        other.step()
    assert_same(ours, theirs)


MATRIX_CASES = [
    ("Adafactor", {}),
    ("Adafactor", {"lr": 0.5, "weight_decay": 0.1, "eps": (1e-3, 0.1), "d": 1.5, "maximize": True}),
    ("Adafactor", {"lr": gg.tensor(0.1), "beta2_decay": -0.5}),
    ("Muon", {"lr": 0.1}),
    ("Muon", {"lr": 0.1, "nesterov": False, "adjust_lr_fn": "match_rms_adamw", "ns_steps": 3, "momentum": 0.5}),
    ("Muon", {"adjust_lr_fn": "original", "weight_decay": 0, "ns_coefficients": (1.5, -0.5, 0.0)}),
]


@needs_torch
@pytest.mark.parametrize(("name", "choice"), MATRIX_CASES, ids=str)
def test_steps_on_whole_parameters_equal_pytorch(name, choice):
    rng = np.random.default_rng(0)
    ours, theirs = make_pair(rng, [(3, 4), (7, 2), (30, 20)] if name == "Muon" else [(3, 4), (5,), (), (2, 7, 3)])
    mine = getattr(optim, name)(ours, **choice)
    other = getattr(torch.optim, name)(theirs, **{k: float(v) if k == "lr" else v for k, v in choice.items()})
    for step in range(10):
        set_gradients(rng, ours, theirs, skip=(1,) if step % 4 == 2 else ())
        mine.step()
        other.step()
    # PyTorch iterates in bfloat16.
    assert_same(ours, theirs, 0.03 if name == "Muon" else 1e-12)
    saved, expected = mine.state_dict(), other.state_dict()
    assert saved["param_groups"][0].keys() == expected["param_groups"][0].keys()
    for key, entry in expected["state"].items():
        assert list(saved["state"][key]) == list(entry)
        for item, value in entry.items():
            assert str(value.dtype) == f"torch.{saved['state'][key][item].dtype}"
            np.testing.assert_allclose(saved["state"][key][item].numpy(), value.numpy(), rtol=1e-10, atol=1e-13)


def test_muon_brings_singular_values_near_one():
    matrix = gg.tensor(np.random.default_rng(0).standard_normal((20, 6)), requires_grad=True)
    matrix.grad = matrix.detach().clone()
    before = matrix.detach().numpy().copy()
    optim.Muon([matrix], lr=1.0, weight_decay=0.0).step()
    moved = np.linalg.svd(before - matrix.detach().numpy())[1] / math.sqrt(20 / 6)
    assert 0.6 < moved.min() < moved.max() < 1.3


@pytest.mark.parametrize(("name", "choice"), MATRIX_CASES, ids=str)
def test_steps_on_whole_parameters_go_on_from_a_state_dict(name, choice):
    results = []
    for loaded in (False, True):
        rng, params = params_with_gradients(((3, 4), (5, 2)), dtype=np.float32)
        optimizer = getattr(optim, name)(params, **choice)
        for _ in range(4):
            new_gradients(rng, params)
            optimizer.step()
            if loaded:
                saved = optimizer.state_dict()
                optimizer = getattr(optim, name)(params)
                optimizer.load_state_dict(saved)
        results.append(values(params))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("place", ACCELERATED)
@pytest.mark.parametrize(("name", "choice"), MATRIX_CASES, ids=str)
def test_steps_on_whole_parameters_on_a_cuda_device(place, name, choice):
    found = []
    for where in ("cpu", place):
        rng = np.random.default_rng(3)
        params = [gg.tensor(rng.standard_normal(s), device=where, requires_grad=True) for s in ((3, 4), (5, 2))]
        optimizer = getattr(optim, name)(params, **choice)
        for _ in range(4):
            for p in params:
                p.grad = gg.tensor(rng.standard_normal(p.shape), device=where)
            optimizer.step()
        found.append([p.detach().cpu().numpy() for p in params])
    tolerance = 1e-3 if name == "Muon" else 1e-9
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, tolerance, tolerance)


def params_with_gradients(shapes=((3, 4), (4,)), seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    params = [gg.tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True) for shape in shapes]
    new_gradients(rng, params)
    return rng, params


def new_gradients(rng, params):
    for p in params:
        p.grad = gg.tensor(rng.standard_normal(p.shape).astype(p.dtype))


def values(params):
    return [p.detach().numpy().copy() for p in params]


def twin(optimizer_of, steps, disturb, seed=0, shapes=((3, 4), (4,), (300, 200))):
    """The optimizer after some steps with ``disturb(params, optimizer)`` before each, which changed no result."""
    results = []
    for disturbed in (False, True):
        rng, params = params_with_gradients(shapes, seed)
        optimizer = optimizer_of(params)
        for _ in range(steps):
            new_gradients(rng, params)
            if disturbed:
                disturb(params, optimizer)
            optimizer.step()
        results.append((values(params), optimizer))
    for a, b in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_array_equal(a, b)
    return results[1][1]


def adam(params):
    return optim.Adam(params, lr=0.1)


def test_replaced_data_is_noticed_and_state_kept():
    def replace(params, optimizer):
        params[0].data = gg.tensor(params[0].numpy(force=True))
        params[2].data = gg.tensor(params[2].numpy(force=True))

    optimizer = twin(adam, 4, replace)
    assert {float(entry["step"]) for entry in optimizer.state.values()} == {4.0}


def test_assigned_values_move_into_the_buffer():
    _, params = params_with_gradients()
    optimizer = optim.SGD(params, lr=0.0, momentum=0.9)
    optimizer.step()
    buffer = params[0]._data.base
    new = np.arange(12.0).reshape(3, 4)
    params[0].data = gg.tensor(new)
    optimizer.step()
    np.testing.assert_array_equal(params[0].detach().numpy(), new)
    assert params[0]._data.base is buffer


def test_memory_that_someone_else_holds_is_updated_where_it_is():
    _, params = params_with_gradients()
    held = [params[0].detach(), params[1].detach().numpy()[1:]]
    optimizer = adam(params)
    optimizer.step()
    np.testing.assert_array_equal(held[0].numpy(), params[0].detach().numpy())
    np.testing.assert_array_equal(held[1], params[1].detach().numpy()[1:])
    vector = gg.tensor(np.arange(4.0))
    params[1].data = vector
    optimizer.step()
    np.testing.assert_array_equal(vector.numpy(), params[1].detach().numpy())
    assert float(optimizer.state[params[1]]["step"]) == 2


def test_parameters_move_into_one_buffer_and_stay_views_of_it():
    _, params = params_with_gradients()
    before = values(params)
    optimizer = optim.SGD(params, lr=0.0)
    optimizer.step()
    for p, old in zip(params, before, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), old)
    assert params[0]._data.base is params[1]._data.base is not None
    array = params[0].detach().numpy()
    optimizer.param_groups[0]["lr"] = 1.0
    optimizer.step()
    np.testing.assert_array_equal(array, params[0].detach().numpy())
    assert (array != before[0]).all()


def test_two_optimizers_share_parameters():
    results = []
    for shared in (False, True):
        rng, params = params_with_gradients()
        first, second = adam(params), adam(params) if shared else None
        for step in range(4):
            new_gradients(rng, params)
            if shared and step % 2:
                second.state = first.state
                second.step()
            else:
                first.step()
        results.append(values(params))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("layout", ["transposed", "sliced", "reversed"])
def test_parameters_with_gaps_are_updated_where_they_are(layout):
    def view(array):
        return {"transposed": array.T, "sliced": array[:, ::2], "reversed": array[::-1]}[layout]

    rng = np.random.default_rng(6)
    base = rng.standard_normal((300, 300))
    kept = base.copy()
    p = gg.tensor(0.0)
    p._data = view(base)
    p.requires_grad = True
    q = gg.tensor(view(base).copy(), requires_grad=True)
    optimizer = adam([p, q])
    for _ in range(3):
        p.grad = gg.tensor(rng.standard_normal(p.shape))
        q.grad = p.grad.clone()
        optimizer.step()
    np.testing.assert_array_equal(view(base), q.detach().numpy())
    if layout == "sliced":
        np.testing.assert_array_equal(base[:, 1::2], kept[:, 1::2])


def test_gradients_of_any_layout():
    _, (p,) = params_with_gradients([(3, 4)])
    q = gg.tensor(p.detach().numpy().copy(), requires_grad=True)
    array = np.arange(12.0).reshape(4, 3)
    p.grad, q.grad = gg.tensor(array.T.copy()), gg.tensor(array.T.copy())
    p.grad._data = array.T
    optimizer = adam([p, q])
    optimizer.step()
    np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


def test_dtype_change_keeps_the_state():
    rng, params = params_with_gradients(dtype=np.float32)
    optimizer = adam(params)
    optimizer.step()
    moment = optimizer.state[params[0]]["exp_avg"].numpy().copy()
    for p in params:
        p.data = p.detach().to(gg.float64)
    with pytest.raises(RuntimeError, match="gradient of shape"):
        optimizer.step()
    new_gradients(rng, params)
    optimizer.param_groups[0]["betas"] = (1.0 - 1e-12, 0.999)
    optimizer.step()
    assert params[0].dtype == optimizer.state[params[0]]["exp_avg"].dtype == gg.float64
    np.testing.assert_allclose(optimizer.state[params[0]]["exp_avg"].numpy(), moment, rtol=1e-6)


def test_state_can_be_changed_replaced_and_cleared():
    def replace(params, optimizer):
        for entry in optimizer.state.values():
            entry["exp_avg"] = gg.tensor(entry["exp_avg"].numpy())
            entry["step"] = float(entry["step"])

    twin(adam, 4, replace)

    _, params = params_with_gradients()
    start = values(params)
    optimizer = adam(params)
    optimizer.step()
    first = [a - b for a, b in zip(values(params), start, strict=True)]
    for entry in optimizer.state.values():
        entry["exp_avg"]._data[...] = 0
        entry["exp_avg_sq"]._data[...] = 0
        entry["step"]._data[...] = 0
    start = values(params)
    optimizer.step()
    again = [a - b for a, b in zip(values(params), start, strict=True)]
    optimizer.state.clear()
    start = values(params)
    optimizer.step()
    for a, b, c, d in zip(first, again, values(params), start, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
        np.testing.assert_allclose(a, c - d, rtol=1e-9)


def test_no_state_for_parameters_without_gradient():
    _, params = params_with_gradients()
    params[1].grad = None
    before = params[1].detach().numpy().copy()
    optimizer = adam(params)
    optimizer.step()
    assert list(optimizer.state) == [params[0]]
    assert list(optimizer.state_dict()["state"]) == [0]
    np.testing.assert_array_equal(params[1].detach().numpy(), before)
    version = params[0]._version
    optimizer.step()
    assert params[0]._version > version
    plain = optim.SGD(params, lr=0.1)
    plain.step()
    assert plain.state_dict()["state"] == {}


def test_steps_are_counted_for_each_parameter():
    _, params = params_with_gradients()
    optimizer = adam(params)
    optimizer.step()
    params[1].grad = None
    optimizer.step()
    assert [float(optimizer.state[p]["step"]) for p in params] == [2, 1]


def test_one_whole_block_gives_the_same(monkeypatch):
    def result():
        rng, params = params_with_gradients([(3, 4), (4,), (), (30, 20), (5, 0)])
        optimizer = optim.Adam(params, weight_decay=0.1)
        for skip in (None, 1, None):
            new_gradients(rng, params)
            if skip:
                params[skip].grad = None
            optimizer.step()
        return values(params)

    expected = result()
    for block in (1, 7, 10**9):
        monkeypatch.setattr(flat, "BLOCK", block)
        for a, b in zip(result(), expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_save_and_load_continue_exactly():
    rng, params = params_with_gradients()
    optimizer = adam(params)
    optimizer.step()
    state = copy.deepcopy(optimizer.state_dict())
    others = [gg.tensor(p.detach().numpy().copy(), requires_grad=True) for p in params]
    restored = optim.Adam(others)
    restored.load_state_dict(state)
    assert restored.param_groups[0]["lr"] == 0.1
    state["state"][0]["exp_avg"]._data[...] = math.nan
    for _ in range(2):
        new_gradients(rng, params)
        for p, q in zip(params, others, strict=True):
            q.grad = p.grad
        optimizer.step()
        restored.step()
    for a, b in zip(values(params), values(others), strict=True):
        np.testing.assert_array_equal(a, b)


def test_loading_refuses_what_does_not_fit():
    _, params = params_with_gradients()
    optimizer = adam(params)
    optimizer.step()
    state = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optim.Adam([{"params": params[:1]}, {"params": params[1:]}]).load_state_dict(state)
    with pytest.raises(ValueError, match="size of optimizer's group"):
        optim.Adam(params[:1]).load_state_dict(state)
    with pytest.raises(ValueError, match=r"'exp_avg' of parameter 0 has shape \(3, 4\)"):
        optim.Adam(params[::-1]).load_state_dict(state)


def test_copies_and_pickles_are_independent():
    _, params = params_with_gradients()
    optimizer = adam(params)
    optimizer.step()
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        twins = other.param_groups[0]["params"]
        for p, q in zip(params, twins, strict=True):
            q.grad = p.grad.clone()
        before = values(params)
        other.step()
        for a, b in zip(values(params), before, strict=True):
            np.testing.assert_array_equal(a, b)
        assert float(other.state[twins[0]]["step"]) == 2


def test_zero_grad():
    _, params = params_with_gradients()
    optimizer = adam(params)
    gradient = params[0].grad
    optimizer.zero_grad(set_to_none=False)
    assert params[0].grad._data is gradient._data
    assert not gradient.numpy().any()
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)


def test_closure_records_and_its_loss_is_returned():
    p = gg.tensor(3.0, requires_grad=True)
    optimizer = optim.SGD([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = p * p
        loss.backward()
        return loss

    with gg.no_grad():
        assert optimizer.step(closure).item() == 9.0
    assert p.item() == pytest.approx(3 - 0.1 * 6)


def test_an_overwritten_parameter_cannot_be_differentiated_through():
    p = gg.tensor([2.0], requires_grad=True)
    loss = p * p
    p.grad = gg.tensor([1.0])
    optim.SGD([p], lr=0.1).step()
    with pytest.raises(RuntimeError, match="inplace"):
        loss.backward()


def test_hooks():
    _, params = params_with_gradients()
    optimizer = adam(params)
    calls = []
    optimizer.register_step_pre_hook(lambda o, args, kwargs: calls.append("before"))
    handle = optimizer.register_step_post_hook(lambda o, args, kwargs: calls.append("after"))
    optimizer.step()
    handle.remove()
    optimizer.step()
    assert calls == ["before", "after", "before"]
    optimizer.register_state_dict_pre_hook(lambda o: calls.append("saving"))
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "more": 1})
    assert optimizer.state_dict()["more"] == 1
    optimizer.register_load_state_dict_pre_hook(lambda o, state: calls.append(sorted(state)))
    optimizer.register_load_state_dict_post_hook(lambda o: calls.append("loaded"))
    optimizer.load_state_dict(optimizer.state_dict())
    assert calls[3:] == ["saving", "saving", ["more", "param_groups", "state"], "loaded"]


def test_a_users_own_optimizer():
    class Signs(optim.Optimizer):
        def __init__(self, params, lr=optim.optimizer.required):
            super().__init__(params, {"lr": lr})

        @gg.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    self.state[p]["calls"] = self.state[p].get("calls", 0) + 1
                    p.data -= group["lr"] * p.grad.sign()

    _, params = params_with_gradients()
    start = values(params)
    with pytest.raises(ValueError, match="required optimization parameter lr"):
        Signs(params)
    optimizer = Signs(params, lr=0.5)
    scheduler = lr_scheduler.StepLR(optimizer, 1)
    optimizer.step()
    scheduler.step()
    assert optimizer.state_dict()["state"] == {0: {"calls": 1}, 1: {"calls": 1}}
    np.testing.assert_allclose(np.abs(values(params)[0] - start[0]), 0.5)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)


def test_inf_and_nan_gradients_pass_without_warnings():
    _, params = params_with_gradients()
    params[0].grad._data[...] = math.inf
    params[1].grad._data[0] = math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adam(params).step()
    assert math.isnan(params[1].tolist()[0])
    assert not math.isnan(params[1].tolist()[1])


def leaf():
    return gg.tensor([1.0], requires_grad=True)


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda: optim.SGD([leaf()], lr=-1), ValueError, "Invalid learning rate: -1"),
        (lambda: optim.SGD([leaf()], momentum=-1), ValueError, "Invalid momentum value: -1"),
        (lambda: optim.SGD([leaf()], weight_decay=-1), ValueError, "Invalid weight_decay value: -1"),
        (lambda: optim.SGD([leaf()], nesterov=True), ValueError, "Nesterov momentum requires"),
        (lambda: optim.Adam([leaf()], lr=math.nan), ValueError, "Invalid learning rate: nan"),
        (lambda: optim.Adam([leaf()], eps=-1), ValueError, "Invalid epsilon value: -1"),
        (lambda: optim.AdamW([leaf()], betas=(0.9, 1.0)), ValueError, "beta parameter at index 1: 1.0"),
        (lambda: optim.RMSprop([leaf()], alpha=-1), ValueError, "Invalid alpha value: -1"),
        (lambda: optim.Adadelta([leaf()], rho=2), ValueError, "Invalid rho value: 2"),
        (lambda: optim.Adagrad([leaf()], lr_decay=-1), ValueError, "Invalid lr_decay value: -1"),
        (lambda: optim.RAdam([leaf()], betas=(-1, 0.9)), ValueError, "beta parameter at index 0: -1"),
        (lambda: optim.Adam([leaf()], differentiable=True), RuntimeError, "differentiable"),
        (lambda: optim.SGD([]), ValueError, "empty parameter list"),
        (lambda: optim.SGD(leaf()), TypeError, "iterable of Tensors or dicts"),
        (lambda: optim.SGD([1.0]), TypeError, "can only optimize Tensors, but one of the params is float"),
        (lambda: optim.SGD([leaf() * 2]), ValueError, "non-leaf"),
        (lambda: optim.SGD([{"params": {leaf()}}]), TypeError, "ordered collection"),
        (lambda: optim.SGD([("a", leaf()), leaf()]), ValueError, "with/without names"),
        (lambda: optim.SGD([leaf()]).add_param_group([leaf()]), TypeError, "must be a dict"),
        (lambda: optim.Optimizer([leaf()], {}).step(), NotImplementedError, "step"),
        (lambda: lr_scheduler.StepLR(leaf(), 1), TypeError, "Tensor is not an Optimizer"),
        (lambda: lr_scheduler.StepLR(optim.SGD([leaf()]), 1, last_epoch=3), KeyError, "initial_lr"),
        (lambda: lr_scheduler.LambdaLR(optim.SGD([leaf()]), [abs, abs]), ValueError, "2 values for 1"),
        (lambda: lr_scheduler.LambdaLR(optim.SGD([leaf()]), 3), TypeError, "function"),
        (lambda: lr_scheduler.ConstantLR(optim.SGD([leaf()]), 2), ValueError, "between 0 and 1"),
        (lambda: lr_scheduler.LinearLR(optim.SGD([leaf()]), 0), ValueError, "greater than 0"),
        (lambda: lr_scheduler.OneCycleLR(optim.SGD([leaf()]), 1), ValueError, "total_steps OR"),
        (lambda: lr_scheduler.OneCycleLR(optim.SGD([leaf()]), 1, total_steps=0), ValueError, "positive integer"),
        (lambda: lr_scheduler.OneCycleLR(optim.Adagrad([leaf()]), 1, 5), ValueError, "momentum or beta1"),
        (lambda: lr_scheduler.CosineAnnealingWarmRestarts(optim.SGD([leaf()]), 0), ValueError, "T_0"),
        (lambda: lr_scheduler.CyclicLR(optim.SGD([leaf()]), 0, 1, mode="x"), ValueError, "mode"),
        (lambda: lr_scheduler.ReduceLROnPlateau(optim.SGD([leaf()]), factor=1), ValueError, "Factor"),
        (lambda: lr_scheduler.ReduceLROnPlateau(optim.SGD([leaf()]), "x"), ValueError, "mode x"),
        (lambda: lr_scheduler.ChainedScheduler([]), ValueError, "at least one"),
    ],
)
def test_bad_arguments(build, error, text):
    with pytest.raises(error, match=text):
        build()


def test_parameters_given_twice():
    p = leaf()
    with pytest.raises(ValueError, match="more than one parameter group"):
        optim.SGD([{"params": [p]}, {"params": [p]}])
    with pytest.warns(UserWarning, match="duplicate"):
        optimizer = optim.SGD([p, p], lr=1.0)
    p.grad = gg.tensor([0.25])
    optimizer.step()
    assert p.tolist() == [0.75]


def test_named_parameters():
    optimizer = optim.SGD([("weight", leaf()), ("bias", leaf())], lr=0.1)
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]


# L-BFGS


def valley(T, params):
    """Rosenbrock's function of each column, and a term that ties the parameters together."""
    x, y = params
    return ((1 - x) ** 2 + 10 * (y[0] - x**2) ** 2).sum() + (x.sum() * y).exp().sum() * 1e-3


def bowl(T, params):
    x, y = params
    return (x**2).sum() + 3 * (y**2 * y.new_tensor([1.0, 20.0, 0.1])).sum()


def rough(T, params):
    x, y = params
    return (x.abs() + (3 * x).sin()).sum() + ((y - 1).abs() ** 1.5).sum()


def wavy(T, params):
    x, y = params
    return (1 + (x - 1) ** 2).log().sum() + 10 * ((y * y).sum() + 1e-3).sqrt() + (7 * y).sin().sum()


def steep(T, params):
    x, y = params
    return (x.exp() - 3 * x).sum() + ((1 + (100 * y).exp()).log() - 30 * y).sum()


LBFGS_CASES = [
    (wavy, {"line_search_fn": "strong_wolfe", "lr": 30.0, "max_iter": 12}),
    (rough, {"line_search_fn": "strong_wolfe", "lr": 30.0, "max_iter": 12}),
    (steep, {"line_search_fn": "strong_wolfe", "lr": 0.01, "max_iter": 12}),
    (valley, {"line_search_fn": "strong_wolfe"}),
    (valley, {"lr": 0.05}),
    (valley, {"line_search_fn": "strong_wolfe", "history_size": 2, "max_iter": 7}),
    (valley, {"line_search_fn": "strong_wolfe", "max_eval": 4, "lr": 30.0}),
    (bowl, {}),
    (bowl, {"line_search_fn": "strong_wolfe", "lr": 1e-3, "tolerance_grad": 1e-3}),
    (bowl, {"tolerance_change": 0.1, "max_iter": 3}),
    (rough, {"line_search_fn": "strong_wolfe", "max_iter": 4}),
    (rough, {"lr": 0.3, "history_size": 1}),
]


def lbfgs_pair(choice, dtype="float64"):
    rng = np.random.default_rng(5)
    arrays = [rng.standard_normal(3), rng.standard_normal((1, 3))]
    made = []
    for T in (gg, torch):
        params = [T.tensor(a, dtype=getattr(T, dtype), requires_grad=True) for a in arrays]
        made.append((T, params, T.optim.LBFGS(params, **choice)))
    return made


def minimise(T, params, optimizer, function):
    losses = []

    def closure():
        optimizer.zero_grad()
        loss = function(T, params)
        loss.backward()
        losses.append(loss.item())
        return loss

    first = optimizer.step(closure)
    np.testing.assert_equal(first.item(), losses[0])
    return losses


@needs_torch
@pytest.mark.parametrize(("function", "choice"), LBFGS_CASES)
def test_lbfgs_steps_equal_pytorch(function, choice):
    mine, theirs = lbfgs_pair(choice)
    for _ in range(2):
        ours, others = minimise(*mine, function), minimise(*theirs, function)
        assert len(ours) == len(others)
        np.testing.assert_allclose(ours, others, rtol=1e-7, atol=1e-9)
        assert_same(mine[1], theirs[1], 1e-8)
    saved, expected = mine[2].state_dict(), theirs[2].state_dict()
    assert saved["param_groups"] == expected["param_groups"]
    saved, expected = saved["state"][0], expected["state"][0]
    assert set(saved) == set(expected) - {"al"}
    for name in ("func_evals", "n_iter"):
        assert saved[name] == expected[name]
    for name in ("d", "t", "H_diag", "prev_flat_grad", "prev_loss"):
        np.testing.assert_allclose(np.asarray(saved[name]), np.asarray(expected[name]), rtol=1e-5, atol=1e-7)
    for name in ("old_dirs", "old_stps", "ro"):
        assert len(saved[name]) == len(expected[name])
        for a, b in zip(saved[name], expected[name], strict=True):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-7)


@needs_torch
@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_lbfgs_goes_on_from_a_state_dict(whose):
    choice = {"line_search_fn": "strong_wolfe", "max_iter": 4}
    mine, theirs = lbfgs_pair(choice)
    for each in (mine, theirs):
        minimise(*each, valley)
    state = copy.deepcopy(mine[2].state_dict())
    if whose == "theirs":
        state = theirs[2].state_dict()
        entry = state["state"][0]
        for name, value in entry.items():
            if isinstance(value, list):
                entry[name] = [gg.tensor(t.numpy()) if torch.is_tensor(t) else t for t in value]
            elif torch.is_tensor(value):
                entry[name] = gg.tensor(value.numpy())
    params = [p.detach().clone().requires_grad_() for p in mine[1]]
    again = optim.LBFGS(params, **choice)
    again.load_state_dict(state)
    for _ in range(2):
        minimise(gg, params, again, valley)
        minimise(*mine, valley)
    assert_same(params, mine[1], 1e-8)


def test_lbfgs_minimises_in_float32_and_with_parameters_that_are_not_used(tmp_path):
    x, unused = gg.tensor([-1.2, 1.0], requires_grad=True), gg.ones(2, requires_grad=True)
    optimizer = optim.LBFGS([{"params": [x, unused], "lr": gg.tensor(1.0)}], line_search_fn="strong_wolfe")
    for _ in range(3):
        minimise(gg, [x], optimizer, lambda T, params: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)
    np.testing.assert_allclose(x.detach(), [1, 1], atol=1e-3)
    assert unused.tolist() == [1.0, 1.0]
    gg.save(optimizer.state_dict(), tmp_path / "state.safetensors")
    optimizer.load_state_dict(gg.load(tmp_path / "state.safetensors"))
    minimise(gg, [x], optimizer, lambda T, params: (x**2).sum())
    assert x.abs().max().item() < 1e-3


@pytest.mark.parametrize("place", ACCELERATED)
def test_lbfgs_on_a_cuda_device_does_what_it_does_on_the_cpu(place):
    found = []
    for device in ("cpu", place):
        params = [gg.tensor([[-1.2, 1.0]], dtype=gg.float64, device=device, requires_grad=True)]
        optimizer = optim.LBFGS(params, line_search_fn="strong_wolfe", max_iter=6)
        minimise(gg, params, optimizer, lambda T, p: (1 - p[0][0, 0]) ** 2 + 10 * (p[0][0, 1] - p[0][0, 0] ** 2) ** 2)
        found.append(params[0].detach().cpu().numpy())
    np.testing.assert_allclose(*found, rtol=1e-9)


def test_lbfgs_refuses_what_it_cannot_do():
    x, y = gg.ones(2, requires_grad=True), gg.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="parameter groups"):
        optim.LBFGS([{"params": [x]}, {"params": [y]}])
    with pytest.raises(ValueError, match="learning rate"):
        optim.LBFGS([x], lr=-1)
    with pytest.raises(RuntimeError, match="strong_wolfe"):
        optim.LBFGS([x], line_search_fn="other").step(lambda: (x**2).sum())
    with pytest.raises(TypeError, match="closure"):
        optim.LBFGS([x]).step()
    optimizer = optim.LBFGS([x])
    optimizer.add_param_group({"params": [y]})
    with pytest.raises(ValueError, match="parameter groups"):
        optimizer.step(lambda: (x**2).sum())


def swa_utils(lr_scheduler):
    return (optim if lr_scheduler is optim.lr_scheduler else torch.optim).swa_utils


SCHEDULES = {
    "StepLR": lambda m, o: m.StepLR(o, 7, gamma=0.5),
    "MultiStepLR": lambda m, o: m.MultiStepLR(o, [3, 10, 10, 30], gamma=0.5),
    "ConstantLR": lambda m, o: m.ConstantLR(o, 0.3, 9),
    "LinearLR": lambda m, o: m.LinearLR(o, 0.1, 0.8, 20),
    "ExponentialLR": lambda m, o: m.ExponentialLR(o, 0.95),
    "PolynomialLR": lambda m, o: m.PolynomialLR(o, 30, 2.0),
    "CosineAnnealingLR": lambda m, o: m.CosineAnnealingLR(o, 12, 1e-3),
    "CosineAnnealingWarmRestarts": lambda m, o: m.CosineAnnealingWarmRestarts(o, 5, 2, 1e-3),
    "LambdaLR": lambda m, o: m.LambdaLR(o, [lambda e: 0.9**e, lambda e: 1 / (1 + e)]),
    "MultiplicativeLR": lambda m, o: m.MultiplicativeLR(o, lambda e: 0.9 + 0.01 * (e % 3)),
    "OneCycleLR": lambda m, o: m.OneCycleLR(o, [0.3, 0.2], 51),
    "OneCycleLR three phases": lambda m, o: m.OneCycleLR(
        o, 0.3, epochs=17, steps_per_epoch=3, three_phase=True, anneal_strategy="linear"
    ),
    "CyclicLR": lambda m, o: m.CyclicLR(o, [0.01, 0.02], 0.1, 7, 4),
    "CyclicLR triangular2": lambda m, o: m.CyclicLR(o, 0.01, 0.1, 7, mode="triangular2", cycle_momentum=False),
    "CyclicLR exp_range": lambda m, o: m.CyclicLR(o, 0.01, 0.1, 7, mode="exp_range", gamma=0.9),
    "CyclicLR own scale": lambda m, o: m.CyclicLR(o, 0.01, 0.1, 7, scale_fn=lambda x: 1 / x, scale_mode="cycle"),
    "SequentialLR": lambda m, o: m.SequentialLR(
        o, [m.ConstantLR(o, 0.1, 5), m.ExponentialLR(o, 0.9), m.CosineAnnealingLR(o, 10)], [5, 20]
    ),
    "ChainedScheduler": lambda m, o: m.ChainedScheduler([m.ConstantLR(o, 0.1, 5), m.ExponentialLR(o, 0.9)]),
    "SWALR": lambda m, o: swa_utils(m).SWALR(o, 0.01),
    "SWALR linear": lambda m, o: swa_utils(m).SWALR(o, [0.01, 0.2], 7, "linear"),
    "SWALR at once": lambda m, o: swa_utils(m).SWALR(o, 0.01, anneal_epochs=0),
}
OPTIMIZERS = {"SGD": {"momentum": 0.9}, "Adam": {}}


def schedule(module, name, optimizer="SGD", make=leaf):
    o = getattr(module, optimizer)(
        [{"params": [make()]}, {"params": [make()], "lr": 0.05}], lr=0.1, **OPTIMIZERS[optimizer]
    )
    return o, SCHEDULES[name](module.lr_scheduler, o)


def follow(o, scheduler, steps):
    seen = []
    for _ in range(steps):
        seen.append([(g["lr"], g.get("momentum"), g.get("betas")) for g in o.param_groups])
        assert scheduler.get_last_lr() == [g["lr"] for g in o.param_groups]
        o.step()
        scheduler.step()
    return seen


@needs_torch
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_equal_pytorch(name, optimizer):
    ours = follow(*schedule(optim, name, optimizer), 50)
    theirs = follow(*schedule(torch.optim, name, optimizer, lambda: torch.nn.Parameter(torch.ones(1))), 50)
    assert ours == theirs


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_go_on_from_a_state_dict(name):
    o, scheduler = schedule(optim, name)
    follow(o, scheduler, 13)
    saved = copy.deepcopy((o.state_dict(), scheduler.state_dict()))
    expected = follow(o, scheduler, 20)
    o, scheduler = schedule(optim, name)
    scheduler.load_state_dict(saved[1])
    o.load_state_dict(saved[0])
    assert follow(o, scheduler, 20) == expected


@needs_torch
@pytest.mark.parametrize("name", ["StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "ExponentialLR", "PolynomialLR"])
def test_schedules_step_to_an_epoch(name):
    seen = []
    for module, make in ((optim, leaf), (torch.optim, lambda: torch.nn.Parameter(torch.ones(1)))):
        o, scheduler = schedule(module, name, make=make)
        o.step()
        rates = []
        for epoch in (3, 11, 40, 2):
            with pytest.warns(UserWarning, match="epoch parameter"):
                scheduler.step(epoch)
            rates.append(scheduler.get_last_lr())
        seen.append(rates)
    assert seen[0] == seen[1]


@needs_torch
def test_warm_restarts_at_fractions_of_an_epoch():
    seen = []
    for module, make in ((optim, leaf), (torch.optim, lambda: torch.nn.Parameter(torch.ones(1)))):
        _, scheduler = schedule(module, "CosineAnnealingWarmRestarts", make=make)
        rates = []
        for epoch in (0.5, 4.9, 5.0, 17.25, 60, 2.0):
            scheduler.step(epoch)
            rates.append(scheduler.get_last_lr())
        seen.append(rates)
    assert seen[0] == seen[1]


@needs_torch
@pytest.mark.parametrize(
    "choice",
    options(
        mode=["min", "max"], threshold_mode=["rel", "abs"], cooldown=[0, 3], min_lr=[0, [0.03, 0.01]], eps=[1e-8, 0.02]
    ),
    ids=str,
)
def test_plateau_equals_pytorch(choice):
    metrics = np.random.default_rng(7).standard_normal(50).cumsum()
    seen = []
    for module, make in ((optim, leaf), (torch.optim, lambda: torch.nn.Parameter(torch.ones(1)))):
        o = module.SGD([{"params": [make()]}, {"params": [make()], "lr": 0.05}], lr=0.1)
        scheduler = module.lr_scheduler.ReduceLROnPlateau(o, patience=2, factor=0.5, **choice)
        rates = []
        for metric in metrics:
            scheduler.step(metric)
            rates.append(scheduler.get_last_lr())
        seen.append(rates)
    assert seen[0] == seen[1]


def test_plateau_takes_a_tensor_and_restores():
    o = optim.SGD([leaf()], lr=1.0)
    scheduler = lr_scheduler.ReduceLROnPlateau(o, patience=0)
    scheduler.step(gg.tensor(1.0))
    other = lr_scheduler.ReduceLROnPlateau(o, patience=0)
    other.load_state_dict(scheduler.state_dict())
    other.step(gg.tensor(1.0))
    assert o.param_groups[0]["lr"] == pytest.approx(0.1)


def test_a_users_own_scheduler():
    class Halving(lr_scheduler._LRScheduler):
        def get_lr(self):
            return [base * 0.5**self.last_epoch for base in self.base_lrs]

    o = optim.SGD([leaf()], lr=1.0)
    scheduler = Halving(o)
    assert [rates[0][0] for rates in follow(o, scheduler, 4)] == [1.0, 0.5, 0.25, 0.125]


def test_scheduler_warnings():
    o = optim.SGD([leaf()], lr=1.0)
    scheduler = lr_scheduler.StepLR(o, 1)
    with pytest.warns(UserWarning, match=r"before `optimizer.step\(\)`"):
        scheduler.step()
    with pytest.warns(UserWarning, match="get_last_lr"):
        scheduler.get_lr()
    o.step()
    scheduler.step()


def test_one_cycle_ends():
    o = optim.SGD([leaf()], lr=1.0)
    scheduler = lr_scheduler.OneCycleLR(o, 1.0, 3, cycle_momentum=False)
    follow(o, scheduler, 3)
    with pytest.raises(ValueError, match="Tried to step 4 times"):
        scheduler.step()


def test_a_learning_rate_tensor_is_followed():
    rate = gg.tensor(1.0)
    _, (p,) = params_with_gradients([(3,)])
    o = optim.SGD([p], lr=rate)
    scheduler = lr_scheduler.ExponentialLR(o, 0.5)
    start = p.detach().numpy().copy()
    o.step()
    scheduler.step()
    assert rate.item() == 0.5
    o.step()
    np.testing.assert_allclose(p.detach().numpy(), start - 1.5 * p.grad.numpy())


def test_training_reaches_the_minimum():
    target = np.array([1.0, -2.0, 3.0])
    for name, choice in (
        ("SGD", {"lr": 0.05, "momentum": 0.5}),
        ("Adam", {"lr": 0.1}),
        ("RMSprop", {"lr": 0.02}),
        ("Adagrad", {"lr": 1}),
    ):
        p = gg.tensor(np.zeros(3), requires_grad=True)
        optimizer = getattr(optim, name)([p], **choice)
        for _ in range(400):
            optimizer.zero_grad()
            ((p - target) ** 2).backward(gg.tensor(np.ones(3)))
            optimizer.step()
        np.testing.assert_allclose(p.detach().numpy(), target, atol=0.05, err_msg=name)


@pytest.mark.parametrize("place", ACCELERATED)
@pytest.mark.parametrize(("name", "choice"), CASES, ids=str)
def test_a_cuda_device_steps_as_the_cpu_does(place, name, choice):
    rng = np.random.default_rng(3)
    here = [gg.tensor(rng.standard_normal(shape), requires_grad=True) for shape in ((3, 5), (7,), (), (300, 2))]
    there = [p.detach().to(place).requires_grad_() for p in here]
    kind = getattr(optim, name)
    optimizers = kind(here, **choice), kind(there, **choice)
    for step in range(12):
        for k, (p, q) in enumerate(zip(here, there, strict=True)):
            # From the fifth step on, one is left out for a while: the others' counts go on.
            p.grad = None if k == 1 and 5 <= step < 8 else gg.tensor(rng.standard_normal(p.shape))
            q.grad = None if p.grad is None else p.grad.to(place)
        if step == 3:
            for optimizer in optimizers:
                optimizer.load_state_dict(optimizer.state_dict())
        for optimizer in optimizers:
            optimizer.step()
    states = [optimizer.state_dict()["state"] for optimizer in optimizers]
    for k, (p, q) in enumerate(zip(here, there, strict=True)):
        np.testing.assert_allclose(q.detach().cpu().numpy(), p.detach().numpy(), rtol=1e-9, atol=1e-11)
        for item, value in states[0].get(k, {}).items():
            found = states[1][k][item]
            np.testing.assert_allclose(found.cpu().numpy(), value.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("place", ACCELERATED)
@pytest.mark.parametrize(
    ("name", "choice"),
    [
        ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1}),
        ("Adadelta", {"weight_decay": 0.1, "maximize": True}),
        ("RAdam", {"lr": 0.01, "weight_decay": 0.1}),
        ("Adamax", {"weight_decay": 0.1, "maximize": True}),
        ("NAdam", {"weight_decay": 0.1, "momentum_decay": 0.1}),
        ("Rprop", {"step_sizes": (1e-3, 0.05), "maximize": True}),
        ("ASGD", {"t0": 5, "lambd": 0.1, "weight_decay": 0.1}),
    ],
    ids=str,
)
def test_kernels_follow_the_cpu_for_twenty_steps_of_float32(place, name, choice):
    rng = np.random.default_rng(4)
    here = [gg.tensor(rng.standard_normal(n), dtype=gg.float32, requires_grad=True) for n in (7, 300)]
    there = [p.detach().to(place).requires_grad_() for p in here]
    optimizers = [getattr(optim, name)(params, **choice) for params in (here, there)]
    assert optimizers[1]._step_supports_amp_scaling
    for _ in range(20):
        for p, q in zip(here, there, strict=True):
            p.grad = gg.tensor(rng.standard_normal(p.shape), dtype=gg.float32)
            q.grad = p.grad.to(place)
        for optimizer in optimizers:
            optimizer.step()
        for p, q in zip(here, there, strict=True):
            np.testing.assert_allclose(q.detach().cpu().numpy(), p.detach().numpy(), rtol=3e-6, atol=1e-6)


def test_a_wrapper_that_never_called_init_can_step():
    class Twice(optim.Optimizer):
        def __init__(self, optimizer):
            self.optimizer, self.param_groups = optimizer, optimizer.param_groups

        def step(self, closure=None):
            self.optimizer.step(closure)
            return self.optimizer.step(closure)

    x = gg.ones(2, requires_grad=True)
    wrapper = Twice(optim.SGD([x], 0.1))
    x.sum().backward()
    wrapper.step()
    wrapper.zero_grad()
    np.testing.assert_allclose(x.detach().numpy(), [0.8, 0.8], rtol=1e-6)
    assert x.grad is None


def averaged(T, options, steps=5):
    """What is left of some updates of an averaged model."""
    F, swa = T.nn.functional, T.optim.swa_utils
    net = T.nn.Sequential(T.nn.Linear(3, 4), T.nn.BatchNorm1d(4), T.nn.Linear(4, 2)).to(T.float64)
    random = np.random.default_rng(0)
    with T.no_grad():
        for p in net.parameters():
            p.copy_(T.tensor(random.standard_normal(tuple(p.shape))))
    average = swa.AveragedModel(net, **options(swa))
    opt = T.optim.SGD(net.parameters(), 0.1)
    batches = [T.tensor(random.standard_normal((6, 3))) for _ in range(steps)]
    for x in batches:
        opt.zero_grad()
        F.mse_loss(net(x), x[:, :2]).backward()
        opt.step()
        average.update_parameters(net)
    first = {name: np.asarray(t.tolist()) for name, t in average.state_dict().items()}
    swa.update_bn([(x, None) for x in batches[:3]], average)
    out = average.eval()(batches[0])
    return first, {name: np.asarray(t.tolist()) for name, t in average.state_dict().items()}, out.tolist()


@needs_torch
@pytest.mark.parametrize(
    "options",
    [
        lambda swa: {},
        lambda swa: {"use_buffers": True, "multi_avg_fn": swa.get_ema_multi_avg_fn(0.7)},
        lambda swa: {"multi_avg_fn": swa.get_ema_multi_avg_fn(0.3)},
        lambda swa: {"avg_fn": swa.get_ema_avg_fn(0.7)},
        lambda swa: {"avg_fn": swa.get_swa_avg_fn()},
        lambda swa: {"avg_fn": lambda old, new, n: old + (new - old) / (n + 2)},
        lambda swa: {"multi_avg_fn": swa.get_swa_multi_avg_fn()},
    ],
    ids=["mean", "ema-buffers", "ema-fast", "ema-one", "mean-one", "own", "mean-multi"],
)
def test_averaged_models_are_pytorchs(options):
    ours, theirs = averaged(gg, options), averaged(torch, options)
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        assert list(a) == list(b)
        close(list(a.values()), list(b.values()), 1e-7, 1e-7)  # PyTorch divides by a float32
    close(np.array(ours[2]), np.array(theirs[2]), 1e-7, 1e-7)


def test_averaging_says_what_it_cannot_do():
    swa, net = optim.swa_utils, gg.nn.Linear(2, 2)
    with pytest.raises(AssertionError, match="Only one"):
        swa.AveragedModel(net, avg_fn=swa.get_swa_avg_fn(), multi_avg_fn=swa.get_swa_multi_avg_fn())
    for make in (swa.get_ema_avg_fn, swa.get_ema_multi_avg_fn):
        with pytest.raises(ValueError, match="decay"):
            make(1.5)
    opt = optim.SGD(net.parameters(), 0.1)
    with pytest.raises(ValueError, match="anneal_strategy"):
        swa.SWALR(opt, 0.1, anneal_strategy="steps")
    with pytest.raises(ValueError, match="anneal_epochs"):
        swa.SWALR(opt, 0.1, anneal_epochs=-1)
    swa.update_bn([], net)
