"""Training steps, overheads, import time and peak memory on the CPU, every peer in a process of its own.

The peers take turns within each round, so that a change in the machine's speed
meets all of them; a ratio is the median over the rounds of the ratio within a round.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .common import RESULTS, ROOT, Worker, commit, machine
from .workloads import CHAIN, WORKLOADS

PEERS = ("gpugrad", "torch", "jax", "autograd", "pydynet", "numpy")


def _worker(name: str, threads: int) -> Worker:
    variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    worker = Worker(name, threads, environment={"JAX_PLATFORMS": "cpu", **dict.fromkeys(variables, str(threads))})
    if "error" in (found := worker.answer()):
        raise RuntimeError(f"{name}: {found['error']}")
    return worker


def _time_workload(workload: str, peers: list[str], options: argparse.Namespace) -> dict[str, Any]:
    workers = []
    try:
        for name in peers:
            worker = _worker(name, options.threads)
            built = worker.ask(do="build", workload=workload)
            if "error" in built:
                print(f"  {name}: {built['error']}", file=sys.stderr)
            if "first" in built:
                workers.append(worker)
            else:
                worker.close()
        steps = {}
        for worker in workers:
            warm = statistics.median(worker.ask(do="run", steps=5)["times"])
            steps[worker.name] = max(3, min(200, round(0.2 / warm)))
        rounds: dict[str, list[float]] = {worker.name: [] for worker in workers}
        for r in range(options.rounds):
            shift = r % len(workers)
            for worker in workers[shift:] + workers[:shift]:
                time.sleep(0.05)  # lets the threads of the one before stop spinning; OpenBLAS takes 30 ms
                times = worker.ask(do="run", steps=steps[worker.name])["times"]
                rounds[worker.name].append(statistics.median(times))
        peaks = {}
        if workload == "mlp-large":
            for worker in workers:
                peaks[worker.name] = worker.ask(do="memory", steps=5)
    finally:
        for worker in workers:
            worker.close()
    result: dict[str, Any] = {"description": WORKLOADS[workload], "unit": "ms per step", "peers": {}}
    for name, values in rounds.items():
        pairs = list(zip(rounds["gpugrad"], values, strict=True)) if "gpugrad" in rounds else []
        result["peers"][name] = {
            "median_ms": statistics.median(values) * 1e3,
            "rounds_ms": [v * 1e3 for v in values],
            "gpugrad_ratio": statistics.median(mine / theirs for mine, theirs in pairs) if pairs else None,
        }
        if name in peaks:
            result["peers"][name]["peak_memory_mb"] = peaks[name]["peak"] / 1e6
    return result


def _time_imports(peers: list[str], rounds: int) -> dict[str, Any]:
    modules = ["numpy", *(name for name in peers if name != "numpy")]
    times: dict[str, list[float]] = {name: [] for name in modules}
    with tempfile.TemporaryDirectory() as cache:
        # As installed: the first import of each compiles, and does not count.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
        for k in range(rounds + 1):
            for name in modules:
                start = time.perf_counter()
                subprocess.run([sys.executable, "-c", f"import {name}"], check=True, cwd=ROOT, env=environment)
                if k:
                    times[name].append(time.perf_counter() - start)
    base = statistics.median(times["numpy"])
    return {
        "description": "import, a fresh process, beyond import numpy",
        "unit": "ms",
        "peers": {
            name: {"median_ms": (statistics.median(t) - base) * 1e3} for name, t in times.items() if name != "numpy"
        },
    }


def _overhead(chain: dict[str, Any]) -> dict[str, Any] | None:
    if "numpy" not in chain["peers"]:
        return None
    base = chain["peers"]["numpy"]["median_ms"]
    return {
        "description": "one recorded multiplication, forward and backward, beyond its two NumPy calls",
        "unit": "µs",
        "peers": {
            name: {"median_us": (peer["median_ms"] - base) / CHAIN * 1e3}
            for name, peer in chain["peers"].items()
            if name != "numpy"
        },
    }


def _table(report: dict[str, Any]) -> str:
    peers = report["peers"]
    lines = [
        "# CPU benchmark",
        "",
        f"{report['machine']}; Python {report['python']}; {report['threads']} threads; "
        f"{report['rounds']} alternating rounds; "
        f"commit {report['commit']}. "
        + ", ".join(f"{name} {version}" for name, version in report["versions"].items())
        + ".",
        "",
        "Medians; in brackets gpugrad's time divided by the peer's (below 1: gpugrad is faster).",
        "",
        "| | " + " | ".join(peers) + " |",
        "|---|" + "---|" * len(peers),
    ]
    for result in report["results"].values():
        cells = []
        for name in peers:
            peer = result["peers"].get(name)
            if peer is None:
                cells.append("")
            elif "median_us" in peer:
                cells.append(f"{peer['median_us']:.2f} µs")
            else:
                ratio = peer.get("gpugrad_ratio")
                bracket = f" ({ratio:.2f})" if ratio is not None and name != "gpugrad" else ""
                cells.append(f"{peer['median_ms']:.3g} ms{bracket}")
        lines.append(f"| {result['description']} | " + " | ".join(cells) + " |")
    large = report["results"].get("mlp-large")
    if large:
        cells = [f"{peer['peak_memory_mb']:.0f} MB" if (peer := large["peers"].get(n)) else "" for n in peers]
        lines.append(
            "| peak memory of the large MLP's training, beyond the imported library | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines) + "\n"


def run(options: argparse.Namespace) -> int:
    """Time everything asked for; print the table and write it beside its JSON."""
    asked = options.peers.split(",")
    if unknown := set(asked) - set(PEERS):
        print(f"unknown peers {sorted(unknown)}; known are {', '.join(PEERS)}", file=sys.stderr)
        return 2
    chosen = options.only.split(",") if options.only else [*WORKLOADS, "import"]
    if unknown := set(chosen) - {*WORKLOADS, "import"}:
        print(f"unknown workloads {sorted(unknown)}; known are {', '.join([*WORKLOADS, 'import'])}", file=sys.stderr)
        return 2
    peers = [name for name in asked if importlib.util.find_spec(name) is not None]
    for name in sorted(set(asked) - set(peers)):
        print(f"{name} is not installed: left out", file=sys.stderr)
    versions = {}
    for name in peers:
        worker = _worker(name, options.threads)
        versions[name] = worker.version
        worker.close()
    results = {}
    for workload in chosen:
        print(f"{workload} ...", file=sys.stderr, flush=True)
        if workload == "import":
            results["import"] = _time_imports(peers, max(3, options.rounds // 3))
            continue
        results[workload] = _time_workload(workload, peers, options)
        if workload == "chain" and (overhead := _overhead(results["chain"])):
            results["overhead"] = overhead
    report = {
        "machine": machine(),
        "python": platform.python_version(),
        "threads": options.threads,
        "rounds": options.rounds,
        "commit": commit(),
        "versions": versions,
        "peers": peers,
        "results": results,
    }
    folder = Path(options.out) if options.out else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    table = _table(report)
    (folder / "cpu.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "cpu.md").write_text(table)
    print(table)
    print(f"written to {folder / 'cpu.md'} and {folder / 'cpu.json'}")
    return 0
