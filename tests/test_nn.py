"""Modules: what they register, save, load and print; that layers, losses and initialisers do what PyTorch's do."""

import copy
import gc
import importlib
import inspect
import math
import pickle
import threading
import warnings
import weakref
from collections import OrderedDict

import numpy as np
import pytest
from helpers import ACCELERATED, close, host, needs_torch, on_every_device, torch

import gpugrad as gg
from gpugrad import nn
from gpugrad.autograd import gradcheck, gradgradcheck
from gpugrad.nn import functional as F
from gpugrad.nn import init
from gpugrad.nn.utils import rnn as rnn_utils
from gpugrad.ops import REGISTRY


@pytest.fixture(autouse=True)
def _seed():
    gg.manual_seed(0)


def draw(*shape, seed=0, low=-1.0, high=1.0):
    return np.random.default_rng([seed, *shape]).uniform(low, high, shape)


def ints(*shape, high=5):
    return np.random.default_rng(shape).integers(0, high, shape)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(4, 2, bias=False))
        self.scale = nn.Parameter(gg.ones(2))
        self.register_buffer("offset", gg.zeros(2))
        self.register_buffer("scratch", gg.zeros(1), persistent=False)

    def forward(self, x):
        return self.rest(self.norm(self.first(x))) * self.scale + self.offset


NET_PARAMETERS = ["scale", "first.weight", "first.bias", "norm.weight", "norm.bias", "rest.1.weight"]
NET_STATE = [
    "scale", "offset", "first.weight", "first.bias", "norm.weight", "norm.bias", "norm.running_mean",
    "norm.running_var", "norm.num_batches_tracked", "rest.1.weight",
]  # fmt: skip


# What a module registers


def test_names_of_parameters_buffers_and_modules():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NET_PARAMETERS
    assert [name for name, _ in net.named_parameters(prefix="net", recurse=False)] == ["net.scale"]
    assert [name for name, _ in net.named_buffers(recurse=False)] == ["offset", "scratch"]
    assert [name for name, _ in net.named_modules()] == ["", "first", "norm", "rest", "rest.0", "rest.1"]
    assert [name for name, _ in net.named_children()] == ["first", "norm", "rest"]
    assert list(net.children()) == [net.first, net.norm, net.rest]
    assert next(iter(net.modules())) is net
    assert len(list(net.parameters())) == 6
    assert len(list(net.buffers())) == 5
    assert net.get_parameter("rest.1.weight") is net.rest[1].weight
    assert net.get_submodule("rest.1") is net.rest[1]
    assert net.get_submodule("") is net
    assert net.get_buffer("norm.running_mean") is net.norm.running_mean


@pytest.mark.parametrize(
    ("method", "name"),
    [("get_submodule", "rest.7"), ("get_submodule", "scale"), ("get_parameter", "offset"), ("get_buffer", "nothing")],
)
def test_asking_for_what_is_not_there(method, name):
    with pytest.raises(AttributeError):
        getattr(Net(), method)(name)


def test_shared_parameters_and_modules_count_once():
    layer = nn.Linear(2, 2)
    other = nn.Linear(2, 2)
    other.weight = layer.weight
    net = nn.Sequential(layer, layer, other)
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "2.bias"]
    assert [name for name, _ in net.named_parameters(remove_duplicate=False)] == [
        "0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias",
    ]  # fmt: skip
    assert [name for name, _ in net.named_modules()] == ["", "0", "2"]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]
    net(gg.ones(1, 2)).sum().backward()
    twin = copy.deepcopy(net)
    assert twin[0] is twin[1]
    assert twin[2].weight is twin[0].weight
    assert twin[0].weight is not layer.weight
    assert twin[0].weight.grad is None


def test_assignment_moves_a_name_between_the_registries():
    m = nn.Module()
    m.x = 1
    m.x = nn.Parameter(gg.ones(2))
    assert list(dict(m.named_parameters())) == ["x"]
    m.x = nn.Linear(1, 1)
    assert not list(m.parameters(recurse=False))
    assert list(dict(m.named_children())) == ["x"]
    m.x = nn.Buffer(gg.ones(2))
    assert list(dict(m.named_buffers())) == ["x"]
    assert not list(m.children())
    m.x = gg.zeros(3)
    assert m.state_dict()["x"].shape == (3,)
    m.x = None
    assert not m.state_dict()
    assert m.x is None
    m.x = nn.Buffer(gg.ones(2), persistent=False)
    assert not m.state_dict()
    assert len(list(m.buffers())) == 1
    del m.x
    assert not hasattr(m, "x")
    assert not list(m.buffers())
    m.x = 3
    assert m.x == 3
    assert not m._parameters
    assert not m._buffers
    assert not m._modules


def test_the_registries_are_live_views():
    net = Net()
    assert list(net._modules) == ["first", "norm", "rest"]
    assert net._modules["first"] is net.first
    net._modules["first"] = nn.Identity()
    assert isinstance(net.first, nn.Identity)
    del net._parameters["scale"]
    assert not hasattr(net, "scale")
    assert "scale" not in net.state_dict()
    net._buffers["offset"] = gg.ones(2)
    assert net.offset is net._buffers["offset"]
    assert len(net._buffers) == 2
    with pytest.raises(KeyError):
        net._parameters["first"]


def _unready():
    class Unready(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(1, 1)

    Unready()


BAD_REGISTRATION = [
    (AttributeError, _unready, "before"),
    (TypeError, lambda: setattr(nn.Linear(1, 1), "weight", gg.ones(1)), "cannot assign 'Tensor' as parameter 'weight'"),
    (TypeError, lambda: setattr(nn.Sequential(nn.ReLU()), "0", 3), "cannot assign 'int' as module"),
    (TypeError, lambda: setattr(nn.BatchNorm1d(2), "running_mean", 3), "cannot assign 'int' as buffer"),
    (KeyError, lambda: nn.Module().register_parameter("a.b", None), "contain"),
    (KeyError, lambda: nn.Module().register_buffer("", None), "empty string"),
    (KeyError, lambda: nn.Module().add_module("train", None), "already exists"),
    (KeyError, lambda: setattr(nn.Module(), "train", nn.Parameter(gg.ones(1))), "already exists"),
    (KeyError, lambda: setattr(nn.Module(), "a.b", nn.ReLU()), "contain"),
    (TypeError, lambda: nn.Module().register_parameter(3, None), "should be a string"),
    (TypeError, lambda: nn.Module().register_parameter("a", gg.ones(1)), "cannot assign 'Tensor'"),
    (TypeError, lambda: nn.Module().register_buffer("a", 3), "cannot assign 'int'"),
    (TypeError, lambda: nn.Module().add_module("a", 3), "not a Module subclass"),
    (TypeError, lambda: nn.Parameter(3), "expects a Tensor"),
    (RuntimeError, lambda: nn.Parameter(gg.ones(1, dtype=gg.int64)), "floating point"),
    (NotImplementedError, lambda: nn.Module()(1), "missing the required"),
    (ValueError, lambda: nn.Module().train(1), "boolean"),
]


@pytest.mark.parametrize(("error", "action", "text"), BAD_REGISTRATION)
def test_bad_registrations(error, action, text):
    with pytest.raises(error, match=text):
        action()


def test_attributes_cost_no_lookup_and_unknown_ones_raise():
    layer = nn.Linear(2, 3)
    assert layer.__dict__["weight"] is layer.weight
    with pytest.raises(AttributeError, match="'Linear' object has no attribute 'wait'"):
        layer.wait  # noqa: B018
    assert {"weight", "bias", "forward"} <= set(dir(layer))


def test_parameter():
    data = gg.ones(2)
    p = nn.Parameter(data)
    assert p.requires_grad
    assert p.is_leaf
    assert isinstance(p, gg.Tensor)
    assert not data.requires_grad
    data[0] = 5
    assert p[0].item() == 5
    assert repr(p).startswith("Parameter containing:\ntensor([5., 1.]")
    assert "requires_grad=True" in repr(p)
    assert not nn.Parameter(data, requires_grad=False).requires_grad
    assert type(p * 2) is gg.Tensor
    assert type(p.detach()) is gg.Tensor
    (p * 2).sum().backward()
    twin = copy.deepcopy(p)
    assert isinstance(twin, nn.Parameter)
    assert twin.grad is None
    assert twin.requires_grad
    twin.data[1] = 7
    assert p[1].item() == 1
    assert nn.Parameter().shape == (0,)


# Modes, gradients, devices and dtypes


def test_train_eval_apply_and_requires_grad():
    net = Net()
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    assert net.train() is net
    assert all(m.training for m in net.modules())
    seen = []
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Linear", "BatchNorm1d", "ReLU", "Linear", "Sequential", "Net"]
    assert net.requires_grad_(False) is net
    assert not any(p.requires_grad for p in net.parameters())


def test_zero_grad():
    net = Net()
    net(gg.randn(5, 3)).sum().backward()
    grads = [p.grad for p in net.parameters()]
    net.zero_grad(set_to_none=False)
    assert all(p.grad is g and not g.numpy().any() for p, g in zip(net.parameters(), grads, strict=True))
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_to_changes_data_and_keeps_parameters():
    net = Net()
    net(gg.randn(5, 3)).sum().backward()
    before = [(p, p._data, p.grad._data) for p in net.parameters()]
    assert net.to("cpu") is net
    assert net.float() is net
    assert net.to(gg.float32) is net
    assert net.cpu() is net
    for p, data, grad in before:
        assert p._data is data
        assert p.grad._data is grad
    net.double()
    for p, _, _ in before:
        assert p.dtype == p.grad.dtype == gg.float64
        assert p.is_leaf
        assert p.requires_grad
    assert [p for p, _, _ in before] == list(net.parameters())
    assert net.norm.running_mean.dtype == gg.float64
    assert net.norm.num_batches_tracked.dtype == gg.int64
    assert net.to(gg.zeros(1, dtype=gg.float16)).offset.dtype == gg.float16
    assert net.type(gg.float32).first.weight.dtype == gg.float32
    with pytest.raises(TypeError, match="only accepts floating point"):
        net.to(gg.int64)


def test_device_and_dtype_arguments(device):
    place = {"device": device, "dtype": gg.float64}
    layers = [
        nn.Linear(2, 3, **place), nn.Conv2d(1, 2, 3, **place), nn.ConvTranspose1d(1, 2, 3, **place),
        nn.BatchNorm2d(3, **place), nn.LayerNorm(3, **place), nn.RMSNorm(3, **place), nn.GroupNorm(1, 2, **place),
        nn.Embedding(3, 2, **place), nn.PReLU(**place), nn.LSTM(2, 3, **place), nn.GRUCell(2, 3, **place),
        nn.MultiheadAttention(4, 2, **place), nn.TransformerEncoderLayer(4, 2, 8, **place),
        nn.Bilinear(2, 2, 2, **place),
    ]  # fmt: skip
    for layer in layers:
        for t in layer.parameters():
            assert t.dtype == gg.float64
            assert t.device.type == device


def test_same_seed_same_weights(device):
    def weights(where):
        gg.manual_seed(3)
        net = nn.Sequential(
            nn.Linear(3, 4, device=where), nn.Conv1d(2, 3, 3, device=where), nn.Embedding(4, 2, device=where)
        )
        init.orthogonal_(net[0].weight)
        init.sparse_(net[2].weight, 0.5)
        return [p.detach().cpu() for p in net.parameters()]

    close(weights(device), weights("cpu"), rtol=1e-6)


def test_a_model_is_freed_without_the_garbage_collector():
    gc.disable()
    try:
        net = Net()
        seen = weakref.ref(net)
        net.register_forward_hook(lambda *args: None)
        net(gg.randn(4, 3)).sum().backward()
        del net
        assert seen() is None
    finally:
        gc.enable()


# State dicts


@on_every_device
def test_state_dict():
    net = Net()
    state = net.state_dict()
    assert isinstance(state, OrderedDict)
    assert list(state) == NET_STATE
    assert all(type(t) is gg.Tensor and not t.requires_grad for t in state.values())
    assert state["scale"]._data is net.scale._data
    assert net.state_dict(keep_vars=True)["scale"] is net.scale
    kept = {"other": 1}
    assert net.rest.state_dict(destination=kept, prefix="p.") is kept
    assert list(kept) == ["other", "p.1.weight"]


@on_every_device
def test_load_state_dict_copies_in_place():
    net, other = Net(), Net()
    before = [(p, p._data) for p in net.parameters()]
    answer = net.load_state_dict(other.state_dict())
    assert answer == ([], [])
    assert repr(answer) == "<All keys matched successfully>"
    for p, data in before:
        assert p._data is data
    for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True):
        close(a, b)
        assert a._data is not b._data
    net.load_state_dict({name: host(t).astype(np.float64) for name, t in other.state_dict().items()})
    assert net.scale.dtype == gg.float32


def test_loading_lists_all_that_is_wrong_and_changes_nothing():
    net = Net()
    state = Net().state_dict()
    before = {name: t.numpy().copy() for name, t in net.state_dict().items()}
    del state["scale"]
    state["more"] = gg.ones(1)
    state["first.weight"] = gg.ones(3, 4)
    state["first.bias"] = "text"
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(state)
    text = str(caught.value)
    assert "Error(s) in loading state_dict for Net" in text
    assert 'Missing key(s) in state_dict: "scale"' in text
    assert 'Unexpected key(s) in state_dict: "more"' in text
    assert "size mismatch for first.weight" in text
    assert "[3, 4]" in text
    assert "[4, 3]" in text
    assert '"first.bias"' in text
    with pytest.raises(RuntimeError, match="size mismatch") as caught:
        net.load_state_dict(state, strict=False)
    assert "Missing" not in str(caught.value)
    for name, t in net.state_dict().items():
        close(t, before[name], rtol=0, atol=0)
    with pytest.raises(TypeError, match="dict-like"):
        net.load_state_dict([1])


def test_loading_without_strict_tells_what_did_not_fit():
    net = Net()
    state = {"scale": gg.full((2,), 3.0), "more": gg.ones(1)}
    answer = net.load_state_dict(state, strict=False)
    assert answer.unexpected_keys == ["more"]
    assert answer.missing_keys == NET_STATE[1:]
    assert net.scale.tolist() == [3.0, 3.0]


def test_loading_by_assignment():
    net = Net()
    net.scale.requires_grad_(False)
    state = {name: t.double() for name, t in Net().state_dict().items()}
    net.load_state_dict(state, assign=True)
    assert net.scale.dtype == gg.float64
    assert net.scale._data is state["scale"]._data
    assert isinstance(net.first.weight, nn.Parameter)
    assert net.first.weight.requires_grad
    assert not net.scale.requires_grad
    assert net.offset is state["offset"]


def hooked(T):
    """A network whose state dict hooks write down what they see, and change it; for either library."""
    seen = []

    class Counted(T.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = T.nn.Linear(2, 1)
            self.count = 3

        def get_extra_state(self):
            return {"count": self.count}

        def set_extra_state(self, state):
            self.count = state["count"]

    def add(module, state, prefix, metadata):
        seen.append(("saved", type(module).__name__, prefix, list(state)))
        state[prefix + "old"] = state.pop(prefix + "weight")

    def rename(module, state, prefix, metadata, strict, missing, unexpected, errors):
        seen.append(("loading", type(module).__name__, prefix, strict, list(missing), list(unexpected), list(errors)))
        state[prefix + "weight"] = state.pop(prefix + "old")

    def forgive(module, keys):
        seen.append(("loaded", type(module).__name__, list(keys.missing_keys), list(keys.unexpected_keys)))
        keys.missing_keys.clear()

    net = T.nn.Sequential(Counted(), T.nn.ReLU())
    layer = net[0].layer
    handles = [
        layer.register_state_dict_pre_hook(lambda m, prefix, keep_vars: seen.append(("saving", prefix, keep_vars))),
        layer.register_state_dict_post_hook(add),
        layer.register_load_state_dict_pre_hook(rename),
        layer._register_load_state_dict_pre_hook(lambda *args: seen.append(("plain", len(args)))),
        layer._register_load_state_dict_pre_hook(lambda *args: seen.append(("with", len(args))), with_module=True),
        net.register_load_state_dict_post_hook(forgive),
    ]
    return net, handles, seen


def run_hooked(T):
    net, handles, seen = hooked(T)
    other, *_ = hooked(T)
    other[0].count = 7
    state = other.state_dict()
    keys = list(state)
    del state["0.layer.bias"]
    net.load_state_dict(state)
    same = bool((net[0].layer.weight == other[0].layer.weight).all())
    count = net[0].count
    net.state_dict()
    for handle in handles:
        handle.remove()
    seen.append(list(net.state_dict()))
    return keys, same, count, seen


@needs_torch
def test_state_dict_hooks_and_extra_state():
    assert run_hooked(gg) == run_hooked(torch)
    net, _, _ = hooked(gg)
    state = net.state_dict()
    state["more"] = gg.ones(1)
    with pytest.raises(RuntimeError, match=r"Unexpected.*more"):
        net.load_state_dict(state)
    plain = net[0]
    state = plain.state_dict()
    del state["_extra_state"]
    with pytest.raises(RuntimeError, match="_extra_state"):
        plain.load_state_dict(state)
    for action in (nn.ReLU().get_extra_state, lambda: nn.ReLU().set_extra_state(None)):
        with pytest.raises(RuntimeError, match="no extra state"):
            action()


def test_a_module_may_make_its_own_part_of_a_state_dict():
    class Quiet(nn.Linear):
        def state_dict(self, *args, **kwargs):
            return kwargs["destination"]

    assert list(nn.Sequential(nn.Linear(1, 1), Quiet(1, 1)).state_dict()) == ["0.weight", "0.bias"]


def test_submodules_may_be_set_by_their_names():
    net, layer = nn.Sequential(nn.Sequential(nn.ReLU())), nn.Linear(1, 1)
    net.set_submodule("0.0", layer, strict=True)
    net.set_submodule("0.more", layer)
    net.set_submodule("1", layer)
    assert net[0][0] is net[0].more is net[1] is layer
    for error, args in (
        (ValueError, ("", layer)),
        (ValueError, ("0", 3)),
        (AttributeError, ("0.no", layer, True)),
        (AttributeError, ("0.0.weight", layer)),
        (AttributeError, ("7.0", layer)),
    ):
        with pytest.raises(error):
            net.set_submodule(*args)


@on_every_device
def test_to_empty_and_compile(device):
    net = nn.Linear(2, 3)
    weight = net.weight
    assert net.to_empty(device=device) is net
    assert net.weight is weight
    assert weight.shape == (3, 2)
    assert weight.device.type == device
    init.ones_(net.weight), init.zeros_(net.bias)
    net.compile()
    with gg.no_grad():
        for _ in range(4):
            assert net(gg.ones(1, 2)).tolist() == [[2.0] * 3]


@on_every_device
@pytest.mark.parametrize("make", [Net, lambda: nn.LSTM(2, 3, 2), lambda: nn.Transformer(4, 2, 1, 1, 8)])
def test_deepcopy(make):
    net = make()
    net.register_forward_hook(lambda *args: None)
    twin = copy.deepcopy(net)
    assert repr(twin) == repr(net)
    assert list(twin.state_dict()) == list(net.state_dict())
    for (name, a), (_, b) in zip(net.named_parameters(), twin.named_parameters(), strict=True):
        assert a is not b, name
        assert a._data is not b._data, name
        close(a, b, rtol=0, atol=0)
    with gg.no_grad():
        next(twin.parameters()).fill_(9)
    assert not (next(net.parameters()).numpy(force=True) == 9).any()


def test_a_shallow_copy_shares_what_it_holds_and_no_more():
    net = nn.Sequential(nn.Linear(2, 2))
    twin = copy.copy(net)
    twin.append(nn.ReLU())
    assert twin[0] is net[0]
    assert len(net) == 1
    assert net(gg.ones(1, 2)).min() == twin[0](gg.ones(1, 2)).min()


@on_every_device
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)),
        lambda: nn.LSTM(2, 3, 2),
        lambda: nn.TransformerEncoderLayer(2, 1, 8, 0.0),
    ],
)
def test_pickles_compute_the_same(make):
    net = make()
    twin = pickle.loads(pickle.dumps(net))
    assert repr(twin) == repr(net)
    outs = [out[0] if isinstance(out, tuple) else out for out in (net(gg.ones(4, 2)), twin(gg.ones(4, 2)))]
    close(*outs, rtol=0, atol=0)
    assert outs[1].requires_grad
    for (name, a), (other, b) in zip(net.state_dict().items(), twin.state_dict().items(), strict=True):
        assert name == other
        close(a, b, rtol=0, atol=0)


# Hooks


class Both(nn.Module):
    def forward(self, x, y=None, *, factor=1.0):
        return x * factor if y is None else (x * y, x + y)


def test_forward_hooks():
    m = Both()
    x = gg.tensor([1.0, 2.0])
    seen = []
    handles = [
        m.register_forward_pre_hook(lambda module, args: seen.append(("pre", module, args))),
        m.register_forward_pre_hook(lambda module, args: args[0] * 10),
        m.register_forward_hook(lambda module, args, out: seen.append(("after", args[0].tolist(), out.tolist()))),
        m.register_forward_hook(lambda module, args, out: out + 1),
    ]
    assert m(x).tolist() == [11.0, 21.0]
    assert seen[0][:2] == ("pre", m)
    assert seen[0][2][0] is x
    assert seen[1] == ("after", [10.0, 20.0], [10.0, 20.0])
    m.register_forward_hook(lambda module, args, out: out * 2, prepend=True)
    assert m(x).tolist() == [21.0, 41.0]
    for handle in handles:
        handle.remove()
        handle.remove()
    assert m(x).tolist() == [2.0, 4.0]


def test_forward_hooks_with_keywords():
    m = Both()
    x = gg.tensor([1.0, 2.0])
    with m.register_forward_pre_hook(lambda m, args, kwargs: (args, {**kwargs, "factor": 3.0}), with_kwargs=True):
        assert m(x).tolist() == [3.0, 6.0]
        assert m(x=x).tolist() == [3.0, 6.0]
        seen = []
        with m.register_forward_hook(lambda m, args, kwargs, out: seen.append((args, kwargs)), with_kwargs=True):
            m(x=x, factor=5.0)
        assert seen == [((), {"x": x, "factor": 3.0})]
    assert m(x, factor=5.0).tolist() == [5.0, 10.0]
    assert m(x=x).tolist() == [1.0, 2.0]
    with m.register_forward_pre_hook(lambda m, args, kwargs: args, with_kwargs=True), pytest.raises(RuntimeError):
        m(x)


def test_backward_hooks_see_and_change_gradients():
    m = Both()
    x, y = (gg.tensor(v, requires_grad=True) for v in ([1.0, 2.0], [3.0, 5.0]))
    seen = []
    m.register_full_backward_pre_hook(lambda m, go: seen.append([g.tolist() for g in go]))
    m.register_full_backward_hook(lambda m, gi, go: seen.append(([g.tolist() for g in gi], [g.tolist() for g in go])))
    handle = m.register_full_backward_hook(lambda m, gi, go: (gi[0] * 100, gi[1]))
    a, b = m(x, y)
    (2 * a + b).sum().backward()
    assert seen == [[[2.0, 2.0], [1.0, 1.0]], ([[7.0, 11.0], [3.0, 5.0]], [[2.0, 2.0], [1.0, 1.0]])]
    assert x.grad.tolist() == [700.0, 1100.0]
    assert y.grad.tolist() == [3.0, 5.0]
    handle.remove()
    x.grad = None
    m(x).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]
    assert seen[-1] == ([[1.0, 1.0]], [[1.0, 1.0]])


def test_backward_hooks_at_the_edges():
    layer = nn.Linear(2, 1)
    seen = []
    layer.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go[0].tolist())))
    layer(gg.ones(3, 2)).sum().backward()
    assert seen == [((None,), [[1.0]] * 3)]
    with gg.no_grad():
        layer(gg.ones(3, 2))
    relu = nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True))
    relu[0].load_state_dict({"weight": gg.eye(2), "bias": gg.zeros(2)})
    relu[1].register_full_backward_hook(lambda m, gi, go: seen.append("relu"))
    x = gg.tensor([[1.0, -1.0]], requires_grad=True)
    expected = gg.autograd.grad(nn.Sequential(relu[0], nn.ReLU())(x).sum(), x)[0]
    close(gg.autograd.grad(relu(x).sum(), x)[0], expected)
    assert seen[-1] == "relu"
    y = relu[0](x)
    z = relu[1](y)
    assert y.tolist() == z.tolist()
    close(gg.autograd.grad((2 * y + z).sum(), x)[0], 3 * expected)
    layer.register_full_backward_hook(lambda m, gi, go: (gg.ones(1), gg.ones(1)))
    with pytest.raises(RuntimeError, match="invalid number"):
        layer(gg.ones(3, 2)).sum().backward()


@on_every_device
@needs_torch
def test_backward_hooks_in_a_second_order_gradient():
    found = []
    for lib, tensor in ((gg, gg.tensor), (torch, torch.tensor)):
        m = lib.nn.Tanh()
        m.register_full_backward_hook(lambda m, gi, go: (gi[0] * gi[0] * go[0],))
        x = tensor([0.3, -0.4], dtype=lib.float64, requires_grad=True)
        (g,) = lib.autograd.grad((m(x) * x).sum(), x, create_graph=True)
        found.append([g.detach().cpu().numpy(), lib.autograd.grad((g * g).sum(), x)[0].cpu().numpy()])
    close(*found)


# Containers


def test_sequential():
    a, b, c = nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)
    net = nn.Sequential(a, b)
    assert net.append(c) is net
    assert len(net) == 3
    assert list(net) == [a, b, c]
    assert net[0] is a
    assert net[-1] is c
    assert net[1:][0] is b
    assert isinstance(net[1:], nn.Sequential)
    close(net(gg.ones(1, 2)), c(b(a(gg.ones(1, 2)))))
    net.insert(1, nn.Tanh())
    assert [name for name, _ in net.named_children()] == ["0", "1", "2", "3"]
    assert isinstance(net[1], nn.Tanh)
    del net[1]
    assert list(net) == [a, b, c]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    net[1] = nn.Sigmoid()
    assert isinstance(net[1], nn.Sigmoid)
    assert net.pop(1).__class__ is nn.Sigmoid
    assert list(net) == [a, c]
    assert list(net + nn.Sequential(b)) == [a, c, b]
    assert list(net.extend([b])) == [a, c, b]
    named = nn.Sequential(OrderedDict(first=a, second=b))
    assert named.first is a
    assert list(named.state_dict()) == ["first.weight", "first.bias"]
    assert named[-1] is b
    for bad in (3, -4):
        with pytest.raises(IndexError):
            net[bad]
    with pytest.raises(TypeError):
        nn.Sequential(a, 3)
    with pytest.raises(IndexError):
        net.insert(9, a)


def test_module_list():
    layers = nn.ModuleList(nn.Linear(k + 1, 1) for k in range(3))
    layers.append(nn.ReLU())
    assert len(layers) == 4
    assert layers[1].in_features == 2
    assert isinstance(layers[-1], nn.ReLU)
    assert isinstance(layers[:2], nn.ModuleList)
    assert [m.in_features for m in layers[:2]] == [1, 2]
    layers.insert(0, nn.Tanh())
    layers += [nn.Sigmoid()]
    del layers[1:4]
    assert [type(m).__name__ for m in layers] == ["Tanh", "ReLU", "Sigmoid"]
    assert [type(m).__name__ for m in reversed(layers)] == ["Sigmoid", "ReLU", "Tanh"]
    assert layers[1] in layers
    assert len([*layers, nn.ReLU()]) == 4
    with pytest.raises(NotImplementedError):
        layers(1)
    with pytest.raises(TypeError):
        layers.extend(3)


def test_module_dict():
    a = nn.Linear(1, 1)
    d = nn.ModuleDict({"a": a, "b": nn.ReLU()})
    d["c"] = nn.Tanh()
    d.update([("d", nn.Sigmoid())])
    assert list(d) == list(d.keys()) == ["a", "b", "c", "d"]
    assert d["a"] is a
    assert "b" in d
    assert len(d) == 4
    assert d.pop("a") is a
    assert next(iter(d.items()))[0] == "b"
    assert len(list(d.values())) == 3
    del d["b"]
    d.clear()
    assert len(d) == 0
    with pytest.raises(KeyError):
        d["nothing"]
    with pytest.raises(ValueError, match="2 is required"):
        d.update([("a",)])
    with pytest.raises(TypeError):
        d.update(3)


def test_parameter_list_and_dict():
    ps = nn.ParameterList([gg.ones(2), nn.Parameter(gg.zeros(3))])
    ps.append("kept")
    assert isinstance(ps[0], nn.Parameter)
    assert len(list(ps.parameters())) == 2
    assert ps[-1] == "kept"
    assert len(ps) == 3
    ps[0] = gg.zeros(4)
    assert ps[0].shape == (4,)
    assert [name for name, _ in ps.named_parameters()] == ["0", "1"]
    assert ps.pop() == "kept"
    assert len(ps[:1]) == 1
    assert len(list(iter(ps))) == 2
    d = nn.ParameterDict({"a": gg.ones(2), "b": nn.Parameter(gg.ones(1), requires_grad=False)})
    d["c"] = gg.ones(3)
    assert list(d) == ["a", "b", "c"]
    assert "a" in d
    assert d.get("z") is None
    assert len(list(d.parameters())) == 3
    assert d.pop("a").shape == (2,)
    assert [name for name, _ in d.items()] == ["b", "c"]
    assert len(d.values()) == 2
    d.clear()
    assert not list(d.parameters())
    assert len(d) == 0
    for container in (ps, d):
        with pytest.raises(RuntimeError, match="should not be called"):
            container(1)
    with pytest.raises(KeyError):
        d["train"] = gg.ones(1)
    with pytest.raises(TypeError):
        ps.extend(gg.ones(3))


# Lazy modules


@on_every_device
def test_lazy_modules_take_their_sizes_from_the_first_input():
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2))
    assert repr(net[3]) == "LazyLinear(in_features=0, out_features=2, bias=True)"
    weight = net[0].weight
    assert repr(weight) == "<UninitializedParameter>"
    assert weight.requires_grad
    assert weight.device == gg.empty(0).device
    net.double()
    optimizer = gg.optim.SGD(net.parameters(), lr=0.1)
    for use in (lambda: weight + 1, lambda: weight.numel(), lambda: weight.fill_(0)):
        with pytest.raises(ValueError, match="uninitialized"):
            use()
    with pytest.raises(RuntimeError, match="shape of an uninitialized"):
        weight.shape  # noqa: B018
    net(gg.zeros(2, 3, 6, 6, dtype=gg.float64))
    assert [type(m).__name__ for m in net] == ["Conv2d", "BatchNorm2d", "Flatten", "Linear"]
    assert net[0].weight is weight
    assert type(weight) is nn.Parameter
    assert weight.shape == (4, 3, 3, 3)
    assert net[0].in_channels == 3
    assert net[1].num_features == 4
    assert net[3].in_features == 64
    assert weight.dtype == gg.float64
    assert 0 < abs(host(weight)).max() < 1
    assert net[1].weight.tolist() == [1.0] * 4
    before = weight.detach().clone()
    net(gg.randn(2, 3, 6, 6, dtype=gg.float64)).square().sum().backward()
    optimizer.step()
    close(weight.detach(), before - 0.1 * weight.grad)


@on_every_device
def test_lazy_modules_load_and_copy():
    source = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    lazy = nn.Sequential(nn.LazyLinear(2), nn.LazyBatchNorm1d())
    twin = copy.deepcopy(lazy)
    assert list(lazy.state_dict()) == list(source.state_dict())
    lazy.load_state_dict(source.state_dict())
    x = gg.randn(4, 3)
    close(lazy.eval()(x), source.eval()(x))
    assert isinstance(lazy[0], nn.Linear)
    assert lazy[0].in_features == 3
    assert isinstance(twin[0], nn.LazyLinear)


# Text


def test_repr_layout():
    assert repr(Net()) == (
        "Net(\n"
        "  (first): Linear(in_features=3, out_features=4, bias=True)\n"
        "  (norm): BatchNorm1d(4, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)\n"
        "  (rest): Sequential(\n"
        "    (0): ReLU()\n"
        "    (1): Linear(in_features=4, out_features=2, bias=False)\n"
        "  )\n"
        ")"
    )


def nested(nn):
    block = nn.TransformerEncoderLayer(4, 2, 8)
    return nn.ModuleDict(
        {
            "list": nn.ModuleList([nn.Linear(2, 3), nn.Linear(2, 3), nn.ReLU(), nn.Linear(2, 3)]),
            "encoder": nn.TransformerEncoder(block, 2),
            "decoder": nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2), 1, nn.LayerNorm(4)),
            "empty": nn.Sequential(),
            "convs": nn.Sequential(
                nn.Conv2d(4, 6, 3, 2, 1, 2, 2, False, "reflect"),
                nn.Conv1d(1, 2, 3, padding="same"),
                nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2, True, 2),
            ),
        }
    )


quiet = pytest.mark.filterwarnings(
    "ignore:enable_nested_tensor", "ignore:Using padding='same' with even", "ignore:.*weight_norm. is deprecated"
)


@quiet
@needs_torch
def test_repr_of_a_nested_model():
    assert repr(nested(nn)) == repr(nested(torch.nn))


@needs_torch
@pytest.mark.parametrize("name", sorted(set(nn.__all__) & set(dir(torch.nn) if torch else ())))
def test_signatures(name):
    mine, theirs = getattr(nn, name), getattr(torch.nn, name)
    if not inspect.isclass(mine):
        return
    for function in ("__init__", "forward"):
        if not hasattr(mine, function) or not hasattr(theirs, function):
            continue
        a, b = (list(inspect.signature(getattr(c, function)).parameters.values())[1:] for c in (mine, theirs))
        if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in [*a, *b]) or name in ("Buffer", "Parameter"):
            continue
        assert [(p.name, p.kind) for p in a] == [(p.name, p.kind) for p in b], function
        for p, q in zip(a, b, strict=True):
            assert p.default == q.default or callable(p.default), (function, p.name)


# Layers against PyTorch

X = draw(2, 4, 6)
IMAGE = draw(2, 4, 6, 7)
VOLUME = draw(2, 4, 5, 6, 5)

OFFSETS = np.array([0, 2, 2, 5, 6])


def Unpooled(nn, dims, *args, size=None):
    """A module that pools, and undoes it."""

    class Unpooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = getattr(nn, f"MaxPool{dims}d")(*args, return_indices=True)
            self.unpool = getattr(nn, f"MaxUnpool{dims}d")(*args)

        def forward(self, x):
            return self.unpool(*self.pool(x), output_size=size)

    return Unpooled()


LAYERS = {
    "identity": (lambda nn: nn.Identity(3, unused=1), X),
    "linear": (lambda nn: nn.Linear(6, 5), X),
    "linear-no-bias": (lambda nn: nn.Linear(6, 5, bias=False), X),
    "bilinear": (lambda nn: nn.Bilinear(3, 4, 5), draw(2, 3), draw(2, 4)),
    "lazy-linear": (lambda nn: nn.LazyLinear(5), X),
    "conv1d": (lambda nn: nn.Conv1d(4, 6, 3, 2, 1, 2, groups=2), X),
    "conv1d-single": (lambda nn: nn.Conv1d(4, 6, 3), X[0]),
    "conv1d-same": (lambda nn: nn.Conv1d(4, 6, 4, padding="same"), X),
    "conv1d-valid": (lambda nn: nn.Conv1d(4, 6, 4, padding="valid"), X),
    "conv2d": (lambda nn: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), bias=False), IMAGE),
    "conv2d-groups": (lambda nn: nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4), IMAGE),
    "conv2d-reflect": (lambda nn: nn.Conv2d(4, 2, 3, padding=(1, 2), padding_mode="reflect"), IMAGE),
    "conv2d-replicate": (lambda nn: nn.Conv2d(4, 2, (4, 3), padding="same", padding_mode="replicate"), IMAGE),
    "conv2d-circular": (lambda nn: nn.Conv2d(4, 2, 3, padding=(1, 2), padding_mode="circular"), IMAGE),
    "lazy-conv2d": (lambda nn: nn.LazyConv2d(6, 3, padding=1, groups=2), IMAGE),
    "conv3d": (lambda nn: nn.Conv3d(4, 3, 2, padding=1), VOLUME),
    "conv-transpose1d": (lambda nn: nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, 2), X),
    "conv-transpose2d": (lambda nn: nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, dilation=2), IMAGE),
    "conv-transpose3d": (lambda nn: nn.ConvTranspose3d(4, 3, 2, stride=2, bias=False), VOLUME),
    "lazy-conv-transpose1d": (lambda nn: nn.LazyConvTranspose1d(6, 3, 2, 1, 1, 2), X),
    "lazy-conv-transpose2d": (lambda nn: nn.LazyConvTranspose2d(3, 3, bias=False), IMAGE),
    "lazy-conv-transpose3d": (lambda nn: nn.LazyConvTranspose3d(3, 2), VOLUME),
    "max-pool1d": (lambda nn: nn.MaxPool1d(3, 2, 1), X),
    "max-pool2d": (lambda nn: nn.MaxPool2d(2), IMAGE),
    "max-pool2d-indices": (lambda nn: nn.MaxPool2d(3, 2, 1, return_indices=True, ceil_mode=True), IMAGE),
    "max-pool3d": (lambda nn: nn.MaxPool3d(2), VOLUME),
    "max-unpool1d": (lambda nn: Unpooled(nn, 1, 2), X),
    "max-unpool2d": (lambda nn: Unpooled(nn, 2, (3, 1)), IMAGE),
    "max-unpool2d-size": (lambda nn: Unpooled(nn, 2, 2, 2, 1, size=(6, 7)), IMAGE),
    "max-unpool2d-full-size": (lambda nn: Unpooled(nn, 2, 2, size=IMAGE.shape), IMAGE),
    "max-unpool2d-single": (lambda nn: Unpooled(nn, 2, 3, 3), IMAGE[0, ..., :6]),
    "max-unpool3d": (lambda nn: Unpooled(nn, 3, 2, size=VOLUME.shape), VOLUME),
    "lp-pool1d": (lambda nn: nn.LPPool1d(3, 2), np.abs(X)),
    "lp-pool2d": (lambda nn: nn.LPPool2d(2, (3, 2), 2, ceil_mode=True), IMAGE),
    "lp-pool2d-roots": (lambda nn: nn.LPPool2d(1.5, 2, stride=1), np.abs(IMAGE)),
    "lp-pool3d": (lambda nn: nn.LPPool3d(2, 2), VOLUME),
    "avg-pool1d": (lambda nn: nn.AvgPool1d(3, 2, 1, ceil_mode=True, count_include_pad=False), X),
    "avg-pool2d": (lambda nn: nn.AvgPool2d((3, 2), padding=(1, 0), count_include_pad=False), IMAGE),
    "avg-pool2d-divisor": (lambda nn: nn.AvgPool2d(2, divisor_override=3), IMAGE),
    "avg-pool3d": (lambda nn: nn.AvgPool3d(2), VOLUME),
    "adaptive-avg1d": (lambda nn: nn.AdaptiveAvgPool1d(4), X),
    "adaptive-avg2d": (lambda nn: nn.AdaptiveAvgPool2d((3, None)), IMAGE),
    "adaptive-avg3d": (lambda nn: nn.AdaptiveAvgPool3d(2), VOLUME),
    "adaptive-max1d": (lambda nn: nn.AdaptiveMaxPool1d(4), X),
    "adaptive-max2d": (lambda nn: nn.AdaptiveMaxPool2d((3, 4), return_indices=True), IMAGE),
    "adaptive-max3d": (lambda nn: nn.AdaptiveMaxPool3d(2), VOLUME),
    "batch-norm1d": (lambda nn: nn.BatchNorm1d(4), X),
    "batch-norm1d-flat": (lambda nn: nn.BatchNorm1d(6, momentum=None), draw(5, 6)),
    "batch-norm2d": (lambda nn: nn.BatchNorm2d(4, affine=False), IMAGE),
    "batch-norm2d-untracked": (lambda nn: nn.BatchNorm2d(4, track_running_stats=False), IMAGE),
    "batch-norm3d": (lambda nn: nn.BatchNorm3d(4, bias=False, momentum=0.3), VOLUME),
    "lazy-batch-norm2d": (lambda nn: nn.LazyBatchNorm2d(), IMAGE),
    "instance-norm1d": (lambda nn: nn.InstanceNorm1d(4), X),
    "instance-norm1d-single": (lambda nn: nn.InstanceNorm1d(4, affine=True), X[0]),
    "instance-norm2d": (lambda nn: nn.InstanceNorm2d(4, affine=True, track_running_stats=True), IMAGE),
    "instance-norm3d": (lambda nn: nn.InstanceNorm3d(4), VOLUME),
    "lazy-instance-norm1d": (lambda nn: nn.LazyInstanceNorm1d(), X),
    "lazy-instance-norm2d": (lambda nn: nn.LazyInstanceNorm2d(track_running_stats=False), IMAGE),
    "lazy-instance-norm3d": (lambda nn: nn.LazyInstanceNorm3d(momentum=0.3), VOLUME),
    "local-response-norm": (lambda nn: nn.LocalResponseNorm(3, 0.1, k=2.0), IMAGE),
    "layer-norm": (lambda nn: nn.LayerNorm((4, 6)), X),
    "layer-norm-no-bias": (lambda nn: nn.LayerNorm(6, 1e-3, bias=False), X),
    "layer-norm-plain": (lambda nn: nn.LayerNorm(6, elementwise_affine=False), X),
    "rms-norm": (lambda nn: nn.RMSNorm(6), X),
    "rms-norm-eps": (lambda nn: nn.RMSNorm((4, 6), 1e-2), X),
    "group-norm": (lambda nn: nn.GroupNorm(2, 4), IMAGE),
    "group-norm-plain": (lambda nn: nn.GroupNorm(4, 4, affine=False), X),
    "local-response-norm-even": (lambda nn: nn.LocalResponseNorm(2), IMAGE),
    "local-response-norm-3d": (lambda nn: nn.LocalResponseNorm(9, alpha=2.0), VOLUME),
    "dropout-0": (lambda nn: nn.Dropout(0.0), X),
    "dropout-1": (lambda nn: nn.Dropout(1.0), X),
    "embedding": (lambda nn: nn.Embedding(5, 3), ints(4, 2)),
    "embedding-padding": (lambda nn: nn.Embedding(5, 3, padding_idx=-2), ints(4, 5)),
    "embedding-max-norm": (lambda nn: nn.Embedding(5, 3, max_norm=0.5), ints(4)),
    "embedding-by-frequency": (lambda nn: nn.Embedding(5, 3, 1, scale_grad_by_freq=True, sparse=False), ints(4, 5)),
    "embedding-bag": (lambda nn: nn.EmbeddingBag(5, 3), ints(4, 2)),
    "embedding-bag-sum": (lambda nn: nn.EmbeddingBag(5, 3, mode="sum", padding_idx=1), ints(4, 5)),
    "embedding-bag-max": (lambda nn: nn.EmbeddingBag(5, 3, max_norm=0.5, norm_type=1, mode="max"), ints(4, 5)),
    "embedding-bag-max-padding": (lambda nn: nn.EmbeddingBag(3, 4, mode="max", padding_idx=-1), ints(8, 2, high=3)),
    "embedding-bag-weights": (lambda nn: nn.EmbeddingBag(5, 3, mode="sum"), ints(6), OFFSETS[:4], draw(6)),
    "embedding-bag-weights-2d": (
        lambda nn: nn.EmbeddingBag(5, 3, mode="sum", padding_idx=0),
        ints(4, 2),
        None,
        draw(4, 2),
    ),
    **{
        f"embedding-bag-{mode}-{last}-{padding}": (
            lambda nn, mode=mode, last=last, padding=padding: nn.EmbeddingBag(
                5, 3, mode=mode, include_last_offset=last, padding_idx=padding
            ),
            ints(6),
            OFFSETS if last else OFFSETS[:4],
        )
        for mode in ("sum", "mean", "max")
        for last in (False, True)
        for padding in (None, 3)
    },
    "embedding-bag-empty": (lambda nn: nn.EmbeddingBag(5, 3, mode="max"), ints(0), np.array([0, 0])),
    "flatten": (lambda nn: nn.Flatten(), IMAGE),
    "flatten-some": (lambda nn: nn.Flatten(1, 2), IMAGE),
    "unflatten": (lambda nn: nn.Unflatten(1, (2, -1)), X),
    "zero-pad1d": (lambda nn: nn.ZeroPad1d((1, 2)), X),
    "zero-pad2d": (lambda nn: nn.ZeroPad2d((1, 2, 0, 1)), IMAGE),
    "constant-pad1d": (lambda nn: nn.ConstantPad1d(2, 3.5), X),
    "constant-pad2d": (lambda nn: nn.ConstantPad2d((1, -1, 2, 0), -1.0), IMAGE),
    "constant-pad3d": (lambda nn: nn.ConstantPad3d(1, 2.0), VOLUME),
    "reflection-pad1d": (lambda nn: nn.ReflectionPad1d(2), X),
    "reflection-pad2d": (lambda nn: nn.ReflectionPad2d((1, 2, 3, 0)), IMAGE),
    "reflection-pad3d": (lambda nn: nn.ReflectionPad3d((1, 2, 3, 0, 1, 1)), VOLUME),
    "replication-pad3d": (lambda nn: nn.ReplicationPad3d((1, 2, 3, 0, 1, 1)), VOLUME),
    "circular-pad3d": (lambda nn: nn.CircularPad3d(1), VOLUME),
    "channel-shuffle": (lambda nn: nn.ChannelShuffle(2), IMAGE),
    "adaptive-softmax": (lambda nn: nn.AdaptiveLogSoftmaxWithLoss(6, 9, [3, 5], 2.0), draw(8, 6), ints(8, high=9)),
    "adaptive-softmax-bias": (
        lambda nn: nn.AdaptiveLogSoftmaxWithLoss(6, 9, [2, 4, 7], 1.5, head_bias=True),
        draw(3, 6),
        np.array([0, 1, 8]),
    ),
    "adaptive-softmax-single": (lambda nn: nn.AdaptiveLogSoftmaxWithLoss(4, 9, [3]), draw(4), np.array(7)),
    "replication-pad1d": (lambda nn: nn.ReplicationPad1d((3, 1)), X),
    "replication-pad2d": (lambda nn: nn.ReplicationPad2d(2), IMAGE),
    "circular-pad1d": (lambda nn: nn.CircularPad1d((1, 2)), X),
    "circular-pad2d": (lambda nn: nn.CircularPad2d(1), IMAGE),
    "upsample-nearest": (lambda nn: nn.Upsample(scale_factor=2), IMAGE),
    "upsample-bilinear": (lambda nn: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), IMAGE),
    "upsample-size": (lambda nn: nn.Upsample(size=(9, 4), mode="bilinear"), IMAGE),
    "upsampling-nearest2d": (lambda nn: nn.UpsamplingNearest2d(scale_factor=2), IMAGE),
    "pixel-shuffle": (lambda nn: nn.PixelShuffle(2), IMAGE),
    "pixel-unshuffle": (lambda nn: nn.PixelUnshuffle(2), IMAGE[..., :6]),
    "cosine-similarity": (lambda nn: nn.CosineSimilarity(dim=2), X, draw(2, 4, 6, seed=1)),
    "pairwise-distance": (lambda nn: nn.PairwiseDistance(keepdim=True), draw(3, 4), draw(3, 4, seed=1)),
    "unfold": (lambda nn: nn.Unfold((2, 3), padding=1, stride=2), IMAGE),
    "fold": (lambda nn: nn.Fold((4, 5), (2, 2)), draw(2, 8, 12)),
    "sequential": (
        lambda nn: nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.ReLU(True), nn.Flatten(), nn.Linear(60, 2)),
        IMAGE,
    ),
    "data-parallel": (lambda nn: nn.DataParallel(nn.Linear(6, 2)), X),
    "spectral-norm": (lambda nn: nn.utils.spectral_norm(nn.Conv2d(4, 3, 3), eps=1e-6), IMAGE),
    "spectral-norm-transposed": (
        lambda nn: nn.utils.spectral_norm(nn.ConvTranspose2d(4, 3, 3), n_power_iterations=3), IMAGE,
    ),
    "weight-norm": (lambda nn: nn.utils.weight_norm(nn.Conv1d(4, 3, 3)), X),
    "weight-norm-1": (lambda nn: nn.utils.weight_norm(nn.Linear(6, 2), dim=1), X),
    "weight-norm-whole": (lambda nn: nn.utils.weight_norm(nn.Linear(6, 2), dim=None), X),
    "spectral-norm-parametrized": (lambda nn: nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 3, 3)), IMAGE),
    "spectral-norm-vector": (lambda nn: nn.utils.parametrizations.spectral_norm(nn.BatchNorm1d(4)), X),
    "weight-norm-parametrized": (lambda nn: nn.utils.parametrizations.weight_norm(nn.ConvTranspose1d(4, 3, 3)), X),
    "weight-norm-recurrent": (lambda nn: nn.utils.parametrizations.weight_norm(nn.LSTM(6, 2), "weight_hh_l0"), X),
}  # fmt: skip

ACTIVATIONS = {
    "relu": lambda nn: nn.ReLU(),
    "relu-inplace": lambda nn: nn.Sequential(nn.Linear(6, 6), nn.ReLU(inplace=True)),
    "leaky-relu": lambda nn: nn.LeakyReLU(0.2),
    "leaky-relu-inplace": lambda nn: nn.Sequential(nn.Linear(6, 6), nn.LeakyReLU(0.2, inplace=True)),
    "elu": lambda nn: nn.ELU(0.7),
    "celu": lambda nn: nn.CELU(2.0),
    "selu": lambda nn: nn.SELU(),
    "gelu": lambda nn: nn.GELU(),
    "gelu-tanh": lambda nn: nn.GELU("tanh"),
    "silu": lambda nn: nn.SiLU(),
    "silu-inplace": lambda nn: nn.Sequential(nn.Linear(6, 6), nn.SiLU(True)),
    "mish": lambda nn: nn.Mish(),
    "softplus": lambda nn: nn.Softplus(2.0, 1.0),
    "softsign": lambda nn: nn.Softsign(),
    "tanh": lambda nn: nn.Tanh(),
    "tanhshrink": lambda nn: nn.Tanhshrink(),
    "sigmoid": lambda nn: nn.Sigmoid(),
    "log-sigmoid": lambda nn: nn.LogSigmoid(),
    "hardtanh": lambda nn: nn.Hardtanh(-0.5, 0.25),
    "relu6": lambda nn: nn.ReLU6(),
    "hardswish": lambda nn: nn.Hardswish(),
    "hardsigmoid": lambda nn: nn.Hardsigmoid(),
    "hardshrink": lambda nn: nn.Hardshrink(0.3),
    "softshrink": lambda nn: nn.Softshrink(0.3),
    "threshold": lambda nn: nn.Threshold(0.1, 20.0),
    "prelu": lambda nn: nn.PReLU(),
    "prelu-channels": lambda nn: nn.PReLU(4, 0.1),
    "glu": lambda nn: nn.GLU(1),
    "softmax": lambda nn: nn.Softmax(1),
    "softmin": lambda nn: nn.Softmin(-1),
    "log-softmax": lambda nn: nn.LogSoftmax(dim=1),
    "softmax2d": lambda nn: nn.Softmax2d(),
}

LABELS = np.array([[2, 0, -1, 1], [-1, 0, 1, 2], [3, 3, 1, -1], [0, 1, 2, 3], [1, -1, -1, -1]])
PROBS = np.log(draw(6, 5, 4, low=0.05, high=1.0) / draw(6, 5, 4, low=0.05, high=1.0).sum(2, keepdims=True))
SPELLED = np.array([[1, 2, 2], [3, 1, 0], [2, 2, 2], [1, 0, 0], [0, 0, 0]])
SPELLED_LENGTHS, STEPS = np.array([3, 2, 3, 1, 0]), np.array([6, 4, 6, 1, 5])

LOGITS, CLASSES = draw(5, 4, low=-3, high=3), ints(5, high=4)
UNIT, ZERO_ONE = draw(5, 4, low=0.05, high=0.95), (draw(5, 4) > 0).astype(np.float64)
WEIGHT = draw(4, low=0.5, high=2)
A, B, C = (draw(5, 4, seed=k) for k in range(3))
SIGNS = np.array([1.0, -1.0, 1.0, 1.0, -1.0])


def weighted(name, **options):
    """A loss with a class weight, which is made with either library."""
    key = options.pop("key", "weight")

    def make(nn):
        to = gg.tensor if nn is globals()["nn"] else torch.tensor
        return getattr(nn, name)(**{key: to(WEIGHT)}, **options)

    return make


LOSSES = {
    "l1": (lambda nn, r: nn.L1Loss(reduction=r), A, B),
    "mse": (lambda nn, r: nn.MSELoss(reduction=r), A, B),
    "smooth-l1": (lambda nn, r: nn.SmoothL1Loss(reduction=r, beta=0.3), A, B),
    "huber": (lambda nn, r: nn.HuberLoss(reduction=r, delta=0.3), A, B),
    "nll": (lambda nn, r: weighted("NLLLoss", reduction=r, ignore_index=2)(nn), LOGITS, CLASSES),
    "cross-entropy": (lambda nn, r: nn.CrossEntropyLoss(reduction=r), LOGITS, CLASSES),
    "cross-entropy-weighted": (
        lambda nn, r: weighted("CrossEntropyLoss", reduction=r, ignore_index=1, label_smoothing=0.2)(nn),
        LOGITS, CLASSES,
    ),
    "cross-entropy-probabilities": (lambda nn, r: nn.CrossEntropyLoss(reduction=r, label_smoothing=0.1), LOGITS, UNIT),
    "bce": (lambda nn, r: weighted("BCELoss", reduction=r)(nn), UNIT, ZERO_ONE),
    "bce-logits": (lambda nn, r: weighted("BCEWithLogitsLoss", key="pos_weight", reduction=r)(nn), LOGITS, ZERO_ONE),
    "kl": (lambda nn, r: nn.KLDivLoss(reduction=r), np.log(UNIT), UNIT[::-1].copy()),
    "kl-log": (lambda nn, r: nn.KLDivLoss(reduction=r, log_target=True), np.log(UNIT), np.log(UNIT[::-1])),
    "poisson": (lambda nn, r: nn.PoissonNLLLoss(full=True, reduction=r), LOGITS, CLASSES[:, None] * np.ones((1, 4))),
    "gaussian": (lambda nn, r: nn.GaussianNLLLoss(reduction=r), A, B, UNIT),
    "margin-ranking": (lambda nn, r: nn.MarginRankingLoss(0.3, reduction=r), A[:, 0], B[:, 0], SIGNS),
    "cosine-embedding": (lambda nn, r: nn.CosineEmbeddingLoss(0.1, reduction=r), A, B, SIGNS),
    "hinge-embedding": (lambda nn, r: nn.HingeEmbeddingLoss(reduction=r), A[:, 0], SIGNS),
    "soft-margin": (lambda nn, r: nn.SoftMarginLoss(reduction=r), A[:, 0], SIGNS),
    "triplet": (lambda nn, r: nn.TripletMarginLoss(0.7, swap=True, reduction=r), A, B, C),
    "triplet-distance": (lambda nn, r: nn.TripletMarginWithDistanceLoss(margin=0.7, reduction=r), A, B, C),
    "triplet-a-distance": (
        lambda nn, r: nn.TripletMarginWithDistanceLoss(
            distance_function=nn.CosineSimilarity(), swap=True, reduction=r
        ),
        A, B, C,
    ),
    "multi-margin": (lambda nn, r: nn.MultiMarginLoss(margin=0.5, reduction=r), LOGITS, CLASSES),
    "multi-margin-weighted": (lambda nn, r: weighted("MultiMarginLoss", p=2, reduction=r)(nn), LOGITS, CLASSES),
    "multi-margin-single": (lambda nn, r: nn.MultiMarginLoss(reduction=r), LOGITS[0], CLASSES[:1].reshape(())),
    "multi-label-margin": (lambda nn, r: nn.MultiLabelMarginLoss(reduction=r), LOGITS, LABELS),
    "multi-label-margin-single": (lambda nn, r: nn.MultiLabelMarginLoss(reduction=r), LOGITS[0], LABELS[0]),
    "multi-label-soft-margin": (
        lambda nn, r: weighted("MultiLabelSoftMarginLoss", reduction=r)(nn), LOGITS, ZERO_ONE,
    ),
    "ctc": (lambda nn, r: nn.CTCLoss(reduction=r, zero_infinity=True), PROBS, SPELLED, STEPS, SPELLED_LENGTHS),
    "ctc-infinite": (lambda nn, r: nn.CTCLoss(reduction=r), PROBS, SPELLED, STEPS // 2, SPELLED_LENGTHS),
    "ctc-tuples": (lambda nn, r: nn.CTCLoss(3, r), PROBS, SPELLED, (6, 5, 6, 5, 4), (3, 3, 1, 2, 3)),
    "ctc-joined": (
        lambda nn, r: nn.CTCLoss(reduction=r),
        PROBS, np.array([1, 2, 2, 3, 1, 2, 1, 2, 3]), STEPS + 1 - (STEPS > 5), SPELLED_LENGTHS,
    ),
    "ctc-single": (lambda nn, r: nn.CTCLoss(reduction=r), PROBS[:, 0], SPELLED[0], np.array(6), np.array(3)),
    "ctc-no-labels": (lambda nn, r: nn.CTCLoss(reduction=r), PROBS, SPELLED, (0, 5, 6, 1, 1), (0, 0, 0, 0, 1)),
}  # fmt: skip

SEQUENCE = draw(5, 3, 4)
STATE = draw(2, 3, 6)

RECURRENT = {
    "rnn": (lambda nn: nn.RNN(4, 6), SEQUENCE),
    "rnn-relu": (lambda nn: nn.RNN(4, 6, 2, "relu", bias=False, batch_first=True), SEQUENCE),
    "rnn-state": (lambda nn: nn.RNN(4, 6, num_layers=2), SEQUENCE, STATE),
    "rnn-single": (lambda nn: nn.RNN(4, 6, num_layers=2), SEQUENCE[:, 0], STATE[:, 0]),
    "lstm": (lambda nn: nn.LSTM(4, 6), SEQUENCE),
    "lstm-deep": (lambda nn: nn.LSTM(4, 6, 2, batch_first=True, bidirectional=True), SEQUENCE),
    "lstm-state": (lambda nn: nn.LSTM(4, 6, bidirectional=True, bias=False), SEQUENCE, (STATE, draw(2, 3, 6, seed=1))),
    "lstm-projected": (lambda nn: nn.LSTM(4, 6, 2, bidirectional=True, proj_size=2), SEQUENCE),
    "lstm-single": (lambda nn: nn.LSTM(4, 6), SEQUENCE[:, 0]),
    "gru": (lambda nn: nn.GRU(4, 6), SEQUENCE),
    "gru-deep": (lambda nn: nn.GRU(4, 6, 2, bidirectional=True, dropout=0.0), SEQUENCE, draw(4, 3, 6)),
    "gru-no-bias": (lambda nn: nn.GRU(4, 6, bias=False), SEQUENCE),
    "rnn-cell": (lambda nn: nn.RNNCell(4, 6), SEQUENCE[0]),
    "rnn-cell-relu": (lambda nn: nn.RNNCell(4, 6, nonlinearity="relu"), SEQUENCE[0], STATE[0]),
    "lstm-cell": (lambda nn: nn.LSTMCell(4, 6), SEQUENCE[0], (STATE[0], STATE[1])),
    "lstm-cell-single": (lambda nn: nn.LSTMCell(4, 6, bias=False), SEQUENCE[0, 0]),
    "gru-cell": (lambda nn: nn.GRUCell(4, 6), SEQUENCE[0], STATE[0]),
    "gru-cell-no-bias": (lambda nn: nn.GRUCell(4, 6, bias=False), SEQUENCE[0]),
}

Q, K = draw(3, 2, 4), draw(5, 2, 4)
CAUSAL = np.triu(np.ones((3, 3), bool), 1)
PADDING = np.array([[False] * 5, [False, False, True, True, True]])

ATTENTION = {
    "self": (lambda nn: nn.MultiheadAttention(4, 2), {}, Q, Q, Q),
    "cross": (lambda nn: nn.MultiheadAttention(4, 2, bias=False), {}, Q, K, K),
    "batch-first": (lambda nn: nn.MultiheadAttention(4, 4, batch_first=True), {}, *(Q.transpose(1, 0, 2),) * 3),
    "single": (lambda nn: nn.MultiheadAttention(4, 1), {}, Q[:, 0], K[:, 0], K[:, 0]),
    "widths": (lambda nn: nn.MultiheadAttention(4, 2, kdim=3, vdim=5), {}, Q, draw(5, 2, 3), draw(5, 2, 5)),
    "causal": (lambda nn: nn.MultiheadAttention(4, 2), {"attn_mask": CAUSAL, "is_causal": True}, Q, Q, Q),
    "causal-no-weights": (
        lambda nn: nn.MultiheadAttention(4, 2),
        {"attn_mask": CAUSAL, "is_causal": True, "need_weights": False}, Q, Q, Q,
    ),
    "float-mask": (lambda nn: nn.MultiheadAttention(4, 2), {"attn_mask": draw(4, 3, 5)}, Q, K, K),
    "padding": (lambda nn: nn.MultiheadAttention(4, 2), {"key_padding_mask": PADDING}, Q, K, K),
    "both-masks": (
        lambda nn: nn.MultiheadAttention(4, 2, add_bias_kv=True, add_zero_attn=True),
        {"key_padding_mask": PADDING, "attn_mask": np.arange(15).reshape(3, 5) == 3}, Q, K, K,
    ),
    "no-weights": (
        lambda nn: nn.MultiheadAttention(4, 2), {"need_weights": False, "key_padding_mask": PADDING}, Q, K, K,
    ),
    "weights-of-heads": (lambda nn: nn.MultiheadAttention(4, 2), {"average_attn_weights": False}, Q, K, K),
}  # fmt: skip

SRC, TGT = draw(5, 2, 4), draw(3, 2, 4)

TRANSFORMERS = {
    "encoder-layer": (lambda nn: nn.TransformerEncoderLayer(4, 2, 8, 0.0), {}, SRC),
    "encoder-layer-norm-first": (
        lambda nn: nn.TransformerEncoderLayer(4, 2, 8, 0.0, "gelu", norm_first=True, batch_first=True, bias=False),
        {}, SRC,
    ),
    "decoder-layer": (lambda nn: nn.TransformerDecoderLayer(4, 2, 8, 0.0), {"tgt_mask": CAUSAL}, TGT, SRC),
    "encoder": (
        lambda nn: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(4, 2, 8, 0.0), 2, nn.LayerNorm(4), enable_nested_tensor=False
        ),
        {"src_key_padding_mask": PADDING}, SRC,
    ),
    "decoder": (lambda nn: nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 8, 0.0), 2), {}, TGT, SRC),
    "transformer": (lambda nn: nn.Transformer(4, 2, 1, 2, 8, 0.0), {"tgt_mask": CAUSAL}, SRC, TGT),
}  # fmt: skip


@on_every_device
@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True}, {"add_zero_attn": True}])
@pytest.mark.parametrize("padded", [False, True])
def test_the_causal_hint_changes_nothing(options, padded):
    module = nn.MultiheadAttention(4, 2, dtype=gg.float64, **options)
    q, mask = gg.tensor(Q), gg.tensor(CAUSAL)
    padding = gg.tensor([[False] * 3, [False, True, True]]) if padded else None
    outs = [module(q, q, q, padding, False, mask, is_causal=hint)[0] for hint in (False, True)]
    close(outs[1], outs[0], 1e-12, 1e-12)


def test_how_attention_is_computed_may_be_said_and_changes_nothing():
    q = gg.tensor(Q)
    expected = F.scaled_dot_product_attention(q, q, q)
    backends = nn.attention.SDPBackend
    for context in (
        nn.attention.sdpa_kernel([backends.FLASH_ATTENTION, backends.MATH]),
        nn.attention.sdpa_kernel(backends.EFFICIENT_ATTENTION, set_priority=True),
        gg.backends.cuda.sdp_kernel(enable_flash=False),
    ):
        with context:
            assert (F.scaled_dot_product_attention(q, q, q) == expected).all()
    with pytest.raises(AssertionError, match="SDPBackend"), nn.attention.sdpa_kernel("flash"):
        pass


def mine(value):
    """An input of a case as this library takes it; floating-point ones need gradients."""
    if isinstance(value, tuple):
        return tuple(map(mine, value))
    if not isinstance(value, np.ndarray):
        return value
    return gg.tensor(value, requires_grad=value.dtype.kind == "f")


def theirs(value):
    if isinstance(value, tuple):
        return tuple(map(theirs, value))
    if not isinstance(value, np.ndarray):
        return value
    return torch.tensor(value, requires_grad=value.dtype.kind == "f")


def flat(values):
    """The tensors in a nested result."""
    if isinstance(values, tuple | list):
        return [t for value in values for t in flat(value)]
    return [] if values is None or isinstance(values, int) else [values]


def backward(outs, rng_seed=7):
    """Start a backward from a weighted sum of the floating-point results."""
    rng = np.random.default_rng(rng_seed)
    total = 0
    for out in outs:
        weight = rng.uniform(0.5, 1.5, tuple(out.shape))
        if out.requires_grad:
            total = total + (out * (gg.tensor(weight) if isinstance(out, gg.Tensor) else torch.tensor(weight))).sum()
    total.backward()


def like_torch(make, *inputs, options=None, train=True, tolerance=1e-10):
    """Run the same module here and there with the same state; compare results, gradients, buffers and text."""
    options = options or {}
    module, other = make(nn).double().train(train), make(torch.nn).double().train(train)
    a, b = [mine(x) for x in inputs], [theirs(x) for x in inputs]
    lazy = [m for m in module.modules() if isinstance(m, nn.modules.lazy.LazyModuleMixin)]
    if lazy:
        assert repr(module) == repr(other)
        module(*a), other(*b)
        for t in flat(a):
            t.grad = None
    with gg.no_grad():
        for k, (name, p) in enumerate(module.named_parameters()):
            values = draw(*p.shape, seed=k, low=-0.6, high=0.6)
            p.copy_(values if "norm" not in name else 1 + values)
            if (row := getattr(module, "padding_idx", None)) is not None:
                p[row] = 0
    other.load_state_dict({name: torch.tensor(host(t)) for name, t in module.state_dict().items()})
    assert list(module.state_dict()) == list(other.state_dict())
    assert repr(module) == repr(other)
    kwargs_a = {name: x if not isinstance(x, np.ndarray) else gg.tensor(x) for name, x in options.items()}
    kwargs_b = {name: x if not isinstance(x, np.ndarray) else torch.tensor(x) for name, x in options.items()}
    mine_out, their_out = flat(module(*a, **kwargs_a)), flat(other(*b, **kwargs_b))
    close(mine_out, [t.detach().numpy() for t in their_out], tolerance, tolerance)
    for x, y in zip(mine_out, their_out, strict=True):
        assert str(y.dtype) == f"torch.{x.dtype.name}"
        assert x.requires_grad == y.requires_grad
    if any(t.requires_grad for t in mine_out):
        backward(mine_out)
        backward(their_out)
        found = [t.grad for t in [*flat(a), *module.parameters()]]
        expected = [t.grad for t in [*flat(b), *other.parameters()]]
        close(found, [None if t is None else t.numpy() for t in expected], tolerance, tolerance)
    close(list(module.buffers()), [t.numpy() for t in other.buffers()], tolerance, tolerance)


@on_every_device
@quiet
@needs_torch
@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_pytorchs(name, train):
    make, *inputs = LAYERS[name]
    like_torch(make, *inputs, train=train)


@on_every_device
@needs_torch
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_pytorchs(name):
    # PyTorch rounds the slope of hardsigmoid, 1/6, to float32.
    like_torch(ACTIVATIONS[name], draw(2, 4, 6, low=-4, high=4), tolerance=1e-7 if name == "hardsigmoid" else 1e-10)


@on_every_device
@needs_torch
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_pytorchs(name, reduction):
    make, *inputs = LOSSES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns about reduction="mean" of the divergence
        if name.startswith("kl") and reduction == "mean":
            like_torch(lambda nn: make(nn, "batchmean"), *inputs)
        # Labels and variances take no gradient in every loss of PyTorch.
        like_torch(lambda nn: Fixed(nn, make(nn, reduction)), *inputs)


PRUNED = [
    lambda p, net, T: p.l1_unstructured(net[0], "weight", 0.3),
    lambda p, net, T: p.l1_unstructured(net[0], "bias", 2, T.tensor([0.1, 0.4, 0.2, 0.3])),
    lambda p, net, T: p.ln_structured(net[0], "weight", 2, 2, 0),
    lambda p, net, T: p.ln_structured(net[1], "weight", 0.5, float("inf"), -1),
    lambda p, net, T: p.identity(net[0], "weight"),
    lambda p, net, T: p.custom_from_mask(net[0], "bias", T.tensor([1, 0, 1, 0])),
    lambda p, net, T: p.L1Unstructured.apply(net[1], "weight", amount=0.25),
    lambda p, net, T: p.ln_structured(net[1], "weight", 1, 1, 1),
    lambda p, net, T: p.global_unstructured([(net[0], "weight"), (net[1], "weight")], p.L1Unstructured, amount=0.4),
    lambda p, net, T: p.global_unstructured(
        [(net[0], "bias")], p.L1Unstructured, {(net[0], "bias"): T.tensor([0.4, 0.1, 0.3, 0.2])}, amount=1
    ),
]


@on_every_device
@needs_torch
@pytest.mark.parametrize("order", [range(9), (8, 7, 1, 0, 3), (2, 2, 5, 1), (9,), (3, 6, 8)])
def test_pruning_is_pytorchs(order):
    x = draw(5, 6)
    results = []
    for T in (gg, torch):
        net = T.nn.Sequential(T.nn.Linear(6, 4), T.nn.Linear(4, 3)).double()
        with T.no_grad():
            for k, p in enumerate(net.parameters()):
                p.copy_(T.tensor(draw(*p.shape, seed=k)))
        prune = importlib.import_module(f"{T.__name__}.nn.utils.prune")
        assert not prune.is_pruned(net)
        found = []
        for k in order:
            PRUNED[k](prune, net, T)
            out = net(T.tensor(x))
            net.zero_grad()
            out.sum().backward()
            state = {name: t.clone() for name, t in net.state_dict().items()}
            grads = {name: p.grad for name, p in net.named_parameters()}
            found.append((out.detach(), state, grads))
        assert prune.is_pruned(net)
        for layer in net:
            for name in ("weight", "bias"):
                if hasattr(layer, f"{name}_mask"):
                    prune.remove(layer, name)
        assert not prune.is_pruned(net)
        found.append((net(T.tensor(x)).detach(), net.state_dict(), {}))
        results.append(found)
    for mine_found, their_found in zip(*results, strict=True):
        close(mine_found[0], their_found[0].numpy())
        for ours, others in zip(mine_found[1:], their_found[1:], strict=True):
            assert ours.keys() == others.keys()
            for key, t in others.items():
                close(ours[key], t.numpy())


@on_every_device
def test_pruning_at_random_and_what_cannot_be_pruned():
    prune, layer = nn.utils.prune, nn.Linear(10, 8)
    prune.random_unstructured(layer, "weight", 0.25)
    assert int((layer.weight == 0).sum()) == 20
    prune.random_structured(layer, "weight", 3, 0)
    assert int((layer.weight_mask.sum(1) == 0).sum()) >= 3
    assert len(layer.__dict__["_prunings"]["weight"][0]) == 2
    assert prune.RandomUnstructured(4).prune(gg.ones(10)).sum() == 6
    for error, action in (
        (ValueError, lambda: prune.remove(layer, "bias")),
        (ValueError, lambda: prune.l1_unstructured(nn.Linear(2, 2), "weight", 1.5)),
        (ValueError, lambda: prune.l1_unstructured(nn.Linear(2, 2), "weight", 9)),
        (ValueError, lambda: prune.l1_unstructured(nn.Linear(2, 2), "weight", -1)),
        (TypeError, lambda: prune.l1_unstructured(nn.Linear(2, 2), "weight", "1")),
        (ValueError, lambda: prune.ln_structured(nn.Linear(2, 2), "bias", 1, 2, 0)),
        (IndexError, lambda: prune.ln_structured(nn.Linear(2, 2), "weight", 1, 2, 2)),
        (AssertionError, lambda: prune.l1_unstructured(nn.Linear(2, 2), "weight", 1, gg.ones(2))),
        (AssertionError, lambda: prune.custom_from_mask(nn.Linear(2, 2), "weight", gg.ones(2))),
        (TypeError, lambda: prune.global_unstructured([(layer, "bias")], prune.LnStructured, amount=1, n=2)),
        (AssertionError, lambda: prune.Identity().apply_mask(layer)),
    ):
        with pytest.raises(error):
            action()
    failed = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="smaller"):
        prune.l1_unstructured(failed, "weight", 9)
    assert list(failed.state_dict()) == ["weight", "bias"]


FUSED = {
    "conv": (lambda nn: nn.Conv2d(4, 3, 2), lambda nn: nn.BatchNorm2d(3), IMAGE, ()),
    "conv-no-bias": (lambda nn: nn.Conv1d(4, 3, 2, bias=False), lambda nn: nn.BatchNorm1d(3, affine=False), X, ()),
    "transposed": (lambda nn: nn.ConvTranspose2d(4, 3, 2), lambda nn: nn.BatchNorm2d(3), IMAGE, (True,)),
    "linear": (lambda nn: nn.Linear(6, 3), lambda nn: nn.BatchNorm1d(3, eps=0.1), draw(5, 6), ()),
    "linear-shared": (lambda nn: nn.Linear(6, 3, bias=False), lambda nn: nn.BatchNorm1d(1), draw(5, 1, 6), ()),
}


@on_every_device
@needs_torch
@pytest.mark.parametrize("name", FUSED)
def test_normalisation_fused_into_the_layer_before_it(name):
    make, make_norm, x, args = FUSED[name]
    layer, norm = make(nn).double(), make_norm(nn).double()
    with gg.no_grad():
        for k, t in enumerate([*norm.parameters(), norm.running_mean, norm.running_var]):
            t.copy_(draw(*t.shape, seed=k, low=0.5, high=2))
    layer.eval(), norm.eval()
    fuse = "fuse_linear_bn_eval" if name.startswith("linear") else "fuse_conv_bn_eval"
    fused = getattr(nn.utils, fuse)(layer, norm, *args)
    assert type(fused) is type(layer)
    assert fused.weight is not layer.weight
    assert fused.weight.requires_grad
    close(fused(gg.tensor(x)), norm(layer(gg.tensor(x))))
    others = make(torch.nn).double(), make_norm(torch.nn).double()
    for other, module in zip(others, (layer, norm), strict=True):
        other.load_state_dict({key: torch.tensor(host(t)) for key, t in module.state_dict().items()})
        other.eval()
    expected = getattr(torch.nn.utils, fuse)(*others, *args)
    close([fused.weight, fused.bias], [expected.weight.detach().numpy(), expected.bias.detach().numpy()])


def test_what_cannot_be_fused_or_skipped():
    conv, norm = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)
    with pytest.raises(AssertionError, match="eval"):
        nn.utils.fuse_conv_bn_eval(conv, norm)
    with pytest.raises(ValueError, match="tracked"):
        nn.utils.fuse_conv_bn_eval(conv.eval(), nn.BatchNorm2d(2, track_running_stats=False).eval())
    with pytest.raises(AssertionError, match="out_features"):
        nn.utils.fuse_linear_bn_eval(nn.Linear(1, 3).eval(), norm.eval())
    for wrong in (nn.ReLU, int, nn.ReLU()):
        with pytest.raises(RuntimeError, match="Module"):
            nn.utils.skip_init(wrong)
    state = gg.get_rng_state()
    layer = nn.utils.skip_init(nn.Linear, 2, 3, bias=False, dtype=gg.float64)
    assert (layer.weight.shape, layer.weight.dtype, layer.bias) == ((3, 2), gg.float64, None)
    assert (gg.get_rng_state() == state).all()


@on_every_device
def test_randomized_relu_draws_slopes_while_training():
    layer, x = nn.RReLU(0.2, 0.4), gg.tensor(draw(1000), requires_grad=True)
    layer(x).sum().backward()
    slopes = host(x.grad)[host(x) < 0]
    assert (host(x.grad)[host(x) >= 0] == 1).all()
    assert 0.2 <= slopes.min() < 0.23 < 0.37 < slopes.max() <= 0.4
    close(layer.eval()(x), F.leaky_relu(x, 0.3))
    assert repr(layer) == "RReLU(lower=0.2, upper=0.4)"
    y = x.detach().clone()
    assert F.rrelu_(y, 0.5, 0.5) is y
    close(y, np.where(host(x) < 0, host(x) / 2, host(x)))


@on_every_device
@needs_torch
def test_an_adaptive_softmax_knows_all_classes():
    other = torch.nn.AdaptiveLogSoftmaxWithLoss(6, 9, [3, 5], 2.0).double()
    layer = nn.AdaptiveLogSoftmaxWithLoss(6, 9, [3, 5], 2.0).double()
    layer.load_state_dict({name: t.numpy() for name, t in other.state_dict().items()})
    x = draw(40, 6, low=-9, high=9)
    close(layer.log_prob(gg.tensor(x)), other.log_prob(torch.tensor(x)).detach().numpy())
    assert layer.predict(gg.tensor(x)).tolist() == other.predict(torch.tensor(x)).tolist()
    before = host(layer.head.weight).copy()
    layer.reset_parameters()
    assert (host(layer.head.weight) != before).any()


@on_every_device
def test_ctc_loss_gives_the_gradient_of_logits_once():
    logits = gg.tensor(draw(5, 2, 4, low=-3, high=3), requires_grad=True)
    targets = gg.tensor([[1, 1], [3, 2]])

    def loss(logits):
        return F.ctc_loss(logits.log_softmax(2), targets, (5, 4), (2, 1), reduction="sum")

    assert gradcheck(loss, logits)
    (slope,) = gg.autograd.grad(loss(logits), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="not implemented"):
        slope.sum().backward()
    # Far from probable, where products of probabilities would vanish.
    steep = gg.tensor(draw(5, 2, 4) * 1e4, requires_grad=True)
    loss(steep).backward()
    assert np.isfinite(host(steep.grad)).all()


@on_every_device
def test_a_bag_by_frequency_divides_by_the_uses_of_each_row():
    table = gg.ones(6, 2, dtype=gg.float64, requires_grad=True)
    F.embedding_bag(gg.tensor([1, 2, 2, 4]), table, gg.tensor([0, 2, 2]), None, 2, True, "sum").sum().backward()
    close(table.grad[:, 0], np.array([0.0, 1, 1, 0, 1, 0]))


@on_every_device
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_what_comes_after_the_last_offset_is_in_no_bag(mode):
    table = gg.tensor(draw(4, 2), requires_grad=True)
    bags = F.embedding_bag(gg.tensor([1, 2, 3]), table, gg.tensor([0, 1, 2]), mode=mode, include_last_offset=True)
    close(bags, host(table)[[1, 2]])
    bags.sum().backward()
    assert not host(table.grad)[3].any()
    assert F.embedding_bag(gg.tensor([1]), table, gg.tensor([0]), mode=mode, include_last_offset=True).shape == (0, 2)
    assert not host(F.embedding_bag(gg.zeros(2, 0, dtype=gg.int64), table, mode=mode)).any()


@needs_torch
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 3), (1, 4, 2, 2), (0, 4), (0, 4, 2)])
def test_cross_entropy_is_pytorchs_where_rows_count_for_nothing(shape, smoothing, device):
    """Ignored rows, all of them too, weights of 0, and batches without rows: losses and gradients, NaN included."""
    x, places = draw(*shape), (shape[0], *shape[2:])
    mixed = ints(*places, high=4)
    mixed.reshape(-1)[1:2] = -100
    for target in (np.full(places, -100), mixed, ints(*places, high=4)):
        for weight in (None, np.zeros(4), np.arange(4.0)):
            for reduction in ("mean", "sum", "none"):
                found = []
                for to, loss in ((gg.tensor, F.cross_entropy), (torch.tensor, torch.nn.functional.cross_entropy)):
                    options = {"device": device} if to is gg.tensor else {}
                    leaf = to(x, requires_grad=True, **options)
                    w = None if weight is None else to(weight, **options)
                    out = loss(leaf, to(target, **options), w, reduction=reduction, label_smoothing=smoothing)
                    out.sum().backward()
                    found.append([out.detach(), leaf.grad])
                close([t.cpu() for t in found[0]], [t.numpy() for t in found[1]])


def test_a_loss_whose_graph_is_kept_gives_its_gradient_again():
    """A backward that frees the graph may write over what was saved for it, another may not."""
    x = gg.tensor(draw(5, 4), requires_grad=True)
    loss = F.cross_entropy(x, gg.tensor(ints(5, high=4)), label_smoothing=0.1)
    loss.backward(retain_graph=True)
    first = x.grad.clone()
    (again,) = gg.autograd.grad(loss, x, create_graph=True)
    loss.backward()
    close(x.grad, 2 * first, rtol=0, atol=0)
    close(again, first)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def Fixed(nn, loss):
    """A loss of which only the first argument gets a gradient."""

    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.loss = loss

        def forward(self, input, *rest):
            return self.loss(input, *(t.detach() if hasattr(t, "detach") else t for t in rest))

    return Loss()


@on_every_device
@needs_torch
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_are_pytorchs(name):
    make, *inputs = RECURRENT[name]
    like_torch(make, *inputs)


@on_every_device
@needs_torch
@pytest.mark.parametrize("name", ATTENTION)
def test_attention_is_pytorchs(name):
    make, options, *inputs = ATTENTION[name]
    if inputs[0] is inputs[1]:
        like_torch(lambda nn: Repeated(nn, make(nn)), inputs[0], options=options)
    like_torch(make, *inputs, options=options)


def Repeated(nn, attention):
    """Self-attention: the same tensor three times."""

    class Self(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, x, **options):
            return self.attention(x, x, x, **options)

    return Self()


@on_every_device
@quiet
@needs_torch
@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_are_pytorchs(name, train):
    make, options, *inputs = TRANSFORMERS[name]
    like_torch(make, *inputs, options=options, train=train)


def test_one_size_in_a_list_counts_for_all_dimensions():
    conv = nn.Conv2d(3, 4, kernel_size=[3], stride=[2], padding=(1,))
    assert (conv.kernel_size, conv.stride, conv.padding) == ((3, 3), (2, 2), (1, 1))
    assert conv(gg.ones(1, 3, 8, 8)).shape == (1, 4, 4, 4)


@on_every_device
@needs_torch
def test_conv_transpose_to_a_given_size():
    def make(nn):
        class Sized(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1)

            def forward(self, x):
                return self.conv(x, output_size=[12, 13])

        return Sized()

    like_torch(make, IMAGE)
    with pytest.raises(ValueError, match="valid sizes range"):
        nn.ConvTranspose2d(4, 3, 3, stride=2)(gg.ones(1, 4, 3, 3), output_size=(20, 20))


# Packed sequences


LENGTHS = [5, 3, 3, 1]


def packed(lengths=LENGTHS, enforce_sorted=True, batch_first=False):
    def run(nn, layer):
        utils = rnn_utils if nn is globals()["nn"] else torch.nn.utils.rnn

        class Packed(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = layer

            def forward(self, x, *state):
                p = utils.pack_padded_sequence(x, lengths, batch_first=batch_first, enforce_sorted=enforce_sorted)
                out, last = self.layer(p, *state)
                padded, counts = utils.pad_packed_sequence(out, batch_first=batch_first, padding_value=0.5)
                return padded, counts, last, p.data

        return Packed()

    return run


@on_every_device
@needs_torch
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_packed_sequences(kind, bidirectional):
    def make(nn):
        return packed()(nn, getattr(nn, kind)(2, 3, num_layers=2, bidirectional=bidirectional))

    like_torch(make, draw(5, 4, 2))


@on_every_device
@needs_torch
def test_packed_sequences_unsorted_and_with_states():
    def make(nn):
        return packed([2, 4, 3], False, True)(nn, nn.LSTM(2, 3, batch_first=True, bidirectional=True))

    like_torch(make, draw(3, 4, 2), (draw(2, 3, 3), draw(2, 3, 3, seed=1)))


@on_every_device
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_what_a_recurrent_layer_gives_may_be_changed_in_place(kind):
    module, x = getattr(nn, kind)(2, 3, dtype=gg.float64), gg.tensor(draw(5, 4, 2))
    found = []
    for scale in (lambda t: t.mul_(2), lambda t: t * 2):
        out, last = module(x)
        last = last[0] if kind == "LSTM" else last
        found.append(gg.autograd.grad((scale(out).sum() + scale(last).sum()), list(module.parameters())))
    close(*found, 1e-12, 1e-12)


def test_second_gradients_of_a_sequence_whose_states_depend_on_each_other():
    x, weight = gg.tensor(draw(4, 2)), gg.tensor(draw(12, 3), requires_grad=True)

    def run(h, weight):
        return REGISTRY["lstm"](x, h, h * 2, weight[:, :2] * h[0, 0], weight, None, None, (2, 2), False)

    inputs = (gg.tensor(draw(2, 3), requires_grad=True), weight)
    starts = [out.detach() + 1 for out in run(*inputs)]
    plain, recorded = (gg.autograd.grad(run(*inputs), inputs, starts, create_graph=again) for again in (False, True))
    close(recorded, plain, 1e-12, 1e-12)
    assert gradgradcheck(run, inputs)


@on_every_device
def test_padding_and_packing():
    a, b, c = (gg.arange(3.0 * n).reshape(n, 3) for n in (2, 4, 1))
    padded = rnn_utils.pad_sequence([a, b, c], batch_first=True, padding_value=-1.0)
    assert padded.shape == (3, 4, 3)
    assert padded[2, 1:].tolist() == [[-1.0] * 3] * 3
    left = rnn_utils.pad_sequence([a, b], padding_side="left")
    assert left.shape == (4, 2, 3)
    assert left[0, 0].tolist() == [0.0] * 3
    close(left[2:, 0], a)
    parts = rnn_utils.unpad_sequence(padded, gg.tensor([2, 4, 1]), batch_first=True)
    close(parts, [a, b, c])
    close(rnn_utils.unpack_sequence(rnn_utils.pack_sequence([a, b, c], enforce_sorted=False)), [a, b, c])
    packed = rnn_utils.pack_padded_sequence(padded, [2, 4, 1], batch_first=True, enforce_sorted=False)
    assert packed.batch_sizes.tolist() == [3, 2, 1, 1]
    assert packed.sorted_indices.tolist() == [1, 0, 2]
    assert packed.to(gg.float64).data.dtype == gg.float64
    assert packed.batch_sizes.is_cpu
    assert packed.to(packed.data.device) is packed
    again, lengths = rnn_utils.pad_packed_sequence(packed, batch_first=True, padding_value=-1.0, total_length=5)
    assert lengths.is_cpu
    assert lengths.tolist() == [2, 4, 1]
    assert again.shape == (3, 5, 3)
    close(again[:, :4], padded)


@on_every_device
@pytest.mark.parametrize(
    ("action", "error"),
    [
        (lambda: rnn_utils.pack_padded_sequence(gg.ones(3, 2, 1), [1, 3]), RuntimeError),
        (lambda: rnn_utils.pack_padded_sequence(gg.ones(3, 2, 1), [3]), RuntimeError),
        (lambda: rnn_utils.pack_padded_sequence(gg.ones(3, 2, 1), [3, 0]), RuntimeError),
        (lambda: rnn_utils.pack_padded_sequence(gg.ones(3, 2, 1), [4, 1]), RuntimeError),
        (lambda: rnn_utils.pad_sequence([]), RuntimeError),
        (lambda: rnn_utils.pad_sequence([gg.ones(2, 1), gg.ones(2, 3)]), RuntimeError),
        (lambda: rnn_utils.pad_sequence([gg.ones(2)], padding_side="top"), ValueError),
        (
            lambda: rnn_utils.pad_packed_sequence(rnn_utils.pack_sequence([gg.ones(3)]), total_length=2),
            ValueError,
        ),
    ],
)
def test_bad_sequences(action, error):
    with pytest.raises(error):
        action()


# Layers on their own


@on_every_device
def test_dropout_only_while_training():
    for make in (nn.Dropout, nn.AlphaDropout):
        layer, x = make(0.5), gg.ones(1000)
        out = layer(x)
        assert 300 < (out == out.max()).sum().item() < 700
        assert layer.eval()(x).tolist() == x.tolist()
    channels = host(nn.Dropout2d(0.5)(gg.ones(20, 10, 2, 2))).reshape(200, 4)
    assert set(map(tuple, channels.tolist())) == {(0.0,) * 4, (2.0,) * 4}
    with pytest.raises(ValueError, match="between 0 and 1"):
        nn.Dropout(1.5)


@on_every_device
def test_batch_norm_keeps_statistics():
    layer = nn.BatchNorm1d(3)
    x = gg.tensor(draw(50, 3) * [1, 2, 3] + [0, 1, 2], dtype=gg.float32)
    for _ in range(200):
        layer(x)
    assert layer.num_batches_tracked.item() == 200
    close(layer.running_mean, host(x).mean(0), rtol=1e-4, atol=1e-4)
    close(layer.running_var, host(x).var(0, ddof=1), rtol=1e-4)
    out = layer.eval()(x)
    close(out.detach(), (host(x) - host(x).mean(0)) / np.sqrt(host(x).var(0, ddof=1) + 1e-5), 1e-3, 1e-3)
    assert layer.num_batches_tracked.item() == 200
    layer.reset_running_stats()
    assert layer.running_var.tolist() == [1.0] * 3
    assert layer.num_batches_tracked.item() == 0


@pytest.mark.parametrize("cuda", ACCELERATED)
def test_statistics_on_another_device_are_refused_and_stay_as_they_are(cuda):
    mean, var = gg.zeros(3), gg.ones(3)
    with pytest.raises(RuntimeError, match="same device"):
        F.batch_norm(gg.randn(2, 3, device=cuda), mean, var, training=True)
    assert mean.tolist() == [0.0] * 3


@on_every_device
def test_embedding_from_pretrained():
    table = gg.tensor(draw(4, 3))
    layer = nn.Embedding.from_pretrained(table)
    assert not layer.weight.requires_grad
    assert layer.weight._data is table._data
    close(layer(gg.tensor([1, 3])), host(table)[[1, 3]])
    assert nn.Embedding.from_pretrained(table, freeze=False, padding_idx=1).weight.requires_grad
    assert nn.Embedding(4, 2, padding_idx=1).weight[1].tolist() == [0.0, 0.0]


def tensor_or_tuple(value):
    return gg.tensor(value) if isinstance(value, list) else value


BAD_LAYERS = [
    (ValueError, lambda: nn.Conv2d(3, 4, 3, groups=2)),
    (ValueError, lambda: nn.Conv2d(2, 3, 3, groups=2)),
    (ValueError, lambda: nn.Conv2d(2, 2, 3, groups=0)),
    (ValueError, lambda: nn.Conv2d(2, 2, (3, 3, 3))),
    (ValueError, lambda: nn.Conv2d(2, 2, 3, padding="full")),
    (ValueError, lambda: nn.Conv2d(2, 2, 3, padding="same", stride=2)),
    (ValueError, lambda: nn.Conv2d(2, 2, 3, padding_mode="mirror")),
    (ValueError, lambda: nn.ConvTranspose2d(2, 2, 3, padding_mode="reflect")),
    (ValueError, lambda: nn.LazyConv2d(4, 3, groups=2)(gg.ones(1, 3, 5, 5))),
    (ValueError, lambda: nn.BatchNorm1d(2)(gg.ones(1, 2, 3, 4))),
    (ValueError, lambda: nn.InstanceNorm2d(2)(gg.ones(2, 3))),
    (ValueError, lambda: nn.InstanceNorm1d(2, affine=True)(gg.ones(1, 3, 4))),
    (ValueError, lambda: nn.GroupNorm(2, 3)),
    (ValueError, lambda: nn.Embedding(3, 2, padding_idx=3)),
    (ValueError, lambda: nn.Embedding(3, 2, _weight=gg.ones(2, 2))),
    (ValueError, lambda: nn.Embedding.from_pretrained(gg.ones(3))),
    (RuntimeError, lambda: nn.MaxUnpool1d(2)(gg.ones(1, 2), gg.ones(1, 2))),
    (RuntimeError, lambda: nn.MaxUnpool1d(2)(gg.ones(1, 2), gg.tensor([[0]]))),
    (RuntimeError, lambda: nn.MaxUnpool1d(2)(gg.ones(1, 2), gg.tensor([[0, 4]]))),
    (RuntimeError, lambda: nn.MaxUnpool2d(2)(gg.ones(1, 2), gg.tensor([[0, 1]]))),
    (ValueError, lambda: nn.MaxUnpool1d(2)(gg.ones(1, 2), gg.tensor([[0, 1]]), output_size=(6,))),
    (ValueError, lambda: nn.MaxUnpool1d(2)(gg.ones(1, 2), gg.tensor([[0, 1]]), output_size=(1, 5))),
    (RuntimeError, lambda: nn.ChannelShuffle(2)(gg.ones(1, 3, 2, 2))),
    (ValueError, lambda: nn.AdaptiveLogSoftmaxWithLoss(4, 9, [])),
    (ValueError, lambda: nn.AdaptiveLogSoftmaxWithLoss(4, 9, [3, 3])),
    (ValueError, lambda: nn.AdaptiveLogSoftmaxWithLoss(4, 9, [3, 9])),
    (RuntimeError, lambda: nn.AdaptiveLogSoftmaxWithLoss(4, 9, [3])(gg.ones(2, 4), gg.tensor([1, 9]))),
    (RuntimeError, lambda: nn.AdaptiveLogSoftmaxWithLoss(4, 9, [3])(gg.ones(2, 4), gg.tensor([1]))),
    (AssertionError, lambda: nn.EmbeddingBag(3, 2, padding_idx=3)),
    (AssertionError, lambda: nn.EmbeddingBag(3, 2, _weight=gg.ones(2, 2))),
    (AssertionError, lambda: nn.EmbeddingBag.from_pretrained(gg.ones(3))),
    (ValueError, lambda: nn.EmbeddingBag(3, 2)(gg.tensor([1, 2]))),
    (ValueError, lambda: nn.EmbeddingBag(3, 2)(gg.tensor([[1, 2]]), gg.tensor([0]))),
    (ValueError, lambda: nn.EmbeddingBag(3, 2)(gg.tensor([[[1, 2]]]))),
    (ValueError, lambda: nn.EmbeddingBag(3, 2, mode="min")(gg.tensor([[1, 2]]))),
    (ValueError, lambda: nn.EmbeddingBag(3, 2, mode="max", scale_grad_by_freq=True)(gg.tensor([[1, 2]]))),
    (ValueError, lambda: nn.EmbeddingBag(3, 2, mode="sum")(gg.tensor([[1, 2]]), None, gg.ones(2))),
    (RuntimeError, lambda: nn.EmbeddingBag(3, 2, mode="sum")(gg.tensor([[1, 2]]), None, gg.ones(1, 2).double())),
    (NotImplementedError, lambda: nn.EmbeddingBag(3, 2)(gg.tensor([[1, 2]]), None, gg.ones(1, 2))),
    (RuntimeError, lambda: nn.EmbeddingBag(3, 2)(gg.tensor([1, 2]), gg.tensor([1]))),
    (RuntimeError, lambda: nn.EmbeddingBag(3, 2)(gg.tensor([1, 2]), gg.tensor([0, 3]))),
    (RuntimeError, lambda: nn.EmbeddingBag(3, 2)(gg.tensor([1, 2]), gg.tensor([0, 2, 1]))),
    (RuntimeError, lambda: nn.EmbeddingBag(3, 2)(gg.tensor([1, 2]), gg.tensor([0.0]))),
    (RuntimeError, lambda: F.embedding_bag(gg.tensor([[1]]), gg.ones(3, 2), padding_idx=3)),
    (IndexError, lambda: nn.EmbeddingBag(3, 2)(gg.tensor([[1, 3]]))),
    (ValueError, lambda: nn.MultiMarginLoss(3)),
    (ValueError, lambda: nn.MultiMarginLoss(weight=gg.ones(2, 2))),
    (ValueError, lambda: nn.TripletMarginWithDistanceLoss(margin=0)),
    (RuntimeError, lambda: nn.TripletMarginWithDistanceLoss()(gg.ones(2, 3), gg.ones(2, 3), gg.ones(3))),
    (RuntimeError, lambda: nn.MultiLabelMarginLoss()(gg.ones(2, 3), gg.zeros(3, dtype=gg.int64))),
    (RuntimeError, lambda: nn.MultiLabelMarginLoss()(gg.ones(2, 3), gg.zeros(2, 3))),
    *[
        (error, lambda probs=probs, args=args, blank=blank: nn.CTCLoss(blank)(probs, *map(tensor_or_tuple, args)))
        for error, probs, blank, *args in (
            (RuntimeError, gg.zeros(5, 2, 4), 0, [[1, 2], [2, 1]], (5,), (2, 2)),
            (RuntimeError, gg.zeros(5, 2, 4), 0, [[1, 2], [2, 1]], [5, 5], [2]),
            (RuntimeError, gg.zeros(5, 2, 4), 0, [[1, 2], [2, 1]], (5, 6), (2, 2)),
            (RuntimeError, gg.zeros(5, 2, 4), 0, [[1, 2], [2, 1]], (5, -1), (2, 2)),
            (RuntimeError, gg.zeros(5, 2, 4), 0, [[1, 2], [2, 1]], [5, 5], [2, 3]),
            (RuntimeError, gg.zeros(5, 2, 4), 0, [[1, 2]], (5, 5), (2, 2)),
            (RuntimeError, gg.zeros(5, 2, 4), 0, [1, 2, 3], (5, 5), (2, 2)),
            (RuntimeError, gg.zeros(5, 2, 4), 0, [[[1, 2]]], (5, 5), (2, 2)),
            (RuntimeError, gg.zeros(5, 2, 4), 4, [[1, 2], [2, 1]], (5, 5), (2, 2)),
            (RuntimeError, gg.zeros(5, 0, 4), 0, [[]], (), ()),
            (RuntimeError, gg.zeros(5), 0, [1], (5,), (1,)),
            (RuntimeError, gg.zeros(5, 2, 4), 0, [[1, 2], [2, 1]], [5.0, 5.0], [2, 2]),
            (TypeError, gg.zeros(5, 2, 4), 0, [[1, 2], [2, 1]], [5, 5], (2, 2)),
            (TypeError, gg.zeros(5, 4), 0, [1, 2], 5, 2),
            (IndexError, gg.zeros(5, 2, 4), 0, [[1, 2], [2, 4]], (5, 5), (2, 2)),
            (NotImplementedError, gg.zeros(5, 2, 4, dtype=gg.int64), 0, [[1, 2], [2, 1]], (5, 5), (2, 2)),
        )
    ],
    (ValueError, lambda: nn.Hardtanh(1.0, 1.0)),
    (ValueError, lambda: nn.Softmax2d()(gg.ones(2, 2))),
    (TypeError, lambda: nn.Unflatten(1, 3)),
    (ValueError, lambda: nn.TripletMarginLoss(0)),
    (ValueError, lambda: nn.RNN(2, 3, nonlinearity="gelu")),
    (ValueError, lambda: nn.LSTM(2, 3, dropout=2)),
    (ValueError, lambda: nn.LSTM(2, 0)),
    (TypeError, lambda: nn.LSTM(2, 3.0)),
    (ValueError, lambda: nn.LSTM(2, 3, proj_size=3)),
    (ValueError, lambda: nn.LSTM(2, 3)(gg.ones(2))),
    (RuntimeError, lambda: nn.LSTM(2, 3)(gg.ones(4, 1, 3))),
    (RuntimeError, lambda: nn.LSTM(2, 3)(gg.ones(0, 1, 2))),
    (RuntimeError, lambda: nn.LSTM(2, 3)(gg.ones(4, 1, 2), gg.ones(1, 1, 3))),
    (RuntimeError, lambda: nn.GRU(2, 3)(gg.ones(4, 1, 2), gg.ones(1, 2, 3))),
    (RuntimeError, lambda: nn.GRUCell(2, 3)(gg.ones(4, 3))),
    (RuntimeError, lambda: nn.GRUCell(2, 3)(gg.ones(4, 2), gg.ones(3, 3))),
    (ValueError, lambda: nn.RNNCell(2, 3)(gg.ones(1, 4, 2))),
    (ValueError, lambda: nn.MultiheadAttention(5, 2)),
    (ValueError, lambda: nn.MultiheadAttention(0, 1)),
    (RuntimeError, lambda: nn.MultiheadAttention(4, 2)(*[gg.ones(3, 1, 4)] * 3, is_causal=True)),
    (TypeError, lambda: nn.Dropout()((gg.ones(2), gg.ones(2)))),
    (RuntimeError, lambda: nn.MultiheadAttention(4, 2)(*[gg.ones(3, 1, 4)] * 3, attn_mask=gg.ones(2, 2))),
    (RuntimeError, lambda: nn.MultiheadAttention(4, 2)(*[gg.ones(3, 1, 4)] * 3, key_padding_mask=gg.ones(2, 2))),
    (RuntimeError, lambda: nn.MultiheadAttention(4, 2)(gg.ones(4), gg.ones(4), gg.ones(4))),
    (RuntimeError, lambda: nn.TransformerEncoderLayer(4, 2, activation="swish")),
    (RuntimeError, lambda: nn.Transformer(4, 2, 1, 1, 8)(gg.ones(2, 1, 4), gg.ones(2, 2, 4))),
    (RuntimeError, lambda: nn.DataParallel(nn.ReLU(), [0, 1])),
    (RuntimeError, lambda: nn.parallel.DistributedDataParallel(nn.ReLU(), device_ids=[0])),
]  # fmt: skip


@pytest.mark.parametrize(("error", "action"), BAD_LAYERS)
def test_bad_layers(error, action):
    with pytest.raises(error, match=r"\w+ \w+"):
        action()


def test_former_reduction_arguments():
    with pytest.warns(UserWarning, match="reduction='sum'"):
        assert nn.MSELoss(size_average=False).reduction == "sum"
    with pytest.warns(UserWarning, match="reduction='none'"):
        assert nn.CrossEntropyLoss(reduce=False).reduction == "none"
    with pytest.warns(UserWarning, match="greater than 1"):
        nn.LSTM(2, 3, dropout=0.5)


@on_every_device
def test_square_subsequent_mask():
    mask = nn.Transformer.generate_square_subsequent_mask(3).tolist()
    assert (mask == np.where(np.triu(np.ones((3, 3)), 1) > 0, -np.inf, 0.0)).all()


def test_a_network_learns_from_several_threads_at_once():
    losses = {}

    def fit(k):
        net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
        with gg.no_grad():
            for p in net.parameters():
                p.copy_(draw(*p.shape, seed=k))
        x = gg.tensor(draw(64, 2), dtype=gg.float32)
        y = (x[:, :1] * x[:, 1:]).detach()
        first = None
        for _ in range(60):
            loss = F.mse_loss(net(x), y)
            first = loss.item() if first is None else first
            net.zero_grad()
            loss.backward()
            with gg.no_grad():
                for p in net.parameters():
                    p -= 0.1 * p.grad
        losses[k] = loss.item() / first

    threads = [threading.Thread(target=fit, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(losses) == 3
    assert max(losses.values()) < 0.5


# Initial values


def moments(t):
    return t.detach().numpy().mean(), t.detach().numpy().std()


def test_default_weights_have_pytorchs_bounds():
    layer = nn.Linear(400, 300)
    assert abs(layer.weight.detach().numpy()).max() <= 1 / 20
    assert abs(layer.bias.detach().numpy()).max() <= 1 / 20
    assert moments(layer.weight)[1] == pytest.approx(1 / 20 / math.sqrt(3), rel=0.02)
    conv = nn.Conv2d(16, 8, 5)
    assert 0.9 / 20 < abs(conv.weight.detach().numpy()).max() <= 1 / 20
    assert abs(conv.bias.detach().numpy()).max() <= 1 / 20
    assert moments(nn.Embedding(300, 200).weight) == pytest.approx((0, 1), abs=0.02)
    lstm = nn.LSTM(3, 25)
    assert 0.19 < max(abs(p.detach().numpy()).max() for p in lstm.parameters()) <= 0.2
    attention = nn.MultiheadAttention(50, 2)
    assert 0.9 < abs(attention.in_proj_weight.detach().numpy()).max() / math.sqrt(6 / 200) <= 1
    assert not attention.in_proj_bias.detach().numpy().any()


def test_random_initialisers():
    t = gg.empty(400, 300)
    assert init.uniform_(t, -2, 4) is t
    assert moments(t) == pytest.approx((1, 6 / math.sqrt(12)), abs=0.03)
    assert moments(init.normal_(t, 2.0, 0.5)) == pytest.approx((2, 0.5), abs=0.01)
    assert moments(init.xavier_normal_(t, 2.0)) == pytest.approx((0, 2 * math.sqrt(2 / 700)), abs=2e-3)
    assert abs(init.xavier_uniform_(t).numpy()).max() == pytest.approx(math.sqrt(6 / 700), rel=0.01)
    std = math.sqrt(2 / 300)
    assert moments(init.kaiming_normal_(t, nonlinearity="relu")) == pytest.approx((0, std), abs=2e-3)
    bound = math.sqrt(2 / 1.04) * math.sqrt(3 / 400)
    assert abs(init.kaiming_uniform_(t, 0.2, "fan_out").numpy()).max() == pytest.approx(bound, rel=0.01)
    values = init.trunc_normal_(t, 0.5, 2.0, -1.0, 1.5).numpy()
    assert values.min() >= -1
    assert values.max() <= 1.5
    assert values.mean() == pytest.approx(0.2806, abs=0.01)
    zeros = (init.sparse_(gg.empty(10, 7), 0.35).numpy() == 0).sum(0)
    assert (zeros == 4).all()
    p = nn.Parameter(gg.empty(3))
    assert init.uniform_(p) is p
    assert p.requires_grad
    assert p.is_leaf


@on_every_device
@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 2, 3), (6, 6)])
def test_orthogonal(shape):
    m = init.orthogonal_(gg.empty(*shape, dtype=gg.float64), gain=2).cpu().numpy().reshape(shape[0], -1)
    product = m @ m.T if m.shape[0] <= m.shape[1] else m.T @ m
    close(product, 4 * np.eye(min(m.shape)))


@on_every_device
@needs_torch
@pytest.mark.parametrize(
    ("name", "shape", "args"),
    [
        ("constant_", (2, 3), (0.3,)), ("ones_", (2,), ()), ("zeros_", (2,), ()), ("eye_", (2, 3), ()),
        ("dirac_", (4, 2, 3), ()), ("dirac_", (6, 2, 3, 3), (2,)), ("dirac_", (2, 3, 1, 2, 3), ()),
    ],
)  # fmt: skip
def test_fixed_initialisers_are_pytorchs(name, shape, args):
    expected = getattr(torch.nn.init, name)(torch.randn(shape), *args)
    close(getattr(init, name)(gg.randn(*shape), *args), expected.numpy())


@needs_torch
def test_gains_and_fans_are_pytorchs():
    for name in [*init._GAINS, "leaky_relu"]:
        assert init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name))
    assert init.calculate_gain("leaky_relu", 0.3) == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", 0.3))
    for shape in ((3, 4), (3, 4, 5), (2, 3, 4, 5)):
        expected = torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
        assert init._calculate_fan_in_and_fan_out(gg.empty(shape)) == expected
        assert init._calculate_correct_fan(gg.empty(shape), "fan_out") == expected[1]


@needs_torch
@pytest.mark.parametrize("name", ["_single", "_pair", "_triple", "_quadruple"])
def test_layers_outside_the_library_parse_their_sizes_by_pytorchs_private_names(name):
    ours, theirs = getattr(gg.nn.modules.utils, name), getattr(torch.nn.modules.utils, name)
    for value in (3, (1, 2), [4, 5, 6], gg.Size([7]), "same"):
        assert ours(value) == theirs(value)
    assert ours.__name__ == name


@pytest.mark.parametrize(
    "action",
    [
        lambda: init.calculate_gain("swish"),
        lambda: init.calculate_gain("leaky_relu", "x"),
        lambda: init.xavier_uniform_(gg.empty(3)),
        lambda: init.kaiming_normal_(gg.empty(3, 3), mode="fan"),
        lambda: init.eye_(gg.empty(3)),
        lambda: init.dirac_(gg.empty(3, 3)),
        lambda: init.dirac_(gg.empty(3, 3, 3), groups=2),
        lambda: init.orthogonal_(gg.empty(3)),
        lambda: init.sparse_(gg.empty(3), 0.5),
    ],
)
def test_bad_initialisers(action):
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        action()


def test_former_names_of_initialisers():
    with pytest.warns(FutureWarning, match="constant_"):
        assert init.constant(gg.empty(2), 3.0).tolist() == [3.0, 3.0]
    assert all(hasattr(init, name) for name in ("uniform", "normal", "xavier_uniform", "kaiming_normal", "orthogonal"))


# Clipping, and parameters as a vector


def with_grads(device="cpu", factor=1.0):
    ps = [nn.Parameter(gg.zeros(shape, device=device)) for shape in ((3, 4), (5,), (), (0, 2))]
    for k, p in enumerate(ps):
        p.grad = gg.tensor(draw(*p.shape, seed=k) * factor, dtype=gg.float32, device=device)
    return [*ps, nn.Parameter(gg.zeros(2, device=device))]


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clip_grad_norm(p, max_norm, device):
    ps = with_grads(device)
    grads = [q.grad for q in ps]
    before = [q.grad.cpu().numpy().copy() for q in ps[:-1]]
    flat = np.concatenate([g.ravel() for g in before])
    norm = np.linalg.norm(flat, p)
    total = nn.utils.clip_grad_norm_(ps, max_norm, p)
    assert total.shape == ()
    assert total.dtype == gg.float32
    assert total.device.type == device
    assert total.item() == pytest.approx(norm, rel=1e-5)
    scale = min(1.0, max_norm / (norm + 1e-6))
    for q, grad, old in zip(ps[:-1], grads, before, strict=False):
        assert q.grad is grad
        close(q.grad, old * scale, 1e-5, 1e-7)


def test_clip_grad_norm_edges():
    ps = with_grads(factor=math.inf)
    with pytest.raises(RuntimeError, match="non-finite"):
        nn.utils.clip_grad_norm_(ps, 1.0, error_if_nonfinite=True)
    assert nn.utils.clip_grad_norm_([nn.Parameter(gg.ones(2))], 1.0).item() == 0
    (p, *_) = with_grads()
    version = p.grad._version
    nn.utils.clip_grad_norm_(p, 0.1)
    assert p.grad._version > version
    assert np.linalg.norm(p.grad.numpy()) == pytest.approx(0.1, rel=1e-4)
    total = nn.utils.get_total_norm([gg.full((70000,), 100.0, dtype=gg.float16)])
    assert total.dtype == gg.float16
    assert total.item() == pytest.approx(26458, rel=1e-3)
    with pytest.warns(FutureWarning):
        nn.utils.clip_grad_norm([p], 1.0)


@on_every_device
@needs_torch
def test_clipping_is_pytorchs():
    ps = with_grads()[:-2]
    qs = [torch.nn.Parameter(torch.zeros(tuple(p.shape))) for p in ps]
    for value in (0.5, 0.2):
        for p, q in zip(ps, qs, strict=True):
            q.grad = torch.tensor(host(p.grad))
        a, b = nn.utils.clip_grad_norm_(ps, value), torch.nn.utils.clip_grad_norm_(qs, value)
        assert a.item() == pytest.approx(b.item(), rel=1e-6)
        close([p.grad for p in ps], [q.grad.numpy() for q in qs], 1e-6, 1e-8)
    nn.utils.clip_grad_value_(ps, 0.05)
    torch.nn.utils.clip_grad_value_(qs, 0.05)
    close([p.grad for p in ps], [q.grad.numpy() for q in qs], 1e-6, 1e-8)


@on_every_device
def test_parameters_as_a_vector():
    net = Net()
    vector = nn.utils.parameters_to_vector(net.parameters())
    assert vector.shape == (sum(p.numel() for p in net.parameters()),)
    assert vector.requires_grad
    before = [p._data for p in net.parameters()]
    nn.utils.vector_to_parameters(vector.detach() * 2, net.parameters())
    assert all(p._data is data for p, data in zip(net.parameters(), before, strict=True))
    close(nn.utils.parameters_to_vector(net.parameters()), host(vector) * 2)
    with pytest.raises(RuntimeError, match="elements"):
        nn.utils.vector_to_parameters(gg.ones(3), net.parameters())
    with pytest.raises(TypeError):
        nn.utils.vector_to_parameters([1.0], net.parameters())


def test_gelu_in_float32_keeps_its_digits():
    x = np.concatenate([np.linspace(-9, 9, 20001), np.linspace(-0.01, 0.01, 1001)]).astype(np.float32)
    exact = x * 0.5 * np.array([math.erfc(-v / math.sqrt(2)) for v in x.astype(np.float64)])
    found = F.gelu(gg.tensor(x)).numpy()
    ulp = np.spacing(np.abs(exact).astype(np.float32))
    error = np.abs(found - exact)
    assert (error / ulp)[x > 0].max() < 3
    assert (error / ulp)[(x < 0) & (x > -1)].max() < 4
    assert error[x < -1].max() < 2e-7
    wide = F.gelu(gg.tensor([-np.inf, -1e30, 0.0, 1e30, np.inf, np.nan], dtype=gg.float32)).numpy()
    assert np.isnan(wide[[0, 5]]).all()
    assert wide[1:5].tolist() == [0, 0, np.float32(1e30), np.inf]


@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_a_convolution_can_be_given_another_weight(mode):
    class Standardised(nn.Conv2d):
        def forward(self, input):
            return self._conv_forward(input, self.weight - self.weight.mean(), None)

    layer, plain = (kind(2, 3, 3, padding=1, padding_mode=mode, bias=False) for kind in (Standardised, nn.Conv2d))
    with gg.no_grad():
        plain.weight.copy_(layer.weight - layer.weight.mean())
    x = gg.randn(1, 2, 5, 5)
    close(layer(x).detach(), plain(x).detach().numpy())


@needs_torch
@pytest.mark.parametrize("options", [{"num_layers": 2, "bidirectional": True}, {"bias": False}, {"proj_size": 2}])
def test_names_of_the_weights_of_recurrent_layers(options):
    ours, theirs = nn.LSTM(2, 3, **options), torch.nn.LSTM(2, 3, **options)
    assert ours._flat_weights_names == theirs._flat_weights_names
    assert [len(weights) for weights in ours.all_weights] == [len(weights) for weights in theirs.all_weights]


@needs_torch
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("weight_norm", {}),
        ("weight_norm", {"dim": None}),
        ("weight_norm", {"dim": 1, "name": "weight"}),
        ("spectral_norm", {}),
        ("spectral_norm", {"n_power_iterations": 3, "eps": 1e-6}),
    ],
    ids=str,
)
@pytest.mark.parametrize("layer", ["Linear(4, 3)", "Conv1d(4, 3, 2)", "ConvTranspose1d(4, 3, 2)"])
@pytest.mark.filterwarnings("ignore:.*is deprecated in favor")
def test_normalised_weights_are_those_of_pytorch(kind, options, layer):
    x = np.random.default_rng(0).standard_normal((2, 4, 4)).astype(np.float32)
    results = []
    state = None
    for T in (torch, gg):
        module = getattr(T.nn.utils, kind)(eval(layer, vars(T.nn)), **options)
        if state is None:
            state = {name: t.clone().numpy() for name, t in module.state_dict().items()}
        module.load_state_dict({name: T.tensor(array) for name, array in state.items()})
        found = [list(module.state_dict())]
        with pytest.raises(RuntimeError, match="Cannot register two"):
            getattr(T.nn.utils, kind)(module)
        for training in (True, True, False):
            module.train(training)
            module.zero_grad()
            (module(T.tensor(x)) ** 2).sum().backward()
            found += [p.grad.numpy().copy() for p in module.parameters()] + [module.weight.detach().numpy().copy()]
        found += [t.numpy() for t in module.state_dict().values()]
        getattr(T.nn.utils, f"remove_{kind}")(module)
        with pytest.raises(ValueError, match="not found"):
            getattr(T.nn.utils, f"remove_{kind}")(module)
        found += [list(module.state_dict()), module(T.tensor(x)).detach().numpy()]
        results.append(found)
    for mine, expected in zip(results[1], results[0], strict=True):
        if isinstance(expected, list):
            assert mine == expected
        else:
            np.testing.assert_allclose(mine, expected, rtol=2e-5, atol=2e-5)


def test_copies_of_a_module_with_a_normalised_weight_are_on_their_own():
    module = nn.utils.spectral_norm(nn.Linear(2, 2))
    other = copy.deepcopy(module)
    nn.utils.remove_spectral_norm(other)
    assert list(other.state_dict()) == ["bias", "weight"] or list(other.state_dict()) == ["weight", "bias"]
    assert list(module.state_dict()) == ["bias", "weight_orig", "weight_u", "weight_v"]
    module(gg.ones(1, 2))
    assert isinstance(other.weight, nn.Parameter)
    assert module.weight.grad_fn is not None
    with pytest.raises(ValueError, match="n_power_iterations to be positive"):
        nn.utils.spectral_norm(nn.Linear(2, 2), n_power_iterations=0)


@pytest.mark.parametrize(
    ("wrap", "unwrap", "names"),
    [
        (nn.utils.spectral_norm, nn.utils.remove_spectral_norm, ["bias", "weight_orig", "weight_u", "weight_v"]),
        (nn.utils.weight_norm, nn.utils.remove_weight_norm, ["bias", "weight_g", "weight_v"]),
    ],
)
def test_norms_of_weights_go_on_and_off(wrap, unwrap, names):
    layer = wrap(nn.Linear(3, 4))
    assert list(layer.state_dict()) == names
    with pytest.raises(RuntimeError, match="Cannot register two"):
        wrap(layer)
    nn.init.normal_(layer.weight)  # as programs do it, whatever becomes of it
    x, opt = gg.randn(5, 3), gg.optim.SGD(layer.parameters(), 0.1)
    for _ in range(30):
        opt.zero_grad()
        (layer(x) - layer(-x)).square().mean().backward()
        opt.step()
    if wrap is nn.utils.spectral_norm:
        assert float(gg.linalg.matrix_norm(layer.weight, 2)) == pytest.approx(1, abs=1e-3)
    before = layer.eval()(x)
    assert list(unwrap(layer).state_dict()) == ["bias", "weight"]
    assert isinstance(layer.weight, nn.Parameter)
    close(layer(x), before)
    with pytest.raises(ValueError, match="not found"):
        unwrap(layer)


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).T

    def right_inverse(self, x):
        return x.triu()


class Doubled(nn.Module):
    def forward(self, x):
        return x * 2


def test_parametrizations():
    parametrize = nn.utils.parametrize
    layer = nn.Linear(3, 3)
    weight = layer.weight
    assert parametrize.register_parametrization(layer, "weight", Symmetric()) is layer
    assert layer.parametrizations.weight.original is weight
    close(layer.weight, layer.weight.T)
    assert repr(layer) == (
        "ParametrizedLinear(\n  in_features=3, out_features=3, bias=True\n  (parametrizations): ModuleDict(\n"
        "    (weight): ParametrizationList(\n      (0): Symmetric()\n    )\n  )\n)"
    )
    layer.weight = gg.ones(3, 3)
    close(weight, np.triu(np.ones((3, 3))))
    parametrize.register_parametrization(layer, "weight", Doubled())
    close(layer.weight, np.full((3, 3), 2.0))
    with pytest.raises(RuntimeError, match="right_inverse"):
        layer.weight = gg.ones(3, 3)
    assert layer.weight is not layer.weight
    with parametrize.cached():
        assert layer.weight is layer.weight
    close(copy.deepcopy(layer)(gg.ones(1, 3)), layer(gg.ones(1, 3)))
    assert parametrize.is_parametrized(layer, "weight")
    assert not parametrize.is_parametrized(layer, "bias")
    assert parametrize.type_before_parametrizations(layer) is nn.Linear
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear
    assert not hasattr(layer, "parametrizations")
    assert layer.weight is weight
    close(weight, np.full((3, 3), 2.0))
    parametrize.register_parametrization(layer, "weight", Doubled())
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    close(layer.weight, np.full((3, 3), 2.0))
    for name, module in (("weight", nn.Flatten(0)), ("bias", nn.Unflatten(0, (3, 1)))):
        with pytest.raises(ValueError, match="shape"):
            parametrize.register_parametrization(layer, name, module)
    with pytest.raises(ValueError, match="does not have"):
        parametrize.register_parametrization(layer, "nothing", Doubled())
    with pytest.raises(ValueError, match="does not have"):
        parametrize.remove_parametrizations(layer, "weight")
    with pytest.raises(ValueError, match="sequence"):
        parametrize.remove_parametrizations(nn.utils.parametrizations.weight_norm(layer), "weight", False)
