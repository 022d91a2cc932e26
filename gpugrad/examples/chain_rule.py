"""The chain rule on f = (x + y) z: the smallest graph with a gradient.

``requires_grad=True`` asks for the gradient of a tensor. Arithmetic is recorded while it is
computed; ``backward`` then walks from f to x, y and z and leaves df/dx, df/dy and df/dz in their ``grad``.
"""

import gpugrad as gg
from gpugrad.examples import Run, start


def main(run: Run) -> None:
    """Find the three gradients."""
    x = gg.tensor(-2.0, device=run.device, requires_grad=True)
    y = gg.tensor(5.0, device=run.device, requires_grad=True)
    z = gg.tensor(-4.0, device=run.device, requires_grad=True)
    f = (x + y) * z
    f.backward()
    found = [t.grad.item() for t in (x, y, z)]  # z, z, and x + y
    run.say(f"f = (x + y) z = {f.item():g} at x = -2, y = 5, z = -4")
    run.result(
        "df/dx, df/dy, df/dz",
        ", ".join(f"{g:g}" for g in found),
        goal="exactly -4, -4, 3",
        origin="-4, -4, 3",
        reached=found == [-4, -4, 3],
    )


if __name__ == "__main__":
    start(main)
