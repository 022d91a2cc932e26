"""Gradients watched while a deep network learns: norms before and after clipping, updates, dead units, histograms."""

import gpugrad as gg
from gpugrad import nn
from gpugrad.examples import Run, start
from gpugrad.monitor import GradientMonitor


def main(run: Run) -> None:
    """Train on the bundled digits with clipping by total norm, and look at every tenth step."""
    images, labels = gg.data.MNIST(train=True, source="bundled").as_tensors()
    images, labels = images[:2000].to(run.device), labels[:2000].to(run.device)
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(784, 64), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Linear(64, 64), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(64, 10)).to(run.device)
    optimizer = gg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    limit = 1.0
    with GradientMonitor(model, optimizer, interval=10) as monitor:
        for _ in range(1 if run.quick else 10):
            for rows in gg.randperm(len(images)).to(run.device).split(50):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
                nn.utils.clip_grad_norm_(model.parameters(), limit)
                optimizer.step()
    print(monitor.table())
    above = [r for r in monitor.records if r["total_norm"] > limit]
    highest = max(r["clipped_norm"] for r in monitor.records)
    run.result(
        "largest norm of all gradients after clipping",
        f"{highest:.4f}",
        goal=f"at most {limit:g}",
        reached=highest <= limit * 1.0001,
    )
    run.result(
        "records, and those that were clipped",
        f"{len(monitor.records)}, {len(above)}",
        goal="mean, std, norm and histogram of each",
        origin="plots",
        reached=all(len(r["parameters"]) == 10 for r in monitor.records),
    )
    if run.figure(1, 1):
        for name in ("gradients.png", "histograms.png"):
            run.path(name)
        monitor.draw(run.out)


if __name__ == "__main__":
    start(main)
