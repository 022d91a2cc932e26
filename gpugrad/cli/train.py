"""``gpugrad train``: the training loop.

A step reads nothing back from a CUDA device: losses are looked at every few steps
there, at each step on the CPU.  Everything random is a function of the seed and
of counters that the checkpoint holds, so a run that is taken up again goes on as if it
had never stopped.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import math
import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

import gpugrad as gg

from .. import amp, monitor, nn
from ..backend.dtypes import bfloat16
from ..nn import functional as F
from . import CommandError
from . import config as options
from .checkpoint import RunFolder, fitting, moment_of
from .config import Config
from .data import Data, load_data
from .info import choose_device, environment
from .models import build_model, build_optimizer, build_scheduler
from .plots import draw_curves

BUNDLED = "the bundled subset"
AMP_DTYPES = {None: None, "bf16": "bfloat16", "fp16": gg.float16}
EVALUATION_BATCH = 1000


def check_interval(device: Any) -> int:
    """After how many optimizer steps losses are read back: at once where that costs nothing."""
    return 1 if device.type == "cpu" else 25


class NonFinite(Exception):
    """The loss or a weight became nan or inf: at which step, and what was not finite first.

    The message is empty when the losses were read too late to tell.
    """


class Stopped(Exception):
    """A signal asked the run to stop; everything is saved."""

    def __init__(self, signum: int):
        super().__init__(signum)
        self.signum = signum


@dataclass
class Progress:
    """How far a run has come: the counters of its checkpoint."""

    epoch: int = 0
    """Epochs completed."""
    position: int = 0
    """Optimizer steps done in the epoch under way."""
    step: int = 0
    """Optimizer steps done."""
    loss: float = 0.0
    """Sum of the losses of this epoch's images so far."""
    correct: int = 0
    images: int = 0
    window_loss: float = 0.0
    """The same since the last step loss in metrics.jsonl."""
    window_images: int = 0
    best: float = -1.0
    best_epoch: int = 0
    epoch_seconds: float = 0.0
    seconds: float = 0.0
    log_size: int = 0


class Signals:
    """While active, the first Ctrl-C (or SIGTERM) only leaves a note here; a second one quits at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._first)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _first(self, number: int, frame: Any) -> None:
        self.received = number
        # Not print: the handler may have interrupted one.
        os.write(
            sys.__stderr__.fileno() if sys.__stderr__ else 2, b"\nsaving after this step; once more to quit at once\n"
        )
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Trainer:
    """One run: a model, its optimizer and schedule, the data, and how far it has come."""

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        data: Data,
        device: Any,
        save_every: float,
        bar: bool,
        compiled: bool = False,
    ):
        self.config, self.folder, self.data = config, folder, data
        self.device, self.save_every, self.bar = device, save_every, bar
        self.steps = -(-len(data.train) // config.group)
        self.check_every = check_interval(device)
        gg.manual_seed(config.seed)
        self.model = build_model(config).to(device)
        self.optimizer = build_optimizer(config, self.model)
        self.scheduler = build_scheduler(config, self.optimizer, self.steps)
        self.scaler = amp.GradScaler(device.type, enabled=config.amp == "fp16")
        self.progress = Progress()
        self._signals = Signals()
        # Of each step whose losses and hits are still to be read: its number, both one after the other for each pass
        # (floats, on the device), and the images of each pass.
        self._pending: list[tuple[int, gg.Tensor, list[int]]] = []
        self._update: Any = self._passes
        if compiled and device.type == "cuda":
            self._update = gg.compile(self._passes)
        self._lr = config.lr
        self.monitor: monitor.GradientMonitor | None = None
        if config.monitor:
            self.monitor = monitor.GradientMonitor(
                self.model, self.optimizer, tensorboard=event_folder(folder), on_record=self._log_gradients
            )
        self._mark = time.perf_counter()
        self._saved_at = self._mark

    def weights(self) -> dict[str, Any]:
        """The part of a checkpoint that it takes to use the network."""
        return {
            "config": self.config.to_dict(),
            "data": self.data.fingerprint,
            "progress": asdict(self.progress),
            "model": self.model.state_dict(),
        }

    def state(self) -> dict[str, Any]:
        """A checkpoint: all it takes to go on from here."""
        return {
            **self.weights(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": gg.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        gg.set_rng_state(state["random"])
        self.progress = Progress(**state["progress"])
        self._pending = []
        if self.monitor:
            self.monitor.step = self.progress.step
        self.folder.rewind_log(self.progress.log_size)

    def save(self) -> None:
        """Save a checkpoint of this moment.

        Raises:
            NonFinite: a weight is nan or inf; the checkpoint before stays.
            CommandError: it could not be written; the checkpoint before stays.
        """
        self._flush()
        self._tick()
        self._require_finite()
        state = self.state()
        self.folder.save(state, moment_of(state))
        self._saved_at = self._mark

    def fit(self) -> None:
        """Train to the end.

        Raises:
            CommandError: the loss became nan or inf, or something could not be written.
            Stopped: a signal arrived; everything is saved.
        """
        self._mark = self._saved_at = time.perf_counter()
        with self._signals:
            while self.progress.epoch < self.config.epochs:
                try:
                    self._epoch()
                except NonFinite as error:
                    if str(error):
                        clip = "" if self.config.clip_norm else ", or --clip-norm 1"
                        advice = f"Try a lower --lr (it was {self.config.lr:g}){clip}"
                        raise CommandError(f"{error}. {self.folder.last_good()}. {advice}") from None
                    # Losses are read in bunches on this device, and the weights have moved on meanwhile. Take the
                    # steps since the last checkpoint once more, and look at each.
                    state = self.folder.load()
                    assert state is not None
                    self.restore(state)
                    self.check_every = 1

    def _epoch(self) -> None:
        """The rest of the epoch under way."""
        config, progress = self.config, self.progress
        order, corners = self.data.train.epoch(config.seed, progress.epoch)
        self.model.train()
        with self._progress_bar() as bar:
            for position in range(progress.position, self.steps):
                rows = slice(position * config.group, (position + 1) * config.group)
                self._step(order[rows], None if corners is None else corners[rows], last=position + 1 == self.steps)
                progress.position += 1
                progress.step += 1
                if progress.step % self.check_every == 0:
                    self._flush()
                    self._show(bar)
                if progress.step % config.log_every == 0:
                    self._log_step()
                if progress.position < self.steps:
                    self._pause()
            self._flush()
            self._tick()
        self._finish_epoch()

    def _step(self, rows: gg.Tensor, corners: gg.Tensor | None, last: bool) -> None:
        """One optimizer step on the images ``rows``, in passes of the batch size."""
        if self.monitor and last:
            self.monitor.request()
        # Where every loss is looked at before the weights change, there is nothing to capture.
        read = (self._passes if self.check_every == 1 else self._update)(rows, corners)
        if read is not None:
            size, batch = len(rows), self.config.batch_size
            counts = [min(batch, size - start) for start in range(0, size, batch)]
            self._pending.append((self.progress.step + 1, read, counts))
        self._lr = self.optimizer.param_groups[0]["lr"]
        self.scheduler.step()

    def _passes(self, rows: gg.Tensor, corners: gg.Tensor | None) -> gg.Tensor | None:
        """What the device does in a step; returns the losses and hits of the passes, unless they were read already."""
        config, size = self.config, len(rows)
        results = []
        for start in range(0, size, config.batch_size):
            part = slice(start, start + config.batch_size)
            images, labels = self.data.train.batch(rows[part], None if corners is None else corners[part])
            with amp.autocast(self.device.type, AMP_DTYPES[config.amp], enabled=config.amp is not None):
                logits = self.model(images)
                loss = F.cross_entropy(logits, labels)
            hits = (logits.detach().argmax(1) == labels).sum()
            count = len(labels)
            if self.check_every == 1:
                self._note(self.progress.step + 1, float(loss.detach()), int(hits), count, images)
            else:
                results += [loss.detach(), hits.to(loss.dtype)]
            if start == 0:
                # Not before the losses were looked at: the last step's gradients tell what broke the weights.
                self.optimizer.zero_grad()
            self.scaler.scale(loss if count == size else loss * (count / size)).backward()
        if config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return gg.stack(results) if results else None

    def _note(self, step: int, loss: float, hits: int, count: int, images: gg.Tensor | None = None) -> None:
        """Count a pass.

        Args:
            images: its images, when its backward pass is still to come.
        """
        if not math.isfinite(loss):
            raise NonFinite(self._blame(f"the loss is {loss} at step {step}", images))
        progress = self.progress
        progress.loss += loss * count
        progress.window_loss += loss * count
        progress.window_images += count
        progress.correct += hits
        progress.images += count

    def _flush(self) -> None:
        """Read the losses and hits of the latest steps from the device."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        values = gg.cat([read for _, read, _ in pending]).tolist()
        for step, _, counts in pending:
            for count in counts:
                loss, hits, *values = values
                self._note(step, loss, int(hits), count)

    def _blame(self, what: str, images: gg.Tensor | None = None) -> str:
        """What was not finite first, when ``what`` was noticed; nothing when the weights have moved on since."""
        if self.check_every > 1:
            return ""
        step = self.progress.step
        parameters = dict(self.model.named_parameters())
        broken = [name for name, p in parameters.items() if not _finite(p)]
        if broken:
            more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
            gradients = [name for name, p in parameters.items() if p.grad is not None and not _finite(p.grad)]
            reason = (
                f"the gradient of {gradients[0]} was not finite"
                if gradients
                else "all gradients were finite, so the step was too long"
            )
            return f"{what}: step {step} left nan or inf in {broken[0]}{more}; {reason}"
        if images is None:
            return what
        layer = _first_broken_layer(self.model, images)
        return f"{what}: all weights are finite, and the first output that is not is that of {layer}"

    def _require_finite(self) -> None:
        for name, t in self.model.state_dict().items():
            if t.is_floating_point() and not _finite(t):
                raise NonFinite(self._blame(f"{name} is not finite after step {self.progress.step}"))

    def _pause(self) -> None:
        """Between two steps of an epoch: save when it is time to, stop when a signal came."""
        if self._signals.received:
            self.save()
            raise Stopped(self._signals.received)
        if time.perf_counter() - self._saved_at >= self.save_every:
            self.save()

    def _tick(self) -> None:
        """Count the time since the last tick."""
        now = time.perf_counter()
        self.progress.seconds += now - self._mark
        self.progress.epoch_seconds += now - self._mark
        self._mark = now

    def _log_step(self) -> None:
        self._flush()
        progress = self.progress
        record = {
            "kind": "step", "step": progress.step, "epoch": progress.epoch + 1,
            "loss": progress.window_loss / progress.window_images, "lr": self._lr,
        }  # fmt: skip
        progress.window_loss, progress.window_images = 0.0, 0
        progress.log_size = self.folder.log(record)

    def _log_gradients(self, record: dict[str, Any]) -> None:
        self.progress.log_size = self.folder.log({"kind": "gradients", **record})

    def _finish_epoch(self) -> None:
        """Measure on the test images, write the epoch's line, and save."""
        progress = self.progress
        seconds, speed = progress.epoch_seconds, progress.images / progress.epoch_seconds
        self._require_finite()
        test_loss, test_accuracy = self.evaluate()
        if not math.isfinite(test_loss):
            raise NonFinite(self._blame(f"the test loss is {test_loss}", self.data.test.images[:EVALUATION_BATCH]))
        self._tick()
        record = {
            "kind": "epoch", "epoch": progress.epoch + 1, "step": progress.step,
            "train_loss": progress.loss / progress.images, "train_accuracy": progress.correct / progress.images,
            "test_loss": test_loss, "test_accuracy": test_accuracy, "lr": self._lr,
            "seconds": round(progress.seconds, 3), "images_per_second": round(speed, 1),
        }  # fmt: skip
        progress.log_size = self.folder.log(record)
        progress.epoch += 1
        progress.position, progress.images, progress.correct = 0, 0, 0
        progress.loss = progress.epoch_seconds = 0.0
        if test_accuracy > progress.best:
            progress.best, progress.best_epoch = test_accuracy, progress.epoch
            self.folder.save_best(self.weights())
        self.save()
        print(
            f"epoch {progress.epoch:>{len(str(self.config.epochs))}}/{self.config.epochs}"
            f"  loss {record['train_loss']:.4f}  train {record['train_accuracy']:.2%}"
            f"  test {test_accuracy:.2%}  lr {self._lr:.2g}  {seconds:.1f} s  {speed:,.0f} images/s",
            flush=True,
        )
        if self.monitor:
            print(self.monitor.table(), flush=True)
        if self._signals.received and progress.epoch < self.config.epochs:
            raise Stopped(self._signals.received)

    def evaluate(self) -> tuple[float, float]:
        """Mean loss and accuracy on the test images."""
        self.model.eval()
        test = self.data.test
        loss = hits = 0
        with gg.no_grad():
            for start in range(0, len(test), EVALUATION_BATCH):
                images, labels = test.batch(slice(start, start + EVALUATION_BATCH))
                logits = self.model(images)
                loss = loss + F.cross_entropy(logits, labels, reduction="sum")
                hits = hits + (logits.argmax(1) == labels).sum()
        return float(loss) / len(test), int(hits) / len(test)

    def _progress_bar(self) -> Any:
        from tqdm import tqdm

        progress = self.progress
        # Given, since tqdm itself shows nothing in a terminal of unknown size.
        size = shutil.get_terminal_size()
        return tqdm(
            total=len(self.data.train), initial=progress.images, unit=" images", unit_scale=True, leave=False,
            desc=f"epoch {progress.epoch + 1}/{self.config.epochs}", disable=not self.bar,
            ncols=size.columns, nrows=size.lines,
            bar_format="{desc} {percentage:3.0f}% |{bar}| {remaining} left, {rate_fmt}{postfix}",
        )  # fmt: skip

    def _show(self, bar: Any) -> None:
        progress = self.progress
        if not bar.disable:
            bar.set_postfix_str(
                f"loss {progress.loss / progress.images:.4f}, accuracy {progress.correct / progress.images:.2%}",
                refresh=False,
            )
            bar.update(progress.images - bar.n)


def _finite(t: gg.Tensor) -> bool:
    return bool(gg.isfinite(t).all())


def _first_broken_layer(model: nn.Module, images: gg.Tensor) -> str:
    """The first layer that makes nan or inf of the images."""
    found: list[str] = []
    for name, layer in model.named_children():
        layer.register_forward_hook(lambda _layer, _in, out, name=name: None if _finite(out) else found.append(name))
    with gg.no_grad():
        model(images)
    return f"layer {found[0]}" if found else "the loss"


def event_folder(folder: RunFolder) -> Any:
    """Where TensorBoard's event files go; None, with a line that says so, where they cannot be written."""
    if importlib.util.find_spec("tensorboardX"):
        return folder / "tensorboard"
    print("no TensorBoard files: pip install 'gpugrad[tensorboard]'")
    return None


def open_run(args: argparse.Namespace, given: dict[str, Any]) -> tuple[RunFolder, Config, dict[str, Any] | None]:
    """The folder and the configuration of the run to start or to go on with, and the checkpoint in the latter case.

    Raises:
        CommandError: the folder holds a run already, or none to resume, or options contradict the run.
    """
    resume, out = getattr(args, "resume", None), getattr(args, "out", None)
    if resume is not None:
        if resume is not True and out is not None and os.path.abspath(resume) != os.path.abspath(out):
            raise options.usage_error(f"--resume {resume} and --out {out} are two folders; a run goes on in its own")
        where = out if resume is True else resume
        if where is None:
            raise options.usage_error("--resume needs to know which run: give --resume DIR, or --out DIR --resume")
        folder = RunFolder(where)
        if folder.has_run():
            state = folder.load()
            saved = state["config"] if state else folder.read_config()
            if state is None:
                print(f"the run in {where} was stopped before its first checkpoint: it starts again")
            with fitting(folder.path):
                return folder, options.merge_resumed(saved, given, where), state
        if resume is not True:
            raise CommandError(f"there is no run to resume in {where}")
        print(f"there is no run in {where} yet: this starts one")
    config = options.resolve(given)
    if out is None:
        numbered = (RunFolder(f"runs/{config.dataset}-{config.model}-{k}") for k in itertools.count(1))
        return next(folder for folder in numbered if not folder.path.exists()), config, None
    folder = RunFolder(out)
    if folder.has_run():
        raise CommandError(
            f"{out} holds a run already: go on with it (--resume {out}), or choose another folder with --out"
        )
    return folder, config, None


def run(args: argparse.Namespace) -> int:
    """Train as the options say; returns the exit code.

    Raises:
        CommandError: the run cannot start, or cannot go on.
    """
    folder, config, state = open_run(args, options.given_options(args))
    device = choose_device(args.device)
    if config.amp == "bf16":
        try:
            bfloat16()
        except ImportError as error:
            raise CommandError(f"--amp bf16: {error}") from None
    folder.create()
    try:
        data = load_data(config, device)
    except CommandError:
        folder.discard()
        raise
    if state is not None and state["data"] != data.fingerprint:
        raise CommandError(f"{folder.path} was trained on other images than those found now ({data.origin})")
    bar = not args.no_progress and sys.stderr.isatty()
    trainer = Trainer(config, folder, data, device, args.save_every, bar, compiled=not args.no_compile)
    count = sum(p.numel() for p in trainer.model.parameters())
    print(f"{data.origin}: {len(data.train):,} training and {len(data.test):,} test images")
    print(f"{config.model} with {count:,} parameters on {device}; {config.summary()}; writing to {folder.path}")
    if state is None:
        if data.origin == BUNDLED:
            config.source = "bundled"  # to go on with the same images when the network is back
        facts = {"out": str(folder.path), "parameters": count, "data": data.origin, **environment(device)}
        folder.write_config(config, facts)
        folder.rewind_log(0)
        trainer.save()
    else:
        with fitting(folder.path):
            trainer.restore(state)
        print(f"going on from {moment_of(state)}", flush=True)
    try:
        trainer.fit()
    except Stopped as stop:
        print(f"stopped at {moment_of(trainer.state())}; go on with: gpugrad train --resume {folder.path}")
        return 128 + stop.signum
    records = folder.metrics()
    curves = "and curves "
    try:
        draw_curves(records, f"{config.dataset}, {config.model}", folder / "curves.png")
    except CommandError as error:
        curves = ""
        print(f"no curves: {error}")
    else:
        if trainer.monitor:
            monitor.draw([r for r in records if r["kind"] == "gradients"], folder.path)
    final = [r for r in records if r["kind"] == "epoch"][-1]
    progress = trainer.progress
    print(
        f"test accuracy {final['test_accuracy']:.2%} (best {progress.best:.2%}, epoch {progress.best_epoch}) "
        f"after {progress.seconds:.1f} s; checkpoints, metrics {curves}are in {folder.path}"
    )
    return 0
