"""What the examples share: their options, the figures they report, their pictures, and the report on all of them."""

from __future__ import annotations

import argparse
import ast
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import gpugrad as gg

from ..cli import CommandError, config
from ..cli.info import choose_device, processor

NAMES = (
    "chain_rule", "tensor_autograd", "broadcasting", "tensor_engine", "draw_graph", "gradient_check",
    "layers_and_losses", "optimizers", "least_squares", "mlp_regression", "interpolation", "moons", "circle",
    "digits", "image_generation", "composite_digits", "adversarial", "mnist_layers", "mnist_mlp", "mnist_cnn",
    "training_loop", "gradient_monitoring", "accumulation", "initialisation", "normalisation", "checkpointing",
    "mixed_precision",
)  # fmt: skip
"""The examples, simple ones first."""

COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
"""Okabe and Ito's palette, which the colour-blind can tell apart."""


@dataclass
class Result:
    """One figure of an example, beside what its origin showed and what it has to reach."""

    what: str
    value: str
    goal: str
    origin: str
    reached: bool


@dataclass
class Run:
    """One run of an example: its options, and what came of it.

    Attributes:
        device: where to compute.
        out: the folder for pictures.
        quick: only a small part of the work, for tests; goals are lower.
        data_dir: a folder with the files of MNIST; None for the cache, a download, or the bundled subset.
    """

    name: str
    device: Any
    out: Path
    seed: int = 0
    quick: bool = False
    data_dir: str | None = None
    results: list[Result] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    _said: bool = False

    def say(self, text: str) -> None:
        """Print a line of progress."""
        print(f"  {text}", flush=True)

    def result(self, what: str, value: Any, *, goal: str, reached: bool, origin: str = "") -> None:
        """Report a figure beside that of the origin, and whether it reaches the goal."""
        self.results.append(Result(what, str(value), goal, origin, bool(reached)))
        beside = f"origin: {origin}; " if origin else ""
        print(f"  {what}: {value} ({beside}goal: {goal}{'' if reached else '; NOT REACHED'})", flush=True)

    def figure(self, width: float, height: float) -> Any:
        """A matplotlib figure of that size in inches; None, with a line that says so, without matplotlib."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            if not self._said:
                self.say("no pictures: they need matplotlib: pip install 'gpugrad[plot]'")
            self._said = True
            return None
        return Figure(figsize=(width, height), layout="constrained")

    def save(self, figure: Any, name: str, dpi: int = 120) -> None:
        """Save a figure as a file in ``out``."""
        figure.savefig(self.path(name), dpi=dpi)

    def animate(self, frames: list[Any], name: str, seconds: float = 0.15) -> None:
        """Save figures as an animated GIF whose last frame stays for a while."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from PIL import Image

        images = []
        for figure in frames:
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
            images.append(picture.quantize(32, dither=Image.Dither.NONE))
        times = [int(1000 * seconds)] * (len(images) - 1) + [2500]
        images[0].save(self.path(name), save_all=True, append_images=images[1:], duration=times, loop=0, optimize=True)

    def path(self, name: str) -> Path:
        """The place of a file in ``out``."""
        self.out.mkdir(parents=True, exist_ok=True)
        if name not in self.pictures:
            self.pictures.append(name)
        return self.out / name


def title(name: str) -> str:
    """The first line of an example's text."""
    source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").split("\n")[0].rstrip(".")


def perform(run: Run, main: Callable[[Run], None] | None = None) -> Run:
    """Run an example, as ``run`` says."""
    main = main or import_module(f"gpugrad.examples.{run.name}").main
    print(f"{run.name}: {title(run.name)}", flush=True)
    gg.manual_seed(run.seed)
    begin = time.perf_counter()
    main(run)
    run.seconds = time.perf_counter() - begin
    files = f"; {', '.join(run.pictures)} in {run.out}" if run.pictures else ""
    print(f"  {run.seconds:.1f} s{files}", flush=True)
    return run


def _runs(names: list[str], args: argparse.Namespace) -> list[Run]:
    device, out = choose_device(args.device), Path(args.out or "runs/examples")
    return [Run(name, device, out, args.seed, args.quick, args.data_dir) for name in names]


def start(main: Callable[[Run], None]) -> None:
    """Run the example whose file is the program."""
    name = Path(main.__code__.co_filename).stem
    parser = argparse.ArgumentParser(prog=f"python -m gpugrad.examples.{name}", description=title(name))
    config.add_example_arguments(parser)
    try:
        (run,) = _runs([name], parser.parse_args())
    except CommandError as error:
        raise SystemExit(str(error)) from None
    raise SystemExit(0 if all(r.reached for r in perform(run, main).results) else 1)


def command(args: argparse.Namespace) -> int:
    """``gpugrad examples``: list the examples, run one, or run all; returns the exit code.

    Raises:
        CommandError: there is no such example, or no such device.
    """
    if args.name is None and not args.all:
        width = max(map(len, NAMES))
        print("\n".join(f"{name:<{width}}  {title(name)}" for name in NAMES))
        print("\nRun one with: gpugrad examples NAME. Run all, with a report: gpugrad examples --all --out DIR")
        return 0
    if args.name is not None and args.all:
        raise config.usage_error("give the name of an example or --all, not both")
    if args.name is not None and args.name not in NAMES:
        raise config.usage_error(f"there is no example {args.name!r}; gpugrad examples lists them")
    runs = _runs(list(NAMES) if args.all else [args.name], args)
    failed = []
    for run in runs:
        try:
            perform(run)
        except Exception as error:
            if not args.all:
                raise
            failed.append(f"{run.name} failed: {type(error).__name__}: {error}")
            print(f"  {failed[-1]}", flush=True)
    if args.all:
        path = runs[0].path("report.md")
        path.write_text(report(runs, failed), encoding="utf-8")
        print(f"report: {path}")
    return 0 if not failed and all(r.reached for run in runs for r in run.results) else 1


def report(runs: list[Run], failed: list[str]) -> str:
    """The table of all figures, beside those of the origin and the goals, in Markdown."""
    first = runs[0]
    on = processor() if first.device.type == "cpu" else str(first.device)
    lines = [
        "# What the examples reached",
        "",
        f"gpugrad {gg.__version__} on {on}, seed {first.seed}{', quick forms' if first.quick else ''}; "
        f"{sum(run.seconds for run in runs):.0f} s in all.",
        "",
        "| example | figure | origin | goal | result | reached |",
        "|---|---|---|---|---|---|",
    ]
    for run in runs:
        for r in run.results:
            cells = (f"`{run.name}`", r.what, r.origin, r.goal, r.value, "yes" if r.reached else "**no**")
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", "| example | seconds | pictures |", "|---|---|---|"]
    for run in runs:
        pictures = ", ".join(f"[{name}]({name})" for name in run.pictures if name != "report.md")
        lines.append(f"| `{run.name}` | {run.seconds:.1f} | {pictures} |")
    return "\n".join([*lines, "", *[f"- {line}" for line in failed], ""])
