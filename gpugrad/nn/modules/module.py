"""Module: the base class of everything with parameters.

A module's parameters, buffers and submodules are ordinary attributes; a registry
says which attribute is which.  So reading ``self.weight`` costs nothing, and
``_parameters``, ``_buffers`` and ``_modules`` are views of the one truth.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from ... import backend
from ...backend import dtypes
from ...creation import empty_like
from ...engine import modes, no_grad
from ...ops.core import as_tensors
from ...tensor import RemovableHandle, Tensor, add_hook, parse_to
from ..parameter import Buffer, Parameter, is_lazy
from .hooks import BackwardWatch, Hooks

T = TypeVar("T", bound="Module")

_ABSENT: Any = object()

_EXTRA = "_extra_state"
PARAMETER, BUFFER, TEMPORARY, MODULE = "parameter", "buffer", "buffer left out of the state dict", "module"
_BUFFERS = (BUFFER, TEMPORARY)


class IncompatibleKeys(NamedTuple):
    """What :meth:`Module.load_state_dict` did not find a place, or a value, for."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"_IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class _Registered(MutableMapping[str, Any]):
    """A live view of the attributes of one kind, by name."""

    def __init__(self, module: Module, kinds: tuple[str, ...]):
        self._module, self._kinds = module, kinds

    def __getitem__(self, name: str) -> Any:
        if self._module._registry.get(name) not in self._kinds:
            raise KeyError(name)
        return self._module.__dict__[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._module._registry.setdefault(name, self._kinds[0])
        self._module.__dict__[name] = value

    def __delitem__(self, name: str) -> None:
        self[name]
        delattr(self._module, name)

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, kind in self._module._registry.items() if kind in self._kinds])

    def __len__(self) -> int:
        return sum(kind in self._kinds for kind in self._module._registry.values())

    def __repr__(self) -> str:
        return repr(dict(self))


class Module:
    """The base class of networks: define ``forward`` and assign parameters and submodules to attributes.

    Attributes:
        training: whether the module is in training mode (dropout on, batch statistics used).
    """

    training: bool
    _registry: dict[str, str]
    _hooks: Hooks | None = None

    def __init__(self) -> None:
        self.__dict__["training"] = True
        self.__dict__["_registry"] = {}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the module's result; every module defines its own.

        Raises:
            NotImplementedError: this module does not.
        """
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, first: Any = _ABSENT, /, *rest: Any, **named: Any) -> Any:
        """Call ``forward``, and the hooks around it."""
        # The usual call has one argument, and handing it on as such is half the cost of packing it.
        if self._hooks is None:
            if first is not _ABSENT and not rest and not named:
                return self.forward(first)
            return self.forward(first, *rest, **named) if first is not _ABSENT else self.forward(**named)
        return self._call_with_hooks((first, *rest) if first is not _ABSENT else (), named)

    def _call_with_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hooks = self._hooks
        assert hooks is not None
        for before in list(hooks.forward_pre.values()):
            changed = before(self, args, kwargs)
            if changed is not None:
                args, kwargs = changed
        watch = None
        if modes.grad and (hooks.backward or hooks.backward_pre):
            watch = BackwardWatch(self, hooks)
            args = watch.inputs(args)
        result = self.forward(*args, **kwargs)
        for after in list(hooks.forward.values()):
            changed = after(self, args, kwargs, result)
            if changed is not None:
                result = changed
        return result if watch is None else watch.outputs(result)

    # Attributes.

    def __getattr__(self, name: str) -> Any:
        # Attributes are found without this; but programs call it, as PyTorch has it.
        return object.__getattribute__(self, name)

    @property
    def _parameters(self) -> MutableMapping[str, Any]:
        return _Registered(self, (PARAMETER,))

    @property
    def _buffers(self) -> MutableMapping[str, Any]:
        return _Registered(self, _BUFFERS)

    @property
    def _modules(self) -> MutableMapping[str, Any]:
        return _Registered(self, (MODULE,))

    def __setattr__(self, name: str, value: Any) -> None:
        registry = self.__dict__.get("_registry")
        if registry is None:
            if isinstance(value, Parameter | Buffer | Module):
                kind = "module" if isinstance(value, Module) else "parameters"
                raise AttributeError(
                    f"cannot assign {kind} before {type(self).__name__}.__init__() called Module.__init__()"
                )
            object.__setattr__(self, name, value)
            return
        kind = registry.get(name)
        if isinstance(value, Parameter):
            new = PARAMETER
        elif isinstance(value, Module):
            new = MODULE
        elif isinstance(value, Buffer):
            new = BUFFER if value.persistent else TEMPORARY
        elif kind is None:
            object.__setattr__(self, name, value)
            return
        elif value is None or (kind in _BUFFERS and isinstance(value, Tensor)):
            self.__dict__[name] = value
            return
        else:
            expected = {PARAMETER: "Parameter", MODULE: "Module"}.get(kind, "Tensor")
            raise TypeError(
                f"cannot assign '{type(value).__name__}' as {kind.split()[0]} {name!r} ({expected} or None expected)"
            )
        if new != kind:
            if kind is None and ("." in name or (new != MODULE and hasattr(type(self), name))):
                self._check_name(name, new)
            registry.pop(name, None)
            registry[name] = new
        self.__dict__[name] = value

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._registry.pop(name, None)

    def _check_name(self, name: Any, kind: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {type(name).__name__}")
        if "_registry" not in self.__dict__:
            raise AttributeError(f"cannot assign {kind} before Module.__init__() call")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain ".", got: {name}')
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if hasattr(self, name) and self._registry.get(name) is None:
            raise KeyError(f"attribute '{name}' already exists")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under a name; None reserves the name.

        Raises:
            KeyError: the name is taken, empty or contains a dot.
            TypeError: ``param`` is no Parameter.
        """
        self._check_name(name, PARAMETER)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{type(param).__name__}' object to parameter '{name}' (Parameter or None required)"
            )
        self._registry[name] = PARAMETER
        self.__dict__[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is state but no parameter, such as a running mean.

        Args:
            persistent: whether it is part of the state dict.

        Raises:
            KeyError: the name is taken, empty or contains a dot.
            TypeError: ``tensor`` is no Tensor.
        """
        self._check_name(name, BUFFER)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{type(tensor).__name__}' object to buffer '{name}' (Tensor or None required)"
            )
        self._registry[name] = BUFFER if persistent else TEMPORARY
        self.__dict__[name] = tensor

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a submodule under a name; None reserves the name.

        Raises:
            KeyError: the name is taken, empty or contains a dot.
            TypeError: ``module`` is no Module.
        """
        self._check_name(name, MODULE)
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        self._registry[name] = MODULE
        self.__dict__[name] = module

    def register_module(self, name: str, module: Module | None) -> None:
        """The same as :meth:`add_module`."""
        self.add_module(name, module)

    def get_submodule(self, target: str) -> Module:
        """The submodule with a dotted name; the module itself for the empty one.

        Raises:
            AttributeError: there is none.
        """
        module = self
        for name in target.split(".") if target else ():
            if not hasattr(module, name):
                raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"`{name}` is not a Module")
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put a module in the place that a dotted name says.

        Args:
            strict: only replace one; otherwise one may be added to a module that is there.

        Raises:
            ValueError: the name is empty, or ``module`` is no Module.
            AttributeError: there is no such place, or something else than a module.
        """
        if not target:
            raise ValueError("Cannot set the submodule without a target name!")
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if strict and not hasattr(parent, name):
            raise AttributeError(f"{parent._get_name()} has no attribute `{name}`")
        if hasattr(parent, name) and not isinstance(getattr(parent, name), Module):
            raise AttributeError(f"`{name}` is not an nn.Module")
        setattr(parent, name, module)

    def _get_tensor(self, target: str, kinds: tuple[str, ...]) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
        if module._registry.get(name) not in kinds:
            raise AttributeError(f"`{name}` is not a {kinds[0]}")
        return module.__dict__[name]

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with a dotted name.

        Raises:
            AttributeError: there is none.
        """
        return self._get_tensor(target, (PARAMETER,))

    def get_buffer(self, target: str) -> Tensor:
        """The buffer with a dotted name.

        Raises:
            AttributeError: there is none.
        """
        return self._get_tensor(target, _BUFFERS)

    # What is in it.

    def _own(self, *kinds: str) -> list[tuple[str, Any]]:
        """The registered attributes of some kinds that are not None."""
        values = self.__dict__
        return [
            (name, values[name]) for name, kind in self._registry.items() if kind in kinds and values[name] is not None
        ]

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules with their names, each once."""
        seen: set[int] = set()
        for name, module in self._own(MODULE):
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct submodules, each once."""
        for _, module in self.named_children():
            yield module

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """The module and everything in it, with dotted names; a shared module once if ``remove_duplicate``."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._own(MODULE):
            yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """The module and everything in it, each once."""
        for _, module in self.named_modules():
            yield module

    def _named_tensors(
        self, kinds: tuple[str, ...], prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, tensor in module._own(*kinds):
                if remove_duplicate:
                    if id(tensor) in seen:
                        continue
                    seen.add(id(tensor))
                yield f"{path}.{name}" if path else name, tensor

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their dotted names, a shared one once unless ``remove_duplicate`` is False."""
        return self._named_tensors((PARAMETER,), prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, each once."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """The buffers with their dotted names, a shared one once unless ``remove_duplicate`` is False."""
        return self._named_tensors(_BUFFERS, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers, each once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    # State.

    def _state(self, prefix: str = "") -> Iterator[tuple[str, Module, str, Tensor]]:
        """Every entry of the state dict: its key, and the module, attribute and tensor behind it."""
        for name, tensor in [*self._own(PARAMETER), *self._own(BUFFER)]:
            yield prefix + name, self, name, tensor
        for name, module in self._own(MODULE):
            yield from module._state(f"{prefix}{name}.")

    def state_dict(
        self, *, destination: MutableMapping[str, Any] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> Any:
        """The parameters and persistent buffers by dotted name; they share the module's memory.

        Args:
            destination: a mapping to add them to, instead of a new OrderedDict.
            prefix: put before every name.
            keep_vars: give the parameters themselves, not detached tensors.
        """
        destination = OrderedDict() if destination is None else destination
        hooks = self._hooks or Hooks()
        for before in list(hooks.saving_pre.values()):
            before(self, prefix, keep_vars)
        for name, tensor in [*self._own(PARAMETER), *self._own(BUFFER)]:
            destination[prefix + name] = tensor if keep_vars or is_lazy(tensor) else tensor.detach()
        if type(self).get_extra_state is not Module.get_extra_state:
            destination[prefix + _EXTRA] = self.get_extra_state()
        for name, module in self._own(MODULE):
            module.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for after in list(hooks.saving.values()):
            after(self, destination, prefix, {"version": 1})
        return destination

    def get_extra_state(self) -> Any:
        """What else belongs to the state dict; a module that defines this defines ``set_extra_state`` too.

        Raises:
            RuntimeError: this module defines none.
        """
        raise RuntimeError(f"{type(self).__name__} has no extra state: it does not define get_extra_state()")

    def set_extra_state(self, state: Any) -> None:
        """Take over what ``get_extra_state`` gave.

        Raises:
            RuntimeError: this module defines none.
        """
        raise RuntimeError(f"{type(self).__name__} has no extra state: it does not define set_extra_state()")

    def _paths(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """The module and all in it, each with what stands before its names in the state dict."""
        yield prefix, self
        for name, module in self._own(MODULE):
            yield from module._paths(f"{prefix}{name}.")

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy the values of a state dict (tensors or arrays) into the parameters and buffers.

        Args:
            strict: refuse missing and unexpected keys; otherwise they are only returned.
            assign: take over the given tensors themselves instead of copying their values.

        Returns:
            The missing and the unexpected keys.

        Raises:
            TypeError: ``state_dict`` is no mapping.
            RuntimeError: keys are missing, unexpected or of the wrong shape; all are listed, and nothing is changed
                (but what hooks after loading let pass or not).
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        state_dict = OrderedDict(state_dict)
        missing: list[str] = []
        unexpected: list[str] = []
        errors: list[str] = []
        paths = [*self._paths()]
        hooks = [(prefix, module, module._hooks) for prefix, module in paths if module._hooks is not None]
        for prefix, module, tables in hooks:
            for before in list(tables.loading_pre.values()):
                before(module, state_dict, prefix, {"version": 1}, strict, missing, unexpected, errors)
        own = {key: (module, name, tensor) for key, module, name, tensor in self._state()}
        extra = {
            prefix + _EXTRA: module
            for prefix, module in paths
            if type(module).set_extra_state is not Module.set_extra_state
        }
        missing += [key for key in (*own, *extra) if key not in state_dict]
        unexpected += [key for key in state_dict if key not in own and key not in extra]
        given: dict[str, Tensor] = {}
        for key, (_, _, tensor) in own.items():
            if key not in state_dict:
                continue
            try:
                (given[key],) = as_tensors("load_state_dict", (state_dict[key],))
            except TypeError:
                errors.append(
                    f'While copying "{key}", expected a Tensor or an array but received {type(state_dict[key])}'
                )
                continue
            if not is_lazy(tensor) and given[key].shape != tensor.shape:
                errors.append(
                    f"size mismatch for {key}: copying a param with shape {given[key].shape} from checkpoint, "
                    f"the shape in current model is {tensor.shape}."
                )
        answer = IncompatibleKeys(missing, unexpected)
        after = [(module, hook) for _, module, tables in reversed(hooks) for hook in tables.loading.values()]
        if errors or not after:
            self._refuse(errors, answer, strict)
        with no_grad():
            for key, value in given.items():
                module, name, tensor = own[key]
                if is_lazy(tensor):
                    tensor.materialize(value.shape)
                if not assign:
                    tensor.copy_(value)
                elif isinstance(tensor, Parameter):
                    keeps = isinstance(value, Parameter)
                    module.__dict__[name] = value if keeps else Parameter(value, tensor.requires_grad)
                    module.__dict__[name].requires_grad = tensor.requires_grad
                else:
                    module.__dict__[name] = value
        for key, module in extra.items():
            if key in state_dict:
                module.set_extra_state(state_dict[key])
        for module, hook in after:
            hook(module, answer)
        self._refuse([], answer, strict)
        return answer

    def _refuse(self, errors: list[str], keys: IncompatibleKeys, strict: bool) -> None:
        """Raise what is wrong with a state dict, if anything."""
        if strict and keys.unexpected_keys:
            errors = [f"Unexpected key(s) in state_dict: {_quoted(keys.unexpected_keys)}. ", *errors]
        if strict and keys.missing_keys:
            errors = [f"Missing key(s) in state_dict: {_quoted(keys.missing_keys)}. ", *errors]
        if errors:
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t" + "\n\t".join(errors))

    def train(self: T, mode: bool = True) -> T:
        """Switch the module and everything in it to training mode (or, with False, to evaluation).

        Raises:
            ValueError: ``mode`` is no bool.
        """
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self: T) -> T:
        """Switch the module and everything in it to evaluation mode."""
        return self.train(False)

    def requires_grad_(self: T, requires_grad: bool = True) -> T:
        """Set ``requires_grad`` of all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or set them to zero."""
        for parameter in self.parameters():
            if parameter.grad is None:
                continue
            if set_to_none:
                parameter.grad = None
            else:
                parameter.grad.detach_()
                parameter.grad.zero_()

    def apply(self: T, fn: Callable[[Module], Any]) -> T:
        """Call ``fn`` on every submodule and then on the module itself."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # Devices and dtypes.

    def to_empty(self: T, *, device: Any, recurse: bool = True) -> T:
        """Move parameters and buffers to a device, their values undefined: for a model that is about to be loaded."""
        return self._apply(lambda t: empty_like(t, device=device), recurse)

    def _apply(self: T, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> T:
        """Replace the data of every parameter, gradient and buffer by what ``fn`` makes of it.

        Parameters stay the objects they are; data that ``fn`` returns unchanged stays where it is.
        """
        for module in self.children() if recurse else ():
            module._apply(fn)
        with no_grad():
            for _, parameter in self._own(PARAMETER):
                if is_lazy(parameter):
                    parameter._like = fn(parameter._like)
                    continue
                parameter.data = fn(parameter.detach())
                if parameter.grad is not None:
                    parameter._grad = fn(parameter.grad)
            for name, buffer in self._own(*_BUFFERS):
                if is_lazy(buffer):
                    buffer._like = fn(buffer._like)
                else:
                    self.__dict__[name] = fn(buffer)
        return self

    def to(self: T, *args: Any, **kwargs: Any) -> T:
        """Move to a device and convert floating-point tensors to a dtype: ``to(device)``, ``to(dtype)``,
        ``to(device, dtype)``, ``to(tensor)``.

        Raises:
            TypeError: the dtype is not floating point.
        """
        where, dtype, non_blocking, _ = parse_to(args, kwargs)
        where = None if where is None else backend.resolve(where)
        if dtype is not None and not dtypes.is_floating(dtype):
            raise TypeError(f"nn.Module.to only accepts floating point dtypes, but got desired dtype={dtype}")
        return self._apply(lambda t: t.to(where, dtype if t.is_floating_point() else None, non_blocking))

    def cpu(self: T) -> T:
        """Move to the CPU."""
        return self.to("cpu")

    def cuda(self: T, device: Any = None) -> T:
        """Move to a CUDA device."""
        return self.to("cuda" if device is None else device)

    def type(self: T, dst_type: Any) -> T:
        """Convert all parameters and buffers to a dtype."""
        return self._apply(lambda t: t.type(dst_type))

    def float(self: T) -> T:
        """Convert floating-point parameters and buffers to float32."""
        return self.to(dtypes.float32)

    def double(self: T) -> T:
        """Convert floating-point parameters and buffers to float64."""
        return self.to(dtypes.float64)

    def half(self: T) -> T:
        """Convert floating-point parameters and buffers to float16."""
        return self.to(dtypes.float16)

    def bfloat16(self: T) -> T:
        """Convert floating-point parameters and buffers to bfloat16."""
        return self.to(dtypes.bfloat16())

    def share_memory(self: T) -> T:
        """The module itself: data loading works in threads, which share memory anyway."""
        return self

    # Hooks.

    def _hook_tables(self) -> Hooks:
        if self._hooks is None:
            self._hooks = Hooks()
        return self._hooks

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args)`` before each ``forward``; what it returns replaces the arguments.

        Args:
            prepend: run it before the hooks that are there.
            with_kwargs: call ``hook(module, args, kwargs)``; it returns ``(args, kwargs)`` or None.
        """

        def on_args(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            changed = hook(module, args)
            if changed is None:
                return None
            return (changed if isinstance(changed, tuple) else (changed,)), kwargs

        def on_both(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            changed = hook(module, args, kwargs)
            if changed is not None and not (isinstance(changed, tuple) and len(changed) == 2):
                raise RuntimeError(
                    f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got {changed}."
                )
            return changed

        return _add(self._hook_tables().forward_pre, on_both if with_kwargs else on_args, prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after each ``forward``; what it returns replaces the output.

        Args:
            prepend: run it before the hooks that are there.
            with_kwargs: call ``hook(module, args, kwargs, output)``.
        """

        def on_args(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            return hook(module, args, output)

        return _add(self._hook_tables().forward, hook if with_kwargs else on_args, prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` when the gradients of the outputs are complete.

        What it returns (a tuple, or one tensor) replaces them.
        """
        return _add(self._hook_tables().backward_pre, hook, prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` when the gradients of the inputs are complete.

        What it returns (a tuple, or one tensor) replaces ``grad_input``.
        """
        return _add(self._hook_tables().backward, hook, prepend)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, prefix, keep_vars)`` before the module's part of a state dict is made."""
        return _add(self._hook_tables().saving_pre, hook, False)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata)`` when the module's part of a state dict is made.

        It may change the state dict in place.
        """
        return _add(self._hook_tables().saving, hook, False)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call a hook before a state dict is loaded, which it may change in place, and so may add to the lists.

        ``hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)``.
        """
        return _add(self._hook_tables().loading_pre, hook, False)

    def _register_load_state_dict_pre_hook(
        self, hook: Callable[..., Any], with_module: bool = False
    ) -> RemovableHandle:
        """As the public one; the hook does not get the module unless ``with_module``."""

        def without_module(module: Module, *args: Any) -> Any:
            return hook(*args)

        return self.register_load_state_dict_pre_hook(hook if with_module else without_module)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, incompatible_keys)`` when a state dict is loaded.

        It may change the lists of missing and unexpected keys in place: what it takes out counts as right.
        """
        return _add(self._hook_tables().loading, hook, False)

    def register_backward_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """The old name of :meth:`register_full_backward_hook`."""
        return self.register_full_backward_hook(hook)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Have ``forward`` run as :func:`gpugrad.compile` makes it; for the arguments see there."""
        from ...capture import compile as compiled

        compiled(self, *args, **kwargs)

    # Text.

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What stands between the parentheses of the module's text; modules define their own."""
        return ""

    def __copy__(self: T) -> T:
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._registry = dict(self._registry)  # else what is added to the one would be missing in the other
        return twin

    def __repr__(self) -> str:
        extra = self.extra_repr()
        extra_lines = extra.split("\n") if extra else []
        child_lines = [f"({name}): {indented(repr(module))}" for name, module in self._modules.items()]
        if len(extra_lines) == 1 and not child_lines:
            return f"{self._get_name()}({extra_lines[0]})"
        lines = extra_lines + child_lines
        return f"{self._get_name()}(" + ("\n  " + "\n  ".join(lines) + "\n" if lines else "") + ")"


def indented(text: str) -> str:
    """A text with every line but the first moved two columns to the right."""
    return text.replace("\n", "\n  ")


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _add(table: OrderedDict[int, Callable[..., Any]], hook: Callable[..., Any], prepend: bool) -> RemovableHandle:
    handle = add_hook(table, hook)
    if prepend:
        table.move_to_end(next(reversed(table)), last=False)
    return handle


@contextmanager
def watch_calls(note: Callable[[Module], Any]) -> Iterator[None]:
    """Call ``note`` with every module that is called inside the block, in any thread."""
    plain = Module.__call__

    def watched(self: Module, *args: Any, **kwargs: Any) -> Any:
        note(self)
        return plain(self, *args, **kwargs)

    # In the place of the method, so that calls that nobody watches cost nothing more.
    Module.__call__ = watched  # type: ignore[method-assign]
    try:
        yield
    finally:
        Module.__call__ = plain  # type: ignore[method-assign]
