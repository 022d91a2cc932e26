"""The profiler under the names it had before ``gg.profiler``."""

from __future__ import annotations

import warnings
from typing import Any

from .. import profiler
from ..profiler import EventList, FunctionEventAvg, ProfilerActivity, record_function

__all__ = ["profile", "record_function"]


class profile(profiler.profile):
    """Records what the program does inside the block; see ``gg.profiler.profile``.

    Args:
        enabled: False records nothing.
        use_cuda: also time CUDA devices; the same as ``use_device="cuda"``.
        use_device: "cuda" or None.
        record_shapes, with_flops, profile_memory, with_stack, with_modules, acc_events: as there.
        use_cpu: time calls on the host.
        use_kineto, experimental_config, custom_trace_id_callback, post_processing_timeout_s: accepted, without effect.

    Raises:
        ValueError: ``use_device`` is another device.
    """

    def __init__(
        self,
        enabled: bool = True,
        *,
        use_cuda: bool = False,
        use_device: str | None = None,
        record_shapes: bool = False,
        with_flops: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_modules: bool = False,
        use_kineto: bool = False,
        use_cpu: bool = True,
        experimental_config: Any = None,
        acc_events: bool = False,
        custom_trace_id_callback: Any = None,
        post_processing_timeout_s: float | None = None,
    ):
        if use_device not in (None, "cuda"):
            raise ValueError(f"use_device must be 'cuda' or None, but got {use_device!r}")
        if use_cuda:
            warnings.warn("use_cuda is deprecated, use use_device='cuda' instead", FutureWarning, stacklevel=2)
        self.enabled = enabled
        activities = [ProfilerActivity.CPU] if use_cpu else []
        activities += [ProfilerActivity.CUDA] if use_cuda or use_device else []
        super().__init__(
            activities=activities,
            record_shapes=record_shapes,
            with_flops=with_flops,
            profile_memory=profile_memory,
            with_stack=with_stack,
            acc_events=acc_events,
        )

    def start(self) -> None:
        """Begin, if it is enabled."""
        if self.enabled:
            super().start()

    def stop(self) -> None:
        """End."""
        if self.enabled:
            super().stop()

    def __str__(self) -> str:
        return "<unfinished profiler>" if self._events is None else str(self._events)

    @property
    def function_events(self) -> EventList:
        """What was recorded."""
        return self.events()

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds on the host."""
        return self.events().self_cpu_time_total

    def table(self, *args: Any, **kwargs: Any) -> str:
        """A row for each event; see ``EventList.table``."""
        return self.events().table(*args, **kwargs)

    def total_average(self) -> FunctionEventAvg:
        """The figures of all events added up."""
        return self.events().total_average()
