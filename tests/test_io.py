import errno
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

import gpugrad as gg
from gpugrad.io import atomic_write

DTYPES = ("float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")


def array(*shape, dtype="float32"):
    return (np.arange(np.prod(shape, dtype=int)).reshape(shape) % 2).astype(dtype)


def same(a, b):
    assert type(a) is type(b)
    if isinstance(a, gg.Tensor | np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()
    elif isinstance(a, dict):
        assert list(a) == list(b)
        assert [type(key) for key in a] == [type(key) for key in b]
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        assert a == b or a != a


def round_trip(obj):
    buffer = io.BytesIO()
    gg.save(obj, buffer)
    buffer.seek(0)
    return gg.load(buffer)


CHECKPOINT = {
    "model": {"fc.weight": gg.tensor([[1.0, 2.0], [3.0, 4.0]]), "fc.bias": gg.tensor([0.5, -0.0])},
    "optimizer": {
        "state": {0: {"step": 3, "exp_avg": gg.tensor([1e-30])}, 1: {}},
        "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0, 1], "nesterov": False}],
    },
    "epoch": 3,
    "best": None,
    "note": "größe\n\ud800",
    "loss": float("nan"),
    "worst": float("inf"),
    "big": 2**80,
    "random": np.array([1, 2], np.int64),
    "$": "not a tag",
    "empty": [(), [], {}],
}


def test_nested_round_trip(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    gg.save(CHECKPOINT, path)
    same(gg.load(path), CHECKPOINT)
    same(gg.load(str(path)), CHECKPOINT)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
leaves |= st.sampled_from(DTYPES).map(lambda dtype: gg.tensor(array(2, 3, dtype=dtype)))
keys = st.text(max_size=3) | st.integers(0, 2) | st.booleans() | st.none() | st.tuples(st.integers(0, 1))
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


@given(trees)
def test_any_tree_round_trip(tree):
    same(round_trip(tree), tree)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3)])
def test_dtypes_and_shapes(dtype, shape):
    same(round_trip(gg.tensor(array(*shape, dtype=dtype))), gg.tensor(array(*shape, dtype=dtype)))


def test_layouts_and_what_is_loaded_can_be_changed():
    base = np.arange(12.0).reshape(3, 4)
    for view in (base.T, base[:, ::2], base[::-1], base.astype(">f8")):
        loaded = round_trip({"x": gg.Tensor._wrap(view)})["x"]
        np.testing.assert_array_equal(loaded.numpy(), view)
        assert loaded.numpy().dtype == np.float64
        loaded.numpy()[...] = 1


def test_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.array([1.0, 2.5], ml_dtypes.bfloat16)
    loaded = round_trip({"x": gg.Tensor._wrap(x)})["x"]
    assert loaded.numpy().dtype == x.dtype
    np.testing.assert_array_equal(loaded.numpy(), x)


def test_bfloat16_without_ml_dtypes(monkeypatch):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    buffer = io.BytesIO()
    gg.save({"x": gg.Tensor._wrap(np.zeros(2, ml_dtypes.bfloat16))}, buffer)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ValueError, match="'x' is bfloat16, which needs ml_dtypes"):
        gg.load(io.BytesIO(buffer.getvalue()))


def test_state_dict_is_plain_safetensors(tmp_path):
    # Tensors of several dtypes lie in another order in the file; names and order come back as given.
    state = OrderedDict([("b.weight", gg.tensor([True])), ("a.weight", gg.tensor([1.0, 2.0])), ("n", gg.tensor(3))])
    gg.save(state, tmp_path / "model.safetensors")
    elsewhere = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    assert set(elsewhere) == set(state)
    for key, value in elsewhere.items():
        np.testing.assert_array_equal(value, state[key].numpy())
    same(gg.load(tmp_path / "model.safetensors"), dict(state))


def test_foreign_safetensors(tmp_path):
    arrays = {"layer.weight": array(2, 3), "layer.bias": array(3, dtype="int64")}
    safetensors.numpy.save_file(arrays, tmp_path / "foreign.safetensors", metadata={"format": "pt"})
    loaded = gg.load(tmp_path / "foreign.safetensors")
    assert set(loaded) == set(arrays)
    for key in arrays:
        same(loaded[key], gg.tensor(arrays[key]))
    safetensors.numpy.save_file({"x": array(2, dtype="uint16")}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="'x' has dtype U16, expected one of"):
        gg.load(tmp_path / "foreign.safetensors")


def test_pytorch_interchange(tmp_path):
    torch = pytest.importorskip("torch")
    import safetensors.torch

    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    state = model.state_dict()
    safetensors.torch.save_file(state, tmp_path / "torch.safetensors")
    loaded = gg.load(tmp_path / "torch.safetensors")
    assert set(loaded) == set(state)
    for key, value in state.items():
        same(loaded[key], gg.tensor(value.numpy()))
    gg.save(loaded, tmp_path / "ours.safetensors")
    back = safetensors.torch.load_file(tmp_path / "ours.safetensors")
    assert all(torch.equal(back[key], state[key]) for key in state)
    model.load_state_dict(back)


def test_names_do_not_collide():
    tree = {"a": {"b": gg.tensor([1.0])}, "a.b": gg.tensor([2.0]), "__metadata__": gg.tensor([3.0])}
    same(round_trip(tree), tree)


def test_numpy_scalars_and_shared_tensors():
    x = gg.tensor([1.0])
    loaded = round_trip({"a": x, "b": x, "n": np.float32(0.5), "k": np.int64(3), "t": np.bool_(True)})
    assert loaded["a"].numpy() is not loaded["b"].numpy()
    assert (loaded["n"], loaded["k"], loaded["t"]) == (0.5, 3, True)


@pytest.mark.parametrize("obj", [object(), {1, 2}, b"bytes", 1j, lambda: 0])
def test_what_cannot_be_saved(obj, tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(TypeError, match=rf"obj\['a'\]\[1\] is of type {type(obj).__name__}"):
        gg.save({"a": [1, obj]}, path)
    assert not list(tmp_path.iterdir())


def test_a_module_is_told_to_save_its_state_dict():
    class Module:
        def state_dict(self):
            return {}

    with pytest.raises(TypeError, match=r"save its state_dict\(\) instead"):
        gg.save(Module(), io.BytesIO())


def test_dtype_that_cannot_be_saved():
    with pytest.raises(TypeError, match="complex64; convert to one of"):
        gg.save(np.zeros(2, np.complex64), io.BytesIO())


def test_map_location():
    buffer = io.BytesIO()
    gg.save({"x": gg.tensor([1.0])}, buffer)
    seen = []

    def function(tensor, location):
        seen.append(location)
        return tensor * 2

    for where, value in (
        ("cpu", 1),
        (gg.device("cpu"), 1),
        ({"cuda:0": "cpu"}, 1),
        (lambda t, loc: None, 1),
        (function, 2),
    ):
        loaded = gg.load(io.BytesIO(buffer.getvalue()), where, weights_only=True, mmap=False)
        assert loaded["x"].item() == value
    assert seen == ["cpu"]
    with pytest.raises(RuntimeError, match="invalid device"):
        gg.load(io.BytesIO(buffer.getvalue()), map_location="gpu")


@pytest.fixture
def saved():
    buffer = io.BytesIO()
    gg.save({"x": gg.tensor(array(50)), "epoch": 7}, buffer)
    return buffer.getvalue()


def test_truncated_anywhere(saved):
    for size in range(len(saved)):
        with pytest.raises(ValueError, match="BytesIO: truncated or corrupt"):
            gg.load(io.BytesIO(saved[:size]))


def test_any_flipped_byte_is_noticed(saved):
    for k in range(len(saved)):
        for bit in (1, 16):
            damaged = bytearray(saved)
            damaged[k] ^= bit
            with pytest.raises(ValueError, match="BytesIO: "):
                gg.load(io.BytesIO(damaged))


def test_corrupt_data_names_the_file(saved, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(saved[:-1] + b"\x55")
    with pytest.raises(ValueError, match=r"weights.safetensors: corrupt: the checksum"):
        gg.load(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"weights.safetensors: truncated or corrupt.*\(0 bytes\)"):
        gg.load(path)
    with pytest.raises(FileNotFoundError):
        gg.load(tmp_path / "absent")
    with pytest.raises(IsADirectoryError):
        gg.load(tmp_path)


def test_metadata_that_does_not_fit():
    for tree in ({"$": "tensor", "name": "y"}, {"$": "other"}, {"$": "tuple"}):
        text = json.dumps(tree)
        metadata = {"gpugrad.tree": text, "gpugrad.crc32": f"{gg.io._checksum(text, {}):08x}"}
        with pytest.raises(ValueError, match="metadata does not fit its tensors"):
            gg.load(io.BytesIO(safetensors.numpy.save({}, metadata=metadata)))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_is_refused(protocol):
    import pickle

    with pytest.raises(ValueError, match=r"this is a pickle.*safetensors\.torch\.save_file"):
        gg.load(io.BytesIO(pickle.dumps({"x": 1}, protocol=protocol)))


def test_torch_save_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    for new in (True, False):
        torch.save({"x": torch.ones(2)}, tmp_path / "model.pt", _use_new_zipfile_serialization=new)
        with pytest.raises(ValueError, match=r"model\.pt: this is a pickle"):
            gg.load(tmp_path / "model.pt")


class Full:
    """A file on a disk that is full after some bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.file.close()

    def write(self, data):
        self.file.write(data[: self.room])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk_keeps_the_last_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    gg.save({"epoch": 1}, path)
    monkeypatch.setattr("builtins.open", lambda *args, _open=open, **kwargs: Full(_open(*args, **kwargs), 10))
    with pytest.raises(OSError, match="No space left"):
        gg.save({"epoch": 2, "x": gg.tensor(array(1000))}, path)
    monkeypatch.undo()
    assert gg.load(path) == {"epoch": 1}
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_failure_at_the_end_keeps_the_last_file(function, tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    gg.save({"epoch": 1}, path)

    def fail(*args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="Input/output error"):
        gg.save({"epoch": 2}, path)
    monkeypatch.undo()
    assert gg.load(path) == {"epoch": 1}
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def run(program, *args, **kwargs):
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), *map(str, args)], **kwargs)


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_limit_of_the_file_size_keeps_the_last_file(tmp_path):
    program = """
        import resource, sys
        import gpugrad as gg
        path = sys.argv[1]
        gg.save({"epoch": 1}, path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            gg.save({"epoch": 2, "x": gg.tensor([0.0] * 10000)}, path)
        except OSError as error:
            print(error.strerror)
    """
    path = tmp_path / "x.safetensors"
    process = run(program, path, stdout=subprocess.PIPE, text=True)
    assert process.communicate()[0] == "File too large\n"
    assert gg.load(path) == {"epoch": 1}
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_while_saving(tmp_path):
    program = """
        import sys
        import gpugrad as gg
        x = gg.tensor([float(k) for k in range(200000)])
        epoch = 0
        while True:
            epoch += 1
            gg.save({"epoch": epoch, "x": x * epoch}, sys.argv[1])
            print(epoch, flush=True)
    """
    path = tmp_path / "x.safetensors"
    process = run(program, path, stdout=subprocess.PIPE, text=True)
    for _ in range(3):
        last = int(process.stdout.readline())
    time.sleep(0.0123)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    loaded = gg.load(path)
    assert loaded["epoch"] >= last
    np.testing.assert_array_equal(loaded["x"].numpy(), np.arange(200000, dtype="float32") * loaded["epoch"])
    gg.save({"epoch": 0}, path)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_unwritable_folder(tmp_path):
    with pytest.raises(OSError, match="absent"):
        gg.save({}, tmp_path / "absent" / "x")


def test_atomic_write_of_text(tmp_path):
    path = tmp_path / "metrics.json"
    with atomic_write(path, "w") as file:
        file.write("größe\n")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "größe\n"

    def interrupted():
        with atomic_write(path, "w") as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text(encoding="utf-8") == "größe\n"
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links and /dev/null")
def test_links_and_devices_stay_what_they_are(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    gg.save({"epoch": 1}, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert gg.load(tmp_path / "real") == {"epoch": 1}
    gg.save({"epoch": 1}, "/dev/null")
    assert not os.path.isfile("/dev/null")
