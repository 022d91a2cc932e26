"""The kernels whose bandwidth is measured: what gpugrad and PyTorch are asked to do, in the same code for both.

Tensors are far larger than a GPU's level-2 cache, so nothing is found there.  The traffic of a
kernel is the least that it could have: each input read once, each output written once,
except where a comment says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .workloads import SMOKE

Call = Callable[[], Any]
DTYPES = ("float32", "bfloat16")


class Env:
    """A library, and how tensors and functions are made in it.

    Args:
        lib: gpugrad or torch.
        wrap: what functions go through before they are called, such as ``torch.compile``.
        fused: gpugrad's own kernel launches, for what is called by another name in PyTorch; else None.
        fused_options: what optimizers take to be one kernel.
    """

    def __init__(
        self,
        lib: Any,
        device: str,
        wrap: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda function: function,
        fused: Any = None,
        fused_options: dict[str, Any] | None = None,
    ):
        self.lib, self.device, self.wrap, self.fused = lib, device, wrap, fused
        self.F = lib.nn.functional
        self.fused_options = fused_options or {}
        self.dtype: Any = None

    def randn(self, *shape: int, grad: bool = False) -> Any:
        return self.lib.randn(*shape, device=self.device, dtype=self.dtype).requires_grad_(grad)

    def ints(self, high: int, *shape: int) -> Any:
        return self.lib.randint(0, high, shape, device=self.device)

    def gradient(self, function: Callable[..., Any], *inputs: Any) -> Call:
        """What takes a random gradient back through a function, which is called once."""
        out = self.wrap(function)(*inputs)
        g = self.randn(*out.shape)
        wanted = [t for t in inputs if t.requires_grad]
        return lambda: self.lib.autograd.grad(out, wanted, g, retain_graph=True)


def _copy(env: Env, *shape: int) -> Call:
    x, y = env.randn(*shape), env.randn(*shape)
    return lambda: y.copy_(x)


def _softmax(env: Env, *shape: int) -> Call:
    x = env.randn(*shape)
    f = env.wrap(lambda x: env.F.softmax(x, -1))
    return lambda: f(x)


def _log_softmax(env: Env, *shape: int) -> Call:
    x = env.randn(*shape)
    f = env.wrap(lambda x: env.F.log_softmax(x, -1))
    return lambda: f(x)


def _softmax_backward(env: Env, *shape: int) -> Call:
    return env.gradient(lambda x: env.F.softmax(x, -1), env.randn(*shape, grad=True))


def _cross_entropy(env: Env, rows: int, classes: int) -> Call:
    """The loss and, as by ``backward``, its gradient."""
    x, target = env.randn(rows, classes, grad=True), env.ints(classes, rows)
    f = env.wrap(lambda x, target: env.F.cross_entropy(x, target))
    return lambda: env.lib.autograd.grad(f(x, target), x)


def _cross_entropy_kernel(env: Env, rows: int, classes: int) -> Call:
    """What gpugrad's kernels do by themselves; others are timed with the graph around them."""
    if env.fused is None:
        return _cross_entropy(env, rows, classes)
    x, target = env.randn(rows, classes)._data, env.ints(classes, rows)._data
    return lambda: env.fused.softmax.cross_entropy(x, target, None, -100, "mean", 0.0, True)


def _layer_norm(env: Env, *shape: int) -> Call:
    x, weight, bias = env.randn(*shape), env.randn(shape[-1]), env.randn(shape[-1])
    f = env.wrap(lambda x, weight, bias: env.F.layer_norm(x, shape[-1:], weight, bias))
    return lambda: f(x, weight, bias)


def _layer_norm_backward(env: Env, *shape: int) -> Call:
    tensors = env.randn(*shape, grad=True), env.randn(shape[-1], grad=True), env.randn(shape[-1], grad=True)
    return env.gradient(lambda x, weight, bias: env.F.layer_norm(x, shape[-1:], weight, bias), *tensors)


def _rms_norm(env: Env, *shape: int) -> Call:
    x, weight = env.randn(*shape), env.randn(shape[-1])
    f = env.wrap(lambda x, weight: env.F.rms_norm(x, shape[-1:], weight))
    return lambda: f(x, weight)


def _batch_norm(env: Env, *shape: int) -> Call:
    x, weight, bias = env.randn(*shape), env.randn(shape[1]), env.randn(shape[1])
    f = env.wrap(lambda x, weight, bias: env.F.batch_norm(x, None, None, weight, bias, True))
    return lambda: f(x, weight, bias)


def _batch_norm_backward(env: Env, *shape: int) -> Call:
    tensors = env.randn(*shape, grad=True), env.randn(shape[1], grad=True), env.randn(shape[1], grad=True)
    return env.gradient(lambda x, weight, bias: env.F.batch_norm(x, None, None, weight, bias, True), *tensors)


def _bias_gelu(env: Env, *shape: int) -> Call:
    x, bias = env.randn(*shape), env.randn(shape[-1])
    if env.fused is not None:
        # The kernel that gpugrad generates for this chain of ops, as a captured step runs it.
        from gpugrad.backend.fused.pointwise import Node, fuse

        kind = x.dtype
        nodes = [Node("input", (), (0,), kind), Node("input", (), (1,), kind)]
        nodes += [Node("add", (0, 1), (), kind), Node("gelu", (2,), ("none",), kind)]
        chain = fuse(nodes, (3,))
        return lambda: chain((x._data, bias._data))
    f = env.wrap(lambda x, bias: env.F.gelu(x + bias))
    return lambda: f(x, bias)


def _dropout_residual(env: Env, *shape: int) -> Call:
    x, residual = env.randn(*shape), env.randn(*shape)
    f = env.wrap(lambda x, residual: residual + env.F.dropout(x, 0.1))
    return lambda: f(x, residual)


def _sum(dim: int) -> Callable[..., Call]:
    def build(env: Env, *shape: int) -> Call:
        x = env.randn(*shape)
        f = env.wrap(lambda x: x.sum(dim))
        return lambda: f(x)

    return build


WORDS = 16 if SMOKE else 32768


def _embedding(env: Env, *shape: int) -> Call:
    weight, index = env.randn(WORDS, shape[-1]), env.ints(WORDS, shape[0])
    f = env.wrap(lambda index, weight: env.F.embedding(index, weight))
    return lambda: f(index, weight)


def _embedding_backward(env: Env, *shape: int) -> Call:
    weight, index = env.randn(WORDS, shape[-1], grad=True), env.ints(WORDS, shape[0])
    return env.gradient(lambda weight, index: env.F.embedding(index, weight), weight, index)


def _optimizer(name: str, **options: Any) -> Callable[..., Call]:
    def build(env: Env, size: int) -> Call:
        p = env.randn(size, grad=True)
        p.grad = env.randn(size)
        own = {} if name == "RMSprop" else env.fused_options  # PyTorch has no fused RMSprop
        optimizer = getattr(env.lib.optim, name)([p], lr=1e-3, **options, **own)
        return env.wrap(lambda: optimizer.step())

    return build


def _gradient_norm(env: Env, size: int) -> Call:
    x = env.randn(size)
    f = env.wrap(lambda x: env.lib.nn.utils.get_total_norm([x]))
    return lambda: f(x)


class Kernel(NamedTuple):
    """What is measured.

    Attributes:
        passes: the traffic, as a multiple of the bytes of a tensor of ``shape``.
        goal: the share of the copy bandwidth it should reach.
    """

    label: str
    build: Callable[..., Call]
    shape: tuple[int, ...]
    passes: float
    goal: float | None = None

    def bytes(self, dtype: str) -> float:
        size = 1
        for n in self.shape:
            size *= n
        return self.passes * size * (4 if dtype == "float32" else 2)


# The elements of most: 512 MiB in float32.
_ROWS, _LONG, _IMAGES, _FLAT, _TOKENS = (
    ((8, 64), (2, 3000), (4, 3, 4, 4), (600,), (40, 8))
    if SMOKE
    else ((32768, 4096), (8192, 131072), (128, 256, 64, 64), (1 << 27,), (131072, 1024))
)
_MANY = "rows of {:,}".format
COPY = "copy"

KERNELS = {
    COPY: Kernel("copy", _copy, _ROWS, 2),
    "softmax": Kernel(f"softmax, {_MANY(_ROWS[1])}", _softmax, _ROWS, 2, 0.9),
    "cross_entropy": Kernel(
        f"cross-entropy with its gradient, {_MANY(_ROWS[1])}", _cross_entropy_kernel, _ROWS, 2, 0.9
    ),
    "layer_norm": Kernel(f"layer norm, {_MANY(_ROWS[1])}", _layer_norm, _ROWS, 2, 0.9),
    # Reads input and gradient, writes the input's gradient.
    "layer_norm_backward": Kernel("layer norm, backward", _layer_norm_backward, _ROWS, 3, 0.75),
    "bias_gelu": Kernel("bias + GELU", _bias_gelu, _ROWS, 2, 0.9),
    # Reads parameter, gradient and two averages; writes all but the gradient.
    "adam": Kernel("Adam", _optimizer("Adam"), _FLAT, 7, 0.9),
    "softmax_long": Kernel(f"softmax, {_MANY(_LONG[1])}", _softmax, _LONG, 2, 0.9),
    "cross_entropy_long": Kernel(
        f"cross-entropy with its gradient, {_MANY(_LONG[1])}", _cross_entropy_kernel, _LONG, 2, 0.9
    ),
    "cross_entropy_backward": Kernel(f"cross_entropy and backward, {_MANY(_ROWS[1])}", _cross_entropy, _ROWS, 2),
    "softmax_backward": Kernel("softmax, backward", _softmax_backward, _ROWS, 3),
    "log_softmax": Kernel("log-softmax", _log_softmax, _ROWS, 2),
    "rms_norm": Kernel("RMS norm", _rms_norm, _ROWS, 2),
    # A channel does not fit on the chip, so its input is read twice: for the statistics and for the result.
    "batch_norm": Kernel("batch norm", _batch_norm, _IMAGES, 3),
    "batch_norm_backward": Kernel("batch norm, backward", _batch_norm_backward, _IMAGES, 5),
    "dropout_residual": Kernel("dropout + residual", _dropout_residual, _ROWS, 3),
    "row_sums": Kernel("sums of rows", _sum(1), _ROWS, 1),
    "column_sums": Kernel("sums of columns", _sum(0), _ROWS, 1),
    "embedding": Kernel("embedding", _embedding, _TOKENS, 2),
    "embedding_backward": Kernel("embedding, backward", _embedding_backward, _TOKENS, 1 + WORDS / _TOKENS[0]),
    "adamw": Kernel("AdamW", _optimizer("AdamW"), _FLAT, 7),
    "rmsprop": Kernel("RMSprop", _optimizer("RMSprop"), _FLAT, 5),
    "sgd": Kernel("SGD with momentum", _optimizer("SGD", momentum=0.9), _FLAT, 5),
    "gradient_norm": Kernel("norm of gradients", _gradient_norm, _FLAT, 1),
}


def build(env: Env, name: str, dtype: str) -> Call:
    """What runs a kernel once.

    Raises:
        AttributeError: the library has no such dtype.
    """
    env.dtype = getattr(env.lib, dtype)
    kernel = KERNELS[name]
    return kernel.build(env, *kernel.shape)
