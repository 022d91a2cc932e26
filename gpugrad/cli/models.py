"""The networks, optimizers and schedules that ``gpugrad train`` can choose from."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

from .. import nn, optim
from ..optim import lr_scheduler
from .config import Config

CHANNELS = (16, 32)


def build_model(config: Config) -> nn.Module:
    """The network of a configuration: images of shape (N, 1, 28, 28) in, logits of shape (N, 10) out."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    width = 28 * 28
    if config.model == "cnn":
        before = 1
        for k, channels in enumerate(CHANNELS, start=1):
            layers[f"conv{k}"] = nn.Conv2d(before, channels, 5, padding=2)
            layers[f"norm{k}"] = nn.BatchNorm2d(channels)
            layers[f"conv{k}_relu"] = nn.ReLU()
            layers[f"pool{k}"] = nn.MaxPool2d(2)
            before, width = channels, width // 4
        width *= before
    layers["flatten"] = nn.Flatten()
    if config.model == "cnn" and config.dropout:
        layers["conv_dropout"] = nn.Dropout(config.dropout)
    for k, units in enumerate(config.hidden, start=1):
        layers[f"hidden{k}"] = nn.Linear(width, units)
        layers[f"relu{k}"] = nn.ReLU()
        if config.dropout:
            layers[f"dropout{k}"] = nn.Dropout(config.dropout)
        width = units
    layers["output"] = nn.Linear(width, 10)
    return nn.Sequential(layers)


def build_optimizer(config: Config, model: nn.Module) -> Any:
    """The optimizer of a configuration, for the parameters of ``model``."""
    options: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.momentum is not None:
        options["momentum"] = config.momentum
    kind = {
        "sgd": optim.SGD, "momentum": optim.SGD, "rmsprop": optim.RMSprop, "adam": optim.Adam, "adamw": optim.AdamW,
    }[config.optimizer]  # fmt: skip
    return kind(model.parameters(), **options)


def build_scheduler(config: Config, optimizer: Any, steps_per_epoch: int) -> Any:
    """The schedule of a configuration, to be stepped after each optimizer step."""
    total = config.epochs * steps_per_epoch
    warm = round(config.warmup * steps_per_epoch)

    def factor(step: int) -> float:
        """What the learning rate is multiplied by at a step, counted from 0."""
        if step < warm:
            done = (step + 1) / (warm + 1)
            return _ease(0.04, 1.0, done) if config.scheduler == "onecycle" else done
        done = (step - warm) / max(1, total - warm)
        if config.scheduler == "step":
            assert config.step_size is not None
            assert config.gamma is not None
            return config.gamma ** (step // (config.step_size * steps_per_epoch))
        if config.scheduler == "linear":
            return 1.0 - done
        if config.scheduler in ("cosine", "onecycle"):
            return _ease(1.0, 0.0, done)
        return 1.0

    return lr_scheduler.LambdaLR(optimizer, factor)


def _ease(start: float, end: float, done: float) -> float:
    """From ``start`` to ``end`` along half a cosine, as ``done`` goes from 0 to 1."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
