"""The seed systems of this project, one short program each; together they are its tutorial.

``gpugrad examples`` lists them, ``gpugrad examples NAME`` (or ``python -m gpugrad.examples.NAME``) runs one.
"""

from .run import NAMES, Run, start

__all__ = ["NAMES", "Run", "start"]
