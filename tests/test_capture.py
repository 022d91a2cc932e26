"""``gg.compile``: a captured step does what the step does, call after call, and says what it cannot capture."""

import math

import numpy as np
import pytest
from helpers import ACCELERATED

import gpugrad as gg
from gpugrad import nn, optim
from gpugrad.nn import functional as F
from gpugrad.ops import core

BATCHES = [
    (np.random.default_rng(i).standard_normal((8, 12)).astype(np.float32), np.random.default_rng(i).integers(0, 4, 8))
    for i in range(12)
]
OPTIMIZERS = {
    "sgd": lambda params: optim.SGD(params, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "plain sgd": lambda params: optim.SGD(params, 0.1),
    "rmsprop": lambda params: optim.RMSprop(params, 0.01, momentum=0.5, centered=True),
    "adam": lambda params: optim.Adam(params, 0.01, amsgrad=True),
    "adamw": lambda params: optim.AdamW(params, 0.01),
    "adagrad": lambda params: optim.Adagrad(params, 0.05, lr_decay=0.1),
    "adadelta": lambda params: optim.Adadelta(params, 0.5),
    "radam": lambda params: optim.RAdam(params, 0.01),
    "adamax": lambda params: optim.Adamax(params, 0.01),
    "nadam": lambda params: optim.NAdam(params, 0.01, momentum_decay=0.1),
    "rprop": lambda params: optim.Rprop(params, 0.01),
    "adafactor": lambda params: optim.Adafactor(params, 0.05),
    "asgd": lambda params: optim.ASGD(params, 0.05, 0.1, t0=3),
}


@pytest.fixture(params=ACCELERATED)
def cuda(request):
    return request.param


class Training:
    """A small network in training, compiled or not."""

    def __init__(self, device, compiled, optimizer="adam", dropout=0.3):
        gg.manual_seed(0)
        self.device = device
        layers = nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 4)
        self.model = nn.Sequential(*layers).to(device)
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.step = gg.compile(self.plain_step) if compiled else self.plain_step

    def plain_step(self, x, y):
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
        self.optimizer.step()
        return loss

    def batch(self, i, rows=8):
        x, y = BATCHES[i]
        return gg.tensor(x[:rows], device=self.device), gg.tensor(y[:rows], device=self.device)

    def run(self, count, start=0):
        return [self.step(*self.batch(i)) for i in range(start, start + count)]

    def state(self):
        return {name: t.detach().cpu().numpy() for name, t in self.model.state_dict().items()}

    def records(self):
        return [len(variant.records) for variant in self.step._variants.values()]


def test_a_function_can_ask_whether_it_is_being_captured(cuda):
    answers = []

    @gg.compile
    def step(x):
        answers.append(gg.compiler.is_compiling())
        return x * 2

    for _ in range(5):
        step(gg.ones(2, device=cuda))
    assert True in answers
    assert not answers[0]
    assert not gg.compiler.is_compiling()


def both_ways(device, run, **options):
    """A training without and one with capture, each after ``run(training)``."""
    trainings = []
    for compiled in (False, True):
        trainings.append(Training(device, compiled, **options))
        run(trainings[-1])
    return trainings


def assert_same(plain, compiled):
    a, b = plain.state(), compiled.state()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_captured_step_is_the_step(cuda, optimizer):
    losses = []

    def run(training):
        schedule = optim.lr_scheduler.StepLR(training.optimizer, 4, 0.5)
        found = []
        for i in range(12):
            found += training.run(1, i)
            schedule.step()
            if i == 7:
                gg.rand(5, device=cuda)  # draws in between move the stream on
        losses.append([float(loss) for loss in found])

    both = both_ways(cuda, run, optimizer=optimizer)
    assert losses[0] == losses[1]
    assert_same(*both)
    assert both[1].records()[0] >= 1
    steps = [[float(s["step"]) for s in t.optimizer.state_dict()["state"].values() if "step" in s] for t in both]
    assert steps[0] == steps[1]


def test_many_parameters_and_many_arrays_to_join(cuda):
    """CuPy joins more than eight arrays with addresses from the host, which cannot be captured."""
    results = []
    for compiled in (False, True):
        gg.manual_seed(0)
        model = nn.Sequential(*[nn.Linear(5, 5) for _ in range(6)]).to(cuda)
        optimizers = [optim.Adam(model[:3].parameters(), 0.1), optim.Adagrad(model[3:].parameters(), 0.1)]

        def step(x, model=model, optimizers=optimizers):
            outs = []
            for k in range(10):
                outs.append(model(x + k))
            for optimizer in optimizers:
                optimizer.zero_grad()
            (gg.stack(outs, 1).mean() + gg.cat(outs, 1).square().sum()).backward()
            for optimizer in optimizers:
                optimizer.step()

        step = gg.compile(step) if compiled else step
        for i in range(5):
            step(gg.full((2, 5), float(i), device=cuda))
        results.append([p.detach().cpu().numpy() for p in model.parameters()])
    for plain, captured in zip(*results, strict=True):
        np.testing.assert_array_equal(plain, captured)


@pytest.mark.parametrize("fused", [True, False])
def test_normalisation_and_sorting_are_captured(cuda, fused):
    def run(compiled):
        gg.manual_seed(0)
        layers = nn.Linear(12, 16), nn.LayerNorm(16), nn.BatchNorm1d(16), nn.GroupNorm(2, 16), nn.RMSNorm(16)
        model = nn.Sequential(*layers).to(cuda)
        optimizer = optim.SGD(model.parameters(), 0.1)

        def step(x):
            optimizer.zero_grad()
            out = model(x)
            if not fused:  # neither optimizers nor the gradients of picked elements can be captured then
                out.square().sum().backward()
                return sum(p.grad.square().sum() for p in model.parameters())
            ordered, order = out.sort(1, descending=True)
            loss = (ordered[:, 0] * 2 + out.median(1).values + out.topk(3).values.sum(1) + order[:, 3]).sum()
            loss.backward()
            optimizer.step()
            return loss.detach()

        step = gg.compile(step) if compiled else step
        return [float(step(gg.tensor(BATCHES[i][0], device=cuda))) for i in range(5)]

    with core.fusion(fused):
        assert run(True) == run(False)


def test_means_of_windows_and_targets_of_probabilities_are_captured(cuda):
    gg.manual_seed(0)
    images, target = gg.randn(6, 2, 9, 8, device=cuda), gg.rand(6, 4, device=cuda).softmax(1)

    def run(compiled):
        gg.manual_seed(1)
        layers = nn.Conv2d(2, 4, 3), nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.AdaptiveAvgPool2d(1)
        model = nn.Sequential(*layers, nn.Flatten()).to(cuda)
        optimizer = optim.SGD(model.parameters(), 0.5)

        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y, label_smoothing=0.1)
            loss.backward()
            optimizer.step()
            return loss

        step = gg.compile(step) if compiled else step
        return [float(step(images, target)) for _ in range(6)]

    plain = run(False)
    assert plain[5] < plain[0]
    np.testing.assert_allclose(run(True), plain, rtol=1e-6)


def test_what_a_step_returned_stays_when_it_runs_again(cuda):
    training = Training(cuda, True)
    losses = training.run(3)
    kept = float(losses[2])
    training.run(3, 3)
    assert float(losses[2]) == kept


def test_structures_come_back_as_they_were(cuda):
    @gg.compile
    def function(x, *, scale):
        return {"double": x * 2, "rest": (x.sum(), [x + scale]), "n": 3}

    for i in range(5):
        x = gg.full((3,), float(i), device=cuda)
        out = function(x, scale=2)
        assert out["n"] == 3
        assert out["double"].tolist() == [2.0 * i] * 3
        assert float(out["rest"][0]) == 3.0 * i
        assert out["rest"][1][0].tolist() == [i + 2.0] * 3
    assert function(x, scale=5)["rest"][1][0].tolist() == [9.0] * 3


def test_other_shapes_get_records_of_their_own(cuda):
    def run(training):
        for i in range(12):
            training.step(*training.batch(i, rows=8 if i % 3 else 5))

    both = both_ways(cuda, run)
    assert_same(*both)
    assert both[1].records() == [1, 1]


def test_evaluation_and_training_mode_are_told_apart(cuda):
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).to(cuda)
    forward = gg.compile(lambda x: model(x))
    x = gg.ones(64, 4, device=cuda)
    with gg.no_grad():
        for _ in range(4):
            model.train()
            dropped = [(forward(x) == 0).sum() for _ in range(4)]
            assert all(int(count) for count in dropped)
            model.eval()
            assert not any(int((forward(x) == 0).sum()) for _ in range(4))
    assert len(next(iter(forward._variants.values())).records) == 2


def test_a_loaded_state_is_used(cuda):
    training = Training(cuda, True)
    training.run(5)
    model = {name: t.clone() for name, t in training.model.state_dict().items()}
    optimizer = training.optimizer.state_dict()
    optimizer = {**optimizer, "state": {k: {n: t.clone() for n, t in s.items()} for k, s in optimizer["state"].items()}}
    random = gg.get_rng_state()
    first = [float(loss) for loss in training.run(5, 5)]
    after = training.state()
    training.model.load_state_dict(model)
    training.optimizer.load_state_dict(optimizer)
    gg.set_rng_state(random)
    assert [float(loss) for loss in training.run(5, 5)] == first
    for name, value in training.state().items():
        np.testing.assert_array_equal(value, after[name])


@pytest.mark.parametrize("option", ["weight_decay", "betas", "eps", "lr"])
def test_options_may_change_between_steps(cuda, option):
    value = {"weight_decay": 0.3, "betas": (0.5, 0.6), "eps": 0.1, "lr": 0.5}[option]

    def run(training):
        training.run(4)
        training.optimizer.param_groups[0][option] = value
        training.run(4, 4)

    assert_same(*both_ways(cuda, run))


def test_a_learning_rate_on_the_device(cuda):
    def run(training):
        rate = training.optimizer.param_groups[0]["lr"] = gg.tensor(0.01, device=cuda, dtype=gg.float64)
        training.run(5)
        rate.mul_(0.1)
        training.run(5, 5)

    assert_same(*both_ways(cuda, run))


def test_a_cpu_tensor_without_dimensions_may_change(cuda):
    x, scale = gg.ones(3, device=cuda), gg.tensor(1.0)
    scaled = gg.compile(lambda x: (x * scale).sum())
    found = []
    for value in (1.0, 2.0, 2.0, 5.0, 5.0, math.nan, math.nan, 1.0):
        scale.fill_(value)
        found.append(scaled(x).item())
    assert found == pytest.approx([3.0, 6.0, 6.0, 15.0, 15.0, math.nan, math.nan, 3.0], nan_ok=True)


def test_gradients_accumulate_over_calls(cuda):
    both = []
    for compiled in (False, True):
        training = Training(cuda, compiled, "sgd")

        def accumulate(x, y, training=training):
            loss = F.cross_entropy(training.model(x), y)
            loss.backward()
            return loss

        def update(training=training):
            training.optimizer.step()
            training.optimizer.zero_grad()

        if compiled:
            accumulate, update = gg.compile(accumulate), gg.compile(update)
        for i in range(12):
            accumulate(*training.batch(i))
            if i % 3 == 2:
                update()
        both.append(training)
    assert_same(*both)
    assert all(p.grad is None for p in both[1].model.parameters())


def test_gradients_are_there_after_a_step(cuda):
    both = both_ways(cuda, lambda training: training.run(6), optimizer="plain sgd")
    for a, b in zip(both[0].model.parameters(), both[1].model.parameters(), strict=True):
        np.testing.assert_array_equal(a.grad.cpu().numpy(), b.grad.cpu().numpy())
        b.grad = None
    both[1].run(1, 6)
    assert all(p.grad is not None for p in both[1].model.parameters())


def test_indexing_by_several_arrays_is_captured(cuda):
    weight = gg.randn(6, 5, 4, device=cuda, requires_grad=True)

    def step(i, j):
        weight.grad = None
        (weight[i, j].sum() + (weight[:, i, j] ** 2).sum()).backward()
        return gg.zeros(6, 5, device=cuda).index_put_((i, j), weight.grad[i, j, 0], accumulate=True)

    compiled = gg.compile(step)
    for seed in range(5):
        i, j = (gg.tensor(np.random.default_rng([seed, k]).integers(0, 4, 50), device=cuda) for k in range(2))
        results = []
        for run in (step, compiled):
            out = run(i, j)
            results.append((out.cpu().numpy(), weight.grad.cpu().numpy()))
        for a, b in zip(*results, strict=True):
            np.testing.assert_array_equal(a, b)


def test_variables_around_the_function_may_be_bound_anew(cuda):
    weight, power = gg.full((3,), 2.0, device=cuda), 1

    @gg.compile
    def function(x):
        return (x * weight) ** power

    x = gg.ones(3, device=cuda)
    for _ in range(4):
        assert function(x).tolist() == [2.0] * 3
    weight = gg.full((3,), 5.0, device=cuda)
    for _ in range(4):
        assert function(x).tolist() == [5.0] * 3
    weight.add_(1)
    power = 2
    for _ in range(4):
        assert function(x).tolist() == [36.0] * 3
    assert len(next(iter(function._variants.values())).records) == 3


def test_inputs_that_need_gradients_are_part_of_the_record(cuda):
    image = gg.zeros(2, 12, device=cuda, requires_grad=True)
    optimizer = optim.Adam([image], 0.1)
    goal = gg.ones(2, 12, device=cuda)

    @gg.compile
    def step(x, goal):
        optimizer.zero_grad()
        loss = ((x - goal) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    losses = [float(step(image, goal)) for _ in range(30)]
    assert losses[-1] < 0.01 * losses[0]


def test_a_module_is_captured_where_gradients_are_off(cuda):
    model = gg.compile(nn.Sequential(nn.Linear(3, 4), nn.ReLU()).to(cuda))
    assert isinstance(model, nn.Sequential)
    assert list(model.state_dict()) == ["0.weight", "0.bias"]
    x = gg.randn(5, 3, device=cuda)
    expected = model(x)
    assert expected.requires_grad
    with gg.no_grad():
        for _ in range(5):
            assert model(x).tolist() == expected.tolist()
        model[0].weight.mul_(2)
        model[0].bias.mul_(2)
        assert model(x).tolist() == (expected * 2).tolist()


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("item", lambda x: x.sum().item()),
        ("tolist", lambda x: x.tolist()),
        ("numpy", lambda x: x.cpu().numpy()),
        ("__bool__", lambda x: 1 if x.sum() > 0 else 0),
        ("nonzero", lambda x: x.nonzero()),
        ("__getitem__", lambda x: x[x > 0]),
        ("to", lambda x: x + gg.ones(3).to(x.device)),
    ],
)
def test_what_cannot_be_captured_is_named(cuda, what, body):
    def step(x):
        return body(x)

    compiled = gg.compile(step)
    x = gg.ones(3, device=cuda)
    for _ in range(2):
        compiled(x)
    with pytest.raises(RuntimeError, match=r"cannot be captured into a CUDA graph") as caught:
        compiled(x)
    assert f"{__file__}:" in str(caught.value)
    assert str(caught.value).startswith((what, "cpu", "masked", "_")), str(caught.value)
    # Nothing is left behind that would disturb other work.
    assert (x * 2).tolist() == [2.0] * 3
    training = Training(cuda, True)
    training.run(4)


def test_draws_of_another_generator_are_refused(cuda):
    generator = gg.Generator(cuda)
    step = gg.compile(lambda x: x + gg.rand(3, device=cuda, generator=generator))
    x = gg.ones(3, device=cuda)
    step(x), step(x)
    with pytest.raises(RuntimeError, match="default generator"):
        step(x)


def test_an_optimizer_that_never_stepped_is_refused(cuda):
    training = Training(cuda, False)
    updates = []

    def step(x, y):
        training.optimizer.zero_grad()
        F.cross_entropy(training.model(x), y).backward()
        updates.append(len(updates) >= 2 and training.optimizer.step())

    step = gg.compile(step)
    step(*training.batch(0)), step(*training.batch(1))
    with pytest.raises(RuntimeError, match="makes or moves its state"):
        step(*training.batch(2))


def test_arguments_that_it_cannot_follow_are_refused(cuda):
    model = nn.Linear(3, 2).to(cuda)
    step = gg.compile(lambda x: model(gg.as_tensor(x).to(cuda)))
    with pytest.raises(TypeError, match="ndarray"):
        step(np.ones((1, 3), np.float32))
    for _ in range(2):
        step(gg.ones(1, 3))
    with pytest.raises(RuntimeError, match=r"shape \(1, 3\) on cpu"):
        step(gg.ones(1, 3))


def test_on_the_cpu_the_function_runs_as_it_is():
    assert_same(*both_ways("cpu", lambda training: training.run(8)))

    @gg.compile(mode="reduce-overhead")
    def function(x):
        """Its text."""
        return float(x.sum())

    assert function(gg.ones(3)) == 3.0
    assert function.__name__ == "function"
    assert function.__doc__ == "Its text."
    assert gg.compile(len, disable=True) is len


def test_wrong_calls():
    with pytest.raises(TypeError, match="function or a Module"):
        gg.compile(3)
    with pytest.raises(ValueError, match="warmup"):
        gg.compile(len, warmup=0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision_and_a_loss_scale_that_changes(cuda, dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    losses = []

    def run(training):
        scaler = gg.amp.GradScaler(init_scale=2.0**22, growth_interval=3)
        weights = training.model[0].weight

        def step(x, y):
            training.optimizer.zero_grad()
            with gg.autocast("cuda", dtype=getattr(gg, dtype)):
                loss = F.cross_entropy(training.model(x), y)
            scaler.scale(loss).backward()
            scaler.unscale_(training.optimizer)
            nn.utils.clip_grad_norm_(training.model.parameters(), 1.0)
            scaler.step(training.optimizer)
            scaler.update()
            return loss

        step = gg.compile(step) if hasattr(training.step, "_variants") else step
        found, moved = [], []
        for i in range(12):
            before = weights.detach().cpu().numpy().copy()
            scale = scaler.get_scale()
            found.append((float(step(*training.batch(i))), scaler.get_scale()))
            moved.append((not np.array_equal(before, weights.detach().cpu().numpy()), scaler.get_scale() >= scale))
        # Steps whose gradients overflowed changed nothing but the scale.
        assert all(did == kept for did, kept in moved)
        losses.append((found, float(training.optimizer.state_dict()["state"][0]["step"])))

    both = both_ways(cuda, run)
    assert losses[0] == losses[1]
    assert_same(*both)
    if dtype == "float16":
        assert 0 < losses[0][1] < 12
