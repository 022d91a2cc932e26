"""What programs ask about compilation, under PyTorch's names."""

from .backend import graph
from .capture import compile

__all__ = ["compile", "is_compiling"]


def is_compiling() -> bool:
    """Whether the call going on is being captured by ``gpugrad.compile``; never on the CPU, where functions run as they
    are.
    """
    return graph.current() is not None
