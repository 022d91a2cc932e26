"""Derivatives of functions: whole Jacobians and Hessians, and their products with vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend import module_of
from ..engine import enable_grad
from ..ops import core
from ..tensor import Tensor, grad

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]


def _tensors(value: Any, what: str, who: str) -> tuple[tuple[Any, ...], bool]:
    several = isinstance(value, tuple)
    found = value if several else (value,)
    for t in found:
        if not isinstance(t, Tensor):
            raise TypeError(
                f"The {what} given to {who} must be either a Tensor or a tuple of Tensors but the given {what} has "
                f"type {type(t).__name__}."
            )
    return tuple(found), several


def _evaluate(func: Callable[..., Any], inputs: Any, create_graph: bool, who: str) -> tuple[Any, ...]:
    """Inputs of their own history (or, with ``create_graph``, of the caller's), the outputs, and which were tuples."""
    given, several_in = _tensors(inputs, "inputs", who)
    prepared = tuple(
        core.REGISTRY["clone"](t) if create_graph and t._needs_grad else t.detach().requires_grad_() for t in given
    )
    outputs, several_out = _tensors(func(*prepared), "outputs of the user-provided function", who)
    return prepared, several_in, outputs, several_out


def gradients(outputs: Any, inputs: Any, directions: Any, create_graph: bool, strict: bool, who: str) -> list[Any]:
    """The gradients of ``outputs``; zeros (or with ``strict`` an error) where there is no dependence."""
    needed = [k for k, out in enumerate(outputs) if out._needs_grad]
    if strict and len(needed) < len(outputs):
        k = next(k for k in range(len(outputs)) if k not in needed)
        raise RuntimeError(
            f"Output {k} of the user-provided function does not require gradients. The outputs must be computed in a "
            f"differentiable manner from the input when running in strict mode ({who})."
        )
    found: Any = [None] * len(inputs)
    if needed:
        chosen = [outputs[k] for k in needed], inputs, [directions[k] for k in needed]
        found = grad(*chosen, retain_graph=True, create_graph=create_graph, allow_unused=True)
    answers = []
    for k, (t, gradient) in enumerate(zip(inputs, found, strict=True)):
        if gradient is None:
            if strict:
                raise RuntimeError(f"{who}: the outputs of the user-provided function are independent of input {k}.")
            gradient = Tensor._wrap(module_of(t._data).zeros(t._data.shape, t.dtype))
        answers.append(gradient)
    return answers


def _finish(value: Any, several: bool, create_graph: bool) -> Any:
    found = tuple(value) if create_graph else tuple(t.detach() for t in value)
    return found if several else found[0]


def _directions(v: Any, like: tuple[Any, ...], who: str, what: str) -> tuple[Any, ...]:
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise RuntimeError(f"The vector v can only be None if {what} a single Tensor with a single element.")
        return (Tensor._wrap(module_of(like[0]._data).ones(like[0]._data.shape, like[0].dtype)),)
    found, _ = _tensors(v, "v", who)
    if len(found) != len(like):
        raise RuntimeError(f"v is a tuple of invalid length: should be {len(like)} but got {len(found)}.")
    for t, other in zip(found, like, strict=True):
        if t.shape != other.shape:
            raise RuntimeError(f"v has invalid size: should be {other.shape} but got {t.shape}.")
    return found


def rows(out: Any, sources: Any, create_graph: bool, strict: bool, who: str) -> list[Any]:
    """The Jacobian of one output by each source, computed row by row: blocks of shape ``out.shape + source.shape``."""
    xp = module_of(out._data)
    found: list[list[Any]] = [[] for _ in sources]
    for k in range(out.numel()):
        direction = xp.zeros(out.numel(), out.dtype)
        direction[k] = 1
        direction = Tensor._wrap(direction.reshape(out._data.shape))
        each = gradients([out], sources, [direction], create_graph, strict, who)
        for row, gradient in zip(found, each, strict=True):
            row.append(gradient)
    blocks = []
    for t, row in zip(sources, found, strict=True):
        shape = (*out.shape, *t.shape)
        blocks.append(core.FUNCTIONS["stack"](row).reshape(shape) if row else Tensor._wrap(xp.zeros(shape, t.dtype)))
    return blocks


def jacobian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian of ``func`` at ``inputs``: a tensor of shape ``output.shape + input.shape``.

    Several inputs or outputs give (nested) tuples, the outputs outside.

    Args:
        create_graph: make the result differentiable.
        strict: raise where an output does not depend on an input, instead of giving zeros.
        vectorize, strategy: accepted; the rows are computed one by one, in reverse mode.

    Raises:
        TypeError: inputs or outputs are no tensors.
        RuntimeError: in strict mode, as said.
    """
    with enable_grad():
        sources, several_in, outputs, several_out = _evaluate(func, inputs, create_graph, "jacobian")
        found = [
            _finish(rows(out, sources, create_graph, strict, "jacobian"), several_in, create_graph) for out in outputs
        ]
    return tuple(found) if several_out else found[0]


def hessian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The Hessian of ``func``, which returns one element: for inputs a, b blocks of shape ``a.shape + b.shape``.

    Args:
        create_graph, strict, vectorize, outer_jacobian_strategy: as for :func:`jacobian`.

    Raises:
        RuntimeError: ``func`` returns more than one element, or as for :func:`jacobian`.
    """
    several = isinstance(inputs, tuple)

    def first(*args: Any) -> Any:
        out = func(*args)
        if not isinstance(out, Tensor) or out.numel() != 1:
            raise RuntimeError("The Tensor returned by the function given to hessian should contain a single element")
        one = Tensor._wrap(module_of(out._data).ones(out._data.shape, out.dtype))
        return tuple(gradients([out], args, [one], True, strict, "hessian"))

    found = jacobian(first, inputs, create_graph, strict)
    return found if several else found[0]


def vjp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """``(func(inputs), v^T J)``: the outputs, and the product of a vector of their shape with the Jacobian.

    Raises:
        RuntimeError: ``v`` does not have the outputs' shapes, or is missing where they have several elements.
    """
    with enable_grad():
        sources, several_in, outputs, several_out = _evaluate(func, inputs, create_graph, "vjp")
        v = _directions(v, outputs, "vjp", "the user-provided function returns")
        found = gradients(outputs, sources, v, create_graph, strict, "vjp")
    return _finish(outputs, several_out, create_graph), _finish(found, several_in, create_graph)


def jvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """``(func(inputs), J v)``: the outputs, and the product of the Jacobian with a vector of the inputs' shape.

    Computed as the gradient of ``u -> u^T J``, which is linear in ``u``.

    Raises:
        RuntimeError: ``v`` does not have the inputs' shapes, or is missing where they have several elements.
    """
    with enable_grad():
        sources, _, outputs, several_out = _evaluate(func, inputs, create_graph, "jvp")
        v = _directions(v, sources, "jvp", "the input to the user-provided function is")
        dual = [Tensor._wrap(module_of(t._data).zeros(t._data.shape, t.dtype)).requires_grad_() for t in outputs]
        products = gradients(outputs, sources, dual, True, strict, "jvp")
        found = gradients(products, dual, v, create_graph, False, "jvp")
    return _finish(outputs, several_out, create_graph), _finish(found, several_out, create_graph)


def vhp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """``(func(inputs), v^T H)`` for a ``func`` that returns one element.

    Raises:
        RuntimeError: ``func`` returns more than one element, or as for :func:`jvp`.
    """
    with enable_grad():
        sources, several_in, outputs, several_out = _evaluate(func, inputs, create_graph, "vhp")
        v = _directions(v, sources, "vhp", "the input to the user-provided function is")
        if len(outputs) != 1 or outputs[0].numel() != 1:
            raise RuntimeError("The Tensor returned by the function given to vhp should contain a single element")
        one = Tensor._wrap(module_of(outputs[0]._data).ones(outputs[0]._data.shape, outputs[0].dtype))
        first = gradients(outputs, sources, [one], True, strict, "vhp")
        found = gradients(first, sources, v, create_graph, False, "vhp")
    return _finish(outputs, several_out, create_graph), _finish(found, several_in, create_graph)


def hvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """``(func(inputs), H v)``: the same as :func:`vhp`, as a Hessian is symmetric.

    Raises:
        RuntimeError: as for :func:`vhp`.
    """
    return vhp(func, inputs, v, create_graph, strict)
