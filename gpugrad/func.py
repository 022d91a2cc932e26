"""Derivatives of functions as functions, and modules as functions of their parameters, under PyTorch's names.

What is differentiated by may be a tensor, or tensors in tuples, lists and dicts.  The
transforms nest, and what they return has a gradient where it depends on tensors
outside that need one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .autograd.functional import gradients, rows
from .backend import module_of
from .backend import random as streams
from .engine import Node, enable_grad, modes
from .nn.modules.module import Module
from .ops import FUNCTIONS, core
from .tensor import Tensor

__all__ = [
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "jacfwd",
    "jacrev",
    "jvp",
    "stack_module_state",
    "vjp",
    "vmap",
]


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


# Calls for each slice.


def _dims_of(tree: Any, dims: Any, error: Exception) -> list[Any]:
    """The dimension for each leaf of a tree, where ``dims`` is one for all, or a tree of its form or coarser."""
    if dims is None or isinstance(dims, int):
        found: list[Any] = []
        _map(lambda _: found.append(dims), tree)
        return found
    if isinstance(tree, Mapping) and isinstance(dims, Mapping) and list(tree) == list(dims):
        return [dim for key, value in tree.items() for dim in _dims_of(value, dims[key], error)]
    if isinstance(tree, tuple | list) and type(dims) is type(tree) and len(dims) == len(tree):
        return [dim for value, each in zip(tree, dims, strict=True) for dim in _dims_of(value, each, error)]
    raise error


def _flat(tree: Any) -> list[Any]:
    found: list[Any] = []
    _map(found.append, tree)
    return found


def _sliced(values: list[Any], dims: list[Any], who: str) -> tuple[int, list[Any]]:
    """How many slices there are, and for each value the slices, or None where it is not to be cut."""
    unbind, sizes = FUNCTIONS["unbind"], []
    cut: list[Any] = []
    for value, dim in zip(values, dims, strict=True):
        if dim is None:
            continue
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{who}: Got in_dim={dim} for an input but the input is of type {type(value)}. "
                "We cannot vmap over non-Tensor arguments, please use None as the respective in_dim"
            )
        if not -value.ndim <= dim < value.ndim:
            raise ValueError(
                f"{who}: Got in_dim={dim} for some input, but that input is a Tensor of dimensionality {value.ndim} "
                f"so expected in_dim to satisfy -{value.ndim} <= in_dim < {value.ndim}."
            )
        sizes.append(value.shape[dim])
    if not sizes:
        raise ValueError(f"{who}: at least one input must be mapped, but in_dims is None for all")
    if len(set(sizes)) > 1:
        raise ValueError(
            f"{who}: Expected all tensors to have the same size in the mapped dimension, got sizes {sizes} "
            "for the mapped dimension"
        )
    for value, dim in zip(values, dims, strict=True):
        if dim is None:
            cut.append(None)
        elif sizes[0]:
            cut.append(unbind(value, dim))
        else:
            shape = list(value.shape)
            del shape[dim]
            cut.append([value.new_zeros(shape)])
    return sizes[0], cut


def _refuse_draws(generator: Any) -> None:
    raise RuntimeError(
        "vmap: called random operation while in randomness error mode. Please either use the 'same' or 'different' "
        "randomness flags on vmap or perform the randomness operation out of vmap"
    )


def _joined(results: list[Any], dim: int | None, count: int, who: str) -> Any:
    """What the calls returned in one place, in one tensor."""
    first = results[0]
    if dim is None:
        same = all(
            each is first or (isinstance(first, Tensor) and first.shape == each.shape and bool((first == each).all()))
            for each in results[1:]
        )
        if not (same or (not isinstance(first, Tensor) and all(each == first for each in results))):
            raise ValueError(f"{who}: what differs between the slices cannot be returned when out_dim is None")
        return first
    if not all(isinstance(each, Tensor) for each in results):
        raise ValueError(
            f"{who}: the function must only return Tensors, got type {type(first)}. "
            "Did you mean to set out_dims= to None for output?"
        )
    joined = FUNCTIONS["stack"](results, dim)
    return joined if count else joined.narrow(dim, 0, 0)


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """A function that maps ``func`` over a dimension of its arguments.

    ``func`` is called once for each slice and the results are stacked: no faster than a loop, but it works for every
    function, with control flow that depends on values too. What ``func`` changes outside of it, it changes at each
    call.

    Args:
        in_dims: which dimension of each positional argument to map over, None for those to pass on as they are; one
            for all of them, or a tuple, whose elements may be nested as the arguments are. Keyword arguments are
            passed on as they are.
        out_dims: where the dimension is in the results; None for results that are the same for each slice.
        randomness: "error" refuses random draws; with "same" each call draws the same, with "different" its own.
        chunk_size: accepted; slices are computed one by one.

    Raises:
        ValueError: ``chunk_size`` is not positive or, by the function returned, dimensions do not fit the arguments or
            the results, sizes differ, or ``func`` returns no tensors.
        RuntimeError: ``randomness`` is none of the three, or ``func`` draws where that is refused.
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}")
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")
    who = f"vmap({getattr(func, '__name__', type(func).__name__)}, in_dims={in_dims}, out_dims={out_dims})"

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not isinstance(in_dims, int | tuple):
            raise ValueError(
                f"{who}: expected `in_dims` to be int or a (potentially nested) tuple matching the structure of "
                f"inputs, got: {type(in_dims)}."
            )
        if not args:
            raise ValueError(f"{who}: got no inputs; keyword arguments are not mapped over")
        unlike = ValueError(f"{who}: in_dims is not compatible with the structure of `inputs`")
        values = _flat(args)
        count, cut = _sliced(values, _dims_of(args, in_dims, unlike), who)
        started: dict[Any, int] = {}

        def note(generator: Any) -> None:
            started.setdefault(generator, generator._offset)

        results = []
        for k in range(max(count, 1)):
            for generator, offset in started.items():
                generator._offset = offset
            these = [value if parts is None else parts[k] for value, parts in zip(values, cut, strict=True)]
            if randomness == "different":
                results.append(func(*_like(args, these), **kwargs))
                continue
            with streams.observed(_refuse_draws if randomness == "error" else note):
                results.append(func(*_like(args, these), **kwargs))
        flat = [_flat(result) for result in results]
        misfit = ValueError(f"{who}: out_dims is not compatible with the structure of `outputs`")
        dims = _dims_of(results[0], out_dims, misfit)
        if any(len(each) != len(dims) for each in flat):
            raise ValueError(f"{who}: the function returned results of different forms")
        return _like(
            results[0],
            [_joined(list(each), dim, count, who) for each, dim in zip(zip(*flat, strict=True), dims, strict=True)],
        )

    return wrapper


def stack_module_state(models: Sequence[Module]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters and the buffers of modules of one kind, stacked along a new first dimension; by name.

    With ``vmap`` of a ``functional_call`` they are run together.

    Raises:
        RuntimeError: there is no module, or they differ in type or mode.
    """
    if not models:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if any(type(model) is not type(models[0]) for model in models):
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")
    if any(model.training != models[0].training for model in models):
        raise RuntimeError("stack_module_state: Expected all models to have the same training/eval mode.")
    stack = FUNCTIONS["stack"]

    def stacked(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        found = {name: stack([each[name].detach() for each in parts]) for name in parts[0]}
        return {name: t.requires_grad_(parts[0][name].requires_grad) for name, t in found.items()}

    params = stacked([dict(model.named_parameters()) for model in models])
    return params, stacked([dict(model.named_buffers()) for model in models])


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
