"""A process that runs one peer: it takes requests as JSON lines and answers with timings."""

from __future__ import annotations

import json
import os
import sys
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
    suite, name, threads, settings = sys.argv[1:]
    if suite == "gpu":
        from .gpu_peers import PEERS
    else:
        from .peers import PEERS

    def answer(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    try:
        peer = PEERS[name](int(threads), **json.loads(settings))
    except Exception as error:
        answer({"error": _said(error)})
        return
    baseline = memory("VmRSS")
    step: Any = None
    answer({"ready": True, "version": peer.version})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "build":
                step = None  # so that its memory is free
                step = peer.build(request["workload"])
                answer({"missing": True} if step is None else {"first": peer.warm(step)})
            elif request["do"] == "memory":
                for _ in range(request["steps"]):
                    step()
                answer({"peak": memory("VmHWM") - baseline, "imported": baseline})
            else:
                answer({"times": peer.time(step, request["steps"])})
        except Exception as error:  # the orchestrator reports it and goes on
            answer({"error": _said(error)})
            peer.check()


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
