"""A network that learns 2a + 3b + 4c + 5 from one point at a time."""

import gpugrad as gg
from gpugrad import nn
from gpugrad.examples import Run, start
from gpugrad.optim.lr_scheduler import CosineAnnealingLR


def main(run: Run) -> None:
    """Train a 3-15-1 network on 20,000 points and ask it for a = 1, b = 2, c = 3."""
    steps = 2_000 if run.quick else 20_000
    model = nn.Sequential(nn.Linear(3, 15), nn.ReLU(), nn.Linear(15, 1)).to(run.device)
    optimizer = gg.optim.Adam(model.parameters(), lr=0.01)
    schedule = CosineAnnealingLR(optimizer, steps)
    points = gg.rand(steps, 3, device=run.device) * 4
    values = points @ gg.tensor([[2.0], [3.0], [4.0]], device=run.device) + 5
    question = gg.tensor([1.0, 2.0, 3.0], device=run.device)
    for k in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(points[k]), values[k])
        loss.backward()
        optimizer.step()
        schedule.step()
        if (k + 1) % (steps // 4) == 0:
            with gg.no_grad():
                run.say(f"step {k + 1:>6}: {model(question).item():.4f}")
    with gg.no_grad():
        answer = model(question).item()
    allowed = 1.0 if run.quick else 0.05
    run.result(
        "the network's 2a + 3b + 4c + 5 at (1, 2, 3)",
        f"{answer:.3f}",
        goal=f"within {allowed:g} of 25",
        origin="23.6",
        reached=abs(answer - 25) < allowed,
    )


if __name__ == "__main__":
    start(main)
