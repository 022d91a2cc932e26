import math
import pickle
import sys
import threading

import numpy as np
import pytest
from helpers import ACCELERATED, close, on_every_device

import gpugrad as gg
from gpugrad.backend import kernels, random
from gpugrad.backend.random import Generator
from gpugrad.backend.simulator import launch

MASK = 2**64 - 1


def philox(counter, key):
    """Philox4x64-10 in plain integers, as the paper has it."""
    c, k = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [second >> 64 ^ c[1] ^ k[0], second & MASK, first >> 64 ^ c[3] ^ k[1], first & MASK]
        k = [(k[0] + 0x9E3779B97F4A7C15) & MASK, (k[1] + 0xBB67AE8584CAA73B) & MASK]
    return c


def seeded(seed, offset=0):
    generator = Generator().manual_seed(seed)
    generator._offset = offset
    return generator


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ("0" * 64, "0" * 32, "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
        ("f" * 64, "f" * 32, "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0"),
        (
            "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
            "452821e638d01377be5466cf34e90c6c",
            "a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6",
        ),
    ],
)
def test_reference_answers_of_random123(counter, key, answer):
    def words(text):
        return [int(text[i : i + 16], 16) for i in range(0, len(text), 16)]

    assert philox(words(counter), words(key)) == [int(word, 16) for word in answer.split()]


@pytest.mark.parametrize("seed", [0, 1, 67280421310721, MASK])
@pytest.mark.parametrize("offset", [0, 1, 12345678901])
def test_words_are_those_of_the_paper(seed, offset):
    expected = [w for b in range(3) for w in philox([offset + b, 0, 0, 0], [seed, 0])]
    assert random.words(12, generator=seeded(seed, offset)).tolist() == expected


def test_a_draw_takes_whole_blocks_and_large_draws_are_one_stream():
    generator = seeded(3)
    taken = []
    for draw in (
        lambda: random.words(5, generator=generator),
        lambda: random.uniform((3, 3), generator=generator),
        lambda: random.uniform((5,), dtype=np.float64, generator=generator),
        lambda: random.normal((8,), generator=generator),
        lambda: random.bernoulli_mask((17,), 0.5, generator=generator),
        lambda: random.randint(0, 9, (4,), generator=generator),
        lambda: random.permutation(6, generator=generator),
        lambda: random.uniform((0, 3), generator=generator),
        lambda: random.uniform((), generator=generator),
    ):
        before = generator._offset
        draw()
        taken.append(generator._offset - before)
    assert taken == [2, 2, 2, 1, 3, 1, 2, 0, 1]
    n = 5 * random._CHUNK + 3
    whole = random.words(n, generator=seeded(3))
    parts = [random.words(4, generator=seeded(3, b)) for b in (0, random._CHUNK // 4, n // 4)]
    for part, start in zip(parts, (0, random._CHUNK, n // 4 * 4), strict=True):
        assert whole[start : start + 4].tolist() == part[: n - start].tolist()
    for draw in (random.uniform, random.normal):
        np.testing.assert_array_equal(
            draw((4 * random._CHUNK + 3,), generator=seeded(3))[:99], draw((99,), generator=seeded(3))
        )


def draws(generator=None):
    """One draw of every kind the kernels know, of odd sizes."""
    return {
        "words": random.words(37, generator=generator),
        "uniform": random.uniform((53,), -3, 5, generator=generator),
        "uniform16": random.uniform((53,), 0, 3, np.float16, generator=generator),
        "uniform at its bound": random.uniform((999,), 1, 1 + 2**-8, np.float16, generator=generator),
        "uniform64": random.uniform((53,), 1, 1.5, np.float64, generator=generator),
        "normal": random.normal((53,), 2, 3, generator=generator),
        "normal64": random.normal((53,), 2, 3, np.float64, generator=generator),
        "mask": random.bernoulli_mask((61,), 0.3, generator=generator),
        "all": random.bernoulli_mask((61,), 1, generator=generator),
        "randint": random.randint(-7, 13, (53,), np.int32, generator=generator),
        "wide": random.randint(-(2**62), 2**62 + 5, (53,), generator=generator),
        "full": random.randint(-(2**63), 2**63, (53,), generator=generator),
        "permutation": random.permutation(29, generator=generator),
    }


@pytest.fixture
def on_kernels(monkeypatch):
    """Draws go through the CUDA kernels, run on the CPU: 2 blocks of 3 threads."""
    module = launch.RawModule(code=kernels.source("philox"))
    try:
        module.compile()
    except RuntimeError as reason:
        pytest.skip(str(reason))

    def run(name, function, size, args):
        module.get_function(function)((2,), (3,), args)

    cuda = random.device("cuda", 0)
    monkeypatch.setattr(random, "resolve", lambda where: cuda)
    monkeypatch.setattr(random.cuda, "is_capturing", lambda: False)
    monkeypatch.setattr(random, "module_for", lambda where: np)
    monkeypatch.setattr(random, "on", lambda where: threading.Lock())
    monkeypatch.setattr(kernels, "launch", run)


def test_kernels_draw_what_numpy_draws(on_kernels, monkeypatch):
    found = draws(seeded(2**63 + 5, 1000))
    monkeypatch.undo()
    expected = draws(seeded(2**63 + 5, 1000))
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        if name.startswith("normal"):
            np.testing.assert_allclose(found[name], values, rtol=0, atol=32 * np.finfo(values.dtype).eps, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_captured_draws_read_their_offset_from_device_memory(on_kernels, monkeypatch):
    generator = seeded(11, 5)
    place = np.zeros(2, np.uint64)
    recorded = []
    launch = kernels.launch
    monkeypatch.setattr(kernels, "launch", lambda *args: recorded.append(args))
    with generator.captured(place) as advance:
        outs = [random.uniform((9,), generator=generator), random.words(3, generator=generator)]
    drawn = place[1]  # recorded too: each run moves the place on by what it draws
    runs = []
    for seed in (11, 11, 12):
        if seed != generator.initial_seed():
            generator.manual_seed(seed)
        advance()
        for args in recorded:
            launch(*args)
        place[1] += drawn
        runs += [out.copy() for out in outs]
    after = generator.get_state()
    monkeypatch.undo()
    eager = seeded(11, 5)
    for k, found in enumerate(runs):
        if k == 4:
            eager.manual_seed(12)
        draw = random.words(3, generator=eager) if found.dtype == np.uint64 else random.uniform((9,), generator=eager)
        np.testing.assert_array_equal(found, draw)
    assert after.tolist() == eager.get_state().tolist()


def test_no_host_draws_while_capturing():
    generator = seeded(1)
    with generator.captured(np.zeros(2, np.uint64)), pytest.raises(RuntimeError, match="captured"):
        random.uniform((2,), generator=generator)


N = 200_000


def distance(sample, distribution):
    """The Kolmogorov-Smirnov statistic times sqrt(n); above 2 with probability 7e-4."""
    p = distribution(np.sort(sample.astype(np.float64)))
    steps = np.arange(sample.size + 1) / sample.size
    return math.sqrt(sample.size) * max(np.max(steps[1:] - p), np.max(p - steps[:-1]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform_is_uniform(dtype):
    x = random.uniform((N,), -1, 3, dtype, generator=seeded(1))
    assert x.dtype == dtype
    assert x.min() >= -1
    assert x.max() < 3
    assert distance(x, lambda v: (v + 1) / 4) < 2
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 4 / math.sqrt(N)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_uniform_stays_below_its_upper_bound(dtype):
    for low, high in [(0, 1), (0, 3), (-1, 1), (1, 1 + 2**-8), (-3, 0), (100, 103)]:
        x = random.uniform((N,), low, high, dtype, generator=seeded(2))
        assert x.min() >= low
        assert x.max() < high
    assert (random.uniform((9,), 2, 2, dtype) == 2).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal_is_normal(dtype):
    x = random.normal((N,), 1, 2, dtype, generator=seeded(3))
    assert x.dtype == dtype
    assert distance(x, np.vectorize(lambda v: 0.5 * math.erfc((1 - v) / math.sqrt(8)))) < 2
    z = (x - 1) / 2
    assert abs(z.mean()) < 4 / math.sqrt(N)
    assert abs((z**2).mean() - 1) < 4 * math.sqrt(2 / N)
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96 / N)
    assert abs(np.corrcoef(z[0::2], z[1::2])[0, 1]) < 6 / math.sqrt(N)
    assert np.abs(z).max() > 4
    assert np.isfinite(z).all()


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.999, 1.0])
def test_mask_has_its_probability(p):
    mask = random.bernoulli_mask((N,), p, generator=seeded(4))
    assert mask.dtype == np.bool_
    assert abs(mask.mean() - p) <= 4 * math.sqrt(p * (1 - p) / N)


def test_randint_is_even_over_its_range():
    x = random.randint(-3, 7, (N,), np.int8, generator=seeded(5))
    assert x.dtype == np.int8
    counts = np.bincount(x + 3, minlength=10)
    assert counts.size == 10
    assert ((counts - N / 10) ** 2 / (N / 10)).sum() < 30
    wide = random.randint(-(2**63), 2**63, (N,), generator=seeded(6))
    assert distance(wide, lambda v: (v + 2.0**63) / 2.0**64) < 2


def test_randint_multiplies_exactly():
    values = random.words(1000, generator=seeded(7))
    for span in (1, 2, 10, 2**32 - 1, 2**32, 2**32 + 1, 2**63 + 12345, 2**64 - 1):
        expected = [int(w) * span >> 64 for w in values]
        assert random._multiply_high(values, span).tolist() == expected


def test_permutations_are_permutations_and_all_equally_likely():
    for n in (0, 1, 2, 3, 1000):
        p = random.permutation(n, generator=seeded(8))
        assert p.dtype == np.int64
        assert sorted(p.tolist()) == list(range(n))
    generator = seeded(9)
    seen: dict = {}
    for _ in range(6000):
        key = tuple(random.permutation(3, generator=generator).tolist())
        seen[key] = seen.get(key, 0) + 1
    assert len(seen) == 6
    assert sum((count - 1000) ** 2 / 1000 for count in seen.values()) < 25


def test_generator_state():
    generator = Generator()
    assert generator.initial_seed() == 67280421310721
    random.normal((9,), generator=generator)
    state = generator.get_state()
    expected = random.uniform((9,), generator=generator)
    other = Generator()
    other.set_state(state)
    copied = pickle.loads(pickle.dumps(other))
    for each in (other, copied):
        np.testing.assert_array_equal(random.uniform((9,), generator=each), expected)
    assert generator.manual_seed(-1).initial_seed() == MASK
    assert generator.seed() == generator.initial_seed() != Generator().seed()
    for bad in ("a", 1.5, None, True):
        with pytest.raises(RuntimeError, match="expected an int"):
            generator.manual_seed(bad)
    with pytest.raises(ValueError, match="64 bits"):
        generator.manual_seed(2**64)
    for bad in (np.zeros(3, np.int64), np.zeros(2), np.array([1, -1])):
        with pytest.raises(RuntimeError, match="expected a generator's state"):
            generator.set_state(bad)


def test_fork_rng_gives_the_state_back():
    before = random.default_generator.get_state()
    with random.fork_rng():
        random.words(5)
        random.default_generator.manual_seed(5)
    assert random.default_generator.get_state().tolist() == before.tolist()


def test_threads_share_a_generator_without_repeating():
    generator = seeded(10)
    found: list = []
    threads = [
        threading.Thread(target=lambda: found.extend(random.words(8, generator=generator).tolist() for _ in range(200)))
        for _ in range(4)
    ]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    expected = random.words(4 * 200 * 8, generator=seeded(10)).reshape(-1, 8).tolist()
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(
    ("draw", "error", "text"),
    [
        (lambda: random.uniform((2,), 2, 1), RuntimeError, r"\[from, to\) range"),
        (lambda: random.uniform((2,), 0, math.nan), RuntimeError, r"\[from, to\) range"),
        (lambda: random.uniform((2,), dtype=np.int64), NotImplementedError, "floating-point"),
        (lambda: random.uniform((2, -1)), RuntimeError, "negative dimension"),
        (lambda: random.uniform((2,), generator=5), TypeError, "Generator"),
        (lambda: random.normal((2,), 0, -1), RuntimeError, "std >= 0"),
        (lambda: random.bernoulli_mask((2,), 1.5), RuntimeError, r"\[0, 1\]"),
        (lambda: random.randint(5, 5, (2,)), RuntimeError, "less than"),
        (lambda: random.randint(0, 300, (2,), np.uint8), RuntimeError, "out of bounds"),
    ],
)
def test_bad_arguments(draw, error, text):
    with pytest.raises(error, match=text):
        draw()


def shape_and_dtype(t):
    return tuple(t.shape), t.dtype


@on_every_device
def test_tensors_of_random_numbers():
    assert shape_and_dtype(gg.rand(2, 3)) == ((2, 3), gg.float32)
    assert shape_and_dtype(gg.rand((2, 3), dtype=gg.float64)) == ((2, 3), gg.float64)
    assert shape_and_dtype(gg.randn(size=(4,))) == ((4,), gg.float32)
    assert shape_and_dtype(gg.randn([])) == ((), gg.float32)
    assert shape_and_dtype(gg.randint(5, (2,))) == ((2,), gg.int64)
    assert shape_and_dtype(gg.randint(low=2, high=5, size=(2,), dtype=gg.float32)) == ((2,), gg.float32)
    assert shape_and_dtype(gg.randperm(5, dtype=gg.int32)) == ((5,), gg.int32)
    like = gg.tensor([[1.0, 2.0]], dtype=gg.float64)
    assert shape_and_dtype(gg.rand_like(like)) == ((1, 2), gg.float64)
    assert shape_and_dtype(gg.randn_like(like, dtype=gg.float32)) == ((1, 2), gg.float32)
    assert set(gg.randint_like(like, 3, 5).cpu().numpy().ravel()) <= {3.0, 4.0}
    assert gg.randn(2, requires_grad=True).requires_grad


def test_seeding_repeats_and_own_generators_are_apart():
    gg.manual_seed(5)
    first = gg.randn(4).tolist()
    state = gg.get_rng_state()
    second = gg.randn(4).tolist()
    gg.rand(3, generator=gg.Generator())
    gg.set_rng_state(state)
    assert gg.randn(4).tolist() == second
    with gg.random.fork_rng():
        gg.seed()
    gg.manual_seed(5)
    assert gg.randn(4).tolist() == first == gg.randn(4, generator=gg.Generator().manual_seed(5)).tolist()
    assert gg.initial_seed() == 5


@on_every_device
def test_normal_with_tensors():
    gg.manual_seed(1)
    mean, std = gg.tensor([[0.0], [100.0]]), gg.tensor([0.0, 1.0])
    x = gg.normal(mean, std).cpu().numpy()
    assert x.shape == (2, 2)
    assert x[0, 0] == 0
    assert x[1, 0] == 100
    assert 90 < x[1, 1] < 110
    assert x[1, 1] != 100
    assert shape_and_dtype(gg.normal(2.0, 3.0, (4,))) == ((4,), gg.float32)
    with pytest.raises(RuntimeError, match="std >= 0"):
        gg.normal(mean, -std)


@on_every_device
def test_filling_in_place():
    gg.manual_seed(2)
    x = gg.tensor([0.0] * 4000)
    version = x._version
    assert x.uniform_(2, 3) is x
    assert x._version > version
    assert 2 <= x.cpu().numpy().min() < x.cpu().numpy().max() < 3
    assert abs(x.normal_(5, 0.1).cpu().numpy().mean() - 5) < 0.01
    assert set(x.bernoulli_(0.25).tolist()) == {0.0, 1.0}
    assert abs(x.cpu().numpy().mean() - 0.25) < 0.03
    assert abs(x.exponential_(2.0).cpu().numpy().mean() - 0.5) < 0.05
    assert set(x.random_(3).tolist()) == {0.0, 1.0, 2.0}
    assert set(x.random_(-1, 1).tolist()) == {-1.0, 0.0}
    assert 2**23 < x.random_().cpu().numpy().max() <= 2**24
    bytes_ = gg.tensor([0] * 4000, dtype=gg.uint8).random_()
    assert bytes_.cpu().numpy().min() == 0
    assert bytes_.cpu().numpy().max() == 255
    row = gg.tensor([[1.0, 2.0], [3.0, 4.0]])
    row[0].uniform_()
    assert row[1].tolist() == [3.0, 4.0]
    assert row[0].tolist() != [1.0, 2.0]


def test_filling_in_place_and_gradients():
    leaf = gg.tensor([1.0, math.nan], requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        leaf.normal_()
    with gg.no_grad():
        leaf.normal_()
    with gg.inference_mode():
        inference = leaf * 1
    with pytest.raises(RuntimeError, match="inference"):
        inference.normal_()
    filled = (leaf * 2).uniform_()
    filled.backward(gg.tensor([1.0, 1.0]))
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [0.0, 0.0]


@on_every_device
def test_bernoulli():
    gg.manual_seed(3)
    p = gg.tensor(np.tile([0.0, 0.3, 1.0], (4000, 1)))
    x = gg.bernoulli(p)
    assert x.dtype == gg.float64
    np.testing.assert_allclose(x.cpu().numpy().mean(axis=0), [0, 0.3, 1], atol=0.03)
    assert gg.bernoulli(gg.tensor([7, 7]), 1.0).tolist() == [1, 1]
    with pytest.raises(RuntimeError, match=r"\[0, 1\]"):
        gg.bernoulli(gg.tensor([1.5]))
    with pytest.raises(NotImplementedError, match="floating-point"):
        gg.bernoulli(gg.tensor([1]))


@on_every_device
@pytest.mark.parametrize("rows", [1, 2, 3000])
def test_multinomial_with_replacement(rows):
    gg.manual_seed(4)
    weights = np.array([1.0, 0.0, 3.0, 4.0, 0.0])
    samples = 60_000 // rows
    x = gg.multinomial(gg.tensor(np.tile(weights, (rows, 1))), samples, replacement=True)
    assert shape_and_dtype(x) == ((rows, samples), gg.int64)
    found = np.bincount(x.cpu().numpy().ravel(), minlength=5) / x.numel()
    np.testing.assert_allclose(found, weights / 8, atol=0.01)
    assert found[1] == found[4] == 0


@pytest.mark.parametrize("rows", [1, 2])
def test_multinomial_never_draws_what_has_no_weight(rows, monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda shape, *args: np.zeros(shape))
    assert set(gg.multinomial(gg.tensor([[0.0, 1.0, 0.0]] * rows), 1).cpu().numpy().ravel()) == {1}
    monkeypatch.setattr(random, "uniform", lambda shape, *args: np.full(shape, 1 - 2.0**-53))
    assert set(gg.multinomial(gg.tensor([[0.0, 0.3, 0.0]] * rows), 1).cpu().numpy().ravel()) == {1}


@on_every_device
def test_multinomial_without_replacement():
    gg.manual_seed(5)
    x = gg.multinomial(gg.tensor(np.tile([3.0, 1.0, 0.0], (8000, 1))), 3).cpu().numpy()
    assert (np.sort(x, axis=1) == [0, 1, 2]).all()
    assert (x[:, 2] == 2).all()
    assert abs((x[:, 0] == 0).mean() - 0.75) < 0.02
    assert gg.multinomial(gg.tensor([0.0, 2.0]), 1).tolist() == [1]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: gg.rand(), TypeError, "missing"),
        (lambda: gg.rand("a"), TypeError, "must be ints"),
        (lambda: gg.rand(2, size=(3,)), TypeError, "takes ints"),
        (lambda: gg.randint(2.5, (2,)), TypeError, "must be ints"),
        (lambda: gg.randint(3, 4), TypeError, "tuple of ints"),
        (lambda: gg.randint(3), TypeError, "expects"),
        (lambda: gg.normal(0.0, 1.0), TypeError, "size"),
        (lambda: gg.randperm(-1), RuntimeError, "negative"),
        (lambda: gg.tensor([1.0]).exponential_(0), RuntimeError, "lambda"),
        (lambda: gg.tensor([1.0]).random_(0), RuntimeError, "less than"),
        (lambda: gg.multinomial(gg.tensor([1.0, 2.0]), 0), RuntimeError, "n_sample <= 0"),
        (lambda: gg.multinomial(gg.tensor([1.0, 2.0]), 3), RuntimeError, "without replacement"),
        (lambda: gg.multinomial(gg.tensor([0.0, 0.0]), 1), RuntimeError, "sum of probabilities"),
        (lambda: gg.multinomial(gg.tensor([-1.0, 2.0]), 1), RuntimeError, "element < 0"),
        (lambda: gg.multinomial(gg.tensor([1, 2]), 1), RuntimeError, "floating-point"),
        (lambda: gg.multinomial(gg.tensor([[[1.0]]]), 1), RuntimeError, "1 or 2 dim"),
    ],
)
def test_bad_arguments_of_tensor_functions(call, error, text):
    with pytest.raises(error, match=text):
        call()


def _surprise(draws, log_prob, most):
    """How far counts are from their probabilities: chi squared, less its mean, in its standard deviations."""
    expected = np.exp([float(log_prob(gg.tensor(float(k), dtype=gg.float64))) for k in range(most + 1)]) * len(draws)
    found = np.bincount(draws, minlength=most + 1)[: most + 1]
    usual = expected > 5
    rest = len(draws) - expected[usual].sum()
    squares = ((found - expected)[usual] ** 2 / expected[usual]).sum()
    squares += (len(draws) - found[usual].sum() - rest) ** 2 / max(rest, 1)
    return abs(squares - usual.sum()) / np.sqrt(2 * usual.sum())


@pytest.mark.parametrize("rate", [0.3, 4, 9.9, 10, 25, 60])
def test_poisson_draws_have_their_probabilities(rate):
    draws = gg.poisson(gg.full((50_000,), rate, dtype=gg.float64), seeded(3)).numpy().astype(int)
    assert _surprise(draws, gg.distributions.Poisson(gg.tensor(rate, dtype=gg.float64)).log_prob, 120) < 4


@pytest.mark.parametrize(("n", "p"), [(1, 0.3), (9, 0.5), (40, 0.2), (40, 0.5), (60, 0.8), (30, 0.97), (90, 0.1)])
def test_binomial_draws_have_their_probabilities(n, p):
    count, prob = gg.full((50_000,), n, dtype=gg.float64), gg.tensor(p, dtype=gg.float64)
    draws = gg.binomial(count, prob, seeded(4)).numpy().astype(int)
    assert draws.max() <= n
    assert _surprise(draws, gg.distributions.Binomial(n, prob, validate_args=False).log_prob, n) < 4


def test_counts_of_few_and_of_many_are_drawn_together():
    gg.manual_seed(0)
    rates = gg.tensor([[0.0, 2.0], [400.0, 9.0]])
    draws = gg.poisson(rates.expand(20_000, 2, 2))
    assert draws.dtype == gg.float32
    np.testing.assert_allclose(draws.mean(0), rates, rtol=0.02)
    draws = gg.binomial(gg.tensor([5.0, 0.0, 1000.0]).expand(20_000, 3), gg.tensor([0.5, 0.5, 0.7]))
    np.testing.assert_allclose(draws.mean(0), [2.5, 0, 700], rtol=0.02)
    np.testing.assert_allclose(draws.std(0), [5**0.5 / 2, 0, 210**0.5], rtol=0.03)
    assert gg.binomial(gg.full((9,), 7.0), gg.tensor([0.0, 1.0]).unsqueeze(1)).tolist() == [[0.0] * 9, [7.0] * 9]
    assert gg.poisson(gg.zeros(0, 2)).shape == (0, 2)
    # The same seed, the same draws, whatever was drawn before.
    assert (gg.poisson(rates, seeded(1)) == gg.poisson(rates, seeded(1))).all()


@pytest.mark.parametrize("place", ACCELERATED)
def test_counts_are_the_same_on_both_devices(place):
    found = []
    for device in ("cpu", place):
        rates, chances = gg.tensor([[0.5, 20.0], [300.0, 3.0]], device=device), gg.tensor([0.3, 0.9], device=device)
        draws = [gg.poisson(rates.expand(5, 2, 2), seeded(1)), gg.binomial(rates.floor(), chances, seeded(2))]
        assert all(t.device.type == device for t in draws)
        found.append([t.cpu().numpy() for t in draws])
    close(*found, 0, 0)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: gg.poisson(gg.tensor([1])), NotImplementedError),
        (lambda: gg.poisson(gg.tensor([-1.0])), RuntimeError),
        (lambda: gg.poisson(gg.tensor([np.nan])), RuntimeError),
        (lambda: gg.binomial(gg.tensor([1]), gg.tensor([0.5])), ValueError),
        (lambda: gg.binomial(gg.tensor([1.0]), gg.tensor([0.5], dtype=gg.float64)), RuntimeError),
        (lambda: gg.binomial(gg.tensor([1.0]), gg.tensor([1.5])), RuntimeError),
        (lambda: gg.binomial(gg.tensor([-1.0]), gg.tensor([0.5])), RuntimeError),
    ],
)
def test_counts_that_cannot_be_drawn(call, error):
    with pytest.raises(error):
        call()
