"""Gradients against finite differences."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import dtypes, module_of, to_numpy
from ..engine import enable_grad
from ..tensor import Tensor, grad

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]


class GradcheckError(RuntimeError):
    """A gradient does not agree with finite differences."""


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _differentiable(outputs: Any) -> list[Any]:
    return [t for t in _as_tuple(outputs) if isinstance(t, Tensor) and t._needs_grad]


def _check_inputs(inputs: Sequence[Any]) -> None:
    found = False
    for k, t in enumerate(inputs):
        if not isinstance(t, Tensor) or not t._needs_grad:
            continue
        found = True
        if t.dtype != dtypes.float64:
            warnings.warn(
                f"Input #{k} requires gradient and is not a double precision floating point. This check will likely "
                "fail if all the inputs are not of double precision floating point.",
                stacklevel=4,
            )
        if t.numel() and any(stride == 0 and n > 1 for stride, n in zip(t.stride(), t.shape, strict=True)):
            raise RuntimeError(
                f"The {k}th input has a dimension with stride 0. gradcheck only supports inputs that are "
                "non-overlapping to be able to compute the numerical gradients correctly. You should call .contiguous "
                "on the input before passing it to gradcheck."
            )
    if not found:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of them have requires_grad=True."
        )


def _values(function: Callable[..., Any], inputs: Sequence[Any]) -> list[np.ndarray]:
    with enable_grad():
        outputs = _as_tuple(function(*inputs))
    return [np.array(to_numpy(t._data), np.float64) for t in outputs if isinstance(t, Tensor) and t.is_floating_point()]


def _numerical(function: Callable[..., Any], inputs: Sequence[Any], target: Tensor, eps: float) -> list[np.ndarray]:
    """For each floating-point output the matrix of its derivatives, by central differences: (inputs, outputs)."""
    data = target._data
    columns = []
    for index in np.ndindex(data.shape):
        before = data[index].copy()
        data[index] = before + eps
        high = _values(function, inputs)
        data[index] = before - eps
        low = _values(function, inputs)
        data[index] = before
        if [a.shape for a in high] != [a.shape for a in low]:
            raise GradcheckError(
                f"Expected `func` to return outputs with the same shape when inputs are perturbed on index {index} by "
                f"{eps}, but got shapes {[a.shape for a in high]} and {[a.shape for a in low]}."
            )
        with np.errstate(invalid="ignore"):
            # Two equal infinities are no difference.
            columns.append([np.where(a == b, 0, a - b).ravel() / (2 * eps) for a, b in zip(high, low, strict=True)])
    outputs = _values(function, inputs)
    return [np.array([column[k] for column in columns]).reshape(data.size, out.size) for k, out in enumerate(outputs)]


def _analytical(output: Tensor, sources: list[Tensor], check_dtypes: bool) -> list[np.ndarray]:
    """For each source the matrix of derivatives of one output, by backward: (inputs, outputs)."""
    xp = module_of(output._data)
    size = output.numel()
    found = [np.zeros((t.numel(), size)) for t in sources]
    for column in range(size):
        direction = xp.zeros(size, output.dtype)
        direction[column] = 1
        direction = Tensor._wrap(direction.reshape(output._data.shape))
        gradients = grad(output, sources, direction, retain_graph=True, allow_unused=True)
        for matrix, source, gradient in zip(found, sources, gradients, strict=True):
            if gradient is None:
                continue
            if gradient.shape != source.shape:
                raise GradcheckError("Analytical gradient has incorrect size")
            if check_dtypes and gradient.dtype != source.dtype:
                raise GradcheckError("Gradient has dtype mismatch")
            matrix[:, column] = to_numpy(gradient._data).ravel()
    return found


def _compare(
    function: Callable[..., Any],
    inputs: Sequence[Any],
    eps: float,
    atol: float,
    rtol: float,
    nondet_tol: float,
    check_dtypes: bool,
) -> None:
    with enable_grad():
        outputs = [t for t in _as_tuple(function(*inputs)) if isinstance(t, Tensor) and t.is_floating_point()]
    places = [k for k, t in enumerate(inputs) if isinstance(t, Tensor) and t._needs_grad]
    sources = [inputs[k] for k in places]
    numerical = [_numerical(function, inputs, t, eps) for t in sources]
    if not any(out._needs_grad for out in outputs):
        if any(np.abs(matrix).max(initial=0) > atol for matrices in numerical for matrix in matrices):
            raise GradcheckError("Numerical gradient for function expected to be zero")
        return
    for k, output in enumerate(outputs):
        if not output._needs_grad:
            continue
        analytical = _analytical(output, sources, check_dtypes)
        again = _analytical(output, sources, check_dtypes)
        for place, mine, twice, expected in zip(places, analytical, again, numerical, strict=True):
            if not np.allclose(mine, expected[k], rtol, atol, equal_nan=True):
                raise GradcheckError(
                    f"Jacobian mismatch for output {k} with respect to input {place},\n"
                    f"numerical:{expected[k]}\nanalytical:{mine}\n"
                )
            if not np.allclose(mine, twice, 0, nondet_tol, equal_nan=True):
                raise GradcheckError(
                    "Backward is not reentrant, i.e., running backward with same input and grad_output multiple times "
                    "gives different values, although analytical gradient matches numerical gradient. The tolerance "
                    f"for nondeterminism was {nondet_tol}."
                )
        _check_linear(output, sources, analytical, atol, rtol)


def _check_linear(
    output: Tensor, sources: list[Tensor], analytical: list[np.ndarray], atol: float, rtol: float
) -> None:
    """A backward must multiply by the gradient it is given: unit vectors alone do not show that it does."""
    xp = module_of(output._data)
    for vector in (np.zeros(output.numel()), np.linspace(0.4, 1.7, output.numel())):
        direction = Tensor._wrap(xp.asarray(vector, dtype=output.dtype).reshape(output._data.shape))
        found = grad(output, sources, direction, retain_graph=True, allow_unused=True)
        for gradient, matrix in zip(found, analytical, strict=True):
            mine = 0 if gradient is None else to_numpy(gradient._data).ravel()
            if not np.allclose(mine, matrix @ vector, rtol, atol if vector.any() else 0, equal_nan=True):
                raise GradcheckError("backward not multiplied by grad_output")


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Check the gradients of ``func`` at ``inputs`` against central differences.

    Args:
        func: takes the inputs, returns a tensor or a tuple of tensors.
        inputs: float64 tensors with ``requires_grad=True``, and whatever else ``func`` takes.
        eps: the step of the differences.
        atol, rtol: how far the gradients may be from the differences.
        raise_exception: False returns False instead of raising.
        nondet_tol: how far two backward passes may differ.
        check_grad_dtypes: also require the gradients' dtypes to be the inputs'.
        check_undefined_grad, fast_mode, masked: accepted; the full check always runs.

    Returns:
        True if they agree.

    Raises:
        GradcheckError: they do not.
        ValueError: no input requires grad, or forward-mode or batched gradients were asked for.
        RuntimeError: an input's elements share memory.
    """
    if check_forward_ad or check_batched_grad or check_batched_forward_grad or not check_backward_ad:
        raise ValueError("gradcheck checks reverse-mode gradients only: leave the forward-mode and batched options off")
    inputs = _as_tuple(inputs)
    _check_inputs(inputs)
    try:
        _compare(func, inputs, eps, atol, rtol, nondet_tol, check_grad_dtypes)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Check the gradients of the gradients of ``func`` against central differences.

    Args:
        func, inputs: as for :func:`gradcheck`, and so are the options of the same names.
        grad_outputs: the gradients of the outputs; random by default.
        gen_non_contig_grad_outputs: make the random ones non-contiguous.

    Returns:
        True if they agree.

    Raises:
        GradcheckError: they do not.
        ValueError: as for :func:`gradcheck`.
    """
    inputs = _as_tuple(inputs)
    if grad_outputs is None:
        with enable_grad():
            outputs = _differentiable(func(*inputs))
        draw = np.random.default_rng(0)
        grad_outputs = []
        for out in outputs:
            array = draw.uniform(-1, 1, (*out.shape, 2) if gen_non_contig_grad_outputs else out.shape)
            array = module_of(out._data).asarray(array, dtype=out.dtype)
            grad_outputs.append(Tensor._wrap(array[..., 0] if gen_non_contig_grad_outputs else array).requires_grad_())
    grad_outputs = _as_tuple(grad_outputs)
    places = [k for k, t in enumerate(inputs) if isinstance(t, Tensor) and t._needs_grad]

    def gradients(*args: Any) -> tuple[Any, ...]:
        outputs = _differentiable(func(*args[: len(inputs)]))
        sources = [args[k] for k in places]
        found = grad(outputs, sources, args[len(inputs) :], create_graph=True, allow_unused=True)
        return tuple(gradient for gradient in found if gradient is not None)

    return gradcheck(
        gradients,
        (*inputs, *grad_outputs),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
        check_grad_dtypes=check_grad_dtypes,
        check_batched_grad=check_batched_grad,
        check_forward_ad=check_fwd_over_rev,
        check_backward_ad=check_rev_over_rev,
        fast_mode=fast_mode,
        masked=masked,
    )
