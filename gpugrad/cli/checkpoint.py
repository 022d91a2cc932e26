"""The folder of a run: checkpoints, metrics and configuration, written so that a kill at any moment loses nothing.

====================  ==================================================================
config.json           the resolved configuration, versions, device and source of the data
metrics.jsonl         a line for each epoch, and one every few optimizer steps
last.safetensors      the newest checkpoint: all it takes to go on
previous.safetensors  the one before, should the newest not be readable
best.safetensors      weights and configuration of the epoch with the best test accuracy
curves.png            loss and accuracy (with the plot extra)
====================  ==================================================================
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .. import io
from ..version import __version__
from . import CommandError
from .config import Config

LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"
NEW = "new.safetensors"  # what becomes the last one; left behind by a kill between two renamings
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint file.

    Raises:
        CommandError: it cannot be read, is damaged, or is no checkpoint of ``gpugrad train``.
    """
    try:
        state = io.load(path)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {_reason(error)}") from None
    except ValueError as error:
        raise CommandError(str(error)) from None
    if not isinstance(state, dict) or not {"config", "model", "progress"} <= state.keys():
        raise CommandError(f"{path} is no checkpoint of gpugrad train: it lacks the configuration of a run")
    return state


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Where the contents of a checkpoint are put to use: one that another version wrote may not fit.

    Raises:
        CommandError: instead of what the misfit raises.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CommandError(f"the checkpoint in {path} does not fit gpugrad {__version__}: {reason}") from None


def moment_of(state: dict[str, Any]) -> str:
    """When in its run a checkpoint was made, in words."""
    epoch, position, step = (state["progress"][name] for name in ("epoch", "position", "step"))
    if position:
        return f"step {step}, in epoch {epoch + 1}"
    return f"step {step}, the end of epoch {epoch}" if epoch else "the beginning"


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)


class RunFolder:
    """The folder of one run.

    Args:
        path: need not exist yet; see ``create``.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._saved = ""

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def has_run(self) -> bool:
        """Whether a run was started here, even if it did not get to a checkpoint."""
        return any((self / name).exists() for name in ("config.json", LAST, PREVIOUS))

    def create(self) -> None:
        """Make the folder and make sure that files can be written in it.

        Raises:
            CommandError: they cannot.
        """
        probe = self / f".write-test-{os.getpid()}"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"x")
            probe.unlink()
        except OSError as error:
            raise CommandError(
                f"cannot write in {self.path}: {_reason(error)}. Choose another folder with --out"
            ) from None

    def discard(self) -> None:
        """Remove the folder if nothing is in it."""
        with suppress(OSError):
            self.path.rmdir()

    def write_config(self, config: Config, facts: dict[str, Any]) -> None:
        """Write config.json: the configuration, and ``facts`` about where it ran."""
        text = json.dumps({**config.to_dict(), **facts}, indent=2) + "\n"
        with self._writing("config.json"), io.atomic_write(self / "config.json") as file:
            file.write(text.encode())

    def read_config(self) -> dict[str, Any]:
        """The configuration in config.json.

        Raises:
            CommandError: there is none, or it cannot be read.
        """
        names = Config.__dataclass_fields__
        try:
            values = json.loads((self / "config.json").read_text())
            return {name: values[name] for name in names}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CommandError(f"cannot read {self / 'config.json'}: {_reason(error)}") from None

    def save(self, state: dict[str, Any], moment: str) -> None:
        """Save a checkpoint; the one before is kept.

        Raises:
            CommandError: it cannot be written; the last good checkpoint is still there.
        """
        with self._writing(LAST):
            io.save(state, self / NEW)
            if (self / LAST).exists():
                os.replace(self / LAST, self / PREVIOUS)
            os.replace(self / NEW, self / LAST)
        self._saved = moment

    def save_best(self, state: dict[str, Any]) -> None:
        """Save the best checkpoint so far."""
        with self._writing(BEST):
            io.save(state, self / BEST)

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint that can be read, None when the run never saved one.

        Raises:
            CommandError: there are checkpoints, and none of them can be read.
        """
        problems = []
        for name in (LAST, NEW, PREVIOUS):
            if not (self / name).exists():
                continue
            try:
                state = read_checkpoint(self / name)
            except CommandError as error:
                problems.append(str(error))
                continue
            for problem in problems:
                print(f"{problem}. Going on from {name} instead", file=sys.stderr)
            if name == NEW:
                with self._writing(LAST):
                    os.replace(self / NEW, self / LAST)
            with fitting(self.path):
                self._saved = moment_of(state)
            return state
        if problems:
            raise CommandError(f"{'; '.join(problems)}. No checkpoint is left to go on from: start a new run")
        return None

    def log(self, record: dict[str, Any]) -> int:
        """Append a line to metrics.jsonl; returns the length of the file in bytes."""
        with self._writing("metrics.jsonl"), open(self / "metrics.jsonl", "ab") as file:
            file.write(json.dumps(record).encode() + b"\n")
            return file.tell()

    def rewind_log(self, size: int) -> None:
        """Cut metrics.jsonl back to what was written before a checkpoint."""
        with self._writing("metrics.jsonl"), open(self / "metrics.jsonl", "ab") as file:
            file.truncate(min(size, file.tell()))

    def metrics(self) -> list[dict[str, Any]]:
        """What metrics.jsonl holds."""
        return [json.loads(line) for line in (self / "metrics.jsonl").read_text().splitlines()]

    def last_good(self) -> str:
        """A sentence that says which checkpoint is there and how to go on from it."""
        if not self._saved:
            return "No checkpoint was saved yet"
        return f"The last good checkpoint is {self / LAST} ({self._saved})"

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            advice = "Make room" if error.errno in _FULL else "Mend that"
            how = f"{advice} and go on with: gpugrad train --resume {self.path}" if self._saved else ""
            raise CommandError(
                f"cannot write {self / name}: {_reason(error)}. {self.last_good()}. {how}".rstrip()
            ) from None
