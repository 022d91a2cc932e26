"""GradScaler: a loss scaled up so that gradients do not vanish in float16, with a scale that finds its size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .. import creation
from ..backend import device_of, dtypes, module_of, on, transfer
from ..backend.fused import optim as kernels
from ..backend.quiet import quiet
from ..engine import no_grad
from ..ops.core import fuses, memory_to_change
from ..tensor import Tensor

_READY, _UNSCALED, _STEPPED = range(3)


class GradScaler:
    """Scales losses, unscales gradients, skips steps whose gradients are not finite, and adapts the scale.

    The scale, the number of good steps in a row and whether something was not finite live in tensors on
    the device of the losses; only ``step`` looks at the last, unless the optimizer can skip by itself.

    Args:
        device: accepted as in PyTorch; the state lives where the first scaled tensor is.
        init_scale: the first scale.
        growth_factor: what the scale is multiplied by after ``growth_interval`` good steps in a row.
        backoff_factor: what it is multiplied by after a step that was skipped.
        enabled: False makes everything pass through.

    Raises:
        ValueError: a factor on the wrong side of 1.
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ):
        if enabled and growth_factor <= 1.0:
            raise ValueError(f"The growth factor must be > 1.0, but is {growth_factor}")
        if enabled and not backoff_factor < 1.0:
            raise ValueError(f"The backoff factor must be < 1.0, but is {backoff_factor}")
        self._enabled = enabled
        self._init_scale, self._init_tracker = float(init_scale), 0
        self._growth_factor, self._backoff_factor = growth_factor, backoff_factor
        self._growth_interval = growth_interval
        self._scale: Tensor | None = None
        self._growth_tracker: Tensor | None = None
        self._stages: dict[int, int] = {}
        self._found: dict[int, Tensor] = {}

    def _state_on(self, device: Any) -> Tensor:
        if self._scale is None:
            self._scale = creation.full((), self._init_scale, dtype=dtypes.float32, device=device)
            self._growth_tracker = creation.full((), self._init_tracker, dtype=dtypes.int32, device=device)
        return self._scale

    def scale(self, outputs: Any) -> Any:
        """The outputs, a tensor or (nested) tensors, times the scale.

        Raises:
            ValueError: there is something else among them.
        """
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            return outputs * self._state_on(outputs.device).to(outputs.device)
        if isinstance(outputs, Iterable) and not isinstance(outputs, str):
            scaled = map(self.scale, outputs)
            return type(outputs)(scaled) if isinstance(outputs, list | tuple) else scaled
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    @no_grad()
    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of an optimizer's parameters by the scale, in place; for clipping before ``step``.

        Raises:
            RuntimeError: it was done already, or the step too, since the last ``update``.
            ValueError: a gradient is float16: parameters are meant to be float32.
        """
        if not self._enabled:
            return
        stage = self._stages.get(id(optimizer), _READY)
        if stage == _UNSCALED:
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        if stage == _STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        scale = self._required("unscale_")
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        with on(scale.device), quiet():
            xp = module_of(scale._data)
            found = xp.zeros((), dtypes.float32)
            if any(grad.dtype == dtypes.float16 for grad in grads):
                raise ValueError("Attempting to unscale FP16 gradients.")
            arrays = [memory_to_change(grad) for grad in grads]
            if scale.is_cuda and fuses():
                here = [array for array in arrays if device_of(array) == scale.device]
                elsewhere = [array for array in arrays if device_of(array) != scale.device]
                arrays = kernels.rescale(here, scale=scale._data, found_inf=found) + elsewhere
            inverse = (1.0 / scale._data.astype(dtypes.float64)).astype(dtypes.float32) if arrays else None
            for array in arrays:
                its, place = module_of(array), device_of(array)
                broken = its.logical_not(its.isfinite(array).all()).astype(dtypes.float32)
                found = xp.maximum(found, transfer(its.asarray(broken), scale.device))
                its.multiply(array, transfer(xp.asarray(inverse), place).astype(array.dtype), out=array)
        for grad in grads:
            grad._bump()
        self._found[id(optimizer)] = Tensor._wrap(xp.asarray(found))
        self._stages[id(optimizer)] = _UNSCALED

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """``optimizer.step()``, after ``unscale_`` where that was not called, unless a gradient is not finite.

        An optimizer with ``_step_supports_amp_scaling`` is given ``found_inf`` and skips by itself, without the
        host having to look.

        Raises:
            RuntimeError: a closure is given, the step was made already, or there was no gradient.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        if self._stages.get(id(optimizer), _READY) == _STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        if self._stages.get(id(optimizer), _READY) == _READY:
            self.unscale_(optimizer)
        if not any(p.grad is not None for group in optimizer.param_groups for p in group["params"]):
            raise RuntimeError("No inf checks were recorded for this optimizer.")
        found = self._found[id(optimizer)]
        self._stages[id(optimizer)] = _STEPPED
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            optimizer.found_inf = found
            try:
                return optimizer.step(*args, **kwargs)
            finally:
                del optimizer.found_inf
        return None if found.item() else optimizer.step(*args, **kwargs)

    @no_grad()
    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Adapt the scale to what the steps since the last call found; or set it.

        Raises:
            RuntimeError: there was no ``unscale_`` or ``step`` since the last call.
        """
        if not self._enabled:
            return
        scale, tracker = self._required("update"), self._growth_tracker
        assert tracker is not None
        if new_scale is not None:
            scale.fill_(new_scale)
        else:
            if not self._found:
                raise RuntimeError("No inf checks were recorded prior to update.")
            xp = module_of(scale._data)
            with on(scale.device), quiet():
                found = xp.asarray(sum(t._data for t in self._found.values())) > 0
                grown = scale._data * xp.float32(self._growth_factor)
                due = xp.logical_and(tracker._data + 1 == self._growth_interval, xp.isfinite(grown))
                after = xp.where(due, grown, scale._data)
                memory_to_change(scale)[...] = xp.where(found, scale._data * xp.float32(self._backoff_factor), after)
                again = xp.logical_or(found, tracker._data + 1 == self._growth_interval)
                memory_to_change(tracker)[...] = xp.where(again, 0, tracker._data + 1)
            scale._bump()
            tracker._bump()
        self._stages, self._found = {}, {}

    def _required(self, what: str) -> Tensor:
        if self._scale is None:
            raise RuntimeError(
                f"Attempted {what} but _scale is None.  This may indicate your script did not use scaler.scale(loss or "
                "outputs) earlier in the iteration."
            )
        return self._scale

    def get_scale(self) -> float:
        """The scale as a number; waits for the device."""
        if not self._enabled:
            return 1.0
        return self._init_scale if self._scale is None else self._scale.item()

    def get_growth_factor(self) -> float:
        """What the scale grows by."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Set what the scale grows by."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """What the scale shrinks by."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Set what the scale shrinks by."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """After how many good steps the scale grows."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Set after how many good steps the scale grows."""
        self._growth_interval = new_interval

    def is_enabled(self) -> bool:
        """Whether the scaler does anything."""
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """The scale, its factors and the number of good steps, as plain numbers; empty when not enabled."""
        if not self._enabled:
            return {}
        tracker = self._init_tracker if self._growth_tracker is None else int(self._growth_tracker.item())
        return {
            "scale": self.get_scale(),
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": tracker,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what ``state_dict`` returned.

        Raises:
            RuntimeError: it is empty: it came from a scaler that was not enabled.
        """
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError(
                "The source state dict is empty, possibly because it was saved from a disabled instance of GradScaler."
            )
        self._init_scale, self._init_tracker = state_dict["scale"], state_dict["_growth_tracker"]
        self._growth_factor, self._backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        if self._scale is not None and self._growth_tracker is not None:
            self._scale.fill_(self._init_scale)
            self._growth_tracker.fill_(self._init_tracker)
