"""einops on tensors, against einops on NumPy arrays."""

import numpy as np
import pytest
from helpers import close

import gpugrad as gg
from gpugrad import nn

einops = pytest.importorskip("einops")
from gpugrad.einops import Rearrange, Reduce  # noqa: E402

ARRAY = np.random.default_rng(0).standard_normal((2, 3, 4, 6))


@pytest.mark.parametrize(
    "call",
    [
        lambda e, x: e.rearrange(x, "b c (h p) (w q) -> b (w h) (p q c)", p=2, q=3),
        lambda e, x: e.rearrange([x[0], x[1]], "b c h w -> w h () b c"),
        lambda e, x: e.repeat(x, "b c h w -> (r b) c s h w", r=3, s=2),
        lambda e, x: e.reduce(x, "b c h w -> c w", "mean"),
        lambda e, x: e.reduce(x, "b c (h p) w -> b c p 1", "max", p=2),
        lambda e, x: e.reduce(x, "b c h w -> b w", "min"),
        lambda e, x: e.reduce(x, "... w -> w", "sum"),
        lambda e, x: e.reduce(x, "b c h w -> b w", "prod"),
        lambda e, x: e.reduce(x > 0, "b c h w -> b h", "any"),
        lambda e, x: e.reduce(x > -1, "b c h w -> b h", "all"),
        lambda e, x: e.einsum(x, x[0], "b c h w, c h v -> b w v"),
        lambda e, x: e.pack([x, x[:, 0]], "b * w")[0],
        lambda e, x: e.unpack(*e.pack([x, x[:, 0]], "b * w"), "b * w")[1],
    ],
)
def test_results_are_those_of_einops(call):
    expected = call(einops, ARRAY)
    for package in (gg.einops, einops):
        found = call(package, gg.tensor(ARRAY))
        assert isinstance(found, gg.Tensor)
        assert found.numpy().dtype == expected.dtype
        close(found, expected)


def test_layers():
    model = nn.Sequential(
        Rearrange("b c h w -> b (h w) c", h=4), nn.Linear(3, 5, dtype=gg.float64), Reduce("b n d -> b d", "mean")
    )
    assert repr(model[0]) == "Rearrange('b c h w -> b (h w) c', h=4)"
    assert list(model.state_dict()) == ["1.weight", "1.bias"]
    x = gg.tensor(ARRAY, requires_grad=True)
    out = model(x)
    weight, bias = (p.detach().numpy() for p in model.parameters())
    close(out.detach(), ARRAY.mean((2, 3)) @ weight.T + bias)
    out.sum().backward()
    close(x.grad, np.broadcast_to(weight.sum(0)[:, None, None] / 24, ARRAY.shape))


def test_a_pattern_that_does_not_fit_is_refused():
    with pytest.raises(einops.EinopsError):
        gg.einops.rearrange(gg.zeros(2, 3), "a b c -> c b a")
