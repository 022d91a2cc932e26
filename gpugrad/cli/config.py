"""The options of ``gpugrad train`` and the configuration they resolve to.

Options that were not given stay out of the parsed arguments, so that defaults can
depend on other choices (model, optimizer) and a resumed run can tell what was asked
for explicitly from what was not.
"""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

from . import CommandError

DATASETS = ("mnist", "fashion-mnist")
MODELS = ("mlp", "cnn")
OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adam", "adamw")
SOURCES = ("auto", "idx", "bundled", "torchvision")
AMP = ("bf16", "fp16")
SCHEDULERS = ("none", "step", "linear", "cosine", "onecycle")

# What a run takes when nothing else is asked for; a value that is a dict depends on the model.
PRESETS: dict[str, Any] = {
    "dataset": "mnist",
    "source": "auto",
    "model": "mlp",
    "hidden": {"mlp": [512, 256], "cnn": [128]},
    "dropout": {"mlp": 0.2, "cnn": 0.25},
    "shift": {"mlp": 0, "cnn": 2},
    "epochs": {"mlp": 8, "cnn": 4},
    "batch_size": 128,
    "accumulate": 1,
    "optimizer": "adam",
    "scheduler": "onecycle",
    "seed": 0,
    "log_every": 50,
}
# The learning rate is this times (1 - momentum), since momentum m makes the steps 1 / (1 - m) times as long.
BASE_LR = {"sgd": 0.2, "momentum": 0.2, "rmsprop": 2e-3, "adam": 2e-3, "adamw": 2e-3}
MOMENTUM = {"sgd": 0.0, "momentum": 0.9, "rmsprop": 0.0}


@dataclass
class Config:
    """Everything that decides how a run ends, with every default filled in."""

    dataset: str
    data_dir: str | None
    source: str
    train_limit: int | None
    test_limit: int | None
    model: str
    hidden: list[int]
    dropout: float
    shift: int
    epochs: int
    batch_size: int
    accumulate: int
    optimizer: str
    lr: float
    momentum: float | None
    weight_decay: float
    clip_norm: float | None
    scheduler: str
    warmup: float
    step_size: int | None
    gamma: float | None
    seed: int
    monitor: bool
    log_every: int
    amp: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)

    def summary(self) -> str:
        """The choices that matter most, in one line."""
        momentum = f", momentum {self.momentum:g}" if self.momentum else ""
        steps = f"{self.epochs} epochs in batches of {self.group}"
        return f"{self.optimizer}, lr {self.lr:g}{momentum}, {self.scheduler} schedule, {steps}"

    @property
    def group(self) -> int:
        """Images in one optimizer step."""
        return self.batch_size * self.accumulate


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """Those configuration options that stand on the command line."""
    known = {field.name for field in fields(Config)}
    return {name: value for name, value in vars(args).items() if name in known}


def resolve(given: dict[str, Any]) -> Config:
    """The configuration for the options ``given``, with defaults for all others.

    Raises:
        CommandError: options that do not go together.
    """
    model = given.get("model", PRESETS["model"])
    values: dict[str, Any] = {field.name: None for field in fields(Config)}
    for name, preset in PRESETS.items():
        values[name] = preset[model] if isinstance(preset, dict) else preset
    values.update(given)
    optimizer, scheduler, epochs = values["optimizer"], values["scheduler"], values["epochs"]

    if "momentum" in given and optimizer not in MOMENTUM:
        raise usage_error(f"--momentum has no meaning for {optimizer}; it goes with sgd, momentum and rmsprop")
    if values["momentum"] is None:
        values["momentum"] = MOMENTUM.get(optimizer)
    if values["lr"] is None:
        values["lr"] = float(f"{BASE_LR[optimizer] * (1 - (values['momentum'] or 0)):.6g}")
    if values["weight_decay"] is None:
        values["weight_decay"] = 0.01 if optimizer == "adamw" else 0.0
    if scheduler == "step":
        values["step_size"] = values["step_size"] or max(1, -(-epochs // 3))
        values["gamma"] = 0.1 if values["gamma"] is None else values["gamma"]
    elif "step_size" in given or "gamma" in given:
        raise usage_error(
            f"--step-size and --gamma belong to --scheduler step, and this run has --scheduler {scheduler}"
        )
    if values["warmup"] is None:
        values["warmup"] = round(0.3 * epochs, 6) if scheduler == "onecycle" else 0.0
    if values["warmup"] >= epochs:
        raise usage_error(
            f"--warmup {values['warmup']:g} leaves nothing of --epochs {epochs}; give fewer warm-up epochs"
        )
    values["monitor"] = bool(values["monitor"])
    return Config(**values)


def merge_resumed(saved: dict[str, Any], given: dict[str, Any], where: str) -> Config:
    """The configuration of a run that goes on: its own, which the options given may not contradict.

    The folder of the data may change, and so may the number of epochs where the
    learning rate does not depend on it.

    Raises:
        CommandError: an option contradicts the run.
    """
    free = {"data_dir"} | ({"epochs"} if saved["scheduler"] in ("none", "step") else set())
    conflicts = [name for name, value in given.items() if name not in free and value != saved[name]]
    if conflicts:
        listed = "; ".join(
            f"{flag(name)} is {show(saved[name])} there and {show(given[name])} here" for name in conflicts
        )
        hint = ""
        if "epochs" in conflicts:
            hint = f" (the {saved['scheduler']} schedule was laid out for {saved['epochs']} epochs)"
        raise usage_error(
            f"--resume goes on with the configuration of {where}, but {listed}{hint}. "
            "Leave these options out, or start a new run"
        )
    return Config(**{**saved, **given})


def usage_error(message: str) -> CommandError:
    """The error for a wrong command line."""
    return CommandError(f"error: {message}", code=2)


def flag(name: str) -> str:
    """The option that sets a field."""
    return "--" + name.replace("_", "-")


def show(value: Any) -> str:
    """A value as it would stand on the command line."""
    return ",".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _number(kind: Callable[[str], Any], test: Callable[[Any], bool], wanted: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not math.isfinite(value) or not test(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
        return value

    return parse


positive_int = _number(int, lambda n: n > 0, "a whole number above 0")
natural = _number(int, lambda n: n >= 0, "a whole number, 0 or above")
seed_number = _number(int, lambda n: 0 <= n < 2**63, "a whole number from 0 to 2**63 - 1")
pixels = _number(int, lambda n: 0 <= n <= 8, "a whole number of pixels from 0 to 8")
positive = _number(float, lambda x: x > 0, "a number above 0")
non_negative = _number(float, lambda x: x >= 0, "a number, 0 or above")
fraction = _number(float, lambda x: 0 <= x < 1, "a number from 0 up to, but not including, 1")


def device_name(text: str) -> str:
    """Check the spelling of a device."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"invalid device {text!r} (choose from auto, cpu, cuda, cuda:N)")
    return text


def widths(text: str) -> list[int]:
    """Check the sizes of the hidden layers."""
    if text == "none":
        return []
    parts = text.split(",")
    if not all(re.fullmatch(r"\s*[1-9]\d{0,6}\s*", part) for part in parts):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a comma-separated list of layer sizes, such as 512,256 (or 'none')"
        )
    return [int(part) for part in parts]


def _preset(name: str) -> str:
    preset = PRESETS[name]
    if isinstance(preset, dict):
        return "default: " + ", ".join(f"{show(value)} for {model}" for model, value in preset.items())
    return f"default: {preset}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options of ``gpugrad train``."""

    def add(group: Any, option: str, text: str, **how: Any) -> None:
        name = option[2:].replace("-", "_")
        note = f" ({_preset(name)})" if name in PRESETS else ""
        how.setdefault("default", argparse.SUPPRESS)
        group.add_argument(option, help=f"{text}{note}".replace("%", "%%"), **how)

    data = parser.add_argument_group("data")
    add(data, "--dataset", "the images to learn", choices=DATASETS)
    add(
        data,
        "--data-dir",
        "a folder with the four idx files, gzipped or not (default: the user's cache, filled by a download)",
        type=os.path.abspath,
        metavar="DIR",
    )
    add(
        data,
        "--source",
        "idx: insist on the original files; bundled: the subset of 10,000 training and 2,000 test images of MNIST "
        "that comes with gpugrad; torchvision: its loader; auto: the files, or the subset where there is no network",
        choices=SOURCES,
    )
    add(data, "--train-limit", "use only the first N training images (default: all)", type=positive_int, metavar="N")
    add(data, "--test-limit", "use only the first N test images (default: all)", type=positive_int, metavar="N")
    add(
        data,
        "--shift",
        "move each training image by up to N pixels in both directions, anew in each epoch",
        type=pixels,
        metavar="N",
    )

    model = parser.add_argument_group("model")
    add(model, "--model", "mlp: fully connected layers; cnn: two convolutions first", choices=MODELS)
    add(model, "--hidden", "sizes of the fully connected hidden layers, or 'none'", type=widths, metavar="N,N,...")
    add(model, "--dropout", "share of the activations dropped while training", type=fraction, metavar="P")

    training = parser.add_argument_group("training")
    add(training, "--epochs", "passes over the training images", type=positive_int, metavar="N")
    add(training, "--batch-size", "images in one forward and backward pass", type=positive_int, metavar="N")
    add(
        training,
        "--accumulate",
        "passes whose gradients make one optimizer step: equal to one batch of K times the size, "
        "with the memory of one",
        type=positive_int,
        metavar="K",
    )
    add(training, "--optimizer", "momentum is sgd with momentum 0.9", choices=OPTIMIZERS)
    rates = ", ".join(f"{name} {rate * (1 - MOMENTUM.get(name, 0)):g}" for name, rate in BASE_LR.items())
    add(
        training,
        "--lr",
        f"learning rate, the highest one of a schedule (default: {rates}; "
        "with --momentum M, (1 - M) times the rate without)",
        type=positive,
        metavar="LR",
    )
    add(
        training,
        "--momentum",
        "for sgd, momentum and rmsprop (default: 0.9 for momentum, else 0)",
        type=fraction,
        metavar="M",
    )
    add(
        training,
        "--weight-decay",
        "pull of the weights towards 0 (default: 0.01 for adamw, else 0)",
        type=non_negative,
        metavar="W",
    )
    add(
        training,
        "--clip-norm",
        "scale gradients down to this total norm when they exceed it (default: never)",
        type=positive,
        metavar="NORM",
    )
    add(
        training,
        "--amp",
        "mixed precision: products in bfloat16, or in float16 with a loss scale; weights stay float32 (default: off)",
        choices=AMP,
    )
    add(training, "--scheduler", "how the learning rate changes, batch by batch", choices=SCHEDULERS)
    add(
        training,
        "--warmup",
        "epochs over which the learning rate rises (default: 0.3 of all for onecycle, else 0)",
        type=non_negative,
        metavar="EPOCHS",
    )
    add(
        training,
        "--step-size",
        "for --scheduler step: epochs between two drops (default: a third of all)",
        type=positive_int,
        metavar="EPOCHS",
    )
    add(
        training,
        "--gamma",
        "for --scheduler step: what a drop multiplies the learning rate by (default: 0.1)",
        type=positive,
        metavar="G",
    )
    add(
        training,
        "--seed",
        "decides initial weights, order of the images, dropout and shifts",
        type=seed_number,
        metavar="N",
    )

    run = parser.add_argument_group("run")
    add(
        run,
        "--device",
        "auto, cpu, cuda or cuda:N; auto is CUDA where it can be used (default: auto)",
        type=device_name,
        default="auto",
    )
    add(
        run,
        "--out",
        "folder for checkpoints, metrics, configuration and curves (default: runs/DATASET-MODEL-NUMBER)",
        metavar="DIR",
    )
    add(
        run,
        "--resume",
        "go on with the run in DIR (or in --out), with its configuration",
        nargs="?",
        const=True,
        metavar="DIR",
    )
    add(
        run,
        "--save-every",
        "seconds between checkpoints within an epoch; one is saved after each epoch anyway (default: 30)",
        type=positive,
        default=30.0,
        metavar="SECONDS",
    )
    add(
        run,
        "--log-every",
        "optimizer steps between two step losses in metrics.jsonl",
        type=positive_int,
        metavar="STEPS",
    )
    add(
        run,
        "--monitor",
        "watch gradients, updates and dead units: a table after each epoch, lines in metrics.jsonl, pictures, "
        "and TensorBoard files where tensorboardX is installed",
        action="store_true",
    )
    add(
        run,
        "--no-compile",
        "run the steps on a CUDA device one operation at a time instead of as one captured graph",
        action="store_true",
        default=False,
    )
    add(
        run,
        "--no-progress",
        "no progress bar (there is none anyway when the output is no terminal)",
        action="store_true",
        default=False,
    )


def add_example_arguments(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options that all examples have."""
    parser.add_argument("--device", type=device_name, default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--out", metavar="DIR", help="folder for the pictures (default: runs/examples)")
    parser.add_argument("--seed", type=seed_number, default=0, metavar="N", help="default: 0")
    parser.add_argument("--quick", action="store_true", help="a small part of the work, with lower goals")
    parser.add_argument(
        "--data-dir",
        type=os.path.abspath,
        metavar="DIR",
        help="a folder with the four files of MNIST (default: the user's cache, a download, or the bundled subset)",
    )
