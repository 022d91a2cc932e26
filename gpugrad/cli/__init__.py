"""The ``gpugrad`` command: ``train``, ``predict``, ``examples`` and ``info``.

Each command lives in a module of its own, imported when it runs.  What a user can
expect to go wrong is a :class:`CommandError`: one line and an exit code (2 for a
wrong command line, 1 for what fails while running), never a traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..version import __version__


class CommandError(Exception):
    """A failure that the user can understand and mend: printed as one line.

    Args:
        message: what was given, what went wrong, what to do.
        code: the exit code.
    """

    def __init__(self, message: str, code: int = 1):
        super().__init__(message)
        self.code = code


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; ``command`` names the chosen command."""
    from . import config

    parser = argparse.ArgumentParser(
        prog="gpugrad",
        description="Train small networks on the CPU or an NVIDIA GPU, use them, and see what this machine can do.",
    )
    parser.add_argument("--version", action="version", version=f"gpugrad {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    train = commands.add_parser(
        "train",
        help="train a network on MNIST or Fashion-MNIST",
        description="Train a network on MNIST or Fashion-MNIST. Without options: an MLP that passes 98% on MNIST.",
    )
    config.add_arguments(train)

    predict = commands.add_parser(
        "predict",
        help="classify images with a trained network",
        description="Classify images with a trained network.",
    )
    predict.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="the folder of a run (its best checkpoint is taken) or a checkpoint file",
    )
    predict.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help="a PNG, another format that Pillow reads, or an idx file of images (.gz too)",
    )
    predict.add_argument(
        "--device", type=config.device_name, default="auto", help="auto, cpu, cuda or cuda:N (default: auto)"
    )
    predict.add_argument(
        "--limit",
        type=config.positive_int,
        default=10,
        metavar="N",
        help="images to take from an idx file (default: 10)",
    )
    predict.add_argument(
        "--top", type=config.positive_int, default=3, metavar="K", help="classes to print for an image (default: 3)"
    )
    predict.add_argument(
        "--plot", metavar="FILE", help="also draw the images with their predictions (needs the plot extra)"
    )

    examples = commands.add_parser(
        "examples",
        help="short programs that show what gpugrad does: a list, one of them, or all with a report",
        description="Without NAME: list the examples.",
    )
    examples.add_argument("name", nargs="?", metavar="NAME", help="the example to run")
    examples.add_argument("--all", action="store_true", help="run all of them and write report.md")
    config.add_example_arguments(examples)

    commands.add_parser(
        "info",
        help="what this machine can do, and why CUDA can or cannot be used",
        description="Print versions, the processor, the CUDA devices or why there are none, and the optional extras.",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's own) and return its exit code.

    Raises:
        SystemExit: after ``--help``, ``--version`` or a usage error.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 2
    try:
        if args.command == "train":
            from .train import run
        elif args.command == "predict":
            from .predict import run
        elif args.command == "examples":
            from ..examples.run import command as run
        else:
            from .info import run
        return run(args)
    except CommandError as error:
        return _fail(args.command, str(error), error.code)
    except MemoryError as error:
        detail = f" ({error})" if str(error) else ""
        return _fail(args.command, f"out of memory{detail}: try a smaller --batch-size, or a smaller model", 1)
    except KeyboardInterrupt:
        return _fail(args.command, "interrupted", 130)
    except BrokenPipeError:
        # The reader of our output went away (`gpugrad info | head`); keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _fail(command: str, message: str, code: int) -> int:
    print(f"gpugrad {command}: {message}", file=sys.stderr)
    return code
