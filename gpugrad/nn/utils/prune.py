"""Pruning: masks on parameters, which are applied in each call.

A pruned parameter ``weight`` becomes a parameter ``weight_orig`` and a buffer ``weight_mask``; ``weight`` is their
product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from numbers import Integral, Real
from typing import Any

from ...creation import ones_like
from ...random import rand_like
from ...tensor import Tensor
from ..modules.module import Module
from .convert_parameters import parameters_to_vector


def _check_amount(amount: Any) -> None:
    if not isinstance(amount, Real):
        raise TypeError(f"Invalid type for amount: {amount}. Must be int or float.")
    if float(amount) < 0 or (not isinstance(amount, Integral) and float(amount) > 1):
        raise ValueError(f"amount={amount} should either be a float in the range [0, 1] or a non-negative integer")


def _count(amount: Any, size: int) -> int:
    """How many of ``size`` are pruned: so many, or a share of them."""
    count = int(amount) if isinstance(amount, Integral) else round(amount * size)
    if count > size:
        raise ValueError(f"amount={amount} should be smaller than the number of parameters to prune={size}")
    return count


class BasePruningMethod:
    """A way to prune, and the hook that applies the mask; subclasses define ``PRUNING_TYPE`` and ``compute_mask``.

    Attributes:
        PRUNING_TYPE: "unstructured" if it chooses among elements, "structured" if among channels along its attribute
            ``dim``, or "global".
    """

    PRUNING_TYPE: str
    _tensor_name: str | None = None

    def __call__(self, module: Module, inputs: Any) -> None:
        """Put the product of parameter and mask in its place."""
        setattr(module, str(self._tensor_name), self.apply_mask(module))

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask for a tensor whose elements say how important they are, on top of an earlier one."""
        raise NotImplementedError(f"{type(self).__name__} does not define compute_mask")

    def apply_mask(self, module: Module) -> Tensor:
        """The product of parameter and mask.

        Raises:
            AssertionError: the module has not been pruned by this method.
        """
        if self._tensor_name is None:
            raise AssertionError(f"Module {module} has to be pruned")
        orig = getattr(module, f"{self._tensor_name}_orig")
        return getattr(module, f"{self._tensor_name}_mask").to(orig.dtype) * orig

    @classmethod
    def apply(
        cls, module: Module, name: str, *args: Any, importance_scores: Tensor | None = None, **kwargs: Any
    ) -> BasePruningMethod:
        """Prune a parameter of a module, on top of what has been done to it before.

        Args:
            args, kwargs: of the method.
            importance_scores: how important its elements are; the parameter unless given.

        Raises:
            AssertionError: the scores have another shape than the parameter.
        """
        method = cls(*args, **kwargs)
        method._tensor_name = name
        table = module.__dict__.setdefault("_prunings", {})
        before, handle = table.get(name, (None, None))
        tensor = getattr(module, name)
        scores = tensor if importance_scores is None else importance_scores
        if scores.shape != tensor.shape:
            raise AssertionError(
                f"importance_scores should have the same shape as parameter {name} of {module}, got "
                f"{tuple(scores.shape)} vs {tuple(tensor.shape)}"
            )
        if before is None:
            mask = method.compute_mask(scores.detach(), ones_like(tensor.detach()))
            del module._parameters[name]
            module.register_parameter(f"{name}_orig", tensor)
            module.register_buffer(f"{name}_mask", mask)
        else:
            combined = before if isinstance(before, PruningContainer) else PruningContainer(before)
            mask = PruningContainer(*combined, method).compute_mask(
                scores.detach(), getattr(module, f"{name}_mask").clone()
            )
            combined.add_pruning_method(method)
            method = combined
            setattr(module, f"{name}_mask", mask)
            handle.remove()
        method(module, ())
        table[name] = method, module.register_forward_pre_hook(method)
        return method

    def prune(self, t: Tensor, default_mask: Tensor | None = None, importance_scores: Tensor | None = None) -> Tensor:
        """A pruned tensor.

        Raises:
            AssertionError: the scores have another shape than the tensor.
        """
        scores = t if importance_scores is None else importance_scores
        if scores.shape != t.shape:
            raise AssertionError(
                f"importance_scores should have the same shape as tensor t, got {tuple(scores.shape)} vs "
                f"{tuple(t.shape)}"
            )
        return t * self.compute_mask(scores.detach(), ones_like(t.detach()) if default_mask is None else default_mask)

    def remove(self, module: Module) -> None:
        """Make the pruned parameter an ordinary one again, with zeros where it was pruned."""
        name = self._tensor_name
        pruned = self.apply_mask(module).detach()
        orig = getattr(module, f"{name}_orig")
        for each in (f"{name}_orig", f"{name}_mask", name):
            delattr(module, str(each))
        orig.data = pruned
        module.register_parameter(str(name), orig)


class PruningContainer(BasePruningMethod):
    """Methods one after the other, each among what those before have left."""

    def __init__(self, *args: BasePruningMethod):
        self._pruning_methods: tuple[BasePruningMethod, ...] = ()
        for method in args:
            self._tensor_name = method._tensor_name if len(self) == 0 else self._tensor_name
            self.add_pruning_method(method)

    def add_pruning_method(self, method: BasePruningMethod) -> None:
        """Add a method.

        Raises:
            TypeError: it is none.
            ValueError: it acts on another parameter.
        """
        if not isinstance(method, BasePruningMethod):
            raise TypeError(f"{type(method)} is not a BasePruningMethod subclass")
        if method._tensor_name != self._tensor_name:
            raise ValueError(
                f"Can only add pruning methods acting on the parameter named '{self._tensor_name}' to PruningContainer "
                f"{self}. Found '{method._tensor_name}'"
            )
        self._pruning_methods += (method,)

    def __len__(self) -> int:
        return len(self._pruning_methods)

    def __iter__(self) -> Iterator[BasePruningMethod]:
        return iter(self._pruning_methods)

    def __getitem__(self, idx: int) -> BasePruningMethod:
        return self._pruning_methods[idx]

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask of the last method, among what the earlier mask has left.

        Raises:
            ValueError: the method's kind is unknown.
            IndexError: it prunes along a dimension that there is not.
        """
        method, mask = self._pruning_methods[-1], default_mask.to(t.dtype)
        part: Any = slice(None)
        if method.PRUNING_TYPE == "unstructured":
            part = default_mask == 1
        elif method.PRUNING_TYPE == "structured":
            dim: int = method.dim  # type: ignore[attr-defined]
            if not -t.ndim <= dim < t.ndim:
                raise IndexError(f"Index is out of bounds for tensor with dimensions {t.ndim}")
            dim %= t.ndim
            left = default_mask.sum([d for d in range(t.ndim) if d != dim]) != 0
            part = (*(slice(None),) * dim, left)
        elif method.PRUNING_TYPE != "global":
            raise ValueError(f"Unrecognized PRUNING_TYPE {method.PRUNING_TYPE}")
        found = mask.clone()
        found[part] = method.compute_mask(t[part], default_mask[part]).to(mask.dtype)
        return found


class Identity(BasePruningMethod):
    """Prunes nothing, and makes the mask."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The earlier mask."""
        return default_mask


class RandomUnstructured(BasePruningMethod):
    """Prunes elements drawn at random: so many, or a share of them."""

    PRUNING_TYPE = "unstructured"

    def __init__(self, amount: Any):
        _check_amount(amount)
        self.amount = amount

    def _ranks(self, t: Tensor) -> Tensor:
        return rand_like(t)

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask.

        Raises:
            ValueError: there are fewer elements than are to be pruned.
        """
        count = _count(self.amount, t.numel())
        mask = default_mask.clone().reshape(-1)
        if count:
            mask[self._ranks(t).reshape(-1).topk(count, largest=False)[1]] = 0
        return mask.reshape(default_mask.shape)


class L1Unstructured(RandomUnstructured):
    """Prunes the smallest elements: so many, or a share of them."""

    def _ranks(self, t: Tensor) -> Tensor:
        return t.abs()


class RandomStructured(BasePruningMethod):
    """Prunes channels along a dimension, drawn at random: so many, or a share of them."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount: Any, dim: int = -1):
        _check_amount(amount)
        self.amount, self.dim = amount, dim

    def _ranks(self, t: Tensor, dims: list[int]) -> Tensor:
        return rand_like(t.select(dims[0], 0) if t.ndim == 2 else t.sum(dims))

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask.

        Raises:
            ValueError: the tensor has no channels, or fewer than are to be pruned.
            IndexError: there is no such dimension.
        """
        if t.ndim <= 1:
            raise ValueError(
                "Structured pruning can only be applied to multidimensional tensors. Found tensor of shape "
                f"{tuple(t.shape)} with {t.ndim} dims"
            )
        if not -t.ndim <= self.dim < t.ndim:
            raise IndexError(f"Invalid index {self.dim} for tensor of size {tuple(t.shape)}")
        dim = self.dim % t.ndim
        count = _count(self.amount, t.shape[dim])
        if not count:
            return default_mask
        ranks = self._ranks(t, [d for d in range(t.ndim) if d != dim])
        kept = ones_like(ranks)
        kept[ranks.topk(count, largest=False)[1]] = 0
        return default_mask * kept.reshape([-1 if d == dim else 1 for d in range(t.ndim)]).to(default_mask.dtype)


class LnStructured(RandomStructured):
    """Prunes the channels along a dimension whose n-norm is smallest: so many, or a share of them."""

    def __init__(self, amount: Any, n: Any, dim: int = -1):
        super().__init__(amount, dim)
        self.n = n

    def _ranks(self, t: Tensor, dims: list[int]) -> Tensor:
        return t.norm(self.n, dims)


class CustomFromMask(BasePruningMethod):
    """Prunes by a given mask."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Tensor):
        self.mask = mask

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask.

        Raises:
            AssertionError: it has another shape.
        """
        if default_mask.shape != self.mask.shape:
            raise AssertionError(
                f"default_mask shape {tuple(default_mask.shape)} must match self.mask shape {tuple(self.mask.shape)}"
            )
        return default_mask * self.mask.to(default_mask.dtype)


def identity(module: Module, name: str) -> Module:
    """Give a parameter a mask that prunes nothing."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: Module, name: str, amount: Any) -> Module:
    """Prune elements of a parameter, drawn at random: so many, or a share of them."""
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(module: Module, name: str, amount: Any, importance_scores: Tensor | None = None) -> Module:
    """Prune the smallest elements of a parameter: so many, or a share of them."""
    L1Unstructured.apply(module, name, amount, importance_scores=importance_scores)
    return module


def random_structured(module: Module, name: str, amount: Any, dim: int) -> Module:
    """Prune channels of a parameter along a dimension, drawn at random: so many, or a share of them."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(
    module: Module, name: str, amount: Any, n: Any, dim: int, importance_scores: Tensor | None = None
) -> Module:
    """Prune the channels of a parameter along a dimension whose n-norm is smallest: so many, or a share of them."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module: Module, name: str, mask: Tensor) -> Module:
    """Prune a parameter by a given mask."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(
    parameters: Iterable[tuple[Module, str]],
    pruning_method: Callable[..., BasePruningMethod],
    importance_scores: dict[tuple[Module, str], Tensor] | None = None,
    **kwargs: Any,
) -> None:
    """Prune among the elements of several parameters, pairs of a module and a name, together.

    Args:
        kwargs: of the method.

    Raises:
        TypeError: the method does not choose among elements, or the scores are no dict.
    """
    parameters = list(parameters)
    scores = {} if importance_scores is None else importance_scores
    if not isinstance(scores, dict):
        raise TypeError("global_unstructured(): importance_scores must be of type dict")
    method = pruning_method(**kwargs)
    if method.PRUNING_TYPE != "unstructured":
        raise TypeError(
            f'Only "unstructured" PRUNING_TYPE supported for the `pruning_method`. Found method {pruning_method} of '
            f"type {method.PRUNING_TYPE}"
        )
    tensors = [getattr(module, name).detach() for module, name in parameters]
    masks = [
        getattr(module, f"{name}_mask", ones_like(t)) for (module, name), t in zip(parameters, tensors, strict=True)
    ]
    given = [scores.get(pair, t) for pair, t in zip(parameters, tensors, strict=True)]
    mask = PruningContainer(method).compute_mask(parameters_to_vector(given).detach(), parameters_to_vector(masks))
    start = 0
    for (module, name), t in zip(parameters, tensors, strict=True):
        custom_from_mask(module, name, mask[start : start + t.numel()].reshape(t.shape))
        start += t.numel()


def remove(module: Module, name: str) -> Module:
    """Make a pruned parameter an ordinary one again, with zeros where it was pruned.

    Raises:
        ValueError: it is not pruned.
    """
    method, handle = module.__dict__.get("_prunings", {}).pop(name, (None, None))
    if method is None:
        raise ValueError(f"Parameter '{name}' of module {module} has to be pruned before pruning can be removed")
    handle.remove()
    method.remove(module)
    return module


def is_pruned(module: Module) -> bool:
    """Whether a parameter of a module, or of one in it, is pruned."""
    return any(each.__dict__.get("_prunings") for each in module.modules())
