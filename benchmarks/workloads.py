"""What is timed: one training step of each of these, on fixed random data.

With ``--smoke`` on the command line, or ``GPUGRAD_BENCH_SMOKE`` set, the sizes are tiny, to see that everything runs.
"""

from __future__ import annotations

import os
import sys

SMOKE = "--smoke" in sys.argv or bool(os.environ.get("GPUGRAD_BENCH_SMOKE"))

MLPS = {
    "mlp-small": ((784, 128, 10), 64),
    "mlp-mid": ((784, 256, 128, 10), 128),
    "mlp-large": ((784, 1024, 1024, 1024, 10), 512),
}
LENET_BATCH = 128
RATE = 1e-6
"""Adam's learning rate.  One that learns the only batch by heart makes gradients of denormal numbers, which take
processors a hundred times as long: the length of the run would be measured."""
CHAIN = 10_000

WORKLOADS = {
    "mlp-small": "MLP 784-128-10, batch 64, Adam",
    "mlp-mid": "MLP 784-256-128-10, batch 128, Adam",
    "mlp-large": "MLP 784-1024-1024-1024-10, batch 512, Adam",
    "lenet": "LeNet-5, 1x28x28, batch 128, Adam",
    "chain": "10,000 multiplications of 4 elements, forward and backward",
}


class TransformerSizes:
    """Of a language model: token and place embeddings, layers that normalise first, and a head."""

    vocabulary, width, layers, heads, hidden, length, batch = 256, 256, 4, 4, 1024, 128, 32


if SMOKE:
    MLPS = dict.fromkeys(MLPS, ((12, 8, 4), 4))
    LENET_BATCH = 2
    TransformerSizes.vocabulary, TransformerSizes.width, TransformerSizes.layers = 10, 8, 1
    TransformerSizes.heads, TransformerSizes.hidden, TransformerSizes.length, TransformerSizes.batch = 2, 16, 4, 2

_T = TransformerSizes
GPU_WORKLOADS = {
    **{name: text for name, text in WORKLOADS.items() if name != "chain"},
    "transformer": (
        f"transformer, {_T.layers} layers of width {_T.width} ({_T.heads} heads, {_T.hidden} hidden units, GELU, "
        f"causal), vocabulary {_T.vocabulary}, batch {_T.batch} x {_T.length}, Adam"
    ),
}
