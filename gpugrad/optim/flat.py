"""Optimizers whose parameters and state live in flat buffers, updated in blocks that stay in cache.

An update reads and writes each number once per step.  On the CPU it runs block by
block, all its ufuncs on one block before the next: a block and its scratch space fit
into the level-2 cache.  On a CUDA device large parameters are blocks of their own and
the others are gathered into one, and each block is updated by one kernel where there is one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ..backend import cpu, device_of, graph, lazy, module_of, on, transfer
from ..backend.cpu import BLOCK
from ..backend.dtypes import float32, float64, get_default_dtype
from ..backend.fused import optim as kernels
from ..backend.quiet import quiet
from ..engine import enable_grad
from ..ops.core import fuses
from ..tensor import Tensor
from .optimizer import Optimizer

_DEVICE_BLOCK = 1 << 18  # elements of small parameters that are gathered, on a device where there is no kernel
_BLOCKS_EACH = 2  # fewer are not worth handing to another thread

Array = Any
State = dict[str, Any]


def _holders(tensor: Tensor) -> tuple[int, int]:
    """The references to a tensor's array, and to the array whose memory that one is a view of (0 if none)."""
    return sys.getrefcount(tensor._data), 0 if tensor._data.base is None else sys.getrefcount(tensor._data.base)


_SOLE_HOLDER = {_holders(Tensor._wrap(np.empty(1))), _holders(Tensor._wrap(np.empty(2)[1:]))}


def _is_alone(tensor: Tensor) -> bool:
    """Whether nothing but the tensor refers to its memory: then nobody notices when it moves."""
    data, base = tensor._data, tensor._data.base
    owned = base is None or (type(base) is type(data) and base.base is None)
    del data, base
    return owned and _holders(tensor) in _SOLE_HOLDER


class _Block(NamedTuple):
    """A stretch of a bucket: the parameters ``first`` to ``last - 1``, or a part of one."""

    first: int
    last: int
    part: slice | None
    values: Array
    state: tuple[Array, ...]
    scratch: tuple[Array, ...]


class _Bucket:
    """Parameters of one group, dtype and device that were first updated in the same step, with their state.

    The values of most move into one buffer, small ones first, so that several make one block;
    the parameters become views of it.  A parameter whose memory something else refers to (a
    detached tensor, a NumPy view, another optimizer) stays where it is and is updated there.
    To be made while the parameters' device is the current one.

    Args:
        params: the parameters.
        buffers: the names of the state buffers and what they are filled with.
        state: what is known of each parameter already; its tensors are replaced by views of the buffers.
        scalars: the names of numbers that are kept for each parameter, and what they are at first.
        counts: whether the number of steps is part of the state.
        scratch: how many scratch blocks an update needs.
    """

    _gap = 1  # parameters start at multiples of this in the buffers

    def __init__(
        self,
        params: Iterable[Tensor],
        buffers: dict[str, float],
        scalars: dict[str, float],
        state: Any,
        counts: bool,
        scratch: int,
    ):
        params = list(params)
        like = params[0]._data
        self.xp = xp = module_of(like)
        self.dtype, self.device = like.dtype, device_of(like)
        del like  # else the first would not be alone
        self.names = tuple(buffers)
        block = BLOCK if xp is np else _DEVICE_BLOCK
        movable = {id(p) for p in params if _is_alone(p)}
        self.params = sorted(params, key=lambda p: (id(p) not in movable, p._data.size > block // 4))
        self.moved = len(movable)
        # Gathering the gradients of large ones would cost more than the calls it saves.
        self.small = sum(id(p) in movable and p._data.size <= block // 4 for p in params)
        self.starts = [0]
        for p in self.params:
            self.starts.append(-(-(self.starts[-1] + p._data.size) // self._gap) * self._gap)
        make = cpu.empty if xp is np else xp.empty
        values = make(self.starts[self.moved], self.dtype)
        self.state = {name: make(self.starts[-1], self.dtype) for name in buffers}
        for name, value in buffers.items():
            self.state[name].fill(value)
        self.steps = self._no_steps()
        self.scalars = {name: self._scalar(value) for name, value in scalars.items()}
        self.views: list[Array] = []
        self.entries: list[State | None] = []
        self.contents: list[list[Any]] = []  # of the entries; held, so that their ids are not used again
        self.ids: list[list[int]] = []
        flat: list[Array] = []
        for k, p in enumerate(self.params):
            if k < self.moved:
                slot = values[self.starts[k] :][: p._data.size]
                slot.reshape(p._data.shape)[...] = p._data
                p._data = slot.reshape(p._data.shape)
                flat.append(slot)
            else:
                flat.append(p._data.reshape(-1) if p._data.flags.c_contiguous else None)
            self.views.append(p._data)
            self._enter(k, state, counts)
        self.parts = self._cut(flat, values, block, scratch)

    def _no_steps(self) -> Array:
        return np.zeros(len(self.params), _scalar_dtype())

    def _scalar(self, value: float) -> Array:
        return np.full(len(self.params), value, _scalar_dtype())

    def _of(self, array: Array, k: int) -> Array:
        """Where the number of steps, or another number, of a parameter is kept."""
        return array[k : k + 1]

    def _enter(self, k: int, state: Any, counts: bool) -> None:
        """Take over what ``state`` holds for a parameter, and put views of the buffers there."""
        if not (self.names or counts):
            self.entries.append(None)
            self.contents.append([])
            self.ids.append([])
            return
        entry = state.setdefault(self.params[k], {})
        known = all(isinstance(entry.get(name), Tensor) for name in self.names)
        steps = self._of(self.steps, k)
        steps.fill(float(entry.get("step", 0)) if counts else known)
        if counts:
            entry["step"] = Tensor._wrap(steps.reshape(()))
        for name, values in self.scalars.items():
            if name in entry:
                self._of(values, k).fill(float(entry[name]))
            entry[name] = Tensor._wrap(self._of(values, k).reshape(()))
        for name, buffer in self.state.items():
            view = buffer[self.starts[k] :][: self.views[k].size].reshape(self.views[k].shape)
            if isinstance(entry.get(name), Tensor):
                view[...] = transfer(entry[name]._data, self.device)
            entry[name] = Tensor._wrap(view)
        self.entries.append(entry)
        self.contents.append([*entry.values()])
        self.ids.append([*map(id, entry.values())])

    def _cut(self, flat: list[Array], values: Array, block: int, scratch: int) -> list[list[_Block]]:
        """Stretches of at most ``block`` elements: parts of a parameter, or several that lie side by side.

        In lists with scratch space of their own, so that each list may go to another thread.
        """
        cuts: list[tuple[int, int, int, int]] = []  # first and last parameter, start and stop in the buffers
        k = 0
        while k < len(flat):
            last = k + 1
            while last < self.small and self.starts[last + 1] - self.starts[k] <= block:
                last += 1
            start, stop = self.starts[k], self.starts[last]
            parts = 1 if flat[k] is None or self.xp is not np else -(-(stop - start) // block)
            length = -(-(stop - start) // max(parts, 1))
            cuts += [(k, last, a, min(a + length, stop)) for a in range(start, stop, max(length, 1))]
            k = last
        longest = max((b - a for _, _, a, b in cuts), default=0)
        count = min(cpu.get_num_threads(), len(cuts) // _BLOCKS_EACH) if self.xp is np else 1
        lists: list[list[_Block]] = [[] for _ in range(max(count, 1))]
        # One more than the update needs, to gather gradients in.
        make = cpu.empty if self.xp is np else self.xp.empty
        spaces = [[make(longest, self.dtype) for _ in range(scratch + 1)] for _ in lists]
        for i, (first, last, a, b) in enumerate(cuts):
            which = i * len(lists) // len(cuts)
            pieces = tuple(each[: b - a] for each in spaces[which])
            offset = self.starts[first]
            part = None if b - a == self.starts[last] - offset else slice(a - offset, b - offset)
            data = values[a:b] if last > first + 1 else flat[first] if part is None else flat[first][part]
            state = tuple(buffer[a:b] for buffer in self.state.values())
            lists[which].append(_Block(first, last, part, data, state, pieces))
        return lists

    def holds(self, k: int, names: tuple[str, ...], entry: Any) -> bool:
        """Whether a parameter's values and state are still where this bucket put them."""
        ours = self.entries[k]
        if names != self.names or (
            ours is not None and (entry is not ours or [*map(id, entry.values())] != self.ids[k])
        ):
            return False
        return self.params[k]._data is self.views[k] or self._adopt(k)

    def can_update(self, active: Collection[int]) -> bool:
        """Whether it can update just these parameters."""
        return True

    def _adopt(self, k: int) -> bool:
        """Copy the values of a parameter whose ``data`` was assigned into the buffer, where that can be done."""
        p, view = self.params[k], self.views[k]
        new = p._data
        fits = new.shape == view.shape and new.dtype == view.dtype and device_of(new) == self.device
        del new
        if k >= self.moved or not fits or not _is_alone(p):
            return False
        view[...] = p._data
        p._data = view
        return True

    def _gradients(self, active: Collection[int]) -> list[Array]:
        """The flat gradients of the ``active`` parameters, which are about to change."""
        gradients: list[Array] = [None] * len(self.params)
        for k in active:
            p = self.params[k]
            g = p._grad._data  # type: ignore[union-attr]
            if g.size != self.views[k].size or g.dtype != self.dtype:
                raise RuntimeError(
                    f"a parameter of shape {tuple(p.shape)} and dtype {p.dtype} has a gradient of shape {g.shape} and "
                    f"dtype {g.dtype}: call zero_grad() after changing a parameter's shape or dtype"
                )
            gradients[k] = g.reshape(-1)
            p._bump()
        return gradients

    def run(self, active: Collection[int], optimizer: FlatOptimizer, group: dict[str, Any]) -> None:
        """Update the ``active`` parameters."""
        if graph.current() is not None:
            raise RuntimeError(
                f"a step of {type(optimizer).__name__} on parameters of dtype {self.dtype} has no kernel here, and "
                "cannot be captured without one"
            )
        update: Callable[..., None] = optimizer._update
        if len(active) == len(self.params):
            self.steps += 1
        else:
            self.steps[list(active)] += 1
        counts = [*zip(self.steps.tolist(), *self.scalars.values(), strict=True)]
        known = {each: optimizer._numbers(group, int(each[0]), *each[1:]) for each in {counts[k] for k in active}}
        gradients = self._gradients(active)
        complete = len(active) == len(self.params) and len(known) == 1
        xp = self.xp

        def work(low: int, high: int) -> None:
            for first, last, part, values, state, scratch in chain.from_iterable(self.parts[low:high]):
                if last - first == 1:
                    g = gradients[first]
                    if g is None:
                        continue
                    if part is not None:
                        g = g[part]
                    elif values is None:
                        self._update_strided(first, g, state, scratch, known[counts[first]], update)
                        continue
                elif complete or _are_alike(gradients[first:last], counts[first:last]):
                    g = xp.concatenate(gradients[first:last], out=scratch[-1])
                else:
                    for k in range(first, last):
                        if gradients[k] is not None:
                            a, b = (self.starts[i] - self.starts[first] for i in (k, k + 1))
                            cut = [tuple(each[a:b] for each in arrays) for arrays in ((values,), state, scratch)]
                            update(xp, *cut[0], gradients[k], *cut[1:], known[counts[k]])
                    continue
                update(xp, values, g, state, scratch, known[counts[first]])

        cpu.parallel(work, len(self.parts), 1)
        for k in active if self.scalars else ():
            after = optimizer._scalars_after(group, int(counts[k][0]), *counts[k][1:])
            for values, value in zip(self.scalars.values(), after, strict=True):
                values[k] = value

    def _update_strided(
        self, k: int, g: Array, state: Any, scratch: Any, numbers: Any, update: Callable[..., None]
    ) -> None:
        """Update a parameter that stays where it is and has gaps between its elements."""
        values = self.views[k].flatten()
        update(self.xp, values, g, state, scratch, numbers)
        self.views[k][...] = values.reshape(self.views[k].shape)


def _scalar_dtype() -> np.dtype:
    return float64 if get_default_dtype() == float64 else float32


def _are_alike(gradients: list[Array], counts: list[Any]) -> bool:
    return all(g is not None for g in gradients) and counts.count(counts[0]) == len(counts)


class _DeviceBucket(_Bucket):
    """A bucket on a CUDA device whose updates are kernels.

    Learning rate and step count are in device memory, so that a captured step can be run again.
    """

    _gap = kernels.GAP

    def __init__(
        self,
        params: Iterable[Tensor],
        buffers: dict[str, float],
        scalars: dict[str, float],
        state: Any,
        counts: bool,
        scratch: int,
    ):
        super().__init__(params, buffers, scalars, state, counts, 0)
        self.numbers = kernels.numbers()
        self.rate = Rate(self.xp.zeros(1, np.float64))

    def _no_steps(self) -> Array:
        return self.xp.zeros(1, np.float64)

    def _scalar(self, value: float) -> Array:
        return self.xp.full(1, value, _scalar_dtype())

    def _of(self, array: Array, k: int) -> Array:
        return array

    def _cut(self, flat: list[Array], values: Array, block: int, scratch: int) -> list[list[_Block]]:
        """All that lies in one buffer, then each of the others."""
        cuts = [(0, self.moved)] if self.moved else []
        cuts += [(k, k + 1) for k in range(self.moved, len(flat))]
        blocks = []
        for first, last in cuts:
            data = values if last <= self.moved else flat[first]
            size = self.starts[last] - self.starts[first] if last <= self.moved else self.views[first].size
            state = tuple(buffer[self.starts[first] :][:size] for buffer in self.state.values())
            blocks.append(_Block(first, last, None, data, state, ()))
        return [blocks]

    def can_update(self, active: Collection[int]) -> bool:
        """Whether it can update just these parameters: only all, since they count their steps together."""
        return len(active) == len(self.params) and fuses()

    def run(self, active: Collection[int], optimizer: FlatOptimizer, group: dict[str, Any]) -> None:
        """Update all parameters."""
        recording = graph.current()
        self.rate.refresh(group)
        if recording is not None:
            guard_options(recording, group)
            recording.before.append(lambda: self._before_run(group))
        gradients = self._gradients(active)
        control = [getattr(optimizer, name, None) for name in ("grad_scale", "found_inf")]
        scale, found_inf = (None if t is None else t._data for t in control)
        kernels.prepare(
            self.numbers, self.steps, self.rate.array, scale=scale, found_inf=found_inf, **optimizer._prepare(group)
        )
        if self.scalars:
            optimizer._prepare_scalars(self.numbers, self.steps, *self.scalars.values(), group)
        assert optimizer._kernel is not None
        for first, last, _, values, state, _ in chain.from_iterable(self.parts):
            given = [(gradients[k], self.starts[k] - self.starts[first]) for k in range(first, last)]
            if values is None:
                moved = self.views[first].flatten()
                optimizer._kernel(moved, given, state, self.numbers, group)
                self.views[first][...] = moved.reshape(self.views[first].shape)
            else:
                optimizer._kernel(values, given, state, self.numbers, group)

    def _before_run(self, group: dict[str, Any]) -> None:
        self.rate.refresh(group)
        for p in self.params:
            p._bump()


class FlatOptimizer(Optimizer):
    """An optimizer that is a description of its state and one function that updates a stretch of it.

    A subclass defines ``_buffers``, ``_numbers`` and ``_update``; for a kernel that does it on CUDA, ``_prepare``
    and ``_kernel``. If it keeps further numbers for each parameter, also ``_scalars``, ``_scalars_after`` and
    ``_prepare_scalars``.

    On CUDA, where there is a kernel, two attributes count if they are set: ``grad_scale``, a tensor of what
    the loss was multiplied by, divides the gradients, and ``found_inf``, a tensor, leaves the step out if it is not 0.
    """

    _counts = True
    _scratch = 2
    _kernel: Callable[..., None] | None = None

    def __init__(self, params: Any, defaults: dict[str, Any]):
        if defaults.get("differentiable"):
            raise RuntimeError(
                "differentiable=True is not supported: steps are not recorded. Write the update with tensor operations "
                "to differentiate through it"
            )
        super().__init__(params, defaults)

    def _buffers(self, group: dict[str, Any]) -> dict[str, float]:
        """The state buffers that the options of a group call for, and what they are filled with at first."""
        raise NotImplementedError

    def _scalars(self, group: dict[str, Any]) -> dict[str, float]:
        """The numbers that are kept for each parameter besides its steps, and what they are at first."""
        return {}

    def _numbers(self, group: dict[str, Any], step: int, *scalars: Any) -> Any:
        """What ``_update`` needs to know of a group's options in the given step, from 1 on."""
        raise NotImplementedError

    def _scalars_after(self, group: dict[str, Any], step: int, *scalars: Any) -> tuple[Any, ...]:
        """What the numbers of a parameter become in the given step."""
        raise NotImplementedError

    @staticmethod
    def _update(xp: Any, p: Array, g: Array, state: Any, scratch: Any, numbers: Any) -> None:
        """Update a stretch of parameters ``p`` and ``state`` in place from the gradient ``g``, which stays as it is.

        Args:
            xp: the array module.
            p, g: one-dimensional arrays.
            state: the same stretch of each buffer.
            scratch: arrays of that length to write to.
            numbers: from ``_numbers``.
        """
        raise NotImplementedError

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether ``step`` looks at ``found_inf`` itself, on the device."""
        params = (p for group in self.param_groups for p in group["params"] if p._grad is not None)
        return all(self._has_kernel(p) for p in params)

    def _prepare(self, group: dict[str, Any]) -> dict[str, Any]:
        """The options of a group that ``fused.optim.prepare`` takes, where there is a kernel."""
        raise NotImplementedError

    def _prepare_scalars(self, numbers: Array, steps: Array, *scalars_and_group: Any) -> None:
        """Change on the device, after ``fused.optim.prepare``, what it worked out, and the scalars in memory there."""
        raise NotImplementedError

    def _forget(self) -> None:
        super()._forget()
        self._homes: dict[Tensor, tuple[_Bucket, int]] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)

    def _check_state(self, entry: State, param: Tensor, number: Any) -> None:
        for name, value in entry.items():
            scalar = name == "step" or name in self._scalars(self.defaults)
            if not scalar and isinstance(value, Tensor) and value.shape != param.shape:
                raise ValueError(
                    f"loaded state {name!r} of parameter {number} has shape {tuple(value.shape)}, "
                    f"but the parameter has shape {tuple(param.shape)}"
                )

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters that have a gradient, once.

        Args:
            closure: computes the loss anew, with gradients; its result is returned.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        guard_state(self)
        with quiet():
            for group in self.param_groups:
                self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        buffers, scalars = self._buffers(group), self._scalars(group)
        names = tuple(buffers)
        work: dict[_Bucket, dict[int, None]] = {}
        homeless: dict[Any, dict[Tensor, None]] = {}
        for p in group["params"]:
            if p._grad is None:
                continue
            bucket, k = self._homes.get(p, (None, 0))
            if bucket is not None and bucket.holds(k, names, self.state.get(p)):
                work.setdefault(bucket, {})[k] = None
            else:
                homeless.setdefault(self._kind(p, scalars), {})[p] = None
        for bucket in [bucket for bucket, active in work.items() if not bucket.can_update(active)]:
            for k in work.pop(bucket):
                homeless.setdefault(self._kind(bucket.params[k], scalars), {})[bucket.params[k]] = None
        if homeless and graph.current() is not None:
            raise RuntimeError(
                f"{type(self).__name__} makes or moves its state in this step, which cannot be captured; "
                "let it take a step with the same parameters first"
            )
        for (_, place, counts), params in homeless.items():
            kind = _Bucket if counts is None else _DeviceBucket
            with on(place):
                bucket = kind(params, buffers, scalars, self.state, self._counts, self._scratch)
            self._homes.update({p: (bucket, k) for k, p in enumerate(bucket.params)})
            work[bucket] = dict.fromkeys(range(len(bucket.params)))
        for bucket, active in work.items():
            with on(bucket.device):
                bucket.run(active, self, group)

    def _kind(self, p: Tensor, scalars: dict[str, float]) -> tuple[Any, Any, tuple[float, ...] | None]:
        """What the parameters of a bucket have in common; the number of steps, where a kernel counts them."""
        if not self._has_kernel(p):
            return p.dtype, p.device, None
        entry = self.state.get(p, {})
        steps = float(entry.get("step", 0) if self._counts else bool(entry))
        return p.dtype, p.device, (steps, *[float(entry.get(name, value)) for name, value in scalars.items()])

    def _has_kernel(self, p: Tensor) -> bool:
        return self._kernel is not None and p.is_cuda and p.dtype.name in kernels.C_TYPES and fuses()


class Rate:
    """The learning rate of a group in the memory of a CUDA device, where a captured step reads it.

    Args:
        array: one float64 there.
    """

    def __init__(self, array: Array):
        self.array = array
        self._value: float | None = None

    def refresh(self, group: dict[str, Any]) -> None:
        """Have the group's learning rate there; one that is a tensor on the device changes there."""
        lr = group["lr"]
        if isinstance(lr, Tensor) and device_of(lr._data) == device_of(self.array):
            self.array[...] = lr._data
            self._value = None
        elif graph.current() is None and float(lr) != self._value:
            self._value = float(lr)
            self.array.fill(self._value)


def guard_options(recording: graph.Recording, group: dict[str, Any]) -> None:
    """Have a recording take the options of a group for granted, but for its learning rate."""
    lr = group["lr"]
    options = {name: value for name, value in group.items() if name not in ("params", "lr")}
    recording.guards.append(
        lambda: (
            all(group[name] == value for name, value in options.items())
            and (group["lr"] is lr or not isinstance(lr, Tensor))
        )
    )


def guard_state(optimizer: Optimizer) -> None:
    """Have the recording that is being made, if any, take the optimizer's state and groups for granted."""
    recording = graph.current()
    if recording is not None:
        lazy.flush()
        state, groups, count = optimizer.state, optimizer.param_groups, len(optimizer.param_groups)
        recording.guards.append(
            lambda: optimizer.state is state and optimizer.param_groups is groups and len(groups) == count
        )


def effective_gradient(xp: Any, p: Array, g: Array, out: Array, weight_decay: float, maximize: bool) -> Array:
    """The gradient of what is minimised, weight decay included: ``g`` itself, or written to ``out``."""
    if weight_decay:
        xp.multiply(p, weight_decay, out)
        return (xp.subtract if maximize else xp.add)(out, g, out)
    return xp.negative(g, out) if maximize else g
