"""Saving and loading: one safetensors file for the tensors, with the structure around them as JSON in its header.

Any safetensors reader sees the tensors of such a file by name; a plain dict of tensors
(a state dict) keeps its names, and one that was saved elsewhere loads as a dict.
Nothing is ever pickled or unpickled.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from . import backend
from .tensor import Tensor

__all__ = ["atomic_write", "load", "save"]

# Keys in the metadata of a file.
_TREE, _SUM = "gpugrad.tree", "gpugrad.crc32"
# In the tree, a dict with this key stands for something that is not JSON.
_TAG = "$"

_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
}


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """A file to write, which takes the place of ``path`` at the end of the block: whole, or not at all.

    It is written beside ``path``, flushed to the disk and renamed; when something fails, it is
    removed and an earlier ``path`` stays as it was.

    Args:
        path: where to write; a device or a pipe is written to directly.
        mode: "wb", or "w" for text (UTF-8).
    """
    target = Path(os.path.realpath(path))
    encoding = None if "b" in mode else "utf-8"
    if target.exists() and not target.is_file():
        with open(target, mode, encoding=encoding) as file:
            yield file
        return
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        with open(temporary, mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if os.name != "nt":
        # The new file is in place already, so a file system that cannot do this is no failure.
        with suppress(OSError):
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def save(obj: Any, f: str | os.PathLike[str] | IO[bytes]) -> None:
    """Save tensors, and whatever holds them, as a safetensors file.

    Args:
        obj: tensors, NumPy arrays, numbers, strings, bools and None, in dicts, lists and tuples
            nested at will.  A state dict's tensors keep their names in the file; a tensor deeper
            down is named by its keys, joined by dots.
        f: a path, replaced only when the new file is complete, or an object with ``write``.

    Raises:
        TypeError: ``obj`` holds something else (says what and where), or a dtype that cannot be saved.
        OSError: the file cannot be written; an earlier one is left as it was.
    """
    from safetensors import numpy as safetensors

    arrays: dict[str, np.ndarray] = {}
    tree = json.dumps(_pack(obj, (), arrays))
    data = safetensors.save(arrays, metadata={_TREE: tree, _SUM: f"{_checksum(tree, arrays):08x}"})
    if hasattr(f, "write"):
        f.write(data)
        return
    with atomic_write(f) as file:
        file.write(data)


def load(
    f: str | os.PathLike[str] | IO[bytes],
    map_location: Any = None,
    *,
    weights_only: bool = True,
    mmap: bool | None = None,
) -> Any:
    """Load what :func:`save` saved, or the tensors of any safetensors file as a dict.

    Args:
        f: a path, or an object with ``read``.
        map_location: the device of the tensors, the CPU by default; or a dict or a function
            as in PyTorch.
        weights_only, mmap: accepted, without effect: there is no pickle to guard against.

    Raises:
        ValueError: the file is truncated or corrupt, is no safetensors file, or is a pickle (as
            written by ``torch.save``); says what to do.
    """
    if hasattr(f, "read"):
        name, data = str(getattr(f, "name", type(f).__name__)), f.read()
    else:
        name, data = os.fspath(f), Path(f).read_bytes()
    arrays, metadata = _parse(name, data)
    place = _placer(map_location)
    if _TREE not in metadata and _SUM not in metadata:
        return {key: place(array) for key, array in arrays.items()}
    tree = metadata.get(_TREE, "")
    if metadata.get(_SUM) != f"{_checksum(tree, arrays):08x}":
        raise ValueError(f"{name}: corrupt: the checksum of its contents is not the one it was saved with")
    try:
        return _unpack(json.loads(tree), arrays, place)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{name}: its {_TREE!r} metadata does not fit its tensors: {error!r}") from None


def _pack(obj: Any, path: tuple[Any, ...], arrays: dict[str, np.ndarray]) -> Any:
    """``obj`` as JSON, with the tensors put into ``arrays`` and replaced by their names."""
    if isinstance(obj, Tensor | np.ndarray):
        return _pack_array(obj, path, arrays)
    if isinstance(obj, np.generic):
        obj = obj.item()
    if obj is None or isinstance(obj, bool | int | float | str):
        return obj
    if isinstance(obj, Mapping):
        items = [(key, _pack(value, (*path, key), arrays)) for key, value in obj.items()]
        if all(isinstance(key, str) for key in obj) and _TAG not in obj:
            return dict(items)
        return {_TAG: "dict", "items": [(_pack(key, (*path, key), arrays), value) for key, value in items]}
    if isinstance(obj, list | tuple):
        entries = [_pack(value, (*path, k), arrays) for k, value in enumerate(obj)]
        return {_TAG: "tuple", "items": entries} if isinstance(obj, tuple) else entries
    where = "obj" + "".join(f"[{key!r}]" for key in path)
    hint = "; save its state_dict() instead" if hasattr(obj, "state_dict") else ""
    raise TypeError(
        f"save() takes tensors, arrays, numbers, strings, None, and dicts, lists and tuples of them, but {where} is of "
        f"type {type(obj).__name__}{hint}"
    )


def _pack_array(obj: Any, path: tuple[Any, ...], arrays: dict[str, np.ndarray]) -> dict[str, str]:
    array = backend.to_numpy(obj._data) if isinstance(obj, Tensor) else obj
    if array.dtype.name not in {*_DTYPES.values(), "bfloat16"}:
        raise TypeError(
            f"save() cannot save an array of dtype {array.dtype}; convert to one of {', '.join(_DTYPES.values())}"
        )
    name = ".".join(str(key) for key in path) or "tensor"
    while name in arrays or name == "__metadata__":
        name += "_"
    arrays[name] = np.asarray(array, array.dtype.newbyteorder("="), order="C")
    return {_TAG: "tensor" if isinstance(obj, Tensor) else "array", "name": name}


def _unpack(tree: Any, arrays: dict[str, np.ndarray], place: Callable[[np.ndarray], Tensor]) -> Any:
    if isinstance(tree, list):
        return [_unpack(value, arrays, place) for value in tree]
    if not isinstance(tree, dict):
        return tree
    tag = tree.get(_TAG)
    if tag is None:
        return {key: _unpack(value, arrays, place) for key, value in tree.items()}
    if tag == "tensor":
        return place(arrays[tree["name"]])
    if tag == "array":
        return arrays[tree["name"]]
    if tag == "tuple":
        return tuple(_unpack(value, arrays, place) for value in tree["items"])
    if tag == "dict":
        return {_unpack(key, arrays, place): _unpack(value, arrays, place) for key, value in tree["items"]}
    raise TypeError(f"unknown tag {tag!r}")


def _checksum(tree: str, arrays: dict[str, np.ndarray]) -> int:
    """The CRC-32 of the tree and of the tensors, in the order of their names."""
    total = zlib.crc32(tree.encode())
    for name, array in sorted(arrays.items()):
        total = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), total)
        total = zlib.crc32(array.reshape(-1).view(np.uint8).data, total)
    return total


def _parse(name: str, data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a safetensors file, which own their memory, and its metadata."""
    from safetensors import SafetensorError, deserialize

    if data[:4] == b"PK\x03\x04" or (data[:1] == b"\x80" and data[1:2] in b"\2\3\4\5"):
        raise ValueError(
            f"{name}: this is a pickle (torch.save writes them), which can run any program when it is loaded, and is "
            "not supported. Convert it where PyTorch is installed: safetensors.torch.save_file(torch.load('model.pt', "
            "weights_only=True), 'model.safetensors')"
        )
    try:
        views = deserialize(bytes(data))
    except SafetensorError as error:
        raise ValueError(
            f"{name}: truncated or corrupt, or no safetensors file at all ({len(data)} bytes): {error}"
        ) from None
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    arrays = {
        key: np.frombuffer(view["data"], _dtype(name, key, view["dtype"])).reshape(view["shape"]) for key, view in views
    }
    return arrays, header.get("__metadata__") or {}


def _dtype(name: str, key: str, code: str) -> Any:
    if code == "BF16":
        try:
            from ml_dtypes import bfloat16
        except ImportError:
            raise ValueError(
                f"{name}: tensor {key!r} is bfloat16, which needs ml_dtypes: pip install ml_dtypes"
            ) from None
        return bfloat16
    if code not in _DTYPES:
        raise ValueError(f"{name}: tensor {key!r} has dtype {code}, expected one of {', '.join(_DTYPES)} or BF16")
    return _DTYPES[code]


def _placer(map_location: Any) -> Callable[[np.ndarray], Tensor]:
    if callable(map_location):

        def place(array: np.ndarray) -> Tensor:
            tensor = Tensor._wrap(array)
            moved = map_location(tensor, "cpu")
            return tensor if moved is None else moved

        return place
    if isinstance(map_location, Mapping):
        map_location = map_location.get("cpu")
    where = backend.resolve("cpu" if map_location is None else map_location)
    return lambda array: Tensor._wrap(backend.transfer(array, where))
