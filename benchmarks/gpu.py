"""The GPU suite: tests, bandwidths, training steps, MNIST, CPU against GPU, and a memory checker, in ten minutes.

It is made for a machine with a GPU and no network that is lent for a short time: a fresh checkout and
whatever Python packages are there. CuPy for the driver's CUDA, with its headers, and NumPy are needed, for bfloat16
ml_dtypes, for the tests pytest and hypothesis; PyTorch, Triton, JAX, pytest-xdist, pytest-timeout, matplotlib and
compute-sanitizer are used where they are found. Nothing is installed or downloaded. There it is one command, run in
the repository's root::

    python -m benchmarks gpu --data-dir path/to/mnist --out results --limit 560

``--out`` names the folder for gpu.md (the table), gpu.json (all of it), gpu-curves.png, gpu.log (what the processes
printed) and gpu-tests.jsonl (each test). Both reports are written anew after every result, so that a run that is killed
leaves what it found.
``--limit`` is in seconds; parts that are over early leave their time to those that follow. ``--only kernels,steps``
runs some parts, ``--workloads`` and ``--peers`` some of what these two time. Whatever fails (a peer that is not
installed, a kernel that does not compile, a step that hangs) stands in the report, and the rest goes on: every part
and peer is a process with a time limit.

Without a GPU, ``GPUGRAD_CUDA_SIM=1 python -m benchmarks gpu --smoke`` shows that all of it runs, on tiny sizes in
the simulator; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .common import RESULTS, ROOT, Worker, commit, end, end_all, machine, start
from .gpu_report import KERNEL_PEERS, STEP_PEERS, line, render, sanitizer_line, tests_line

# Groups that run one after the other, each with its share of the time; the parts of a group run side by side.
PARTS: list[dict[str, int]] = [
    {"kernels": 130},
    {"steps": 170},
    {"mnist": 45},  # most of it compiles kernels
    {"curves": 35},
    {"tests": 180, "sanitizer": 180},
]
NEEDS = {"torch.compile": "torch", "torch.cuda.graph": "torch", "gpugrad captured": "gpugrad"}
# Those whose tests say most about the device; the others follow.
FIRST_TESTS = ("test_kernels", "test_cuda", "test_capture", "test_ops", "test_optim", "test_nn")
MOST_TIMEOUTS = 3  # of a peer, which is asked no more then
TF32 = ("mlp-large", "transformer")  # the workloads that are timed with it too
SANITIZERS = ("memcheck", "racecheck", "initcheck")


class Suite:
    """A run: its options, how much time it has, and what it has found so far."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.smoke: bool = options.smoke
        self.folder = Path(options.out) if options.out else RESULTS
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in ("gpu.log", "gpu-tests.jsonl"):
            (self.folder / old).unlink(missing_ok=True)
        self.scratch = Path(tempfile.mkdtemp(prefix="gpugrad-bench-"))
        self.begin = time.monotonic()
        self.lock = threading.RLock()
        self.report: dict[str, Any] = {"parts": {}}
        if self.smoke:
            os.environ["GPUGRAD_BENCH_SMOKE"] = "1"

    @property
    def left(self) -> float:
        """Seconds."""
        return self.options.limit - (time.monotonic() - self.begin)

    def part(self, name: str) -> dict[str, Any]:
        return self.report["parts"].setdefault(name, {})

    def chosen(self, known: Iterable[str], option: str) -> list[str]:
        """Those of the known peers or workloads that are asked for; all of them unless some are named."""
        asked = getattr(self.options, option)
        return [name for name in dict.fromkeys(known) if not asked or name in asked.split(",")]

    def log(self, name: str) -> Path:
        """Where the output of a process goes, until ``keep_logs``."""
        return self.scratch / f"{name}.log"

    def keep_logs(self) -> None:
        """Move the ends of all logs into one."""
        with open(self.folder / "gpu.log", "a") as kept:
            for log in sorted(self.scratch.glob("*.log")):
                kept.write(f"==== {log.stem}\n{log.read_text(errors='replace')[-200_000:]}\n")
                log.unlink()

    def save(self) -> None:
        with self.lock:
            self.report["seconds"] = round(time.monotonic() - self.begin, 1)
            text, table = json.dumps(self.report, indent=1) + "\n", render(self.report)
            for name, content in (("gpu.json", text), ("gpu.md", table)):
                new = self.folder / f"{name}.new"
                new.write_text(content)
                new.replace(self.folder / name)

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.begin:5.0f} s] {text}", flush=True)


# Peers, side by side.


class Racer:
    """A peer, whose process is started when it is first asked for something, and again after it had to be killed."""

    def __init__(self, suite: Suite, name: str, cold: bool = False, tf32: bool = False):
        self.suite, self.name, self.tf32 = suite, name, tf32
        self.failed = ""
        self._worker: Worker | None = None
        self._starting = False
        self._sent = 0.0
        self._timeouts = 0
        self._environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        module = NEEDS.get(name, name)
        if importlib.util.find_spec(module) is None:
            self.failed = f"{module} is not installed"
        if cold:
            for variable in ("CUPY_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
                self._environment[variable] = tempfile.mkdtemp(dir=suite.scratch)

    def send(self, **request: Any) -> None:
        self._sent = time.monotonic()
        if self._worker is None:
            settings = {"tf32": self.tf32}
            log = self.suite.log(self.name)
            self._worker = Worker(self.name, os.cpu_count() or 1, log, self._environment, settings, "gpu")
            self._starting = True
        self._worker.send(**request)

    def answer(self, until: float) -> dict[str, Any]:
        """The answer to what was sent; {"error": ...} if there is none by then (a time of ``time.monotonic``)."""
        assert self._worker is not None
        try:
            if self._starting:
                ready = self._worker.answer(until - time.monotonic())
                if "error" in ready:
                    self.failed = ready["error"]
                    self.close()
                    return ready
                self._starting = False
                with self.suite.lock:
                    name = NEEDS.get(self.name, self.name)
                    self.suite.report["versions"].setdefault(name, self._worker.version)
            return self._worker.answer(until - time.monotonic())
        except TimeoutError:
            self.close()
            self._timeouts += 1
            said = f"no answer within {time.monotonic() - self._sent:.0f} s"
            if self._timeouts == MOST_TIMEOUTS:
                self.failed = f"{said}, for the {self._timeouts}th time"
            return {"error": said}
        except RuntimeError as error:
            self.close()
            return {"error": str(error)}

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close(patience=0 if self._starting else 1)
            self._worker = None


def race(racers: list[Racer], workload: str, rounds: int, seconds: float, until: float) -> dict[str, Any]:
    """Build a workload at once in all peers that have not failed for good, then time them in turns.

    Args:
        rounds: how many turns each has.
        seconds: how long a turn is.
        until: when to stop; peers that are not built by then are left out.

    Returns:
        For each peer its median and its rounds in seconds, and gpugrad's time divided by its own; or its error.
    """
    racers = [racer for racer in racers if not racer.failed]
    for racer in racers:
        racer.send(do="build", workload=workload)
    found: dict[str, Any] = {}
    running: list[Racer] = []
    counts: dict[str, int] = {}
    for racer in racers:
        answer = racer.answer(until)
        if "first" in answer:
            found[racer.name] = {"first_s": answer["first"], "rounds": []}
            running.append(racer)
        elif "error" in answer and answer["error"] != racer.failed:
            found[racer.name] = {"error": line(answer["error"])}

    def turn(racer: Racer, count: int) -> float | None:
        racer.send(do="run", steps=count)
        answer = racer.answer(max(until, time.monotonic()) + 10)
        if "error" in answer:
            found[racer.name] = {"error": line(answer["error"])}
            running.remove(racer)
            return None
        return statistics.median(answer["times"])

    for racer in running[:]:
        once = turn(racer, 5)
        if once is not None:
            counts[racer.name] = max(3, min(5000, round(seconds / max(once, 1e-7))))
    for k in range(rounds):
        if k and time.monotonic() > until:
            break
        shift = k % max(len(running), 1)
        for racer in running[shift:] + running[:shift]:
            taken = turn(racer, counts[racer.name])
            if taken is not None:
                found[racer.name]["rounds"].append(taken)
    for result in found.values():
        if "rounds" in result:
            result["median_s"] = statistics.median(result["rounds"])
    return found


# The parts.


def run_kernels(suite: Suite, until: float) -> None:
    from .gpu_kernels import COPY, DTYPES, KERNELS

    part = suite.part("kernels")
    part["results"] = {}
    racers = [Racer(suite, name) for name in suite.chosen(KERNEL_PEERS, "peers")]
    # What has a goal first, in both dtypes.
    names = suite.chosen([COPY, *KERNELS], "workloads")
    plan = [(name, dtype) for goal in (True, False) for dtype in DTYPES for name in names
            if (name == COPY or KERNELS[name].goal is not None) is goal]  # fmt: skip
    try:
        for name, dtype in plan:
            if time.monotonic() > until:
                part["left_out"] = [f"{n} {d}" for n, d in plan[plan.index((name, dtype)) :]]
                return
            kernel = KERNELS[name]
            limit = min(until, time.monotonic() + 45)
            found = race(racers, f"kernel:{name}:{dtype}", 1 if suite.smoke else 5, *_turn(suite, 0.03), limit)
            for result in found.values():
                if "median_s" in result:
                    result["bytes_per_s"] = kernel.bytes(dtype) / result["median_s"]
            facts = {"label": kernel.label, "dtype": dtype, "bytes": kernel.bytes(dtype), "goal": kernel.goal}
            part["results"][f"{name} {dtype}"] = {**facts, "peers": found}
            part["absent"] = {racer.name: racer.failed for racer in racers if racer.failed}
            suite.say(f"{kernel.label}, {dtype}: {_summary(found)}")
            suite.save()
    finally:
        for racer in racers:
            racer.close()


def _turn(suite: Suite, seconds: float) -> tuple[float]:
    return (0.0 if suite.smoke else seconds,)


def _summary(found: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {result['median_s'] * 1e6:.1f} µs" if "median_s" in result else f"{name}: {result['error']}"
        for name, result in found.items()
    )


def run_steps(suite: Suite, until: float) -> None:
    from .workloads import GPU_WORKLOADS

    part = suite.part("steps")
    part["results"] = {}
    names = suite.chosen(GPU_WORKLOADS, "workloads")
    plan = [(name, tf32) for tf32 in (False, True) for name in names if not tf32 or name in TF32]
    for k, (name, tf32) in enumerate(plan):
        limit = time.monotonic() + max(0, until - time.monotonic()) / (len(plan) - k) * 2
        limit = min(limit, until)
        if limit - time.monotonic() < 5:
            part["left_out"] = [f"{n} {'TF32' if t else ''}".strip() for n, t in plan[k:]]
            return
        peers = suite.chosen(STEP_PEERS, "peers")
        racers = [Racer(suite, peer, cold=True, tf32=tf32) for peer in peers]
        try:
            found = race(racers, name, 1 if suite.smoke else 7, *_turn(suite, 0.1), limit)
        finally:
            for racer in racers:
                racer.close()
        part["absent"] = {racer.name: racer.failed for racer in racers if racer.failed}
        label = GPU_WORKLOADS[name] + (", TF32" if tf32 else "")
        part["results"][name + ("-tf32" if tf32 else "")] = {"label": label, "tf32": tf32, "peers": found}
        suite.say(f"{label}: {_summary(found)}")
        suite.save()


def _task(suite: Suite, name: str, until: float, *arguments: str) -> dict[str, Any]:
    """The result of a task of ``gpu_tasks``, or {"error": ...}."""
    log, result = suite.log(name), suite.scratch / f"{name}.json"
    with log.open("w") as out:
        command = ["-m", "benchmarks.gpu_tasks", name, str(result), "--folder", str(suite.folder.resolve()), *arguments]
        ended = end(start(command, stdout=out, stderr=out), max(1, until - time.monotonic()))
    if result.is_file():
        return json.loads(result.read_text())
    last = _last_line(log)
    return {"error": line(last if ended else f"took longer than its time; its last line: {last}")}


def _last_line(log: Path) -> str:
    lines = [text.strip() for text in log.read_text(errors="replace").splitlines() if text.strip()]
    return lines[-1] if lines else "no output"


def run_task(name: str, suite: Suite, until: float) -> None:
    data = ["--data-dir", str(Path(suite.options.data_dir).resolve())] if suite.options.data_dir else []
    suite.part(name).update(_task(suite, name, until, *data))
    suite.say(f"{name}: {line(str({k: v for k, v in suite.part(name).items() if k != 'losses'}), 300)}")


def _test_files() -> list[str]:
    files = sorted((ROOT / "tests").glob("test_*.py"))
    return [str(f.relative_to(ROOT)) for f in sorted(files, key=lambda f: f.stem not in FIRST_TESTS)]


def _pytest(suite: Suite, name: str) -> tuple[list[str], dict[str, str], Path]:
    """Arguments of Python and variables for a run of tests that logs to the file which is returned too."""
    log = suite.folder / f"gpu-{name}.jsonl" if name == "tests" else suite.scratch / f"{name}.jsonl"
    environment = {
        "GPUGRAD_BENCH_LOG": str(log.resolve()),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        # Whatever else is installed there must not change how the tests run.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "OMP_NUM_THREADS": "2",
        # With CUB, each of CuPy's reductions takes seconds to compile; without, tenths.
        "CUPY_ACCELERATORS": "",
    }
    # A warning of a newer library says nothing about the device, though in the project's own runs it is an error.
    options = ["-m", "pytest", "-p", "benchmarks.pytest_log", "-p", "no:cacheprovider", "--tb=short", "-W", "default"]
    if suite.smoke:
        # In the simulator nothing is marked as in need of a GPU.
        return [*options, "tests/test_kernels.py", "-k", "infinities or not_there"], environment, log
    return [*options, "-m", "gpu"], environment, log


def _read_log(log: Path) -> dict[str, Any]:
    """How many tests had which outcome, and what is known of those that failed."""
    records = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    outcomes: dict[str, dict[str, Any]] = {}
    for record in records:
        if "id" in record and outcomes.get(record["id"], {}).get("outcome") != "failed":
            outcomes[record["id"]] = record
    found: dict[str, Any] = dict.fromkeys(("passed", "failed", "skipped"), 0)
    for record in outcomes.values():
        found[record["outcome"]] += 1
    found["collected"] = max([record["collected"] for record in records if "collected" in record], default=None)
    found["failures"] = {i: r["message"] for i, r in outcomes.items() if r["outcome"] == "failed"}
    return found


def run_tests(suite: Suite, until: float) -> None:
    command, environment, log = _pytest(suite, "tests")
    if not suite.smoke:
        command += _test_files()
        if importlib.util.find_spec("pytest_timeout"):
            command += ["-p", "pytest_timeout", "--timeout", "120"]
        if importlib.util.find_spec("xdist"):
            # Compiling kernels takes the time, not running them; three processors are left to the sanitizers.
            command += ["-p", "xdist", "-n", str(max(1, min(12, (os.cpu_count() or 2) - 3)))]
    part = suite.part("tests")
    out = suite.log("tests")
    with out.open("w") as file:
        process = start(command, environment, stdout=file, stderr=file)
        ended = end(process, max(1, until - time.monotonic()))
    part.update(_read_log(log), finished=ended, code=process.returncode if ended else None)
    if part["collected"] is None:
        part["error"] = line(_last_line(out))
    suite.say(f"tests: {tests_line(part)}")


def run_sanitizer(suite: Suite, until: float) -> None:
    tool = shutil.which("compute-sanitizer") or _installed_sanitizer()
    part = suite.part("sanitizer")
    part["results"] = {}
    if tool is None:
        part["error"] = "compute-sanitizer was not found"
        suite.say(f"sanitizer: {part['error']}")
        return
    processes = {}
    for kind in SANITIZERS:
        command, environment, log = _pytest(suite, kind)
        # With arrays that are allocations of their own: of a pool the tool knows only the whole.
        environment["GPUGRAD_BENCH_NO_POOL"] = "1"
        program = (tool, "--tool", kind, "--report-api-errors", "no", sys.executable)
        out = suite.log(f"sanitizer-{kind}")
        with out.open("w") as file:
            tests = [] if suite.smoke else ["tests/test_kernels.py"]
            process = start([*command, *tests], environment, program, stdout=file, stderr=file)
        processes[kind] = process, log, out
    for kind, (process, log, out) in processes.items():
        ended = end(process, max(1, until - time.monotonic()))
        found = part["results"][kind] = {"finished": ended, **_sanitizer_found(out.read_text(errors="replace"))}
        found["tests"] = _read_log(log)
        if found["tests"]["collected"] is None:
            found["first"] = line(_last_line(out))
        suite.say(f"{kind}: {sanitizer_line(part['results'][kind])}")
        suite.save()


def _installed_sanitizer() -> str | None:
    """Where CUDA's installers and Nsight's put the tool, without a place on the PATH."""
    places = ("usr/local/cuda*/bin", "usr/local/cuda*/compute-sanitizer", "opt/nvidia/*/*/compute-sanitizer")
    found = [shutil.which(each) for place in places for each in Path("/").glob(f"{place}/compute-sanitizer")]
    return next(filter(None, found), None)


def _sanitizer_found(text: str) -> dict[str, Any]:
    """How many errors the tool reports, and the first of them."""
    summary = re.findall(r"^=+ (?:ERROR|RACECHECK) SUMMARY: (\d+)", text, re.M)
    said = re.findall(r"^=+ ((?:Invalid|Uninitialized|Error:|Warning: Race|Race|Misaligned|Program hit).*)", text, re.M)
    return {"errors": int(summary[-1]) if summary else None, "reported": len(said), "first": said[0] if said else None}


RUN: dict[str, Callable[[Suite, float], None]] = {
    "kernels": run_kernels,
    "steps": run_steps,
    "mnist": functools.partial(run_task, "mnist"),
    "curves": functools.partial(run_task, "curves"),
    "tests": run_tests,
    "sanitizer": run_sanitizer,
}


# The whole.


def _driver() -> str | None:
    """The driver's version, which the CUDA runtime does not tell."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.split()[0]
    return None


def _run_part(suite: Suite, name: str, until: float) -> None:
    try:
        RUN[name](suite, until)
    except Exception as error:  # the others go on
        suite.part(name)["broken"] = line(f"{type(error).__name__}: {error}")
        suite.say(f"{name} broke off: {suite.part(name)['broken']}")
    suite.save()


def run(options: argparse.Namespace) -> int:
    """Run the parts asked for; print the report, and write it beside its JSON."""
    known = [name for group in PARTS for name in group]
    chosen = options.only.split(",") if options.only else known
    if unknown := set(chosen) - set(known):
        print(f"unknown parts {sorted(unknown)}; known are {', '.join(known)}", file=sys.stderr)
        return 2
    suite = Suite(options)

    def stop(number: int, frame: Any) -> None:
        end_all()
        suite.report["stopped"] = True
        suite.save()
        suite.keep_logs()
        shutil.rmtree(suite.scratch, ignore_errors=True)
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    try:
        device = _task(suite, "probe", time.monotonic() + 100)
        if not device.get("usable"):
            print(f"the GPU suite cannot run: {device.get('message') or device.get('error')}", file=sys.stderr)
            return 2
        suite.report = {
            "machine": machine(),
            "python": sys.version.split()[0],
            "commit": options.commit or commit(),
            "device": {**device, "driver": _driver()},
            "versions": device.pop("versions"),
            **suite.report,
        }
        suite.say(f"{device['name']}: {', '.join(chosen)}")
        groups = [[name for name in group if name in chosen] for group in PARTS]
        weights = [max([weight for name, weight in group.items() if name in chosen], default=0) for group in PARTS]
        for k, names in enumerate(groups):
            until = time.monotonic() + suite.left * weights[k] / max(sum(weights[k:]), 1)
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda name, until=until: _run_part(suite, name, until), names))
            suite.keep_logs()
    except KeyboardInterrupt:
        suite.report["stopped"] = True
    finally:
        end_all()
        shutil.rmtree(suite.scratch, ignore_errors=True)
    suite.save()
    print()
    print(render(suite.report))
    print(f"written to {suite.folder / 'gpu.md'} and {suite.folder / 'gpu.json'}")
    return 0
