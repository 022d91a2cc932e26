"""Optimizer: parameter groups, state, hooks and state dicts, as in PyTorch."""

from __future__ import annotations

import functools
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from itertools import chain
from typing import Any

from ..backend import dtypes, graph
from ..engine import profiling
from ..ops.core import memory_to_change
from ..tensor import RemovableHandle, Tensor, add_hook


class _Required:
    def __repr__(self) -> str:
        return "<required parameter>"


required = _Required()
"""The default of an option that every parameter group must give."""


def _hooked(step: Callable[..., Any]) -> Callable[..., Any]:
    """``step`` with the optimizer's hooks around it; notes that it was called, for the schedulers."""

    @functools.wraps(step)
    def wrapper(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        self._opt_called = True
        if "_step_pre_hooks" not in self.__dict__:  # a wrapper of another optimizer that never called __init__
            return step(self, *args, **kwargs)
        event = _profiled(self, "step")
        recording = graph.current()
        if recording is not None:
            hooks = _hooks_of(self)
            recording.guards.append(lambda: _hooks_of(self) == hooks)
        for before in list(self._step_pre_hooks.values()):
            changed = before(self, args, kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(
                        f"a step pre-hook must return None or (new_args, new_kwargs), but returned {changed!r}"
                    )
                args, kwargs = changed
        result = step(self, *args, **kwargs)
        for after in list(self._step_post_hooks.values()):
            after(self, args, kwargs)
        if event is not None:
            event.finish()
        return result

    return wrapper


def _profiled(optimizer: Optimizer, what: str) -> Any:
    """The event of a call, if a profiler runs."""
    recorder = profiling.recorder
    if recorder is None:
        return None
    first = next((param for group in optimizer.param_groups for param in group["params"]), None)
    return recorder.begin(f"Optimizer.{what}#{type(optimizer).__name__}.{what}", "optimizer", beside=first)


def _hooks_of(optimizer: Optimizer) -> tuple[list[int], list[int]]:
    return list(optimizer._step_pre_hooks), list(optimizer._step_post_hooks)


class Optimizer:
    """The base class of optimizers: define ``step``, and pass parameters and default options to ``__init__``.

    Attributes:
        defaults: the options of groups that do not give their own.
        param_groups: dicts of ``params`` and options; change an option and the next step uses it.
        state: what the optimizer keeps for each parameter: a dict for each.

    Raises:
        TypeError: ``params`` is a tensor, or holds something that is none.
        ValueError: ``params`` is empty, a parameter is no leaf or is in two groups, or a required option is missing.
    """

    _opt_called = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _hooked(cls.__dict__["step"])  # type: ignore[method-assign]

    def __init__(self, params: Any, defaults: dict[str, Any]):
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got a Tensor"
            )
        self.defaults = defaults
        self.state: defaultdict[Any, Any] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._forget()
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def _forget(self) -> None:
        """Start without hooks and whatever else is no part of the state."""
        self._step_pre_hooks: dict[int, Any] = {}
        self._step_post_hooks: dict[int, Any] = {}
        self._state_dict_hooks: dict[str, dict[int, Any]] = defaultdict(dict)

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_step_pre_hooks" not in self.__dict__:
            self._forget()
        self.__dict__.update(state)

    def __repr__(self) -> str:
        text = f"{type(self).__name__} ("
        for i, group in enumerate(self.param_groups):
            text += f"\nParameter Group {i}\n"
            text += "".join(f"    {name}: {group[name]}\n" for name in sorted(group) if name != "params")
        return text + ")"

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group: a dict of ``params`` (a tensor, tensors, or ``(name, tensor)`` pairs) and options.

        Raises:
            TypeError, ValueError: as for the class.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group).__name__}")
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError("optimizer parameters need to be in an ordered collection, such as a list, but got a set")
        params = [params] if isinstance(params, Tensor) else list(params)
        names = [item[0] for item in params if isinstance(item, tuple)]
        if names:
            if len(names) != len(params):
                raise ValueError("all optimizer params should be with/without names. Some param names are missing")
            params = [item[1] for item in params]
            param_group["param_names"] = names
        param_group["params"] = params
        for param in params:
            if not isinstance(param, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(param).__name__}")
            if not (param.is_leaf or param.retains_grad):
                raise ValueError(
                    f"can't optimize a non-leaf Tensor, one of shape {tuple(param.shape)}: it is computed from "
                    "others; pass those, or detach it"
                )
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            param_group.setdefault(name, default)
        if len({id(param) for param in params}) != len(params):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; it updates them once", stacklevel=3
            )
        for group in self.param_groups:
            if ("param_names" in group) != ("param_names" in param_group):
                raise ValueError("all optimizer param groups should be with/without names")
        known = {id(param) for group in self.param_groups for param in group["params"]}
        if any(id(param) in known for param in params):
            raise ValueError("some parameters appear in more than one parameter group")
        self.param_groups.append(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        event = _profiled(self, "zero_grad")
        for group in self.param_groups:
            for param in group["params"]:
                if set_to_none:
                    param._grad = None
                elif param._grad is not None:
                    param._grad = param._grad.detach()
                    memory_to_change(param._grad)[...] = 0
                    param._grad._bump()
        if event is not None:
            event.finish()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters once.

        Args:
            closure: computes the loss anew, with gradients; its result is returned.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define step")

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` before each step; it may return other ``(args, kwargs)``."""
        return add_hook(self._step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` after each step."""
        return add_hook(self._step_post_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer)`` before ``state_dict``."""
        return add_hook(self._state_dict_hooks["before saving"], hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` with what ``state_dict`` made; it may return another."""
        return add_hook(self._state_dict_hooks["after saving"], hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` before ``load_state_dict``; it may return another."""
        return add_hook(self._state_dict_hooks["before loading"], hook)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer)`` after ``load_state_dict``."""
        return add_hook(self._state_dict_hooks["after loading"], hook)

    def _run_hooks(self, when: str, state_dict: Any = None) -> Any:
        for hook in list(self._state_dict_hooks[when].values()):
            answer = hook(self) if state_dict is None else hook(self, state_dict)
            state_dict = answer if answer is not None and state_dict is not None else state_dict
        return state_dict

    def state_dict(self) -> dict[str, Any]:
        """``state`` (by the parameter's number) and ``param_groups`` (with numbers for parameters).

        The tensors are the optimizer's own and change with the next step.
        """
        self._run_hooks("before saving")
        numbers: dict[int, int] = {}
        groups: list[dict[str, Any]] = []
        start = 0
        for group in self.param_groups:
            for i, param in enumerate(group["params"], start):
                numbers.setdefault(id(param), i)
            start += len(group["params"])
            packed = {name: value for name, value in group.items() if name != "params"}
            groups.append(packed | {"params": [numbers[id(param)] for param in group["params"]]})
        state = {numbers[id(key)] if isinstance(key, Tensor) else key: value for key, value in self.state.items()}
        return self._run_hooks("after saving", {"state": state, "param_groups": groups})

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the options and a copy of the state that ``state_dict`` returned.

        Raises:
            ValueError: it has other groups, or a state of another shape than the parameter.
        """
        state_dict = self._run_hooks("before loading", dict(state_dict))
        saved = deepcopy(state_dict["param_groups"])
        if len(saved) != len(self.param_groups):
            raise ValueError(
                "loaded state dict has a different number of parameter groups: "
                f"{len(saved)}, but the optimizer has {len(self.param_groups)}"
            )
        for i, (group, loaded) in enumerate(zip(self.param_groups, saved, strict=True)):
            if len(group["params"]) != len(loaded["params"]):
                raise ValueError(
                    "loaded state dict contains a parameter group that doesn't match the size of optimizer's group: "
                    f"group {i} has {len(loaded['params'])} parameters, but the optimizer's has {len(group['params'])}"
                )
        numbers = chain.from_iterable(group["params"] for group in saved)
        params = chain.from_iterable(group["params"] for group in self.param_groups)
        param_of = dict(zip(numbers, params, strict=True))
        state: defaultdict[Any, Any] = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key in param_of:
                state[param_of[key]] = _fitted(value, param_of[key])
                self._check_state(state[param_of[key]], param_of[key], key)
            else:
                state[key] = value
        for group, loaded in zip(self.param_groups, saved, strict=True):
            loaded["params"] = group["params"]
            if "param_names" in group:
                loaded.setdefault("param_names", group["param_names"])
        self.__setstate__({"state": state, "param_groups": saved})
        self._run_hooks("after loading")

    def _check_state(self, entry: dict[str, Any], param: Tensor, number: Any) -> None:
        """Refuse loaded state that cannot belong to the parameter."""


def _fitted(value: Any, param: Tensor, name: Any = None) -> Any:
    """A copy of loaded state, its tensors (but for step counts) in the dtype and on the device of the parameter."""
    if isinstance(value, Tensor):
        value = value.detach()
        if name != "step":
            value = value.to(param.device)
            if param.is_floating_point() and dtypes.is_floating(value.dtype):
                value = value.to(param.dtype)
        return value.clone()
    if isinstance(value, Mapping):
        return {key: _fitted(item, param, key) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return type(value)(_fitted(item, param) for item in value)  # type: ignore[call-arg]
    return value
