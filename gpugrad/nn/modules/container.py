"""Modules that hold modules or parameters: in a row, in a list, by name."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, TypeVar

from ...tensor import Tensor
from ..parameter import Parameter
from .module import MODULE, Module, indented

S = TypeVar("S", bound="_ModuleRow")


def _position(index: Any, length: int) -> int:
    """An index counted from the front.

    Raises:
        IndexError: it is out of range.
    """
    index = operator.index(index)
    if not -length <= index < length:
        raise IndexError(f"index {index} is out of range")
    return index % length


class _ModuleRow(Module):
    """What Sequential and ModuleList have in common: submodules with positions."""

    def _members(self) -> list[Module]:
        values = self.__dict__
        return [values[name] for name, kind in self._registry.items() if kind == MODULE]

    def _replace_all(self, modules: Iterable[Module]) -> None:
        # After a change of places the names are the positions again.
        modules = list(modules)
        for name in list(self._modules):
            delattr(self, name)
        for k, module in enumerate(modules):
            self.add_module(str(k), module)

    def _name(self, index: Any) -> str:
        names = list(self._modules)
        return names[_position(index, len(names))]

    def __len__(self) -> int:
        return len(self._members())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._members())

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._name(index), module)

    def __delitem__(self, index: int | slice) -> None:
        members = self._members()
        del members[index if isinstance(index, slice) else _position(index, len(members))]
        self._replace_all(members)

    def append(self: S, module: Module) -> S:
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self: S, modules: Iterable[Module]) -> S:
        """Add several modules at the end.

        Raises:
            TypeError: ``modules`` is not iterable.
        """
        if not isinstance(modules, Iterable):
            raise TypeError(f"extend should be called with an iterable, but got {type(modules).__name__}")
        for module in list(modules):
            self.append(module)
        return self

    def _insert(self, index: int, module: Module) -> None:
        members = self._members()
        members.insert(index, module)
        self._replace_all(members)

    def pop(self, key: int | slice) -> Any:
        """Take a module out and return it."""
        module = self[key]  # type: ignore[index]
        del self[key]
        return module

    def __iadd__(self: S, modules: Iterable[Module]) -> S:
        return self.extend(modules)


class Sequential(_ModuleRow):
    """Modules that are applied one after the other.

    Takes the modules as arguments, or one OrderedDict of names and modules.
    """

    def __init__(self, *args: Any):
        super().__init__()
        named = args[0] if len(args) == 1 and isinstance(args[0], dict) else {str(k): m for k, m in enumerate(args)}
        for name, module in named.items():
            self.add_module(name, module)

    def forward(self, input: Any) -> Any:
        """Hand the input through all modules."""
        for module in self._members():
            input = module(input)
        return input

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(dict(list(self._modules.items())[index]))
        return self._modules[self._name(index)]

    def __add__(self, other: Sequential) -> Sequential:
        if not isinstance(other, Sequential):
            raise ValueError(f"add operator supports only objects of Sequential class, but {type(other)} is given.")
        return Sequential(*self, *other)

    def insert(self, index: int, module: Module) -> Sequential:
        """Add a module before the one at ``index``.

        Raises:
            TypeError: ``module`` is no Module.
            IndexError: ``index`` is out of range.
        """
        if not isinstance(module, Module):
            raise TypeError(f"module should be of type: {Module}")
        if not -len(self) <= index <= len(self):
            raise IndexError(f"Index out of range: {index}")
        self._insert(index, module)
        return self


class ModuleList(_ModuleRow):
    """A list of modules, which are registered as submodules."""

    def __init__(self, modules: Iterable[Module] | None = None):
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(self._members()[index])
        return self._modules[self._name(index)]

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList(chain(self, other))

    def insert(self, index: int, module: Module) -> None:
        """Add a module before the one at ``index``."""
        self._insert(index, module)

    def __repr__(self) -> str:
        # Neighbours with the same text are shown once, with their range and number.
        groups: list[list[Any]] = []
        for k, text in enumerate(map(repr, self)):
            if groups and groups[-1][2] == text:
                groups[-1][1] = k
            else:
                groups.append([k, k, text])
        if not groups:
            return f"{self._get_name()}()"
        lines = [
            f"({first}): {indented(text)}"
            if first == last
            else f"({first}-{last}): {last - first + 1} x {indented(text)}"
            for first, last, text in groups
        ]
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"


def _pairs(items: Any, who: str) -> list[tuple[str, Any]]:
    """The pairs of a mapping or of an iterable of pairs.

    Raises:
        TypeError: ``items`` is neither.
        ValueError: an element is no pair.
    """
    if isinstance(items, Mapping | ModuleDict | ParameterDict):
        return list(items.items())
    if not isinstance(items, Iterable):
        raise TypeError(f"{who} should be called with an iterable of key/value pairs, but got {type(items).__name__}")
    pairs = [tuple(item) if isinstance(item, Iterable) else (item,) for item in items]
    for k, pair in enumerate(pairs):
        if len(pair) != 2:
            raise ValueError(f"{who} element #{k} has length {len(pair)}; 2 is required")
    return pairs


class ModuleDict(Module):
    """A dict of modules, which are registered as submodules."""

    def __init__(self, modules: Any = None):
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Module:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def clear(self) -> None:
        """Remove all modules."""
        self._modules.clear()

    def pop(self, key: str) -> Module:
        """Take a module out and return it."""
        return self._modules.pop(key)

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._modules.keys()

    def items(self) -> Iterable[tuple[str, Module]]:
        """The names with their modules."""
        return self._modules.items()

    def values(self) -> Iterable[Module]:
        """The modules."""
        return self._modules.values()

    def update(self, modules: Any) -> None:
        """Add the modules of a mapping or of an iterable of pairs.

        Raises:
            TypeError: ``modules`` is neither.
            ValueError: an element is no pair.
        """
        for key, module in _pairs(modules, "ModuleDict.update"):
            self[key] = module


def _as_parameter(value: Any) -> Any:
    return Parameter(value) if isinstance(value, Tensor) and not isinstance(value, Parameter) else value


def _listing(items: Iterable[tuple[Any, Any]]) -> str:
    lines = []
    for key, value in items:
        text = f"Object of type: {type(value).__name__}"
        if isinstance(value, Tensor):
            size = "x".join(map(str, value.shape)) + (f" ({value.device})" if value.is_cuda else "")
            text = f"Parameter containing: [gpugrad.{value.dtype.name} of size {size}]"
        lines.append(f"  ({key}): {text}")
    return "\n".join(lines)


class ParameterList(Module):
    """A list of parameters, which are registered; tensors put into it become parameters, other values are just kept."""

    def __init__(self, values: Iterable[Any] | None = None):
        super().__init__()
        self._size = 0
        if values is not None:
            self.extend(values)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return getattr(self, str(_position(index, self._size)))

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, str(_position(index, self._size)), _as_parameter(value))

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return iter([self[k] for k in range(self._size)])

    def __iadd__(self, values: Iterable[Any]) -> ParameterList:
        return self.extend(values)

    def append(self, value: Any) -> ParameterList:
        """Add a value at the end."""
        setattr(self, str(self._size), _as_parameter(value))
        self._size += 1
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        """Add several values at the end.

        Raises:
            TypeError: ``values`` is not iterable, or a tensor itself.
        """
        if not isinstance(values, Iterable) or isinstance(values, Tensor):
            raise TypeError(f"ParameterList.extend should be called with an iterable, but got {type(values).__name__}")
        for value in list(values):
            self.append(value)
        return self

    def pop(self, index: int = -1) -> Any:
        """Take a value out and return it."""
        values = list(self)
        value = values.pop(index)
        for k in range(self._size):
            delattr(self, str(k))
        self._size = 0
        self.extend(values)
        return value

    def extra_repr(self) -> str:
        return _listing(enumerate(self))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Not possible.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("ParameterList should not be called.")


class ParameterDict(Module):
    """A dict of parameters, which are registered; tensors put into it become parameters, other values are just kept."""

    def __init__(self, parameters: Any = None):
        super().__init__()
        self._keys: dict[str, None] = {}
        if parameters is not None:
            self.update(parameters)

    def __getitem__(self, key: str) -> Any:
        if key not in self._keys:
            raise KeyError(key)
        return getattr(self, key)

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"ParameterDict: a key must be a string, but got {type(key).__name__}")
        if key not in self._keys and hasattr(self, key):
            raise KeyError(f"attribute '{key}' already exists")
        self._keys[key] = None
        setattr(self, key, _as_parameter(value))

    def __delitem__(self, key: str) -> None:
        del self._keys[key]
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def get(self, key: str, default: Any = None) -> Any:
        """The value under a key, or a default."""
        return self[key] if key in self._keys else default

    def pop(self, key: str) -> Any:
        """Take a value out and return it."""
        value = self[key]
        del self[key]
        return value

    def clear(self) -> None:
        """Remove all values."""
        for key in list(self._keys):
            del self[key]

    def keys(self) -> Iterable[str]:
        """The keys."""
        return self._keys.keys()

    def values(self) -> Iterable[Any]:
        """The values."""
        return [self[key] for key in self._keys]

    def items(self) -> Iterable[tuple[str, Any]]:
        """The keys with their values."""
        return [(key, self[key]) for key in self._keys]

    def update(self, parameters: Any) -> None:
        """Add the values of a mapping or of an iterable of pairs.

        Raises:
            TypeError: ``parameters`` is neither.
            ValueError: an element is no pair.
        """
        for key, value in _pairs(parameters, "ParametersDict.update"):
            self[key] = value

    def extra_repr(self) -> str:
        return _listing(self.items())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Not possible.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("ParameterDict should not be called.")
