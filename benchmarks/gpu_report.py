"""The GPU suite's report: what was measured, and whether it is what the project is to show."""

from __future__ import annotations

import statistics
from typing import Any

STEP_PEERS = ("gpugrad", "gpugrad captured", "torch", "torch.compile", "torch.cuda.graph", "jax")
KERNEL_PEERS = ("gpugrad", "torch", "torch.compile", "triton")
NOISE = 1.02
"""What is at most this much slower counts as no slower."""


def line(text: str, most: int = 160) -> str:
    first = next((line.strip() for line in text.splitlines() if line.strip()), text)
    return first if len(first) <= most else first[: most - 1] + "…"


def ratio(found: dict[str, Any], mine: str, theirs: str) -> float | None:
    """The median over the rounds of one peer's time divided by another's."""
    pair = [found.get(name, {}).get("rounds") or [] for name in (mine, theirs)]
    if not all(pair):
        return None
    return statistics.median(a / b for a, b in zip(*pair, strict=False))


def sanitizer_line(found: dict[str, Any]) -> str:
    tests = f"{found['tests']['passed']} tests" if found["tests"]["collected"] is not None else "no tests"
    of = f" of {found['tests']['collected']}" if not found["finished"] and found["tests"]["collected"] else ""
    errors = found["errors"] if found["errors"] is not None else found["reported"]
    text = f"{errors} errors in {tests}{of}"
    if found["tests"]["failed"]:
        text += f" ({found['tests']['failed']} failed)"
    if found["first"]:
        text += f": {line(found['first'], 80)}"
    return text + ("" if found["finished"] else "; time was up")


def tests_line(part: dict[str, Any]) -> str:
    if part.get("error"):
        return part["error"]
    text = f"{part['passed']} passed, {part['failed']} failed, {part['skipped']} skipped"
    done = part["passed"] + part["failed"] + part["skipped"]
    return text if part["finished"] else f"{text}; time was up after {done} of {part['collected']}"


def goals(parts: dict[str, Any]) -> list[tuple[str, str, str, bool | None]]:
    """What the project is to show: what, the goal, what was measured, and whether it is met (None: not measured)."""
    rows: list[tuple[str, str, str, bool | None]] = []
    if tests := parts.get("tests"):
        clean = bool(tests.get("finished")) and not tests.get("error") and not tests["failed"] and tests["passed"] > 0
        rows.append(("tests on the device", "all pass", tests_line(tests), clean))
    if sanitizer := parts.get("sanitizer"):
        if "error" in sanitizer:
            rows.append(("compute-sanitizer", "clean", sanitizer["error"], None))
        for kind, found in sanitizer.get("results", {}).items():
            clean = found["finished"] and found["errors"] == 0 and found["tests"]["passed"] > 0
            rows.append((f"compute-sanitizer {kind}", "clean", sanitizer_line(found), clean))
    kernels = parts.get("kernels", {}).get("results", {})
    ceiling = copy_rate(kernels)
    for result in kernels.values():
        if result["goal"] is None:
            continue
        peers, what = result["peers"], f"{result['label']}, {result['dtype']}"
        rate = peers.get("gpugrad", {}).get("bytes_per_s")
        share = rate / ceiling if rate and ceiling else None
        met = None if share is None else share >= result["goal"]
        said = "not measured" if share is None else f"{share:.0%}"
        rows.append((what, f"≥ {result['goal']:.0%} of the copy", said, met))
        rows.append((what, "as fast as torch.compile", *_against(peers, "gpugrad", "torch.compile", 1)))
    steps = parts.get("steps", {}).get("results", {})
    for name, (peer, times) in (
        ("mlp-small", ("torch", 5)), ("mlp-small", ("torch.cuda.graph", 1)), ("mlp-mid", ("torch", 3)),
        ("mlp-large", ("torch.compile", 1)), ("lenet", ("torch.compile", 1)), ("transformer", ("torch.compile", 1)),
    ):  # fmt: skip
        if name in steps:
            goal = f"{times} times as fast as {peer}" if times > 1 else f"no slower than {peer}"
            rows.append(
                (f"captured step, {name}", goal, *_against(steps[name]["peers"], "gpugrad captured", peer, times))
            )
    if mnist := parts.get("mnist"):
        seconds = mnist.get("seconds")
        said = mnist.get("error") or (
            f"{seconds:.2f} s ({mnist['data']})" if seconds else f"not reached: {mnist['best']:.2%} ({mnist['data']})"
        )
        met = None if "error" in mnist else bool(seconds) and seconds < 2
        rows.append(("training to 98% on MNIST, warm process", "< 2 s", said, met))
    if curves := parts.get("curves"):
        said = curves.get("error") or f"{curves['largest']:.1e} over {curves['steps']} steps"
        met = None if "error" in curves else curves["largest"] <= 1e-3
        rows.append(("losses of one seed, CPU and GPU, relative difference", "≤ 1e-3", said, met))
    return rows


def _against(found: dict[str, Any], mine: str, theirs: str, times: float) -> tuple[str, bool | None]:
    quotient = ratio(found, mine, theirs)
    if quotient is None:
        return "not measured", None
    return f"{1 / quotient:.2f} times as fast", quotient * times <= NOISE


def copy_rate(kernels: dict[str, Any]) -> float | None:
    """The highest copy bandwidth that any library reached, in bytes per second."""
    rates = [
        peer["bytes_per_s"]
        for name, result in kernels.items()
        if name.startswith("copy ")
        for peer in result["peers"].values()
        if "bytes_per_s" in peer
    ]
    return max(rates, default=None)


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)] + [""]


def _errors(part: dict[str, Any]) -> list[str]:
    """What failed, each message once with where it appeared, and the peers that were not there."""
    results = part["results"]
    where: dict[tuple[str, str], list[str]] = {}
    for result in results.values():
        label = result["label"] + (f", {result['dtype']}" if "dtype" in result else "")
        for name, peer in result["peers"].items():
            if "error" in peer:
                where.setdefault((name, peer["error"]), []).append(label)
    lines = [f"- {name}: {reason}" for name, reason in part.get("absent", {}).items()]
    for (name, error), labels in where.items():
        places = "; ".join(labels) if len(labels) <= 4 else f"in {len(labels)} of {len(results)} rows"
        lines.append(f"- {name}: {error.replace('|', '¦')} ({places})")
    return [*lines, ""] if lines else []


def render(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    parts, device = report["parts"], report.get("device", {})
    lines = ["# GPU benchmark", ""]
    if device.get("simulated"):
        lines += ["In the simulator, on tiny sizes: these figures mean nothing.", ""]
    versions = ", ".join(f"{name} {version}" for name, version in report.get("versions", {}).items() if version)
    lines += [
        f"{device.get('name', 'no device')}, {device.get('memory_gib')} GiB, {device.get('multiprocessors')} "
        f"multiprocessors, level-2 cache {device.get('l2_mib')} MiB; driver {device.get('driver')} (CUDA "
        f"{device.get('driver_cuda')}), CUDA {device.get('runtime_cuda')}; {report.get('machine')}; "
        f"Python {report.get('python')}; commit {report.get('commit')}. {versions}. "
        f"{report.get('seconds', 0):.0f} s in all.",
        "",
    ]
    mark = {True: "met", False: "**not met**", None: "not measured"}
    if rows := goals(parts):
        lines += ["## Goals", ""]
        lines += _table(["", "goal", "measured", ""], [[a, b, c.replace("|", "¦"), mark[d]] for a, b, c, d in rows])
    lines += _kernel_lines(parts.get("kernels", {})) + _step_lines(parts.get("steps", {}))
    if failures := parts.get("tests", {}).get("failures"):
        lines += ["## Tests that failed", "", *[f"- `{name}`" for name in list(failures)[:40]], ""]
        lines += [f"and {len(failures) - 40} more", ""] if len(failures) > 40 else []
    if epochs := parts.get("mnist", {}).get("epochs"):
        each = "; ".join(f"{accuracy:.2%} after {seconds:.2f} s" for seconds, accuracy, _ in epochs)
        said = "`gpugrad train --device cuda --epochs 4` in a process that has trained an epoch before, evaluation and"
        lines += ["## MNIST", "", f"{said} checkpoints counted in: {each}.", ""]
    if picture := parts.get("curves", {}).get("picture"):
        lines += [f"![Losses of one seed on the CPU and on the GPU]({picture})", ""]
    broken = {name: part["broken"] for name, part in parts.items() if "broken" in part}
    lines += [f"- the part {name} broke off: {error}" for name, error in broken.items()]
    return "\n".join(lines).rstrip() + "\n"


def _kernel_lines(part: dict[str, Any]) -> list[str]:
    results = part.get("results")
    if not results:
        return []
    ceiling = copy_rate(results)
    rows = []
    # The dtypes of a kernel side by side.
    labels = [result["label"] for result in results.values()]
    for name, result in sorted(results.items(), key=lambda item: labels.index(item[1]["label"])):
        row = [f"{result['label']}, {result['dtype']}", f"{result['bytes'] / 2**20:,.0f} MiB"]
        for peer in KERNEL_PEERS:
            rate = result["peers"].get(peer, {}).get("bytes_per_s")
            text = "failed" if "error" in result["peers"].get(peer, {}) else ""
            if rate and ceiling:
                text = f"{rate / 1e12:.2f}" + ("" if name.startswith("copy ") else f" ({rate / ceiling:.0%})")
            row.append(text)
        rows.append(row)
    said = (
        "TB/s, counted as the least traffic a kernel could have (each input read once, each output written once; the "
        "second column), and in brackets as a share of the fastest copy. By CUDA events over many launches, medians of "
        "five alternating rounds."
    )
    lines = ["## Kernels", "", said, "", *_table(["", "traffic", *KERNEL_PEERS], rows), *_errors(part)]
    return lines + ([f"Left out for want of time: {', '.join(part['left_out'])}.", ""] if "left_out" in part else [])


def _step_lines(part: dict[str, Any]) -> list[str]:
    results = part.get("results")
    if not results:
        return []
    rows, cold = [], []
    for result in results.values():
        row, first = [result["label"]], [result["label"]]
        for peer in STEP_PEERS:
            found = result["peers"].get(peer, {})
            if "median_s" not in found:
                row.append("failed" if "error" in found else "")
                first.append(row[-1])
                continue
            times = ratio(result["peers"], peer, "gpugrad captured")
            bracket = f" ({times:.2f})" if times and peer != "gpugrad captured" else ""
            row.append(f"{found['median_s'] * 1e6:.1f}{bracket}")
            first.append(f"{found['first_s']:.2f}")
        rows.append(row)
        cold.append(first)
    said = (
        "Microseconds per training step (float32, TF32 off unless the row says so), medians of seven alternating "
        "rounds; in brackets the time as a multiple of gpugrad's captured step. PyTorch's Adam is fused. Captured "
        "steps, gpugrad's and PyTorch's, include the copy of the batch to where the graph reads it. torch.compile is "
        "that of forward, loss and gradients, with mode reduce-overhead."
    )
    lines = ["## Training steps", "", said, "", *_table(["", *STEP_PEERS], rows)]
    lines += ["Seconds for the first five steps in a new process with empty caches, all peers side by side:", ""]
    lines += [*_table(["", *STEP_PEERS], cold), *_errors(part)]
    return lines + ([f"Left out for want of time: {', '.join(part['left_out'])}.", ""] if "left_out" in part else [])
