"""A pytest plugin: writes each result to a file as it comes, so that a run that is killed leaves what it found.

``GPUGRAD_BENCH_LOG`` names the file, of JSON lines. With ``GPUGRAD_BENCH_NO_POOL`` each array on the
device is an allocation of its own, whose ends a memory checker knows.
"""

from __future__ import annotations

import json
import os
from typing import Any

_hands_on = False  # in a process of pytest-xdist, whose results come from the one that hands out the tests


def _write(record: dict[str, Any]) -> None:
    with open(os.environ["GPUGRAD_BENCH_LOG"], "a") as log:
        log.write(json.dumps(record) + "\n")


def pytest_configure(config: Any) -> None:
    global _hands_on
    _hands_on = hasattr(config, "workerinput")
    if os.environ.get("GPUGRAD_BENCH_NO_POOL"):
        from gpugrad.backend import cuda

        if not cuda.simulated():  # where every array is one anyway
            cuda.cupy().cuda.set_allocator(None)


def pytest_collection_finish(session: Any) -> None:
    _write({"collected": len(session.items)})


def pytest_runtest_logreport(report: Any) -> None:
    if _hands_on:
        return
    if report.when == "call" or report.outcome != "passed":
        message = report.longreprtext[-2000:] if report.outcome == "failed" else ""
        _write({"id": report.nodeid, "outcome": report.outcome, "seconds": report.duration, "message": message})
