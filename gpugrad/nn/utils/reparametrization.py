"""Weights computed anew in each call: ``weight_norm`` and ``spectral_norm``."""

from __future__ import annotations

from typing import Any

from ...engine import no_grad
from ...random import randn
from ...tensor import Tensor
from ..functional import normalize
from ..modules import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from ..modules.module import Module
from ..parameter import Parameter


class _Reparametrization:
    """A forward pre-hook that computes the weight of a module from other parameters."""

    def __init__(self, name: str):
        self.name = name

    def compute_weight(self, module: Module, training: bool) -> Tensor:
        """The weight, as the module's parameters and buffers say."""
        raise NotImplementedError

    def first_weight(self, module: Module) -> Tensor:
        """The weight until the first call."""
        return self.compute_weight(module, False)

    def begin(self, module: Module, weight: Parameter) -> None:
        """Register the parameters and buffers from which ``weight`` is computed."""
        raise NotImplementedError

    def parts(self) -> list[str]:
        """Their names."""
        raise NotImplementedError

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module, module.training))

    def apply(self, module: Module) -> Module:
        """Put the weight of ``module`` under this control."""
        table = module.__dict__.setdefault("_reparametrizations", {})
        if self.name in table:
            raise RuntimeError(
                f"Cannot register two weight_norm or spectral_norm hooks on the same parameter {self.name}"
            )
        weight = getattr(module, self.name)
        delattr(module, self.name)
        self.begin(module, weight)
        setattr(module, self.name, self.first_weight(module))
        table[self.name] = self, module.register_forward_pre_hook(self)
        return module


class _WeightNorm(_Reparametrization):
    def __init__(self, name: str, dim: int | None):
        super().__init__(name)
        self.dim = -1 if dim is None else dim

    def _length(self, v: Tensor) -> Tensor:
        if self.dim == -1:
            return v.norm()
        return v.norm(2, [d for d in range(v.ndim) if d != self.dim % v.ndim], keepdim=True)

    def parts(self) -> list[str]:
        return [f"{self.name}_g", f"{self.name}_v"]

    def begin(self, module: Module, weight: Parameter) -> None:
        module.register_parameter(f"{self.name}_g", Parameter(self._length(weight).detach()))
        module.register_parameter(f"{self.name}_v", Parameter(weight.detach()))

    def compute_weight(self, module: Module, training: bool) -> Tensor:
        g, v = (getattr(module, name) for name in self.parts())
        return v * (g / self._length(v))


class _SpectralNorm(_Reparametrization):
    def __init__(self, name: str, iterations: int, dim: int, eps: float):
        super().__init__(name)
        if iterations <= 0:
            raise ValueError(f"Expected n_power_iterations to be positive, but got n_power_iterations={iterations}")
        self.n_power_iterations, self.dim, self.eps = iterations, dim, eps

    def _matrix(self, weight: Tensor) -> Tensor:
        if self.dim:
            weight = weight.movedim(self.dim, 0)
        return weight.reshape(weight.shape[0], -1)

    def parts(self) -> list[str]:
        return [f"{self.name}_orig", f"{self.name}_u", f"{self.name}_v"]

    def begin(self, module: Module, weight: Parameter) -> None:
        module.register_parameter(f"{self.name}_orig", weight)
        for name, n in zip(("u", "v"), self._matrix(weight).shape, strict=True):
            start = randn(n, dtype=weight.dtype, device=weight.device)
            module.register_buffer(f"{self.name}_{name}", normalize(start, dim=0, eps=self.eps))

    def first_weight(self, module: Module) -> Tensor:
        return getattr(module, f"{self.name}_orig").detach()  # so that the module can be copied

    def compute_weight(self, module: Module, training: bool) -> Tensor:
        weight, u, v = (getattr(module, name) for name in self.parts())
        matrix = self._matrix(weight)
        if training:
            with no_grad():
                for _ in range(self.n_power_iterations):
                    v.copy_(normalize(matrix.mT.mv(u), dim=0, eps=self.eps))
                    u.copy_(normalize(matrix.mv(v), dim=0, eps=self.eps))
            u, v = u.clone(), v.clone()  # a later call changes them before this one's backward may be done
        return weight / u.dot(matrix.mv(v))


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Split a weight into its lengths ``<name>_g`` and directions ``<name>_v``, which are trained in its place.

    Salimans and Kingma, "Weight normalization", 2016.

    Args:
        dim: the dimension over which there is one length each; None for one length in all.

    Raises:
        RuntimeError: it is done to this weight already.
    """
    return _WeightNorm(name, dim).apply(module)


def spectral_norm(
    module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Module:
    """Divide a weight by its largest singular value, which a power iteration in each training call follows.

    Miyato et al., "Spectral normalization for generative adversarial networks", 2018.

    Args:
        n_power_iterations: the iterations of each call.
        eps: the least length that vectors are divided by.
        dim: the dimension of the outputs, 0 but for transposed convolutions.

    Raises:
        RuntimeError: it is done to this weight already.
        ValueError: there are no iterations.
    """
    if dim is None:
        dim = int(isinstance(module, ConvTranspose1d | ConvTranspose2d | ConvTranspose3d))
    return _SpectralNorm(name, n_power_iterations, dim, eps).apply(module)


def _remove(kind: type[_Reparametrization], module: Module, name: str) -> Module:
    table = module.__dict__.get("_reparametrizations", {})
    hook, handle = table.get(name, (None, None))
    if not isinstance(hook, kind):
        raise ValueError(f"{kind.__name__.strip('_')} of {name!r} not found in {module}")
    with no_grad():
        weight = hook.compute_weight(module, False)
    for each in [name, *hook.parts()]:
        delattr(module, each)
    handle.remove()
    del table[name]
    module.register_parameter(name, Parameter(weight.detach()))
    return module


def remove_weight_norm(module: Module, name: str = "weight") -> Module:
    """Undo ``weight_norm``, with the weight as it is now.

    Raises:
        ValueError: there is none.
    """
    return _remove(_WeightNorm, module, name)


def remove_spectral_norm(module: Module, name: str = "weight") -> Module:
    """Undo ``spectral_norm``, with the weight as it is now.

    Raises:
        ValueError: there is none.
    """
    return _remove(_SpectralNorm, module, name)
