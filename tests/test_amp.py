"""Mixed precision: which op works in which dtype, beside PyTorch; gradients, the cache, and the scale."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers import close, needs_torch, torch

import gpugrad as gg
from gpugrad import nn
from gpugrad.amp import GradScaler, autocast
from gpugrad.nn import functional as F
from gpugrad.ops.core import autocasting

ml_dtypes = pytest.importorskip("ml_dtypes")

CASES = {
    "matmul": lambda m, F, a, b, i: a @ b,
    "mm": lambda m, F, a, b, i: m.mm(a, b),
    "bmm": lambda m, F, a, b, i: m.bmm(a[None], b[None]),
    "addmm": lambda m, F, a, b, i: m.addmm(a, a, b),
    "baddbmm": lambda m, F, a, b, i: m.baddbmm(a[None], a[None], b[None]),
    "einsum": lambda m, F, a, b, i: m.einsum("ij,jk->ik", a, b),
    "linear": lambda m, F, a, b, i: F.linear(a, b, a[0]),
    "conv1d": lambda m, F, a, b, i: F.conv1d(a[None], b[:, :, None], a[0]),
    "conv2d": lambda m, F, a, b, i: F.conv2d(a[None, None], b[None, None]),
    "conv_transpose2d": lambda m, F, a, b, i: F.conv_transpose2d(a[None, None], b[None, None]),
    "attention": lambda m, F, a, b, i: F.scaled_dot_product_attention(a[None], b[None], a[None]),
    "prelu": lambda m, F, a, b, i: F.prelu(a, b[0, :1]),
    "half exp": lambda m, F, a, b, i: (a @ b).exp(),
    "half + float": lambda m, F, a, b, i: a @ b + a,
    "half softmax": lambda m, F, a, b, i: F.softmax(a @ b, 1),
    "half layer_norm": lambda m, F, a, b, i: F.layer_norm(a @ b, (3,)),
    "half sum": lambda m, F, a, b, i: (a @ b).sum(),
    "half prod": lambda m, F, a, b, i: (a @ b).prod(),
    "half cross_entropy": lambda m, F, a, b, i: F.cross_entropy(a @ b, i),
    "half mse_loss": lambda m, F, a, b, i: F.mse_loss(a @ b, a),
    "half l1_loss": lambda m, F, a, b, i: F.l1_loss(a @ b, a),
    "half smooth_l1_loss": lambda m, F, a, b, i: F.smooth_l1_loss(a @ b, a),
    "half kl_div": lambda m, F, a, b, i: F.kl_div(F.log_softmax(a @ b, 1), a.abs(), reduction="batchmean"),
    "half nll_loss": lambda m, F, a, b, i: F.nll_loss(F.log_softmax(a @ b, 1), i),
    "half bce": lambda m, F, a, b, i: F.binary_cross_entropy((a @ b).sigmoid(), a.sigmoid()),
    "half bce logits": lambda m, F, a, b, i: F.binary_cross_entropy_with_logits(a @ b, a.sigmoid()),
    "cat": lambda m, F, a, b, i: m.cat([a @ b, a]),
    "stack": lambda m, F, a, b, i: m.stack([a @ b, a]),
    "relu": lambda m, F, a, b, i: (a @ b).relu(),
    "exp": lambda m, F, a, b, i: a.exp(),
    "float64 exp": lambda m, F, a, b, i: a.double().exp(),
    "max_pool2d": lambda m, F, a, b, i: F.max_pool2d((a @ b)[None], 2),
}


def numbers(seed=0):
    draw = np.random.default_rng(seed)
    return draw.standard_normal((2, 3, 3)).astype(np.float32)


@needs_torch
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_dtypes_and_values_are_those_of_pytorch(name, dtype):
    if dtype == "float16" and name in ("attention", "max_pool2d", "half prod"):
        pytest.skip("PyTorch cannot do it on the CPU")
    a, b = numbers()
    found = []
    for module, functional, kind, fast in (
        (gg, F, gg.tensor, getattr(gg, dtype)),
        (torch, torch.nn.functional, torch.tensor, getattr(torch, dtype)),
    ):
        x, y = kind(a), kind(b)
        x.requires_grad_()
        y.requires_grad_()
        with module.autocast("cpu", dtype=fast):
            out = CASES[name](module, functional, x, y, kind([0, 2, 1]))
        out.sum().backward()
        grads = [x.grad] + ([] if y.grad is None else [y.grad])
        found.append((out, grads))
    (ours, our_grads), (theirs, their_grads) = found
    assert str(theirs.dtype) == f"torch.{ours.dtype}"
    assert len(our_grads) == len(their_grads)
    assert all(g.dtype == gg.float32 for g in our_grads)
    close(ours, theirs.detach().double().numpy(), 0.05, 0.05)
    for g, t in zip(our_grads, their_grads, strict=True):
        close(g, t.double().numpy(), 0.1, 0.1)


def test_training_in_either_dtype_learns(device):
    for dtype in (None, gg.float16):
        gg.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 2)).to(device)
        optimizer = gg.optim.Adam(model.parameters(), lr=0.02)
        scaler = GradScaler(device, enabled=dtype is not None)
        x = gg.randn(64, 4, device=device)
        y = (x[:, 0] * x[:, 1] > 0).long()
        for _ in range(150):
            optimizer.zero_grad()
            with autocast(device, dtype):
                loss = F.cross_entropy(model(x), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        assert loss.item() < 0.1
        assert all(p.dtype == gg.float32 for p in model.parameters())


def test_outside_and_where_it_is_switched_off_nothing_is_cast():
    a, b = map(gg.tensor, numbers())
    with autocast("cpu"):
        with autocast("cpu", enabled=False):
            assert (a @ b).dtype == gg.float32
        with autocast("cpu", gg.float16):
            assert (a @ b).dtype == gg.float16
        assert (a @ b).dtype == gg.bfloat16
        assert gg.is_autocast_enabled("cpu")
        assert not gg.is_autocast_enabled("cuda")
        other = []
        thread = threading.Thread(target=lambda: other.append((a @ b).dtype))
        thread.start()
        thread.join()
        assert other == [gg.float32]
        assert (a.double() @ b.double()).dtype == gg.float64
    assert (a @ b).dtype == gg.float32
    assert not autocasting
    assert not gg.is_autocast_enabled("cpu")

    @autocast("cpu")
    def product(x, y):
        return x @ y

    assert product(a, b).dtype == gg.bfloat16
    assert autocast("cpu")(nn.Linear(3, 2))(a).dtype == gg.bfloat16


def test_a_weight_is_cast_once_and_again_after_it_changed():
    w = gg.tensor(numbers()[0], requires_grad=True)
    x = gg.ones(2, 3)

    def casts(**options):
        with autocast("cpu", **options):
            first, second = x @ w, x @ w
            nodes = [out.grad_fn.parents[1] for out in (first, second)]
            with gg.no_grad():
                w.mul_(2)
            third = x @ w
        close(third, 2 * first.detach().float().numpy(), 0.02, 0.02)
        (first + second).sum().backward()
        return nodes

    one, other = casts()
    assert one is other
    close(w.grad, np.full((3, 3), 4.0))
    one, other = casts(cache_enabled=False)
    assert one is not other
    with autocast("cpu"):
        with gg.no_grad():
            assert not (x @ w).requires_grad
        assert (x @ w).requires_grad


def test_functions_of_ones_own():
    seen = []

    class Product(gg.autograd.Function):
        @staticmethod
        @gg.amp.custom_fwd(device_type="cpu", cast_inputs=gg.float32)
        def forward(ctx, x, y):
            ctx.save_for_backward(x, y)
            out = x @ y
            seen.append((x.dtype, out.dtype))
            return out

        @staticmethod
        @gg.amp.custom_bwd(device_type="cpu")
        def backward(ctx, g):
            x, y = ctx.saved_tensors
            return g @ y.T, x.T @ g

    x, y = (gg.tensor(t, requires_grad=True) for t in numbers())
    with autocast("cpu"):
        out = Product.apply(x @ x, y)
    assert seen == [(gg.float32, gg.float32)]
    out.sum().backward()
    assert x.grad.dtype == y.grad.dtype == gg.float32


def scaled_step(scaler, gradient, optimizer, w):
    scaler.scale((w * gg.tensor(gradient)).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()


def test_the_scale_grows_after_good_steps_and_shrinks_after_bad_ones():
    w = gg.tensor([1.0, 1.0], requires_grad=True)
    optimizer = gg.optim.SGD([w], lr=0.5)
    scaler = GradScaler("cpu", init_scale=8.0, growth_factor=4.0, backoff_factor=0.25, growth_interval=2)
    scaled_step(scaler, [1.0, 2.0], optimizer, w)
    assert (scaler.get_scale(), w.tolist()) == (8.0, [0.5, 0.0])
    scaled_step(scaler, [1.0, np.inf], optimizer, w)
    assert (scaler.get_scale(), w.tolist()) == (2.0, [0.5, 0.0])
    scaled_step(scaler, [np.nan, 1.0], optimizer, w)
    assert scaler.get_scale() == 0.5
    scaled_step(scaler, [1.0, 0.0], optimizer, w)
    scaled_step(scaler, [1.0, 0.0], optimizer, w)
    assert (scaler.get_scale(), w.tolist()) == (2.0, [-0.5, 0.0])
    scaler.update(16.0)
    assert scaler.get_scale() == 16.0


@needs_torch
def test_the_scale_is_pytorchs_step_for_step():
    gradients = np.random.default_rng(0).standard_normal((60, 2)).astype(np.float32)
    gradients[[5, 17, 18, 40]] *= np.float32(np.inf)
    histories = []
    for module in (gg, torch):
        w = module.tensor([1.0, 1.0], requires_grad=True)
        optimizer = module.optim.Adam([w], lr=0.1)
        scaler = module.amp.GradScaler("cpu", growth_interval=7)
        history = []
        for g in gradients:
            scaler.scale((w * module.tensor(g)).sum()).backward()
            scaler.unscale_(optimizer)
            history.append(float(module.nn.utils.clip_grad_norm_([w], 1.0)))
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            history += [scaler.get_scale(), *w.tolist()]
        histories.append((history, scaler.state_dict()))
    np.testing.assert_allclose(histories[0][0], histories[1][0], rtol=1e-5)
    assert histories[0][1] == histories[1][1]


def test_state_dicts_several_optimizers_and_optimizers_that_skip_by_themselves():
    w, v = (gg.tensor([1.0], requires_grad=True) for _ in range(2))
    one, two = gg.optim.SGD([w], lr=0.5), gg.optim.SGD([v], lr=0.5)
    scaler = GradScaler("cpu", init_scale=4.0)
    scaler.scale([(w * 2).sum(), (v * np.inf).sum()])[0].backward()
    scaler.scale((v * gg.tensor([np.inf])).sum()).backward()
    scaler.step(one)
    scaler.step(two)
    assert (w.item(), v.item()) == (0.0, 1.0)
    scaler.update()
    assert scaler.get_scale() == 2.0
    fresh = GradScaler("cpu")
    fresh.load_state_dict(scaler.state_dict())
    assert fresh.state_dict() == scaler.state_dict()
    assert GradScaler("cpu", enabled=False).state_dict() == {}

    class Alone(gg.optim.SGD):
        _step_supports_amp_scaling = True

        def step(self, closure=None):
            seen.append(self.found_inf.item())

    seen = []
    alone = Alone([w], lr=0.5)
    for value in (1.0, np.inf):
        w.grad = gg.tensor([value])
        scaler.step(alone)
        scaler.update()
    assert seen == [0.0, 1.0]
    assert not hasattr(alone, "found_inf")


def test_the_older_names_can_be_imported():
    from gpugrad.cuda.amp import GradScaler as Older
    from gpugrad.cuda.amp import autocast as older

    assert issubclass(Older, GradScaler)
    assert issubclass(older, autocast)
    code = "import gpugrad.cuda.amp, gpugrad.amp; gpugrad.cuda.amp.autocast"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


def test_misuse_is_named():
    w = gg.tensor([1.0], requires_grad=True)
    optimizer = gg.optim.SGD([w], lr=0.5)
    scaler = GradScaler("cpu")
    with pytest.raises(RuntimeError, match="_scale is None"):
        scaler.update()
    scaler.scale(w.sum()).backward()
    with pytest.raises(RuntimeError, match="No inf checks"):
        scaler.update()
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="after step"):
        scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="Closure"):
        scaler.step(optimizer, closure=lambda: None)
    with pytest.raises(ValueError, match="iterable"):
        scaler.scale(1.0)
    with pytest.raises(ValueError, match="growth factor"):
        GradScaler(growth_factor=1.0)
    half = gg.tensor([1.0], dtype=gg.float16, requires_grad=True)
    half.grad = gg.ones(1, dtype=gg.float16)
    with pytest.raises(ValueError, match="FP16"):
        scaler.unscale_(gg.optim.SGD([half], lr=0.1))
    with pytest.raises(ValueError, match="str"):
        autocast(1)
    with pytest.raises(RuntimeError, match="'tpu'"):
        autocast("tpu")
    with pytest.warns(UserWarning, match="not supported"):
        autocast("cpu", dtype=gg.float32)
    if not gg.cuda.is_available():
        with pytest.warns(UserWarning, match="CUDA is not available"), gg.cuda.amp.autocast():
            assert not gg.is_autocast_enabled("cuda")


@needs_torch
def test_arguments_are_those_of_pytorch():
    import inspect

    for ours, theirs in (
        (autocast, torch.amp.autocast),
        (GradScaler, torch.amp.GradScaler),
        (gg.cuda.amp.GradScaler, torch.cuda.amp.GradScaler),
        (gg.cuda.amp.autocast, torch.cuda.amp.autocast),
    ):
        a, b = (list(inspect.signature(cls.__init__).parameters.values()) for cls in (ours, theirs))
        assert [p.name for p in a] == [p.name for p in b]
        if theirs is not torch.cuda.amp.autocast:
            assert [p.default for p in a] == [p.default for p in b]


# PyTorch's lists for CUDA, in its documentation ("CUDA Op-Specific Behavior").
ON_CUDA = {
    "float16": [
        "matmul",
        "mm",
        "bmm",
        "addmm",
        "baddbmm",
        "einsum",
        "linear",
        "conv1d",
        "conv2d",
        "attention",
        "prelu",
    ],
    "float32": [
        "half exp",
        "half softmax",
        "half layer_norm",
        "half sum",
        "half prod",
        "half cross_entropy",
        "half mse_loss",
        "half l1_loss",
        "half nll_loss",
        "half bce logits",
        "half + float",
        "cat",
        "stack",
        "exp",
    ],
    "float64": ["float64 exp"],
}


def test_dtypes_on_cuda(device):
    if device == "cpu":
        pytest.skip("the lists of the CPU are compared with PyTorch's")
    a, b = (gg.tensor(t, device=device, requires_grad=True) for t in numbers())
    labels = gg.tensor([0, 2, 1], device=device)
    for dtype, names in ON_CUDA.items():
        for name in names:
            with autocast("cuda"):
                out = CASES[name](gg, F, a, b, labels)
            assert out.dtype == dtype, name
            out.sum().backward()
    assert a.grad.dtype == b.grad.dtype == gg.float32
    with autocast("cuda"), pytest.raises(RuntimeError, match="unsafe to autocast"):
        F.binary_cross_entropy((a @ b).sigmoid(), a.detach().sigmoid())
    with autocast("cpu"):
        assert (a @ b).dtype == gg.float32


def test_tensors_become_bfloat16_before_anything_else_has_asked_for_it():
    code = (
        "import gpugrad as gg; x = gg.ones(2).bfloat16(); assert x.dtype == gg.bfloat16 and str(x.dtype) == 'bfloat16'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)
