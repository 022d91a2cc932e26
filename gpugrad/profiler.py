"""Where the time goes: ops, their gradients, optimizer steps and regions of one's own, timed while a program runs.

``profile`` records what every thread does between its start and its end.  An event is one call: of an op (named as in
``gg.<op>``), of a node's gradient (``MulBackward``), of an optimizer, of a ``DataLoader`` for its next batch, or a
block under ``record_function``.  Events nest as the calls do.  What is no op (making tensors, writing into them by
index, clipping gradients) is part of the time of what is around it.

Time on a CUDA device is measured between two marks in the stream, around each op, and read at the end: nothing waits
in between.  Where the device waits for the host, that is part of it.  A step under ``gg.compile`` is one event for each
run of its graph, since the device gets it as one piece.
"""

from __future__ import annotations

import enum
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import ContextDecorator
from typing import Any, NamedTuple

from .backend import cuda, graph, on
from .backend.device import device
from .backend.streams import Event
from .engine import profiling

__all__ = [
    "ProfilerAction",
    "ProfilerActivity",
    "profile",
    "record_function",
    "schedule",
    "supported_activities",
    "tensorboard_trace_handler",
]

_PACKAGE = __file__.rsplit("profiler.py", 1)[0]
_REGION = "user_annotation"


class ProfilerActivity(enum.Enum):
    """What is timed: the calls on the host, the work on CUDA devices."""

    CPU = 0
    CUDA = 3


class ProfilerAction(enum.Enum):
    """What the profiler does in a step; the last step of a recording is the one to save."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


_RECORDING = (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)


def supported_activities() -> set[ProfilerActivity]:
    """What can be timed on this machine."""
    return set(ProfilerActivity) if cuda.diagnose().usable else {ProfilerActivity.CPU}


class Interval(NamedTuple):
    """From when to when, in microseconds since the profiler was made."""

    start: float
    end: float

    def elapsed_us(self) -> float:
        """How long."""
        return self.end - self.start


class _Figures:
    """Times (in microseconds) and memory (in bytes) of one event or of all of one name.

    Each ``device_...`` figure is also there as ``cuda_...``, and each time as text under its name with ``_str``.
    """

    def __init__(self, name: str, key: str, kind: str):
        self.name, self.key, self.kind = name, key, kind
        self.count = 0
        self.cpu_time_total = self.self_cpu_time_total = 0.0
        self.device_time_total = self.self_device_time_total = 0.0
        self.cpu_memory_usage = self.self_cpu_memory_usage = 0
        self.device_memory_usage = self.self_device_memory_usage = 0
        self.input_shapes: Sequence[Sequence[int]] = ()
        self.stack: Sequence[str] = ()
        self.cpu_parent: FunctionEvent | None = None

    @property
    def is_user_annotation(self) -> bool:
        """Whether it is a block under ``record_function``."""
        return self.kind == _REGION

    @property
    def cpu_time(self) -> float:
        """The mean time of a call on the host."""
        return self.cpu_time_total / self.count if self.count else 0.0

    @property
    def device_time(self) -> float:
        """The mean time of a call on the device."""
        return self.device_time_total / self.count if self.count else 0.0

    def __getattr__(self, name: str) -> Any:
        if "cuda" in name:
            return getattr(self, name.replace("cuda", "device"))
        if name.endswith("_str"):
            return _format_time(getattr(self, name.removesuffix("_str")))
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} key={self.key} self_cpu_time={self.self_cpu_time_total_str} "
            f"cpu_time={self.cpu_time_str} self_cuda_time={self.self_cuda_time_total_str} "
            f"cuda_time={self.cuda_time_str} input_shapes={self.input_shapes}>"
        )


class FunctionEvent(_Figures):
    """One call.

    Attributes:
        name, key: what was called; ``key`` is the name under which averages are taken.
        kind: "forward", "backward", "optimizer", "data" or "user_annotation".
        thread: the number of the thread, as ``threading.get_ident`` gives it.
        time_range: from when to when, on the host.
        device_range: the same on the device, if it did something there.
        cpu_parent, cpu_children: the call around it, and those inside.
        input_shapes: of its tensors, with ``record_shapes``.
        stack: where it was called, the innermost line first, with ``with_stack``.
    """

    def __init__(self, call: _Call, origin: int):
        super().__init__(call.name, "ProfilerStep*" if call.name.startswith("ProfilerStep#") else call.name, call.kind)
        self.count = 1
        self.thread, self.args = call.thread, call.args
        self.input_shapes, self.stack = call.shapes, call.stack
        self.cpu_children: list[FunctionEvent] = []
        self.time_range = Interval((call.start - origin) / 1e3, (call.end - origin) / 1e3)
        self.cpu_time_total = self.self_cpu_time_total = (call.end - call.start) / 1e3
        self.self_cpu_memory_usage, self.self_device_memory_usage = call.sizes
        self.device_index = call.device_index
        self.device_range: Interval | None = None


class _Call:
    """What is noted of a call while it is going on: little, since that takes time too."""

    start = end = 0
    shapes: Sequence[Sequence[int]] = ()
    stack: Sequence[str] = ()
    sizes = 0, 0
    args: Any = None
    device_index: int | None = None
    marks: tuple[Event, ...] = ()

    def __init__(self, recorder: _Recorder, name: str, kind: str, thread: int):
        self.recorder, self.name, self.kind, self.thread = recorder, name, kind, thread

    def finish(self, results: Iterable[Any] = (), given: Any = None) -> None:
        """The call is over; ``results`` are what it made, unless they share memory with ``given``."""
        end = time.perf_counter_ns()
        if self.device_index is not None:
            self.marks += (self.recorder.mark(self.device_index),)
        if self.recorder.profile_memory:
            on_host = sum(_size(result, given) for result in results if _place(result) is None)
            self.sizes = on_host, sum(_size(result, given) for result in results) - on_host
        self.end = end


def _root(array: Any) -> Any:
    while getattr(array, "base", None) is not None:
        array = array.base
    return array


def _size(result: Any, given: Any) -> int:
    """The bytes of a tensor or array that is neither a view nor what was given."""
    if getattr(result, "_base", None) is not None:
        return 0
    array = getattr(result, "_data", result)
    known = [_root(g) for g in (given if isinstance(given, list) else [given])]
    return 0 if array is None or any(_root(array) is g for g in known) else array.nbytes


def _place(value: Any) -> int | None:
    """The index of the CUDA device of a tensor or array."""
    if isinstance(value, device):
        return value.index
    return getattr(getattr(getattr(value, "_data", value), "device", None), "id", None)


def _call_stack() -> list[str]:
    frame, found = sys._getframe(2), []
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(_PACKAGE):
            found.append(f"{code.co_filename}({frame.f_lineno}): {code.co_name}")
        frame = frame.f_back  # type: ignore[assignment]
    return found


def _mark() -> Event:
    mark = Event(enable_timing=True)
    mark.record()
    return mark


class _Recorder:
    """What is told of each call while a profiler runs.

    Args:
        cpu, on_device: what to time.
        shapes, stacks, memory: what else to note of each call.
        origin: when time begins.
    """

    def __init__(self, cpu: bool, on_device: bool, shapes: bool, stacks: bool, memory: bool, origin: int):
        self.cpu, self.on_device = cpu, on_device
        self.record_shapes, self.with_stack, self.profile_memory = shapes, stacks, memory
        self.threads: dict[int, str] = {}
        self.calls: list[_Call] = []
        self._origin = origin
        self._bases: dict[int, tuple[Event, float]] = {}
        self._names: dict[Any, str] = {}

    def restart(self) -> None:
        """Forget what was recorded."""
        self.calls = []

    def begin(self, name: str, kind: str, inputs: Sequence[Any] = (), beside: Any = None) -> _Call:
        """A call that begins now; it counts once it is finished.

        Args:
            inputs: tensors or arrays, whose shapes are noted; other values are passed over.
            beside: a tensor on (or else) the device where the work will be, if that is not where the inputs are.
        """
        thread = threading.get_ident()
        call = _Call(self, name, kind, thread)
        if thread not in self.threads:
            self.threads[thread] = threading.current_thread().name
        if self.record_shapes:
            arrays = [getattr(value, "_data", value) for value in inputs]
            call.shapes = [list(getattr(array, "shape", ())) for array in arrays]
        if self.with_stack:
            call.stack = _call_stack()
        if self.on_device and kind != _REGION and graph.current() is None:
            call.device_index = next((i for i in map(_place, (beside, *inputs)) if i is not None), None)
            if call.device_index is not None:
                call.marks = (self.mark(call.device_index),)
        self.calls.append(call)
        call.start = time.perf_counter_ns()
        return call

    def begin_node(self, node: Any, gradient: Any) -> _Call:
        """The call for a node's gradients."""
        key = node.__class__, node.name
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = repr(node)[1:-1]
        return self.begin(name, "backward", gradient if gradient.__class__ is list else (gradient,))

    def mark(self, index: int) -> Event:
        """A mark in the current stream of a CUDA device."""
        with on(device("cuda", index)):
            if index not in self._bases:
                cuda.synchronize()
                self._bases[index] = _mark(), (time.perf_counter_ns() - self._origin) / 1e3
            return _mark()

    def finish(self) -> list[FunctionEvent]:
        """The events that are whole, in the order they began, with their figures."""
        calls = [call for call in list(self.calls) if call.end]
        if not self.cpu:
            calls = [call for call in calls if call.marks or call.kind == _REGION]
        for index in self._bases:
            with on(device("cuda", index)):
                cuda.synchronize()
        events = []
        around: dict[int, list[FunctionEvent]] = {}
        for call in calls:
            event = FunctionEvent(call, self._origin)
            events.append(event)
            if call.device_index is not None:
                base, offset = self._bases[call.device_index]
                event.device_range = Interval(*[offset + base.elapsed_time(mark) * 1e3 for mark in call.marks])
                event.device_time_total = event.self_device_time_total = event.device_range.elapsed_us()
            stack = around.setdefault(event.thread, [])
            while stack and event.time_range.end > stack[-1].time_range.end:
                stack.pop()
            if stack:
                event.cpu_parent = stack[-1]
                stack[-1].cpu_children.append(event)
            stack.append(event)
        # Inner events began after those around them: here their figures are complete when they are added to those.
        for event in reversed(events):
            event.cpu_memory_usage += event.self_cpu_memory_usage
            event.device_memory_usage += event.self_device_memory_usage
            parent = event.cpu_parent
            if parent is not None:
                parent.self_cpu_time_total -= event.cpu_time_total
                if parent.device_range is None:
                    parent.device_time_total += event.device_time_total
                else:
                    parent.self_device_time_total -= event.device_time_total
                parent.cpu_memory_usage += event.cpu_memory_usage
                parent.device_memory_usage += event.device_memory_usage
        return events


def _format_time(us: float) -> str:
    return f"{us / 1e6:.3f}s" if us >= 1e6 else f"{us / 1e3:.3f}ms" if us >= 1e3 else f"{us:.3f}us"


def _format_memory(size: int) -> str:
    for power, unit in ((3, "GB"), (2, "MB"), (1, "KB")):
        if size >= 1024**power:
            return f"{size / 1024**power:.2f} {unit}"
    return f"{size} B"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f}%" if whole else "--"


_TIMES = ("cpu_time", "cuda_time", "cpu_time_total", "cuda_time_total", "self_cpu_time_total", "self_cuda_time_total")
_MEMORY = ("cpu_memory_usage", "cuda_memory_usage", "self_cpu_memory_usage", "self_cuda_memory_usage")
_SORT_KEYS = (*_TIMES, *_MEMORY, "count")


class EventList(list[Any]):
    """Events, or their averages, to be printed as a table."""

    def __init__(self, events: Iterable[Any], profile_memory: bool = False):
        super().__init__(events)
        self._profile_memory = profile_memory

    def __str__(self) -> str:
        return self.table()

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds on the host, what overlaps in several threads counted for each."""
        return sum(event.self_cpu_time_total for event in self)

    def key_averages(self, group_by_input_shapes: bool = False, group_by_stack_n: int = 0) -> EventList:
        """The figures of all events of one name (and of the same shapes, and called from the same lines) added up.

        Args:
            group_by_input_shapes: keep calls with other shapes apart.
            group_by_stack_n: keep calls apart whose ``n`` innermost lines differ.
        """
        found: dict[Any, FunctionEventAvg] = {}
        for event in self:
            shapes = event.input_shapes if group_by_input_shapes else ()
            stack = event.stack[:group_by_stack_n]
            key = event.key, event.kind, str(shapes), *stack
            if key not in found:
                found[key] = FunctionEventAvg(event.key, event.key, event.kind)
                found[key].input_shapes, found[key].stack = shapes, stack
                found[key].cpu_parent = event.cpu_parent
            found[key] += event
        return EventList(found.values(), self._profile_memory)

    def total_average(self) -> FunctionEventAvg:
        """The figures of all events added up."""
        total = FunctionEventAvg("Total", "Total", "")
        for event in self:
            total += event
        return total

    def table(
        self,
        sort_by: str | None = None,
        row_limit: int = 100,
        max_src_column_width: int | None = 75,
        max_name_column_width: int | None = 55,
        max_shapes_column_width: int | None = 80,
        header: str | None = None,
        top_level_events_only: bool = False,
    ) -> str:
        """A table for people, a row for each event.

        Args:
            sort_by: the figure to sort by, the largest first; None leaves the order as it is. One of ``cpu_time``,
                ``cuda_time``, those with ``_total``, the latter with ``self_`` before them, ``cpu_memory_usage``,
                ``cuda_memory_usage``, these with ``self_`` before them, and ``count``.
            row_limit: the most rows; -1 for all.
            max_src_column_width, max_name_column_width, max_shapes_column_width: None for no limit.
            header: a title.
            top_level_events_only: leave out what other events called.

        Raises:
            ValueError: there is no such figure to sort by.
        """
        events: list[Any] = list(self)
        if sort_by is not None:
            figure = sort_by.replace("device", "cuda")
            if figure not in _SORT_KEYS:
                raise ValueError(f"sort_by must be one of {', '.join(_SORT_KEYS)}, but got {sort_by!r}")
            events.sort(key=lambda event: getattr(event, figure), reverse=True)
        if not events:
            return ""
        host_total = sum(event.self_cpu_time_total for event in events)
        device_total = sum(event.self_device_time_total for event in events)
        on_device = any(event.device_time_total > 0 for event in events)
        columns: list[tuple[str, Callable[[Any], str]]] = [
            ("Name", lambda e: _cut(e.key, max_name_column_width)),
            ("Self CPU %", lambda e: _share(e.self_cpu_time_total, host_total)),
            ("Self CPU", lambda e: e.self_cpu_time_total_str),
            ("CPU total %", lambda e: _share(e.cpu_time_total, host_total)),
            ("CPU total", lambda e: e.cpu_time_total_str),
            ("CPU time avg", lambda e: e.cpu_time_str),
        ]
        if on_device:
            columns += [
                ("Self CUDA", lambda e: e.self_cuda_time_total_str),
                ("Self CUDA %", lambda e: _share(e.self_cuda_time_total, device_total)),
                ("CUDA total", lambda e: e.cuda_time_total_str),
                ("CUDA time avg", lambda e: e.cuda_time_str),
            ]
        if self._profile_memory:
            columns.append(("CPU Mem", lambda e: _format_memory(e.cpu_memory_usage)))
            columns.append(("Self CPU Mem", lambda e: _format_memory(e.self_cpu_memory_usage)))
        if any(event.device_memory_usage for event in events):
            columns.append(("CUDA Mem", lambda e: _format_memory(e.cuda_memory_usage)))
            columns.append(("Self CUDA Mem", lambda e: _format_memory(e.self_cuda_memory_usage)))
        columns.append(("# of Calls", lambda e: str(e.count)))
        if any(event.input_shapes for event in events):
            columns.append(("Input Shapes", lambda e: _cut(str(e.input_shapes), max_shapes_column_width)))
        titles = [title for title, _ in columns]
        if with_stack := any(event.stack for event in events):
            titles.append("Source Location")
        rows = []
        if top_level_events_only:
            events = [event for event in events if event.cpu_parent is None]
        for event in events[: row_limit if row_limit >= 0 else None]:
            row = [text(event) for _, text in columns]
            lines = [_cut(line, max_src_column_width, at_start=True) for line in event.stack] or [""]
            rows.append([*row, lines[0]] if with_stack else row)
            rows += [[""] * len(row) + [line] for line in lines[1:]]
        widths = [max(12 * (k > 0), *[len(row[k]) for row in (titles, *rows)]) for k in range(len(titles))]
        sides = ["<" if title == "Source Location" else ">" for title in titles]
        texts = [
            "  ".join(f"{text:{side}{n}}" for text, side, n in zip(row, sides, widths, strict=True)).rstrip()
            for row in (titles, *rows)
        ]
        rule = "  ".join("-" * n for n in widths)
        top = [] if header is None else ["=" * len(rule), header]
        top += ["=" * len(rule), "This report only display top-level ops statistics"] if top_level_events_only else []
        totals = [f"Self CPU time total: {_format_time(host_total)}"]
        totals += [f"Self CUDA time total: {_format_time(device_total)}"] if on_device else []
        return "\n".join([*top, rule, texts[0], rule, *texts[1:], rule, *totals, ""])


def _cut(text: str, width: int | None, at_start: bool = False) -> str:
    if width is None or len(text) <= width:
        return text
    return "..." + text[len(text) - width + 3 :] if at_start else text[: width - 3] + "..."


class FunctionEventAvg(_Figures):
    """The figures of several calls, added up; ``count`` says of how many."""

    def __iadd__(self, other: _Figures) -> FunctionEventAvg:
        for name, value in other.__dict__.items():
            if name == "count" or "_time_" in name or "_memory_" in name:
                setattr(self, name, getattr(self, name) + value)
        return self


def schedule(
    *, wait: int, warmup: int, active: int, repeat: int = 0, skip_first: int = 0, skip_first_wait: int = 0
) -> Callable[[int], ProfilerAction]:
    """What to do in which step: wait, warm up, record, and begin again.

    Args:
        wait: steps in which nothing is recorded.
        warmup: steps that are recorded and forgotten.
        active: steps that are recorded.
        repeat: how often; 0 goes on for ever.
        skip_first: steps before all that.
        skip_first_wait: other than 0, the first time there is no waiting.

    Raises:
        AssertionError: ``active`` is below 1, or another number below 0.
    """
    if wait < 0 or warmup < 0 or active <= 0 or repeat < 0 or skip_first < 0:
        raise AssertionError(
            f"Invalid profiler schedule arguments. Got wait={wait} (need >= 0), warmup={warmup} (need >= 0), "
            f"active={active} (need > 0), repeat={repeat} (need >= 0), skip_first={skip_first} (need >= 0)."
        )
    if warmup == 0:
        warnings.warn("Profiler won't be using warmup, this can skew profiler results", stacklevel=2)
    cycle = wait + warmup + active

    def action(step: int) -> ProfilerAction:
        if step < 0:
            raise AssertionError(f"Step must be non-negative. Got {step}.")
        if step < skip_first:
            return ProfilerAction.NONE
        step += (wait if skip_first_wait else 0) - skip_first
        place = step % cycle
        if (repeat and step >= repeat * cycle) or place < wait:
            return ProfilerAction.NONE
        if place < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD if place < cycle - 1 else ProfilerAction.RECORD_AND_SAVE

    return action


def tensorboard_trace_handler(
    dir_name: str, worker_name: str | None = None, use_gzip: bool = False, use_python_export: bool = False
) -> Callable[[profile], None]:
    """What writes each recording into a folder, where TensorBoard and Perfetto find it; for ``on_trace_ready``.

    Args:
        dir_name: the folder; made if need be.
        worker_name: the start of the files' names; the host's name and the process number if left out.
        use_gzip: compress them.
        use_python_export: accepted, without effect.

    Raises:
        RuntimeError: when called, if the folder cannot be made.
    """

    def handler(prof: profile) -> None:
        import socket

        try:
            os.makedirs(dir_name, exist_ok=True)
        except OSError as error:
            raise RuntimeError(f"Can't create directory: {dir_name} ({error})") from error
        worker = worker_name or f"{socket.gethostname()}_{os.getpid()}"
        name = f"{worker}.{time.time_ns()}.pt.trace.json{'.gz' if use_gzip else ''}"
        prof.export_chrome_trace(os.path.join(dir_name, name))

    return handler


class record_function(ContextDecorator):
    """A block, or the calls of a decorated function, as an event of its own; costs next to nothing unprofiled.

    Args:
        name: what it is called.
        args: a text that is shown beside it in the trace.
    """

    def __init__(self, name: str, args: str | None = None):
        self.name, self.args = name, args
        self._call: _Call | None = None

    def _recreate_cm(self) -> record_function:
        return record_function(self.name, self.args)

    def __enter__(self) -> record_function:
        recorder = profiling.recorder
        if recorder is not None:
            self._call = recorder.begin(self.name, _REGION)
            self._call.args = self.args
        return self

    def __exit__(self, *exc: Any) -> None:
        if self._call is not None:
            self._call.finish()
            self._call = None


_starting = threading.Lock()


class profile:
    """Records what the program does inside the block, or from ``start`` to ``stop``, in all threads.

    Args:
        activities: what to time, of :class:`ProfilerActivity`; all that this machine has if left out. CUDA is left
            out, with a warning, where there is none. With CUDA alone, only what used a device is kept.
        schedule: which steps to record, see :func:`schedule`; ``step`` says where one ends. Without it all are.
        on_trace_ready: called with the profiler at the end of each recording, for instance to print or save it.
        record_shapes: note the shapes of each call's tensors.
        profile_memory: count the bytes of the results that each call makes. What it needs in between, and what is
            freed, is not counted.
        with_stack: note where each call was made; it makes calls slower.
        acc_events: keep the events of former recordings beside those of the last one.
        use_cuda: the old way to put CUDA among the activities.
        with_flops: without effect, with a warning.
        with_modules, experimental_config, custom_trace_id_callback, post_processing_timeout_s: accepted, without
            effect.
        execution_trace_observer: must be None.

    Attributes:
        step_num: how often ``step`` was called.

    Raises:
        AssertionError: ``activities`` is empty.
        TypeError: it holds something else.
        RuntimeError: when started, if a profiler runs already.
    """

    def __init__(
        self,
        *,
        activities: Iterable[ProfilerActivity] | None = None,
        schedule: Callable[[int], ProfilerAction] | None = None,
        on_trace_ready: Callable[[profile], Any] | None = None,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_flops: bool = False,
        with_modules: bool = False,
        experimental_config: Any = None,
        execution_trace_observer: Any = None,
        acc_events: bool = False,
        use_cuda: bool | None = None,
        custom_trace_id_callback: Any = None,
        post_processing_timeout_s: float | None = None,
    ):
        if execution_trace_observer is not None:
            raise NotImplementedError("profile: execution traces are not supported; leave execution_trace_observer out")
        if with_flops:
            warnings.warn("with_flops has no effect: operations are not counted", stacklevel=2)
        given = list(supported_activities() if activities is None else activities)
        if wrong := [each for each in given if not isinstance(each, ProfilerActivity)]:
            raise TypeError(f"activities must be ProfilerActivity.CPU or ProfilerActivity.CUDA, but got {wrong[0]!r}")
        wanted = set(given)
        if use_cuda is not None:
            warnings.warn("`use_cuda` is deprecated, use `activities` argument instead", FutureWarning, stacklevel=2)
            wanted = wanted - {ProfilerActivity.CUDA} | ({ProfilerActivity.CUDA} if use_cuda else set())
        if not wanted:
            raise AssertionError("No valid profiler activities found; give ProfilerActivity.CPU, CUDA or both")
        if ProfilerActivity.CUDA in wanted and not cuda.diagnose().usable:
            warnings.warn("CUDA is not available, disabling CUDA profiling", stacklevel=2)
            wanted = {ProfilerActivity.CPU}
        self.activities = wanted
        self.record_shapes, self.profile_memory, self.with_stack = record_shapes, profile_memory, with_stack
        self.acc_events = acc_events
        self.schedule = schedule or (lambda step: ProfilerAction.RECORD)
        self.record_steps = schedule is not None
        self.on_trace_ready = on_trace_ready
        self.step_num = 0
        self.current_action = self.schedule(0)
        self._step: record_function | None = None
        self._recorder: _Recorder | None = None
        self._events: EventList | None = None
        self._threads: dict[int, str] = {}
        self._origin = time.perf_counter_ns()

    def __enter__(self) -> Any:
        self.start()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.stop()

    def start(self) -> None:
        """Begin, in the first step.

        Raises:
            RuntimeError: a profiler runs already.
        """
        self._transit(ProfilerAction.NONE, self.current_action)
        self._begin_step()

    def stop(self) -> None:
        """End; ``on_trace_ready`` is called if something was recorded.

        Raises:
            AssertionError: it was not started.
        """
        self._end_step()
        self._transit(self.current_action, None)

    def step(self) -> None:
        """Say that a step of the program is over and the next begins."""
        self._end_step()
        before = self.current_action
        self.step_num += 1
        self.current_action = self.schedule(self.step_num)
        if self._recorder is not None or before is ProfilerAction.NONE:
            self._transit(before, self.current_action)
        self._begin_step()

    def _begin_step(self) -> None:
        if self.record_steps:
            self._step = record_function(f"ProfilerStep#{self.step_num}")
            self._step.__enter__()

    def _end_step(self) -> None:
        if self._step is not None:
            self._step.__exit__()
            self._step = None

    def _transit(self, before: ProfilerAction, after: ProfilerAction | None) -> None:
        """Do what is to be done between two steps; ``after`` is None at the end."""
        over = before in _RECORDING and (before is ProfilerAction.RECORD_AND_SAVE or after not in _RECORDING)
        if before in (ProfilerAction.WARMUP, ProfilerAction.RECORD) and after is ProfilerAction.NONE:
            warnings.warn(f"Incorrect schedule: {before.name} followed by NONE", stacklevel=3)
        if before is ProfilerAction.WARMUP and after in (ProfilerAction.NONE, None) and self._recorder is not None:
            profiling.recorder = self._recorder = None
        if over:
            self.stop_trace()
            is_whole = before is ProfilerAction.RECORD_AND_SAVE or after is None
            if is_whole and self.on_trace_ready is not None:
                self.on_trace_ready(self)
        if after not in (ProfilerAction.NONE, None) and (over or before is ProfilerAction.NONE):
            self.prepare_trace()
        if after in _RECORDING and (over or before not in _RECORDING):
            self.start_trace()

    def prepare_trace(self) -> None:
        """Warm up: record, to be forgotten.

        Raises:
            RuntimeError: a profiler runs already.
        """
        on_device = ProfilerActivity.CUDA in self.activities
        options = on_device, self.record_shapes, self.with_stack, self.profile_memory, self._origin
        with _starting:
            if profiling.recorder is not None:
                raise RuntimeError("a profiler runs already in this process; only one can, stop it first")
            self._recorder = profiling.recorder = _Recorder(ProfilerActivity.CPU in self.activities, *options)

    def start_trace(self) -> None:
        """Record from here; ``prepare_trace`` must have been called."""
        if self._recorder is None:
            raise AssertionError("Profiler must be initialized before starting trace: call prepare_trace() first")
        self._recorder.restart()

    def stop_trace(self) -> None:
        """Record no more."""
        if self._recorder is None:
            raise AssertionError("Profiler must be initialized before stopping trace: call start() first")
        profiling.recorder = None
        recorder, self._recorder = self._recorder, None
        former = self._events if self.acc_events and self._events is not None else []
        self._events = EventList([*former, *recorder.finish()], self.profile_memory)
        self._threads |= recorder.threads

    def events(self) -> EventList:
        """The events of the last recording that is over, in the order they began.

        Raises:
            AssertionError: nothing was recorded yet.
        """
        if self._events is None:
            state = "nothing was recorded yet" if self._recorder is None else "it is still recording: stop it first"
            raise AssertionError(f"Profiler must be initialized and have recorded something, but {state}")
        return self._events

    def key_averages(self, group_by_input_shape: bool = False, group_by_stack_n: int = 0) -> EventList:
        """The events by name (and shapes, and the lines they were called from); see ``EventList.key_averages``.

        Raises:
            AssertionError: nothing was recorded yet.
        """
        return self.events().key_averages(group_by_input_shape, group_by_stack_n)

    def export_chrome_trace(self, path: str, use_python_export: bool = False) -> None:
        """Write the events as a trace for Perfetto or chrome://tracing.

        Args:
            path: the file, compressed if its name ends in ".gz".
            use_python_export: accepted, without effect.

        Raises:
            AssertionError: nothing was recorded yet.
        """
        import gzip
        import json

        text = json.dumps({"schemaVersion": 1, "displayTimeUnit": "ms", "traceEvents": self._trace()}).encode()
        with open(path, "wb") as file:
            file.write(gzip.compress(text) if str(path).endswith(".gz") else text)

    def _trace(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        process = os.getpid()
        tracks: dict[Any, int] = {}  # a row of the picture for each thread and each device
        for event in self.events():
            args: dict[str, Any] = {"Input Dims": event.input_shapes} if event.input_shapes else {}
            args |= {"Call stack": ";\n".join(event.stack)} if event.stack else {}
            args |= {} if event.args is None else {"args": event.args}
            cat = event.kind if event.is_user_annotation else f"cpu_op,{event.kind}"
            places: list[tuple[Any, str, Interval]] = [(event.thread, cat, event.time_range)]
            if event.device_range is not None:
                places.append((f"CUDA device {event.device_index}", f"kernel,{event.kind}", event.device_range))
            for where, cat, (start, end) in places:
                tid = tracks.setdefault(where, len(tracks) + 1)
                entry = {"ph": "X", "name": event.name, "cat": cat, "pid": process, "tid": tid, "args": args}
                found.append({**entry, "ts": round(start, 3), "dur": round(end - start, 3)})
        names = {tid: self._threads.get(where, str(where)) for where, tid in tracks.items()}
        titles = [("process_name", 0, "gpugrad"), *(("thread_name", tid, name) for tid, name in names.items())]
        return [
            {"ph": "M", "name": kind, "pid": process, "tid": tid, "args": {"name": name}} for kind, tid, name in titles
        ] + found
