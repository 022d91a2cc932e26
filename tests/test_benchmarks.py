"""The benchmark's own training steps run, and a step of each kind of peer learns."""

import argparse
import importlib.util
import json

import pytest

from benchmarks import cpu, peers
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
