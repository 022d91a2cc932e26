"""What the GPU suite runs in processes of their own: ``python -m benchmarks.gpu_tasks NAME RESULT.json [options]``."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .workloads import SMOKE

GOAL = 0.98
STEPS = 4 if SMOKE else 200
BATCH = 50
_SMALL = ["--hidden", "16", "--test-limit", "50"] if SMOKE else []


def probe(options: argparse.Namespace) -> dict[str, Any]:
    """The device and the libraries that gpugrad uses."""
    import numpy

    import gpugrad as gg
    from gpugrad.backend import cuda

    diagnosis = cuda.diagnose()
    if not diagnosis.usable:
        return {"usable": False, "message": diagnosis.message()}
    properties = gg.cuda.get_device_properties()
    return {
        "usable": True,
        "simulated": cuda.simulated(),
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "l2_mib": round(properties.L2_cache_size / 2**20, 1),
        "multiprocessors": properties.multi_processor_count,
        "driver_cuda": diagnosis.driver_version,
        "runtime_cuda": diagnosis.runtime_version,
        "versions": {"gpugrad": gg.__version__, "numpy": numpy.__version__, "cupy": diagnosis.cupy_version},
    }


def _has_data(options: argparse.Namespace) -> bool:
    return bool(options.data_dir) and Path(options.data_dir).is_dir()


def _train(folder: Path, options: argparse.Namespace, *arguments: str) -> list[dict[str, Any]]:
    """``gpugrad train`` in this process; its records."""
    from gpugrad import cli

    data = ["--data-dir", options.data_dir] if _has_data(options) else ["--source", "bundled"]
    code = cli.main(["train", *data, *_SMALL, *arguments, "--no-progress", "--out", str(folder)])
    if code:
        raise RuntimeError(f"gpugrad train {' '.join(arguments)} ended with code {code}")
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def mnist(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of training to 98% test accuracy, in a process that has trained before."""
    with tempfile.TemporaryDirectory() as scratch:
        common = ["--device", "cuda"] + (["--train-limit", "200"] if SMOKE else [])
        cold = time.perf_counter()
        _train(Path(scratch) / "first", options, *common, "--epochs", "1", "--seed", "1")
        cold = time.perf_counter() - cold
        records = _train(Path(scratch) / "run", options, *common, "--epochs", "1" if SMOKE else "4")
        facts = json.loads((Path(scratch) / "run" / "config.json").read_text())
    epochs = [record for record in records if record["kind"] == "epoch"]
    reached = next((record for record in epochs if record["test_accuracy"] >= GOAL), None)
    return {
        "data": "MNIST" if _has_data(options) else "the bundled 10,000 images of MNIST, not all 60,000",
        "first_epoch_cold_s": cold,
        "seconds": reached and reached["seconds"],
        "epoch": reached and reached["epoch"],
        "best": max(record["test_accuracy"] for record in epochs),
        "epochs": [[record["seconds"], record["test_accuracy"], record["images_per_second"]] for record in epochs],
        "config": {name: facts[name] for name in ("hidden", "dropout", "batch_size", "optimizer", "lr", "scheduler")},
    }


def curves(options: argparse.Namespace) -> dict[str, Any]:
    """The losses of the first steps of one seed on the CPU and on the GPU, dropout on."""
    import gpugrad as gg

    gg.backends.cuda.matmul.allow_tf32 = False
    losses = {}
    with tempfile.TemporaryDirectory() as scratch:
        for device in ("cpu", "cuda"):
            limits = ["--train-limit", str(STEPS * BATCH), "--batch-size", str(BATCH), "--epochs", "1"]
            records = _train(Path(scratch) / device, options, "--device", device, "--log-every", "1", *limits)
            losses[device] = [record["loss"] for record in records if record["kind"] == "step"]
    apart = [abs(a - b) / abs(a) for a, b in zip(losses["cpu"], losses["cuda"], strict=True)]
    result = {"steps": len(apart), "largest": max(apart), "losses": losses, "picture": None}
    with contextlib.suppress(ImportError):  # where matplotlib is not there
        result["picture"] = _picture(losses, apart, Path(options.folder) / "gpu-curves.png")
    return result


def _picture(losses: dict[str, list[float]], apart: list[float], path: Path) -> str:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, figsize=(8, 6), sharex=True, layout="constrained")
    steps = range(1, len(apart) + 1)
    above.plot(steps, losses["cpu"], label="CPU", linewidth=3, alpha=0.5)
    above.plot(steps, losses["cuda"], label="GPU", linewidth=1, color="black")
    above.set(ylabel="loss of a step", title="One seed on the CPU and on the GPU, dropout on")
    above.legend()
    below.semilogy(steps, [max(a, 1e-9) for a in apart])
    below.axhline(1e-3, color="tab:red", linestyle="--", label="goal")
    below.set(xlabel="step", ylabel="relative difference")
    below.legend()
    figure.savefig(path, dpi=120)
    return path.name


TASKS = {"probe": probe, "mnist": mnist, "curves": curves}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_tasks")
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("result")
    parser.add_argument("--data-dir")
    parser.add_argument("--folder", default=".")
    options = parser.parse_args()
    result = TASKS[options.task](options)
    Path(options.result).write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
