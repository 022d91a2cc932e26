"""Kullback-Leibler divergences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import linalg
from ..creation import broadcast_shapes, full
from ..nn import functional as F
from ..ops import FUNCTIONS
from ..tensor import Tensor
from .bernoulli import Bernoulli
from .beta import Beta
from .binomial import Binomial
from .categorical import Categorical
from .cauchy import Cauchy
from .dirichlet import Dirichlet
from .distribution import Distribution
from .exponential import Exponential
from .gamma import Gamma
from .geometric import Geometric
from .gumbel import Gumbel
from .half_normal import HalfNormal
from .independent import Independent
from .laplace import Laplace
from .multivariate_normal import MultivariateNormal, log_volume, squared_distance
from .normal import Normal
from .one_hot_categorical import OneHotCategorical
from .pareto import Pareto
from .poisson import Poisson
from .transformed_distribution import TransformedDistribution
from .uniform import Uniform
from .utils import _sum_rightmost, euler_constant

where = FUNCTIONS["where"]

_KNOWN: dict[tuple[type, type], Callable[[Any, Any], Tensor]] = {}


def register_kl(type_p: type, type_q: type) -> Callable[..., Any]:
    """Let ``kl_divergence`` use the decorated function for two distributions of these types, or derived ones.

    Raises:
        TypeError: one is no type of distribution.
    """
    for each in (type_p, type_q):
        if not (isinstance(each, type) and issubclass(each, Distribution)):
            raise TypeError(f"register_kl expects two types of distributions, but got {each!r}")

    def register(function: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
        _KNOWN[type_p, type_q] = function
        return function

    return register


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """The Kullback-Leibler divergence of ``q`` from ``p``.

    Raises:
        NotImplementedError: it is not known for the two.
    """
    for a in type(p).__mro__:
        for b in type(q).__mro__:
            if (a, b) in _KNOWN:
                return _KNOWN[a, b](p, q)
    raise NotImplementedError(f"kl_divergence is not known for {type(p).__name__} and {type(q).__name__}")


def _divergence(p: Tensor, q: Tensor, log_ratio: Tensor) -> Tensor:
    """What one outcome adds: nothing where it never happens in ``p``, infinity where it never does in ``q`` alone."""
    return where(p == 0, 0.0, where(q == 0, math.inf, p * log_ratio))


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Bernoulli, q: Bernoulli) -> Tensor:
    ones = _divergence(p.probs, q.probs, F.logsigmoid(p.logits) - F.logsigmoid(q.logits))
    return ones + _divergence(1 - p.probs, 1 - q.probs, F.logsigmoid(-p.logits) - F.logsigmoid(-q.logits))


@register_kl(Binomial, Binomial)
def _binomial(p: Binomial, q: Binomial) -> Tensor:
    if bool((p.total_count < q.total_count).any()):
        raise NotImplementedError("KL between Binomials where q.total_count > p.total_count is not implemented")
    each = p.probs * (p.logits - q.logits) + (-p.probs).log1p() - (-q.probs).log1p()
    return where(p.total_count > q.total_count, math.inf, p.total_count * each)


@register_kl(Categorical, Categorical)
def _categorical(p: Categorical, q: Categorical) -> Tensor:
    return _divergence(p.probs, q.probs, p.logits - q.logits).sum(-1)


@register_kl(MultivariateNormal, MultivariateNormal)
def _multivariate_normal(p: MultivariateNormal, q: MultivariateNormal) -> Tensor:
    if p.event_shape != q.event_shape:
        raise ValueError(
            "KL-divergence between two Multivariate Normals with different event shapes cannot be computed: "
            f"{tuple(p.event_shape)} and {tuple(q.event_shape)}"
        )
    mine, other = p.scale_tril, q.scale_tril
    shape = (*broadcast_shapes(p.batch_shape, q.batch_shape), *mine.shape[-2:])
    ratio = linalg.solve_triangular(other.expand(shape), mine.expand(shape), upper=False)
    size = ratio.square().sum((-2, -1)) + squared_distance(other, p.loc - q.loc) - p.event_shape[0]
    return log_volume(other) - log_volume(mine) + 0.5 * size


@register_kl(Normal, Normal)
def _normal(p: Normal, q: Normal) -> Tensor:
    ratio = (p.scale / q.scale) ** 2
    return 0.5 * (ratio + ((p.loc - q.loc) / q.scale) ** 2 - 1 - ratio.log())


@register_kl(Poisson, Poisson)
def _poisson(p: Poisson, q: Poisson) -> Tensor:
    return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


@register_kl(Uniform, Uniform)
def _uniform(p: Uniform, q: Uniform) -> Tensor:
    ratio = ((q.high - q.low) / (p.high - p.low)).log()
    return where((q.low > p.low) | (q.high < p.high), math.inf, ratio)


@register_kl(Bernoulli, Poisson)
def _bernoulli_poisson(p: Bernoulli, q: Poisson) -> Tensor:
    return -p.entropy() - (p.probs * q.rate.log() - q.rate)


# Distributions of one kind


@register_kl(Beta, Beta)
def _beta(p: Beta, q: Beta) -> Tensor:
    return _dirichlet(p._dirichlet, q._dirichlet)


@register_kl(Cauchy, Cauchy)
def _cauchy(p: Cauchy, q: Cauchy) -> Tensor:
    return ((p.scale + q.scale) ** 2 + (p.loc - q.loc) ** 2).log() - (4 * p.scale * q.scale).log()


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p: Dirichlet, q: Dirichlet) -> Tensor:
    a, b = p.concentration, q.concentration
    total = a.sum(-1)
    sizes = total.lgamma() - b.sum(-1).lgamma() - (a.lgamma() - b.lgamma()).sum(-1)
    return sizes + ((a - b) * (a.digamma() - total.digamma().unsqueeze(-1))).sum(-1)


@register_kl(Exponential, Exponential)
def _exponential(p: Exponential, q: Exponential) -> Tensor:
    ratio = q.rate / p.rate
    return ratio - 1 - ratio.log()


@register_kl(Gamma, Gamma)
def _gamma(p: Gamma, q: Gamma) -> Tensor:
    a, b = p.concentration, q.concentration
    sizes = b * (p.rate / q.rate).log() + b.lgamma() - a.lgamma()
    return sizes + (a - b) * a.digamma() + (q.rate - p.rate) * (a / p.rate)


@register_kl(Geometric, Geometric)
def _geometric(p: Geometric, q: Geometric) -> Tensor:
    return -p.entropy() - (-q.probs).log1p() / p.probs - q.logits


@register_kl(HalfNormal, HalfNormal)
def _half_normal(p: HalfNormal, q: HalfNormal) -> Tensor:
    return _normal(p.base_dist, q.base_dist)


@register_kl(Laplace, Laplace)
def _laplace(p: Laplace, q: Laplace) -> Tensor:
    ratio, distance = p.scale / q.scale, (p.loc - q.loc).abs()
    return distance / q.scale + ratio * (-distance / p.scale).exp() - 1 - ratio.log()


@register_kl(OneHotCategorical, OneHotCategorical)
def _one_hot_categorical(p: OneHotCategorical, q: OneHotCategorical) -> Tensor:
    return _categorical(p._categorical, q._categorical)


@register_kl(Pareto, Pareto)
def _pareto(p: Pareto, q: Pareto) -> Tensor:
    ratio = q.alpha / p.alpha
    return where(p.scale < q.scale, math.inf, q.alpha * (p.scale / q.scale).log() - ratio.log() + ratio - 1)


@register_kl(Independent, Independent)
def _independent(p: Independent, q: Independent) -> Tensor:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError("KL between Independents with different reinterpreted_batch_ndims is not known")
    return _sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p: TransformedDistribution, q: TransformedDistribution) -> Tensor:
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError(
            f"KL between transformed distributions is known for equal transforms and event shapes, but got "
            f"{p.transforms} and {q.transforms}, {tuple(p.event_shape)} and {tuple(q.event_shape)}"
        )
    return kl_divergence(p.base_dist, q.base_dist)


# Distributions of two kinds: less the entropy of p, less what the logarithm of the density of q is in the mean.


@register_kl(Beta, Normal)
@register_kl(Exponential, Normal)
@register_kl(Gamma, Normal)
@register_kl(Gumbel, Normal)
@register_kl(Laplace, Normal)
@register_kl(Pareto, Normal)
@register_kl(Uniform, Normal)
def _normal_from(p: Distribution, q: Normal) -> Tensor:
    squares = (p.variance + (p.mean - q.loc) ** 2) / (2 * q.scale**2)
    return squares + q.scale.log() + 0.5 * math.log(2 * math.pi) - p.entropy()


def _where_possible(found: Tensor, possible: Any) -> Tensor:
    """Infinite where p has outcomes that q has not."""
    return where(possible, found, math.inf)


@register_kl(Beta, Exponential)
@register_kl(Gamma, Exponential)
@register_kl(Pareto, Exponential)
def _exponential_from(p: Distribution, q: Exponential) -> Tensor:
    return q.rate * p.mean - q.rate.log() - p.entropy()


@register_kl(Uniform, Exponential)
def _exponential_from_uniform(p: Uniform, q: Exponential) -> Tensor:
    return _where_possible(_exponential_from(p, q), p.low >= 0)


def _gamma_from(p: Distribution, q: Gamma, mean_log: Tensor) -> Tensor:
    sizes = q.concentration.lgamma() - q.concentration * q.rate.log()
    return sizes - (q.concentration - 1) * mean_log + q.rate * p.mean - p.entropy()


@register_kl(Beta, Gamma)
def _gamma_from_beta(p: Beta, q: Gamma) -> Tensor:
    return _gamma_from(p, q, p.concentration1.digamma() - (p.concentration1 + p.concentration0).digamma())


@register_kl(Exponential, Gamma)
def _gamma_from_exponential(p: Exponential, q: Gamma) -> Tensor:
    return _gamma_from(p, q, -euler_constant - p.rate.log())


@register_kl(Pareto, Gamma)
def _gamma_from_pareto(p: Pareto, q: Gamma) -> Tensor:
    return _gamma_from(p, q, p.scale.log() + p.alpha.reciprocal())


def _mean_log(low: Tensor, high: Tensor) -> Tensor:
    """The mean logarithm of numbers from ``low`` to ``high``."""
    return (high.xlogy(high) - low.xlogy(low)) / (high - low) - 1


@register_kl(Uniform, Gamma)
def _gamma_from_uniform(p: Uniform, q: Gamma) -> Tensor:
    return _where_possible(_gamma_from(p, q, _mean_log(p.low, p.high)), p.low >= 0)


@register_kl(Uniform, Beta)
def _beta_from_uniform(p: Uniform, q: Beta) -> Tensor:
    a, b = q.concentration1, q.concentration0
    found = (a - 1) * _mean_log(p.low, p.high) + (b - 1) * _mean_log(1 - p.high, 1 - p.low)
    found = a.lgamma() + b.lgamma() - (a + b).lgamma() - found - p.entropy()
    return _where_possible(found, (p.low >= 0) & (p.high <= 1))


@register_kl(Uniform, Pareto)
def _pareto_from_uniform(p: Uniform, q: Pareto) -> Tensor:
    found = (q.alpha + 1) * _mean_log(p.low, p.high) - q.alpha.log() - q.alpha * q.scale.log() - p.entropy()
    return _where_possible(found, p.low >= q.scale)


@register_kl(Beta, Uniform)
def _uniform_from_beta(p: Beta, q: Uniform) -> Tensor:
    return _where_possible((q.high - q.low).log() - p.entropy(), (q.low <= 0) & (q.high >= 1))


def _gumbel_from(p: Distribution, q: Gumbel, mean_exponential: Tensor) -> Tensor:
    """Given the mean of ``exp(-x / q.scale)``."""
    found = q.scale.log() + (p.mean - q.loc) / q.scale
    return found + (q.loc / q.scale).exp() * mean_exponential - p.entropy()


@register_kl(Exponential, Gumbel)
def _gumbel_from_exponential(p: Exponential, q: Gumbel) -> Tensor:
    return _gumbel_from(p, q, 1 - 1 / (p.rate * q.scale + 1))


@register_kl(Gamma, Gumbel)
def _gumbel_from_gamma(p: Gamma, q: Gumbel) -> Tensor:
    return _gumbel_from(p, q, (1 + 1 / (p.rate * q.scale)) ** -p.concentration)


@register_kl(Gumbel, Gumbel)
def _gumbel(p: Gumbel, q: Gumbel) -> Tensor:
    return _gumbel_from(p, q, (-p.loc / q.scale + (1 + p.scale / q.scale).lgamma()).exp())


@register_kl(Normal, Gumbel)
def _gumbel_from_normal(p: Normal, q: Gumbel) -> Tensor:
    return _gumbel_from(p, q, (-p.loc / q.scale + 0.5 * (p.scale / q.scale) ** 2).exp())


@register_kl(Uniform, Gumbel)
def _gumbel_from_uniform(p: Uniform, q: Gumbel) -> Tensor:
    low, high = (-p.low / q.scale).exp(), (-p.high / q.scale).exp()
    return _gumbel_from(p, q, (low - high) * q.scale / (p.high - p.low))


@register_kl(Normal, Laplace)
def _laplace_from_normal(p: Normal, q: Laplace) -> Tensor:
    ratio = (p.loc - q.loc) / (p.scale * math.sqrt(2))
    away = math.sqrt(2 / math.pi) * p.scale * (-(ratio**2)).exp() + (p.loc - q.loc) * ratio.erf()
    return (2 * q.scale).log() + away / q.scale - p.entropy()


def _infinite(p: Distribution, q: Distribution) -> Tensor:
    """Outcomes of p are not possible in q."""
    shape = broadcast_shapes(p.batch_shape, q.batch_shape)
    return full(shape, math.inf, dtype=p.mean.dtype, device=p.mean.device)


for _kind, _others in {
    Beta: (Pareto,),
    Exponential: (Beta, Pareto, Uniform),
    Gamma: (Beta, Pareto, Uniform),
    Gumbel: (Beta, Exponential, Gamma, Pareto, Uniform),
    Laplace: (Beta, Exponential, Gamma, Pareto, Uniform),
    Normal: (Beta, Exponential, Gamma, Pareto, Uniform),
    Pareto: (Beta, Uniform),
    Poisson: (Bernoulli, Binomial),
}.items():
    for _other in _others:
        register_kl(_kind, _other)(_infinite)
