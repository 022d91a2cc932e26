"""The gamma function's logarithm and its derivatives, against values computed with 40 digits and against PyTorch."""

import numpy as np
import pytest
from helpers import needs_torch, torch

import gpugrad as gg

FUNCTIONS = {
    "lgamma": gg.lgamma,
    "digamma": gg.digamma,
    "trigamma": lambda x: gg.polygamma(1, x),
    "fourth": lambda x: gg.polygamma(4, x),
}
POINTS = [1e-20, 0.1, 0.499, 0.501, 0.999999, 1.000001, 1.4616, 1.999999, 2.000001, 2.7, 5.5, 8.49, 8.51, 9.99, 10.01]
POINTS += [57.3, 1e5, 1e15, -1e-9, -0.3, -0.7, -1.3, -5.7]
VALUES = {
    "lgamma": """
        46.051701859880914 2.252712651734206 0.5743309231606863 0.5704038974990318 5.772164873855652e-07
        -5.772148423874147e-07 -0.12148629003589732 -4.227840125965854e-07 4.2278465762452923e-07
        0.4348205536551047 3.9578139676187165 9.528472593626852 9.570074404790265 12.779315214350193
        12.824350262448247 173.5638682796914 1051287.7089736569 3.3538776394910668e+16 20.723265837523627
        1.4648400508576025 1.4524729387568078 1.2024757863901114 -4.667768588522342
    """,
    "digamma": """
        -1e+20 -10.423754940411076 -1.9684532588873478 -1.9585836220164332 -0.5772173098368019
        -0.5772140199686682 -3.110625123034165e-05 0.4227836901641983 0.422784980032332 0.7967831689911411
        1.6110931485817512 2.0788416575180144 2.081338421188441 2.250700372831201 2.2528037003181356
        4.039549239957579 11.512920464961896 34.538776394910684 999999999.4227843 2.113309779635399
        -2.073952793628704 2.8825405488661673 -0.4568723049323828
    """,
    "trigamma": """
        1.0000000000000002e+40 101.43329915079275 4.951679830634705 4.918021980186617 1.6449364709652798
        1.6449316627376673 0.9677007114650835 0.6449344709622797 0.644933662734667 0.4472120689183236
        0.19934238698962767 0.12499395808522364 0.12468266736726316 0.10527695014824179 0.10505595320551508
        0.017605179101050653 1.0000050000166667e-05 1.0000000000000005e-15 9.999999999999999e+17
        13.945160267805722 14.28618087263834 14.53687624413708 14.918469917911349
    """,
    "fourth": """
        -2.4000000000000005e+101 -2400015.6072031953 -779.2116810409124 -763.8290237907748 -24.886388204971325
        -24.886144042636456 -3.935040877560243 -0.8862682046113219 -0.8862640422764455 -0.22029873761096908
        -0.009294606041416372 -0.0014533319917350623 -0.001438962501846016 -0.0007329986441825547
        -0.0007268797074364018 -5.762962027049495e-07 -6.000120001e-20 -6.000000000000013e-60
        2.399999999999999e+46 9731.83495623352 -9740.670911658104 9738.298854017741 -9738.764277048702
    """,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_they_are_exact_to_a_few_units_in_the_last_place(name):
    expected = np.array(VALUES[name].split(), float)
    found = FUNCTIONS[name](gg.tensor(POINTS, dtype=gg.float64)).numpy()
    # Below 0 they cross it, where terms cancel.
    size = np.where(np.array(POINTS) < 0, np.maximum(np.abs(expected), 1), np.abs(expected))
    assert (np.abs(found - expected) <= 8 * np.spacing(size)).all()
    points = np.array(POINTS, np.float32)[1:]
    exact = FUNCTIONS[name](gg.tensor(points.astype(np.float64)))
    np.testing.assert_array_equal(FUNCTIONS[name](gg.tensor(points)).numpy(), exact.float().numpy())


@needs_torch
def test_the_logarithm_of_gamma_is_that_of_pytorch_everywhere():
    x = np.concatenate([np.linspace(-30, 40, 70_001), 10.0 ** np.arange(-300, 300, 7), [np.inf, -np.inf, np.nan]])
    x[:70_001][::1000] += 0.1
    expected = torch.tensor(x).lgamma().numpy()
    # Where it crosses 0, between the poles, its terms cancel.
    np.testing.assert_allclose(gg.tensor(x).lgamma().numpy(), expected, rtol=4e-15, atol=4e-15)
    assert gg.tensor([0.0, -1.0, -7.0]).lgamma().tolist() == [np.inf] * 3


@needs_torch
@pytest.mark.parametrize("name", ["i0", "i0e", "i1", "i1e"])
def test_bessel_functions_are_those_of_pytorch(name):
    x = np.concatenate([np.linspace(-40, 40, 4001), [0.0, 1e-300, 19.999, 20.001, 600.0, np.inf, -np.inf, np.nan]])
    found = getattr(gg.special, name)(gg.tensor(x)).numpy()
    expected = getattr(torch.special, name)(torch.tensor(x)).numpy()
    usual = np.isfinite(x)  # PyTorch gives 0 times infinity at infinity too, but not for all of them
    np.testing.assert_allclose(found[usual], expected[usual], rtol=2e-14)
    assert gg.i0(gg.tensor(0.0)).item() == gg.tensor(0.0).i0().item() == 1


@needs_torch
def test_shares_of_the_gamma_function_are_those_of_pytorch():
    a = np.repeat([1e-3, 0.1, 0.5, 1.0, 1.5, 3.0, 8.0, 50.0, 1e3], 100)
    x = a * np.tile(np.geomspace(1e-3, 50, 100), 9)
    mine, theirs = (gg.tensor(a), gg.tensor(x)), (torch.tensor(a), torch.tensor(x))
    for name in ("gammainc", "gammaincc"):
        found, expected = getattr(gg.special, name)(*mine).numpy(), getattr(torch.special, name)(*theirs).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-13)  # PyTorch's own are good to nine digits
    edges = gg.tensor([[1.0, 0.0], [2.0, np.inf], [0.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, np.nan]]).t()
    for name in ("igamma", "igammac"):
        expected = getattr(torch, name)(*torch.tensor(edges.numpy())).numpy()
        np.testing.assert_allclose(getattr(gg, name)(*edges).numpy(), expected, atol=1e-14)
