"""Tensors: what they are made of, promotion, conversion, indexing, shapes and reductions, against NumPy and PyTorch."""

import copy
import importlib
import operator
import pickle
import warnings

import numpy as np
import pytest
from helpers import ACCELERATED, close, host, needs_torch, to_torch, torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import gpugrad as gg
from gpugrad.autograd import grad
from gpugrad.backend import cuda, device

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


def leaf(*shape, seed=0):
    return gg.tensor(np.random.default_rng(seed).uniform(0.5, 1.5, shape), requires_grad=True)


def values(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape)


# Making tensors


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float32"),
        (3, "int64"),
        (True, "bool"),
        ([1, 2.5], "float32"),
        ([[1, 2], [3, 4]], "int64"),
        ([True, False], "bool"),
        ([], "float32"),
        (np.ones(2), "float64"),
        (np.float64(1), "float64"),
        (np.arange(3, dtype=np.int16), "int16"),
    ],
)
def test_tensor_infers_the_dtype(data, dtype):
    t = gg.tensor(data)
    assert t.dtype == dtype
    close(t, np.array(data))


def test_tensor_copies():
    array = np.ones(3)
    t = gg.tensor(array)
    array[0] = 5
    close(t, np.ones(3))
    again = gg.tensor([gg.tensor(1.0), gg.tensor(2.0)])
    close(again, [1, 2])
    assert gg.tensor([1, 2], dtype=gg.float64, requires_grad=True).requires_grad


@pytest.mark.parametrize("data", [[[1, 2], [3]], "text", [None], {"a": 1}])
def test_what_is_no_tensor(data):
    with pytest.raises((ValueError, TypeError, RuntimeError)):
        gg.tensor(data)


def test_unknown_dtypes_and_devices():
    with pytest.raises(TypeError, match="unsupported dtype"):
        gg.tensor([1.0], dtype="complex64")
    with pytest.raises(RuntimeError, match="invalid device"):
        gg.tensor([1.0], device="tpu")


def test_attributes():
    t = gg.tensor(np.ones((2, 3), np.float32))
    assert t.shape == (2, 3)
    assert repr(t.shape) == "gpugrad.Size([2, 3])"
    assert t.shape.numel() == t.numel() == 6
    assert (t.ndim, t.dim(), t.size(), t.size(-1), len(t)) == (2, 2, (2, 3), 3, 2)
    assert t.stride() == (3, 1)
    assert t.T.stride(0) == 1
    assert t.device == gg.device("cpu")
    assert str(t.device) == "cpu"
    assert not t.is_cuda
    assert t.is_contiguous()
    assert not t.T.is_contiguous()
    assert t.itemsize == t.element_size() == 4
    assert t.nbytes == 24
    assert t.is_floating_point()
    assert t.data_ptr() == t[0].data_ptr()
    with pytest.raises(IndexError, match="Dimension out of range"):
        t.size(2)


def test_nothing_is_distributed():
    assert not gg.distributed.is_available()
    assert not gg.distributed.is_initialized()
    with pytest.raises(ValueError, match="not been initialized"):
        gg.distributed.get_rank()
    with pytest.raises(RuntimeError, match="not supported"):
        gg.distributed.init_process_group(backend="nccl")


def test_what_programs_ask_before_they_choose_a_device():
    usable = gg.cuda.is_available()
    assert gg.accelerator.is_available() is usable
    assert gg.accelerator.current_accelerator() == (device("cuda") if usable else None)
    assert gg.accelerator.device_count() == gg.cuda.device_count()
    gg.backends.cudnn.benchmark = False
    assert not gg.backends.cudnn.is_available()
    assert importlib.import_module("gpugrad.backends.cudnn") is gg.backends.cudnn
    assert not gg.backends.mps.is_available()
    assert not gg.xpu.is_available()
    assert isinstance(gg.float32, gg.dtype)
    gg.set_float32_matmul_precision("high")
    try:
        assert gg.backends.cuda.matmul.allow_tf32
        assert gg.get_float32_matmul_precision() == "high"
    finally:
        gg.set_float32_matmul_precision("highest")
    assert not gg.backends.cuda.matmul.allow_tf32
    with pytest.raises(RuntimeError, match="precision"):
        gg.set_float32_matmul_precision("low")
    assert not gg.are_deterministic_algorithms_enabled()
    gg.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert gg.are_deterministic_algorithms_enabled()
        assert gg.is_deterministic_algorithms_warn_only_enabled()
    finally:
        gg.use_deterministic_algorithms(False)
    assert not gg.is_deterministic_algorithms_warn_only_enabled()
    assert gg.version.__version__ == gg.__version__
    assert gg.version.cuda == cuda.diagnose().runtime_version
    with pytest.raises(AttributeError, match="hop"):
        _ = gg.version.hop
    assert gg.compiler.compile is gg.compile
    assert not gg.compiler.is_compiling()
    x = gg.ones(2, 3)
    assert x.is_cpu
    assert not x.is_sparse
    assert not x.is_complex()
    assert x.is_signed()
    assert not x.byte().is_signed()
    assert x.ndimension() == 2
    assert gg.zeros_like(x, memory_format=gg.preserve_format).shape == (2, 3)
    close(gg.layer_norm(x, (3,)), np.zeros((2, 3)))


def test_single_elements_as_numbers():
    t = gg.tensor([[2.5]])
    assert t.item() == float(t) == 2.5
    assert int(t) == 2
    assert bool(t)
    assert complex(t) == 2.5
    assert f"{gg.tensor(2.5):.2f} {gg.tensor(2.5)} {gg.tensor([2.5])}" == "2.50 2.5 tensor([2.5000])"
    with pytest.raises(TypeError, match="format"):
        f"{gg.tensor([2.5]):.2f}"
    assert [10, 20, 30][gg.tensor(1)] == 20
    assert gg.tensor([1, 2]).tolist() == [1, 2]
    for convert, error in ((float, ValueError), (int, ValueError), (bool, RuntimeError), (operator.index, TypeError)):
        with pytest.raises(error):
            convert(gg.tensor([1.5, 2.5]))
    with pytest.raises(TypeError, match="0-d"):
        len(gg.tensor(1.0))
    with pytest.raises(TypeError, match="0-d"):
        iter(gg.tensor(1.0))


def test_membership_iteration_and_hash():
    t = gg.tensor([1.0, 2.0])
    assert 2.0 in t
    assert 3.0 not in t
    assert [x.item() for x in t] == [1, 2]
    assert len({t, t, gg.tensor([1.0, 2.0])}) == 2
    (x * 2 for x in t)
    x = leaf(3)
    sum(x).backward()
    close(x.grad, np.ones(3))


def test_text():
    assert repr(gg.tensor([1.0, 2.5])) == "tensor([1.0000, 2.5000])"
    assert repr(gg.tensor([1, 2])) == "tensor([1, 2])"
    assert "requires_grad=True" in repr(leaf(2))
    assert "dtype=gpugrad.float64" in repr(leaf(2))
    assert "grad_fn=<MulBackward>" in repr(leaf(2) * 2)
    assert "size=(0, 3)" in repr(gg.tensor(np.ones((0, 3), np.float32)))
    assert "nan" in repr(gg.tensor([float("nan"), float("inf")]))


# Interchange


def test_numpy_shares_memory():
    t = gg.tensor(np.ones(3))
    array = t.numpy()
    array[0] = 5
    assert t[0].item() == 5
    assert np.asarray(t) is not None
    assert np.asarray(t, dtype=np.float32).dtype == np.float32
    with pytest.raises(RuntimeError, match=r"detach\(\)\.numpy\(\)"):
        leaf(2).numpy()
    assert leaf(2).numpy(force=True).shape == (2,)
    close(np.from_dlpack(t), t)
    with pytest.raises(BufferError):
        np.from_dlpack(leaf(2))


def test_arrays_and_numbers_mix_with_tensors(device):
    x, array = leaf(2, 3).to(device), values(2, 3, seed=1)
    pairs = [(x, 2), (2, x), (x, 1.5), (x, np.float64(1.5)), (np.float64(1.5), x)]
    if device == "cpu":
        pairs += [(x, array), (array, x)]
    for combine in (operator.add, operator.sub, operator.mul, operator.truediv, operator.pow):
        for a, b in pairs:
            out = combine(a, b)
            assert isinstance(out, gg.Tensor), (combine, type(a), type(b))
            assert out.requires_grad
            assert out.device == x.device
            close(out, combine(host(a) if isinstance(a, gg.Tensor) else a, host(b) if isinstance(b, gg.Tensor) else b))
    with pytest.raises(TypeError):
        x + "text"
    with pytest.raises(TypeError):
        x * None


@pytest.mark.parametrize("cuda", ACCELERATED)
def test_arrays_are_on_the_cpu(cuda):
    x, array = leaf(2, 2).to(cuda), values(2, 2, seed=1)
    for combine in (operator.add, operator.pow, operator.matmul, lambda a, b: gg.cat([a, b])):
        for a, b in ((x, array), (array, x)):
            with pytest.raises(TypeError, match="a tensor on cuda:0 with an array on cpu"):
                combine(a, b)


def test_a_cpu_tensor_without_dimensions_mixes_with_tensors_anywhere(device):
    weight, x = gg.tensor(2.0, requires_grad=True), gg.tensor([1.0, 3.0], device=device, requires_grad=True)
    loss = ((weight * x + gg.tensor(1.0)) ** 2).sum()
    assert loss.device == x.device
    loss.backward(gg.tensor(1.0))
    assert weight.grad.device == gg.device("cpu")
    assert weight.grad.item() == 48
    assert x.grad.tolist() == [12, 28]
    total = gg.tensor(0.0)
    if device != "cpu":
        with pytest.raises(RuntimeError, match="same device"):
            total += loss
        with pytest.raises(RuntimeError, match="same device"):
            x + gg.ones(1)
        with pytest.raises(RuntimeError, match="same device"):
            gg.ones(2) * x[0]


def test_operators_leave_what_they_do_not_know_to_the_other_operand():
    class Other:
        def __radd__(self, other):
            return "asked"

        __rsub__ = __rmul__ = __rtruediv__ = __rfloordiv__ = __rmod__ = __rpow__ = __rand__ = __radd__
        __lt__ = __gt__ = __le__ = __ge__ = __eq__ = __ne__ = __radd__

    x = gg.ones(2)
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "lt", "gt", "le", "ge", "eq", "ne"):
        assert getattr(operator, name)(x, Other()) == "asked", name
    with pytest.raises(TypeError, match="add"):
        gg.add(x, Other())


def test_copies():
    x = leaf(3)
    x.sum().backward()
    twin = copy.deepcopy(x)
    assert twin.requires_grad
    assert not np.shares_memory(twin.detach().numpy(), x.detach().numpy())
    close(twin.grad, x.grad)
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(x * 2)
    assert np.shares_memory(copy.copy(x).detach().numpy(), x.detach().numpy())
    again = pickle.loads(pickle.dumps(x))
    close(again, x, 0, 0)
    assert again.requires_grad
    assert pickle.loads(pickle.dumps(gg.tensor(1.5))).shape == ()


def test_conversions():
    x = gg.tensor([1.5, -2.5])
    assert x.to(gg.float32) is x
    assert x.to("cpu") is x
    assert x.to(gg.float64, copy=True).dtype == gg.float64
    assert x.to(x, copy=True) is not x
    assert x.double().dtype == gg.float64
    assert x.half().dtype == gg.float16
    assert x.long().tolist() == [1, -2]
    assert x.bool().tolist() == [True, True]
    assert x.to(gg.tensor([1])).dtype == gg.int64
    with pytest.raises(TypeError, match="unexpected argument"):
        x.to(colour="red")
    y = leaf(3)
    y.float().double().half().sum().backward()
    assert y.grad.dtype == gg.float64


# Promotion


def _operand(kind, dtype, lib):
    data = np.array([1, 1], bool if dtype == "bool" else dtype)
    if kind == "tensor":
        return lib.tensor(data)
    if kind == "0-d":
        return lib.tensor(data[0])
    return data[0].item()


@needs_torch
@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lt", "eq"])
def test_promotion_is_that_of_pytorch(name):
    combine = getattr(operator, name)
    for left in DTYPES:
        for right in DTYPES:
            for kinds in (
                ("tensor", "tensor"),
                ("tensor", "0-d"),
                ("0-d", "tensor"),
                ("0-d", "0-d"),
                ("tensor", "number"),
            ):
                theirs = [_operand(kind, dtype, torch) for kind, dtype in zip(kinds, (left, right), strict=True)]
                mine = [_operand(kind, dtype, gg) for kind, dtype in zip(kinds, (left, right), strict=True)]
                try:
                    expected = combine(*theirs)
                except RuntimeError:
                    continue
                found = combine(*mine)
                where = (name, left, right, kinds)
                assert found.dtype.name == str(expected.dtype).removeprefix("torch."), where
                np.testing.assert_array_equal(found.numpy(), expected.numpy(), err_msg=str(where))


def test_the_default_dtype_can_be_changed():
    try:
        gg.set_default_dtype(gg.float64)
        assert gg.tensor(1.5).dtype == gg.float64
        assert (gg.tensor([1, 2]) / 2).dtype == gg.float64
    finally:
        gg.set_default_dtype(gg.float32)
    assert gg.get_default_dtype() == gg.float32
    with pytest.raises(TypeError, match="floating-point"):
        gg.set_default_dtype(gg.int64)


# Broadcasting


@given(
    hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3, min_side=0),
    st.sampled_from(["add", "sub", "mul", "div"]),
)
def test_broadcasting(shapes, name):
    a, b = (gg.tensor(values(*shape, seed=k), requires_grad=True) for k, shape in enumerate(shapes.input_shapes))
    out = getattr(gg, name)(a, b)
    assert tuple(out.shape) == shapes.result_shape
    v, w = host(a), host(b)
    ufunc = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}[name]
    close(out, ufunc(v, w))
    start = values(*shapes.result_shape, seed=5)
    found = grad(out, [a, b], gg.tensor(start))
    left = {"add": start, "sub": start, "mul": start * w, "div": start / w}[name]
    right = {"add": start, "sub": -start, "mul": start * v, "div": -start * v / w**2}[name]
    for gradient, full, t in zip(found, (left, right), (a, b), strict=True):
        lead = full.ndim - t.ndim
        axes = tuple(range(lead)) + tuple(lead + i for i, n in enumerate(t.shape) if n == 1)
        close(gradient, full.sum(axes).reshape(t.shape))


@given(hnp.array_shapes(min_dims=0, max_dims=3, max_side=4), hnp.array_shapes(min_dims=0, max_dims=3, max_side=4))
def test_shapes_that_do_not_broadcast_are_named(first, second):
    try:
        np.broadcast_shapes(first, second)
    except ValueError:
        with pytest.raises(RuntimeError) as caught:
            gg.tensor(values(*first)) + gg.tensor(values(*second))
        assert str(first) in str(caught.value)
        assert str(second) in str(caught.value)


# Indexing


SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)


def _usable(index):
    """Whether PyTorch knows the index: no steps backward."""
    parts = index if isinstance(index, tuple) else (index,)
    return not any(isinstance(part, slice) and part.step is not None and part.step < 0 for part in parts)


def _as_index(index, convert):
    if isinstance(index, tuple):
        return tuple(_as_index(part, convert) for part in index)
    return convert(index) if isinstance(index, np.ndarray) else index


@st.composite
def indexed(draw):
    """A shape and an index for it: basic, advanced, a mask, or a mixture."""
    shape = draw(SHAPES)
    kind = draw(st.sampled_from(["basic", "advanced", "mask", "mixed"]))
    if kind == "basic":
        index = draw(hnp.basic_indices(shape, allow_newaxis=True).filter(_usable))
    elif kind == "mask":
        ndim = draw(st.integers(1, len(shape)))
        index = draw(hnp.arrays(bool, shape[:ndim]))
    elif kind == "advanced":
        count = draw(st.integers(1, len(shape)))
        broadcast = draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
        index = tuple(draw(hnp.arrays(np.int64, broadcast, elements=st.integers(-n, n - 1))) for n in shape[:count])
        index = tuple(np.asarray(part) for part in index)
    else:
        size = draw(st.integers(1, 3))
        parts = []
        for n in shape:
            choice = draw(st.sampled_from(["slice", "int", "array", "none"]))
            if choice == "none":
                parts.append(None)
                choice = "slice"
            if choice == "slice":
                parts.append(slice(draw(st.integers(0, n)), None, draw(st.sampled_from([None, 1, 2]))))
            elif choice == "int":
                parts.append(draw(st.integers(-n, n - 1)))
            else:
                parts.append(draw(hnp.arrays(np.int64, (size,), elements=st.integers(-n, n - 1))))
        index = tuple(parts)
    return shape, index


@given(indexed())
def test_reading_an_index(case):
    shape, index = case
    x = gg.tensor(values(*shape), requires_grad=True)
    out = x[_as_index(index, gg.tensor)]
    expected = host(x)[index]
    close(out, expected)
    close(x[_as_index(index, lambda array: array)], expected)
    parts = index if isinstance(index, tuple) else (index,)
    basic = not any(isinstance(part, np.ndarray) and (part.ndim or part.dtype == bool) for part in parts)
    assert out.numel() == 0 or np.shares_memory(host(out), host(x)) == basic
    start = values(*out.shape, seed=3)
    (found,) = grad(out, x, gg.tensor(start))
    full = np.zeros(shape)
    np.add.at(full, index, start)
    close(found, full)


@given(indexed(), st.booleans())
def test_writing_an_index(case, whole):
    shape, index = case
    x, array = gg.tensor(values(*shape), requires_grad=True), values(*shape)
    places = np.arange(array.size).reshape(shape)[index]
    unique = len(set(np.ravel(places).tolist())) == np.size(places)
    part = np.shape(places) if whole and unique else ()
    new = gg.tensor(values(*part, seed=4), requires_grad=True)
    y = x * 1
    y[_as_index(index, gg.tensor)] = new
    array[index] = host(new)
    close(y, array)
    start = values(*shape, seed=3)
    dx, dnew = grad(y, [x, new], gg.tensor(start))
    taken = start.copy()
    taken[index] = 0
    close(dx, taken)
    written = np.zeros(array.size, bool)
    written[np.ravel(places)] = True
    close(dnew, start[index].reshape(part) if part or np.ndim(places) == 0 else (start * written.reshape(shape)).sum())


@needs_torch
@given(indexed())
def test_second_gradients_of_indexing(case):
    shape, index = case
    x, t = gg.tensor(values(*shape), requires_grad=True), torch.tensor(values(*shape), requires_grad=True)
    results = []
    for lib, source, convert in ((gg.autograd, x, gg.tensor), (torch.autograd, t, torch.tensor)):
        out = source[_as_index(index, convert)]
        (first,) = lib.grad((out * out * out).sum(), source, create_graph=True)
        results.append(lib.grad((first * first).sum(), source)[0])
    close(results[0], results[1].numpy())


@pytest.mark.parametrize(
    ("index", "error"),
    [
        (5, IndexError),
        ((0, 0, 0), IndexError),
        (1.5, IndexError),
        (slice(None, None, -1), ValueError),
        ([True, False], IndexError),
        (gg.tensor([7]), IndexError),
        (gg.tensor([0.5]), IndexError),
        ("text", IndexError),
    ],
    ids=str,
)
def test_indices_that_do_not_fit(index, error):
    x = gg.tensor(np.ones((3, 4)))
    with pytest.raises(error):
        x[index]
    with pytest.raises(error):
        x[index] = 1.0
    close(x, np.ones((3, 4)))


def test_values_that_do_not_fit_an_index(device):
    x = gg.ones(3, 4, device=device)
    with pytest.raises(RuntimeError, match=r"\(3, 4\).*\(5,\)"):
        x[0] = gg.ones(5, device=device)
    x[0] = [1, 2, 3, 4]
    if device == "cpu":
        x[1, :2] = np.array([7, 8])
    else:
        with pytest.raises(RuntimeError, match="same device"):
            x[1, :2] = np.array([7, 8])
        x[1, :2] = 7
    x[x > 6] = gg.tensor(0)
    close(x, [[1, 2, 3, 4], [0, 0, 1, 1], [1, 1, 1, 1]])


# Shapes


@given(hnp.array_shapes(min_dims=0, max_dims=4, max_side=4), st.data())
def test_reshape_and_permute(shape, data):
    x = gg.tensor(values(*shape), requires_grad=True)
    order = tuple(data.draw(st.permutations(range(len(shape)))))
    turned = x.permute(order)
    assert np.shares_memory(host(turned), host(x))
    close(turned, host(x).transpose(order))
    sizes = data.draw(st.permutations(list(shape)))
    if sizes and data.draw(st.booleans()):
        sizes[data.draw(st.integers(0, len(sizes) - 1))] = -1
    out = turned.reshape(tuple(sizes))
    close(out, host(turned).reshape(tuple(sizes)))
    start = values(*out.shape, seed=2)
    (found,) = grad(out, x, gg.tensor(start))
    close(found, start.reshape([shape[i] for i in order]).transpose(np.argsort(order)))


@given(hnp.array_shapes(min_dims=1, max_dims=3, max_side=3), st.data())
def test_expand_and_sum_are_each_others_gradients(shape, data):
    small = tuple(1 if data.draw(st.booleans()) else n for n in shape)
    lead = data.draw(hnp.array_shapes(min_dims=0, max_dims=1, max_side=3))
    x = gg.tensor(values(*small), requires_grad=True)
    out = x.expand(*lead, *shape)
    close(out, np.broadcast_to(host(x), (*lead, *shape)))
    start = values(*lead, *shape, seed=2)
    (found,) = grad(out, x, gg.tensor(start))
    axes = tuple(range(len(lead))) + tuple(len(lead) + i for i, n in enumerate(small) if n == 1)
    close(found, start.sum(axes, keepdims=True).reshape(small))


# Reductions


@needs_torch
@given(
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    st.sampled_from(["sum", "mean", "prod", "amax", "amin", "logsumexp", "var", "std", "norm"]),
    st.booleans(),
    st.data(),
)
def test_reductions_over_any_dimensions(shape, name, keepdim, data):
    dims = data.draw(st.lists(st.integers(0, max(len(shape) - 1, 0)), unique=True, max_size=len(shape)))
    dims = [d - len(shape) if shape and data.draw(st.booleans()) else d for d in dims]
    if name == "prod":
        assume(dims)
        dims = dims[0]
    assume(dims != [])
    if name in ("var", "std"):
        reduced = np.prod([shape[d] for d in dims]) if shape else 1
        assume(reduced > 1)
    x, t = gg.tensor(values(*shape), requires_grad=True), torch.tensor(values(*shape), requires_grad=True)
    options = {"dim": dims, "keepdim": keepdim}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = getattr(t, name)(**options)
        except (RuntimeError, IndexError):
            return
    out = getattr(x, name)(**options)
    close(out, expected.detach().numpy())
    start = values(*out.shape, seed=2)
    (found,) = grad(out, x, gg.tensor(start))
    (other,) = torch.autograd.grad(expected, t, to_torch(start))
    close(found, other.numpy(), 1e-7)


@needs_torch
@given(
    hnp.array_shapes(min_dims=1, max_dims=3, max_side=4),
    st.sampled_from(["max", "min", "argmax", "argmin", "cumsum", "softmax", "log_softmax", "argsort", "flip"]),
    st.data(),
)
def test_functions_along_one_dimension(shape, name, data):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    x, t = gg.tensor(values(*shape), requires_grad=True), torch.tensor(values(*shape), requires_grad=True)
    out, expected = getattr(x, name)(dim), getattr(t, name)(dim)
    if name in ("max", "min"):
        close(out.indices, expected.indices.numpy())
        out, expected = out.values, expected.values
    close(out, expected.detach().numpy())
    if expected.requires_grad:
        start = (
            values(*shape, seed=2)[tuple(slice(n) for n in out.shape)] if out.ndim == len(shape) else values(*out.shape)
        )
        (found,) = grad(out, x, gg.tensor(start))
        close(found, torch.autograd.grad(expected, t, torch.tensor(start))[0].numpy())


@needs_torch
@given(st.data())
def test_matrix_products(data):
    shapes = data.draw(hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=2, max_side=3))
    a, b = (gg.tensor(values(*shape, seed=k), requires_grad=True) for k, shape in enumerate(shapes.input_shapes))
    t, u = (to_torch(x) for x in (a, b))
    out, expected = a @ b, t @ u
    close(out, expected.detach().numpy())
    start = values(*out.shape, seed=2)
    mine = grad(out, [a, b], gg.tensor(start))
    close(mine, [g.numpy() for g in torch.autograd.grad(expected, [t, u], torch.tensor(start))])
