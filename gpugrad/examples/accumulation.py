"""Gradient accumulation: several small batches make the same step as one large one, with clipping too.

``backward`` adds to ``grad``. With each loss divided by the number of parts, the sum is the gradient of the whole.
"""

import gpugrad as gg
from gpugrad import nn
from gpugrad.examples import Run, start


def main(run: Run) -> None:
    """Train two copies of a network for 20 steps: 128 images at once, and 8 times 16."""
    images, labels = gg.data.MNIST(train=True, source="bundled").as_tensors()
    found = []
    for parts in (1, 8):
        gg.manual_seed(run.seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.Tanh(), nn.Linear(100, 10)).double().to(run.device)
        optimizer = gg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for step in range(20):
            rows = slice(128 * step, 128 * (step + 1))
            x, y = images[rows].double().to(run.device), labels[rows].to(run.device)
            optimizer.zero_grad()
            for xs, ys in zip(x.chunk(parts), y.chunk(parts), strict=True):
                (nn.functional.cross_entropy(model(xs), ys) / parts).backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
        run.say(f"{parts} x {128 // parts} images a step: last norm before clipping {norm.item():.12f}")
        found.append(nn.utils.parameters_to_vector(model.parameters()))
    error = ((found[0] - found[1]).norm() / found[0].norm()).item()
    run.result(
        "relative difference of the weights after 20 steps",
        f"{error:.1e}",
        goal="below 1e-12 (rounding)",
        origin="code",
        reached=error < 1e-12,
    )


if __name__ == "__main__":
    start(main)
