"""Adversarial images: the smallest change of a digit that makes the network see another one.

The loss is the cross-entropy to the wrong digit plus the mean squared difference to the original times a weight: the
larger that is, the smaller the change, and the fewer digits can be reached.
"""

import gpugrad as gg
from gpugrad.examples import Run, start
from gpugrad.examples.digits import split_digits, train_classifier
from gpugrad.examples.image_generation import draw_grid, optimise


def main(run: Run) -> None:
    """Turn every test image into each digit it is not; draw an 8 that is seen as a 9."""
    train, (images, labels) = split_digits(run)
    model = train_classifier(run, train, 10 if run.quick else 60)
    with gg.no_grad():
        right = model(images).argmax(1) == labels
    images, labels = images[right], labels[right]
    if run.quick:
        images, labels = images[:40], labels[:40]

    # Nine copies of each image, one for each wrong digit, optimised as one batch.
    originals = images.repeat_interleave(9, dim=0)
    targets = (labels.repeat_interleave(9) + gg.arange(1, 10, device=run.device).repeat(len(labels))) % 10
    steps = 50 if run.quick else 200
    for weight in (0.02, 0.2, 2.0):  # the last is the origin's
        changed = optimise(model, originals, targets, steps, weight)[-1]
        with gg.no_grad():
            fooled = model(changed).argmax(1) == targets
        rate = fooled.float().mean().item()
        distance = ((changed - originals) ** 2).mean(1).sqrt()[fooled].mean().item()
        goal = {0.02: 0.9, 0.2: 0.5, 2.0: 0.2}[weight] / (2 if run.quick else 1)
        run.result(
            f"wrong digits reached with weight {weight:g}, of {len(targets):,}; and the mean distortion",
            f"{rate:.1%}; {distance:.2f} of 16 (root mean square)",
            goal=f"both reported; at least {goal:.0%}",
            origin="one example" if weight == 2 else "",
            reached=rate >= goal,
        )

    eights = (labels.repeat_interleave(9) == 8) & (targets == 9) & fooled
    if not eights.any():
        run.say("no 8 was turned into a 9")
        return
    before, after = originals[eights][:8], changed[eights][:8]
    amount = ((after - before) ** 2).mean(1).sqrt()
    rows = [list(before), list(after), list((after - before).abs())]
    titles = [["an 8"] * len(before), ["seen as 9"] * len(before), [f"change {a:.2f}" for a in amount.tolist()]]
    draw_grid(run, rows, titles, "8s that are seen as 9s", "adversarial.png")


if __name__ == "__main__":
    start(main)
