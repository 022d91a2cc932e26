"""Optimizers and learning-rate schedulers."""

from . import lr_scheduler, optimizer
from .algorithms import SGD, Adadelta, Adagrad, Adam, AdamW, RAdam, RMSprop
from .optimizer import Optimizer

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Optimizer", "RAdam", "RMSprop", "lr_scheduler", "optimizer"]
