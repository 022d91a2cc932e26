"""Distributions, made with this library or with PyTorch: values, gradients, draws, divergences, transforms."""

import math
import pickle

import numpy as np
import pytest
from helpers import ACCELERATED, close, host, needs_torch, on_every_device, torch

import gpugrad as gg
from gpugrad.random import log_standard_gamma

PROBS = np.array([[0.2, 0.5, 0.3], [0.0, 1.0, 3.0]])
COUNTS = np.array([[3.0, 1.0, 1.0], [0.0, 2.0, 3.0]])
SIZES = np.array([[0.4, 1.5, 2.3], [1.2, 0.7, 3.4]])
PLACES = np.array([[0.3, 0.8, 0.1], [0.45, 0.6, 0.95]])
SIMPLEX = np.array([[0.2, 0.5, 0.3], [0.1, 0.2, 0.7]])
ONE_HOT = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def _definite(x):
    """A positive definite matrix for each row of ``x``."""
    return x.unsqueeze(-1) * x.unsqueeze(-2) + x.unsqueeze(-1) ** 0 * x.new_tensor(np.diag([1.0, 2.0, 3.0]))


def _mixture(D, x):
    return D.MixtureSameFamily(D.Categorical(x), D.Normal(x * 2, x + 0.1))


def _mixture_of_vectors(D, x):
    return D.MixtureSameFamily(D.Categorical(logits=x), D.Independent(D.Laplace(x.unsqueeze(-1) * x[0], 0.7), 1))


def _folded(D, x):
    parts = [D.AffineTransform(x, -0.5), D.transforms.TanhTransform(), D.transforms.AffineTransform(0.0, 2.0)]
    return D.TransformedDistribution(D.Normal(0.3 * x[0], 1.5), parts)


def _reshaped(D, x):
    base = D.Independent(D.Gumbel(x, 1.3), 1)
    return D.TransformedDistribution(base, [D.ReshapeTransform((3,), (3, 1)), D.transforms.SoftplusTransform()])


DISTRIBUTIONS = {
    "categorical": (lambda D, x: D.Categorical(x), PROBS, np.array([[2, 1], [0, 1], [1, 2]])),
    "categorical-logits": (lambda D, x: D.categorical.Categorical(logits=x), PROBS, np.array([2, 1])),
    "normal": (lambda D, x: D.normal.Normal(x, x + 0.5), PROBS, PROBS + 1),
    "normal-number": (lambda D, x: D.Normal(x, 0.5), PROBS, PROBS[0]),
    "uniform": (lambda D, x: D.uniform.Uniform(x, x + 2), PROBS, PROBS + 1),
    "uniform-outside": (lambda D, x: D.Uniform(0.0, x + 1), PROBS, PROBS + 1),
    "bernoulli": (lambda D, x: D.bernoulli.Bernoulli(x / 3), PROBS, 1.0 * (PROBS > 0.4)),
    "bernoulli-logits": (lambda D, x: D.Bernoulli(logits=x), PROBS, 1.0 * (PROBS > 0.4)),
    "binomial": (lambda D, x: D.binomial.Binomial(5, x / 3), PROBS, COUNTS),
    "binomial-logits": (lambda D, x: D.Binomial(5, logits=x - 0.5), PROBS, COUNTS[:1]),
    "poisson": (lambda D, x: D.poisson.Poisson(x), PROBS + 0.1, COUNTS),
    "poisson-zero": (lambda D, x: D.Poisson(x), PROBS, COUNTS),
    "multinomial": (lambda D, x: D.multinomial.Multinomial(5, x), PROBS, COUNTS),
    "multinomial-logits": (lambda D, x: D.Multinomial(5, logits=x), PROBS, COUNTS[::-1].copy()),
    "multivariate": (lambda D, x: D.multivariate_normal.MultivariateNormal(x, _definite(x)), PROBS, COUNTS),
    "multivariate-one": (lambda D, x: D.MultivariateNormal(x[0], _definite(x)[1]), PROBS, COUNTS),
    "multivariate-precision": (lambda D, x: D.MultivariateNormal(x, precision_matrix=_definite(x)), PROBS, COUNTS[0]),
    "multivariate-factor": (lambda D, x: D.MultivariateNormal(x, scale_tril=_definite(x).tril()), PROBS, COUNTS),
    "exponential": (lambda D, x: D.exponential.Exponential(x), SIZES, COUNTS),
    "laplace": (lambda D, x: D.laplace.Laplace(x - 2, x), SIZES, COUNTS - 2),
    "log_normal": (lambda D, x: D.log_normal.LogNormal(x - 1, x * 0.5), SIZES, SIZES[:1] + 0.3),
    "gamma": (lambda D, x: D.gamma.Gamma(x, x * 2 - 0.5), SIZES, SIZES[::-1].copy()),
    "gamma-many": (lambda D, x: D.Gamma(x * 40, 3.0), SIZES, SIZES * 13),
    "beta": (lambda D, x: D.beta.Beta(x, x * x + 0.3), SIZES, PLACES),
    "dirichlet": (lambda D, x: D.dirichlet.Dirichlet(x), SIZES, SIMPLEX),
    "dirichlet-few": (lambda D, x: D.Dirichlet(x / 4), SIZES, SIMPLEX[0]),
    "chi2": (lambda D, x: D.chi2.Chi2(x), SIZES, SIZES + 1),
    "studentt": (lambda D, x: D.studentT.StudentT(x, 1 - x, x * 2), SIZES, COUNTS),
    "gumbel": (lambda D, x: D.gumbel.Gumbel(1 - x, x), SIZES, COUNTS - 1),
    "cauchy": (lambda D, x: D.cauchy.Cauchy(1 - x, x), SIZES, COUNTS - 1),
    "half_normal": (lambda D, x: D.half_normal.HalfNormal(x), SIZES, COUNTS),
    "half_cauchy": (lambda D, x: D.half_cauchy.HalfCauchy(x), SIZES, COUNTS),
    "geometric": (lambda D, x: D.geometric.Geometric(x / 4), SIZES, COUNTS),
    "geometric-logits": (lambda D, x: D.Geometric(logits=x - 1), SIZES, COUNTS),
    "negative_binomial": (lambda D, x: D.negative_binomial.NegativeBinomial(x + 2, x / 4), SIZES, COUNTS),
    "negative_binomial-logits": (lambda D, x: D.NegativeBinomial(3, logits=x - 1), SIZES, COUNTS),
    "one_hot": (lambda D, x: D.one_hot_categorical.OneHotCategorical(x), PROBS, ONE_HOT),
    "one_hot-through": (lambda D, x: D.OneHotCategoricalStraightThrough(logits=x), PROBS, ONE_HOT),
    "relaxed_bernoulli": (lambda D, x: D.RelaxedBernoulli(x.new_tensor(0.7), x / 4), SIZES, PLACES),
    "relaxed_bernoulli-logits": (lambda D, x: D.RelaxedBernoulli(x[0, 0], logits=x - 1), SIZES, PLACES),
    "relaxed_categorical": (lambda D, x: D.RelaxedOneHotCategorical(x.new_tensor(0.7), x), SIZES, SIMPLEX),
    "relaxed_categorical-logits": (lambda D, x: D.RelaxedOneHotCategorical(x[0, 0], logits=x), SIZES, SIMPLEX[1]),
    "von_mises": (lambda D, x: D.von_mises.VonMises(x - 1, x * 5), SIZES, PLACES),
    "weibull": (lambda D, x: D.weibull.Weibull(x, x + 0.8), SIZES, SIZES + 0.2),
    "pareto": (lambda D, x: D.pareto.Pareto(x, x + 0.5), SIZES, SIZES + 0.2),
    "kumaraswamy": (lambda D, x: D.kumaraswamy.Kumaraswamy(x, x * 2), SIZES, PLACES),
    "inverse_gamma": (lambda D, x: D.inverse_gamma.InverseGamma(x, x * 2), SIZES, SIZES + 0.2),
    "logistic_normal": (lambda D, x: D.logistic_normal.LogisticNormal(x[:, :2], x[:, 1:]), SIZES, SIMPLEX),
    "independent": (lambda D, x: D.independent.Independent(D.Laplace(x, 1.0), 1), SIZES, COUNTS),
    "independent-none": (lambda D, x: D.Independent(D.Bernoulli(x / 4), 0), SIZES, 1.0 * (PROBS > 0.4)),
    "mixture": (_mixture, SIZES, COUNTS[0, :2]),
    "mixture-vectors": (_mixture_of_vectors, SIZES, COUNTS),
    "transformed": (_folded, SIZES, COUNTS / 3 - 0.4),
    "transformed-shape": (_reshaped, SIZES, SIZES[..., None]),
}
PROPERTIES = ["mean", "variance", "stddev", "mode"]
METHODS = ["entropy", "perplexity", "cdf", "icdf", "enumerate_support"]


def _all_of(T, name, known=None):
    """What a distribution says, by name, None where it does not know; and the gradient of all that PyTorch knows."""
    make, parameters, values = DISTRIBUTIONS[name]
    x = T.tensor(parameters, requires_grad=True)
    d, value = make(T.distributions, x), T.tensor(values)
    calls = {each: lambda each=each: getattr(d, each) for each in PROPERTIES}
    calls |= {each: getattr(d, each) for each in METHODS}
    calls |= {
        "log_prob": lambda: d.log_prob(value),
        "cdf": lambda: d.cdf(value),
        "icdf": lambda: d.icdf(T.tensor(PLACES if d.batch_shape == (2, 3) else PLACES[0, :2])),
        "enumerate_support": lambda: d.enumerate_support() * 1.0,
        "unexpanded": lambda: d.enumerate_support(expand=False) * 1.0,
        "support": lambda: d.support.check(value) * 1.0,
        "kl": lambda: T.distributions.kl_divergence(d, make(T.distributions, T.tensor(parameters[::-1].copy()))),
    }
    more = value.ndim > len(d.batch_shape + d.event_shape)
    wide = d.expand((len(value) if more else 4, *d.batch_shape))
    assert (wide.batch_shape[1:], wide.event_shape) == (d.batch_shape, d.event_shape)
    calls["wide log_prob"] = lambda: wide.log_prob(value)
    calls["wide mean"] = lambda: wide.mean
    found = {}
    for each, call in calls.items():
        try:
            found[each] = call()
        except NotImplementedError:
            found[each] = None
    total = 0
    for k, (each, t) in enumerate(found.items()):
        # PyTorch knows no derivative of the incomplete gamma function by its shape parameter.
        if (
            t is not None
            and each in (known or found)
            and (each != "cdf" or name.split("-")[0] not in ("gamma", "chi2", "inverse_gamma"))
        ):
            total = total + t[t.isfinite()].sum() * (k + 1)
    total.backward()
    facts = [tuple(d.batch_shape), tuple(d.event_shape), bool(d.has_rsample), bool(d.has_enumerate_support)]
    facts += [tuple(d.sample((4, 5)).shape), tuple(wide.sample((2,)).shape), str(d.sample().dtype).split(".")[-1]]
    facts.append(d.rsample((2,)).requires_grad if d.has_rsample else None)
    facts += [d.support.event_dim, d.support.is_discrete]
    return found | {"gradient": x.grad}, facts


@on_every_device
@needs_torch
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions_are_those_of_pytorch(name):
    theirs, expected = _all_of(torch, name)
    mine, facts = _all_of(gg, name, {each for each, other in theirs.items() if other is not None})
    assert facts == expected
    for each, other in theirs.items():
        if other is not None:
            # PyTorch computes Bessel functions to seven digits.
            rtol = 1e-6 if name == "von_mises" else 1e-7
            close(mine[each], other.detach().numpy(), rtol, rtol / 10, err_msg=each)
    assert {k for k, v in mine.items() if v is None} <= {k for k, v in theirs.items() if v is None}


def _one_of_each(D, T):
    x, y = T.tensor([0.3, 0.7, 1.4], dtype=T.float64, requires_grad=True), T.tensor(0.6, dtype=T.float64)
    return x, [
        D.Bernoulli(x / 2),
        D.Beta(x, y),
        D.Binomial(3, x / 2),
        D.Cauchy(x, y),
        D.Chi2(x),
        D.Exponential(x),
        D.Gamma(x, y),
        D.Geometric(x / 2),
        D.Gumbel(y, x),
        D.HalfNormal(x),
        D.Laplace(y, x),
        D.LogNormal(x, y),
        D.Normal(x, y),
        D.Pareto(x, y),
        D.Pareto(y, x + 1),
        D.Poisson(x),
        D.Uniform(x / 2, x),
        D.Uniform(-x, y),
        D.Uniform(y - 0.6, y + x),
        D.Weibull(x, y),
        D.Weibull(y, x),
        D.OneHotCategorical(x),
        D.Dirichlet(x),
        D.Categorical(x),
        D.Independent(D.Normal(x, y), 1),
    ]


@on_every_device
@needs_torch
def test_divergences_between_distributions_of_any_two_kinds_are_those_of_pytorch():
    (x, ours), (other, theirs) = (_one_of_each(T.distributions, T) for T in (gg, torch))
    known = 0
    for p, a in zip(ours, theirs, strict=True):
        for q, b in zip(ours, theirs, strict=True):
            what = f"{p} and {q}"
            try:
                expected = torch.distributions.kl_divergence(a, b)
            except NotImplementedError:
                with pytest.raises(NotImplementedError):
                    gg.distributions.kl_divergence(p, q)
                continue
            found = gg.distributions.kl_divergence(p, q)
            close(found, expected.detach().numpy(), 1e-9, 1e-9, err_msg=what)
            if expected.isfinite().all() and expected.requires_grad:
                g = gg.autograd.grad(found.sum(), [x], retain_graph=True, allow_unused=True)[0]
                h = torch.autograd.grad(expected.sum(), [other], retain_graph=True, allow_unused=True)[0]
                close(g, h.numpy(), 1e-8, 1e-8, err_msg=what)
            known += 1
    assert known > 100


@needs_torch
def test_divergences_of_binomials_of_different_counts():
    for T in (gg, torch):
        D, p = T.distributions, T.tensor([0.3])
        assert D.kl_divergence(D.Binomial(5, p), D.Binomial(4, p)).item() == math.inf
        with pytest.raises(NotImplementedError):
            D.kl_divergence(D.Binomial(4, p), D.Binomial(5, p))


def test_a_divergence_of_ones_own():
    D = gg.distributions

    class Half(D.Normal):
        pass

    assert D.kl_divergence(Half(0.0, 1.0), D.Normal(0.0, 1.0)).item() == 0

    @D.register_kl(Half, D.Normal)
    def _(p, q):
        return p.mean + 7

    try:
        assert D.kl.kl_divergence(Half(0.0, 1.0), Half(0.0, 1.0)).item() == 7
    finally:
        del D.kl._KNOWN[Half, D.Normal]
    with pytest.raises(TypeError, match="register_kl"):
        D.register_kl(int, D.Normal)


# Draws


@on_every_device
def test_draws_of_distributions_have_their_mean_and_variance():
    gg.manual_seed(0)
    D = gg.distributions
    matrix = gg.tensor([[2.0, 0.6], [0.6, 0.5]])
    for d in (
        D.Normal(3.0, 0.5),
        D.Uniform(-1.0, 3.0),
        D.Bernoulli(0.3),
        D.Binomial(7, gg.tensor([0.2, 0.9])),
        D.Poisson(2.5),
        D.Multinomial(4, gg.tensor([0.2, 0.5, 0.3])),
        D.MultivariateNormal(gg.tensor([1.0, -1.0]), matrix),
        D.Dirichlet(gg.tensor([0.3, 1.0, 4.0])),
        D.Beta(0.02, 0.01),
        D.OneHotCategorical(gg.tensor([0.2, 0.5, 0.3])),
        D.Geometric(0.6),
        D.NegativeBinomial(3.0, 0.3),
        D.MixtureSameFamily(D.Categorical(gg.tensor([0.2, 0.8])), D.Normal(gg.tensor([-1.0, 1.0]), 0.5)),
        D.MixtureSameFamily(
            D.Categorical(gg.tensor([0.2, 0.8])), D.MultivariateNormal(gg.tensor([[-1.0, 1.0], [0.0, 2.0]]), gg.eye(2))
        ),
    ):
        draws = d.sample((20_000,))
        close(draws.mean(0), d.mean, atol=0.04)
        close(draws.var(0), d.variance, atol=0.08)
    np.testing.assert_allclose(
        np.cov(host(D.MultivariateNormal(gg.zeros(2), matrix).sample((20_000,))).T), host(matrix), atol=0.05
    )
    assert (D.Multinomial(4, gg.tensor([[1.0, 2.0], [3.0, 0.0]])).sample((9,)).sum(-1) == 4).all()
    draws = D.Categorical(gg.tensor(PROBS)).sample((20_000,))
    for k, row in enumerate(PROBS / PROBS.sum(1, keepdims=True)):
        np.testing.assert_allclose(np.bincount(host(draws[:, k]), minlength=3) / 20_000, row, atol=0.015)
    assert D.Categorical(gg.ones(3)).sample((0, 2)).shape == (0, 2)
    assert D.Multinomial(0, gg.ones(3)).sample((2,)).tolist() == [[0.0] * 3] * 2


CONTINUOUS = {
    "normal": lambda D: D.Normal(1.0, 2.0),
    "uniform": lambda D: D.Uniform(-1.0, 2.0),
    "exponential": lambda D: D.Exponential(2.0),
    "laplace": lambda D: D.Laplace(1.0, 2.0),
    "log_normal": lambda D: D.LogNormal(0.5, 0.7),
    "gamma": lambda D: D.Gamma(3.0, 2.0),
    "gamma-few": lambda D: D.Gamma(1.2, 0.5),
    "gamma-less": lambda D: D.Gamma(0.3, 0.5),
    "chi2": lambda D: D.Chi2(5.0),
    "gumbel": lambda D: D.Gumbel(1.0, 2.0),
    "cauchy": lambda D: D.Cauchy(1.0, 2.0),
    "half_normal": lambda D: D.HalfNormal(2.0),
    "half_cauchy": lambda D: D.HalfCauchy(2.0),
    "von_mises": lambda D: D.VonMises(0.3, 2.5),
    "von_mises-even": lambda D: D.VonMises(0.3, 1e-7),
    "von_mises-narrow": lambda D: D.VonMises(0.3, 1e4),
    "weibull": lambda D: D.Weibull(2.0, 1.7),
    "pareto": lambda D: D.Pareto(2.0, 1.7),
    "kumaraswamy": lambda D: D.Kumaraswamy(2.0, 1.7),
    "beta": lambda D: D.Beta(2.0, 1.7),
    "studentt": lambda D: D.StudentT(5.0, 1.0, 2.0),
    "inverse_gamma": lambda D: D.InverseGamma(3.0, 2.0),
    "relaxed_bernoulli": lambda D: D.RelaxedBernoulli(gg.tensor(0.9), 0.4),
    "mixture": lambda D: D.MixtureSameFamily(D.Categorical(gg.ones(2)), D.Normal(gg.tensor([-1.0, 1.0]), 0.5)),
    "transformed": lambda D: D.TransformedDistribution(D.Normal(0.0, 1.0), [D.AffineTransform(0.3, -0.5)]),
}


def _distance(d, draws):
    """The Kolmogorov-Smirnov statistic times sqrt(n); above 2 with probability 7e-4."""
    x = np.sort(host(draws.double()))
    n = len(x)
    try:
        p = host(d.cdf(gg.tensor(x, dtype=gg.float32))).astype(float)
    except NotImplementedError:
        low, high = x[0] - (x[-1] - x[0]) / n, x[-1]
        grid = np.linspace(max(low, 1e-6) if x[0] > 0 else low, high, 200_001)
        density = np.exp(host(d.log_prob(gg.tensor(grid, dtype=gg.float32).clamp(max=float(np.float32(high))))))
        mass = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(grid))])
        p = np.interp(x, grid, mass)
    steps = np.arange(n + 1) / n
    return math.sqrt(n) * max(np.max(steps[1:] - p), np.max(p - steps[:-1]))


@on_every_device
@pytest.mark.parametrize("name", CONTINUOUS)
def test_draws_are_spread_as_the_distribution_says(name):
    gg.manual_seed(1)
    d = CONTINUOUS[name](gg.distributions)
    draws = d.sample((20_000,))
    assert draws.isfinite().all()
    assert d.support.check(draws).all()
    assert _distance(d, draws) < 2


@pytest.mark.parametrize(("d", "most"), [("Geometric(0.3)", 40), ("NegativeBinomial(2.5, 0.6)", 40)])
def test_counts_have_their_probabilities(d, most):
    gg.manual_seed(2)
    d = eval(f"D.{d}", {"D": gg.distributions})
    draws = host(d.sample((50_000,))).astype(int)
    expected = host(d.log_prob(gg.arange(most, dtype=gg.float32)).exp())
    found = np.bincount(draws, minlength=most)[:most] / 50_000
    np.testing.assert_allclose(found, expected, atol=5 * 0.5 / math.sqrt(50_000))


@pytest.mark.parametrize("dtype", [gg.float32, gg.float64])
def test_draws_of_tiny_shape_parameters_are_possible_and_have_a_density(dtype):
    gg.manual_seed(0)
    D, few = gg.distributions, gg.tensor(1e-3, dtype=dtype)
    for d in (D.Gamma(few, 3 * few), D.Beta(few, few), D.Dirichlet(few.expand(3))):
        draws = d.sample((2000,))
        assert draws.dtype == dtype
        assert d.log_prob(draws).isfinite().all()
        assert (draws > 0).all()
    corners = D.Dirichlet(few.expand(3)).sample((3000,)).round()
    close(corners.mean(0), np.full(3, 1 / 3), atol=0.04)


@pytest.mark.parametrize("place", ACCELERATED)
@pytest.mark.parametrize("name", [name for name in DISTRIBUTIONS if name != "multinomial-logits"])
def test_draws_are_the_same_on_both_devices(name, place):
    make, parameters, _ = DISTRIBUTIONS[name]
    found = []
    for device in ("cpu", place):
        gg.manual_seed(5)
        d = make(gg.distributions, gg.tensor(parameters, device=device))
        draws = [d.sample((3, 5)), d.sample()]
        assert all(t.device.type == device for t in draws)
        found.append([t.cpu().numpy() for t in draws])
    close(*found, 1e-9, 1e-12)


@pytest.mark.parametrize("place", ACCELERATED)
@pytest.mark.parametrize("kind", ["Gamma", "Beta", "StudentT", "Laplace", "RelaxedBernoulli"])
def test_captured_draws_are_those_of_a_step_that_is_not(kind, place):
    found = []
    for compiled in (False, True):
        gg.manual_seed(3)
        x = gg.tensor([0.3, 1.0, 2.0, 0.8] * 8, device=place, requires_grad=True)
        optimizer, calls = gg.optim.SGD([x], lr=0.0), []

        def step(x=x, optimizer=optimizer, calls=calls):
            d = {
                "Gamma": lambda D: D.Gamma(x, 2.0, validate_args=False),
                "Beta": lambda D: D.Beta(x, x + 1, validate_args=False),
                "StudentT": lambda D: D.StudentT(x, validate_args=False),
                "Laplace": lambda D: D.Laplace(0.5, x, validate_args=False),
                "RelaxedBernoulli": lambda D: D.RelaxedBernoulli(0.5, logits=x, validate_args=False),
            }[kind](gg.distributions)
            optimizer.zero_grad()
            draws = d.rsample((3,))
            draws.sum().backward()
            calls.append(draws)
            return draws, x.grad

        run = gg.compile(step) if compiled else step
        found.append([t.detach().cpu().numpy().copy() for _ in range(6) for t in run()])
        assert len(calls) == (3 if compiled else 6)
    close(*found, 1e-5, 1e-6)


def test_a_draw_takes_as_much_of_the_stream_whatever_was_rejected():
    states = []
    for seed in range(6):
        gg.manual_seed(seed)
        gg.distributions.Gamma(gg.full((500,), 1.1), 1.0).sample()
        states.append(gg.get_rng_state()[1].item())
    assert len(set(states)) == 1


# Gradients of draws


@on_every_device
@needs_torch
@pytest.mark.parametrize("dtype", [gg.float32, gg.float64])
def test_gamma_draws_move_with_the_shape_parameter_as_their_quantile_does(dtype):
    gg.manual_seed(0)
    a = gg.tensor([0.05, 0.3, 0.9, 1.0, 1.7, 4.0, 9.0, 30.0, 400.0], dtype=dtype).expand(40, 9)
    a = a.clone().requires_grad_()
    draws = log_standard_gamma(a).exp()
    (g,) = gg.autograd.grad(draws.sum(), [a])
    assert g.dtype == dtype
    theirs = torch._standard_gamma_grad(torch.tensor(host(a)).double(), torch.tensor(host(draws)))
    # PyTorch's own is good to about three digits.
    np.testing.assert_allclose(host(g), theirs.numpy(), rtol=2e-3)
    exact, x = host(a).astype(float), host(draws)
    step = 1e-5 * exact
    share = torch.special.gammainc(torch.tensor(np.array([exact + step, exact - step])), torch.tensor(x)).numpy()
    density = np.exp(torch.distributions.Gamma(torch.tensor(exact), 1.0).log_prob(torch.tensor(x)).numpy())
    usual = (share[0] > 1e-3) & (share[0] < 0.999)
    expected = (share[1] - share[0]) / (2 * step) / density
    np.testing.assert_allclose(host(g)[usual], expected[usual], rtol=1e-6)


def test_gamma_draws_have_second_derivatives():
    a = gg.tensor([0.4, 1.3, 6.0], dtype=gg.float64, requires_grad=True)
    gg.manual_seed(3)
    draws = log_standard_gamma(a)
    (first,) = gg.autograd.grad(draws.sum(), [a], create_graph=True)
    (second,) = gg.autograd.grad(first.sum(), [a])
    # Along the path on which the probability from below stays, by differences.
    moved = []
    for step in (1e-4, -1e-4):
        b = (a.detach() + step).requires_grad_()
        follow = (draws + first * step + second * step**2 / 2).detach()
        (slope,) = gg.autograd.grad(gg.ops.REGISTRY["gamma_path"](b, follow).sum(), [b])
        moved.append(slope)
    close(second, (moved[0] - moved[1]) / 2e-4, 1e-5)


@on_every_device
@pytest.mark.parametrize("kind", ["Beta", "Dirichlet", "Gamma", "StudentT", "InverseGamma", "Chi2"])
def test_gradients_of_draws_are_those_of_the_mean(kind):
    """The mean of a function of draws is differentiated; its exact derivative comes from the variance."""
    gg.manual_seed(0)
    D = gg.distributions
    x = gg.tensor([2.0, 3.0], dtype=gg.float64, requires_grad=True)
    d = {
        "Beta": lambda: D.Beta(x[0], x[1]),
        "Dirichlet": lambda: D.Dirichlet(gg.stack([x[0], x[1], x[0]])),
        "Gamma": lambda: D.Gamma(x[0], x[1]),
        "StudentT": lambda: D.StudentT(x[0] + 8, x[1], x[0]),
        "InverseGamma": lambda: D.InverseGamma(x[0] + 8, x[1]),
        "Chi2": lambda: D.Chi2(x[1]),
    }[kind]()
    (found,) = gg.autograd.grad((d.rsample((40_000,)) ** 2).mean(0).sum(), [x], retain_graph=True)
    (exact,) = gg.autograd.grad((d.variance + d.mean**2).sum(), [x])
    close(found, exact, 0.05, 0.02)


@on_every_device
@needs_torch
def test_straight_through_gradients_reach_the_probabilities():
    for T in (gg, torch):
        x = T.tensor(SIMPLEX, requires_grad=True)
        d = T.distributions.OneHotCategoricalStraightThrough(x)
        draws = d.rsample()
        assert d.support.check(draws.detach().round()).all()
        (draws * T.tensor(SIZES)).sum().backward()
        close(x.grad.cpu().numpy(), SIZES - (SIZES * SIMPLEX).sum(1, keepdims=True))


# Transforms


def _transforms(D, T):
    t = D.transforms
    x = T.tensor(SIZES)
    return {
        "exp": (t.ExpTransform(), x - 1),
        "exp-inverse": (t.ExpTransform().inv, x),
        "power": (t.PowerTransform(T.tensor([2.0, 0.5, -1.0], dtype=T.float64)), x),
        "sigmoid": (t.SigmoidTransform(), x - 1),
        "softplus": (t.SoftplusTransform(), x - 1),
        "tanh": (t.TanhTransform(), x - 1),
        "affine": (t.AffineTransform(x[0], -x), x),
        "affine-number": (t.AffineTransform(1, -2.0), x),
        "affine-vector": (t.AffineTransform(x[0], x, event_dim=1), x),
        "softmax": (t.SoftmaxTransform(), x),
        "stick": (t.StickBreakingTransform(), x),
        "independent": (t.IndependentTransform(t.ExpTransform(), 1), x),
        "reshape": (t.ReshapeTransform((3,), (1, 3)), x),
        "compose": (t.ComposeTransform([t.AffineTransform(0.1, 0.5), t.StickBreakingTransform()]), x),
        "compose-inverse": (t.ComposeTransform([t.AffineTransform(0.1, 0.5), t.ExpTransform()]).inv, x),
        "identity": (t.identity_transform, x),
        "corr": (t.CorrCholeskyTransform(), x - 1),
        "lower": (t.LowerCholeskyTransform(), x.unsqueeze(-1) * x[0]),
        "definite": (t.PositiveDefiniteTransform(), x.unsqueeze(-1) * x[0]),
        "cat": (t.CatTransform([t.ExpTransform(), t.TanhTransform()], 1, [1, 2]), x),
        "cat-vectors": (
            t.CatTransform([t.StickBreakingTransform(), t.IndependentTransform(t.ExpTransform(), 1)], 0),
            x,
        ),
        "stack": (t.StackTransform([t.ExpTransform(), t.TanhTransform()], 0), x),
        "cumulative": (t.CumulativeDistributionTransform(D.Normal(0.5, 1.5)), x),
    }


@on_every_device
@needs_torch
@pytest.mark.parametrize("name", list(_transforms(gg.distributions, gg)))
def test_transforms_are_those_of_pytorch(name):
    answers = []
    for T in (gg, torch):
        transform, x = _transforms(T.distributions, T)[name]
        x = x.detach().requires_grad_()
        found = {}
        if name != "cat-vectors":
            y = found["image"] = transform(x)
            found["back"] = transform.inv(y)
            found["domain"], found["codomain"] = transform.domain.check(x), transform.codomain.check(y)
            if name not in ("definite", "lower", "softmax"):
                found["size"] = transform.log_abs_det_jacobian(x, y)
                found["inverse size"] = transform.inv.log_abs_det_jacobian(y, x)
        sizes = [transform.forward_shape(x.shape), transform.inverse_shape(transform.forward_shape(x.shape))]
        facts = [transform.bijective, *map(tuple, sizes), transform.domain.event_dim, transform.codomain.event_dim]
        total = sum((t * 1.0).sum() * (k + 1) for k, t in enumerate(found.values()))
        if found:
            total.backward()
            found["gradient"] = x.grad
        try:
            found["sign"] = T.as_tensor(transform.sign)
        except NotImplementedError:
            facts.append("no sign")
        answers.append((list(found), facts, [t.detach().cpu().numpy() for t in found.values()]))
    assert answers[0][:2] == answers[1][:2]
    close(answers[0][2], answers[1][2], 1e-7, 1e-8)


def test_transforms_are_equal_when_they_do_the_same():
    t = gg.distributions.transforms
    one = gg.tensor([1.0, 2.0])
    for make in (
        t.ExpTransform,
        lambda: t.AffineTransform(one.clone(), 2),
        lambda: t.PowerTransform(one.clone()),
        lambda: t.ComposeTransform([t.ExpTransform(), t.TanhTransform().inv]),
        lambda: t.IndependentTransform(t.ExpTransform(), 1),
        lambda: t.ReshapeTransform((2,), (1, 2)),
        lambda: t.CatTransform([t.ExpTransform()], 0),
    ):
        assert make() == make()
        assert make() != t.SigmoidTransform()
        assert make().inv.inv == make()
        assert pickle.loads(pickle.dumps(make())) == make()
    assert t.AffineTransform(0, 2) != t.AffineTransform(0, 3)
    assert t.AffineTransform(0, one) != t.AffineTransform(0, 2 * one)
    assert t.PowerTransform(2) != t.PowerTransform(3)
    assert t.IndependentTransform(t.ExpTransform(), 1) != t.IndependentTransform(t.ExpTransform(), 2)

    class Own(t.Transform):
        def __init__(self, k):
            super().__init__()

    own = Own(1)
    assert own == own
    assert own != Own(2)


def test_a_cache_gives_the_value_itself_back():
    t = gg.distributions.transforms
    x = gg.tensor([30.0])
    for make in (
        lambda: t.TanhTransform(cache_size=1),
        lambda: t.TanhTransform().with_cache(),
        lambda: t.IndependentTransform(t.TanhTransform(), 0, cache_size=1),
    ):
        tanh = make()
        y = tanh(x)
        assert y.item() == 1
        assert tanh.inv(y) is x
        assert tanh(x) is y
    z = tanh.inv(y.clone())
    assert z.item() == math.inf
    both = t.ComposeTransform([t.TanhTransform(), t.AffineTransform(0.0, 2.0)], cache_size=1)
    assert both.inv(both(x)) is x
    assert t.CatTransform([t.TanhTransform()], 0, cache_size=1).transforms[0]._cache_size == 1
    assert t.TanhTransform().inv(t.TanhTransform()(x)).item() == math.inf
    with pytest.raises(ValueError, match="cache_size"):
        t.ExpTransform(cache_size=2)


CONSTRAINTS = """
    c.real; c.positive; c.nonnegative; c.greater_than(0.5); c.greater_than_eq(0.5); c.less_than(-0.5); c.unit_interval
    c.interval(-1.0, 2.0); c.half_open_interval(0.0, 3.0); c.simplex; c.real_vector; c.independent(c.positive, 1)
    c.cat([c.positive, c.unit_interval], -1, [1, 2]); c.stack([c.positive, c.real, c.less_than(1.0)], -1)
    c.corr_cholesky; c.lower_cholesky; c.positive_definite; c.positive_semidefinite
"""
CONSTRAINTS = [part.strip() for line in CONSTRAINTS.strip().splitlines() for part in line.split(";")]


@on_every_device
@needs_torch
@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_transforms_to_constraints_are_those_of_pytorch(constraint):
    answers = []
    for T in (gg, torch):
        D = T.distributions
        c = eval(constraint, {"c": D.constraints})
        x = T.tensor(SIZES - 1)
        x = x.unsqueeze(-1) * x[0] if c.event_dim == 2 and "corr" not in constraint else x
        found = []
        for registry in (D.transform_to, D.biject_to):
            try:
                y = registry(c)(x)
            except NotImplementedError:
                found.append(None)
                continue
            assert c.check(y).all()
            found += [y, registry(c).inv(y)]
        answers.append([None if t is None else t.cpu().numpy() for t in found])
    close(*answers, 1e-7, 1e-8)


VALUES = [
    SIZES - 1,
    SIZES,
    COUNTS,
    ONE_HOT,
    SIMPLEX,
    np.eye(3),
    np.tril(SIZES.T @ SIZES),
    SIZES.T @ SIZES + np.eye(3),
    PLACES,
]
MORE = """
    c.boolean; c.one_hot; c.nonnegative_integer; c.positive_integer; c.integer_interval(0, 2); c.multinomial(4)
    c.lower_triangular; c.square; c.symmetric; c.MixtureSameFamilyConstraint(c.positive); c.independent(c.boolean, 2)
"""
ALL_CONSTRAINTS = CONSTRAINTS + [part.strip() for line in MORE.strip().splitlines() for part in line.split(";")]


@on_every_device
@needs_torch
@pytest.mark.parametrize("constraint", ALL_CONSTRAINTS)
def test_constraints_are_those_of_pytorch(constraint):
    found = []
    for T in (gg, torch):
        c = eval(constraint, {"c": T.distributions.constraints})
        found.append([c.event_dim, c.is_discrete, repr(c)])
        for values in VALUES:
            if not (constraint.startswith(("c.cat", "c.stack")) and values.shape[-1] != 3):
                found[-1].append(c.check(T.tensor(values)).tolist())
    assert found[0] == found[1]


def test_what_depends_is_known_on_the_instance():
    D, c = gg.distributions, gg.distributions.constraints
    assert c.is_dependent(D.Uniform.support)
    assert (D.Uniform.support.event_dim, D.Uniform.support.is_discrete) == (0, False)
    assert repr(D.Binomial(3, 0.5).support) == "IntegerInterval(lower_bound=0, upper_bound=3.0)"
    with pytest.raises(NotImplementedError, match="is_discrete"):
        c.dependent.is_discrete  # noqa: B018
    assert c.dependent(event_dim=1).event_dim == 1
    with pytest.raises(ValueError, match="dependent"):
        c.dependent.check(gg.ones(1))
    with pytest.raises(NotImplementedError, match="Cannot transform"):
        D.biject_to(c.boolean)
    with pytest.raises(TypeError, match="Constraint"):
        D.biject_to.register(int, lambda constraint: None)


TRANSFORMED = {
    "tanh": lambda D, x: [D.TanhTransform(cache_size=1)],
    "affine": lambda D, x: D.AffineTransform(2.0, -3.0),
    "affine-vector": lambda D, x: [D.transforms.AffineTransform(x, x + 1, event_dim=1), D.ExpTransform()],
    "sigmoid": lambda D, x: [D.AffineTransform(x, 1.0), D.SigmoidTransform()],
    "softplus": lambda D, x: [D.transforms.SoftplusTransform().inv, D.ExpTransform()],
    "composed": lambda D, x: D.transforms.ComposeTransform([D.ExpTransform(), D.AffineTransform(0.0, x + 1)]),
}


@on_every_device
@needs_torch
@pytest.mark.parametrize("events", [0, 1])
@pytest.mark.parametrize("name", TRANSFORMED)
def test_transformed_distributions_are_those_of_pytorch(name, events):
    answers = []
    for T in (gg, torch):
        D, x = T.distributions, T.tensor(PROBS, requires_grad=True)
        base = D.LogNormal(x, 1 + x) if name == "softplus" else D.Normal(x, 1 + x)
        d = D.TransformedDistribution(D.Independent(base, 1) if events else base, TRANSFORMED[name](D, x + 0.5))
        if name == "affine-vector" and not events:
            continue  # whose draws are vectors only there
        values = T.tensor(PROBS / 10 + (0.4 if name != "affine-vector" else 9.0))
        values = -values if name == "affine" else values
        found = [d.log_prob(values)]
        draws = d.rsample((4,))
        assert draws.requires_grad
        assert draws.shape == (4, 2, 3)
        assert d.sample().shape == (2, 3)
        assert d.has_rsample
        found[0].sum().backward()
        answers.append([found[0].detach().cpu().numpy(), x.grad.cpu().numpy(), np.array([*d.batch_shape, -1])])
    if answers:
        close(*answers, 1e-7, 1e-7)


def test_squashed_policies_as_agents_define_them():
    D = gg.distributions

    class Squash(D.transforms.Transform):
        domain, codomain, bijective, sign = D.constraints.real, D.constraints.interval(-1.0, 1.0), True, +1

        def __init__(self, cache_size=1):
            super().__init__(cache_size=cache_size)

        def _call(self, x):
            return x.tanh()

        def _inverse(self, y):
            return 0.5 * (y.log1p() - (-y).log1p())

        def log_abs_det_jacobian(self, x, y):
            return 2.0 * (np.log(2.0) - x - gg.nn.functional.softplus(-2.0 * x))

    class Policy(D.transformed_distribution.TransformedDistribution):
        def __init__(self, loc, scale):
            super().__init__(D.Normal(loc, scale), [Squash()])

    loc = gg.tensor([0.3, 30.0], requires_grad=True)
    policy = Policy(loc, 1.0)
    action = policy.rsample()
    # The last one is 1 to all digits: only what was remembered tells where it came from.
    policy.log_prob(action).sum().backward()
    assert bool(gg.isfinite(loc.grad).all())
    with pytest.raises(ValueError, match="support"):
        policy.log_prob(gg.tensor(1.5))


# What PyTorch refuses too.
REFUSED = """
    D.Normal(0.0, -1.0); D.Normal(nan, 1.0); D.Uniform(1.0, 1.0); D.Bernoulli(1.5); D.Bernoulli(0.5, 0.5)
    D.Bernoulli(logits=nan); D.Categorical(); D.Categorical(tensor([-1.0, 2.0])); D.Categorical(tensor(1.0))
    D.Categorical(tensor([0.0, 0.0])); D.Categorical(logits=tensor([nan, 2.0])); D.Poisson(-1.0); D.Poisson(nan)
    D.Binomial(3, 1.5); D.Binomial(-1, 0.5); D.Binomial(1.5, 0.5); D.Binomial(3); D.Multinomial(3)
    D.Multinomial(-1, tensor([0.5, 0.5])); D.Multinomial(tensor([3]), tensor([0.5, 0.5])); D.Poisson(1.0).entropy()
    D.MultivariateNormal(tensor(0.0), eye); D.MultivariateNormal(tensor([0.0] * 2)); D.MultivariateNormal(zero, -eye)
    D.MultivariateNormal(zero, eye, eye); D.MultivariateNormal(zero, eye[0]); D.MultivariateNormal(zero, eye[:1])
    D.MultivariateNormal(zero, precision_matrix=eye - 1); D.MultivariateNormal(zero, scale_tril=eye + 1)
    D.MultivariateNormal(zero, scale_tril=-eye); D.MultivariateNormal(zero, eye + tensor([[0.0, 0.5], [0.0, 0.0]]))
    D.Normal(0.0, 1.0).log_prob(tensor(nan)); D.Uniform(0.0, 1.0).log_prob(tensor(2.0))
    D.Uniform(0.0, 1.0).cdf(tensor(-1.0)); D.Bernoulli(0.5).log_prob(tensor(0.5)); D.Poisson(1.0).log_prob(tensor(1.5))
    D.Poisson(1.0).log_prob(tensor(-1.0)); D.Binomial(3, 0.5).log_prob(tensor(4.0))
    D.Binomial(3, 0.5).log_prob(tensor(0.5)); D.Categorical(tensor([1.0, 2.0])).log_prob(tensor(2))
    D.Categorical(tensor([1.0, 2.0])).log_prob(tensor(-1)); D.Multinomial(3, zero + 1).log_prob(zero + 2)
    D.MultivariateNormal(zero, eye).log_prob(zero + nan); D.Normal(zero, 1.0).log_prob(tensor([0.0] * 3))
    D.Binomial(tensor([2, 3]), 0.5 + zero).entropy(); D.Multinomial(3, zero + 1).mode; D.Bernoulli(0.5).cdf(zero)
    D.kl_divergence(D.Normal(0.0, 1.0), D.Poisson(1.0)); D.MultivariateNormal(zero, eye).cdf(zero)
    D.kl_divergence(D.MultivariateNormal(zero, eye), D.MultivariateNormal(tensor([1.0]), tensor([[1.0]])))
    D.Exponential(0.0); D.Laplace(0.0, 0.0); D.LogNormal(0.0, -1.0); D.LogNormal(nan, 1.0); D.Gamma(0.0, 1.0)
    D.Gamma(1.0, nan); D.Beta(-1.0, 1.0); D.Beta(1.0, 0.0); D.Dirichlet(zero); D.Dirichlet(tensor(1.0)); D.Chi2(0.0)
    D.StudentT(0.0); D.StudentT(1.0, nan); D.StudentT(1.0, 0.0, 0.0); D.Gumbel(0.0, 0.0); D.Cauchy(0.0, 0.0)
    D.HalfNormal(0.0); D.HalfCauchy(-1.0); D.Geometric(0.0); D.Geometric(1.5); D.Geometric(); D.Geometric(logits=nan)
    D.NegativeBinomial(-1.0, 0.5); D.NegativeBinomial(1.0, 1.0); D.NegativeBinomial(1.0)
    D.OneHotCategorical(tensor([-1.0, 2.0])); D.OneHotCategorical(); D.RelaxedBernoulli(tensor(1.0), 1.5)
    D.RelaxedOneHotCategorical(tensor(1.0), tensor([-1.0, 2.0])); D.Weibull(0.0, 1.0); D.Weibull(1.0, 0.0)
    D.Pareto(0.0, 1.0); D.Pareto(1.0, 0.0); D.Kumaraswamy(0.0, 1.0); D.InverseGamma(0.0, 1.0); D.InverseGamma(1.0, 0.0)
    D.LogisticNormal(zero, 0.0); D.Independent(D.Normal(0.0, 1.0), 1)
    D.MixtureSameFamily(D.Normal(zero, 1.0), D.Normal(zero, 1.0)); D.MixtureSameFamily(D.Categorical(zero + 1), zero)
    D.MixtureSameFamily(D.Categorical(zero + 1), D.Normal(eye[:, :1], 1.0))
    D.MixtureSameFamily(D.Categorical(tensor([[1.0, 1.0]] * 3)), D.Normal(eye, 1.0))
    D.TransformedDistribution(D.Normal(0.0, 1.0), 3); D.TransformedDistribution(D.Normal(0.0, 1.0), [3])
    D.TransformedDistribution(D.Normal(0.0, 1.0), D.StickBreakingTransform())
    D.Exponential(1.0).log_prob(tensor(-1.0)); D.LogNormal(0.0, 1.0).log_prob(tensor(-1.0))
    D.Gamma(1.0, 1.0).log_prob(tensor(-1.0)); D.Beta(1.0, 1.0).cdf(zero); D.Beta(1.0, 1.0).log_prob(tensor(1.5))
    D.Dirichlet(zero + 1).log_prob(zero); D.Gumbel(0.0, 1.0).log_prob(tensor(nan))
    D.Dirichlet(zero + 1).log_prob(tensor(1.0)); D.HalfNormal(1.0).log_prob(tensor(-1.0))
    D.HalfCauchy(1.0).cdf(zero - 1); D.Geometric(0.5).log_prob(tensor(0.5))
    D.OneHotCategorical(zero + 1).log_prob(zero); D.Pareto(1.0, 1.0).log_prob(zero)
    D.RelaxedBernoulli(tensor(1.0), 0.5).log_prob(tensor(2.0)); D.Weibull(1.0, 1.0).log_prob(zero)
    D.Chi2(1.0).icdf(zero); D.Kumaraswamy(1.0, 1.0).log_prob(tensor(2.0)); D.InverseGamma(1.0, 1.0).log_prob(zero)
    D.Poisson(1.0).cdf(zero); D.Independent(D.Normal(zero, 1.0), 1).log_prob(tensor([0.0] * 3))
    D.Independent(D.Normal(zero, 1.0), 1).cdf(zero); D.Independent(D.Bernoulli(zero), 1).enumerate_support()
    D.Normal(0.0, 1.0).enumerate_support(); D.Binomial(tensor([2, 3]), 0.5).enumerate_support()
    D.Distribution(validate_args=False).mean; D.Distribution(validate_args=False).support
    D.Distribution(validate_args=False).log_prob(zero); D.Distribution(validate_args=False).rsample()
    D.Distribution(validate_args=False).variance; D.Distribution(validate_args=False).entropy()
    D.kl_divergence(D.LogNormal(0.0, 1.0), D.HalfNormal(1.0)); D.ReshapeTransform((2,), (3,)); D.Transform()(zero)
    D.kl_divergence(D.Independent(D.Normal(eye, 1.0), 1), D.Independent(D.Normal(eye, 1.0), 2))
    D.ReshapeTransform((2,), (1, 2)).forward_shape((3,)); D.ReshapeTransform((2, 1), (2,)).forward_shape((2,))
    D.CorrCholeskyTransform().forward_shape((2,)); D.StickBreakingTransform().forward_shape(())
    D.Transform().inv(zero); D.IndependentTransform(D.ExpTransform(), 1)(tensor(0.0))
    D.AbsTransform().log_abs_det_jacobian(zero, zero); D.StickBreakingTransform().sign
    D.ReshapeTransform((2,), (1, 2)).event_dim; D.Distribution.set_default_validate_args(3)
"""
REFUSED = [part.strip() for line in REFUSED.strip().splitlines() for part in line.split(";")]


@needs_torch
@pytest.mark.parametrize("expression", REFUSED)
def test_distributions_that_cannot_be(expression):
    errors = []
    for T in (gg, torch):
        names = {"D": T.distributions, "tensor": T.tensor, "nan": np.nan, "eye": T.eye(2), "zero": T.zeros(2)}
        with pytest.raises((ValueError, NotImplementedError)) as caught:
            eval(expression, names)
        errors.append(caught.type)
    assert errors[0] == errors[1]


@on_every_device
def test_distributions_describe_themselves_and_can_leave_checks_out():
    D = gg.distributions
    assert repr(D.Normal(0.0, gg.ones(3))) == "Normal(loc: (3,), scale: (3,))"
    assert repr(D.Poisson(2.0)) == "Poisson(rate: 2.0)"
    assert repr(D.Multinomial(3, gg.ones(2))) == "Multinomial(total_count: 3, probs: (2,))"
    assert D.Categorical(gg.ones(2, 3)).param_shape == D.Multinomial(1, gg.ones(2, 3)).param_shape == (2, 3)
    assert D.Normal(0.0, 1.0).log_prob(0.0).item() == pytest.approx(-0.918938533)
    assert D.Uniform(0.0, 1.0, validate_args=False).log_prob(gg.tensor(2.0)).item() == -np.inf
    assert D.Normal(0.0, -1.0, validate_args=False).scale.item() == -1
    assert repr(D.MixtureSameFamily(D.Categorical(gg.ones(2)), D.Normal(gg.zeros(2), 1.0))).startswith("MixtureSame")
    assert repr(D.Independent(D.Normal(gg.zeros(2), 1.0), 1)) == "Independent(Normal(loc: (2,), scale: (2,)), 1)"
    assert repr(D.LogNormal(0.0, 2.0)) == "LogNormal(loc: 0.0, scale: 2.0)"
    assert repr(D.Bernoulli(logits=gg.zeros(2))) == "Bernoulli(logits: (2,))"
    assert repr(D.AffineTransform(0, 1).inv) == "_InverseTransform(AffineTransform())"
    assert "ExpTransform()" in repr(
        D.ComposeTransform([D.ExpTransform(), D.IndependentTransform(D.TanhTransform(), 1)])
    )


def test_checks_can_be_left_out_by_default():
    D = gg.distributions
    try:
        D.Distribution.set_default_validate_args(False)
        assert D.Normal(0.0, -1.0).scale.item() == -1
        with pytest.raises(ValueError, match="Expected parameter scale"):
            D.Normal(0.0, -1.0, validate_args=True)
    finally:
        D.Distribution.set_default_validate_args(True)
    with pytest.raises(ValueError, match="Expected parameter scale"):
        D.Normal(0.0, -1.0)


def test_what_is_computed_when_it_is_needed_has_gradients():
    x = gg.tensor([0.2, 0.3], requires_grad=True)
    for d in (gg.distributions.Bernoulli(x), gg.distributions.Categorical(x)):
        with gg.no_grad():
            assert d.logits.requires_grad
        assert d.logits is d.logits
        assert d.expand((3, *d.batch_shape)).logits.shape == (3, 2)


def test_a_distribution_of_ones_own():
    D = gg.distributions

    class Triangle(D.Distribution):
        """The sum of two uniform numbers below ``top``."""

        arg_constraints = {"top": D.constraints.positive}
        has_rsample = True

        def __init__(self, top, validate_args=None):
            self.top = top
            super().__init__(top.shape, validate_args=validate_args)

        @D.constraints.dependent_property(is_discrete=False, event_dim=0)
        def support(self):
            return D.constraints.interval(0, 2 * self.top)

        def rsample(self, sample_shape=()):
            return gg.rand(2, *self._extended_shape(sample_shape)).sum(0) * self.top

        def log_prob(self, value):
            if self._validate_args:
                self._validate_sample(value)
            return (self.top - (value - self.top).abs()).log() - 2 * self.top.log()

    class Shifted(Triangle):
        """With an ``expand`` as PyTorch's distributions have it."""

        def expand(self, batch_shape, _instance=None):
            new = self._get_checked_instance(Shifted, _instance)
            new.shifted = True
            return super().expand(batch_shape, _instance=new)

    wide = Shifted(gg.tensor([1.0, 2.0])).expand((3, 2))
    assert wide.shifted
    assert wide.top.shape == wide.batch_shape == (3, 2)
    draws = D.utils._standard_normal((2, 3), gg.float64, "cpu")
    assert (draws.shape, draws.dtype) == ((2, 3), gg.float64)
    d = Triangle(gg.tensor([1.0, 2.0]))
    assert d.expand((3, 2)).sample((4,)).shape == (4, 3, 2)
    assert d.log_prob(d.sample((5,))).shape == (5, 2)
    assert D.Independent(d, 1).log_prob(d.sample()).shape == ()
    with pytest.raises(ValueError, match="support"):
        d.log_prob(gg.tensor([3.0, 3.0]))
    with pytest.raises(ValueError, match="parameter top"):
        Triangle(gg.tensor(-1.0))
