"""Every registered op with every one of its samples: forward, gradients, dtypes, layouts, empties, memory.

Nothing here names an op: a new one is tested as soon as it is registered.
"""

import itertools

import numpy as np
import pytest
from helpers import (
    CASES,
    close,
    gradients,
    host,
    needs_torch,
    recorded,
    run_torch,
    samples_of,
    taped,
    torch,
    torch_function,
    wanting,
    weights,
)

import gpugrad as gg
from gpugrad.autograd import GradcheckError, gradcheck, gradgradcheck
from gpugrad.backend.quiet import quiet
from gpugrad.ops import METHODS, REGISTRY, core
from gpugrad.ops.pointwise import elementwise

# Ops that generated arguments cannot reach, and where they are tested instead.
WITHOUT_SAMPLES = {
    "view_scatter": "test_engine.py, by changing views in place",
    "to_device": "needs two devices",
}


def only(condition):
    """Run the decorated test for the cases that meet a condition."""

    def mark(test):
        test.cases = condition
        return test

    return mark


def differentiable(case):
    return case.differentiable


def derivative(case):
    """Whether the op's gradient is meant to be its derivative."""
    return case.differentiable and case.number not in case.op.tests.get("not_the_derivative", ())


def floating(outs):
    return [out for out in outs if out.is_floating_point()]


def bytes_of(inputs):
    return [host(t).tobytes() if isinstance(t, gg.Tensor) else t for t in inputs]


# The registry


def test_every_op_has_samples():
    missing = {op.name for op in REGISTRY.values() if not samples_of(op)}
    assert missing == set(WITHOUT_SAMPLES)


def test_every_op_is_differentiable_or_says_that_it_is_not():
    for op in REGISTRY.values():
        assert bool(op._rules or op._joint) == op.differentiable, op.name


@needs_torch
def test_every_op_names_a_counterpart_that_exists():
    for op in REGISTRY.values():
        torch_function(op)


@only(lambda case: case.number == 0)
def test_samples_are_the_same_each_time(case):
    first, second = case.inputs(), case.inputs()
    assert bytes_of(first) == bytes_of(second)


# Values


def test_float32_is_float64_rounded(case):
    exact = case.run(case.inputs(gg.float64))
    single = case.run(case.inputs(gg.float32))
    rtol = case.op.tests.get("rtol32", 2e-5)
    for a, b in zip(single, exact, strict=True):
        scale = np.abs(host(b)[np.isfinite(host(b))]).max(initial=1) if b.is_floating_point() else 0
        close(a, b, rtol, rtol * scale)


@needs_torch
@only(lambda case: case.op.torch is not None)
def test_results_and_gradients_are_those_of_pytorch(case):
    inputs = case.inputs()
    outs = case.run(inputs)
    theirs, expected = run_torch(case, inputs)
    assert len(outs) == len(expected)
    for a, b in zip(outs, expected, strict=True):
        assert a.dtype.name == str(b.dtype).removeprefix("torch.")
        close(a, b.detach().numpy(), 1e-7, 1e-9)
    if wanting(inputs):
        assert [out.requires_grad for out in outs] == [out.requires_grad for out in expected]
        sources = [t for t in theirs if torch.is_tensor(t) and t.requires_grad]
        starts = [torch.tensor(host(w)) for w in weights(outs)]
        found = torch.autograd.grad([out for out in expected if out.requires_grad], sources, starts, allow_unused=True)
        for mine, other, t in zip(gradients(outs, inputs), found, wanting(inputs), strict=True):
            other = torch.zeros(tuple(t.shape)) if other is None else other
            mine = np.zeros(tuple(t.shape)) if mine is None else mine
            close(mine, other.numpy(), 1e-7, 1e-9)


@needs_torch
@only(lambda case: case.op.torch is not None and case.elementwise)
@pytest.mark.parametrize("dtype", ["float16", "int64", "int32", "uint8", "bool"])
def test_results_in_other_dtypes_are_those_of_pytorch(case, dtype):
    if dtype in case.op.tests.get("not_in", ()):
        return
    inputs = case.inputs(grad=False)
    if not all(np.isfinite(host(t)).all() for t in inputs if isinstance(t, gg.Tensor)):
        return
    inputs = [
        gg.tensor(np.abs(host(t)).astype(dtype), device=t.device)
        if isinstance(t, gg.Tensor) and t.is_floating_point()
        else t
        for t in inputs
    ]
    try:
        _, expected = run_torch(case, inputs)
    except (RuntimeError, TypeError):
        return
    outs = case.run(inputs)
    for a, b in zip(outs, expected, strict=True):
        assert a.dtype.name == str(b.dtype).removeprefix("torch.")
        rtol = {"float16": 4e-3, "float32": 1e-5}.get(a.dtype.name, 0)
        close(a, b.numpy(), rtol, rtol)


SPECIAL = [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0, np.inf, -np.inf, np.nan]


def _replaceable(t):
    return isinstance(t, gg.Tensor) and t.is_floating_point() and t.ndim > 0


def _agree_where_pytorch_is_sure(mine, theirs, sure):
    """Equal where ``sure``, and wherever PyTorch does not make NaN out of numbers."""
    mine, theirs = host(mine), theirs.detach().numpy()
    unknown = np.isnan(theirs) & ~sure
    close(np.where(unknown, 0, mine), np.where(unknown, 0, theirs), 1e-7, 1e-9)


@needs_torch
@only(lambda case: case.elementwise and case.op.torch is not None and any(map(_replaceable, case.sample[: case.count])))
def test_special_values_and_ties_are_treated_as_in_pytorch(case):
    """Zeros of either sign, infinities, NaN and equal operands, all against all."""
    inputs = case.inputs()
    places = [k for k, t in enumerate(inputs) if _replaceable(t)]
    grid = [x.ravel() for x in np.meshgrid(*[SPECIAL] * len(places), indexing="ij")]
    grid = [np.where(np.isin(x, case.op.tests.get("poles", ())), 0.5, x) for x in grid]
    nan = np.any([np.isnan(x) for x in grid], axis=0)
    for k, t in enumerate(inputs):
        if k in places:
            inputs[k] = gg.tensor(grid[places.index(k)], requires_grad=t.requires_grad, device=case.device)
        elif isinstance(t, gg.Tensor) and t.ndim:
            inputs[k] = gg.tensor(np.arange(grid[0].size) % 3 == 0, device=case.device)
    outs = case.run(inputs)
    theirs, expected = run_torch(case, inputs)
    for a, b in zip(outs, expected, strict=True):
        _agree_where_pytorch_is_sure(a, b, nan)
    if recorded(outs):
        ones = [np.ones(tuple(out.shape)) for out in outs]
        found = gg.autograd.grad(
            recorded(outs), wanting(inputs), [gg.tensor(one, device=case.device) for one in ones], allow_unused=True
        )
        sources = [t for t in theirs if torch.is_tensor(t) and t.requires_grad]
        others = torch.autograd.grad(expected, sources, list(map(torch.tensor, ones)), allow_unused=True)
        for mine, other in zip(found, others, strict=True):
            if other is not None and other.ndim:
                # The gradient at NaN is NaN for some, for others that of the branch not taken.
                _agree_where_pytorch_is_sure(np.where(nan, 0, host(mine)), other.where(~torch.tensor(nan), 0), nan)


def test_raw_and_recorded_calls_compute_the_same(case):
    inputs = case.inputs(grad=False)
    outs = case.run(inputs)
    if case.elementwise:
        dtype = case.op.working_dtype([t for t in core.as_tensors(case.op.name, inputs) if t is not None])
        inputs = [
            t.to(dtype) if dtype is not None and isinstance(t, gg.Tensor) and t.is_floating_point() else t
            for t in inputs
        ]
    with quiet():
        arrays = case.op.on_arrays(*[t._data if isinstance(t, gg.Tensor) else t for t in inputs], *case.params)
    arrays = list(arrays) if isinstance(arrays, tuple | list) else [arrays]
    assert getattr(taped, case.op.name) is case.op
    for a, b in zip(outs, arrays, strict=True):
        b = np.asarray(b) if case.device == "cpu" else b
        assert a.dtype == b.dtype
        close(a, b, 0, 0)


@only(lambda case: case.op.fused)
def test_fused_kernels_compute_what_the_generic_forward_does(case):
    for dtype in (gg.float32, gg.float64):
        inputs = case.inputs(dtype)
        rtol = 1e-5 if dtype == gg.float32 else 1e-12
        outs = case.run(inputs)
        found = gradients(outs, inputs)
        with core.fusion(False):
            plain = case.run(inputs)
            close(outs, plain, rtol, rtol)
            close(found, gradients(plain, inputs), rtol, rtol)


# Gradients


@only(derivative)
def test_gradients_agree_with_differences(case):
    inputs = case.inputs()
    assert gradcheck(lambda *args: tuple(floating(case.run(args))), inputs, check_grad_dtypes=True)


@only(derivative)
def test_second_gradients_agree_with_differences(case):
    inputs = case.inputs()
    if recorded(case.run(inputs)):
        assert gradgradcheck(lambda *args: tuple(floating(case.run(args))), inputs, atol=2e-5)


@only(differentiable)
def test_recorded_backward_computes_the_same(case):
    inputs = case.inputs()
    outs = case.run(inputs)
    close(gradients(outs, inputs, create_graph=True), gradients(outs, inputs), 1e-12, 1e-12)


@only(differentiable)
def test_what_is_saved_may_be_packed(case):
    inputs = case.inputs()
    gg.manual_seed(0)
    expected = gradients(case.run(inputs), inputs)
    packed, unpacked = [], []

    def pack(t):
        packed.append(t.shape)
        return t.detach().clone()

    def unpack(kept):
        unpacked.append(kept.shape)
        return kept

    gg.manual_seed(0)
    with gg.autograd.graph.saved_tensors_hooks(pack, unpack):
        outs = case.run(inputs)
    assert not unpacked
    close(gradients(outs, inputs), expected, 0, 0)
    assert sorted(unpacked) == sorted(packed)


@only(lambda case: case.differentiable and len(wanting(case.inputs())) > 1)
def test_the_same_tensor_given_twice(case):
    inputs = case.inputs()
    first, *others = wanting(inputs)
    twin = next((t for t in others if t.shape == first.shape), None)
    if twin is None:
        return
    position = next(k for k, t in enumerate(inputs) if t is twin)
    apart = [first if t is first else first.detach().clone().requires_grad_() if t is twin else t for t in inputs]
    outs = case.run(apart)
    separate = gg.autograd.grad(recorded(outs), [first, apart[position]], weights(outs), allow_unused=True)
    together = [first if t is twin else t for t in inputs]
    outs = case.run(together)
    (found,) = gg.autograd.grad(recorded(outs), [first], weights(outs))
    close(found, sum(host(g) for g in separate if g is not None))


@only(lambda case: case.differentiable and len(wanting(case.inputs())) > 1)
def test_nothing_is_computed_or_saved_for_inputs_that_need_no_gradient(case, monkeypatch):
    op = case.op
    inputs = case.inputs()
    every = [i for i, t in enumerate(inputs) if isinstance(t, gg.Tensor) and t.requires_grad]
    full = dict(zip(every, gradients(case.run(inputs), inputs), strict=True))
    asked = []

    def watched(rule):
        def run(F, g, wanted, *saved):
            answers = list(rule(F, g, wanted, *saved))
            asked.append((list(wanted), [answer is not None for answer in answers]))
            return answers

        return run

    for chosen in itertools.chain(*(itertools.combinations(every, n) for n in range(1, len(every)))):
        partial = [t.detach().requires_grad_(i in chosen) if i in every else t for i, t in enumerate(inputs)]
        outs = case.run(partial)
        node = recorded(outs)[0].grad_fn
        if op._joint:
            ((i, rule, needs),) = node.plan.rules
            monkeypatch.setattr(node.plan, "rules", ((i, watched(rule), needs),))
        else:
            assert {i for i, _, _ in node.plan.rules} <= set(chosen)
            needed = {name for i in chosen for name in op._rules.get(op.inputs[i], (None, ()))[1]}
            if "aux" not in needed:
                assert {op.inputs[i] for i in node.plan.saved_inputs} <= needed
        found = gradients(outs, partial)
        monkeypatch.undo()
        close(found, [full[i] for i in chosen], 1e-12, 1e-12)
    assert asked or not op._joint
    for wanted, answered in asked:
        assert all(w or not a for w, a in zip(wanted, answered, strict=True)), (
            "the joint rule computed an unwanted gradient"
        )


def _registered(name, rule, forward=None):
    @elementwise(name=name, public=False, samples=lambda t: [(t(2, 3),)], torch=None)
    def op(xp, input, /):
        return xp.multiply(input, input * input)

    op.rules(input=rule)
    return op


def test_a_parameter_cannot_have_the_name_of_what_rules_are_given():
    @core.op(name="deliberate", samples=lambda t: [(t(2, 3), 2.0)], torch=None)
    def op(xp, input, /, out):
        return xp.multiply(input, out)

    try:
        with pytest.raises(TypeError, match="'out'"):
            op.rules(input=lambda F, g, out: g * out)
    finally:
        del REGISTRY["deliberate"]


@pytest.mark.parametrize(
    ("rule", "first_order"),
    [
        (lambda F, g, input: 2 * g * input * input, False),
        (lambda F, g, input: g, False),
        (lambda F, g, input: 3 * g * g * input * input, False),
        (lambda F, g, input: 3 * input * input + 0 * g, False),
        (lambda F, g, input: g * F.constant(3 * F.array(input) ** 2), True),
        (lambda F, g, input: g * (3 * input * input), None),
    ],
)
def test_a_wrong_rule_is_caught(rule, first_order):
    op = _registered("deliberate", rule)
    try:
        x = gg.tensor(np.linspace(0.3, 1.7, 6).reshape(2, 3), requires_grad=True)
        if first_order is None:
            assert gradcheck(op, x)
            assert gradgradcheck(op, x)
        elif first_order:
            assert gradcheck(op, x)
            with pytest.raises(GradcheckError, match=r"expected to be zero|Jacobian mismatch"):
                gradgradcheck(op, x)
        else:
            with pytest.raises(GradcheckError, match=r"Jacobian mismatch|not multiplied by grad_output"):
                gradcheck(op, x)
    finally:
        del REGISTRY["deliberate"]


# Dtypes, layouts, shapes


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_dtypes_are_kept(case, dtype):
    if not case.op.tests.get(dtype, True):
        return
    dtype = np.dtype(dtype)
    inputs = case.inputs(dtype)
    expected = case.run(case.inputs(gg.float64, grad=False))
    outs = case.run(inputs)
    changes_dtype = any(isinstance(p, np.dtype) for p in case.params) or not any(
        isinstance(t, gg.Tensor) and t.is_floating_point() for t in inputs
    )
    for out, exact in zip(outs, expected, strict=True):
        assert isinstance(out._data, np.ndarray) or case.device != "cpu"
        if exact.is_floating_point() and not changes_dtype:
            assert out.dtype == dtype
    if dtype == gg.float16:
        for out, exact in zip(floating(outs), floating(expected), strict=True):
            scale = np.abs(host(exact)[np.isfinite(host(exact))]).max(initial=1)
            close(out, exact, 2e-2, 2e-2 * scale)
    if recorded(outs):
        for t, gradient in zip(wanting(inputs), gradients(outs, inputs), strict=True):
            if gradient is not None:
                assert gradient.dtype == dtype
                assert gradient.shape == t.shape


def _strided(array):
    return np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array


def _reversed_axes(array):
    return np.array(array, order="F")


def _offset(array):
    buffer = np.full((array.ndim and array.shape[0] + 1, *array.shape[1:]), 7, array.dtype) if array.ndim else None
    if buffer is None:
        return array
    buffer[1:] = array
    return buffer[1:]


@pytest.mark.parametrize("layout", [_strided, _reversed_axes, _offset])
def test_layout_does_not_matter_and_inputs_are_left_alone(case, layout):
    plain, inputs = case.inputs(), case.inputs(change=layout)
    before = bytes_of(inputs)
    outs, expected = case.run(inputs), case.run(plain)
    assert bytes_of(inputs) == before
    close(outs, expected, 1e-12, 1e-14)
    if recorded(outs):
        found = gradients(outs, inputs)
        assert bytes_of(inputs) == before
        close(found, gradients(expected, plain), 1e-12, 1e-14)


@only(differentiable)
def test_gradients_do_not_depend_on_the_layout_of_what_arrives(case):
    inputs = case.inputs()
    outs = case.run(inputs)
    if not recorded(outs):
        return
    straight = weights(outs)
    turned = [gg.Tensor._wrap(_reversed_axes(host(w))) if case.device == "cpu" else w for w in straight]
    before = bytes_of(turned)
    options = {"retain_graph": True, "allow_unused": True}
    expected = gg.autograd.grad(recorded(outs), wanting(inputs), straight, **options)
    close(gg.autograd.grad(recorded(outs), wanting(inputs), turned, **options), expected, 1e-12, 1e-14)
    assert bytes_of(turned) == before


def _emptied(inputs, axis):
    """The inputs with no elements along one axis of the first (and the same axis of those that match it)."""
    first = next(t for t in inputs if isinstance(t, gg.Tensor))
    if axis >= first.ndim:
        return None
    size = first.shape[axis]

    def cut(t):
        if not isinstance(t, gg.Tensor) or t.ndim <= axis or t.shape[axis] != size:
            return t
        array = np.take(host(t), np.arange(0), axis=axis)
        return gg.tensor(array, device=t.device).requires_grad_(t.requires_grad)

    return [cut(t) for t in inputs]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_empty_tensors(case, axis):
    inputs = _emptied(case.inputs(), axis)
    if inputs is None or axis not in case.op.tests.get("empty", (0, 1, 2)):
        return
    expected = None
    if torch is not None and case.op.torch is not None:
        try:
            _, expected = run_torch(case, inputs)
        except Exception:
            return
    try:
        outs = case.run(inputs)
        found = gradients(outs, inputs) if recorded(outs) else [None] * len(wanting(inputs))
    except (RuntimeError, IndexError, ValueError, TypeError):
        assert expected is None, "PyTorch computes this"
        return
    if expected is not None:
        close(outs, [out.detach().numpy() for out in expected])
    for t, gradient in zip(wanting(inputs), found, strict=True):
        if gradient is not None:
            assert gradient.shape == t.shape


@only(lambda case: case.elementwise)
def test_elementwise_ops_of_0d_tensors_are_0d(case):
    inputs = case.inputs(change=lambda array: array.reshape(-1)[:1].reshape(()))
    inputs = [t.reshape(-1)[0] if isinstance(t, gg.Tensor) and t.ndim else t for t in inputs]
    outs = case.run(inputs)
    for out in outs:
        assert out.shape == ()
        assert hasattr(out._data, "strides")
        assert not isinstance(out._data, np.generic)
    if recorded(outs):
        for gradient in gradients(outs, inputs):
            assert gradient.shape == ()
            assert not isinstance(gradient._data, np.generic)


@only(lambda case: case.elementwise and f"{case.op.name}_" in METHODS and case.op.inplace)
def test_in_place_versions_compute_the_same(case):
    inputs = case.inputs()
    if not isinstance(inputs[0], gg.Tensor):
        return
    expected = case.run(inputs)[0]
    if expected.shape != inputs[0].shape or expected.dtype != inputs[0].dtype:
        return
    target = inputs[0].clone()
    result = getattr(target, f"{case.op.name}_")(*inputs[1:], **dict(zip(case.op.params, case.params, strict=True)))
    assert result is target
    close(target, expected, 0, 0)
    if expected.requires_grad:
        close(gradients([target], inputs), gradients([expected], inputs), 1e-12, 1e-12)


@only(differentiable)
def test_gradients_reach_neither_inputs_nor_each_other(case):
    """No two gradients share memory, and none is an input's or the arriving gradient's."""
    inputs = case.inputs()
    outs = case.run(inputs)
    if not recorded(outs):
        return
    starts = weights(outs)
    gg.autograd.backward(recorded(outs), starts)
    arrays = [t.grad._data for t in wanting(inputs) if t.grad is not None]
    others = [t._data for t in (*inputs, *outs, *starts) if isinstance(t, gg.Tensor)]
    if case.device == "cpu":
        for a, b in (*itertools.combinations(arrays, 2), *itertools.product(arrays, others)):
            assert not np.shares_memory(a, b)


def test_cases_were_made():
    assert len(CASES) > 20
