"""Derivatives of functions as functions, and modules as functions of their parameters, under PyTorch's names.

What is differentiated by may be a tensor, or tensors in tuples, lists and dicts.  The
transforms nest, and what they return has a gradient where it depends on tensors
outside that need one.  There is no ``vmap``: call with a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .autograd.functional import gradients, rows
from .backend import module_of
from .engine import Node, enable_grad, modes
from .nn.modules.module import Module
from .ops import core
from .tensor import Tensor

__all__ = ["functional_call", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "vjp"]


# Tensors in nested tuples, lists and dicts.


def _leaves(tree: Any, what: str, error: type[Exception] = RuntimeError) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, Mapping | tuple | list):
        values = tree.values() if isinstance(tree, Mapping) else tree
        return [t for value in values for t in _leaves(value, what, error)]
    raise error(f"{what} must be a tensor, or tensors in tuples, lists and dicts, but got {type(tree).__name__}")


def _map(function: Callable[[Any], Any], tree: Any) -> Any:
    """A tree with ``function`` of each of its leaves in their place."""
    if isinstance(tree, Mapping):
        return type(tree)((key, _map(function, value)) for key, value in tree.items())  # type: ignore[call-arg]
    if isinstance(tree, tuple | list):
        values = [_map(function, value) for value in tree]
        return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)
    return function(tree)


def _like(tree: Any, values: Sequence[Any]) -> Any:
    """A tree of the form of another, of other leaves in their order."""
    rest: Iterator[Any] = iter(values)
    return _map(lambda _: next(rest), tree)


def _same_form(a: Any, b: Any) -> bool:
    """Whether two trees have the same form and tensors of the same shapes."""
    if isinstance(a, Mapping) or isinstance(b, Mapping):
        return (
            isinstance(a, Mapping)
            and isinstance(b, Mapping)
            and list(a) == list(b)
            and _same_form([*a.values()], [*b.values()])
        )
    if isinstance(a, tuple | list) or isinstance(b, tuple | list):
        both = isinstance(a, tuple | list) and isinstance(b, tuple | list) and len(a) == len(b)
        return both and all(_same_form(x, y) for x, y in zip(a, b, strict=True))
    return isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape


# Calls that are recorded.


class _Call:
    """A call of a function with some of its arguments as fresh variables.

    Attributes:
        trees: the arguments to differentiate by, and ``inputs`` the tensors in them.
        output: the result, ``outputs`` the tensors in it, and ``aux`` what came with it.
        taped: whether derivatives are recorded, since they depend on tensors outside of the call.
    """

    def __init__(self, who: str, func: Any, args: tuple[Any, ...], kwargs: Any, places: Sequence[int], has_aux: bool):
        self.who = who
        recording = modes.grad
        self.trees = [args[k] for k in places]
        with enable_grad():
            fresh = [
                core.REGISTRY["clone"](t) if recording and t._needs_grad else t.detach().requires_grad_()
                for t in _leaves(self.trees, f"{who}: what is differentiated by", ValueError)
            ]
            arguments = list(args)
            for k, tree in zip(places, _like(self.trees, fresh), strict=True):
                arguments[k] = tree
            found = func(*arguments, **kwargs)
        self.inputs, self.aux = fresh, None
        if has_aux:
            if not (isinstance(found, tuple) and len(found) == 2):
                raise RuntimeError(
                    f"{who}: output of function f should be a tuple: (output, aux) if has_aux is True, "
                    f"but got {type(found).__name__}"
                )
            found, self.aux = found
        self.output = found
        self.outputs = _leaves(found, f"{who}: the output of the function")
        self.taped = recording and self._reaches_outside()

    def _reaches_outside(self) -> bool:
        inside = {id(t) for t in self.inputs}
        stack: list[Any] = [t.grad_fn or t for t in self.outputs if t._needs_grad]
        seen = set(map(id, stack))
        while stack:
            node = stack.pop()
            if not isinstance(node, Node):
                if id(node) not in inside:
                    return True
                continue
            for parent in node.parents:
                if parent is not None and id(parent) not in seen:
                    seen.add(id(parent))
                    stack.append(parent)
        return False

    def gradients(self, directions: Sequence[Tensor]) -> list[Tensor]:
        """The gradients of the inputs."""
        return gradients(self.outputs, self.inputs, directions, self.taped, False, self.who)

    def pushed(self) -> tuple[list[Tensor], list[Tensor]]:
        """Variables u, and the gradients ``u J``: linear in u, so that their gradient is ``J v``."""
        u = [_filled("zeros", t).requires_grad_() for t in self.outputs]
        return u, gradients(self.outputs, self.inputs, u, True, False, self.who)

    def shown(self, value: Any) -> Any:
        """What the function returned, as the caller may have it."""
        return value if self.taped else _map(lambda t: t.detach() if isinstance(t, Tensor) else t, value)


def _filled(how: str, like: Tensor) -> Tensor:
    xp = module_of(like._data)
    with core.beside(like._data):
        return Tensor._wrap(getattr(xp, how)(like._data.shape, like.dtype))


def _places(argnums: Any, args: tuple[Any, ...], who: str) -> list[int]:
    found = argnums if isinstance(argnums, tuple) else (argnums,)
    if not found or not all(isinstance(k, int) for k in found):
        raise RuntimeError(f"{who}: argnums must be an int or a tuple of ints that is not empty, but got {argnums!r}")
    if any(not -len(args) <= k < len(args) for k in found):
        raise RuntimeError(f"{who}: got argnums={argnums}, but only {len(args)} positional inputs")
    places = [k % len(args) for k in found]
    if len(set(places)) != len(places):
        raise RuntimeError(f"{who}: the elements of argnums must be unique, but got {argnums}")
    return places


def _by_argument(call: _Call, argnums: Any, values: Sequence[Any]) -> Any:
    """Values for the inputs in the form of the arguments: a tuple of trees, or the tree of the only one."""
    found = _like(tuple(call.trees), values)
    return found if isinstance(argnums, tuple) else found[0]


def grad_and_value(func: Callable[..., Any], argnums: Any = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the gradient of ``func``, which returns one number, and its value.

    Args:
        argnums: which positional argument to differentiate by; a tuple gives a tuple of gradients.
        has_aux: whether ``func`` returns a pair of which the second is passed on: ``(gradient, (value, aux))``.

    Raises:
        RuntimeError: by the function returned, if there is no such argument, or ``func`` returns no 0-d tensor.
    """

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = _Call("grad_and_value", func, args, kwargs, _places(argnums, args, "grad_and_value"), has_aux)
        value = call.output
        if not isinstance(value, Tensor) or value.ndim:
            got = f"tensor with {value.ndim} dims" if isinstance(value, Tensor) else type(value).__name__
            raise RuntimeError(
                f"grad_and_value(f)(*args): Expected f(*args) to return a scalar tensor, got {got}. "
                "Maybe you wanted to use the vjp or jacrev APIs instead?"
            )
        found = _by_argument(call, argnums, call.gradients([_filled("ones", value)]))
        shown = call.shown(value)
        return found, (shown, call.shown(call.aux)) if has_aux else shown

    return wrapper


def grad(func: Callable[..., Any], argnums: Any = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the gradient of ``func``, which returns one number; see ``grad_and_value``.

    With ``has_aux`` it returns ``(gradient, aux)``.
    """
    both = grad_and_value(func, argnums, has_aux)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        found, value = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return wrapper


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """``func(*primals)``, and a function that gives the product of a vector of its form with the Jacobian.

    The function returns a tuple: one product for each of ``primals``.

    Args:
        has_aux: whether ``func`` returns a pair of which the second is passed on, as a third result.

    Raises:
        RuntimeError: there are no primals, or (by the function returned) the vector has another form.
    """
    if not primals:
        raise RuntimeError("vjp(f, *primals): expected at least one primal")
    call = _Call("vjp", func, primals, {}, range(len(primals)), has_aux)

    def product(cotangents: Any) -> tuple[Any, ...]:
        if not _same_form(cotangents, call.output):
            raise RuntimeError("vjp: the cotangents must have the form and the shapes of the function's output")
        return _like(primals, call.gradients(_leaves(cotangents, "the cotangents")))

    found = call.shown(call.output), product
    return (*found, call.shown(call.aux)) if has_aux else found


def jvp(
    func: Callable[..., Any], primals: Any, tangents: Any, *, strict: bool = False, has_aux: bool = False
) -> tuple[Any, ...]:
    """``func(*primals)``, and the product of the Jacobian with ``tangents``; by two backwards.

    Args:
        primals, tangents: tuples of the same form.
        strict: accepted; where an output does not depend on the primals, the product is zero.
        has_aux: whether ``func`` returns a pair of which the second is passed on, as a third result.

    Raises:
        RuntimeError: the primals are no tuple, or the tangents have another form.
    """
    if not isinstance(primals, tuple) or not primals:
        raise RuntimeError(f"jvp(f, primals, tangents): primals must be a tuple, but got {type(primals).__name__}")
    if not isinstance(tangents, tuple) or not _same_form(primals, tangents):
        raise RuntimeError("jvp: the tangents must be a tuple of the form and the shapes of the primals")
    call = _Call("jvp", func, primals, {}, range(len(primals)), has_aux)
    u, products = call.pushed()
    found = gradients(products, u, _leaves(tangents, "the tangents"), call.taped, False, "jvp")
    answer = call.shown(call.output), _like(call.output, found)
    return (*answer, call.shown(call.aux)) if has_aux else answer


def _jacobian(who: str, func: Callable[..., Any], argnums: Any, has_aux: bool, blocks_of: Any) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = _Call(who, func, args, kwargs, _places(argnums, args, who), has_aux)
        found = [_by_argument(call, argnums, blocks) for blocks in blocks_of(call)]
        jacobian = _like(call.output, found)
        return (jacobian, call.shown(call.aux)) if has_aux else jacobian

    return wrapper


def jacrev(
    func: Callable[..., Any], argnums: Any = 0, has_aux: bool = False, *, chunk_size: int | None = None
) -> Callable[..., Any]:
    """A function that returns the Jacobian of ``func``, of shape ``output.shape + input.shape``, row by row.

    Several outputs or inputs give their form, the outputs outside.

    Args:
        argnums: which positional argument to differentiate by; a tuple gives tuples.
        has_aux: whether ``func`` returns a pair of which the second is passed on: ``(jacobian, aux)``.
        chunk_size: accepted; rows are computed one by one.

    Raises:
        RuntimeError: by the function returned, if there is no such argument, or ``func`` returns no tensors.
    """

    def blocks(call: _Call) -> list[list[Tensor]]:
        return [rows(out, call.inputs, call.taped, False, "jacrev") for out in call.outputs]

    return _jacobian("jacrev", func, argnums, has_aux, blocks)


def jacfwd(
    func: Callable[..., Any], argnums: Any = 0, has_aux: bool = False, *, randomness: str = "error"
) -> Callable[..., Any]:
    """As ``jacrev``, but column by column, which is faster where there are fewer inputs than outputs.

    Args:
        randomness: accepted; ``func`` is called once.
    """

    def blocks(call: _Call) -> list[list[Tensor]]:
        u, products = call.pushed()
        columns = [rows(product, u, call.taped, False, "jacfwd") for product in products]
        # Of shape input.shape + output.shape, an input in each row.
        return [
            [
                block.reshape(t.numel(), out.numel()).t().reshape(*out.shape, *t.shape)
                for block, t in zip(of_output, call.inputs, strict=True)
            ]
            for of_output, out in zip(zip(*columns, strict=True), call.outputs, strict=True)
        ]

    return _jacobian("jacfwd", func, argnums, has_aux, blocks)


def hessian(func: Callable[..., Any], argnums: Any = 0) -> Callable[..., Any]:
    """A function that returns the Hessian of ``func``: the Jacobian of its Jacobian; see ``jacrev``."""
    return jacrev(jacrev(func, argnums), argnums)


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: Any,
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """``module(*args, **kwargs)`` with other tensors in the place of its parameters and buffers; gradients reach them.

    What the call changes in place, such as running statistics, it changes in the tensors given.

    Args:
        parameter_and_buffer_dicts: tensors by dotted name, or several such dicts.
        args: a tuple of arguments, or a single one.
        tie_weights: put a tensor in every place where the module has the one that it replaces.
        strict: whether all must be given, and nothing else; otherwise unknown names are passed over.

    Raises:
        RuntimeError: with ``strict``, a name is missing or unknown.
        ValueError: the dicts are none, two give the same name, or tied names are given different tensors.
        TypeError: a value is no tensor.
    """
    dicts = (
        [parameter_and_buffer_dicts] if isinstance(parameter_and_buffer_dicts, Mapping) else parameter_and_buffer_dicts
    )
    if not isinstance(dicts, Sequence) or not all(isinstance(d, Mapping) for d in dicts):
        raise ValueError(
            f"Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, but got {dicts!r}"
        )
    given: dict[str, Tensor] = {}
    for each in dicts:
        for name, value in each.items():
            if name in given:
                raise ValueError(f"{name} appeared in multiple dictionaries; behavior of functional call is ambiguous")
            if not isinstance(value, Tensor):
                raise TypeError(f"functional_call: {name!r} must be a tensor, but got {type(value).__name__}")
            given[name] = value
    known = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    names_of: dict[int, list[str]] = {}
    for name, tensor in known.items():
        names_of.setdefault(id(tensor), []).append(name)
    unknown = [name for name in given if name not in known]
    chosen = {name: value for name, value in given.items() if name in known}
    if tie_weights:
        for name in list(chosen):
            for other in names_of[id(known[name])]:
                if chosen.setdefault(other, given[name]) is not given[name]:
                    raise ValueError(
                        f"functional_call: {name!r} and {other!r} are tied, but were given different values"
                    )
    if strict and (unknown or len(chosen) < len(known)):
        missing = [name for name in known if name not in chosen]
        raise RuntimeError(
            f"Error(s) in loading state_dict for {type(module).__name__}: unexpected key(s) {unknown}, "
            f"missing key(s) {missing}"
        )
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    places = [(module.get_submodule(name.rpartition(".")[0]).__dict__, name.rpartition(".")[2]) for name in chosen]
    before = [values[name] for values, name in places]
    try:
        for (values, name), tensor in zip(places, chosen.values(), strict=True):
            values[name] = tensor
        return module(*args, **(kwargs or {}))
    finally:
        for (values, name), tensor in zip(places, before, strict=True):
            values[name] = tensor
