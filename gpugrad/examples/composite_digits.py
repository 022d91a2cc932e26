"""Composite digits: a thousand images of noise become the same digit, all in one batch, and are averaged.

What a single image shows is mostly noise that happens to convince the network. The mean shows what it looks for.
"""

import gpugrad as gg
from gpugrad.examples import Run, start
from gpugrad.examples.digits import split_digits, train_classifier
from gpugrad.examples.image_generation import draw_grid, optimise


def main(run: Run) -> None:
    """Make 1,000 images of each digit from uniform noise."""
    train, _ = split_digits(run)
    count = 100 if run.quick else 1000
    model = train_classifier(run, train, 10 if run.quick else 60, noise=4.0)
    singles, means, hits = [], [], 0
    for digit in range(10):
        noise = 16 * gg.rand(count, 64, device=run.device)
        targets = gg.full((count,), digit, device=run.device)
        made = optimise(model, noise, targets, 300)[-1]
        hits += (model(made).argmax(1) == targets).sum().item()
        singles.append(made[0])
        mean = made.mean(0)
        # The difference to the mean of the noise, spread over the range of the pixels.
        means.append((mean - mean.min()) * (16 / (mean.max() - mean.min())))
        run.say(f"digit {digit}: {count} images made in one batch")
    share = hits / (10 * count)
    run.result(
        f"images seen as their digit, of {10 * count:,}",
        f"{share:.2%}",
        goal="at least 99%",
        origin="pictures",
        reached=share >= 0.99,
    )
    titles = [[f"{digit}" for digit in range(10)], [""] * 10]
    heading = f"One image of each digit made from noise, and the mean of {count:,}"
    draw_grid(run, [singles, means], titles, heading, "composite_digits.png")


if __name__ == "__main__":
    start(main)
