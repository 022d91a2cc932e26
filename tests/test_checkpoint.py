"""Gradient checkpointing: the same gradients, bit for bit, in less memory; what cannot work says so."""

import tracemalloc

import numpy as np
import pytest
from helpers import host, needs_torch, torch

import gpugrad as gg
from gpugrad import nn
from gpugrad.utils.checkpoint import CheckpointError, checkpoint, checkpoint_sequential


def network(blocks=8, width=32, dropout=0.3):
    gg.manual_seed(0)
    return nn.Sequential(
        *[
            nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Dropout(dropout), nn.LayerNorm(width))
            for _ in range(blocks)
        ]
    )


def gradients(how, device="cpu", width=32, rows=16):
    model = network(width=width).to(device)
    gg.manual_seed(5)
    x = gg.randn(rows, width, device=device, requires_grad=True)
    out = how(model, x)
    after_forward = gg.get_rng_state().numpy().copy()
    out.square().sum().backward()
    assert np.array_equal(gg.get_rng_state().numpy(), after_forward)
    return [host(t) for t in (out, x.grad, *(p.grad for p in model.parameters()))]


def assert_same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.tobytes() == y.tobytes()


def nested(model, x):
    first, second = nn.Sequential(*model[:4]), nn.Sequential(*model[4:])
    return second(checkpoint(lambda t: checkpoint_sequential(first, 2, t), x, use_reentrant=False))


@pytest.mark.parametrize(
    "how",
    [
        lambda model, x: checkpoint(model, x, use_reentrant=False),
        lambda model, x: checkpoint(model, x, use_reentrant=True),
        lambda model, x: checkpoint_sequential(model, 4, x, use_reentrant=False),
        lambda model, x: checkpoint_sequential(list(model), 3, x),
        nested,
    ],
)
def test_gradients_are_the_same_bit_for_bit_dropout_included(how, device):
    assert_same(gradients(lambda model, x: model(x), device), gradients(how, device))


def test_memory_falls():
    def peak(how):
        model = network(blocks=12, width=64)
        x = gg.randn(512, 64)
        tracemalloc.start()
        try:
            out = how(model, x)
            held = tracemalloc.get_traced_memory()[0]
            out.square().sum().backward()
            return held, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    held, highest = peak(lambda model, x: model(x))
    held_less, lower = peak(lambda model, x: checkpoint_sequential(model, 4, x, use_reentrant=False))
    # One segment of four and the boundaries between them, where the whole was kept.
    assert held_less < 0.45 * held
    assert lower < 0.6 * highest


def test_nothing_is_kept_but_the_arguments():
    x = gg.randn(1000, requires_grad=True)
    tracemalloc.start()
    try:
        out = checkpoint(lambda t: t.exp().sin().tanh().exp().sum(), x, use_reentrant=False)
        assert tracemalloc.get_traced_memory()[0] < 4 * 1000
    finally:
        tracemalloc.stop()
    out.backward()
    expected = x.detach().clone().requires_grad_()
    expected.exp().sin().tanh().exp().sum().backward()
    assert np.array_equal(x.grad.numpy(), expected.grad.numpy())


def test_gradients_of_gradients_and_autograd_grad():
    weight = gg.tensor([[0.3, -0.2], [0.5, 0.7]], dtype=gg.float64, requires_grad=True)

    def function(x):
        return (x @ weight).sigmoid() * x.exp()

    x = gg.tensor([[0.1, 0.4], [-0.3, 0.2]], dtype=gg.float64, requires_grad=True)
    assert gg.autograd.gradcheck(lambda t: checkpoint(function, t, use_reentrant=False), x)
    assert gg.autograd.gradgradcheck(lambda t: checkpoint(function, t, use_reentrant=False), x)

    def penalty(out):
        (g,) = gg.autograd.grad(out.sum(), x, create_graph=True)
        return gg.autograd.grad(g.square().sum(), [x, weight])

    for a, b in zip(penalty(function(x)), penalty(checkpoint(function, x, use_reentrant=False)), strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


def test_functions_of_ones_own_and_multiple_outputs():
    calls = []

    class Cube(gg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            calls.append("forward")
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 3 * x**2 * g

    def function(x, *, scale):
        low, high = Cube.apply(x * scale).chunk(2)
        return low, {"high": high.max(0)}

    x = gg.tensor([1.0, -2.0, 3.0, 0.5], dtype=gg.float64, requires_grad=True)
    low, rest = checkpoint(function, x, scale=2.0, use_reentrant=False)
    (low.sum() + rest["high"].values * 2).backward()
    assert calls == ["forward", "forward"]
    expected = 24 * x.detach().numpy() ** 2 * np.array([1, 1, 2, 0])
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-12)
    y = gg.autograd.gradgradcheck(lambda t: checkpoint(Cube.apply, t, use_reentrant=False), x)
    assert y


def test_the_random_stream_is_rewound_only_if_asked():
    x = gg.ones(200, requires_grad=True)

    def drop(t):
        return nn.functional.dropout(t.exp(), 0.5).exp()

    out = checkpoint(drop, x, use_reentrant=False)
    out.sum().backward()
    assert np.array_equal(x.grad.numpy() != 0, out.detach().numpy() != 1)
    x.grad = None
    out = checkpoint(drop, x, use_reentrant=False, preserve_rng_state=False)
    out.sum().backward()
    assert not np.array_equal(x.grad.numpy() != 0, out.detach().numpy() != 1)


def test_a_second_backward_is_not_silent_and_a_retained_graph_serves_twice():
    x = gg.tensor([1.0, 2.0], requires_grad=True)
    out = checkpoint(lambda t: t.exp().sin(), x, use_reentrant=False).sum()
    out.backward(retain_graph=True)
    first = x.grad.clone()
    out.backward()
    assert np.array_equal(x.grad.numpy(), 2 * first.numpy())
    with pytest.raises(RuntimeError, match="retain_graph"):
        out.backward()


def test_changes_in_between_are_noticed():
    x = gg.tensor([1.0, 2.0], requires_grad=True)
    y = x + 0
    out = checkpoint(lambda t: (t + 1).exp(), y, use_reentrant=False).sum()
    y.mul_(2)
    with pytest.raises(RuntimeError, match="inplace"):
        out.backward()
    layer = nn.Linear(2, 2)
    out = checkpoint(layer, x, use_reentrant=False).sum()
    with gg.no_grad():
        layer.weight.mul_(2)
    with pytest.raises(RuntimeError, match="inplace"):
        out.backward()


def test_a_function_that_does_other_things_the_second_time_is_an_error():
    x = gg.tensor([1.0, 2.0], requires_grad=True)
    for variants, words in (
        ([lambda t: t.exp(), lambda t: t.sin()], "'exp'.*'sin'"),
        ([lambda t: t.exp().exp(), lambda t: t.exp()], "2 ops in forward and 1"),
    ):
        turns = iter(variants)
        out = checkpoint(lambda t, turns=turns: next(turns)(t), x, use_reentrant=False).sum()
        with pytest.raises(CheckpointError, match=words):
            out.backward()


def test_a_function_that_changes_its_argument_is_not_run_again():
    x = gg.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    checkpoint(lambda t: t.mul_(3).exp(), y, use_reentrant=False).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 6 * np.exp(6 * x.detach().numpy()), rtol=1e-6)


def test_contexts_run_around_both_runs_and_anomaly_mode_still_names_the_line():
    seen = []

    class Note:
        def __init__(self, what):
            self.what = what

        def __enter__(self):
            seen.append(self.what)

        def __exit__(self, *exc):
            pass

    x = gg.tensor([1.0, 2.0], requires_grad=True)
    out = checkpoint(lambda t: t.exp(), x, use_reentrant=False, context_fn=lambda: (Note("first"), Note("again")))
    assert seen == ["first"]
    out.sum().backward()
    assert seen == ["first", "again"]
    with gg.autograd.detect_anomaly():
        out = checkpoint(lambda t: (t - 1).sqrt() * 0, x, use_reentrant=False).sum()
        with pytest.raises(RuntimeError, match="test_checkpoint"):
            out.backward()


def test_without_gradients_it_only_calls():
    with gg.no_grad():
        assert not checkpoint(lambda t: t.exp(), gg.ones(2, requires_grad=True), use_reentrant=False).requires_grad
    layer = nn.Linear(2, 2)
    checkpoint(layer, gg.ones(1, 2), use_reentrant=False).sum().backward()
    assert layer.weight.grad is not None


def test_wrong_arguments():
    x = gg.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="Unexpected keyword arguments: scale"):
        checkpoint(lambda t: t, x, use_reentrant=True, scale=1)
    with pytest.raises(ValueError, match="context_fn"):
        checkpoint(lambda t: t, x, use_reentrant=True, debug=True)
    with pytest.raises(ValueError, match="determinism_check"):
        checkpoint(lambda t: t, x, use_reentrant=False, determinism_check="all")
    with pytest.raises(ValueError, match="Unexpected keyword arguments: scale"):
        checkpoint_sequential([lambda t: t], 1, x, scale=1)
    with pytest.raises(ValueError, match="segments"):
        checkpoint_sequential([lambda t: t], 2, x)


@needs_torch
def test_arguments_are_those_of_pytorch():
    import inspect

    import torch.utils.checkpoint as theirs

    for ours in (checkpoint, checkpoint_sequential):
        names = list(inspect.signature(ours).parameters)
        assert names == list(inspect.signature(getattr(theirs, ours.__name__)).parameters)
    assert torch is not None
