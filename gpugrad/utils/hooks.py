"""What registering a hook returns, under PyTorch's name."""

from ..tensor import RemovableHandle

__all__ = ["RemovableHandle"]
