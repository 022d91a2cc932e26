"""Handwritten digits of 8 x 8 pixels: a small classifier, with its curves."""

from collections.abc import Callable

import gpugrad as gg
from gpugrad import nn
from gpugrad.examples import Run, start
from gpugrad.examples.run import COLORS

Split = tuple[gg.Tensor, gg.Tensor]


def split_digits(run: Run) -> tuple[Split, Split]:
    """The 1,797 digits, as rows of 64 numbers from 0 to 16, split 80 : 20."""
    digits = gg.data.Digits()
    order = gg.randperm(len(digits), generator=gg.Generator().manual_seed(run.seed))
    images = digits.data.float().reshape(-1, 64)[order].to(run.device)
    labels = digits.targets[order].to(run.device)
    cut = int(0.8 * len(digits))
    return (images[:cut], labels[:cut]), (images[cut:], labels[cut:])


def accuracy(model: nn.Module, images: gg.Tensor, labels: gg.Tensor) -> float:
    """The share that a model gets right."""
    model.eval()
    with gg.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()


def train_classifier(
    run: Run, train: Split, epochs: int, noise: float = 0.0, after_epoch: Callable[[int, nn.Module], None] | None = None
) -> nn.Module:
    """A 64-32-16-10 network with dropout after its first two layers.

    Args:
        noise: added to the images while training. What changes the mind of such a network is easier to see.
        after_epoch: called with the number of each epoch and the model.
    """
    model = nn.Sequential(
        nn.Linear(64, 32),
        nn.LeakyReLU(0.1),
        nn.Dropout(0.2),
        nn.Linear(32, 16),
        nn.LeakyReLU(0.1),  # a gradient everywhere: images made later cannot get stuck
        nn.Dropout(0.2),
        nn.Linear(16, 10),
    ).to(run.device)
    loader = gg.utils.data.DataLoader(gg.utils.data.TensorDataset(*train), batch_size=32, shuffle=True)
    optimizer = gg.optim.Adam(model.parameters(), lr=3e-3)
    schedule = gg.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(1, epochs + 1):
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            x = x + noise * gg.randn_like(x) if noise else x
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        schedule.step()
        if after_epoch:
            after_epoch(epoch, model)
    optimizer.zero_grad()
    return model.eval()


def main(run: Run) -> None:
    """Train it, and draw accuracy on both parts."""
    train, test = split_digits(run)
    epochs = 10 if run.quick else 60
    curve = []

    def note(epoch: int, model: nn.Module) -> None:
        curve.append((accuracy(model, *train), accuracy(model, *test)))
        if epoch % (epochs // 5) == 0:
            run.say(f"epoch {epoch:>2}: train {curve[-1][0]:.1%}, test {curve[-1][1]:.1%}")

    train_classifier(run, train, epochs, after_epoch=note)
    goal = 0.85 if run.quick else 0.95
    run.result(
        "test accuracy", f"{curve[-1][1]:.1%}", goal=f"at least {goal:.0%}", origin="93%", reached=curve[-1][1] >= goal
    )

    figure = run.figure(6, 3.8)
    if figure:
        axes = figure.subplots()
        for k, part in enumerate(("train", "test")):
            values = [100 * pair[k] for pair in curve]
            axes.plot(range(1, epochs + 1), values, ["-", "--"][k], color=COLORS[k], label=f"{part}: {values[-1]:.1f}%")
        axes.axhline(93, color="grey", linewidth=1, linestyle=":", label="origin, test: 93%")
        axes.set(title="8 x 8 digits: accuracy", xlabel="epoch", ylabel="%", ylim=(60, 101))
        axes.legend(loc="lower right")
        axes.grid(alpha=0.3)
        run.save(figure, "digits.png")


if __name__ == "__main__":
    start(main)
