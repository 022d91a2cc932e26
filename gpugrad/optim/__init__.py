"""Optimizers and learning-rate schedulers."""

from . import lr_scheduler, optimizer
from .algorithms import SGD, Adadelta, Adagrad, Adam, AdamW, RAdam, RMSprop
from .lbfgs import LBFGS
from .optimizer import Optimizer

__all__ = [
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "lr_scheduler",
    "optimizer",
]
