"""GradientMonitor: what gradients and updates look like while a network is trained.

It attaches to modules and optimizers and looks at every ``interval``-th optimizer step; on
the steps between, it costs one call of a Python function and reads nothing back from the device.

Of a compiled step there are two records then, one of them with the measures, which are read after
it was run. The results of both are the same to the bit: the measures only read, and they cut the
fused kernels where values are rounded and written anyway, at the outputs of ReLU and the gradients.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .backend import graph, to_numpy
from .engine import no_grad
from .nn import Module, ReLU
from .nn.utils import clip_grad
from .ops.shape import stack
from .optim import Optimizer
from .tensor import RemovableHandle, Tensor
from .utils.tensorboard import SummaryWriter

_SAMPLE = 8192  # elements of a gradient that its histogram is made of, evenly spaced

Record = dict[str, Any]


class GradientMonitor:
    """Watches the gradients of the parameters of modules and optimizers.

    A record is a dict of plain values: ``step``; ``total_norm`` and ``clipped_norm``, the norm of all gradients
    before and after ``nn.utils.clip_grad_norm_`` (or ``clip_grad_value_``); ``nonfinite``, how many elements are
    NaN or infinite; ``dead_relu``, for each ``nn.ReLU`` the share of its units that were 0 for the whole batch;
    and ``parameters``: for each the ``mean``, ``std`` and ``norm`` of its gradient before clipping, its
    ``nonfinite`` elements, ``update_ratio``, the norm of the update divided by that of the weights (about 1e-3 is
    usual), and ``histogram``, with ``low``, ``high`` and the ``counts`` between them (of up to 8,192 elements).

    Args:
        targets: modules and optimizers. An optimizer is what tells when a step is done; names come from modules.
        interval: look at the first optimizer step and at every ``interval``-th.
        bins: of the histograms.
        log: a file to which each record is added, as a line of JSON.
        tensorboard: a folder for TensorBoard's event files (needs tensorboardX).
        on_record: called with each new record.

    Attributes:
        records: all records so far.

    Raises:
        TypeError: a target is neither a module nor an optimizer.
        ValueError: there is no parameter to watch, or ``interval`` or ``bins`` is not positive.
        ImportError: event files are wanted and tensorboardX is not installed.
    """

    def __init__(
        self,
        *targets: Module | Optimizer,
        interval: int = 100,
        bins: int = 30,
        log: str | Path | None = None,
        tensorboard: str | Path | None = None,
        on_record: Callable[[Record], Any] | None = None,
    ):
        if interval < 1 or bins < 1:
            raise ValueError(f"interval and bins must be positive, but are {interval} and {bins}")
        self.interval, self.bins = interval, bins
        self.records: list[Record] = []
        self._log = None if log is None else Path(log)
        self._on_record = on_record
        self._modules = [t for t in targets if isinstance(t, Module)]
        self._optimizers = [t for t in targets if isinstance(t, Optimizer)]
        for t in targets:
            if not isinstance(t, Module | Optimizer):
                raise TypeError(f"GradientMonitor watches modules and optimizers, not {type(t).__name__}")
        self.parameters = dict(self._named())
        if not self.parameters:
            raise ValueError("GradientMonitor: the targets have no parameters that need gradients")
        self._writer = None if tensorboard is None else SummaryWriter(tensorboard)
        self._handles = [
            handle
            for optimizer in self._optimizers
            for handle in (
                optimizer.register_step_pre_hook(lambda *_: self._before_step()),
                optimizer.register_step_post_hook(lambda *_: self._after_step()),
            )
        ]
        self._armed = False
        self._relu_handles: list[RemovableHandle] = []
        self._gradients: dict[str, tuple[Tensor, ...]] | None = None
        self._total: Tensor | None = None
        self._weights: dict[str, Tensor] = {}
        self._dead: dict[str, Tensor] = {}
        self.step = 0

    @property
    def step(self) -> int:
        """The number of optimizer steps so far; set it when a run goes on."""
        return self._step

    @step.setter
    def step(self, value: int) -> None:
        self._disarm()
        self._step = value
        if not value or not (value + 1) % self.interval:
            self._arm()

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        several = len(self._modules) > 1
        seen: set[Tensor] = set()
        for k, module in enumerate(self._modules):
            for name, p in module.named_parameters():
                if p.requires_grad and p not in seen:
                    seen.add(p)
                    yield (f"{k}.{name}" if several else name), p
        for i, optimizer in enumerate(self._optimizers):
            for j, group in enumerate(optimizer.param_groups):
                names = group.get("param_names", [f"{j}.{k}" for k in range(len(group["params"]))])
                for name, p in zip(names, group["params"], strict=True):
                    if p.requires_grad and p not in seen:
                        seen.add(p)
                        yield (f"{i}.{name}" if len(self._optimizers) > 1 else name), p

    def request(self) -> None:
        """Look at the next optimizer step, whatever the interval."""
        self._arm()

    def _arm(self) -> None:
        """Prepare for a step that is looked at."""
        if self._armed:
            return
        self._armed = True
        clip_grad.watchers.append(self._measure)
        relus = [(n, m) for module in self._modules for n, m in module.named_modules() if isinstance(m, ReLU)]
        self._relu_handles = [m.register_forward_hook(self._watch_relu(name)) for name, m in relus]

    def _disarm(self) -> None:
        if self._armed:
            clip_grad.watchers.remove(self._measure)
            for handle in self._relu_handles:
                handle.remove()
        self._armed, self._relu_handles = False, []
        self._gradients, self._total, self._weights, self._dead = None, None, {}, {}

    def _watch_relu(self, name: str) -> Callable[..., None]:
        @no_grad()
        def hook(module: Module, _: Any, out: Tensor) -> None:
            if module.training and out.ndim > 1:
                # A unit is a feature, or a channel; the batch and the places of an image are looked at together.
                zero: Any = out.detach() == 0
                dead = zero.all(dim=tuple(d for d in range(out.ndim) if d != 1))
                self._dead[name] = self._dead[name] & dead if name in self._dead else dead

        return hook

    @no_grad()
    def _measure(self) -> None:
        """Take the measures of the gradients as they are now, on their device; only the first call in a step does."""
        if self._gradients is not None:
            return
        self._gradients = {}
        grads = {name: p.grad.detach() for name, p in self.parameters.items() if p.grad is not None}
        for name, g in grads.items():
            flat = g.reshape(-1)
            sample = flat[:: max(1, -(-len(flat) // _SAMPLE))].clone()
            wide = flat.float() if g.itemsize < 4 else flat
            broken = (~wide.isfinite()).sum()
            self._gradients[name] = (wide.mean(), wide.std(correction=0), wide.norm(), broken, sample)
        self._total = clip_grad.get_total_norm(grads.values())

    @no_grad()
    def _before_step(self) -> None:
        if self._armed:
            self._measure()
            self._weights = {name: p.detach().clone() for name, p in self.parameters.items()}

    def _after_step(self) -> None:
        armed = self._armed
        read = self._figures() if armed else None
        if armed:
            self._disarm()  # here as well: what is recorded is run later
        recording = graph.current()
        if recording is None:
            self._count(read)
        else:
            recording.switches.setdefault(id(self), lambda: self._armed is armed)
            recording.after.append(lambda: self._count(read))

    def _count(self, read: Callable[[], Record] | None) -> None:
        self._step += 1
        if read is not None:
            self._disarm()
            self._add(read())
        if not (self._step + 1) % self.interval:
            self._arm()

    def record(self) -> Record:
        """Look at the gradients now, without an optimizer: after ``backward``, before any ``zero_grad``."""
        self._arm()
        self._measure()
        self._weights = {}
        if not self._optimizers:
            self._step += 1
        found = self._figures()()
        self._disarm()
        self._add(found)
        return found

    @no_grad()
    def _figures(self) -> Callable[[], Record]:
        """Finish the measures of a step, on their device; what is returned reads them from there."""
        assert self._gradients is not None
        after = clip_grad.get_total_norm([p.grad for p in self.parameters.values() if p.grad is not None])
        updates = {
            name: (self.parameters[name].detach() - before).norm() / before.norm()
            for name, before in self._weights.items()
        }
        scalars = [self._total, after, *(s for g in self._gradients.values() for s in g[:4]), *updates.values()]
        scalars += [dead.float().mean() for dead in self._dead.values()]
        # One copy from the device for all numbers, and one for each sample.
        numbers = stack(*[s.float() for s in scalars], 0)
        samples = {name: sample for name, (*_, sample) in self._gradients.items()}
        return partial(self._record, numbers, samples, list(updates), list(self._dead))

    def _record(self, numbers: Tensor, samples: dict[str, Tensor], updated: list[str], relus: list[str]) -> Record:
        values = iter(numbers.tolist())
        record: Record = {"step": self.step, "total_norm": next(values), "clipped_norm": next(values), "nonfinite": 0}
        rows: dict[str, Any] = {}
        for name, sample in samples.items():
            row: dict[str, Any] = {what: next(values) for what in ("mean", "std", "norm")}
            row["nonfinite"] = int(next(values))
            record["nonfinite"] += row["nonfinite"]
            row["histogram"] = _histogram(to_numpy(sample._data), self.bins)
            rows[name] = row
        for name in updated:
            ratio = next(values)
            if name in rows:
                rows[name]["update_ratio"] = ratio
        record["dead_relu"] = {name: next(values) for name in relus}
        record["parameters"] = rows
        return record

    def _add(self, record: Record) -> None:
        self.records.append(record)
        if self._log is not None:
            with open(self._log, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        if self._writer is not None:
            _write_events(self._writer, record)
        if self._on_record is not None:
            self._on_record(record)

    def table(self) -> str:
        """The last record as lines of text."""
        return table(self.records[-1]) if self.records else "no step was looked at yet"

    def draw(self, folder: str | Path) -> list[Path]:
        """Draw all records into gradients.png and histograms.png.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: there is no record.
        """
        return draw(self.records, folder)

    def close(self) -> None:
        """Take all hooks off and finish the event files."""
        self._disarm()
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> GradientMonitor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _histogram(sample: np.ndarray, bins: int) -> dict[str, Any]:
    finite = sample[np.isfinite(sample)].astype(np.float64)
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    counts, _ = np.histogram(finite, bins, (low, high) if high > low else (low - 0.5, low + 0.5))
    return {"low": low, "high": high, "counts": counts.tolist()}


def _write_events(writer: Any, record: Record) -> None:
    step = record["step"]
    for name in ("total_norm", "clipped_norm", "nonfinite"):
        writer.add_scalar(f"gradients/{name}", record[name], step)
    for name, share in record["dead_relu"].items():
        writer.add_scalar(f"dead_relu/{name}", share, step)
    for name, row in record["parameters"].items():
        for what in ("mean", "std", "norm", "update_ratio"):
            if what in row:
                writer.add_scalar(f"{what}/{name}", row[what], step)
        found = row["histogram"]
        counts = np.array(found["counts"])
        edges = np.linspace(found["low"], found["high"], len(counts) + 1)
        middles = (edges[1:] + edges[:-1]) / 2
        writer.add_histogram_raw(
            f"gradient/{name}",
            min=found["low"],
            max=found["high"],
            num=int(counts.sum()),
            sum=float((counts * middles).sum()),
            sum_squares=float((counts * middles**2).sum()),
            bucket_limits=edges[1:].tolist(),
            bucket_counts=counts.tolist(),
            global_step=step,
        )
    writer.flush()


def table(record: Record) -> str:
    """A record as lines of text."""
    rows = record["parameters"]
    width = max([20, *map(len, rows)])
    title = f"gradients of step {record['step']}"
    lines = [f"    {title:<{width}}  {'mean':>10}  {'std':>9}  {'norm':>9}  {'update':>9}"]
    for name, row in rows.items():
        ratio = f"{row['update_ratio']:.2e}" if "update_ratio" in row else ""
        broken = f"  {row['nonfinite']} nan or inf" if row["nonfinite"] else ""
        lines.append(
            f"    {name:<{width}}  {row['mean']:>10.2e}  {row['std']:>9.2e}  {row['norm']:>9.2e}  {ratio:>9}{broken}"
        )
    lines.append(f"    total norm {record['total_norm']:.4g}, after clipping {record['clipped_norm']:.4g}")
    if record["dead_relu"]:
        dead = ", ".join(f"{name} {share:.1%}" for name, share in record["dead_relu"].items())
        lines.append(f"    units that were 0 for the whole batch: {dead}")
    return "\n".join(lines)


def draw(records: Sequence[Record], folder: str | Path) -> list[Path]:
    """Draw records: norms, updates and dead units over time, and the histograms of the last one.

    Returns:
        The files written: gradients.png and histograms.png in ``folder``.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: there is no record.
    """
    if not records:
        raise ValueError("there is no record to draw")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'gpugrad[plot]'") from None
    folder = Path(folder)
    paths = [folder / "gradients.png", folder / "histograms.png"]
    steps = [r["step"] for r in records]
    names = list(records[-1]["parameters"])
    figure = Figure(figsize=(11, 7), layout="constrained")
    (total, each), (update, dead) = figure.subplots(2, 2)
    total.plot(steps, [r["total_norm"] for r in records], color=_COLORS[0], marker=".", label="before clipping")
    total.plot(steps, [r["clipped_norm"] for r in records], color=_COLORS[1], ls="--", label="after clipping")
    total.set(title="norm of all gradients", yscale="log")
    for axes, what, title in ((each, "norm", "norm of each gradient"), (update, "update_ratio", "update / weight")):
        for k, name in enumerate(names):
            axes.plot(
                steps, [r["parameters"].get(name, {}).get(what, math.nan) for r in records], **_style(k), label=name
            )
        axes.set(title=title, yscale="log")
    update.axhline(1e-3, color="grey", linewidth=1, linestyle=":")
    for k, name in enumerate(records[-1]["dead_relu"]):
        dead.plot(steps, [100 * r["dead_relu"].get(name, math.nan) for r in records], **_style(k), label=name)
    dead.set(title="ReLU units that are 0 for the whole batch", ylabel="%", ylim=(-2, 102))
    for axes in (total, each, update, dead):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0] and axes is not update:
            beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if axes is each else {}
            axes.legend(fontsize=7, ncols=1 + len(names) // 16 if axes is each else 1, **beside)
    figure.savefig(paths[0], dpi=90)

    columns = min(4, len(names))
    count = -(-len(names) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.3 * count + 0.4), layout="constrained")
    for axes, name in zip(figure.subplots(count, columns, squeeze=False).flat, names, strict=False):
        found = records[-1]["parameters"][name]["histogram"]
        edges = np.linspace(found["low"], found["high"], len(found["counts"]) + 1)
        axes.stairs(found["counts"], edges, fill=True, color=_COLORS[0])
        axes.set_title(name, fontsize=8)
        axes.set_yscale("symlog", linthresh=1)
        axes.tick_params(labelsize=7)
        axes.ticklabel_format(axis="x", scilimits=(-2, 2))
    for axes in list(figure.axes)[len(names) :]:
        axes.axis("off")
    figure.suptitle(f"gradients at step {steps[-1]}: elements by value", fontsize=10)
    figure.savefig(paths[1], dpi=90)
    return paths


# Okabe and Ito's palette: told apart by the colour-blind.
_COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]


def _style(k: int) -> dict[str, Any]:
    lines = ["-", "--", ":", "-."]
    return {"color": _COLORS[k % len(_COLORS)], "linestyle": lines[k // len(_COLORS) % len(lines)], "marker": "."}
