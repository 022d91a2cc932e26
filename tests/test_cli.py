"""The command line, end to end: training, resuming after whatever may happen, predicting, what it says of mistakes."""

import errno
import importlib.util
import itertools
import json
import math
import os
import random
import re
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers import ACCELERATED

import gpugrad as gg
from gpugrad import cli
from gpugrad.cli import config, images, train
from gpugrad.cli.data import Split
from gpugrad.data import MNIST
from gpugrad.data.idx import write_idx

ROOT = Path(__file__).parent.parent
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
TINY = ["--device", "cpu", "--source", "bundled", "--no-progress", "--log-every", 5]
TINY += ["--train-limit", 600, "--test-limit", 200, "--hidden", 32, "--batch-size", 50, "--epochs", 3]
TIMES = ("seconds", "epoch_seconds", "images_per_second")


def gpugrad(*args):
    """Run the command line in this process; returns its exit code."""
    try:
        return cli.main([str(a) for a in args])
    except SystemExit as stop:
        return stop.code


def start(*args, **options):
    """Run it in a process of its own."""
    command = [sys.executable, "-m", "gpugrad", *map(str, args)]
    return subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def finish(process, timeout=120):
    output, _ = process.communicate(timeout=timeout)
    return process.returncode, output


def arrays(tree, path=""):
    """The tensors and numbers of a checkpoint, by name, without its clock."""
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)
    else:
        return {path: tree.numpy() if isinstance(tree, gg.Tensor) else tree}
    return {
        name: value
        for key, part in items
        if key not in (*TIMES, "log_size")
        for name, value in arrays(part, f"{path}.{key}").items()
    }


def metrics(folder):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in TIMES} for record in records]


def assert_same_run(one, other):
    """Two runs ended with the same weights, optimizer state, counters and metrics, to the bit."""
    for name in ("last.safetensors", "best.safetensors"):
        a, b = arrays(gg.load(one / name)), arrays(gg.load(other / name))
        assert a.keys() == b.keys()
        for key, value in a.items():
            assert np.array_equal(value, b[key]), key
    assert metrics(one) == metrics(other)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert gpugrad("train", *TINY, "--out", folder) == 0
    return folder


def write_png(path, pixels, kind=0, depth=8, palette=b"", filters=(0,)):
    """An encoder of its own: each row takes the next of the filters."""
    height, width = pixels.shape[:2]
    samples = pixels.reshape(height, -1)
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in samples]
    elif depth == 8:
        rows = [row.astype(np.uint8).tobytes() for row in samples]
    else:
        rows = []
        for row in samples:
            bits = "".join(f"{value:0{depth}b}" for value in row)
            bits += "0" * (-len(bits) % 8)
            rows.append(bytes(int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)))
    step = max(1, samples.shape[1] // width * depth // 8)
    lines, above = [], bytes(len(rows[0]))
    for row, number in zip(rows, itertools.cycle(filters), strict=False):
        line = bytearray([number])
        for k, value in enumerate(row):
            a, b, c = (row[k - step] if k >= step else 0), above[k], (above[k - step] if k >= step else 0)
            p = a + b - c
            paeth = min((a, b, c), key=lambda x: abs(p - x))
            line.append((value - (0, a, b, (a + b) // 2, paeth)[number]) % 256)
        lines.append(bytes(line))
        above = row

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
        + (chunk(b"PLTE", palette) if palette else b"")
        + chunk(b"IDAT", zlib.compress(b"".join(lines)))
        + chunk(b"IEND", b"")
    )
    return path


# Training.


def test_a_run_leaves_all_it_promises(finished):
    names = {p.name for p in finished.iterdir()} - {"curves.png"}
    assert names == {"config.json", "metrics.jsonl", "last.safetensors", "previous.safetensors", "best.safetensors"}
    resolved = json.loads((finished / "config.json").read_text())
    assert resolved["hidden"] == [32]
    assert resolved["lr"] == config.BASE_LR["adam"]
    assert resolved["gpugrad"] == gg.__version__
    assert resolved["source"] == "bundled"
    epochs = [r for r in metrics(finished) if r["kind"] == "epoch"]
    assert [r["epoch"] for r in epochs] == [1, 2, 3]
    assert [r["step"] for r in metrics(finished) if r["kind"] == "step"] == list(range(5, 37, 5))
    assert epochs[-1]["test_accuracy"] > 0.6
    best = gg.load(finished / "best.safetensors")
    assert best["progress"]["best"] == max(r["test_accuracy"] for r in epochs)
    assert best["model"]["hidden1.weight"].shape == (32, 784)


def test_the_last_line_says_how_it_went_and_where_things_are(tmp_path, capsys):
    assert gpugrad("train", *TINY, "--out", tmp_path / "run") == 0
    out = capsys.readouterr().out.splitlines()
    last = metrics(tmp_path / "run")[-1]
    assert re.fullmatch(
        rf"test accuracy {last['test_accuracy']:.2%} \(best [\d.]+%, epoch \d\) after [\d.]+ s; "
        rf"checkpoints, metrics (and curves )?are in {re.escape(str(tmp_path / 'run'))}",
        out[-1],
    )
    assert sum(line.startswith("epoch ") for line in out) == 3


def test_the_reported_numbers_are_those_of_the_network(finished):
    """Test loss and accuracy of the last epoch, computed here from the last checkpoint, by hand."""
    state = gg.load(finished / "last.safetensors")
    weights = {name: t.numpy().astype(np.float64) for name, t in state["model"].items()}
    data = MNIST(train=False, source="bundled")
    pixels, labels = data.data.numpy()[:200].reshape(200, -1) / 255, data.targets.numpy()[:200]
    x = (pixels - MNIST.mean) / MNIST.std
    x = np.maximum(x @ weights["hidden1.weight"].T + weights["hidden1.bias"], 0)
    logits = x @ weights["output.weight"].T + weights["output.bias"]
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(200), labels]
    last = metrics(finished)[-1]
    assert last["test_accuracy"] == (logits.argmax(1) == labels).mean()
    assert last["test_loss"] == pytest.approx(losses.mean(), rel=1e-5)


@pytest.mark.parametrize("optimizer", config.OPTIMIZERS)
@pytest.mark.parametrize("scheduler", config.SCHEDULERS)
def test_every_optimizer_learns_under_every_schedule(tmp_path, optimizer, scheduler):
    options = ["--optimizer", optimizer, "--scheduler", scheduler, "--epochs", 2]
    assert gpugrad("train", *TINY, *options, "--out", tmp_path) == 0
    epochs = [r for r in metrics(tmp_path) if r["kind"] == "epoch"]
    assert epochs[-1]["test_accuracy"] > 0.5


def test_the_cnn_learns(tmp_path):
    assert gpugrad("train", *TINY, "--model", "cnn", "--epochs", 2, "--out", tmp_path) == 0
    assert metrics(tmp_path)[-1]["test_accuracy"] > 0.6


@pytest.mark.parametrize("clip", [[], ["--clip-norm", "0.5"]])
def test_accumulated_batches_equal_one_large_batch(tmp_path, clip):
    """470 images: groups of 4 x 50, the last of 50 + 20."""
    common = [*TINY, "--train-limit", 470, "--epochs", 2, "--dropout", 0, "--optimizer", "momentum", *clip]
    assert gpugrad("train", *common, "--out", tmp_path / "one", "--batch-size", 200) == 0
    assert gpugrad("train", *common, "--out", tmp_path / "four", "--batch-size", 50, "--accumulate", 4) == 0
    one, four = (gg.load(tmp_path / name / "last.safetensors") for name in ("one", "four"))
    assert one["progress"]["step"] == four["progress"]["step"] == 6
    for name, weights in one["model"].items():
        np.testing.assert_allclose(weights.numpy(), four["model"][name].numpy(), rtol=1e-4, atol=1e-6)


def test_seed_decides_the_run(tmp_path, finished):
    assert gpugrad("train", *TINY, "--out", tmp_path / "same") == 0
    assert_same_run(finished, tmp_path / "same")
    assert gpugrad("train", *TINY, "--seed", 1, "--out", tmp_path / "other") == 0
    assert metrics(tmp_path / "other") != metrics(finished)


def test_monitor_reports_the_gradients(tmp_path, capsys):
    clip = 0.01
    assert gpugrad("train", *TINY, "--monitor", "--clip-norm", clip, "--epochs", 1, "--out", tmp_path) == 0
    lines = metrics(tmp_path)
    assert [r["step"] for r in lines if r["kind"] == "gradients"] == [1, lines[-1]["step"]]
    found = next(r for r in reversed(lines) if r["kind"] == "gradients")
    rows = found["parameters"]
    assert set(rows) == {"hidden1.weight", "hidden1.bias", "output.weight", "output.bias"}
    assert found["total_norm"] == pytest.approx(math.sqrt(sum(row["norm"] ** 2 for row in rows.values())))
    assert found["total_norm"] > clip
    assert found["clipped_norm"] == pytest.approx(clip, rel=1e-3)
    # norm^2 = n (mean^2 + std^2): the three belong to the same gradient.
    row, n = rows["hidden1.weight"], 32 * 784
    assert row["norm"] == pytest.approx(math.sqrt(n * (row["mean"] ** 2 + row["std"] ** 2)), rel=1e-4)
    assert 0 < row["update_ratio"] < 1
    assert set(found["dead_relu"]) == {"relu1"}
    assert "hidden1.weight" in capsys.readouterr().out
    if importlib.util.find_spec("matplotlib"):
        assert (tmp_path / "gradients.png").exists()
        assert (tmp_path / "histograms.png").exists()
    assert (tmp_path / "tensorboard").exists() == bool(importlib.util.find_spec("tensorboardX"))


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_a_terminal_gets_a_progress_bar(tmp_path):
    options = [option for option in TINY if option != "--no-progress"]
    options += ["--epochs", 1, "--train-limit", 4000, "--hidden", 256]
    shown = []
    for extra in ([], ["--no-progress"]):
        leader, follower = os.openpty()
        command = [sys.executable, "-m", "gpugrad", "train", *options, *extra, "--out", tmp_path / f"{len(shown)}"]
        process = subprocess.Popen(list(map(str, command)), env=ENV, stdout=subprocess.DEVNULL, stderr=follower)
        os.close(follower)
        output = b""
        try:
            while chunk := os.read(leader, 65536):
                output += chunk
        except OSError:  # how Linux says that the other side was closed
            pass
        os.close(leader)
        assert process.wait(60) == 0
        shown.append(output.decode())
    assert re.search(r"epoch 1/1 +\d+% .* images/s, loss [\d.]+, accuracy [\d.]+%", shown[0])
    assert shown[1] == ""


def test_shifted_images_are_the_images_moved():
    data = MNIST(train=True, source="bundled")
    images, labels = data.as_tensors()
    moved = Split(images[:50], labels[:50], "cpu", shift=2, background=-9.0)
    order, corners = moved.epoch(seed=3, number=1)
    batch, targets = moved.batch(order, corners)
    padded = np.pad(images.numpy()[:50, 0], ((0, 0), (2, 2), (2, 2)), constant_values=-9.0)
    seen = set()
    for k, (row, corner) in enumerate(zip(order.tolist(), corners.tolist(), strict=True)):
        y, x = divmod(corner, 32)
        seen |= {y, x}
        assert np.array_equal(batch.numpy()[k, 0], padded[row, y : y + 28, x : x + 28])
        assert targets[k].item() == labels[row].item()
    assert seen == set(range(5))
    assert sorted(order.tolist()) == list(range(50))
    assert not np.array_equal(order.numpy(), moved.epoch(seed=3, number=2)[0].numpy())


def test_without_network_the_bundled_subset_is_used_and_remembered(tmp_path, monkeypatch, capsys):
    from gpugrad.data import datasets, download

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets, "_failed", {})
    monkeypatch.setattr(datasets, "_told", set())

    def no_network(*args):
        raise download.DownloadError("no network")

    monkeypatch.setattr(download, "download", no_network)
    options = [option for option in TINY if option not in ("--source", "bundled")]
    assert gpugrad("train", *options, "--out", tmp_path / "run") == 0
    assert "subset" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "config.json").read_text())["source"] == "bundled"


# Going on.

LONGER = [*TINY, "--train-limit", 2000, "--epochs", 25, "--save-every", 0.05]


def killed_and_resumed(folder, seed, kills):
    """Start a run in a process, kill it at random moments, resume it each time; how often it died while training.

    A third of the moments count from the start of the process, the others from its first sign of training.
    """
    chance = random.Random(seed)
    log, deaths = folder / "metrics.jsonl", 0
    for _ in range(kills):
        before = log.stat().st_size if log.exists() else 0
        process = start("train", *LONGER, "--out", folder, "--resume")
        wait = chance.random() > 1 / 3
        while wait and process.poll() is None and not (log.exists() and log.stat().st_size > before):
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.15 if wait else 0.5))
        process.kill()
        deaths += process.wait() == -signal.SIGKILL and wait
        process.communicate()
    code, output = finish(start("train", *LONGER, "--out", folder, "--resume"))
    assert code == 0, output
    return deaths


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "longer"
    assert gpugrad("train", *LONGER, "--out", folder) == 0
    return folder


def test_killed_thrice_and_resumed_ends_with_the_same_bits(tmp_path, longer):
    assert killed_and_resumed(tmp_path / "run", seed=1, kills=3) >= 1
    assert_same_run(longer, tmp_path / "run")


@pytest.mark.slow
def test_killed_ten_times_and_resumed_ends_with_the_same_bits(tmp_path, longer):
    assert killed_and_resumed(tmp_path / "run", seed=2, kills=10) >= 4
    assert_same_run(longer, tmp_path / "run")


class Death(BaseException):
    """Stands for SIGKILL: nothing in the command catches it."""


@pytest.mark.parametrize("moment", range(1, 15))
def test_death_around_any_renaming_of_a_file_loses_nothing(tmp_path, finished, monkeypatch, moment):
    """A checkpoint takes two renamings and each file written atomically one; die just before the n-th."""
    real, count = os.replace, itertools.count()

    def replace(*args):
        if next(count) == moment:
            raise Death
        return real(*args)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(Death):
        gpugrad("train", *TINY, "--out", tmp_path)
    monkeypatch.setattr(os, "replace", real)
    assert gpugrad("train", "--resume", tmp_path, "--device", "cpu") == 0
    assert_same_run(finished, tmp_path)


@pytest.mark.parametrize("moment", [1, 7, 12, 13, 30])
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_signal_saves_and_the_run_goes_on_in_the_middle_of_an_epoch(tmp_path, monkeypatch, capsys, model, moment):
    options = (
        ["--model", model, "--shift", 1] if model == "cnn" else ["--monitor", "--accumulate", 2, "--batch-size", 25]
    )
    options += ["--epochs", 3 if model == "mlp" else 2, "--train-limit", 600 if model == "mlp" else 300]
    if model == "cnn" and moment > 12:
        pytest.skip("the run of the cnn has 12 steps")
    assert gpugrad("train", *TINY, *options, "--out", tmp_path / "whole") == 0
    real, count = train.Trainer._step, itertools.count(1)

    def step(self, *args, **kwargs):
        real(self, *args, **kwargs)
        if next(count) == moment:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(train.Trainer, "_step", step)
    run = tmp_path / "stopped"
    at_end = model == "cnn" and moment == 12
    assert gpugrad("train", *TINY, *options, "--out", run) == (0 if at_end else 130)
    if not at_end:
        assert f"gpugrad train --resume {run}" in capsys.readouterr().out
        assert gg.load(run / "last.safetensors")["progress"]["step"] == moment
        assert gpugrad("train", "--resume", run, "--device", "cpu") == 0
    assert_same_run(tmp_path / "whole", run)


def test_ctrl_c_stops_a_process_with_code_130(tmp_path):
    process = start("train", *LONGER, "--epochs", 500, "--out", tmp_path)
    while not (tmp_path / "metrics.jsonl").exists() or not (tmp_path / "metrics.jsonl").stat().st_size:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    code, output = finish(process)
    assert code == 130, output
    assert "Traceback" not in output
    assert f"gpugrad train --resume {tmp_path}" in output


def test_a_second_ctrl_c_quits_at_once(tmp_path, monkeypatch, capsys):
    def stuck(self):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("still here")

    monkeypatch.setattr(train.Trainer, "evaluate", stuck)
    before = signal.getsignal(signal.SIGINT)
    assert gpugrad("train", *TINY, "--out", tmp_path) == 130
    assert signal.getsignal(signal.SIGINT) is before


def test_resuming_a_finished_run_changes_nothing(tmp_path, capsys):
    assert gpugrad("train", *TINY, "--out", tmp_path) == 0
    weights, lines = (tmp_path / "last.safetensors").read_bytes(), metrics(tmp_path)
    assert gpugrad("train", "--resume", tmp_path) == 0
    assert (tmp_path / "last.safetensors").read_bytes() == weights
    assert metrics(tmp_path) == lines
    assert "test accuracy" in capsys.readouterr().out.splitlines()[-1]


def test_a_run_without_a_schedule_can_be_made_longer(tmp_path):
    constant = [*TINY, "--scheduler", "none"]
    assert gpugrad("train", *constant, "--out", tmp_path / "whole") == 0
    assert gpugrad("train", *constant, "--epochs", 1, "--out", tmp_path / "parts") == 0
    assert gpugrad("train", "--resume", tmp_path / "parts", "--epochs", 3) == 0
    one, two = (arrays(gg.load(tmp_path / name / "last.safetensors")["model"]) for name in ("whole", "parts"))
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_options_that_contradict_the_run_are_refused(finished, capsys):
    code = gpugrad("train", "--resume", finished, "--lr", "0.5", "--hidden", "16", "--batch-size", 50)
    err = capsys.readouterr().err
    assert code == 2
    assert "lr is 0.002 there and 0.5 here" in err
    assert "hidden is 32 there and 16 here" in err
    assert "batch" not in err
    assert gpugrad("train", "--resume", finished, "--epochs", 9) == 2
    assert "onecycle schedule was laid out for 3 epochs" in capsys.readouterr().err


def test_other_images_than_the_run_was_trained_on_are_refused(tmp_path, finished, capsys):
    for name, shape in (("train", 600), ("t10k", 200)):
        write_idx(tmp_path / f"{name}-images-idx3-ubyte", np.zeros((shape, 28, 28), np.uint8))
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte", np.zeros(shape, np.uint8))
    common = [*TINY, "--source", "idx", "--data-dir", tmp_path, "--out", tmp_path / "run", "--epochs", 1]
    assert gpugrad("train", *common) == 0
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.ones(600, np.uint8))
    capsys.readouterr()
    assert gpugrad("train", "--resume", tmp_path / "run") == 1
    assert "other images" in capsys.readouterr().err


# What goes wrong.


def halved(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [halved, flipped, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, finished, capsys, damage):
    assert gpugrad("train", *TINY, "--out", tmp_path) == 0
    damage(tmp_path / "last.safetensors")
    capsys.readouterr()
    assert gpugrad("train", "--resume", tmp_path) == 0
    said = capsys.readouterr()
    if (tmp_path / "last.safetensors").exists() and damage is not Path.unlink:
        assert "Going on from previous.safetensors instead" in said.err
        assert len(said.err.splitlines()) == 1
    assert_same_run(finished, tmp_path)


def test_death_between_the_renamings_after_a_damaged_checkpoint(tmp_path, finished):
    """The damaged one then stands where the good one was; the new one, already complete, must be found."""
    assert gpugrad("train", *TINY, "--out", tmp_path) == 0
    os.replace(tmp_path / "last.safetensors", tmp_path / "new.safetensors")
    halved(tmp_path / "previous.safetensors")
    assert gpugrad("train", "--resume", tmp_path) == 0
    assert_same_run(finished, tmp_path)


def test_a_checkpoint_of_another_version_is_one_line(tmp_path, capsys):
    assert gpugrad("train", *TINY, "--epochs", 1, "--out", tmp_path) == 0
    whole = gg.load(tmp_path / "last.safetensors")
    capsys.readouterr()
    for part, name in (("config", "scheduler"), ("progress", "step"), ("model", "output.bias"), ("optimizer", "state")):
        state = {**whole, part: {key: value for key, value in whole[part].items() if key != name}}
        gg.save(state, tmp_path / "last.safetensors")
        assert gpugrad("train", "--resume", tmp_path) == 1
        err = capsys.readouterr().err
        assert "does not fit gpugrad" in err
        assert len(err.splitlines()) == 1


def test_two_damaged_checkpoints_are_an_error(tmp_path, capsys):
    assert gpugrad("train", *TINY, "--out", tmp_path) == 0
    for name in ("last.safetensors", "previous.safetensors"):
        halved(tmp_path / name)
    capsys.readouterr()
    assert gpugrad("train", "--resume", tmp_path) == 1
    err = capsys.readouterr().err
    assert "last.safetensors" in err
    assert "previous.safetensors" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("check_every", [1, 7])
def test_a_loss_that_is_not_finite_stops_and_names_step_and_parameter(tmp_path, monkeypatch, capsys, check_every):
    """Weights spoilt in step 20 show in the loss of step 21, also when losses are read in bunches (as on CUDA)."""
    real = train.Trainer._step

    def step(self, *args, **kwargs):
        real(self, *args, **kwargs)
        if self.progress.step == 19:
            with gg.no_grad():
                self.model.hidden1.weight[3, 4] = math.nan

    monkeypatch.setattr(train.Trainer, "_step", step)
    monkeypatch.setattr(train, "check_interval", lambda device: check_every)
    assert gpugrad("train", *TINY, "--out", tmp_path) == 1
    err = capsys.readouterr().err
    assert "the loss is nan at step 21: step 20 left nan or inf in hidden1.weight; all gradients were finite" in err
    assert "step 12, the end of epoch 1" in err
    assert "--lr" in err
    state = gg.load(tmp_path / "last.safetensors")
    assert state["progress"]["step"] == 12
    assert all(np.isfinite(t.numpy()).all() for t in state["model"].values())


def test_broken_weights_are_never_saved(tmp_path, monkeypatch, capsys):
    """With a checkpoint after each step, the one of step 19 stays when step 20 spoils a weight."""
    real = train.Trainer._step

    def step(self, *args, **kwargs):
        real(self, *args, **kwargs)
        if self.progress.step == 19:
            with gg.no_grad():
                self.model.output.bias[3] = math.inf

    monkeypatch.setattr(train.Trainer, "_step", step)
    assert gpugrad("train", *TINY, "--save-every", "1e-9", "--out", tmp_path) == 1
    assert "output.bias is not finite after step 20" in capsys.readouterr().err
    for name, saved in (("last", 19), ("previous", 18)):
        state = gg.load(tmp_path / f"{name}.safetensors")
        assert state["progress"]["step"] == saved
        assert all(np.isfinite(t.numpy()).all() for t in state["model"].values())


def test_a_gradient_that_is_not_finite_is_named(tmp_path, monkeypatch, capsys):
    real = train.Trainer._step

    def step(self, *args, **kwargs):
        if self.progress.step == 19:
            self.model.output.bias.register_hook(lambda gradient: gradient * math.inf)
        real(self, *args, **kwargs)

    monkeypatch.setattr(train.Trainer, "_step", step)
    assert gpugrad("train", *TINY, "--out", tmp_path) == 1
    assert (
        "step 20 left nan or inf in output.bias; the gradient of output.bias was not finite" in capsys.readouterr().err
    )


def test_an_overflow_in_the_forward_pass_names_the_layer(tmp_path, monkeypatch, capsys):
    real = train.Trainer._step

    def step(self, *args, **kwargs):
        real(self, *args, **kwargs)
        if self.progress.step == 19:
            with gg.no_grad():
                self.model.hidden1.weight.mul_(1e30)
                self.model.output.weight.mul_(1e30)

    monkeypatch.setattr(train.Trainer, "_step", step)
    assert gpugrad("train", *TINY, "--out", tmp_path) == 1
    assert "all weights are finite, and the first output that is not is that of layer output" in capsys.readouterr().err


def test_a_learning_rate_far_too_high_is_no_traceback(tmp_path, capsys):
    assert gpugrad("train", *TINY, "--optimizer", "sgd", "--lr", "1e30", "--out", tmp_path) == 1
    err = capsys.readouterr().err
    assert re.search(r"step \d+", err)
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("moment", [0, 3, 5, 9, 12])
def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, finished, monkeypatch, capsys, moment):
    real, count = os.fsync, itertools.count()

    def fsync(descriptor):
        if next(count) >= moment:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert gpugrad("train", *TINY, "--out", tmp_path) == 1
    err = capsys.readouterr().err
    assert "No space left on device" in err
    assert len(err.splitlines()) == 1
    monkeypatch.setattr(os, "fsync", real)
    if moment:
        assert f"gpugrad train --resume {tmp_path}" in err
        assert gpugrad("train", "--resume", tmp_path) == 0
        assert_same_run(finished, tmp_path)


def test_a_disk_that_is_really_full(tmp_path):
    resource = pytest.importorskip("resource")
    process = start(
        "train",
        *TINY,
        "--hidden",
        300,
        "--out",
        tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
    )
    code, output = finish(process)
    assert code == 1
    assert "cannot write" in output
    assert "Traceback" not in output
    assert not [p for p in tmp_path.iterdir() if p.suffix == ".safetensors" or p.name.endswith(".tmp")]


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(train, "Trainer", None)
    assert gpugrad("train", *TINY, "--out", tmp_path / "file" / "run") == 1
    assert "cannot write in" in capsys.readouterr().err
    if os.geteuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        assert gpugrad("train", *TINY, "--out", tmp_path / "closed") == 1
        assert "Permission denied" in capsys.readouterr().err


def test_a_folder_with_a_run_is_not_overwritten(finished, capsys):
    before = (finished / "last.safetensors").read_bytes()
    assert gpugrad("train", *TINY, "--out", finished) == 1
    assert "holds a run already" in capsys.readouterr().err
    assert (finished / "last.safetensors").read_bytes() == before


def test_runs_without_out_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert gpugrad("train", *TINY, "--epochs", 1) == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["mnist-mlp-1", "mnist-mlp-2"]


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("damage", [halved, Path.unlink, lambda path: path.write_bytes(b"not an idx file")])
def test_damaged_data_is_one_line_and_leaves_nothing(tmp_path, capsys, name, damage):
    for split in ("train", "t10k"):
        write_idx(tmp_path / f"{split}-images-idx3-ubyte", np.zeros((60, 28, 28), np.uint8))
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte", np.zeros(60, np.uint8))
    damage(tmp_path / name)
    assert gpugrad("train", "--data-dir", tmp_path, "--device", "cpu", "--out", tmp_path / "run") == 1
    err = capsys.readouterr().err
    assert name in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--epoch-count", "3"], "unrecognized arguments: --epoch-count"),
        (["--optimizer", "adagrad"], "choose from"),
        (["--model", "rnn"], "choose from"),
        (["--dataset", "cifar"], "choose from"),
        (["--hidden", "10,x"], "'10,x' is not a comma-separated list of layer sizes"),
        (["--hidden", "10,,10"], "comma-separated"),
        (["--hidden", "0"], "comma-separated"),
        (["--lr", "-1"], "'-1' is not a number above 0"),
        (["--lr", "nan"], "'nan' is not a number above 0"),
        (["--epochs", "0"], "whole number above 0"),
        (["--epochs", "1.5"], "whole number above 0"),
        (["--dropout", "1"], "not including, 1"),
        (["--device", "gpu"], "choose from auto, cpu, cuda, cuda:N"),
        (["--seed", "-1"], "2**63"),
        (["--momentum", "0.9"], "--momentum has no meaning for adam"),
        (["--gamma", "0.5"], "belong to --scheduler step"),
        (["--warmup", "5", "--epochs", "5"], "--warmup 5 leaves nothing"),
        (["--resume"], "--resume DIR"),
        (["--resume", "a", "--out", "b"], "two folders"),
        (["--resume", "nowhere"], "no run to resume in nowhere"),
    ],
)
def test_mistakes_on_the_command_line_are_named(tmp_path, monkeypatch, capsys, options, said):
    monkeypatch.chdir(tmp_path)
    code = gpugrad("train", *options)
    err = capsys.readouterr().err
    assert said in err
    assert code == (1 if "nowhere" in options else 2)
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_cuda_that_cannot_work_names_cause_and_fix(tmp_path, monkeypatch, capsys):
    from gpugrad.backend import cuda

    broken = cuda.Diagnosis(False, reason="the driver is made of wood", fix="Use metal")
    monkeypatch.setattr(cuda, "diagnose", lambda: broken)
    assert gpugrad("train", *TINY, "--device", "cuda", "--out", tmp_path / "run") == 1
    assert "the driver is made of wood. Use metal" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert gpugrad("train", *TINY, "--device", "auto", "--epochs", 1, "--out", tmp_path / "run") == 0
    assert "On the CPU: CUDA cannot be used: the driver is made of wood. Use metal" in capsys.readouterr().out


# Predicting.


@pytest.fixture(scope="module")
def digits():
    data = MNIST(train=False, source="bundled")
    return data.data.numpy()[:20], data.targets.numpy()[:20]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("network") / "run"
    options = [
        "--device",
        "cpu",
        "--source",
        "bundled",
        "--no-progress",
        "--epochs",
        3,
        "--hidden",
        64,
        "--test-limit",
        500,
    ]
    assert gpugrad("train", *options, "--out", folder) == 0
    return folder


def predicted(out):
    return [int(line.split(": ", 1)[1].split()[0]) for line in out.splitlines()]


def test_predict_reads_idx_files(tmp_path, network, digits, capsys):
    pixels, labels = digits
    for name in ("some.idx", "some-ubyte.gz"):
        write_idx(tmp_path / name, pixels)
        assert gpugrad("predict", network, tmp_path / name, "--limit", 20, "--device", "cpu") == 0
        assert (np.array(predicted(capsys.readouterr().out)) == labels).mean() >= 0.9
    assert gpugrad("predict", network / "last.safetensors", tmp_path / "some.idx", "--limit", 3) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_predict_reads_png_files_of_any_size_and_background(tmp_path, network, digits, capsys):
    pixels, labels = digits
    small = [write_png(tmp_path / f"{k}.png", image) for k, image in enumerate(pixels)]
    assert gpugrad("predict", network, *small) == 0
    plain = capsys.readouterr().out
    assert (np.array(predicted(plain)) == labels).mean() >= 0.9
    assert "inverted" not in plain
    assert re.match(r".*0\.png: \d [\d.]+%  \d [\d.]+%  \d [\d.]+%$", plain.splitlines()[0])

    light = [write_png(tmp_path / f"light{k}.png", 255 - image) for k, image in enumerate(pixels)]
    assert gpugrad("predict", network, *light) == 0
    out = capsys.readouterr().out
    assert predicted(out) == predicted(plain)
    assert out.count("inverted, as its background is light") == 20

    # Large, coloured, off centre, on white paper: brought back to the middle.
    paths = []
    for k, image in enumerate(pixels):
        page = np.full((150, 200, 3), 255, np.uint8)
        page[10:122, 60:172] = 255 - np.kron(image, np.ones((4, 4), np.uint8))[..., None] * np.array([1, 1, 0.2])
        paths.append(write_png(tmp_path / f"page{k}.png", page, kind=2))
    assert gpugrad("predict", network, *paths) == 0
    out = capsys.readouterr().out
    assert (np.array(predicted(out)) == labels).mean() >= 0.85
    assert "resized from 200x150" in out


@pytest.mark.parametrize(
    ("kind", "depth"),
    [
        (0, 1),
        (0, 2),
        (0, 4),
        (0, 8),
        (0, 16),
        (2, 8),
        (2, 16),
        (3, 1),
        (3, 2),
        (3, 4),
        (3, 8),
        (4, 8),
        (4, 16),
        (6, 8),
        (6, 16),
    ],
)
def test_png_of_every_kind(tmp_path, kind, depth):
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    rng = np.random.default_rng(depth)
    pixels = rng.integers(0, 2**depth, (11, 13, channels))
    palette = rng.integers(0, 256, (2**depth, 3)).astype(np.uint8) if kind == 3 else np.zeros((0, 3), np.uint8)
    path = write_png(tmp_path / "a.png", pixels, kind, depth, palette.tobytes(), filters=range(5))
    found = images.read_png(path.read_bytes())
    if kind == 3:
        color = palette[pixels[..., 0]]
    else:
        color = np.broadcast_to(pixels[..., : 3 if channels > 2 else 1], (11, 13, 3))
        color = color >> 8 if depth == 16 else color * 255 // (2**depth - 1)
    assert np.array_equal(found[..., :3], color)
    alpha = pixels[..., -1] >> (depth - 8) if channels in (2, 4) else np.full((11, 13), 255)
    assert np.array_equal(found[..., 3], alpha)


def test_bad_images_and_checkpoints_are_one_line(tmp_path, network, capsys):
    good = write_png(tmp_path / "good.png", np.zeros((28, 28)))
    write_idx(tmp_path / "labels.idx", np.zeros(5, np.uint8))
    (tmp_path / "text.png").write_text("no picture")
    cut, wrong = tmp_path / "cut.png", tmp_path / "wrong.png"
    cut.write_bytes(good.read_bytes()[:40])
    wrong.write_bytes(good.read_bytes().replace(b"IDAT", b"IDAX"))
    for bad in ("labels.idx", "text.png", "cut.png", "wrong.png", "missing.png", ""):
        assert gpugrad("predict", network, tmp_path / bad) == 1, bad
        err = capsys.readouterr().err
        assert str(tmp_path / bad) in err
        assert len(err.splitlines()) == 1
    gg.save({"weights": gg.zeros(3)}, tmp_path / "other.safetensors")
    for bad in ("nothing", "good.png", "other.safetensors", ""):
        assert gpugrad("predict", tmp_path / bad, good) == 1, bad
        assert len(capsys.readouterr().err.splitlines()) == 1


# Pictures, information, starting up.


def test_pictures(tmp_path, network, digits, capsys):
    pytest.importorskip("matplotlib")
    assert images.read_image(network / "curves.png").shape[1] > 500
    write_idx(tmp_path / "some.idx", digits[0])
    assert gpugrad("predict", network, tmp_path / "some.idx", "--plot", tmp_path / "grid.png") == 0
    assert images.read_image(tmp_path / "grid.png").std() > 10
    assert gpugrad("predict", network, tmp_path / "some.idx", "--plot", tmp_path / "no" / "grid.png") == 1
    assert "cannot draw" in capsys.readouterr().err


def test_without_matplotlib_a_run_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert gpugrad("train", *TINY, "--epochs", 1, "--out", tmp_path) == 0
    assert "pip install 'gpugrad[plot]'" in capsys.readouterr().out
    assert not (tmp_path / "curves.png").exists()


def test_info_says_what_the_machine_can_do(capsys):
    assert gpugrad("info") == 0
    out = capsys.readouterr().out
    for word in (gg.__version__, np.__version__, "Python", "BLAS", "memory", "CuPy"):
        assert word in out
    from gpugrad.backend import cuda

    found = cuda.diagnose()
    assert (found.reason in out and found.fix in out) or found.usable


def test_info_where_cuda_works(monkeypatch, capsys):
    from gpugrad.backend import cuda

    monkeypatch.setattr(
        cuda,
        "diagnose",
        lambda: cuda.Diagnosis(True, 2, cupy_version="14.0", driver_version="13.0", runtime_version="12.9"),
    )
    monkeypatch.setattr(cuda, "device_name", lambda index: f"card {index}")
    assert gpugrad("info") == 0
    out = capsys.readouterr().out
    assert "card 1" in out
    assert "no CUDA" not in out


def test_version_and_help():
    code, output = finish(start("--version"))
    assert (code, output.strip()) == (0, f"gpugrad {gg.__version__}")
    for command in ("train", "predict", "info"):
        code, output = finish(start(command, "--help"))
        assert code == 0
        assert "%%" not in output
    code, output = finish(start())
    assert code == 2
    assert "train" in output


def test_help_imports_nothing_heavy():
    code = "import sys; from gpugrad.cli import build_parser; build_parser().format_help(); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], env=ENV, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"tqdm", "matplotlib", "cupy", "safetensors", "gpugrad.nn", "gpugrad.optim", "gpugrad.data"} & set(
        loaded
    )


@pytest.mark.parametrize("cuda", ACCELERATED)
@pytest.mark.parametrize("options", [[], ["--no-compile"], ["--accumulate", 2, "--batch-size", 25], ["--model", "cnn"]])
def test_a_cuda_device_follows_the_cpu(tmp_path, cuda, options):
    """The losses of 50 steps and more, dropout, schedule and shuffling included."""
    options = ["--train-limit", 900, "--log-every", 1, "--clip-norm", 1, *options]
    if "cnn" in options:
        options += ["--batch-size", 25, "--train-limit", 450]
    losses = []
    for place in ("cpu", cuda):
        out = tmp_path / place
        assert gpugrad("train", *TINY, *options, "--device", place, "--out", out) == 0
        losses.append([record["loss"] for record in metrics(out) if record["kind"] == "step"])
    assert len(losses[0]) >= 50
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cuda", ACCELERATED)
def test_watching_the_gradients_changes_nothing_and_is_captured(tmp_path, cuda, monkeypatch):
    from gpugrad.cli.train import Trainer

    plain, calls = Trainer._passes, []
    monkeypatch.setattr(Trainer, "_passes", lambda self, *args: (calls.append(1), plain(self, *args))[1])
    losses = []
    for options in ([], ["--monitor"]):
        calls.clear()
        out = tmp_path / "-".join(["out", *options])
        options = [*options, "--train-limit", 200, "--log-every", 1, "--clip-norm", 1]
        assert gpugrad("train", *TINY, *options, "--device", cuda, "--out", out) == 0
        losses.append([record["loss"] for record in metrics(out) if record["kind"] == "step"])
    assert losses[0] == losses[1]
    assert [record["step"] for record in metrics(out) if record["kind"] == "gradients"] == [1, 4, 8, 12]
    assert len(calls) == 4  # two that warm up, and a record of each kind


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision(tmp_path, device, amp):
    if amp == "bf16":
        pytest.importorskip("ml_dtypes")
    accuracies = []
    for options in ([], ["--amp", amp]):
        out = tmp_path / "-".join(["out", *options])
        assert gpugrad("train", *TINY, *options, "--device", device, "--clip-norm", 1, "--out", out) == 0
        accuracies.append(metrics(out)[-1]["train_accuracy"])
    assert abs(accuracies[0] - accuracies[1]) < 0.05
    weights = gg.load(out / "last.safetensors")["model"]
    assert all(t.dtype == gg.float32 for t in weights.values())
    assert gpugrad("train", "--resume", out, "--amp", "bf16" if amp == "fp16" else "fp16") == 2
