"""MNIST with a large network: 784-1024-1024-1024-10, batches of 512, RMSprop with momentum, 20 epochs."""

import gpugrad as gg
from gpugrad import nn
from gpugrad.examples import Run, start
from gpugrad.examples.run import COLORS


def load(run: Run) -> tuple[gg.Tensor, gg.Tensor, gg.Tensor, gg.Tensor, bool]:
    """Images and labels for training, the same for testing, and whether this is the full set."""
    train, test = (gg.data.MNIST(run.data_dir, train=part) for part in (True, False))
    run.say(f"{len(train):,} training and {len(test):,} test images from {train.origin}")
    (x, y), (test_x, test_y) = train.as_tensors(), test.as_tensors()
    limit = 1500 if run.quick else None
    parts = (x[:limit], y[:limit], test_x[:limit], test_y[:limit])
    return *(t.to(run.device) for t in parts), len(train) == 60_000


def test_accuracy(model: nn.Module, x: gg.Tensor, y: gg.Tensor) -> float:
    """The share that the model gets right, in evaluation mode."""
    model.eval()
    hits = 0
    with gg.no_grad():
        for k in range(0, len(x), 1000):
            hits += (model(x[k : k + 1000]).argmax(1) == y[k : k + 1000]).sum().item()
    model.train()
    return hits / len(x)


def main(run: Run) -> None:
    """Train with dropout, and a learning rate that rises and falls."""
    x, y, test_x, test_y, full = load(run)
    width, epochs, batch = (128, 3, 100) if run.quick else (1024, 20, 512)
    layers: list[nn.Module] = [nn.Flatten()]
    for before in (784, width, width):
        layers += [nn.Linear(before, width), nn.ReLU(), nn.Dropout(0.2)]
    model = nn.Sequential(*layers, nn.Linear(width, 10)).to(run.device)
    optimizer = gg.optim.RMSprop(model.parameters(), lr=2e-4, momentum=0.9)
    steps = -(-len(x) // batch)
    schedule = gg.optim.lr_scheduler.OneCycleLR(optimizer, 4e-4 if run.quick else 2e-4, total_steps=epochs * steps)

    curve = []
    for epoch in range(1, epochs + 1):
        hits = gg.zeros((), dtype=gg.int64, device=run.device)
        for rows in gg.randperm(len(x)).to(run.device).split(batch):
            optimizer.zero_grad()
            logits = model(x[rows])
            nn.functional.cross_entropy(logits, y[rows]).backward()
            optimizer.step()
            schedule.step()
            hits += (logits.detach().argmax(1) == y[rows]).sum()  # stays on the device until the epoch ends
        curve.append((hits.item() / len(x), test_accuracy(model, test_x, test_y)))
        run.say(f"epoch {epoch:>2}: train {curve[-1][0]:.2%}, test {curve[-1][1]:.2%}")
    goal = 0.7 if run.quick else 0.983 if full else 0.95
    run.result(
        "test accuracy" + ("" if full else ", bundled subset"),
        f"{curve[-1][1]:.2%}",
        goal=f"at least {goal:.1%}",
        origin="about 98%",
        reached=curve[-1][1] >= goal,
    )

    figure = run.figure(6, 3.6)
    if figure:
        axes = figure.subplots()
        for k, part in enumerate(("train, with dropout", "test")):
            values = [100 * pair[k] for pair in curve]
            axes.plot(range(1, epochs + 1), values, ["--", "-"][k], color=COLORS[k], label=f"{part}: {values[-1]:.2f}%")
        axes.set(title="MNIST, 784-1024-1024-1024-10: accuracy", xlabel="epoch", ylabel="%")
        axes.legend(loc="lower right")
        axes.grid(alpha=0.3)
        run.save(figure, "mnist_mlp.png")


if __name__ == "__main__":
    start(main)
