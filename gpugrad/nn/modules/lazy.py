"""Modules that learn their input size from their first input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...engine import no_grad
from ..parameter import is_lazy
from .module import Module


class LazyModuleMixin(Module):
    """Becomes the ordinary module ``cls_to_become`` at its first call.

    A subclass says in ``infer_shapes(input)`` how to make its parameters.
    """

    cls_to_become: type[Module]
    infer_shapes: Callable[[Any], None]
    reset_parameters: Callable[[], None]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Take the shapes from the first argument, then call the module as usual."""
        self.initialize_parameters(*args, **kwargs)
        self.__class__ = self.cls_to_become  # type: ignore[assignment]
        return self(*args, **kwargs)

    def has_uninitialized_params(self) -> bool:
        """Whether a parameter or buffer still waits for its shape."""
        return any(is_lazy(t) for t in [*self._parameters.values(), *self._buffers.values()])

    @no_grad()
    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Give the parameters the shapes that the input asks for, and their initial values."""
        input = args[0] if args else next(iter(kwargs.values()))
        waiting = self.has_uninitialized_params()
        self.infer_shapes(input)
        if waiting:
            self.reset_parameters()
