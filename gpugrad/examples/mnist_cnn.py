"""MNIST with a convolutional network, on images that are moved by up to two pixels."""

import gpugrad as gg
from gpugrad import nn
from gpugrad.examples import Run, start
from gpugrad.examples.mnist_mlp import load, test_accuracy


def moved(images: gg.Tensor, shift: int = 2) -> gg.Tensor:
    """Each image moved at random: cut out of a larger frame, by index, so that no loop is needed."""
    n, _, size, _ = images.shape
    frame = nn.functional.pad(images, (shift,) * 4, value=images.min().item())
    row, column = gg.randint(0, 2 * shift + 1, (2, n, 1, 1), device=images.device)
    span = gg.arange(size, device=images.device)
    which = gg.arange(n, device=images.device).reshape(n, 1, 1)
    return frame[which, 0, row + span.reshape(-1, 1), column + span].unsqueeze(1)


def main(run: Run) -> None:
    """Two convolutions with batch normalisation, and a hidden layer; four epochs of Adam."""
    x, y, test_x, test_y, full = load(run)
    if run.quick:
        test_x, test_y = test_x[:500], test_y[:500]
    epochs, batch = (1, 50) if run.quick else (5, 128)
    first, second = (4, 8) if run.quick else (16, 32)
    model = nn.Sequential(
        nn.Conv2d(1, first, 5, padding=2), nn.BatchNorm2d(first), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(first, second, 5, padding=2), nn.BatchNorm2d(second), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.25), nn.Linear(49 * second, 128), nn.ReLU(), nn.Dropout(0.25), nn.Linear(128, 10),
    ).to(run.device)  # fmt: skip
    optimizer = gg.optim.Adam(model.parameters())
    steps = -(-len(x) // batch)
    schedule = gg.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * steps)
    for epoch in range(1, epochs + 1):
        total = gg.zeros((), device=run.device)
        for rows in gg.randperm(len(x)).to(run.device).split(batch):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(moved(x[rows])), y[rows])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(rows)
        accuracy = test_accuracy(model, test_x, test_y)
        run.say(f"epoch {epoch}: loss {total.item() / len(x):.4f}, test {accuracy:.2%}")
    goal = 0.6 if run.quick else 0.993 if full else 0.97
    run.result(
        "test accuracy" + ("" if full else ", bundled subset"),
        f"{accuracy:.2%}",
        goal=f"at least {goal:.1%}",
        reached=accuracy >= goal,
    )


if __name__ == "__main__":
    start(main)
