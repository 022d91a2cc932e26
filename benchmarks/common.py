"""What the suites share: the peers' processes, and what a report says about the machine."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


class Worker:
    """A peer's process.

    Args:
        name: the peer, a key of ``peers.PEERS`` or, of the suite "gpu", of ``gpu_peers.PEERS``.
        threads: CPU threads it may use.
        log: where what it prints goes; nowhere if None.
        environment: variables beside those of this process.
        settings: more arguments for the peer.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        log: Path | None = None,
        environment: dict[str, str] | None = None,
        settings: dict[str, Any] | None = None,
        suite: str = "cpu",
    ):
        self.name = name
        self._log = open(log or os.devnull, "a")  # noqa: SIM115
        command = ["benchmarks.worker", suite, name, str(threads), json.dumps(settings or {})]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._log}
        self.process = start(["-m", *command], environment, **pipes)
        self.version = ""
        self._read = b""

    def answer(self, timeout: float | None = None) -> dict[str, Any]:
        """The next answer.

        Raises:
            TimeoutError: none came in time (seconds).
            RuntimeError: the process has ended.
        """
        assert self.process.stdout is not None
        until = None if timeout is None else time.monotonic() + timeout
        # Not by readline, which keeps a second line where select does not see it.
        while b"\n" not in self._read:
            left = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([self.process.stdout], [], [], left)[0]:
                raise TimeoutError
            part = os.read(self.process.stdout.fileno(), 1 << 16)
            if not part:
                raise RuntimeError(f"the process of {self.name} ended with code {self.process.wait()}")
            self._read += part
        line, self._read = self._read.split(b"\n", 1)
        found = json.loads(line)
        self.version = found.get("version", self.version)
        return found

    def send(self, **request: Any) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer will tell
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()

    def ask(self, timeout: float | None = None, **request: Any) -> dict[str, Any]:
        self.send(**request)
        return self.answer(timeout)

    def close(self, patience: float | None = None) -> None:
        """End the process, and those it started; by force if it takes longer than ``patience``."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        end(self.process, patience)
        self.process.stdout.close()
        self._log.close()


_running: set[subprocess.Popen[Any]] = set()


def start(
    arguments: list[str],
    environment: dict[str, str] | None = None,
    program: tuple[str, ...] = (sys.executable,),
    **options: Any,
) -> subprocess.Popen[Any]:
    """A Python process in the repository's root, in a process group of its own; to be passed to ``end``."""
    environment = {**os.environ, **(environment or {})}
    process = subprocess.Popen([*program, *arguments], cwd=ROOT, env=environment, process_group=0, **options)
    _running.add(process)
    return process


def end(process: subprocess.Popen[Any], patience: float | None = None) -> bool:
    """Wait for a process, and kill it with all of its group after ``patience`` seconds; returns whether it ended."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    ended = process.poll() is not None
    _kill(process)
    process.wait()
    _running.discard(process)
    return ended


def _kill(process: subprocess.Popen[Any]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def end_all() -> None:
    """Kill what ``start`` has started."""
    for process in list(_running):
        _kill(process)


def commit() -> str:
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=ROOT)
    except OSError:  # no git here
        return "unknown"
    return done.stdout.strip() or "unknown"


def machine() -> str:
    try:
        with open("/proc/cpuinfo") as info:
            model = next(line.split(":")[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"
