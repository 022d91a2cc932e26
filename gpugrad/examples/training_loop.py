"""The training command: progress, running averages, evaluation, checkpoints and curves, stopped and taken up again.

``gpugrad train`` is this from the shell. A run that is stopped goes on with ``--resume`` as if nothing had been.
"""

import json
import signal
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from gpugrad.cli import main as gpugrad
from gpugrad.examples import Run, start
from gpugrad.io import load


def press_ctrl_c(log: Path) -> None:
    """Interrupt this process once a run has written its first losses."""
    while not (log.exists() and '"step"' in log.read_text()):
        time.sleep(0.005)
    signal.raise_signal(signal.SIGINT)


def main(run: Run) -> None:
    """Train without a stop, then once more with Ctrl-C in its middle, and compare the weights."""
    size = ["--train-limit", "2000", "--test-limit", "500", "--hidden", "64"] if run.quick else []
    options = ["--device", str(run.device), "--source", "bundled", "--seed", str(run.seed), "--no-progress", *size]
    options += ["--epochs", "3", "--log-every", "5"]
    with TemporaryDirectory() as place:
        whole, halves = Path(place) / "whole", Path(place) / "halves"
        assert gpugrad(["train", *options, "--out", str(whole)]) == 0

        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # outside the training loop it would end the example
        try:
            threading.Thread(target=press_ctrl_c, args=[halves / "metrics.jsonl"], daemon=True).start()
            code = gpugrad(["train", *options, "--out", str(halves)])
        finally:
            signal.signal(signal.SIGINT, before)
        run.say(f"stopped with exit code {code}")
        assert gpugrad(["train", "--device", str(run.device), "--no-progress", "--resume", str(halves)]) == 0

        if (whole / "curves.png").exists():
            run.path("training_loop.png").write_bytes((whole / "curves.png").read_bytes())
        records = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
        first, second = (load(folder / "last.safetensors")["model"] for folder in (whole, halves))
    accuracy = max(r["test_accuracy"] for r in records if r["kind"] == "epoch")
    goal = 0.7 if run.quick else 0.93
    run.result(
        "test accuracy on the bundled subset", f"{accuracy:.2%}", goal=f"at least {goal:.0%}", reached=accuracy >= goal
    )
    same = code == 130 and all((first[name] == second[name]).all().item() for name in first)
    run.result(
        "weights after Ctrl-C and --resume, beside those of a run without",
        "the same, bit for bit" if same else "different",
        goal="the same",
        reached=same,
    )


if __name__ == "__main__":
    start(main)
