"""The rules of the tree: which file may import which, what importing costs, what is never in it."""

import ast
import fnmatch
import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gpugrad"
SOURCES = sorted(p for p in PACKAGE.rglob("*.py"))

# A file imports only from its own row and the rows above it; what is not named is library code.
ROWS = [
    ["backend", "version"],
    ["engine"],
    ["ops"],
    ["tensor", "printing"],
    ["(library)"],
    ["cli", "examples", "__main__"],
]
LIBRARY = 4
ROW = {room: k for k, row in enumerate(ROWS) for room in row}


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def row_of(room):
    return ROW.get(room, LIBRARY)


@functools.cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports(path):
    """Every module imported anywhere in a file, as an absolute dotted name, with its line."""
    found = []
    package = ("gpugrad", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            # `from . import x` may import the module x.
            found += [(f"{module}.{alias.name}", node.lineno) for alias in node.names]
    return found


def rooms_imported(path):
    for name, line in imports(path):
        parts = name.split(".")
        if parts[0] == "gpugrad" and len(parts) > 1:
            known = (PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").exists()
            if known:
                yield parts[1], line


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_imports_only_from_rooms_above(path):
    room = room_of(path)
    allowed = LIBRARY if room == "__init__" else row_of(room)
    wrong = [f"line {line}: {other}" for other, line in rooms_imported(path) if row_of(other) > allowed]
    assert not wrong, f"{room} may not import from {wrong}"


def test_the_walk_over_imports_sees_relative_imports():
    found = {room for room, _ in rooms_imported(PACKAGE / "ops" / "core.py")}
    assert {"backend", "engine"} <= found
    assert "tensor" not in found


def test_only_the_backend_imports_cupy():
    users = {
        room_of(path)
        for path in SOURCES
        for name, _ in imports(path)
        if name.split(".")[0] in ("cupy", "cupyx", "cuda")
    }
    assert users <= {"backend"}


def _modules(statement):
    code = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(out.stdout.splitlines()[-1]))


def test_importing_stays_light():
    added = _modules("import gpugrad") - _modules("import numpy")
    heavy = {"cupy", "matplotlib", "torch", "torchvision", "scipy", "tqdm", "PIL", "safetensors", "jax", "pandas"}
    slow = {
        "urllib.request",
        "http.client",
        "asyncio",
        "multiprocessing",
        "unittest",
        "ssl",
        "importlib.metadata",
        "importlib.resources",
    }
    assert not added & (heavy | slow)
    assert len([name for name in added if not name.startswith("gpugrad")]) <= 30, sorted(added)


def test_top_level_holds_only_what_it_should():
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()]
    folders = {
        p.name
        for p in ROOT.iterdir()
        if p.is_dir()
        and not p.name.startswith(".")
        and not any(fnmatch.fnmatch(p.name, pattern) for pattern in ignored)
    }
    assert folders <= {"gpugrad", "kernels", "tests", "benchmarks"}
    assert not [p for p in (ROOT / "kernels").iterdir() if p.suffix not in (".cu", ".cuh", ".h", ".md")]


def test_no_pickle_is_loaded():
    for path in SOURCES:
        names = {name.split(".")[0] for name, _ in imports(path)}
        assert not names & {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}, path
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert getattr(node.value, "value", None) is False, f"{path}:{node.value.lineno}"
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("eval", "exec"):
                raise AssertionError(f"{path}:{node.lineno} calls {node.func.id}")


def test_nothing_is_left_to_do():
    marks = ["TO" + "DO", "FIX" + "ME", "X" + "XX", "Not" + "ImplementedError()"]
    folders = [PACKAGE, ROOT / "tests", ROOT / "benchmarks", ROOT / "kernels"]
    files = [p for folder in folders for p in folder.rglob("*") if p.suffix in (".py", ".cu", ".cuh", ".md")]
    assert len(files) > 20
    left = [f"{p}: {mark}" for p in files for mark in marks if mark in p.read_text()]
    assert not left


def test_every_source_file_says_what_it_is():
    silent = [str(p) for p in SOURCES if tree(p).body and not ast.get_docstring(tree(p))]
    assert not silent
