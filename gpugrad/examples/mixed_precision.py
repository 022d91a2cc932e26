"""Mixed precision: products in 16 bits, weights in 32, and a loss scaled up so that small gradients survive float16.

On the CPU this is slow, but right: it shows what happens to the numbers. On a GPU the products get faster.
"""

import gpugrad as gg
from gpugrad import nn
from gpugrad.amp import GradScaler, autocast
from gpugrad.examples import Run, start


def train(run: Run, images: gg.Tensor, labels: gg.Tensor, dtype: object) -> float:
    """Train a network in float32, or under autocast in another dtype; its accuracy on these images."""
    gg.manual_seed(run.seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10)).to(run.device)
    optimizer = gg.optim.Adam(model.parameters(), lr=2e-3)
    mixed = dtype != gg.float32
    scaler = GradScaler(run.device.type, enabled=dtype == gg.float16)
    for _ in range(2 if run.quick else 4):
        for rows in gg.randperm(len(images)).to(run.device).split(100):
            optimizer.zero_grad()
            with autocast(run.device.type, dtype=dtype if mixed else gg.float16, enabled=mixed):
                loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    assert all(p.dtype == gg.float32 for p in model.parameters())
    with gg.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()


def main(run: Run) -> None:
    """Train in each dtype, then show what the scale is for."""
    images, labels = gg.data.MNIST(train=True, source="bundled").as_tensors()
    count = 1000 if run.quick else 5000
    images, labels = images[:count].to(run.device), labels[:count].to(run.device)
    types = [gg.float32, gg.float16]
    try:
        types.append(gg.bfloat16)
    except ImportError as error:
        run.say(f"{error}")
    accuracies = [train(run, images, labels, dtype) for dtype in types]
    for dtype, accuracy in zip(types[1:], accuracies[1:], strict=True):
        run.result(
            f"accuracy in {dtype}, beside float32",
            f"{accuracy:.2%}, {accuracies[0]:.2%}",
            goal="within 1%",
            origin="words",
            reached=abs(accuracy - accuracies[0]) < 0.01,
        )

    # A gradient of 1e-9 is 0 in float16, whose smallest number is 6e-8, unless the loss is scaled up first.
    found = []
    for scale in (1.0, 32768.0):
        w = gg.ones(1, 1, device=run.device, requires_grad=True)
        scaler = GradScaler(run.device.type, init_scale=scale)
        with autocast(run.device.type, dtype=gg.float16):
            out = (gg.full((1, 1), 1e-3, device=run.device) @ w) * 1e-3 * 1e-3
        scaler.scale(out.sum()).backward()
        scaler.unscale_(gg.optim.SGD([w], lr=1.0))
        found.append(w.grad.item())
    run.result(
        "a gradient of 1e-9 in float16, without and with a scaled loss",
        f"{found[0]:g}, {found[1]:.3g}",
        goal="0, and right to 1%",
        reached=found[0] == 0 and abs(found[1] / 1e-9 - 1) < 0.01,
    )


if __name__ == "__main__":
    start(main)
