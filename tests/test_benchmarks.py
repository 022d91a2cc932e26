"""The benchmark's own training steps run, and a step of each kind of peer learns."""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from benchmarks import cpu, gpu, gpu_report, peers
from benchmarks.workloads import WORKLOADS


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("name", ["gpugrad", "torch", "autograd"])
def test_each_peer_runs_its_steps(name, workload, monkeypatch):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    monkeypatch.setattr(peers, "CHAIN", 50)
    monkeypatch.setattr(peers, "MLPS", {**peers.MLPS, "mlp-large": ((784, 64, 10), 8)})
    step = peers.PEERS[name](2).build(workload)
    if step is None:
        assert (name, workload) == ("autograd", "lenet")
        return
    for _ in range(2):
        step()


def test_the_report_holds_every_workload(tmp_path, capsys):
    options = argparse.Namespace(rounds=1, threads=1, peers="gpugrad,numpy", only="mlp-small,chain", out=str(tmp_path))
    assert cpu.run(options) == 0
    report = json.loads((tmp_path / "cpu.json").read_text())
    assert set(report["results"]) == {"mlp-small", "chain", "overhead"}
    assert report["results"]["mlp-small"]["peers"]["gpugrad"]["median_ms"] > 0
    assert "| gpugrad | numpy |" in (tmp_path / "cpu.md").read_text()


def test_an_unknown_peer_is_refused(tmp_path, capsys):
    options = argparse.Namespace(rounds=1, threads=1, peers="gpugrad,nobody", only="", out=str(tmp_path))
    assert cpu.run(options) == 2
    assert "nobody" in capsys.readouterr().err


class FakeRacer:
    """A peer that takes ``seconds`` for a step, or answers with ``error`` to the request ``fails``."""

    def __init__(self, name, seconds=0.0, fails=None, error=""):
        self.name, self.seconds, self.fails, self.error, self.failed = name, seconds, fails, error, ""

    def send(self, **request):
        self.request = request

    def answer(self, until):
        if self.request["do"] == self.fails:
            return {"error": self.error}
        return {"first": 1.0} if self.request["do"] == "build" else {"times": [self.seconds]}


def test_a_peer_that_fails_does_not_stop_the_others():
    racers = [
        FakeRacer("gpugrad", 1e-4),
        FakeRacer("torch", 2e-4),
        FakeRacer("triton", fails="build", error="CompileError: line 1\nline 2"),
        FakeRacer("jax", fails="run", error="no answer within 3 s"),
    ]
    found = gpu.race(racers, "mlp-small", 3, 0.01, time.monotonic() + 60)
    assert found["gpugrad"] == {"first_s": 1.0, "rounds": [1e-4] * 3, "median_s": 1e-4}
    assert found["triton"] == {"error": "CompileError: line 1"}
    assert found["jax"] == {"error": "no answer within 3 s"}
    assert gpu_report.ratio(found, "gpugrad", "torch") == 0.5
    assert gpu_report.ratio(found, "gpugrad", "jax") is None


def test_a_peer_that_is_not_there_or_hangs_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    options = argparse.Namespace(out=str(tmp_path), smoke=False, limit=60)
    suite = gpu.Suite(options)
    assert gpu.Racer(suite, "no_such_library").failed == "no_such_library is not installed"
    monkeypatch.setitem(gpu.NEEDS, "nobody", "numpy")
    racer = gpu.Racer(suite, "nobody")
    racer.send(do="build", workload="mlp-small")
    assert racer.answer(time.monotonic() + 60) == {"error": "KeyError: 'nobody'"} == {"error": racer.failed}
    racer = gpu.Racer(suite, "gpugrad")
    for k in range(gpu.MOST_TIMEOUTS):
        assert not racer.failed
        racer.send(do="build", workload="mlp-small")
        assert racer.answer(time.monotonic() - k) == {"error": "no answer within 0 s"}
    assert racer.failed


def test_the_goals_are_compared_with_what_was_measured():
    def peers(**seconds):
        return {
            name.replace("_", " ").replace("dot", "."): {
                "rounds": [t],
                "median_s": t,
                "first_s": t,
                "bytes_per_s": 1 / t,
            }
            for name, t in seconds.items()
        }

    def kernel(label, goal, found):
        return {"label": label, "dtype": "float32", "goal": goal, "bytes": 1, "peers": found}

    kernels = {
        "copy float32": kernel("copy", None, peers(gpugrad=2.0, torch=1.0)),
        "softmax float32": kernel("softmax", 0.9, peers(gpugrad=1.05, torchdotcompile=1.0)),
        "adam float32": kernel("Adam", 0.9, peers(gpugrad=1.5)),
    }
    steps = {
        "mlp-small": {"label": "small", "peers": peers(gpugrad_captured=1.0, torch=5.5)},
        "mlp-mid": {"label": "mid", "peers": peers(gpugrad_captured=1.0, torch=2.5)},
    }
    outcomes = {"passed": 3, "failed": 0, "skipped": 0, "collected": 4}
    parts = {
        "kernels": {"results": kernels},
        "steps": {"results": steps},
        "tests": {**outcomes, "finished": False},
        "sanitizer": {"results": {"memcheck": {"finished": True, "errors": 0, "first": None, "tests": outcomes}}},
        "mnist": {"seconds": 2.5, "data": "MNIST", "best": 0.99},
        "curves": {"largest": 1e-4, "steps": 200, "picture": None},
    }
    rows = [(what, met) for what, _, _, met in gpu_report.goals(parts)]
    assert rows == [
        ("tests on the device", False),
        ("compute-sanitizer memcheck", True),
        ("softmax, float32", True),
        ("softmax, float32", False),
        ("Adam, float32", False),
        ("Adam, float32", None),
        ("captured step, mlp-small", True),
        ("captured step, mlp-small", None),
        ("captured step, mlp-mid", False),
        ("training to 98% on MNIST, warm process", False),
        ("losses of one seed, CPU and GPU, relative difference", True),
    ]
    text = gpu_report.render({"parts": parts})
    assert "| softmax, float32 | 0 MiB | 0.00 (95%) |  | 0.00 (100%) |  |" in text


def test_what_a_memory_checker_says_is_read():
    text = "========= Invalid __global__ write of size 4 bytes\n=========     at k\n========= ERROR SUMMARY: 7 errors\n"
    found = gpu._sanitizer_found(text)
    assert found == {"errors": 7, "reported": 1, "first": "Invalid __global__ write of size 4 bytes"}
    assert gpu._sanitizer_found("========= RACECHECK SUMMARY: 0 hazards displayed (0 errors)")["errors"] == 0
    assert gpu._sanitizer_found("killed")["errors"] is None


@pytest.mark.slow
def test_the_gpu_suite_runs_in_the_simulator(tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("the simulator needs a C++ compiler")
    command = [sys.executable, "-m", "benchmarks", "gpu", "--smoke", "--out", str(tmp_path), "--limit", "1200"]
    chosen = ["--peers", "gpugrad,gpugrad captured", "--workloads", "copy,softmax,mlp-small"]
    environment = {**os.environ, "GPUGRAD_CUDA_SIM": "1"}
    done = subprocess.run([*command, *chosen], cwd=gpu.ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    parts = report["parts"]
    assert report["device"]["simulated"]
    for part, workload, peer in (
        ("kernels", "copy float32", "gpugrad"),
        ("kernels", "softmax float32", "gpugrad"),
        ("steps", "mlp-small", "gpugrad"),
        ("steps", "mlp-small", "gpugrad captured"),
    ):
        assert parts[part]["results"][workload]["peers"][peer]["median_s"] > 0
    assert parts["curves"]["largest"] < 1e-4
    assert parts["mnist"]["epochs"]
    assert parts["tests"]["passed"] > 0
    assert parts["tests"]["failures"] == {}
    assert "broken" not in str(parts)
    assert (tmp_path / "gpu.md").read_text() in done.stdout
