"""MNIST by layers: 784-100-200-10, two images a step from a DataLoader; predictions shown beside images."""

import gpugrad as gg
from gpugrad import nn
from gpugrad.examples import Run, start
from gpugrad.utils.data import DataLoader, Subset


def main(run: Run) -> None:
    """Train for five epochs with the softmax cross-entropy of the logits."""
    to_pixels = gg.data.transforms.Compose(
        [gg.data.transforms.ToTensor(), gg.data.transforms.Normalize((0.1307,), (0.3081,))]
    )
    train, test = (gg.data.MNIST(run.data_dir, train=part, transform=to_pixels) for part in (True, False))
    full = len(train) == 60_000
    run.say(f"{len(train):,} training images from {train.origin}")
    if run.quick:
        train, test = Subset(train, range(2000)), Subset(test, range(500))

    model = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 200), nn.ReLU(), nn.Linear(200, 10)
    ).to(run.device)
    optimizer = gg.optim.SGD(model.parameters(), lr=0.01)
    epochs = 1 if run.quick else 5
    schedule = gg.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=epochs)
    for epoch in range(1, epochs + 1):
        total = 0.0
        for images, labels in DataLoader(train, batch_size=2, shuffle=True):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images.to(run.device)), labels.to(run.device))
            loss.backward()
            optimizer.step()
            total += loss.item()
        schedule.step()
        accuracy, shown = evaluate(run, model, test)
        run.say(f"epoch {epoch}: loss {2 * total / len(train):.4f}, test {accuracy:.2%}")
    goal = 0.75 if run.quick else 0.97 if full else 0.93
    run.result(
        "test accuracy" + ("" if full else ", bundled subset"),
        f"{accuracy:.2%}",
        goal=f"at least {goal:.0%}",
        origin="works",
        reached=accuracy >= goal,
    )

    figure = run.figure(9, 4.6)
    if figure:
        for axes, (image, label, found, chance) in zip(figure.subplots(3, 8).flat, shown, strict=False):
            axes.imshow(image, cmap="gray")
            mark = "" if found == label else f", is {label}"
            axes.set_title(f"{found} ({chance:.0%}){mark}", fontsize=9, color="black" if found == label else "#D55E00")
            axes.axis("off")
        figure.suptitle(f"Predictions with their probability; test accuracy {accuracy:.2%}", fontsize=11)
        run.save(figure, "mnist_layers.png")


def evaluate(run: Run, model: nn.Module, test: object) -> tuple[float, list]:
    """The accuracy, and 24 images with label, prediction and probability, wrong ones first."""
    hits, seen = 0, []
    with gg.no_grad():
        for images, labels in DataLoader(test, batch_size=500):
            chances, found = model(images.to(run.device)).softmax(1).cpu().max(1)
            hits += (found == labels).sum().item()
            order = gg.argsort((found == labels).float(), stable=True).tolist()
            seen += [(images[k, 0].numpy(), labels[k].item(), found[k].item(), chances[k].item()) for k in order[:24]]
    seen.sort(key=lambda item: item[1] == item[2])
    wrong = [item for item in seen if item[1] != item[2]]
    right = [item for item in seen if item[1] == item[2]]
    return hits / len(test), (right + wrong)[:18] + wrong[:6] if len(right) >= 18 else wrong[:6] + right[:18]


if __name__ == "__main__":
    start(main)
