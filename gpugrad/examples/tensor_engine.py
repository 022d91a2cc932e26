"""The ops of a tensor engine: each one's value beside NumPy's, each gradient checked to second order.

add, mul, sub, div, neg, pow on both sides, matmul, exp, log, sigmoid, tanh, sums and means over dimensions.
"""

import numpy as np

import gpugrad as gg
from gpugrad.autograd import gradcheck, gradgradcheck
from gpugrad.examples import Run, start

OPS = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "sub": lambda a, b: a - b,
    "div": lambda a, b: a / b,
    "neg": lambda a, b: -a,
    "pow": lambda a, b: a**b,
    "number ** tensor": lambda a, b: 2.0**a,
    "tensor ** number": lambda a, b: a**3,
    "matmul": lambda a, b: a @ b.T,
    "sum over a dim": lambda a, b: a.sum(0),
    "mean": lambda a, b: a.mean(),
}
FUNCTIONS = {
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


def main(run: Run) -> None:
    """Go through the list."""
    draw = np.random.default_rng(run.seed)
    x, y = draw.uniform(0.5, 2.0, (2, 4, 3))
    a, b = (gg.tensor(v, device=run.device, requires_grad=True) for v in (x, y))
    worst, right = 0.0, 0
    # The same lambdas serve both: operators mean the same for NumPy's arrays and for tensors.
    table = {name: (op, op) for name, op in OPS.items()}
    table |= {name: (lambda a, b, n=name: getattr(a, n)(), lambda a, b, f=f: f(a)) for name, f in FUNCTIONS.items()}
    for name, (ours, numpys) in table.items():
        error = np.abs(ours(a, b).detach().cpu().numpy() - numpys(x, y)).max()
        checked = gradcheck(ours, (a, b), raise_exception=False) and gradgradcheck(ours, (a, b), raise_exception=False)
        run.say(f"{name:<17} error {error:.1e}, gradients of first and second order {'right' if checked else 'WRONG'}")
        worst, right = max(worst, error), right + checked
    run.result("largest error of a value", f"{worst:.1e}", goal="below 1e-12", reached=worst < 1e-12)
    run.result(
        "ops with right gradients",
        f"{right} of {len(table)}",
        goal="all",
        origin="wrong for div, pow, matmul and broadcasting",
        reached=right == len(table),
    )


if __name__ == "__main__":
    start(main)
