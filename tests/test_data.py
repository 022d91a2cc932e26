import gc
import gzip
import hashlib
import http.server
import itertools
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections import Counter, OrderedDict, namedtuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import gpugrad as gg
from gpugrad.backend import cuda
from gpugrad.data import (
    MNIST,
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    Digits,
    FashionMNIST,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    datasets,
    default_collate,
    default_convert,
    get_worker_info,
    random_split,
    transforms,
)
from gpugrad.data import download as downloads
from gpugrad.data import workers as workers_module
from gpugrad.data.download import DownloadError, Resource, cache_folder, download
from gpugrad.data.idx import read_idx, write_idx


def numbers(n=10):
    return TensorDataset(gg.tensor([float(k) for k in range(n)]), gg.tensor(list(range(n))))


def drain(loader):
    """What a loader gives, as lists."""
    return [[part.tolist() for part in batch] if isinstance(batch, list) else batch.tolist() for batch in loader]


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("gpugrad-data")]


@pytest.fixture(autouse=True)
def _seeded():
    gg.manual_seed(0)
    yield
    gc.collect()
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not threads()


# Datasets.


def test_tensor_dataset():
    ds = numbers(4)
    assert len(ds) == 4
    assert [t.item() for t in ds[2]] == [2.0, 2]
    assert [t.tolist() for t in ds[1:3]] == [[1.0, 2.0], [1, 2]]
    assert TensorDataset(np.zeros((3, 2))).tensors[0].shape == (3, 2)
    with pytest.raises(AssertionError, match="Size mismatch between tensors"):
        TensorDataset(gg.tensor([1.0]), gg.tensor([1.0, 2.0]))
    with pytest.raises(TypeError, match="expects tensors, but got list"):
        TensorDataset([1, 2])
    with pytest.raises(IndexError):
        ds[4]


def test_subset_concat_and_chain():
    ds = numbers(6)
    sub = Subset(ds, [4, 2])
    assert len(sub) == 2
    assert sub[0][1].item() == 4
    assert sub[[0, 1]][1].tolist() == [4, 2]
    both = sub + Subset(ds, range(3))
    assert isinstance(both, ConcatDataset)
    assert both.cumulative_sizes == [2, 5]
    assert [both[k][1].item() for k in (0, 1, 2, 4, -1, -5)] == [4, 2, 0, 2, 2, 4]
    for k in (5, -6):
        with pytest.raises((IndexError, ValueError), match="should not exceed dataset length"):
            both[k]
    with pytest.raises(AssertionError, match="empty"):
        ConcatDataset([])
    with pytest.raises(AssertionError, match="IterableDataset"):
        ConcatDataset([Stream(3)])
    assert list(ChainDataset([Stream(2), Stream(3)])) == [0, 1, 0, 1, 2]
    with pytest.raises(NotImplementedError):
        Dataset()[0]
    with pytest.raises(TypeError, match="abstract"):
        IterableDataset()


@pytest.mark.parametrize(
    ("lengths", "counts"),
    [([3, 7], [3, 7]), ([0.33, 0.33, 0.34], [4, 3, 3]), ([1 / 4] * 4, [3, 3, 2, 2]), ([10, 0], [10, 0])],
)
def test_random_split(lengths, counts):
    generator = gg.Generator().manual_seed(3)
    parts = random_split(numbers(), lengths, generator=generator)
    assert [len(part) for part in parts] == counts
    assert sorted(k for part in parts for k in part.indices) == list(range(10))
    again = random_split(numbers(), lengths, generator=gg.Generator().manual_seed(3))
    assert [part.indices for part in again] == [part.indices for part in parts]
    assert [part.indices for part in random_split(numbers(), lengths)] != [part.indices for part in parts]


def test_random_split_refuses():
    for lengths in ([3, 3], [0.5, 0.7], [-1, 11], [2.5, 7.5]):
        with pytest.raises(ValueError, match="Sum of input lengths does not equal the length of the input dataset"):
            random_split(numbers(), lengths)
    with pytest.raises(ValueError, match=r"Fraction at index 0 is not between 0 and 1: 1\.5"):
        random_split(numbers(), [1.5, -0.5])
    with pytest.warns(UserWarning, match="Length of split at index 1 is 0"):
        random_split(numbers(), [1.0, 0.0])


# Samplers.


def test_sequential_and_random_sampler():
    ds = numbers(50)
    assert list(SequentialSampler(ds)) == list(range(50))
    sampler = RandomSampler(ds)
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second != list(range(50))
    assert all(type(k) is int for k in first)
    gg.manual_seed(0)
    assert list(RandomSampler(ds)) == first
    assert len(RandomSampler(ds, num_samples=7)) == len(list(RandomSampler(ds, num_samples=7))) == 7
    longer = list(RandomSampler(ds, num_samples=120))
    assert sorted(longer[:50]) == sorted(longer[50:100]) == list(range(50))
    assert len(longer) == 120
    with_repeats = list(RandomSampler(ds, replacement=True, num_samples=500))
    assert set(with_repeats) == set(range(50))
    assert len(with_repeats) == 500
    a, b = (list(RandomSampler(ds, generator=gg.Generator().manual_seed(k))) for k in (1, 1))
    assert a == b


def test_draws_without_end():
    # As minGPT's loader asks for them: what an epoch never reaches is never drawn.
    sampler = RandomSampler(range(7), replacement=True, num_samples=10**10)
    assert len(DataLoader(range(7), sampler=sampler, batch_size=4)) == 10**10 // 4
    batches = iter(DataLoader(range(7), sampler=sampler, batch_size=30_011))
    found = np.concatenate([next(batches).numpy() for _ in range(8)])
    counts = np.bincount(found, minlength=7)
    assert len(counts) == 7
    assert abs(counts - len(found) / 7).max() < 1000
    sampler.load_state_dict(sampler.state_dict())
    assert list(itertools.islice(sampler, len(found))) == found.tolist()


def test_many_draws():
    sampler = RandomSampler(range(5), replacement=True, num_samples=150_001)
    batches = list(BatchSampler(sampler, 40_000, False))
    assert [len(batch) for batch in batches] == [40_000] * 3 + [30_001]
    sampler.load_state_dict(sampler.state_dict())
    assert list(sampler) == list(itertools.chain(*batches))


def test_other_samplers():
    order = list(SubsetRandomSampler([3, 5, 9]))
    assert sorted(order) == [3, 5, 9]
    assert sorted(SubsetRandomSampler(gg.tensor([3, 5, 9]))) == [3, 5, 9]
    assert list(SubsetRandomSampler([])) == []
    assert list(BatchSampler(SequentialSampler(range(5)), 2, False)) == [[0, 1], [2, 3], [4]]
    assert list(BatchSampler(iter("abcde"), 2, True)) == [["a", "b"], ["c", "d"]]
    assert len(BatchSampler(range(5), 2, False)) == 3
    assert len(BatchSampler(range(5), 2, True)) == 2
    assert isinstance(Sampler[int], object)
    with pytest.raises(NotImplementedError):
        iter(Sampler())
    with pytest.raises(TypeError, match="has no len"):
        len(Sampler())


def test_weighted_sampler():
    weights = [0.0, 1.0, 3.0, 0.0, 4.0, 0.0]
    counts = Counter(WeightedRandomSampler(weights, 20000))
    assert set(counts) == {1, 2, 4}
    np.testing.assert_allclose([counts[k] / 20000 for k in (1, 2, 4)], [1 / 8, 3 / 8, 4 / 8], atol=0.015)
    for _ in range(20):
        assert set(WeightedRandomSampler(weights, 3, replacement=False)) == {1, 2, 4}
    firsts = Counter(next(iter(WeightedRandomSampler(weights, 3, replacement=False))) for _ in range(2000))
    np.testing.assert_allclose([firsts[k] / 2000 for k in (1, 2, 4)], [1 / 8, 3 / 8, 4 / 8], atol=0.05)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: RandomSampler(numbers(), num_samples=0), ValueError, "num_samples should be a positive integer"),
        (lambda: RandomSampler(numbers(0)), ValueError, "num_samples=0"),
        (lambda: RandomSampler(numbers(), replacement=1), TypeError, "replacement should be a boolean"),
        (lambda: BatchSampler([1], 0, False), ValueError, "batch_size should be a positive integer value"),
        (lambda: BatchSampler([1], True, False), ValueError, "batch_size should be a positive integer value"),
        (lambda: BatchSampler([1], 2, 1), ValueError, "drop_last should be a boolean"),
        (lambda: WeightedRandomSampler([1.0], 0), ValueError, "num_samples should be a positive integer"),
        (lambda: WeightedRandomSampler([[1.0]], 1), ValueError, "1d sequence"),
        (lambda: WeightedRandomSampler([1.0], 1, 1), ValueError, "replacement should be a boolean"),
        (lambda: WeightedRandomSampler([0.0], 1), RuntimeError, "not all 0"),
        (lambda: WeightedRandomSampler([1.0, -1.0], 1), RuntimeError, "not negative"),
        (lambda: WeightedRandomSampler([1.0, float("nan")], 1), RuntimeError, "finite"),
        (lambda: WeightedRandomSampler([1.0, 0.0], 2, False), RuntimeError, "only 1 weights are not 0"),
    ],
)
def test_samplers_refuse(make, error, message):
    with pytest.raises(error, match=message):
        make()


# Collating.

Pair = namedtuple("Pair", "x y")


def test_collate_numbers_and_arrays():
    for batch, dtype, value in (
        ([1, 2], "int64", [1, 2]),
        ([True, False], "bool", [True, False]),
        ([1.0, 2.0], "float64", [1.0, 2.0]),
        ([np.float32(1), np.float32(2)], "float32", [1.0, 2.0]),
        ([np.zeros(2, "int16")] * 2, "int16", [[0, 0], [0, 0]]),
        ([gg.tensor([1.0])] * 2, "float32", [[1.0], [1.0]]),
        ([gg.tensor(1)] * 2, "int64", [1, 1]),
    ):
        result = default_collate(batch)
        assert isinstance(result, gg.Tensor)
        assert result.dtype == dtype
        assert result.tolist() == value
    assert default_collate(["a", "b"]) == ["a", "b"]
    assert default_collate([b"a"]) == [b"a"]


def test_collate_containers():
    result = default_collate([Pair(1, {"a": 2.0}), Pair(3, {"a": 4.0})])
    assert isinstance(result, Pair)
    assert result.x.tolist() == [1, 3]
    assert result.y["a"].tolist() == [2.0, 4.0]
    x, (y, z), name = default_collate([(1, [2, 3], "p"), (4, [5, 6], "q")])
    assert (x.tolist(), y.tolist(), z.tolist(), name) == ([1, 4], [2, 5], [3, 6], ("p", "q"))
    assert isinstance(default_collate([OrderedDict(a=1)]), OrderedDict)


def test_collate_promotes_as_pytorch():
    result = default_collate([gg.tensor([1]), gg.tensor([1.5])])
    assert result.dtype == gg.float32
    assert result.tolist() == [[1.0], [1.5]]


class Picture:
    """What collating sees of a PIL image."""

    __array_interface__ = np.zeros((2, 2), np.uint8).__array_interface__


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ([np.ones(2), np.ones(3)], RuntimeError, r"equal size, but got \[2\] at entry 0 and \[3\] at entry 1"),
        (
            [gg.tensor([1, 2]), gg.tensor([1, 2, 3])],
            RuntimeError,
            r"equal size, but got \[2\] at entry 0 and \[3\] at entry 1",
        ),
        ([[1], [1, 2]], RuntimeError, "should be of equal size"),
        ([None], TypeError, "must contain tensors, numpy arrays, numbers, dicts or lists; found .*NoneType"),
        ([np.array(["a"])], TypeError, "found <U1"),
        ([Picture()], TypeError, "found .*Picture.*ToTensor"),
    ],
)
def test_collate_refuses(batch, error, message):
    with pytest.raises(error, match=message):
        default_collate(batch)


def test_collate_keeps_gradients():
    x = gg.tensor([1.0, 2.0], requires_grad=True)
    default_collate([x, x]).backward(gg.tensor([[1.0, 1.0]] * 2))
    assert x.grad.tolist() == [2.0, 2.0]


def test_default_convert():
    result = default_convert({"a": np.ones(2), "b": "x", "c": (1, np.ones(1)), "d": Pair(np.ones(1), 2)})
    assert isinstance(result["a"], gg.Tensor)
    assert result["b"] == "x"
    assert result["c"][0] == 1
    assert isinstance(result["c"][1], gg.Tensor)
    assert isinstance(result["d"], Pair)
    assert isinstance(result["d"].x, gg.Tensor)


class Foreign:
    """A tensor of another library."""

    def __init__(self, value):
        self.value = np.asarray(value)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.value, dtype)


def test_samples_of_another_library():
    batch = next(iter(DataLoader([(Foreign([1.0, 2.0]), 3), (Foreign([3.0, 4.0]), 5)], batch_size=2)))
    assert [part.tolist() for part in batch] == [[[1.0, 2.0], [3.0, 4.0]], [3, 5]]


def test_samples_of_pytorch():
    torch = pytest.importorskip("torch")
    samples = [(torch.full((1, 2, 2), float(k)), k, torch.tensor(k % 2 == 0)) for k in range(4)]
    x, y, z = next(iter(DataLoader(samples, batch_size=4)))
    expected = next(iter(torch.utils.data.DataLoader(samples, batch_size=4)))
    for ours, theirs in zip((x, y, z), expected, strict=True):
        assert isinstance(ours, gg.Tensor)
        assert ours.dtype.name == str(theirs.dtype).split(".")[1]
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


# The loader.


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_order_and_sizes(workers):
    ds = numbers()
    assert drain(DataLoader(ds, 4, num_workers=workers)) == [
        [[0.0, 1.0, 2.0, 3.0], [0, 1, 2, 3]],
        [[4.0, 5.0, 6.0, 7.0], [4, 5, 6, 7]],
        [[8.0, 9.0], [8, 9]],
    ]
    loader = DataLoader(ds, batch_size=4, drop_last=True, num_workers=workers)
    assert len(loader) == len(iter(loader)) == len(drain(loader)) == 2
    assert len(DataLoader(ds, batch_size=4)) == 3
    assert len(loader.dataset) == 10


@pytest.mark.parametrize("workers", [0, 2])
def test_shuffling(workers):
    loader = DataLoader(numbers(40), batch_size=8, shuffle=True, num_workers=workers)
    first, second = drain(loader), drain(loader)
    assert first != second
    for epoch in (first, second):
        assert sorted(k for _, labels in epoch for k in labels) == list(range(40))
        assert all(values == labels for values, labels in epoch)
    gg.manual_seed(0)
    assert drain(DataLoader(numbers(40), batch_size=8, shuffle=True)) == first
    generators = [gg.Generator().manual_seed(5) for _ in range(2)]
    a, b = (drain(DataLoader(numbers(40), 8, True, num_workers=workers, generator=g)) for g in generators)
    assert a == b


class Slow(Dataset):
    """Samples one at a time, some of which take longer."""

    def __init__(self, n=20):
        self.n = n
        self.seen = []

    def __getitem__(self, index):
        assert type(index) is int
        self.seen.append((index, threading.current_thread()))
        time.sleep(0.002 * (index % 3))
        return np.float32(index), index

    def __len__(self):
        return self.n


def test_workers_keep_the_order():
    ds = Slow()
    assert drain(DataLoader(ds, 3, num_workers=4)) == drain(DataLoader(Slow(), 3))
    assert len({thread for _, thread in ds.seen}) == 4


def test_samplers_and_batches_given():
    ds = numbers()
    assert drain(DataLoader(ds, sampler=[3, 1, 2], batch_size=2)) == [[[3.0, 1.0], [3, 1]], [[2.0], [2]]]
    assert drain(DataLoader(ds, batch_sampler=[[5], [7, 0]])) == [[[5.0], [5]], [[7.0, 0.0], [7, 0]]]
    assert drain(DataLoader(ds, batch_sampler=[range(8, 10), [-1]])) == [[[8.0, 9.0], [8, 9]], [[9.0], [9]]]
    assert drain(DataLoader(ds, batch_sampler=[range(0, 10, 4)])) == [[[0.0, 4.0, 8.0], [0, 4, 8]]]
    for bad in ([10], range(8, 12), [-11]):
        with pytest.raises(IndexError):
            drain(DataLoader(ds, batch_sampler=[bad]))
    keys = {"a": 1, "b": 2}
    assert drain(DataLoader(keys, batch_sampler=[["b", "a"]])) == [[2, 1]]


def test_without_batches():
    assert drain(DataLoader(numbers(2), batch_size=None)) == [[0.0, 0], [1.0, 1]]
    assert list(DataLoader([1, 2], batch_size=None, num_workers=2)) == [1, 2]


def test_collate_fn_and_dataset_shortcuts():
    class Doubled(TensorDataset):
        def __getitem__(self, index):
            return tuple(t * 2 for t in super().__getitem__(index))

    class Many(Dataset):
        def __getitem__(self, index):
            raise AssertionError("not called")

        def __getitems__(self, indices):
            return [k * 10 for k in indices]

        def __len__(self):
            return 4

    assert drain(DataLoader(Doubled(gg.tensor([1, 2, 3])), 2)) == [[[2, 4]], [[6]]]
    assert drain(DataLoader(Subset(Doubled(gg.tensor([1, 2, 3])), [2, 0]), 2)) == [[[6, 2]]]
    assert drain(DataLoader(Many(), 3)) == [[0, 10, 20], [30]]
    assert drain(DataLoader(Subset(Many(), [3, 1]), 3)) == [[30, 10]]
    assert list(DataLoader(numbers(3), 2, collate_fn=len)) == [2, 1]

    class Backwards(RandomSampler):
        def __iter__(self):
            return iter(range(len(self.data_source) - 1, -1, -1))

    assert drain(DataLoader(numbers(3), 3, sampler=Backwards(numbers(3)))) == [[[2.0, 1.0, 0.0], [2, 1, 0]]]


@pytest.mark.parametrize("indices", [[7, 3, 3, 0], range(2, 9), np.array([4, 1]), gg.tensor([4, 1])])
def test_subset_in_one_move(indices):
    expected = [int(k) for k in indices]
    for shuffle in (False, True):
        [(values, labels)] = drain(DataLoader(Subset(numbers(), indices), 20, shuffle=shuffle))
        assert values == labels
        assert sorted(labels) == sorted(expected)
    assert labels != expected or len(expected) == 2


def test_batches_own_their_memory():
    ds = numbers()
    kept = list(DataLoader(ds, 5))
    for x, _ in kept:
        x.mul_(0)
    assert ds.tensors[0].tolist() == list(range(10))
    other = TensorDataset(gg.tensor(np.arange(12.0).reshape(3, 4)).t())
    assert drain(DataLoader(other, 2, sampler=[3, 0])) == [[[[3.0, 7.0, 11.0], [0.0, 4.0, 8.0]]]]


def test_tensors_that_need_gradients():
    x = gg.tensor([[1.0], [2.0]], requires_grad=True)
    [(batch,)] = DataLoader(TensorDataset(x), 2)
    batch.backward(gg.tensor([[1.0], [1.0]]))
    assert x.grad.tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size should be a positive integer value"),
        ({"batch_size": 2.5}, "batch_size should be a positive integer value"),
        ({"num_workers": -1}, "num_workers option should be non-negative"),
        ({"timeout": -1}, "timeout option should be non-negative"),
        ({"prefetch_factor": 2}, "prefetch_factor option could only be specified"),
        ({"num_workers": 1, "prefetch_factor": 0}, "prefetch_factor option should be positive"),
        ({"persistent_workers": True}, "persistent_workers option needs num_workers > 0"),
        ({"sampler": [1], "shuffle": True}, "sampler option is mutually exclusive with shuffle"),
        ({"batch_sampler": [[1]], "batch_size": 3}, "batch_sampler option is mutually exclusive"),
        ({"batch_sampler": [[1]], "drop_last": True}, "batch_sampler option is mutually exclusive"),
        ({"batch_size": None, "drop_last": True}, "mutually exclusive with drop_last"),
    ],
)
def test_loader_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(numbers(), **options)


def test_attributes():
    loader = DataLoader(
        numbers(), 3, pin_memory=True, multiprocessing_context="spawn", pin_memory_device="", in_order=True
    )
    assert (loader.batch_size, loader.num_workers, loader.drop_last) == (3, 0, False)
    assert isinstance(loader.sampler, SequentialSampler)
    assert isinstance(DataLoader(numbers(), shuffle=True).sampler, RandomSampler)
    assert DataLoader(numbers(), batch_sampler=[[1]]).batch_size is None
    with pytest.raises(ValueError, match="batch_size attribute should not be set after"):
        loader.batch_size = 4


def test_pinning_without_a_device_warns(monkeypatch):
    monkeypatch.setattr(cuda, "diagnose", lambda: cuda.Diagnosis(False))
    loader = DataLoader(numbers(), 5, pin_memory=True)
    with pytest.warns(UserWarning, match="no CUDA device can be used"):
        assert len(list(loader)) == 2


class Stream(IterableDataset):
    """Numbers, shared between the workers."""

    def __init__(self, n):
        self.n = n

    def __iter__(self):
        info = get_worker_info()
        return iter(range(self.n)) if info is None else iter(range(info.id, self.n, info.num_workers))


def test_iterable_dataset():
    assert drain(DataLoader(Stream(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert drain(DataLoader(Stream(7), 3, drop_last=True)) == [[0, 1, 2], [3, 4, 5]]
    assert list(DataLoader(Stream(3), batch_size=None)) == [0, 1, 2]
    for _ in range(5):
        assert drain(DataLoader(Stream(7), 2, num_workers=2)) == [[0, 2], [1, 3], [4, 6], [5]]
        assert drain(DataLoader(Stream(7), 2, num_workers=3, drop_last=True)) == [[0, 3], [1, 4], [2, 5]]
    with pytest.raises(TypeError, match="has no len"):
        len(DataLoader(Stream(7)))
    for name, value in (("shuffle", True), ("sampler", [1]), ("batch_sampler", [[1]])):
        with pytest.raises(ValueError, match=f"expected unspecified {name} option"):
            DataLoader(Stream(7), **{name: value})
    DataLoader(Stream(7), shuffle=False)


# Workers.


class Failing(Slow):
    def __getitem__(self, index):
        if index == 5:
            return self.open_the_box()
        return super().__getitem__(index)

    def open_the_box(self):
        raise KeyError("no cat")


@pytest.mark.parametrize("workers", [0, 2])
def test_exceptions_come_through(workers):
    loader = iter(DataLoader(Failing(), 2, num_workers=workers))
    assert next(loader)[1].tolist() == [0, 1]
    next(loader)
    with pytest.raises(KeyError, match="no cat") as caught:
        next(loader)
    text = "".join(traceback.format_exception(caught.value))
    assert "open_the_box" in text
    assert ("raised in DataLoader worker 0" in text) == bool(workers)
    with pytest.raises(StopIteration):
        next(loader)


def test_a_stopiteration_of_the_dataset_is_no_end():
    class Ending(Slow):
        def __getitem__(self, index):
            raise StopIteration

    for workers in (0, 1):
        with pytest.raises(RuntimeError, match="StopIteration"):
            drain(DataLoader(Ending(), 2, num_workers=workers))


def test_stopping_early():
    ds = Slow(1000)
    for _ in DataLoader(ds, 2, num_workers=2, prefetch_factor=3):
        break
    assert not threads()
    assert len(ds.seen) <= 2 * 2 * 3 + 2
    iterator = iter(DataLoader(ds, 2, num_workers=2))
    next(iterator)
    del iterator
    assert not threads()


def test_worker_init_and_info():
    seen = []
    names = set()

    class Asking(Slow):
        def __getitem__(self, index):
            info = get_worker_info()
            assert info.dataset is self
            assert info.num_workers == 2
            return info.id

    def init(worker):
        names.add(threading.current_thread().name)
        seen.append(worker)

    loader = DataLoader(Asking(8), 2, num_workers=2, worker_init_fn=init)
    assert drain(loader) == [[0, 0], [1, 1], [0, 0], [1, 1]]
    assert sorted(seen) == [0, 1]
    assert len(names) == 2
    assert get_worker_info() is None

    def fail(worker):
        raise OSError("no file")

    with pytest.raises(OSError, match="no file"):
        drain(DataLoader(numbers(), num_workers=2, worker_init_fn=fail))


def test_persistent_workers():
    seen = []
    ds = Slow()
    loader = DataLoader(ds, 2, num_workers=2, persistent_workers=True, worker_init_fn=seen.append)
    for _ in range(2):
        assert len(drain(loader)) == 10
        for _ in loader:
            break
    assert drain(loader) == drain(DataLoader(Slow(), 2))
    assert sorted(seen) == [0, 1]
    assert len({thread for _, thread in ds.seen}) == len(threads()) == 2
    del loader
    gc.collect()
    assert not threads()


def test_timeout():
    class Stuck(Slow):
        def __getitem__(self, index):
            time.sleep(0.5)

    started = time.monotonic()
    with pytest.raises(RuntimeError, match=r"timed out after 0\.05 seconds"):
        drain(DataLoader(Stuck(), num_workers=1, timeout=0.05))
    assert time.monotonic() - started < 2


def test_workers_use_the_default_device_of_the_caller(monkeypatch):
    seen = []
    monkeypatch.setattr(workers_module, "get_default_device", lambda: "here")
    monkeypatch.setattr(workers_module, "set_default_device", seen.append)
    drain(DataLoader(numbers(), num_workers=2))
    assert seen == ["here", "here"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_control_c_does_not_hang():
    program = """
        import os, signal, time
        from gpugrad.data import DataLoader

        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts without

        class Stuck:
            def __len__(self):
                return 100
            def __getitem__(self, index):
                os.write(1, b"ready\\n")
                time.sleep(100)

        for _ in DataLoader(Stuck(), num_workers=2):
            pass
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - started < 5
    assert errors.rstrip().endswith("KeyboardInterrupt")


# Resuming.


class Noisy(Slow):
    """Samples with random augmentation."""

    flip = transforms.RandomCrop(4, padding=2)

    def __getitem__(self, index):
        return self.flip(np.arange(16.0).reshape(4, 4) + index)


LOADERS = {
    "plain": lambda workers: DataLoader(numbers(20), 3, num_workers=workers),
    "shuffle": lambda workers: DataLoader(numbers(20), 3, shuffle=True, num_workers=workers),
    "generator": lambda workers: DataLoader(
        numbers(20), 3, shuffle=True, num_workers=workers, generator=gg.Generator().manual_seed(8)
    ),
    "augmented": lambda workers: DataLoader(Noisy(), 3, shuffle=True, num_workers=workers),
    "weighted": lambda workers: DataLoader(
        numbers(20), 3, sampler=WeightedRandomSampler(range(20), 20), num_workers=workers
    ),
    "batches": lambda workers: DataLoader(
        numbers(20), batch_sampler=BatchSampler(RandomSampler(range(20)), 3, False), num_workers=workers
    ),
    "singles": lambda workers: DataLoader(Noisy(), None, shuffle=True, num_workers=workers),
    "stream": lambda workers: DataLoader(Stream(20), 3, num_workers=workers),
}


@pytest.mark.parametrize("name", LOADERS)
def test_resume_at_any_batch(name):
    loader = LOADERS[name](0)
    whole, states = [], []
    for _ in range(2):
        states.append((loader.state_dict(), gg.get_rng_state()))
        for batch in loader:
            whole.append(batch)
            gg.rand(1)
            states.append((loader.state_dict(), gg.get_rng_state()))
    done = 0
    for k, (state, random_state) in enumerate(states):
        # The state between the two epochs comes after that of the last batch.
        done = k if k <= len(whole) // 2 else k - 1
        gg.manual_seed(99)
        fresh = LOADERS[name](0)
        drain(fresh)
        gg.set_rng_state(random_state)
        fresh.load_state_dict(state)
        assert fresh.state_dict() == state
        rest = []
        while len(rest) < len(whole) - done:
            for batch in fresh:
                rest.append(batch)
                gg.rand(1)
        assert [str(x) for x in rest] == [str(x) for x in whole[done:]]


@pytest.mark.parametrize("name", [name for name in LOADERS if name != "stream"])
def test_workers_change_nothing(name):
    expected = drain(LOADERS[name](0))
    for workers in (1, 3):
        gg.manual_seed(0)
        assert drain(LOADERS[name](workers)) == expected


def test_resume_with_workers():
    loader = LOADERS["augmented"](2)
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    state = loader.state_dict()
    rest = [batch.tolist() for batch in iterator]
    assert state["batches"] == 3
    fresh = LOADERS["augmented"](3)
    fresh.load_state_dict(state)
    assert drain(fresh) == rest
    assert fresh.state_dict()["batches"] == 0


# idx files.

IDX_DTYPES = ("uint8", "int8", "int16", "int32", "float32", "float64")


@given(
    st.sampled_from(IDX_DTYPES).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0, max_dims=4, max_side=4))
    ),
    st.booleans(),
    st.sampled_from("=<>"),
)
def test_idx_round_trip(tmp_path_factory, array, zipped, order):
    path = tmp_path_factory.mktemp("idx") / ("x-ubyte.gz" if zipped else "x-ubyte")
    write_idx(path, array.astype(array.dtype.newbyteorder(order)))
    loaded = read_idx(path)
    assert loaded.dtype == array.dtype
    assert loaded.dtype.isnative
    assert loaded.shape == array.shape
    np.testing.assert_array_equal(loaded, array)
    loaded[...] = 0
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == zipped
    with open(path, "rb") as file:
        np.testing.assert_array_equal(read_idx(file), array)


def test_idx_is_the_published_format(tmp_path):
    write_idx(tmp_path / "x", np.array([[1, 2, 3]], np.int16))
    assert (tmp_path / "x").read_bytes() == bytes.fromhex("00000b02 00000001 00000003 0001 0002 0003")
    codes = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}
    for dtype, code in codes.items():
        write_idx(tmp_path / "x", np.ones(1, dtype))
        data = (tmp_path / "x").read_bytes()
        assert data[2] == code
        assert data[8:] == np.ones(1, np.dtype(dtype).newbyteorder(">")).tobytes()
    write_idx(tmp_path / "a.gz", np.zeros(9, np.uint8))
    write_idx(tmp_path / "b.gz", np.zeros(9, np.uint8))
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    with pytest.raises(TypeError, match="cannot hold int64; convert to one of uint8"):
        write_idx(tmp_path / "x", np.zeros(3, np.int64))


IDX = bytes.fromhex("00000802 00000002 00000003 010203040506")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an idx file: .* but found nothing"),
        (IDX[:3], "not an idx file"),
        (b"\x01" + IDX[1:], "not an idx file: expected it to begin with 00 00.*found 01 00 08 02"),
        (IDX[:2] + b"\x0a" + IDX[3:], "not an idx file: .*found 00 00 0a 02"),
        (IDX[:9], "truncated: expected the sizes of 2 dimensions, 12 bytes in all, but found 9"),
        (IDX[:-1], r"truncated: expected 18 bytes, for uint8 of shape \(2, 3\), but found 17"),
        (IDX + b"\0", "too long: expected 18 bytes, .* but found 19"),
        (IDX[:4] + b"\xff" * 8 + IDX[12:], "truncated: expected 18446744065119617037 bytes"),
        (gzip.compress(IDX, mtime=0)[:-3], "truncated or corrupt gzip file"),
        (
            gzip.compress(IDX, mtime=0)[:12] + b"\x55" + gzip.compress(IDX, mtime=0)[13:],
            "truncated or corrupt gzip file",
        ),
        (b"\x1f\x8b", "truncated or corrupt gzip file"),
        (gzip.compress(IDX[:-1], mtime=0), "truncated: expected 18 bytes"),
        (b"PNG\r", "not an idx file: .*found 50 4e 47 0d"),
    ],
)
def test_bad_idx_files(data, message, tmp_path):
    (tmp_path / "bad-ubyte").write_bytes(data)
    with pytest.raises(ValueError, match=f"bad-ubyte: {message}"):
        read_idx(tmp_path / "bad-ubyte")


def test_every_truncation_and_flip_of_a_gzip_is_noticed(tmp_path):
    path = tmp_path / "x.gz"
    write_idx(path, np.arange(200, dtype=np.uint8))
    good = path.read_bytes()
    for k in range(len(good)):
        path.write_bytes(good[:k])
        with pytest.raises(ValueError, match=r"x\.gz: "):
            read_idx(path)
    for k in range(10, len(good)):
        path.write_bytes(good[:k] + bytes([good[k] ^ 4]) + good[k + 1 :])
        with pytest.raises(ValueError, match=r"x\.gz: "):
            read_idx(path)


# MNIST.


def digits(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 28, 28), np.uint8), (np.arange(n) % 10).astype(np.uint8)


def write_digits(folder, ending=".gz", spelling=str):
    folder.mkdir(parents=True, exist_ok=True)
    for split, n in (("train", 12), ("t10k", 5)):
        images, labels = digits(n, n)
        write_idx(folder / (spelling(f"{split}-images-idx3-ubyte") + ending), images)
        write_idx(folder / (spelling(f"{split}-labels-idx1-ubyte") + ending), labels)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("place", ["", "MNIST/raw"])
@pytest.mark.parametrize("spelling", [str, lambda name: name.replace("-idx", ".idx")])
def test_mnist_from_a_folder(ending, place, spelling, tmp_path, capsys):
    write_digits(tmp_path / place, ending, spelling)
    for train, n in ((True, 12), (False, 5)):
        ds = MNIST(tmp_path, train)
        images, labels = digits(n, n)
        assert len(ds) == n
        assert ds.data.dtype == gg.uint8
        assert ds.targets.dtype == gg.int64
        np.testing.assert_array_equal(ds.data.numpy(), images)
        np.testing.assert_array_equal(ds.targets.numpy(), labels)
        assert str(tmp_path) in repr(ds)
    image, target = MNIST(str(tmp_path))[3]
    np.testing.assert_array_equal(image, digits(12, 12)[0][3])
    assert (type(target), target) == (int, 3)
    assert ds.classes[3] == "3 - three"
    assert ds.class_to_idx["3 - three"] == 3
    assert capsys.readouterr() == ("", "")


def test_mnist_samples_are_copies(tmp_path):
    write_digits(tmp_path)
    ds = MNIST(tmp_path)
    ds[0][0][...] = 0
    np.testing.assert_array_equal(ds.data.numpy(), digits(12, 12)[0])


def test_mnist_missing(tmp_path):
    for wanted, root in ((None, tmp_path), (False, tmp_path / "absent")):
        with pytest.raises(RuntimeError, match=r"MNIST dataset not found: expected train-images.*download=True"):
            MNIST(root, download=wanted)
    with pytest.raises(ValueError, match="source must be one of auto, idx, bundled, torchvision"):
        MNIST(source="web")
    write_digits(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    MNIST(tmp_path)
    with pytest.raises(RuntimeError, match=r"expected t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte"):
        MNIST(tmp_path, train=False)


@pytest.mark.parametrize(
    ("which", "array", "message"),
    [
        ("labels-idx1", np.zeros(11, np.uint8), "holds 12 images, but .*labels-idx1-ubyte.gz holds 11 labels"),
        ("labels-idx1", np.full(12, 10, np.uint8), "expected labels from 0 to 9, but found 10"),
        ("labels-idx1", np.zeros((12, 1), np.uint8), r"expected uint8 labels of shape \(N,\)"),
        ("labels-idx1", np.zeros(12, np.float32), "expected uint8 labels"),
        (
            "images-idx3",
            np.zeros((12, 784), np.uint8),
            r"expected uint8 images .* but found uint8 of shape \(12, 784\)",
        ),
        ("images-idx3", np.zeros((12, 28, 28), np.int16), "expected uint8 images"),
    ],
)
def test_mnist_files_that_do_not_fit(which, array, message, tmp_path):
    write_digits(tmp_path)
    write_idx(tmp_path / f"train-{which}-ubyte.gz", array)
    with pytest.raises(ValueError, match=message):
        MNIST(tmp_path)


def test_corrupt_files_are_no_reason_to_use_the_subset(tmp_path):
    write_digits(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz: truncated or corrupt gzip"):
        MNIST(tmp_path, download=True)


def test_digits():
    digits = Digits()
    assert digits.data.shape == (1797, 8, 8)
    assert digits.data.dtype == gg.uint8
    assert (digits.data.min(), digits.data.max()) == (0, 16)
    # The numbers of each digit that the data set's description gives.
    assert np.bincount(digits.targets.numpy()).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    image, target = digits[0]
    assert image.shape == (8, 8)
    assert target == 0
    images, targets = digits.as_tensors()
    assert images.shape == (1797, 1, 8, 8)
    assert len(targets) == 1797
    assert abs(images.mean().item()) < 1e-3
    assert abs(images.std().item() - 1) < 1e-3


def test_bundled_subset(capsys):
    for train, n in ((True, 10000), (False, 2000)):
        ds = MNIST(train=train, source="bundled")
        assert ds.data.shape == (n, 28, 28)
        counts = np.bincount(ds.targets.numpy(), minlength=10)
        assert counts.min() > n * 0.07
        assert counts.max() < n * 0.13
    assert capsys.readouterr() == ("", "")
    with pytest.raises(ValueError, match="no subset of FashionMNIST"):
        FashionMNIST(source="bundled")


@pytest.fixture
def full_mnist():
    places = [os.environ.get("GPUGRAD_TEST_MNIST"), Path(__file__).parents[2] / "shared/data/mnist"]
    for place in places:
        if place and Path(place).is_dir():
            return place
    pytest.skip("needs the full MNIST: set GPUGRAD_TEST_MNIST to its folder")


def test_full_mnist(full_mnist):
    for train, n, step in ((True, 60000, 6), (False, 10000, 5)):
        whole, part = MNIST(full_mnist, train), MNIST(train=train, source="bundled")
        assert whole.data.shape == (n, 28, 28)
        np.testing.assert_array_equal(part.data.numpy(), whole.data.numpy()[::step])
        np.testing.assert_array_equal(part.targets.numpy(), whole.targets.numpy()[::step])
        if train:
            images, labels = whole.as_tensors()
            assert images.shape == (n, 1, 28, 28)
            assert abs(images.numpy().mean()) < 1e-3
            assert abs(images.numpy().std() - 1) < 1e-3
            np.testing.assert_array_equal(labels.numpy(), whole.targets.numpy())


def test_checksums_are_those_of_the_real_files(full_mnist):
    for name, _, sha256 in MNIST.resources:
        data = (Path(full_mnist) / name).read_bytes()
        assert hashlib.sha256(gzip.decompress(data)).hexdigest() == sha256


def test_as_tensors():
    ds = MNIST(train=False, source="bundled")
    images, _ = ds.as_tensors(normalize=False)
    assert images.dtype == gg.float32
    np.testing.assert_allclose(images.numpy()[:, 0], ds.data.numpy() / 255, rtol=1e-6)
    images, labels = ds.as_tensors()
    np.testing.assert_allclose(images.numpy()[:, 0], (ds.data.numpy() / 255 - 0.1307) / 0.3081, rtol=1e-4, atol=1e-6)
    assert labels is ds.targets


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(
    "transform",
    [
        None,
        transforms.ToTensor(),
        transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]),
        transforms.Compose([]),
    ],
)
def test_batches_in_one_move_equal_single_samples(transform, shuffle, tmp_path):
    write_digits(tmp_path)
    ds = MNIST(tmp_path, transform=transform)
    calls = []
    single = MNIST(tmp_path, transform=lambda image: calls.append(1) or (transform(image) if transform else image))
    for each in (ds, Subset(ds, [3, 1, 2, 9])):
        reference = single if each is ds else Subset(single, [3, 1, 2, 9])
        gg.manual_seed(1)
        fast = list(DataLoader(each, 5, shuffle=shuffle))
        gg.manual_seed(1)
        slow = list(DataLoader(reference, 5, shuffle=shuffle))
        assert calls
        for a, b in zip(fast, slow, strict=True):
            for x, y in zip(a, b, strict=True):
                assert x.dtype == y.dtype
                np.testing.assert_array_equal(x.numpy(), y.numpy())


def test_transforms_of_mnist_are_called(tmp_path):
    write_digits(tmp_path)

    class Brighter(transforms.ToTensor):
        def __call__(self, image):
            return super().__call__(image) + 1

    x, _ = next(iter(DataLoader(MNIST(tmp_path, transform=Brighter()), 4)))
    assert x.numpy().min() >= 1
    _, y = next(iter(DataLoader(MNIST(tmp_path, target_transform=lambda k: k + 100), 4)))
    assert y.tolist() == [100, 101, 102, 103]
    with pytest.raises(TypeError, match="Normalize expects a float tensor, but got ndarray; put ToTensor before it"):
        next(iter(DataLoader(MNIST(tmp_path, transform=transforms.Normalize(0.5, 0.5)))))


def test_torchvision_source(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=r"needs torchvision: pip install 'gpugrad\[torchvision\]'"):
        MNIST(source="torchvision")


def test_torchvision_is_used_when_asked_for(monkeypatch, tmp_path):
    class Theirs:
        def __init__(self, root, train, download):
            assert (root, train, download) == (str(tmp_path), False, False)
            self.data, self.targets = (Foreign(x) for x in digits(5))

    fake = type(sys)("torchvision.datasets")
    fake.MNIST = Theirs
    monkeypatch.setitem(sys.modules, "torchvision.datasets", fake)
    monkeypatch.setitem(sys.modules, "torchvision", type(sys)("torchvision"))
    ds = MNIST(tmp_path, train=False, source="torchvision")
    np.testing.assert_array_equal(ds.data.numpy(), digits(5)[0])
    assert ds.targets.dtype == gg.int64


# Downloading, from a server on this machine.


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``server.files``; ``server.tricks`` holds what to do wrong in the next requests."""

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        trick = server.tricks.pop(0) if server.tricks else server.always
        data = server.files.get(self.path)
        if data is None or trick == "missing":
            self.send_error(404)
            return
        start, status = 0, 200
        if self.headers.get("Range") and trick != "no range":
            start, status = int(self.headers["Range"][6:-1]), 206
            if start >= len(data):
                self.send_error(416)
                return
        body = data[start:]
        if trick == "corrupt":
            body = bytes([body[0] ^ 1]) + body[1:]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if trick == "cut":
            body = body[: len(body) // 2]
        if trick == "slow":
            self.wfile.write(body[:10])
            self.wfile.flush()
            server.go_on.wait(5)
            body = body[10:]
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    servers = []

    def start(files=(), always=None):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.files = {f"/data/{name}": content for name, content in dict(files).items()}
        server.requests, server.tricks, server.always = [], [], always
        server.go_on = threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}/data/"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return server

    yield start
    for server, thread in servers:
        server.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


CONTENT = bytes(range(256)) * 400
PACKED = gzip.compress(CONTENT, mtime=0)
THING = Resource("thing.gz", hashlib.md5(PACKED).hexdigest(), hashlib.sha256(CONTENT).hexdigest())


def test_download(serve, tmp_path, capsys):
    server = serve({"thing.gz": PACKED})
    path = download(THING, [server.url], tmp_path / "new" / "folder")
    assert path.read_bytes() == PACKED
    assert os.listdir(path.parent) == ["thing.gz"]
    assert server.requests == [("/data/thing.gz", None)]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("have", [1, len(PACKED) // 2, len(PACKED) - 1])
def test_download_resumes(have, serve, tmp_path):
    server = serve({"thing.gz": PACKED})
    (tmp_path / "thing.gz.part").write_bytes(PACKED[:have])
    assert download(THING, [server.url], tmp_path).read_bytes() == PACKED
    assert server.requests == [("/data/thing.gz", f"bytes={have}-")]
    assert os.listdir(tmp_path) == ["thing.gz"]


@pytest.mark.parametrize("part", [b"nonsense", PACKED + b"more", PACKED[:50] + b"x" + PACKED[51:100]])
def test_download_starts_again_after_a_bad_part(part, serve, tmp_path):
    server = serve({"thing.gz": PACKED})
    (tmp_path / "thing.gz.part").write_bytes(part)
    assert download(THING, [server.url], tmp_path).read_bytes() == PACKED
    assert [asked for _, asked in server.requests] == [f"bytes={len(part)}-", None]


def test_download_that_was_complete_but_not_renamed(serve, tmp_path):
    server = serve({"thing.gz": PACKED})
    (tmp_path / "thing.gz.part").write_bytes(PACKED)
    assert download(THING, [server.url], tmp_path).read_bytes() == PACKED
    assert len(server.requests) == 1


def test_download_from_a_server_without_ranges(serve, tmp_path):
    server = serve({"thing.gz": PACKED}, always="no range")
    (tmp_path / "thing.gz.part").write_bytes(PACKED[:100])
    assert download(THING, [server.url], tmp_path).read_bytes() == PACKED
    assert len(server.requests) == 1


def test_download_goes_on_after_a_cut(serve, tmp_path):
    server = serve({"thing.gz": PACKED})
    server.tricks = ["cut", "cut"]
    assert download(THING, [server.url], tmp_path).read_bytes() == PACKED
    half = len(PACKED) // 2
    assert [asked for _, asked in server.requests] == [
        None,
        f"bytes={half}-",
        f"bytes={half + (len(PACKED) - half) // 2}-",
    ]


def unused_port():
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        return server.server_port


def test_download_tries_the_next_mirror(serve, tmp_path):
    good, corrupt, missing = serve({"thing.gz": PACKED}), serve({"thing.gz": PACKED}, always="corrupt"), serve()
    refused = f"http://127.0.0.1:{unused_port()}"
    path = download(THING, [refused, missing.url, corrupt.url, good.url], tmp_path)
    assert path.read_bytes() == PACKED
    assert [len(server.requests) for server in (missing, corrupt, good)] == [1, 1, 1]
    assert good.requests == [("/data/thing.gz", None)]


def test_download_error_lists_what_was_tried(serve, tmp_path):
    corrupt, missing = serve({"thing.gz": PACKED}, always="corrupt"), serve()
    cut = serve({"thing.gz": PACKED}, always="cut")
    refused = f"http://127.0.0.1:{unused_port()}/"
    with pytest.raises(DownloadError) as caught:
        download(THING, [refused, missing.url, corrupt.url, cut.url], tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0] == "could not download thing.gz; tried"
    expected = [
        (refused, "Connection refused"),
        (missing.url, "HTTP status 404"),
        (corrupt.url, f"checksum mismatch: expected MD5 {THING.md5}"),
        *[(cut.url, f"the connection ended after .* of {len(PACKED)} bytes")] * 3,
    ]
    assert len(lines) == 1 + len(expected)
    for line, (url, reason) in zip(lines[1:], expected, strict=True):
        assert line.startswith(f"  {url}thing.gz: ")
        assert re.search(reason, line)
    # What the last mirror gave is kept for another time, and never under the file's name.
    assert os.listdir(tmp_path) == ["thing.gz.part"]
    with pytest.raises(DownloadError):
        download(THING._replace(name="other.gz"), [missing.url], tmp_path)
    assert os.listdir(tmp_path) == ["thing.gz.part"]


def test_download_checks_the_contents(serve, tmp_path):
    server = serve({"thing.gz": PACKED})
    with pytest.raises(DownloadError, match="expected SHA-256 0000"):
        download(THING._replace(sha256="0000"), [server.url], tmp_path)
    assert download(THING._replace(sha256=""), [server.url], tmp_path).exists()


def test_download_from_a_server_that_falls_silent(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT", 0.2)
    server = serve({"thing.gz": PACKED}, always="slow")
    started = time.monotonic()
    with pytest.raises(DownloadError, match="timed out"):
        download(THING, [server.url], tmp_path)
    assert time.monotonic() - started < 3


def test_download_into_a_folder_that_cannot_be(serve, tmp_path):
    server = serve({"thing.gz": PACKED})
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadError, match=r"could not write .*thing\.gz\.part"):
        download(THING, [server.url], tmp_path / "file")
    assert not server.requests


def test_download_onto_a_full_disk(serve, tmp_path, monkeypatch):
    server, other = serve({"thing.gz": PACKED}), serve({"thing.gz": PACKED})
    real = downloads._size
    monkeypatch.setattr(downloads, "_size", lambda out: real(out) if real(out) < 100 else fail())

    def fail():
        raise OSError(28, "No space left on device")

    with pytest.raises(DownloadError, match=r"could not write .*No space left"):
        download(THING, [server.url, other.url], tmp_path)
    assert not other.requests
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(downloads.fcntl is None, reason="needs file locks")
def test_two_downloads_at_once(serve, tmp_path):
    server = serve({"thing.gz": PACKED}, always="slow")
    results = []
    both = [threading.Thread(target=lambda: results.append(download(THING, [server.url], tmp_path))) for _ in range(2)]
    for thread in both:
        thread.start()
    time.sleep(0.1)
    server.go_on.set()
    for thread in both:
        thread.join()
    assert results == [tmp_path / "thing.gz"] * 2
    assert results[0].read_bytes() == PACKED
    assert len(server.requests) == 1
    assert os.listdir(tmp_path) == ["thing.gz"]


def test_cache_folder(monkeypatch, tmp_path):
    if sys.platform == "win32":
        monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
        assert cache_folder() == tmp_path / "gpugrad"
        return
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "gpugrad"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/gpugrad")


@pytest.fixture
def published(tmp_path, serve, monkeypatch):
    """A server with small digits, and the dataset class that knows it."""
    write_digits(tmp_path / "published")
    files = {path.name: path.read_bytes() for path in (tmp_path / "published").iterdir()}
    server = serve(files)
    known = [
        (name, hashlib.md5(data).hexdigest(), hashlib.sha256(gzip.decompress(data)).hexdigest())
        for name, data in files.items()
    ]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets, "_told", set())
    return type("Digits", (MNIST,), {"mirrors": [server.url], "resources": known}), server


def test_mnist_downloads_once(published, tmp_path, capsys):
    digits_class, server = published
    assert len(digits_class()) == 12
    assert len(digits_class(train=False)) == 5
    assert len(server.requests) == 4
    assert (tmp_path / "cache/gpugrad/MNIST/raw/train-images-idx3-ubyte.gz").exists()
    assert len(digits_class(tmp_path / "elsewhere", download=True)) == 12
    assert len(digits_class(tmp_path / "elsewhere")) == 12
    assert (tmp_path / "elsewhere/MNIST/raw/t10k-labels-idx1-ubyte.gz").exists()
    assert len(server.requests) == 8
    assert capsys.readouterr() == ("", "")


def test_mnist_without_network(published, tmp_path, capsys):
    digits_class, server = published
    server.always = "missing"
    assert len(digits_class()) == 10000
    assert len(digits_class(train=False)) == 2000
    assert len(server.requests) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("gpugrad: no full MNIST here (download failed: http")
    assert "HTTP status 404" in err
    assert "10,000 training and 2,000 test images" in err
    with pytest.raises(DownloadError, match=r"MNIST: could not download .*-ubyte\.gz"):
        digits_class(source="idx")
    assert len(server.requests) == 1
    assert len(digits_class(tmp_path / "elsewhere", download=True)) == 10000
    assert capsys.readouterr().err == ""


def test_mnist_not_to_be_downloaded(published, capsys):
    digits_class, server = published
    assert len(digits_class(download=False)) == 10000
    assert "download=False" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="MNIST dataset not found"):
        digits_class(download=False, source="idx")
    assert not server.requests


def test_fashion_mnist_without_network(published):
    _, server = published
    server.always = "missing"
    fashion = type("Clothes", (FashionMNIST,), {"mirrors": [server.url, server.url]})
    with pytest.raises(DownloadError) as caught:
        fashion()
    message = str(caught.value)
    assert message.count("HTTP status 404") == 2
    for part in ("FashionMNIST: could not download", "--data-dir", "--dataset mnist"):
        assert part in message


def test_fashion_mnist_from_a_folder(tmp_path):
    write_digits(tmp_path / "FashionMNIST" / "raw")
    ds = FashionMNIST(tmp_path)
    assert len(ds) == 12
    assert ds.classes[9] == "Ankle boot"
    images, _ = ds.as_tensors()
    np.testing.assert_allclose(images.numpy()[:, 0], (ds.data.numpy() / 255 - 0.286) / 0.353, rtol=1e-4, atol=1e-5)


# Transforms.


def test_to_tensor_and_normalize():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    x = transforms.ToTensor()(image)
    assert x.shape == (3, 2, 4)
    assert x.dtype == gg.float32
    np.testing.assert_array_equal(x.numpy(), np.moveaxis(image, -1, 0).astype("float32") / np.float32(255))
    assert transforms.ToTensor()(image[..., 0]).shape == (1, 2, 4)
    assert transforms.ToTensor()(image.astype("float64")).dtype == gg.float64
    assert transforms.ToTensor()(image.astype("int32")).numpy().max() == 23
    mean, std = (0.1, 0.2, 0.3), (1.0, 2.0, 4.0)
    y = transforms.Normalize(mean, std)(x)
    expected = (x.numpy() - np.float32(mean).reshape(3, 1, 1)) / np.float32(std).reshape(3, 1, 1)
    np.testing.assert_array_equal(y.numpy(), expected)
    assert transforms.Normalize(mean, std, inplace=True)(x) is x
    np.testing.assert_array_equal(x.numpy(), expected)
    assert transforms.Lambda(lambda t: t + 1)(1) == 2


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda: transforms.ToTensor()([1]), TypeError, "ToTensor expects an image"),
        (lambda: transforms.ToTensor()(np.zeros(3)), ValueError, "2 or 3 dimensions, but got 1"),
        (lambda: transforms.Normalize(0.5, 0.0), ValueError, "division by zero"),
        (lambda: transforms.Normalize(0.5, 1)(gg.tensor([[[1]]])), TypeError, "float tensor, but got int64"),
        (lambda: transforms.Normalize(0.5, 1)(gg.tensor([[1.0]])), ValueError, r"shape \(..., C, H, W\)"),
        (lambda: transforms.Normalize((1, 2), 1)(gg.tensor([[[1.0]]])), ValueError, "2 means .* for 1 channels"),
        (lambda: transforms.Lambda(3), TypeError, "expects a function"),
        (lambda: transforms.Pad((1, 2, 3)), ValueError, "1, 2, or 4 element tuple"),
        (lambda: transforms.Pad(1, padding_mode="odd"), ValueError, "padding_mode must be one of constant"),
        (lambda: transforms.RandomCrop(5)(np.zeros((4, 9))), ValueError, r"\(5, 5\) is larger than .* \(4, 9\)"),
        (lambda: transforms.CenterCrop(0), ValueError, "must be positive"),
    ],
)
def test_transforms_refuse(use, error, message):
    with pytest.raises(error, match=message):
        use()


def test_crops_pads_and_flips():
    image = np.arange(20).reshape(4, 5)
    both = (image, gg.tensor(image))
    for x in both:
        assert np.array_equal(transforms.CenterCrop(2)(x), image[1:3, 2:4])
        assert np.array_equal(transforms.CenterCrop((6, 5))(x), np.pad(image, ((1, 1), (0, 0))))
        assert np.array_equal(transforms.Pad((1, 2), fill=7)(x), np.pad(image, ((2, 2), (1, 1)), constant_values=7))
        assert np.array_equal(
            transforms.Pad((1, 2, 3, 0), padding_mode="edge")(x), np.pad(image, ((2, 0), (1, 3)), "edge")
        )
        assert np.array_equal(transforms.RandomHorizontalFlip(1.0)(x), image[:, ::-1])
        assert np.array_equal(transforms.RandomVerticalFlip(1.0)(x), image[::-1])
        assert transforms.RandomHorizontalFlip(0.0)(x) is x
        assert type(transforms.RandomCrop((2, 3))(x)) is type(x)
    color = np.arange(40).reshape(4, 5, 2)
    assert np.array_equal(transforms.RandomHorizontalFlip(1.0)(color), color[:, ::-1])
    places = {tuple(transforms.RandomCrop((3, 4))(image)[0, :1]) for _ in range(60)}
    assert places == {(0,), (1,), (5,), (6,)}
    assert transforms.RandomCrop(8, pad_if_needed=True)(image).shape == (8, 8)
    assert transforms.RandomCrop(4, padding=1)(image).shape == (4, 4)
    flips = [transforms.RandomHorizontalFlip()(image)[0, 0] == 4 for _ in range(400)]
    assert 150 < sum(flips) < 250


def test_random_transforms_follow_the_seed():
    crop = transforms.RandomCrop(4, padding=3)
    image = np.arange(16).reshape(4, 4)
    gg.manual_seed(4)
    first = [crop(image).tolist() for _ in range(5)]
    gg.manual_seed(4)
    assert [crop(image).tolist() for _ in range(5)] == first
    loader = DataLoader(Noisy(), 5)
    assert drain(loader) != drain(loader)


@pytest.mark.parametrize("size", [(3, 3), (14, 9), (5, 20), (2, 7), 6, 20])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_resize(size, dtype):
    image = np.random.default_rng(0).integers(0, 256, (3, 7, 10)).astype(dtype)
    result = transforms.Resize(size)(gg.tensor(image))
    expected_shape = {6: (6, 8), 20: (20, 28)}.get(size, size) if isinstance(size, int) else size
    assert tuple(result.shape) == (3, *expected_shape)
    assert result.dtype == dtype
    planes = transforms.Resize(size)(np.moveaxis(image, 0, -1))
    np.testing.assert_array_equal(np.moveaxis(planes, -1, 0), result.numpy())
    torch = pytest.importorskip("torch")
    expected = torch.nn.functional.interpolate(
        torch.tensor(image, dtype=torch.float32)[None], expected_shape, mode="bilinear", antialias=True
    )[0].numpy()
    if dtype == "uint8":
        assert np.abs(result.numpy() - np.rint(expected)).max() <= 1
    else:
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5, atol=1e-3)


def test_pil_images():
    image_module = pytest.importorskip("PIL.Image")
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    picture = image_module.fromarray(pixels)
    np.testing.assert_array_equal(transforms.ToTensor()(picture).numpy(), transforms.ToTensor()(pixels).numpy())
    np.testing.assert_array_equal(transforms.CenterCrop(2)(picture), pixels[:, 1:3])
    with pytest.raises(TypeError, match="PIL"):
        default_collate([picture])


# Names.


def test_names_of_pytorch():
    from gpugrad.utils.data import DataLoader as Loader
    from gpugrad.utils.data.dataloader import DataLoader as LoaderToo
    from gpugrad.utils.data.dataset import Subset as SubsetToo
    from gpugrad.utils.data.sampler import SubsetRandomSampler as SamplerToo

    assert Loader is LoaderToo is gg.utils.data.DataLoader is DataLoader
    assert SubsetToo is gg.utils.data.dataset.Subset is Subset
    assert SamplerToo is SubsetRandomSampler
    assert Dataset[int] is not None


def test_importing_loads_nothing_heavy():
    heavy = ("tqdm", "urllib.request", "http", "safetensors")
    program = f"import sys, gpugrad.data; print(*[name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == ""
