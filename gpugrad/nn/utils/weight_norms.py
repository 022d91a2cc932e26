"""Weights of a given norm, computed by a hook before each forward, as programs before parametrizations do it."""

from __future__ import annotations

from typing import Any, TypeVar

from ...engine import no_grad
from ...tensor import Tensor, add_hook
from ..functional import normalize
from ..modules.conv import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from ..modules.module import Module
from ..parameter import Parameter

T = TypeVar("T", bound=Module)


def norm_except(weight: Tensor, dim: int) -> Tensor:
    """The length of each slice along ``dim``, with as many dimensions as the weight; of the whole weight for -1."""
    if dim == -1:
        return weight.norm()
    rest = [d for d in range(weight.ndim) if d != dim]
    return weight.norm(dim=rest, keepdim=True) if rest else weight.abs()


def as_matrix(weight: Tensor, dim: int) -> Tensor:
    """The weight with a row for each index of ``dim``."""
    return weight.movedim(dim, 0).reshape(weight.shape[dim], -1)


def out_dim(module: Module) -> int:
    """The dimension of a weight that belongs to the outputs."""
    return 1 if isinstance(module, ConvTranspose1d | ConvTranspose2d | ConvTranspose3d) else 0


@no_grad()
def first_vectors(matrix: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Random unit vectors to start the power method from."""
    u, v = (normalize(matrix.new_empty(n).normal_(), dim=0, eps=eps) for n in matrix.shape)
    return u, v


@no_grad()
def iterate(matrix: Tensor, u: Tensor, v: Tensor, count: int, eps: float) -> None:
    """Steps of the power method, ``u`` first, in place."""
    for _ in range(count):
        u.copy_(normalize(matrix @ v, dim=0, eps=eps))
        v.copy_(normalize(matrix.T @ u, dim=0, eps=eps))


class _Computed:
    """A hook that sets an attribute of a module anew before each forward."""

    label: str

    def __init__(self, name: str):
        self.name = name

    def weight(self, module: Module, update: bool) -> Tensor:
        """The attribute's new value."""
        raise NotImplementedError

    def __call__(self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        setattr(module, self.name, self.weight(module, module.training))

    def attach(self, module: Module) -> None:
        """Begin.

        Raises:
            RuntimeError: there is such a hook already.
        """
        if self.find(module, self.name):
            raise RuntimeError(f"Cannot register two {self.label} hooks on the same parameter {self.name}")
        add_hook(module._hook_tables().forward_pre, self)

    @classmethod
    def find(cls, module: Module, name: str) -> int | None:
        """The hook's place among those of the module."""
        hooks = module._hooks.forward_pre if module._hooks else {}
        return next((k for k, hook in hooks.items() if isinstance(hook, cls) and hook.name == name), None)

    @classmethod
    def remove(cls, module: Module, name: str, *parts: str) -> None:
        """Make the attribute a parameter again, with its present value.

        Raises:
            ValueError: there is no such hook.
        """
        place = cls.find(module, name)
        if place is None:
            raise ValueError(f"{cls.label} of '{name}' not found in {module}")
        hook: Any = module._hook_tables().forward_pre.pop(place)
        with no_grad():
            weight = hook.weight(module, False)
        for part in ("", *parts):
            delattr(module, name + part)
        module.register_parameter(name, Parameter(weight.detach()))


class _SpectralNorm(_Computed):
    label = "spectral_norm"

    def __init__(self, name: str, count: int, eps: float, dim: int):
        super().__init__(name)
        self.count, self.eps, self.dim = count, eps, dim

    def weight(self, module: Module, update: bool) -> Tensor:
        weight, u, v = (getattr(module, f"{self.name}_{part}") for part in ("orig", "u", "v"))
        matrix = as_matrix(weight, self.dim)
        if update:
            iterate(matrix.T, v, u, self.count, self.eps)
            # Copies, since the next forward changes these before the backward of this one, perhaps.
            u, v = u.clone(), v.clone()
        return weight / (u @ (matrix @ v))


def spectral_norm(
    module: T, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> T:
    """Divide a weight by its largest singular value, which some steps of the power method improve before each forward
    while training (Miyato et al. 2018). The parameter becomes ``<name>_orig``.

    Args:
        dim: the one of the outputs; 0 unless given, 1 for transposed convolutions.

    Raises:
        RuntimeError: it is done already.
        ValueError: there is no iteration.
    """
    if n_power_iterations <= 0:
        raise ValueError(f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}")
    hook = _SpectralNorm(name, n_power_iterations, eps, out_dim(module) if dim is None else dim)
    hook.attach(module)
    weight = module._parameters[name]
    u, v = first_vectors(as_matrix(weight, hook.dim), eps)
    delattr(module, name)
    module.register_parameter(f"{name}_orig", weight)
    setattr(module, name, weight.data)  # initialisers look for it
    module.register_buffer(f"{name}_u", u)
    module.register_buffer(f"{name}_v", v)
    return module


def remove_spectral_norm(module: T, name: str = "weight") -> T:
    """Undo :func:`spectral_norm`; the weight keeps its value.

    Raises:
        ValueError: there is nothing to undo.
    """
    _SpectralNorm.remove(module, name, "_orig", "_u", "_v")
    return module


class _WeightNorm(_Computed):
    label = "weight_norm"

    def __init__(self, name: str, dim: int):
        super().__init__(name)
        self.dim = dim

    def weight(self, module: Module, update: bool) -> Tensor:
        g, v = getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v")
        return v * (g / norm_except(v, self.dim))


def weight_norm(module: T, name: str = "weight", dim: int | None = 0) -> T:
    """Split a weight into its length ``<name>_g`` and its direction ``<name>_v`` (Salimans and Kingma 2016).

    Args:
        dim: each slice along it has a length of its own; None for one length of the whole weight.

    Raises:
        RuntimeError: it is done already.
    """
    hook = _WeightNorm(name, -1 if dim is None else dim)
    hook.attach(module)
    weight = module._parameters[name]
    delattr(module, name)
    module.register_parameter(f"{name}_g", Parameter(norm_except(weight, hook.dim).detach()))
    module.register_parameter(f"{name}_v", Parameter(weight.data))
    setattr(module, name, hook.weight(module, False))
    return module


def remove_weight_norm(module: T, name: str = "weight") -> T:
    """Undo :func:`weight_norm`; the weight keeps its value.

    Raises:
        ValueError: there is nothing to undo.
    """
    _WeightNorm.remove(module, name, "_g", "_v")
    return module
