"""Functions written by a user, gradient checks, and derivatives of whole functions."""

import contextlib
import gc
import weakref

import numpy as np
import pytest
from helpers import close, needs_torch, on_every_device, torch

import gpugrad as gg
from gpugrad.autograd import Function, GradcheckError, Variable, functional, grad, gradcheck, gradgradcheck, graph
from gpugrad.autograd.function import once_differentiable
from gpugrad.utils.checkpoint import checkpoint


def leaf(*shape, seed=0):
    return gg.tensor(np.random.default_rng(seed).uniform(0.5, 1.5, shape), requires_grad=True)


# Function


class Product(Function):
    @staticmethod
    def forward(ctx, x, y, scale=1.0):
        ctx.save_for_backward(x, y)
        ctx.scale = scale
        return x * y * scale

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y * ctx.scale, g * x * ctx.scale, None


class Apart(Function):
    """As Product, with its context set up apart."""

    @staticmethod
    def forward(x, y):
        return x * y

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y, g * x


def returning(answer, result=lambda x, y: x * y):
    """A function of two arguments with a given backward."""

    class Returning(Function):
        @staticmethod
        def forward(ctx, x, y):
            return result(x, y)

        @staticmethod
        def backward(ctx, *g):
            return answer(ctx, *g)

    return Returning


@on_every_device
@pytest.mark.parametrize("function", [Product, Apart])
def test_a_function_is_recorded(function):
    x, y = leaf(2, 3), leaf(2, 3, seed=1)
    out = function.apply(x, y)
    assert repr(out.grad_fn) == f"<{function.__name__}Backward>"
    assert len(out.grad_fn.saved_tensors) == 2
    out.sum().backward()
    close(x.grad, y)
    close(y.grad, x)
    assert gradcheck(function.apply, (x, y))
    assert gradgradcheck(function.apply, (x, y))


def test_plain_arguments_get_no_gradient():
    x, y = leaf(3), leaf(3, seed=1)
    Product.apply(x, y, 5.0).sum().backward()
    close(x.grad, 5 * y.detach().cpu().numpy())
    x.grad = None
    Product.apply(x, y=y, scale=2.0).sum().backward()
    close(x.grad, 2 * y.detach().cpu().numpy())


def test_the_same_tensor_twice():
    x = leaf(3)
    (found,) = grad(Product.apply(x, x).sum(), x)
    close(found, 2 * x.detach().cpu().numpy())


def test_nothing_is_recorded_without_need():
    x = gg.tensor(np.ones(3))
    assert not Product.apply(x, x).requires_grad
    with gg.no_grad():
        assert not Product.apply(leaf(3), x).requires_grad


def test_needs_input_grad_says_what_is_wanted():
    seen = []

    def answer(ctx, g):
        seen.append(ctx.needs_input_grad)
        return g, g

    function = returning(answer, lambda x, y: x + y)
    x, y = leaf(3), leaf(3)
    function.apply(x, y.detach()).sum().backward()
    out = function.apply(x, y).sum()
    grad(out, y, retain_graph=True)
    out.backward()
    assert seen == [(True, False), (False, True), (True, True)]


@on_every_device
def test_several_outputs():
    class Parts(Function):
        @staticmethod
        def forward(ctx, x):
            positive = x > 1
            ctx.mark_non_differentiable(positive)
            ctx.save_for_backward(x)
            return x * 2, positive, x * x, 5

        @staticmethod
        def backward(ctx, double, positive, square, five):
            assert five is None
            assert not positive.cpu().numpy().any()
            (x,) = ctx.saved_tensors
            return 2 * double + 2 * x * square

    x = leaf(4)
    double, positive, square, five = Parts.apply(x)
    assert five == 5
    assert positive.dtype == gg.bool
    assert not positive.requires_grad
    double.sum().backward(retain_graph=True)
    close(x.grad, np.full(4, 2.0))
    x.grad = None
    (double + square).sum().backward()
    close(x.grad, 2 + 2 * x.detach().cpu().numpy())
    assert gradcheck(Parts.apply, leaf(2))
    assert gradgradcheck(Parts.apply, leaf(2))


def test_gradients_that_did_not_arrive():
    seen = []

    class Two(Function):
        @staticmethod
        def forward(ctx, x, zeros):
            ctx.set_materialize_grads(zeros)
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, first, second):
            seen.append(second)
            return 2 * first, None

    for zeros in (True, False):
        Two.apply(leaf(3), zeros)[0].sum().backward()
    close(seen[0], np.zeros(3))
    assert seen[1] is None


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda ctx, g: g, r"incorrect number of gradients \(expected 2, got 1\)"),
        (lambda ctx, g: (g, g, g), r"incorrect number of gradients \(expected 2, got 3\)"),
        (
            lambda ctx, g: (g[:1], g),
            r"invalid gradient at index 0 - got \[1, 3\] but expected shape compatible with \[2, 3\]",
        ),
        (
            lambda ctx, g: (g, g.sum()),
            r"invalid gradient at index 1 - got \[\] but expected shape compatible with \[2, 3\]",
        ),
        (lambda ctx, g: (g, 3.0), "expected a tensor or None as gradient 1, but got float"),
        (lambda ctx, g: (g.mul_(2), g), "changed the gradient it was given in place"),
    ],
)
def test_what_backward_returns_is_checked(answer, message):
    with pytest.raises(RuntimeError, match=message):
        returning(answer).apply(leaf(2, 3), leaf(2, 3)).backward(gg.tensor(np.ones((2, 3))))


def test_a_gradient_for_a_plain_argument_is_refused():
    with pytest.raises(RuntimeError, match="different than None at position 2"):
        returning(lambda ctx, g: (g, g)).apply(leaf(3), 2.0).sum().backward()


def test_gradients_are_fitted_to_their_inputs():
    x = gg.tensor(np.ones((2, 3), np.float32), requires_grad=True)
    function = returning(lambda ctx, g: (g.double().expand(4, 2, 3), None, None))
    function.apply(x, 2.0).sum().backward()
    assert x.grad.dtype == gg.float32
    close(x.grad, np.full((2, 3), 4.0))


def test_one_gradient_for_two_inputs_is_not_shared():
    x, y = leaf(3), leaf(3)
    returning(lambda ctx, g: (g, g), lambda x, y: x + y).apply(x, y).sum().backward()
    x.grad.zero_()
    close(y.grad, np.ones(3))


def test_missing_methods():
    class Silent(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

    with pytest.raises(NotImplementedError, match="backward"):
        Silent.apply(leaf(3)).sum().backward()
    with pytest.raises(NotImplementedError, match="forward"):
        Function.apply(leaf(3))
    with pytest.raises(RuntimeError, match=r"apply"):
        Silent()(leaf(3))
    with pytest.raises(TypeError, match="tuple of tensors"):
        returning(None, lambda x, y: [x, y]).apply(leaf(3), 2.0)


def test_saved_tensors_are_freed_and_checked():
    x = leaf(3) * 1
    out = Product.apply(x, x)
    out.sum().backward(retain_graph=True)
    out.sum().backward()
    with pytest.raises(RuntimeError, match=r"second time.*retain_graph=True"):
        out.sum().backward()
    out = Product.apply(x, x)
    x.add_(1)
    with pytest.raises(RuntimeError, match=r"modified by an inplace operation.*\(3,\).*ProductBackward.*version 1"):
        out.sum().backward()
    with pytest.raises(TypeError, match="argument 1 is of type int"):
        Product_with_wrong_save.apply(leaf(3))


class Product_with_wrong_save(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x, 3)


class Exp(Function):
    @staticmethod
    def forward(ctx, x):
        out = x.exp()
        ctx.save_for_backward(out, None)
        return out

    @staticmethod
    def backward(ctx, g):
        out, nothing = ctx.saved_tensors
        assert nothing is None
        return g * out


def test_a_saved_output_is_differentiable_and_makes_no_cycle():
    x = leaf(3)
    assert gradcheck(Exp.apply, x)
    assert gradgradcheck(Exp.apply, x)
    v, y = np.exp(x.detach().cpu().numpy()), Exp.apply(x)
    for _ in range(3):
        (y,) = grad(y.sum(), x, create_graph=True)
        close(y, v)
    gc.collect()
    gc.disable()
    try:
        out = Exp.apply(x)
        watched = weakref.ref(out._data), weakref.ref(out.grad_fn)
        del out
        assert [r() for r in watched] == [None, None]
    finally:
        gc.enable()
    out = Exp.apply(x)
    with gg.no_grad():
        out.add_(1)
    with pytest.raises(RuntimeError, match="inplace operation"):
        out.sum().backward()


class AddOne(Function):
    @staticmethod
    def forward(ctx, x):
        x.add_(1)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx, g):
        return g * 7


@on_every_device
def test_functions_that_work_in_place():
    x = leaf(2, 2)
    y = x * 1
    assert AddOne.apply(y) is y
    y.sum().backward()
    close(x.grad, np.full((2, 2), 7.0))
    x.grad = None
    base = x * 1
    AddOne.apply(base[0])
    base.sum().backward()
    close(x.grad, [[7, 7], [1, 1]])
    with pytest.raises(RuntimeError, match="leaf"):
        AddOne.apply(leaf(2))


def test_a_dirty_input_must_be_returned():
    class Lost(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)
            return x * 2

    with pytest.raises(RuntimeError, match="must be one of its outputs"):
        Lost.apply(leaf(3) * 1)


@on_every_device
@pytest.mark.parametrize("same", [lambda x: x, lambda x: x.reshape(x.shape), lambda x: x[:]])
def test_an_input_given_back_is_a_tensor_of_its_own(same):
    reverse = returning(lambda ctx, g: (-g, None), lambda x, y: same(x))
    x = leaf(3)
    y = x * 2
    z = reverse.apply(y, None)
    assert z is not y
    y += 5
    (y + z * 3).sum().backward()
    close(z, 2 * x.detach().cpu().numpy())
    close(x.grad, np.full(3, 2 - 6.0))


@on_every_device
def test_once_differentiable():
    class Cubed(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        @once_differentiable
        def backward(ctx, g):
            assert not gg.is_grad_enabled()
            (x,) = ctx.saved_tensors
            return 3 * x * x * g

    x = leaf(3)
    assert gradcheck(Cubed.apply, x)
    (first,) = grad(Cubed.apply(x).sum(), x, create_graph=True)
    close(first, 3 * x.detach().cpu().numpy() ** 2)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad(first.sum(), x)


def test_a_backward_may_run_a_backward():
    class Checkpoint(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return (x * x).exp()

        @staticmethod
        def backward(ctx, g):
            x = ctx.saved_tensors[0].detach().requires_grad_()
            with gg.enable_grad():
                out = (x * x).exp()
            out.backward(g)
            return x.grad

    x = leaf(3)
    Checkpoint.apply(x * 2).sum().backward()
    v = x.detach().cpu().numpy()
    close(x.grad, np.exp(4 * v * v) * 8 * v)


def test_context_attributes_may_have_any_name():
    class Named(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.shape, ctx.dtype, ctx.name, ctx.parents, ctx.outputs = x.shape, x.dtype, "mine", 3, 4
            return x * 2

        @staticmethod
        def backward(ctx, g):
            assert (ctx.name, ctx.parents, ctx.outputs) == ("mine", 3, 4)
            return (g * 2).reshape(ctx.shape)

    x = leaf(2, 3)
    Named.apply(x).sum().backward()
    close(x.grad, np.full((2, 3), 2.0))


def test_anomaly_mode_names_a_function():
    function = returning(lambda ctx, g: (g * float("nan"), None))
    with gg.autograd.detect_anomaly():
        out = function.apply(leaf(3), 2.0).sum()
        with pytest.raises(RuntimeError, match=r"ReturningBackward[\s\S]*test_autograd.py"):
            out.backward()


# Checks against differences


def test_gradcheck_takes_any_layout_and_leaves_inputs_alone():
    x, y = gg.tensor(np.arange(12.0).reshape(3, 4) / 7), gg.tensor(np.arange(12.0).reshape(3, 4) / 5)
    turned = x.T.detach().requires_grad_()
    strided = y[:, ::2].detach().requires_grad_()
    before = x.numpy().tobytes() + y.numpy().tobytes()
    assert gradcheck(lambda a, b: (a * a).sum() + b.exp(), (turned, strided))
    assert x.numpy().tobytes() + y.numpy().tobytes() == before
    assert turned.grad is None


def test_gradcheck_of_several_outputs_and_plain_arguments():
    assert gradcheck(lambda a, n, b: (a * n, b.sum(), n, (a > 1)), (leaf(3), 2, leaf(2)))
    assert gradgradcheck(lambda a, b: (a * b, a * a), (leaf(3), leaf(3)), gen_non_contig_grad_outputs=True)


def test_what_gradcheck_finds():
    wrong = returning(lambda ctx, g: (g, g * 2)).apply
    with pytest.raises(
        GradcheckError, match=r"Jacobian mismatch for output 0 with respect to input 0,\nnumerical:[\s\S]*analytical:"
    ):
        gradcheck(wrong, (leaf(2), leaf(2)))
    assert gradcheck(wrong, (leaf(2), leaf(2)), raise_exception=False) is False
    with pytest.raises(GradcheckError, match="expected to be zero"):
        gradcheck(lambda x: x.detach() * 2, leaf(2))
    with pytest.raises(GradcheckError, match="not multiplied by grad_output"):
        gradcheck(returning(lambda ctx, g: (gg.tensor(np.ones(1)), None), lambda x, y: x * 1).apply, (leaf(1), 1.0))
    noise = iter(range(100))
    with pytest.raises(GradcheckError, match="not reentrant"):
        gradcheck(returning(lambda ctx, g: (g + 1e-9 * next(noise), None), lambda x, y: x * 1).apply, (leaf(1), None))
    assert gradcheck(
        returning(lambda ctx, g: (g + 1e-9 * next(noise) * g, None), lambda x, y: x * 1).apply,
        (leaf(1), None),
        nondet_tol=1e-3,
    )


def test_what_gradcheck_refuses():
    with pytest.raises(ValueError, match="at least one input tensor to require gradient"):
        gradcheck(gg.exp, gg.tensor(np.ones(2)))
    overlapping = gg.tensor(np.ones(1)).expand(3).detach().requires_grad_()
    with pytest.raises(RuntimeError, match="stride 0"):
        gradcheck(gg.exp, overlapping)
    with pytest.warns(UserWarning, match="not a double precision"):
        gradcheck(lambda x: x * 2, gg.tensor([0.5], requires_grad=True), eps=1e-2, atol=1e-2)
    with pytest.raises(ValueError, match="reverse-mode"):
        gradcheck(gg.exp, leaf(2), check_forward_ad=True)


# Variable


def test_variable_is_a_tensor():
    x = leaf(3)
    v = Variable(x)
    assert isinstance(v, gg.Tensor)
    assert isinstance(x, Variable)
    assert not v.requires_grad
    assert np.shares_memory(v.numpy(), x.detach().cpu().numpy())
    assert Variable(x, requires_grad=True).is_leaf
    with pytest.raises(TypeError, match="has to be a tensor"):
        Variable([1.0])
    with pytest.warns(UserWarning, match="volatile"):
        Variable(x, volatile=True)


# Whole derivatives


def _pair(a, b):
    return a * b.sum(), (a.exp() * b[0]).sum()


@on_every_device
@needs_torch
def test_jacobians_are_those_of_pytorch():
    a, b = np.random.default_rng(0).uniform(0.5, 1.5, (2, 3)), np.arange(1.0, 5)
    mine = functional.jacobian(_pair, (gg.tensor(a), gg.tensor(b)))
    theirs = torch.autograd.functional.jacobian(_pair, (torch.tensor(a), torch.tensor(b)))
    for row, other in zip(mine, theirs, strict=True):
        close(row, [t.numpy() for t in other])
    one = functional.jacobian(lambda x: x * x, gg.tensor(a))
    assert tuple(one.shape) == (2, 3, 2, 3)
    assert not one.requires_grad


@on_every_device
@needs_torch
def test_hessians_and_products_are_those_of_pytorch():
    a, v = np.random.default_rng(0).uniform(0.5, 1.5, (2, 4)), np.linspace(-1, 1, 4)

    def cubic(x):
        return (x**3).sum() * x[0]

    def vector(x):
        return x * x.sum()

    other = torch.autograd.functional
    x, t, direction, its = gg.tensor(a[0]), torch.tensor(a[0]), gg.tensor(v), torch.tensor(v)
    close(functional.hessian(cubic, x), other.hessian(cubic, t).numpy())
    for name, func in (("vjp", vector), ("jvp", vector), ("vhp", cubic), ("hvp", cubic)):
        mine = getattr(functional, name)(func, x, direction)
        theirs = getattr(other, name)(func, t, its)
        close(list(mine), [part.numpy() for part in theirs])


@on_every_device
def test_jacobians_can_be_differentiated_again():
    x = leaf(3)
    (found,) = grad(functional.jacobian(lambda t: t**3, x, create_graph=True).sum(), x)
    close(found, 6 * x.detach().cpu().numpy())


@on_every_device
def test_what_derivatives_of_functions_refuse():
    x = leaf(3)
    with pytest.raises(TypeError, match="given inputs has type float"):
        functional.jacobian(lambda t: t, 3.0)
    with pytest.raises(TypeError, match="has type int"):
        functional.jacobian(lambda t: 3, x)
    with pytest.raises(RuntimeError, match="single element"):
        functional.hessian(lambda t: t * 2, x)
    with pytest.raises(RuntimeError, match="v can only be None"):
        functional.vjp(lambda t: t * 2, x)
    with pytest.raises(RuntimeError, match="v has invalid size"):
        functional.vjp(lambda t: t * 2, x, gg.tensor(np.ones(2)))
    close(functional.jacobian(lambda t: t.detach(), x), np.zeros((3, 3)))
    with pytest.raises(RuntimeError, match="does not require gradients"):
        functional.jacobian(lambda t: t.detach(), x, strict=True)


def test_grad_takes_its_arguments_in_pytorchs_order():
    x = leaf(3)
    close(grad((x * x).sum(), x, None, None, False, True, True)[0], 2 * x.detach().cpu().numpy())


# What is saved, packed


def test_hooks_are_given_what_pytorch_saves():
    """Leaves themselves, results and inputs without their history, those of a Function too."""
    seen = []

    def pack(t):
        seen.append(t)
        return [t.tolist()]

    x, w = leaf(3), gg.nn.Parameter(leaf(3, seed=1).detach())
    with graph.saved_tensors_hooks(pack, lambda values: gg.tensor(values[0], dtype=gg.float64)):
        y = Product.apply(x * w, w.exp())
    assert any(t is x for t in seen)
    assert any(t is w for t in seen)
    assert all(t.is_leaf and not t.requires_grad for t in seen if t is not x and t is not w)
    assert len(seen) == 5  # x, w, the result of exp, and both factors of Product
    got = grad(y.sum(), (x, w))
    close(got, (w * w.exp(), x * w.exp() + x * w * w.exp()), 1e-14)


def test_packed_gradients_have_gradients():
    x = leaf(4)
    with graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):
        (first,) = grad((x.exp() * x).sum(), x, create_graph=True)
    (second,) = grad(first.sum(), x)
    close(second, (2 + x) * x.exp(), 1e-14)


def test_packed_functions_have_gradients_of_second_order():
    x, y = leaf(4), leaf(4, seed=1)
    found = []
    for hooks in (contextlib.nullcontext(), graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t)):
        with hooks:
            z = Product.apply(Product.apply(x, y), x)
        first = grad(z.sum(), (x, y), create_graph=True)
        found.append([*first, *grad((first[0] * first[1]).sum(), (x, y))])
    close(found[1], found[0], 0, 0)
    close(found[1][2], 6 * x**2 * y, 1e-14)


def test_a_leaf_that_changes_after_it_was_packed_is_noticed():
    x = leaf(4)
    with graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):
        y = x**3
    with gg.no_grad():
        x.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        grad(y.sum(), x, create_graph=True)


@pytest.mark.parametrize(
    "change", [lambda t, w: t.mul_(w), lambda t, w: t.div_(w), lambda t, w: t.pow_(2), lambda t, w: t.exp_().mul_(w)]
)
def test_what_is_packed_is_what_it_was_before_a_change_in_place(change, device):
    """Hooks that keep a reference instead of a copy see the values that backward needs all the same."""

    def run(context):
        x, w = (leaf(5, seed=k).detach().to(device).requires_grad_() for k in (0, 1))
        with context:
            y = change(x * 2, w)
            z = (y / w).sum()
        return grad(z, (x, w))

    close(run(graph.saved_tensors_hooks(lambda t: t, lambda t: t)), run(contextlib.nullcontext()), 0, 0)


def test_a_quotient_changed_in_place_was_packed_before():
    x, w = leaf(5), leaf(5, seed=1)
    with graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        y = x / w
        y.mul_(3)
    close(grad(y.sum(), w), [-3 * x / w**2], 1e-14)


def test_the_innermost_hooks_count_and_checkpoint_is_innermost():
    counts = [0, 0]

    def counting(k):
        def pack(t):
            counts[k] += 1
            return t

        return graph.saved_tensors_hooks(pack, lambda t: t)

    x = leaf(3)
    with counting(0):
        a = x.tanh()
        with counting(1):
            b = a.tanh()
        c = checkpoint(lambda t: t.tanh().tanh(), b, use_reentrant=False)
        d = c.tanh()
    assert counts == [2, 1]
    expected = x
    for _ in range(5):
        expected = expected.tanh()
    close(grad(d.sum(), x), grad(expected.sum(), x), 0, 0)


def test_hooks_and_anomaly_detection_go_together():
    x = gg.tensor([-1.0], requires_grad=True)
    with gg.autograd.detect_anomaly(), graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        y = x.sqrt()
        with pytest.raises(RuntimeError, match="gradient of 'sqrt' for its input 0 is NaN"):
            y.backward()


def test_bad_hooks_are_refused():
    x = leaf(3)
    with pytest.raises(TypeError, match="unpack_hook must be a function of one argument, but got NoneType"):
        graph.saved_tensors_hooks(lambda t: t, None)
    with (
        graph.saved_tensors_hooks(lambda t: t.mul_(2), lambda t: t),
        pytest.raises(RuntimeError, match="pack hook is modifying its input in place"),
    ):
        (x * 1).exp()
    for unpack, error, message in (
        (lambda t: 3, TypeError, "unpack_hook expected to be a Tensor but got result of type int"),
        (lambda t: t[:2], RuntimeError, r"shape \(2,\).*expected the shape \(3,\)"),
        (lambda t: t.float(), RuntimeError, "float32.*expected.*float64"),
    ):
        with graph.saved_tensors_hooks(lambda t: t, unpack):
            y = x.exp()
        with pytest.raises(error, match=message):
            y.sum().backward()
    with graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        pass
    y = x.exp()
    y.sum().backward()  # the hooks are gone


def test_increment_version_is_noticed():
    x = leaf(3)
    y = x * 2
    z = y.exp() * y
    graph.increment_version(y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()
