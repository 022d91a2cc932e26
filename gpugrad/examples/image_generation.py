"""Images made by backpropagation: a classifier stays as it is, and the pixels learn to be a digit.

The parameters get no gradient (``requires_grad_(False)``); the images do. Adam changes them until the network sees the
digit that it is asked for, and ``clamp_`` keeps them in the range of real pixels.
"""

import gpugrad as gg
from gpugrad import nn
from gpugrad.examples import Run, start
from gpugrad.examples.digits import split_digits, train_classifier


def optimise(
    model: nn.Module, images: gg.Tensor, targets: gg.Tensor, steps: int = 100, weight: float = 0.0
) -> list[gg.Tensor]:
    """Images that the model sees as the targets, made from given ones in small steps; every tenth state.

    Args:
        weight: of the squared distance to the given images, which is added to the loss.
    """
    model.requires_grad_(False)
    x = images.clone().requires_grad_()
    optimizer = gg.optim.Adam([x], lr=0.1)
    states = [images]
    for step in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), targets, reduction="sum")
        if weight:
            loss = loss + weight * ((x - images) ** 2).mean(1).sum()
        loss.backward()
        optimizer.step()
        with gg.no_grad():
            x.clamp_(0, 16)
        if step % 10 == 9:
            states.append(x.detach().clone())
    assert all(p.grad is None for p in model.parameters())
    return states


def draw_grid(run: Run, rows: list[list[gg.Tensor]], titles: list[list[str]], heading: str, name: str) -> None:
    """Draw rows of 8 x 8 images, each from black to its own white, under their titles."""
    figure = run.figure(0.95 * len(rows[0]), 1.2 * len(rows) + 0.4)
    if figure:
        for axes_row, images, labels in zip(
            figure.subplots(len(rows), len(rows[0]), squeeze=False), rows, titles, strict=True
        ):
            for axes, image, label in zip(axes_row, images, labels, strict=True):
                axes.imshow(image.cpu().numpy().reshape(8, 8), cmap="gray", vmin=0, vmax=max(image.max().item(), 1))
                if label:
                    axes.set_title(label, fontsize=9)
                axes.axis("off")
        figure.suptitle(heading, fontsize=11)
        run.save(figure, name)


def main(run: Run) -> None:
    """From a 0 to an 8, and from a black square to each digit."""
    train, (images, labels) = split_digits(run)
    model = train_classifier(run, train, 10 if run.quick else 60, noise=4.0)

    zero = images[labels == 0][:1]
    eight = gg.tensor([8], device=run.device)
    states = optimise(model, zero, eight)
    seen = [model(state).argmax(1).item() for state in states]
    run.result("a 0 is seen as, after 100 steps", seen[-1], goal="8", origin="picture", reached=seen[-1] == 8)
    titles = [f"{10 * k}: {digit}" for k, digit in enumerate(seen)]
    draw_grid(
        run, [[s[0] for s in states]], [titles], "A 0 becomes an 8: step, and what the network sees", "0_to_8.png"
    )

    targets = gg.arange(10, device=run.device)
    black = gg.zeros(10, 64, device=run.device)
    states = optimise(model, black, targets)
    with gg.no_grad():
        chance = model(states[-1]).softmax(1)
    reached = (chance.argmax(1) == targets).sum().item()
    run.result(
        "digits made from a black square that are seen as such",
        f"{reached} of 10, with a mean probability of {chance.diagonal().mean().item():.3f}",
        goal="10 of 10",
        origin="pictures",
        reached=reached == 10,
    )
    rows = [list(states[k]) for k in (1, 3, 10)]
    titles = [[f"{digit}" for digit in range(10)]] + [[""] * 10] * 2
    heading = "From black to each digit: after 10, 30 and 100 steps"
    draw_grid(run, rows, titles, heading, "generated_digits.png")


if __name__ == "__main__":
    start(main)
