"""The wrappers that PyTorch programs put around their models to use several GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .modules.module import Module


class DataParallel(Module):
    """Runs ``module`` as it is, on the one device where it lives.

    Raises:
        RuntimeError: several devices are asked for by ``device_ids``; that is not supported.
    """

    def __init__(
        self, module: Module, device_ids: Sequence[Any] | None = None, output_device: Any = None, dim: int = 0
    ):
        super().__init__()
        if device_ids is not None and len(device_ids) > 1:
            raise RuntimeError(
                f"DataParallel: using several devices ({list(device_ids)}) is not supported; give one, or none"
            )
        self.module = module
        self.device_ids, self.output_device, self.dim = list(device_ids or []), output_device, dim

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Call the module."""
        return self.module(*inputs, **kwargs)


class DistributedDataParallel(Module):
    """Trains a model in several processes, in PyTorch; here no more than a name for programs to import.

    Raises:
        RuntimeError: one is made.
    """

    def __init__(self, module: Module, *args: Any, **kwargs: Any):
        raise RuntimeError("DistributedDataParallel: distributed training is not supported; use the module itself")
