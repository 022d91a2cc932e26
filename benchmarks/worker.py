"""A process that runs one peer: it takes requests as JSON lines and answers with timings."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def memory(field: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise OSError(f"no {field} in /proc/self/status")


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a peer prints must not mix with the answers
    from . import peers

    peer = peers.PEERS[sys.argv[1]](int(sys.argv[2]))
    baseline = memory("VmRSS")
    step: Any = None

    def answer(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    answer({"ready": True, "version": peer.version})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "build":
                step = peer.build(request["workload"])
                if step is None:
                    answer({"missing": True})
                    continue
                first = time.perf_counter()
                step()
                answer({"first": time.perf_counter() - first})
            elif request["do"] == "memory":
                for _ in range(request["steps"]):
                    step()
                answer({"peak": memory("VmHWM") - baseline, "imported": baseline})
            else:
                times = []
                for _ in range(request["steps"]):
                    start = time.perf_counter()
                    step()
                    times.append(time.perf_counter() - start)
                answer({"times": times})
        except Exception as error:  # the orchestrator reports it and goes on
            answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
