"""gpugrad, PyTorch, JAX and Triton on a GPU: training steps, and kernels (workloads ``kernel:NAME:DTYPE``).

With ``GPUGRAD_BENCH_SMOKE`` PyTorch and JAX run on the CPU where they find no GPU.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

from . import gpu_kernels, peers
from .peers import Step
from .workloads import SMOKE

WARM = 5
"""Steps after which everything is compiled and captured."""


class OnGpu(peers.Peer):
    """A peer whose steps run asynchronously: their time is taken over many."""

    by_events = False

    def synchronize(self) -> None:
        raise NotImplementedError

    def empty_cache(self) -> None:
        """Give memory back to the device."""

    def kernel(self, name: str, dtype: str) -> Step | None:
        return None

    def build(self, workload: str) -> Step | None:
        gc.collect()
        self.empty_cache()
        if workload.startswith("kernel:"):
            self.by_events = True
            _, name, dtype = workload.split(":")
            return self.kernel(name, dtype)
        return super().build(workload)

    def warm(self, step: Step) -> float:
        start = time.perf_counter()
        for _ in range(WARM):
            step()
        self.synchronize()
        return time.perf_counter() - start

    def time(self, step: Step, count: int) -> list[float]:
        self.synchronize()
        measure = self.device_seconds if self.by_events else self.wall_seconds
        return [measure(step, count) / count]

    def wall_seconds(self, step: Step, count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            step()
        self.synchronize()
        return time.perf_counter() - start

    def event(self) -> Any:
        """A CUDA event that keeps the time; None where there is no such thing."""
        return None

    def device_seconds(self, step: Step, count: int) -> float:
        first, last = self.event(), self.event()
        if first is None:
            return self.wall_seconds(step, count)
        first.record()
        for _ in range(count):
            step()
        last.record()
        last.synchronize()
        return first.elapsed_time(last) / 1e3

    def check(self) -> None:
        self.synchronize()


class Gpugrad(OnGpu, peers.Gpugrad):
    device = "cuda"

    def __init__(self, threads: int, tf32: bool = False):
        super().__init__(threads)
        from gpugrad.backend import fused

        self.lib.cuda.init()
        self.lib.backends.cuda.matmul.allow_tf32 = tf32
        self.fused = fused

    def synchronize(self) -> None:
        self.lib.cuda.synchronize()

    def empty_cache(self) -> None:
        self.lib.cuda.empty_cache()

    def event(self) -> Any:
        return self.lib.cuda.Event(enable_timing=True)

    def kernel(self, name: str, dtype: str) -> Step:
        return gpu_kernels.build(gpu_kernels.Env(self.lib, self.device, fused=self.fused), name, dtype)


class Captured(Gpugrad):
    def _step(self, step: Callable[..., Any], inputs: Any, targets: Any) -> Step:
        compiled = self.lib.compile(step)
        return lambda: compiled(inputs, targets)


class Torch(OnGpu, peers.Torch):
    def __init__(self, threads: int, tf32: bool = False):
        super().__init__(threads)
        import torch

        if torch.cuda.is_available():
            self.device = "cuda"
        elif not SMOKE:
            raise RuntimeError("PyTorch finds no GPU")
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        self.adam_options = {"fused": True}
        self.env = gpu_kernels.Env(torch, self.device, fused_options=self.adam_options)

    def synchronize(self) -> None:
        if self.device == "cuda":
            self.lib.cuda.synchronize()

    def empty_cache(self) -> None:
        self.lib.cuda.empty_cache()

    def event(self) -> Any:
        return self.lib.cuda.Event(enable_timing=True) if self.device == "cuda" else None

    def kernel(self, name: str, dtype: str) -> Step | None:
        return gpu_kernels.build(self.env, name, dtype)


class TorchCompiled(Torch):
    """torch.compile: of a kernel, and of a step's forward and loss (and so their gradients) with CUDA graphs."""

    def kernel(self, name: str, dtype: str) -> Step | None:
        if name == gpu_kernels.COPY:
            return None
        import torch._functorch.config

        torch._functorch.config.donated_buffer = False  # it forbids a second backward, which kernels are timed with
        torch._dynamo.reset()
        self.env = gpu_kernels.Env(torch, self.device, wrap=torch.compile)
        return super().kernel(name, dtype)

    def _forward(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return self.lib.compile(function, mode="reduce-overhead")


class TorchGraph(Torch):
    """A training step in a graph captured by hand, and run on batches that are copied to where it reads them."""

    def __init__(self, threads: int, tf32: bool = False):
        super().__init__(threads, tf32)
        self.adam_options = {"fused": True, "capturable": True}

    def kernel(self, name: str, dtype: str) -> Step | None:
        return None

    def _step(self, step: Callable[..., Any], inputs: Any, targets: Any) -> Step:
        cuda = self.lib.cuda
        fixed = inputs.clone(), targets.clone()
        side = cuda.Stream()
        side.wait_stream(cuda.current_stream())
        with cuda.stream(side):
            for _ in range(3):
                step(*fixed)
        cuda.current_stream().wait_stream(side)
        graph = cuda.CUDAGraph()
        with cuda.graph(graph):
            step(*fixed)

        def run() -> None:
            fixed[0].copy_(inputs)
            fixed[1].copy_(targets)
            graph.replay()

        return run


class Triton(Torch):
    """Kernels written in Triton by hand."""

    def __init__(self, threads: int, tf32: bool = False):
        super().__init__(threads, tf32)
        import triton

        self.version = triton.__version__

    def kernel(self, name: str, dtype: str) -> Step | None:
        from . import triton_kernels

        self.env.dtype = getattr(self.lib, dtype)
        shape = gpu_kernels.KERNELS[name].shape
        if name in ("softmax", "softmax_long"):
            x = self.env.randn(*shape)
            return lambda: triton_kernels.softmax(x)
        if name == "layer_norm":
            tensors = self.env.randn(*shape), self.env.randn(shape[1]), self.env.randn(shape[1])
            return lambda: triton_kernels.layer_norm(*tensors)
        return None


class Jax(OnGpu, peers.Jax):
    waits = False

    def __init__(self, threads: int, tf32: bool = False):
        super().__init__(threads)
        if self.jax.default_backend() != "gpu" and not SMOKE:
            raise RuntimeError("JAX finds no GPU")
        self.jax.config.update("jax_default_matmul_precision", "tensorfloat32" if tf32 else "highest")

    def synchronize(self) -> None:
        self.jax.block_until_ready(self.state)


PEERS: dict[str, type[OnGpu]] = {
    "gpugrad": Gpugrad,
    "gpugrad captured": Captured,
    "torch": Torch,
    "torch.compile": TorchCompiled,
    "torch.cuda.graph": TorchGraph,
    "triton": Triton,
    "jax": Jax,
}
