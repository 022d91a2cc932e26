"""What CuPy has: its functions, ufuncs and array methods with their arguments.

The list in ``cupy_api.json`` was read from the CuPy whose version it states; where
CuPy is installed (it needs no GPU for this), ``python -m gpugrad.backend.simulator.api``
makes it anew.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from inspect import Parameter
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("cupy_api.json")
_MODULES = ("", "linalg", "lib.stride_tricks")


def load() -> dict[str, Any]:
    """``version``, ``functions`` (by module), ``ufuncs``, ``constants`` and ``methods`` of CuPy."""
    return json.loads(_FILE.read_text(encoding="utf-8"))


def signature(text: str) -> inspect.Signature:
    """The signature that a parameter list in the file stands for; all defaults in it are None."""
    args = ast.parse(f"lambda {text}: 0", mode="eval").body.args  # type: ignore[attr-defined]
    usual = [*args.posonlyargs, *args.args]
    required = len(usual) - len(args.defaults)
    found = [
        Parameter(
            arg.arg,
            Parameter.POSITIONAL_ONLY if k < len(args.posonlyargs) else Parameter.POSITIONAL_OR_KEYWORD,
            default=Parameter.empty if k < required else None,
        )
        for k, arg in enumerate(usual)
    ]
    if args.vararg:
        found.append(Parameter(args.vararg.arg, Parameter.VAR_POSITIONAL))
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        given = Parameter.empty if default is None else None
        found.append(Parameter(arg.arg, Parameter.KEYWORD_ONLY, default=given))
    if args.kwarg:
        found.append(Parameter(args.kwarg.arg, Parameter.VAR_KEYWORD))
    return inspect.Signature(found)


def _parameters(function: Any) -> str | None:
    """The parameters of a function, with None for every default; None if they are not known."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        # Cython writes the signature into the first line of the text.
        match = re.match(r"[\w.]+\((.*)\)( ->.*)?$", (function.__doc__ or "").split("\n")[0])
        if match is None:
            return None
        words = [re.sub(r"=.*", "=None", word.strip()) for word in match[1].split(",") if word.strip()]
        return ", ".join(word if word in "/*" else word.split()[-1] for word in words)
    bare = [
        p.replace(
            annotation=p.empty,
            default=p.empty if p.default is p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) else None,
        )
        for p in parameters
    ]
    return str(inspect.Signature(bare))[1:-1]


def collect() -> dict[str, Any]:
    """The same, read from the CuPy that is installed."""
    import operator

    import cupy

    def public(place: Any) -> dict[str, Any]:
        return {name: getattr(place, name) for name in sorted(dir(place)) if not name.startswith("_")}

    found: dict[str, Any] = {"version": cupy.__version__, "functions": {}, "constants": []}
    found["ufuncs"] = {
        name: {"at": bool(value._scatter_op), "types": list(value.types)}
        for name, value in public(cupy).items()
        if isinstance(value, cupy.ufunc)
    }
    for where in _MODULES:
        place = operator.attrgetter(where)(cupy) if where else cupy
        functions = {
            name: _parameters(value)
            for name, value in public(place).items()
            if callable(value) and not isinstance(value, type | cupy.ufunc) and name not in ("c_", "r_")
        }
        found["functions"][where] = {name: text for name, text in functions.items() if text is not None}
    found["constants"] = [
        name
        for name, value in public(cupy).items()
        if isinstance(value, int | float) or (isinstance(value, type) and issubclass(value, cupy.generic))
    ] + ["newaxis", "dtype", "finfo", "iinfo"]
    found["methods"] = {
        name: _parameters(value) if callable(value) else None for name, value in public(cupy.ndarray).items()
    }
    return found


if __name__ == "__main__":
    _FILE.write_text(json.dumps(collect(), indent=0), encoding="utf-8")
