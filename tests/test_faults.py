"""Faults found in other small autograd engines and in write-ups about them, one test each: none may appear here."""

import numpy as np
import pytest
from helpers import close

import gpugrad as gg
from gpugrad.nn import functional as F


def leaf(*shape, seed=0, dtype=np.float64):
    return gg.tensor(np.random.default_rng(seed).uniform(0.5, 1.5, shape).astype(dtype), requires_grad=True)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# Rules


def test_the_sum_rule_writes_each_gradient_to_its_own_operand():
    # The gradient of the second operand was accumulated into the first.
    a, b = leaf(3), leaf(3, seed=1)
    (a * 2 + b * 3).sum().backward()
    close(a.grad, np.full(3, 2.0))
    close(b.grad, np.full(3, 3.0))


def test_the_quotient_rule_keeps_the_chain():
    # The numerator's gradient was 1/b, whatever arrived from above.
    a, b = leaf(3), leaf(3, seed=1)
    ((a / b) * 7).sum().backward()
    close(a.grad, 7 / b.detach().numpy())
    close(b.grad, -7 * a.detach().numpy() / b.detach().numpy() ** 2)


def test_powers_of_zero_and_of_negative_numbers():
    # log(0) made the base's gradient NaN; a negative base made the exponent's gradient NaN for both.
    base = gg.tensor(np.array([0.0, 0.0, -2.0, 2.0]), requires_grad=True)
    (base ** gg.tensor(np.array([2.0, 1.0, 3.0, 3.0]))).sum().backward()
    close(base.grad, [0, 1, 12, 12])
    base.grad = None
    exponent = gg.tensor(np.array([2.0, 1.0, 3.0, 3.0]), requires_grad=True)
    (base**exponent).sum().backward()
    close(base.grad, [0, 1, 12, 12])
    close(exponent.grad, [0, 0, np.nan, 8 * np.log(2)])
    x = gg.tensor(np.array([0.0, 2.0]), requires_grad=True)
    (x**0).sum().backward()
    close(x.grad, [0, 0])
    (2.0**x).sum().backward()
    close(x.grad, np.log(2) * np.array([1, 4]))


@pytest.mark.parametrize(
    ("left", "right"),
    [((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((4,), (2, 4, 3)), ((2, 3, 4), (4,)), ((4,), (4,))],
)
def test_matrix_products_of_any_rank(left, right):
    # A plain .T turned all axes round, which is wrong from three dimensions on.
    a, b = leaf(*left), leaf(*right, seed=1)
    assert gg.autograd.gradcheck(gg.matmul, (a, b))


def test_a_plain_array_may_stand_on_the_left_of_a_matrix_product():
    # The reflected product swapped its operands, and NumPy took over the operator.
    x, w = np.arange(6.0).reshape(2, 3), leaf(3, 4)
    out = x @ w
    assert isinstance(out, gg.Tensor)
    close(out, x @ w.detach().numpy())
    out.sum().backward()
    close(w.grad, x.T @ np.ones((2, 4)))


@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 1), (1, 1), (4, 1, 1), (), (1, 2, 1)])
def test_broadcasting_is_undone_along_every_axis(shape):
    # Not at all, or along the first axis only.
    x, big = leaf(*shape), leaf(4, 2, 3, seed=1)
    (x * big).sum().backward()
    assert x.grad.shape == x.shape
    expected = np.zeros(shape)
    whole = np.broadcast_to(expected, (4, 2, 3))
    lead = 3 - len(shape)
    axes = tuple(range(lead)) + tuple(lead + i for i, n in enumerate(shape) if n == 1 and whole.shape[lead + i] != 1)
    close(x.grad, big.detach().numpy().sum(axes, keepdims=True).reshape(shape))


def test_index_gradients_add_up_where_indices_repeat():
    # Assignment instead of addition: the last of the repeats won.
    x = leaf(4)
    (x[gg.tensor([1, 1, 1, 3])] * gg.tensor(np.array([1.0, 2.0, 3.0, 4.0]))).sum().backward()
    close(x.grad, [0, 6, 0, 4])
    table = leaf(5, 2)
    F.embedding(gg.tensor([[1, 1], [1, 0]]), table).sum().backward()
    close(table.grad, [[1, 1], [3, 3], [0, 0], [0, 0], [0, 0]])


def test_indexing_is_recorded():
    # An indexed tensor was silently detached.
    x = leaf(3, 3)
    assert x[0].requires_grad
    assert x[x > 1].requires_grad
    assert x[[0, 2]].requires_grad
    assert x[..., None, 1:].requires_grad


def test_windows_that_overlap_add_up():
    # The backward of an image's unfolding wrote overlapping windows over each other.
    x, w = leaf(1, 1, 4, 4), leaf(1, 1, 3, 3, seed=1)
    F.conv2d(x, w).sum().backward()
    expected = np.zeros((4, 4))
    for i in range(2):
        for j in range(2):
            expected[i : i + 3, j : j + 3] += w.detach().numpy()[0, 0]
    close(x.grad[0, 0], expected)
    x.grad = None
    F.avg_pool2d(x, 3, 1).sum().backward()
    close(x.grad[0, 0], np.array([[1, 2, 2, 1], [2, 4, 4, 2], [2, 4, 4, 2], [1, 2, 2, 1]]) / 9)


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_extremes_along_a_dimension(dim, keepdim):
    # The backward of max along an axis took its result for one with the axis kept.
    x = leaf(3, 4, 2)
    weight = leaf(*(x.max(dim, keepdim).values.shape), seed=1).detach()
    (x.max(dim, keepdim).values * weight).sum().backward()
    v = x.detach().numpy()
    mask = v == v.max(dim, keepdims=True)
    close(x.grad, mask * (weight.numpy() if keepdim else np.expand_dims(weight.numpy(), dim)))


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0)])
def test_transposes_are_undone_by_the_inverse_order(order):
    # The same order was applied again: right for swaps, wrong for cycles of three.
    x = leaf(2, 3, 4)
    weight = leaf(*(x.shape[i] for i in order), seed=1).detach()
    (x.permute(order) * weight).sum().backward()
    close(x.grad, weight.numpy().transpose(np.argsort(order)))


@pytest.mark.parametrize(
    "combine", [lambda x: x + x, lambda x: x - x, lambda x: x * x, lambda x: x @ x, lambda x: x / x]
)
def test_a_tensor_may_meet_itself(combine):
    # Operands were found by identity, so that one of the two gradients was lost; or x + x raised.
    assert gg.autograd.gradcheck(combine, leaf(3, 3))


# The engine


def test_float32_tensors_may_need_gradients():
    # Only float64 could.
    x = leaf(3, dtype=np.float32)
    (x * 2).sum().backward()
    assert x.grad.dtype == gg.float32


def test_a_backward_leaves_other_graphs_alone():
    # The first backward freed every graph there was.
    x, y = leaf(3), leaf(3)
    first, second = (x * x).sum(), (y * y * x).sum()
    first.backward()
    second.backward()
    close(y.grad, 2 * y.detach().numpy() * x.detach().numpy())


def test_gradient_buffers_are_not_shared():
    # Both operands of a sum got the same buffer, to which later gradients were added in place.
    a, b = leaf(3), leaf(3)
    c = a + b
    (c + a).sum().backward()
    close(a.grad, np.full(3, 2.0))
    close(b.grad, np.ones(3))


def test_in_place_changes_of_saved_values_are_noticed():
    # The gradient was computed from the new value, without a word.
    x = leaf(3)
    y = x * 1
    z = y * y
    y.add_(1)
    with pytest.raises(RuntimeError, match="inplace"):
        z.sum().backward()


def test_a_second_backward_is_not_silent():
    # It did nothing.
    x = leaf(3)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="retain_graph"):
        y.backward()


def test_deep_graphs_do_not_overflow_the_stack():
    # The graph was walked by recursion, which a thousand ops were too many for; freeing it must not recurse either.
    x = leaf(2)
    y = x
    for _ in range(20_000):
        y = y + 1
    y.sum().backward()
    close(x.grad, np.ones(2))
    del y


def test_residual_graphs_take_linear_time():
    # Paths were walked instead of nodes: 2 to the power of the depth.
    x = leaf(2)
    y = x
    for _ in range(100):
        y = y + (y * 0.01)
    y.sum().backward()
    close(x.grad, np.full(2, 1.01**100))


def test_no_gradients_are_made_for_data():
    # Every tensor got a buffer of zeros when it was made, and training images got gradients.
    images, w = gg.tensor(np.ones((4, 3))), leaf(3, 2)
    assert images.grad is None
    assert w.grad is None
    (images @ w).relu().sum().backward()
    assert images.grad is None


# Softmax and losses


def test_softmax_is_shifted_by_the_maximum_of_the_row():
    # Shifted by the maximum of the whole array, rows far below it came out as 0/0; not shifted, as inf/inf.
    rows = np.array([[1e4, 1e4 + 1], [0.0, 1.0], [-1e4, -1e4 + 1]])
    expected = np.broadcast_to(softmax(rows[1]), (3, 2))
    x = gg.tensor(rows, requires_grad=True)
    close(F.softmax(x, 1), expected)
    close(F.log_softmax(x, 1), np.log(expected))
    close(gg.logsumexp(x, 1), rows[:, 0] - np.log(expected[:, 0]))
    F.cross_entropy(x, gg.tensor([0, 0, 0])).backward()
    close(x.grad, (expected - np.array([1, 0])) / 3)


def test_cross_entropy_subtracts_labels_and_averages_over_samples():
    # `=- 1` assigned -1 instead of subtracting 1; the mean was taken over the classes.
    x, labels = leaf(4, 3), np.array([2, 0, 1, 1])
    loss = F.cross_entropy(x, gg.tensor(labels))
    p = softmax(x.detach().numpy())
    close(loss, -np.log(p[np.arange(4), labels]).mean())
    loss.backward()
    close(x.grad, (p - np.eye(3)[labels]) / 4)


@pytest.mark.parametrize("logit", [1e4, -1e4, 0.0])
def test_binary_cross_entropy_is_stable(logit):
    # log(0) for confident predictions.
    x = gg.tensor(np.array([logit, logit]), requires_grad=True)
    loss = F.binary_cross_entropy_with_logits(x, gg.tensor(np.array([0.0, 1.0])))
    close(loss, np.log(2) if logit == 0 else abs(logit) / 2)
    loss.backward()
    close(x.grad, (np.array([0.5, -0.5]) if logit == 0 else np.array([1, 0] if logit > 0 else [0, -1])) / 2)


# Optimizers and layers


def _steps(optimizer, gradients):
    (w,) = optimizer.param_groups[0]["params"]
    for g in gradients:
        w.grad = gg.tensor(np.array(g))
        optimizer.step()
    return w.detach().numpy().copy()


def test_rmsprop_with_momentum_applies_the_rate_once():
    # The rate was in the momentum buffer and in the update.
    w = gg.tensor(np.array([1.0]), requires_grad=True)
    found = _steps(gg.optim.RMSprop([w], lr=0.1, alpha=0.9, momentum=0.5, eps=0.0), [[2.0], [4.0]])
    square, buffer, value = 0.0, 0.0, 1.0
    for g in (2.0, 4.0):
        square = 0.9 * square + 0.1 * g * g
        buffer = 0.5 * buffer + g / np.sqrt(square)
        value -= 0.1 * buffer
    close(found, [value])


def test_sgd_with_momentum_updates_the_weight():
    # The velocity was written to the gradient and the weight stayed; or the first step was twice the rate.
    w = gg.tensor(np.array([1.0]), requires_grad=True)
    close(_steps(gg.optim.SGD([w], lr=0.1, momentum=0.9), [[1.0], [1.0]]), [1 - 0.1 - 0.1 * 1.9])
    close(w.grad, [1.0])
    w = gg.tensor(np.array([1.0]), requires_grad=True)
    close(_steps(gg.optim.SGD([w], lr=0.1), [[1.0]]), [0.9])


@pytest.mark.parametrize("kind", ["SGD", "RMSprop", "Adam", "AdamW"])
def test_weight_decay_leaves_the_gradient_alone(kind):
    # The decay was added to the user's gradient.
    w = gg.tensor(np.array([1.0, -2.0]), requires_grad=True)
    before = w.detach().numpy().copy()
    after = _steps(getattr(gg.optim, kind)([w], lr=0.1, weight_decay=0.5), [[1.0, 3.0]])
    close(w.grad, [1.0, 3.0], 0, 0)
    assert (after != before).all()


@pytest.mark.parametrize("kind", ["SGD", "RMSprop", "Adam", "AdamW"])
def test_float32_weights_are_updated(kind):
    # Only weights of half precision were.
    layer = gg.nn.Linear(3, 2)
    before = layer.weight.detach().numpy().copy()
    optimizer = getattr(gg.optim, kind)(layer.parameters(), lr=0.1)
    layer(gg.tensor(np.ones((4, 3), np.float32))).sum().backward()
    optimizer.step()
    assert (layer.weight.detach().numpy() != before).any()


def test_linear_layers_take_transposed_inputs():
    # The memory of a transposed input was read as if it were contiguous.
    x, layer = leaf(3, 5), gg.nn.Linear(3, 2, dtype=gg.float64)
    out = layer(x.T)
    close(out, x.detach().numpy().T @ layer.weight.detach().numpy().T + layer.bias.detach().numpy())
    weight = leaf(5, 2, seed=1).detach()
    (out * weight).sum().backward()
    close(x.grad, (weight.numpy() @ layer.weight.detach().numpy()).T)
    close(layer.weight.grad, weight.numpy().T @ x.detach().numpy().T)


def test_forward_leaves_weights_alone():
    # A layer rescaled its weights each time it was called.
    layers = gg.nn.Sequential(gg.nn.Conv2d(1, 2, 3), gg.nn.ReLU(), gg.nn.Flatten(), gg.nn.Linear(18, 2))
    before = [p.detach().numpy().tobytes() for p in layers.parameters()]
    layers(gg.tensor(np.ones((2, 1, 5, 5), np.float32))).sum().backward()
    assert [p.detach().numpy().tobytes() for p in layers.parameters()] == before
