"""Derivatives as functions, and modules as functions of their parameters, against PyTorch."""

import numpy as np
import pytest
from helpers import close, needs_torch, on_every_device, torch

import gpugrad as gg

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

draw = np.random.default_rng(1)
X, Y, W = draw.standard_normal(3), draw.standard_normal((2, 3)), draw.standard_normal((3, 2))


def scalar(x, y):
    return (x.sin() * y).sum() ** 2 + (y**3).sum()


def several(x, y):
    return {"a": x * y, "b": [(x**2).sum(), y.exp().sum(1)]}


def tree(params, x):
    return ((x @ params["w"] + params["more"][0]).tanh() ** 2).sum() * params["more"][1][0]


def with_aux(x, y):
    return scalar(x, y), {"twice": x * 2}


def params_of(T):
    return {"w": T.tensor(W), "more": [T.tensor(W[0]), (T.tensor(1.5, dtype=T.float64),)]}


# Each returns tensors in tuples, lists and dicts; run with this library and with PyTorch.
CALLS = {
    "grad": lambda T, f, x, y: f.grad(scalar)(x, y),
    "grad-second": lambda T, f, x, y: f.grad(scalar, argnums=-1)(x, y),
    "grad-both": lambda T, f, x, y: f.grad(scalar, argnums=(1, 0))(x, y),
    "grad-keyword": lambda T, f, x, y: f.grad(scalar)(x, y=y),
    "grad-aux": lambda T, f, x, y: f.grad(with_aux, (0,), has_aux=True)(x, y),
    "grad-tree": lambda T, f, x, y: f.grad(tree)(params_of(T), y),
    "grad-tree-both": lambda T, f, x, y: f.grad(tree, (0, 1))(params_of(T), y),
    "grad-constant": lambda T, f, x, y: f.grad(lambda x, y: y.sum())(x, y),
    "grad-of-grad": lambda T, f, x, y: f.grad(lambda x: f.grad(scalar)(x, y).pow(2).sum())(x),
    "grad-in-a-loss": lambda T, f, x, y: f.grad(lambda x: scalar(x, y) + f.grad(lambda z: (z * x).prod())(x).sum())(x),
    "value": lambda T, f, x, y: f.grad_and_value(scalar)(x, y),
    "value-aux": lambda T, f, x, y: f.grad_and_value(with_aux, has_aux=True)(x, y),
    "vjp": lambda T, f, x, y: f.vjp(scalar, x, y)[1](T.tensor(2.0, dtype=T.float64)),
    "vjp-tree": lambda T, f, x, y: f.vjp(several, x, y)[1]({"a": y, "b": [x[0], y[:, 0]]}),
    "vjp-value": lambda T, f, x, y: f.vjp(several, x, y)[0],
    "vjp-aux": lambda T, f, x, y: f.vjp(with_aux, x, y, has_aux=True)[2],
    "jvp": lambda T, f, x, y: f.jvp(scalar, (x, y), (x * 2, y + 1)),
    "jvp-tree": lambda T, f, x, y: f.jvp(several, (x, y), (x * 2, y + 1)),
    "jvp-aux": lambda T, f, x, y: f.jvp(with_aux, (x, y), (x, y), has_aux=True),
    "jvp-params": lambda T, f, x, y: f.jvp(lambda p: tree(p, y), (params_of(T),), (params_of(T),)),
    "jacrev": lambda T, f, x, y: f.jacrev(several)(x, y),
    "jacrev-both": lambda T, f, x, y: f.jacrev(several, (0, 1))(x, y),
    "jacrev-aux": lambda T, f, x, y: f.jacrev(with_aux, has_aux=True)(x, y),
    "jacfwd": lambda T, f, x, y: f.jacfwd(several)(x, y),
    "jacfwd-both": lambda T, f, x, y: f.jacfwd(several, (0, 1))(x, y),
    "jacfwd-aux": lambda T, f, x, y: f.jacfwd(with_aux, has_aux=True)(x, y),
    "jacfwd-of-jacrev": lambda T, f, x, y: f.jacfwd(f.jacrev(scalar))(x, y),
    "jacrev-of-jacfwd": lambda T, f, x, y: f.jacrev(f.jacfwd(scalar))(x, y),
    "hessian": lambda T, f, x, y: f.hessian(scalar)(x, y),
    "hessian-both": lambda T, f, x, y: f.hessian(scalar, (0, 1))(x, y),
    "hessian-vector": lambda T, f, x, y: f.jvp(f.grad(lambda x: scalar(x, y)), (x,), (x + 1,))[1],
    "vmap": lambda T, f, x, y: f.vmap(lambda row: (row.sin() * row).sum())(y),
    "vmap-shorter": lambda T, f, x, y: T.vmap(lambda row: row.cumsum(0), -1, -1)(y),
    "vmap-two": lambda T, f, x, y: f.vmap(lambda a, b: a * b, in_dims=(0, 1))(x, y),
    "vmap-fixed": lambda T, f, x, y: f.vmap(lambda a, b: a @ b, (None, 0))(x, y),
    "vmap-out": lambda T, f, x, y: f.vmap(lambda row: T.outer(row, x), out_dims=1)(y),
    "vmap-out-last": lambda T, f, x, y: f.vmap(lambda row: T.outer(row, x), out_dims=-1)(y),
    "vmap-out-none": lambda T, f, x, y: f.vmap(lambda row: (row, x * 2), out_dims=(0, None))(y),
    "vmap-tree": lambda T, f, x, y: f.vmap(
        lambda p, k: {"u": p["a"] * k, "v": [p["b"][0].sum(), (p["a"],)]},
        in_dims=({"a": 1, "b": [0, None]}, None),
        out_dims={"u": 1, "v": 0},
    )({"a": y, "b": [x, 3]}, 2.0),
    "vmap-unmapped-result": lambda T, f, x, y: f.vmap(lambda row: x.exp())(y),
    "vmap-keyword": lambda T, f, x, y: f.vmap(lambda row, k: row * k.sum())(y, k=x),
    "vmap-empty": lambda T, f, x, y: f.vmap(lambda row: T.outer(row, x), out_dims=1)(y[:0]),
    "vmap-of-vmap": lambda T, f, x, y: f.vmap(f.vmap(lambda a, b: a * b + a, (0, 0)), (0, None))(y, x),
    "vmap-of-vmap-crossed": lambda T, f, x, y: f.vmap(f.vmap(lambda a, b: a * b, (None, 0)), (0, None))(x, y),
    "vmap-of-grad": lambda T, f, x, y: f.vmap(f.grad(lambda row: (row**3).sum() * row[0]))(y),
    "vmap-of-grads-of-parameters": lambda T, f, x, y: f.vmap(f.grad(tree), in_dims=(None, 0))(params_of(T), y),
    "vmap-of-jacrev": lambda T, f, x, y: f.vmap(f.jacrev(several), (None, 0))(x, y.unsqueeze(1)),
    "vmap-of-hessian": lambda T, f, x, y: f.vmap(f.hessian(lambda row: (row**3).prod()))(y),
    "vmap-of-vjp": lambda T, f, x, y: f.vmap(f.vjp(T.sin, x)[1])(y),
    "vmap-of-jvp": lambda T, f, x, y: f.vmap(lambda v: f.jvp(T.sin, (x,), (v,))[1])(y),
    "jacrev-of-vmap": lambda T, f, x, y: f.jacrev(f.vmap(lambda row: row.prod() * row))(y),
    "grad-of-vmap": lambda T, f, x, y: f.grad(lambda x: f.vmap(lambda row: (row * x).prod())(y).sum())(x),
    "vmap-in-chunks": lambda T, f, x, y: f.vmap(lambda row: row * x, chunk_size=1)(y),
}


def leaves(value):
    if isinstance(value, dict):
        return [t for key in sorted(value) for t in leaves(value[key])]
    return [t for v in value for t in leaves(v)] if isinstance(value, tuple | list) else [value]


def form(value):
    if isinstance(value, dict):
        return {key: form(item) for key, item in value.items()}
    return type(value)(map(form, value)) if isinstance(value, tuple | list) else None


@on_every_device
@needs_torch
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("outside", [False, True])
def test_transforms_are_those_of_pytorch(name, outside):
    answers, forms = [], []
    for T in (gg, torch):
        x, y = T.tensor(X, requires_grad=outside), T.tensor(Y, requires_grad=outside)
        found = CALLS[name](T, T.func, x, y)
        forms.append(form(found))
        found = leaves(found)
        answers.append([t.detach().cpu().numpy() for t in found])
        assert x.grad is None
        ends = [t for t in found if t.requires_grad]
        if outside and ends:
            total = sum((t * t).sum() for t in ends)
            grads = T.autograd.grad(total, [x, y], allow_unused=True)
            # No gradient is as good as one of zeros.
            answers[-1] += [np.zeros(1) if g is None or not g.any() else g.cpu().numpy() for g in grads]
        if T is gg:
            assert outside or not ends
    assert forms[0] == forms[1]
    close(*answers, 1e-9, 1e-9)


def test_transforms_follow_grad_mode_and_tensors_that_a_function_closes_over():
    x, w = gg.tensor(X), gg.tensor(X, requires_grad=True)
    found = gg.func.grad(lambda x: (x * w).square().sum())(x)
    found.sum().backward()
    close(w.grad, 4 * X * X)
    with gg.no_grad():
        assert not gg.func.grad(lambda x: (x * w).square().sum())(x).requires_grad
        assert not gg.func.jvp(lambda x: x * w, (x,), (x,))[1].requires_grad
    assert not gg.func.vjp(lambda x: x * 2, x)[0].requires_grad


@needs_torch
@pytest.mark.parametrize(
    "call",
    [
        lambda T, f, x: f.grad(lambda x: x)(x),
        lambda T, f, x: f.grad(lambda x: 3)(x),
        lambda T, f, x: f.grad(lambda x: x.sum(), argnums=1)(x),
        lambda T, f, x: f.grad(lambda x: x.sum(), argnums=())(x),
        lambda T, f, x: f.grad(lambda x: x.sum(), argnums=(0, 0))(x),
        lambda T, f, x: f.grad(lambda x: x.sum(), argnums=(0, -1))(x),
        lambda T, f, x: f.grad(lambda x: x.sum(), has_aux=True)(x),
        lambda T, f, x: f.grad(lambda x: x * 2)(3.0),
        lambda T, f, x: f.jvp(lambda x: x, x, x),
        lambda T, f, x: f.jvp(lambda x: x, (x,), (x[:2],)),
        lambda T, f, x: f.vjp(lambda x: x, x)[1](x[:2]),
        lambda T, f, x: f.jacrev(lambda x: 3)(x),
    ],
)
def test_what_cannot_be_differentiated(call):
    caught = []
    for T in (gg, torch):
        with pytest.raises((RuntimeError, ValueError)) as error:
            call(T, T.func, T.tensor(X))
        caught.append(error.type)
    assert caught[0] == caught[1]


# Modules as functions.


def make(T):
    class Tied(T.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = T.nn.Linear(3, 3)
            self.norm = T.nn.BatchNorm1d(3)
            self.second = self.first

        def forward(self, x, scale=1.0):
            return self.second(self.norm(self.first(x))) * scale

    return Tied().to(T.float64)


def weights(T):
    numbers = np.random.default_rng(2)
    shapes = {"first.weight": (3, 3), "first.bias": (3,), "norm.weight": (3,), "norm.bias": (3,)}
    return {name: T.tensor(numbers.standard_normal(shape)) for name, shape in shapes.items()}


def buffers(T):
    zeros, ones = T.zeros(3, dtype=T.float64), T.ones(3, dtype=T.float64)
    return {"norm.running_mean": zeros, "norm.running_var": ones, "norm.num_batches_tracked": T.tensor(0)}


def functional_loss(params, model, x, call):
    return call(model, params, (x,)).square().sum()


@on_every_device
@needs_torch
def test_modules_are_called_with_other_parameters():
    answers = []
    for T in (gg, torch):
        model, params, state = make(T), weights(T), buffers(T)
        x = T.tensor(draw.standard_normal((4, 3)) if T is gg else answers[0][0])
        before = {name: t.detach().clone() for name, t in model.state_dict().items()}
        call = T.func.functional_call
        found = [x, call(model, params, (x,)), call(model, (params, state), x, {"scale": 2.0}, strict=True)]
        found += [state["norm.running_mean"], state["norm.num_batches_tracked"]]
        gradient = T.func.grad(functional_loss)(params, model.eval(), x, call)
        found += [gradient[name] for name in sorted(gradient)]
        params["second.bias"] = params["first.bias"] + 1
        found.append(call(model, params, (x,), tie_weights=False))
        found.append(call(model, {"first.bias": params["first.bias"], "unknown": x, "norm.x": x}, x).mean(0) * 0)
        answers.append([t.detach().cpu().numpy() for t in found])
        if T is gg:  # PyTorch mixes up tied weights when they are given apart
            assert all((t == before[name]).all() for name, t in model.named_parameters())
            assert model.second.weight is model.first.weight
            assert isinstance(dict(model.named_parameters())["first.bias"], T.nn.Parameter)
    close(*answers, 1e-9, 1e-9)


@needs_torch
@pytest.mark.parametrize(
    "call",
    [
        lambda T, f, m, p: f(m, p, T.ones(1, 3, dtype=T.float64), strict=True),
        lambda T, f, m, p: f(m, {**p, **buffers(T), "unknown": p["first.bias"]}, T.ones(2, 3), strict=True),
        lambda T, f, m, p: f(m, (p, p), T.ones(1, 3)),
        lambda T, f, m, p: f(m, {"first.bias": 3}, T.ones(1, 3)),
        lambda T, f, m, p: f(m, 3, T.ones(1, 3)),
        lambda T, f, m, p: f(m, {**p, "second.bias": p["first.bias"] + 1}, T.ones(1, 3)),
    ],
)
def test_parameters_that_do_not_fit(call):
    caught = []
    for T in (gg, torch):
        with pytest.raises((RuntimeError, ValueError, TypeError)) as error:
            call(T, T.func.functional_call, make(T), weights(T))
        caught.append(error.type)
    assert caught[0] == caught[1]


def test_a_call_that_fails_leaves_the_module_as_it_was():
    model = gg.nn.Linear(3, 3)
    weight = model.weight
    with pytest.raises(RuntimeError):
        gg.func.functional_call(model, {"weight": gg.ones(2, 2)}, gg.ones(1, 3))
    assert model.weight is weight


@needs_torch
@pytest.mark.parametrize(
    "call",
    [
        lambda T, f, x: f.vmap(lambda a: a)(),
        lambda T, f, x: f.vmap(lambda a: a, None)(x),
        lambda T, f, x: f.vmap(lambda a: a, 2)(x),
        lambda T, f, x: f.vmap(lambda a: a, -3)(x),
        lambda T, f, x: f.vmap(lambda a: a, "a")(x),
        lambda T, f, x: f.vmap(lambda a: a, [0])(x),
        lambda T, f, x: f.vmap(lambda a: a, ([0],))(x),
        lambda T, f, x: f.vmap(lambda a, b: a, (0,))(x, x),
        lambda T, f, x: f.vmap(lambda a, b: a, (None, None))(x, x),
        lambda T, f, x: f.vmap(lambda a, b: a)(x, x[:1]),
        lambda T, f, x: f.vmap(lambda a, b: a)(x, 3),
        lambda T, f, x: f.vmap(lambda a: a[0], 0)(x[0, 0]),
        lambda T, f, x: f.vmap(lambda a: 3)(x),
        lambda T, f, x: f.vmap(lambda a: (a, None))(x),
        lambda T, f, x: f.vmap(lambda a: a, out_dims=None)(x),
        lambda T, f, x: f.vmap(lambda a: a, out_dims=2)(x),
        lambda T, f, x: f.vmap(lambda a: (a, a), out_dims=(0,))(x),
        lambda T, f, x: f.vmap(lambda a: T.rand(2))(x),
        lambda T, f, x: f.vmap(T.nn.functional.dropout)(x),
        lambda T, f, x: f.vmap(lambda a: a, randomness="x")(x),
        lambda T, f, x: f.vmap(lambda a: a, chunk_size=0)(x),
        lambda T, f, x: f.stack_module_state([]),
        lambda T, f, x: f.stack_module_state([T.nn.Linear(1, 1), T.nn.ReLU()]),
        lambda T, f, x: f.stack_module_state([T.nn.Linear(1, 1), T.nn.Linear(1, 1).eval()]),
    ],
)
def test_what_cannot_be_mapped(call):
    caught = []
    for T in (gg, torch):
        with pytest.raises((RuntimeError, ValueError, IndexError)) as error:
            call(T, T.func, T.tensor(Y))
        caught.append(error.type)
    assert caught[0] == caught[1]


def test_mapped_functions_draw_as_they_are_told():
    x = gg.zeros(4)

    def noisy(a):
        return a + gg.randn(3), gg.distributions.Gamma(2.0, 1.0).sample()

    gg.manual_seed(0)
    alone = noisy(x[0])
    state = gg.get_rng_state()
    gg.manual_seed(0)
    for found, one in zip(gg.func.vmap(noisy, randomness="same")(x), alone, strict=True):
        close(found, one.expand(4, *one.shape), 0, 0)
    assert gg.get_rng_state().tolist() == state.tolist()
    gg.manual_seed(0)
    found = gg.func.vmap(noisy, randomness="different")(x)
    close(found[0][0], alone[0], 0, 0)
    assert len({*found[1].tolist()}) == 4
    outer = gg.func.vmap(lambda a: gg.func.vmap(noisy, randomness="different")(a), randomness="same")
    gg.manual_seed(0)
    close(outer(gg.zeros(2, 4))[0], gg.stack([found[0], found[0]]), 0, 0)
    with pytest.raises(RuntimeError, match="randomness"):
        gg.func.vmap(gg.func.vmap(noisy, randomness="different"))(gg.zeros(2, 4))
    with pytest.raises(RuntimeError, match="randomness"):
        gg.func.vmap(lambda a: a + gg.rand(1, generator=gg.Generator()))(x)
    assert gg.rand(2).shape == (2,)  # refused there only


def _run_together(T):
    models = [T.nn.Sequential(T.nn.Linear(3, 2), T.nn.BatchNorm1d(2)).eval() for _ in range(3)]
    x = T.tensor(Y.astype(np.float32))
    params, buffers = T.func.stack_module_state(models)
    assert params["0.weight"].shape == (3, 2, 3)
    assert params["0.weight"].requires_grad
    assert params["0.weight"].is_leaf
    assert not buffers["1.running_mean"].requires_grad
    found = T.func.vmap(lambda p, b: T.func.functional_call(models[0], (p, b), (x,)))(params, buffers)
    for k, model in enumerate(models):
        np.testing.assert_allclose(found[k].detach().numpy(), model(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    found.sum().backward()
    assert params["0.weight"].grad.shape == (3, 2, 3)


@needs_torch
def test_modules_run_together():
    _run_together(gg)
    _run_together(torch)


def test_mapped_functions_return_results_of_one_form():
    with pytest.raises(ValueError, match="forms"):
        gg.func.vmap(lambda a: (a, a) if a > 1 else a)(gg.arange(3))
