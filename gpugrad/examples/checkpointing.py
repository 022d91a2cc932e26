"""Gradient checkpointing: the same gradients, bit for bit, in a fraction of the memory, for one more forward pass.

Only the inputs of each part of the network are kept; what backward needs inside a part is computed anew when its turn
comes. Dropout draws the same mask both times.
"""

import time
import tracemalloc

import gpugrad as gg
from gpugrad import nn
from gpugrad.examples import Run, start
from gpugrad.utils.checkpoint import checkpoint_sequential


def main(run: Run) -> None:
    """Run one step of a network of 32 blocks without checkpoints, and with 6 segments."""
    blocks, width, rows = (16, 32, 128) if run.quick else (32, 128, 1024)
    gradients, peaks = [], []
    for segments in (1, 6):
        gg.manual_seed(run.seed)
        model = nn.Sequential(
            *[
                nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Dropout(0.1), nn.LayerNorm(width))
                for _ in range(blocks)
            ]
        ).to(run.device)
        x = gg.randn(rows, width, device=run.device)
        begin = time.perf_counter()
        tracemalloc.start()
        out = model(x) if segments == 1 else checkpoint_sequential(model, segments, x, use_reentrant=False)
        out.square().mean().backward()
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
        gradients.append(nn.utils.parameters_to_vector([p.grad for p in model.parameters()]))
        run.say(f"{segments} segment(s): peak {peaks[-1]:.1f} MiB, {time.perf_counter() - begin:.2f} s")
    same = (gradients[0] == gradients[1]).all().item()
    run.result(
        "gradients", "the same, bit for bit" if same else "different", goal="the same, bit for bit", reached=same
    )
    if run.device.type == "cpu":  # what is traced is the memory of the host
        run.result(
            "peak memory with checkpoints / without",
            f"{peaks[1] / peaks[0]:.2f}",
            goal="below 0.6",
            origin="words",
            reached=peaks[1] < 0.6 * peaks[0],
        )


if __name__ == "__main__":
    start(main)
