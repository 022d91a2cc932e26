"""What is timed: one training step of each of these, on fixed random data."""

from __future__ import annotations

MLPS = {
    "mlp-small": ((784, 128, 10), 64),
    "mlp-mid": ((784, 256, 128, 10), 128),
    "mlp-large": ((784, 1024, 1024, 1024, 10), 512),
}
LENET_BATCH = 128
CHAIN = 10_000

WORKLOADS = {
    "mlp-small": "MLP 784-128-10, batch 64, Adam",
    "mlp-mid": "MLP 784-256-128-10, batch 128, Adam",
    "mlp-large": "MLP 784-1024-1024-1024-10, batch 512, Adam",
    "lenet": "LeNet-5, 1x28x28, batch 128, Adam",
    "chain": "10,000 multiplications of 4 elements, forward and backward",
}
