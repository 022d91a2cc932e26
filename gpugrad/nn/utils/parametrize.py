"""Parametrizations: a module's tensor is computed by other modules whenever it is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...engine import no_grad
from ...tensor import Tensor
from ..modules.container import ModuleDict, ModuleList
from ..modules.module import Module
from ..parameter import Parameter

__all__ = [
    "ParametrizationList",
    "cached",
    "is_parametrized",
    "register_parametrization",
    "remove_parametrizations",
    "type_before_parametrizations",
]

_kept: dict[tuple[int, str], Tensor] = {}
_keeping = 0


@contextmanager
def cached() -> Iterator[None]:
    """Inside, a parametrized tensor is computed when it is first read, and not again."""
    global _keeping
    _keeping += 1
    try:
        yield
    finally:
        _keeping -= 1
        if not _keeping:
            _kept.clear()


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, in their order, and what they start from: ``original``, or ``original0``,
    ``original1``, ... if the first one's ``right_inverse`` gives several tensors.

    Raises:
        ValueError: what they give has another shape or dtype than the tensor (unless ``unsafe``), or is no tensor.
    """

    def __init__(self, modules: Sequence[Module], original: Any, unsafe: bool = False):
        super().__init__(modules)
        self.unsafe = unsafe
        with no_grad():
            start = original
            for module in reversed(list(self)):
                if hasattr(module, "right_inverse"):
                    start = module.right_inverse(start)
        self.is_tensor = isinstance(start, Tensor)
        self.ntensors = 1 if self.is_tensor else len(start)
        shape, dtype = original.shape, original.dtype
        if self.is_tensor:
            # The tensor itself, so that an optimizer that has it goes on with it.
            if start is not original:
                original.data = start.detach()
            _register(self, "original", original)
        else:
            for k, each in enumerate(start):
                of_its_kind = Parameter(each, original.requires_grad) if isinstance(original, Parameter) else each
                _register(self, f"original{k}", of_its_kind)
        if not unsafe:
            _check(self(), shape, dtype)

    def right_inverse(self, value: Tensor) -> None:
        """Set the originals so that the tensor becomes ``value``.

        Raises:
            RuntimeError: a parametrization has no ``right_inverse``.
        """
        with no_grad():
            start: Any = value
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(f"parametrization {type(module).__name__} does not implement right_inverse.")
                start = module.right_inverse(start)
            for original, each in zip(self._originals(), [start] if self.is_tensor else start, strict=True):
                original.data = each.detach()

    def _originals(self) -> list[Any]:
        return [self.original] if self.is_tensor else [getattr(self, f"original{k}") for k in range(self.ntensors)]

    def forward(self) -> Any:
        """The tensor."""
        first, *others = self
        value = first(*self._originals())
        for module in others:
            value = module(value)
        return value


def _register(module: Module, name: str, tensor: Any) -> None:
    if isinstance(tensor, Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)


def _check(value: Any, shape: Any, dtype: Any) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(f"A parametrization must return a tensor. Got {type(value).__name__}.")
    for what, new, old in (("dtype", value.dtype, dtype), ("shape", tuple(value.shape), tuple(shape))):
        if new != old:
            raise ValueError(
                f"Registering a parametrization may not change the {what} of the tensor, unless the `unsafe` flag is "
                f"enabled.\nunparametrized {what}: {old}\nparametrized {what}: {new}"
            )


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Let ``module.<tensor_name>`` be what ``parametrization`` makes of it; gradients flow to what it is made from,
    ``module.parametrizations.<tensor_name>.original``.

    Args:
        parametrization: its ``forward`` computes the tensor; its ``right_inverse``, if it has one, finds what to start
            from, also when the tensor is assigned to.
        unsafe: the shape and dtype may change.

    Raises:
        ValueError: the module has no such parameter or buffer, or shape or dtype change.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        present = getattr(module, tensor_name)
        if not unsafe:
            _check(parametrization(present), present.shape, present.dtype)
        rows: Any = module.parametrizations[tensor_name]
        rows.append(parametrization)
        rows.unsafe |= unsafe
        return module
    if tensor_name not in module._parameters and tensor_name not in module._buffers:
        raise ValueError(
            f"Module '{module}' does not have a parameter, a buffer, or a parametrized element with name "
            f"'{tensor_name}'"
        )
    rows = ParametrizationList([parametrization], getattr(module, tensor_name), unsafe)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        kind = type(module)
        # A class of its own, since a property belongs to a class.
        module.__class__ = type(f"Parametrized{kind.__name__}", (kind,), {"__module__": kind.__module__})
        module.parametrizations = ModuleDict()
    setattr(type(module), tensor_name, _property(tensor_name))
    module.parametrizations[tensor_name] = rows
    return module


def _property(name: str) -> property:
    def read(module: Module) -> Any:
        if not _keeping:
            return module.parametrizations[name]()
        key = (id(module), name)
        if key not in _kept:
            _kept[key] = module.parametrizations[name]()
        return _kept[key]

    def assign(module: Module, value: Tensor) -> None:
        module.parametrizations[name].right_inverse(value)

    return property(read, assign)


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether a tensor of the module, or any, is parametrized."""
    rows = getattr(module, "parametrizations", None)
    return isinstance(rows, ModuleDict) and (len(rows) > 0 if tensor_name is None else tensor_name in rows)


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Make ``module.<tensor_name>`` a parameter or buffer again.

    Args:
        leave_parametrized: as it was last computed; else as it was before, ``original``.

    Raises:
        ValueError: it is not parametrized, or there is no single tensor that it was before.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    rows: Any = module.parametrizations[tensor_name]
    if not rows.is_tensor and not leave_parametrized:
        raise ValueError(
            "Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is parametrized in terms of a "
            "sequence of tensors."
        )
    value = getattr(module, tensor_name)
    tensor = rows.original if rows.is_tensor else Parameter(value) if value.requires_grad else value
    if leave_parametrized and rows.is_tensor:
        tensor.data = value.detach()
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    if not is_parametrized(module):
        delattr(module, "parametrizations")
        module.__class__ = type(module).__bases__[0]
    _register(module, tensor_name, tensor)
    return module


def type_before_parametrizations(module: Module) -> type:
    """The class that the module had before it was parametrized."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)
