"""What tests share: devices, sample values, the cases made from the op registry, and the same values in PyTorch."""

import operator
import warnings
import zlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.backend import cuda, to_numpy
from gpugrad.ops import REGISTRY
from gpugrad.ops.core import taped
from gpugrad.ops.pointwise import Elementwise

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed: pip install 'gpugrad[torch]'")

_diagnosis = cuda.diagnose()
_gpu = [pytest.mark.gpu, pytest.mark.skipif(not _diagnosis.usable, reason=_diagnosis.message())]
if cuda.simulated():
    _gpu = []
ACCELERATED = [pytest.param("cuda", marks=_gpu)]
DEVICES = ["cpu", *ACCELERATED]
on_every_device = pytest.mark.usefixtures("default_device")


class Samples:
    """The ``t`` that ops make their samples with: the same values for the same seed."""

    def __init__(self, seed):
        self.draw = np.random.default_rng(seed)

    def __call__(self, *shape, low=-2.0, high=2.0):
        """A float64 tensor of distinct float32 numbers, away from multiples of 0.5, where ops have their kinks."""
        size = int(np.prod(shape))
        places = (self.draw.permutation(size) + self.draw.uniform(0.25, 0.75, size)) / max(size, 1)
        values = low + (high - low) * places
        cell = np.floor(values * 2)
        values = (cell + 0.05 + 0.9 * (values * 2 - cell)) / 2
        return gg.tensor(values.astype(np.float32).astype(np.float64).reshape(shape))

    def ints(self, *shape, low=0, high=5):
        return gg.tensor(self.draw.integers(low, high, shape))

    def bools(self, *shape):
        return gg.tensor(self.draw.random(shape) < 0.5)


def samples_of(op):
    return op.samples(Samples(zlib.crc32(op.name.encode()))) if op.samples else []


def count_samples(op):
    try:
        return len(samples_of(op))
    except Exception:
        return 0  # test_every_op_has_samples makes them again, and fails


@dataclass(frozen=True)
class Case:
    """One op with one of its samples, on one device."""

    op: object
    number: int
    device: str = "cpu"

    def __str__(self):
        return f"{self.op.name}-{self.number}" + ("" if self.device == "cpu" else f"-{self.device}")

    @cached_property
    def sample(self):
        return samples_of(self.op)[self.number]

    @property
    def count(self):
        """How many of the sample's arguments are inputs; the rest are plain parameters."""
        if not self.op.variadic:
            return len(self.op.inputs)
        return next((k for k, x in enumerate(self.sample) if not isinstance(x, gg.Tensor)), len(self.sample))

    @property
    def params(self):
        return tuple(self.sample[self.count :])

    def inputs(self, dtype=gg.float64, grad=True, change=lambda array: array):
        """Fresh inputs in ``dtype``; ``change`` is applied to the floating-point arrays."""
        found = []
        constant = {self.op.inputs.index(name) for name in self.op.tests.get("constant", ())}
        for k, value in enumerate(self.sample[: self.count]):
            if isinstance(value, gg.Tensor):
                array = value.numpy().copy()
                array = change(array.astype(dtype) if array.dtype.kind == "f" else array)
                value = gg.Tensor._wrap(array) if self.device == "cpu" else gg.tensor(array, device=self.device)
                value.requires_grad_(
                    grad and value.is_floating_point() and self.op.differentiable and k not in constant
                )
            elif isinstance(value, np.ndarray) and self.device != "cpu":
                value = gg.tensor(value, device=self.device)
            found.append(value)
        return found

    def run(self, inputs, params=None):
        """The op's results, as a list."""
        params = self.params if params is None else params
        out = self.op.apply(inputs, params) if self.op.variadic else self.op(*inputs, *params)
        return list(out) if isinstance(out, tuple) else [out]

    @property
    def elementwise(self):
        return isinstance(self.op, Elementwise)

    @property
    def differentiable(self):
        return self.op.differentiable and any(t.requires_grad for t in self.inputs() if isinstance(t, gg.Tensor))


CASES = [Case(op, k) for op in REGISTRY.values() for k in range(count_samples(op))]


def ON_CUDA(cases):
    """The cases on a CUDA device; where there is none, one that says why."""
    if _diagnosis.usable:
        return [pytest.param(replace(case, device="cuda"), marks=_gpu) for case in cases]
    return [pytest.param(None, marks=_gpu, id="cuda")]


def wanting(inputs):
    """The inputs that need a gradient."""
    return [t for t in inputs if isinstance(t, gg.Tensor) and t.requires_grad]


def recorded(outs):
    return [out for out in outs if out.requires_grad]


def weights(outs, seed=0):
    """Gradients to start a backward with, for the results that need one."""
    draw = np.random.default_rng(seed)
    return [
        gg.tensor(draw.uniform(0.5, 1.5, tuple(out.shape)).astype(out.dtype), device=out.device)
        for out in recorded(outs)
    ]


def gradients(outs, inputs, seed=0, **options):
    """The gradients of the inputs that need one, of a weighted sum of the results."""
    options.setdefault("allow_unused", True)
    return gg.autograd.grad(recorded(outs), wanting(inputs), weights(outs, seed), **options)


def host(t):
    """The values of a tensor or raw array as a NumPy array."""
    t = t.detach()._data if isinstance(t, gg.Tensor) else t
    return to_numpy(t) if hasattr(t, "__cuda_array_interface__") else np.asarray(t)


def close(actual, expected, rtol=1e-9, atol=1e-10, **options):
    """Assert that two tensors, arrays or lists of them agree in shape and nearly in value; None equals only None."""
    if isinstance(actual, list | tuple):
        assert len(actual) == len(expected)
        for a, b in zip(actual, expected, strict=True):
            close(a, b, rtol, atol, **options)
        return
    assert (actual is None) == (expected is None)
    if actual is not None:
        a, b = host(actual), host(expected)
        assert a.shape == b.shape
        np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol, atol, **options)


def to_torch(value):
    """A tensor or parameter as PyTorch takes it."""
    if isinstance(value, gg.Tensor):
        return torch.tensor(host(value)).requires_grad_(value.requires_grad)
    if isinstance(value, np.dtype):
        return getattr(torch, value.name)
    if isinstance(value, np.ndarray):
        return torch.tensor(value)
    return value


def from_torch(t):
    return None if t is None else t.detach().numpy()


def torch_function(op):
    """PyTorch's counterpart of an op; None if it has none.

    Raises:
        LookupError: the name it gives is not PyTorch's.
    """
    if op.torch is None:
        return None
    if callable(op.torch):
        return lambda *args: op.torch(torch, *args)
    for place in (torch, torch.nn.functional, torch.special, torch.linalg, torch.Tensor):
        try:
            return operator.attrgetter(op.torch)(place)
        except AttributeError:
            continue
    raise LookupError(f"op {op.name!r} names PyTorch's {op.torch!r}, which does not exist: give torch=None")


def run_torch(case, inputs):
    """What PyTorch's counterpart gives: its inputs, its results."""
    function, params = torch_function(case.op), list(map(to_torch, case.params))
    theirs = [to_torch(t) for t in inputs]
    with warnings.catch_warnings(), gg.device(case.device):
        warnings.simplefilter("ignore")
        try:
            out = function(*theirs, *params)
        except TypeError:
            # Some of its functions take no numbers in the place of tensors.
            theirs = [torch.tensor(t, dtype=torch.float64) if isinstance(t, float) else t for t in theirs]
            out = function(*theirs, *params)
    return theirs, list(out) if isinstance(out, tuple | list) else [out]


__all__ = [name for name in dir() if not name.startswith("_")] + ["taped"]
