"""DataLoader: batches of a dataset, in order or shuffled, made ahead of time by threads if wanted."""

from __future__ import annotations

import itertools
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice, takewhile
from typing import Any

import numpy as np

from ..backend import cuda
from ..backend.random import Generator
from ..engine import profiling
from .collate import default_collate, default_convert, pin_memory
from .dataset import IterableDataset, get_items, shortcut
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler
from .streams import draw_seed
from .workers import END, Epoch, Pool, Work

_FIXED = frozenset({"batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers"})


class DataLoader:
    """An iterable of the batches of a dataset.

    The dataset may come from elsewhere (torchvision, say): it needs ``__getitem__`` and
    ``__len__``, or ``__iter__`` if it is an IterableDataset of this package.  Its samples
    may hold tensors of PyTorch.

    Args:
        dataset: where the samples come from.
        batch_size: samples in a batch; None to give out single samples.
        shuffle: a new random order in each epoch.
        sampler: an iterable of indices, in place of ``shuffle``.
        batch_sampler: an iterable of lists of indices, in place of the two and of
            ``batch_size`` and ``drop_last``.
        num_workers: threads that make batches ahead of time; 0 makes them when asked.  Threads
            help a dataset that waits for files or works in NumPy; one in memory needs none.
        collate_fn: makes a batch of a list of samples; :func:`default_collate` unless given.
        pin_memory: put the tensors of each batch into page-locked memory, where it is made, so that
            ``batch.to("cuda", non_blocking=True)`` copies it while the host goes on. A batch of
            another type is asked for its ``pin_memory()``. Without a CUDA device there is a warning.
        pin_memory_device, multiprocessing_context, in_order: accepted, without effect: every device
            reads that memory, workers are threads, batches come in order.
        drop_last: leave out a last batch that is smaller.
        timeout: seconds to wait for a batch from a worker; 0 to wait for ever.
        worker_init_fn: called in each worker with its number, before its first batch.
        generator: the stream to draw seeds from; the default one if None.
        prefetch_factor: batches made ahead per worker; 2 unless given.
        persistent_workers: keep the threads from one epoch to the next.

    Raises:
        ValueError: an option is out of range, or excludes another one.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[list[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ):
        _check_workers(num_workers, timeout, prefetch_factor, persistent_workers)
        iterable = isinstance(dataset, IterableDataset)
        if iterable:
            given = {"shuffle": shuffle or None, "sampler": sampler, "batch_sampler": batch_sampler}
            for name, value in given.items():
                if value is not None:
                    raise ValueError(
                        f"DataLoader with IterableDataset: expected unspecified {name} option, but got {name}={value}"
                    )
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last"
                )
            batch_size, drop_last = None, False
        elif batch_size is None and drop_last:
            raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")
        if iterable:
            sampler = _Endless()
        elif sampler is None:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_sampler is None and batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        if collate_fn is None:
            collate_fn = default_convert if batch_sampler is None else default_collate
        self.dataset = dataset
        self.batch_size = batch_size
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.num_workers = num_workers
        self.collate_fn = collate_fn
        self.pin_memory = pin_memory
        self.drop_last = drop_last
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.generator = generator
        self.prefetch_factor = 2 if num_workers and prefetch_factor is None else prefetch_factor
        self.persistent_workers = persistent_workers
        self._pool: Pool | None = None
        self._epoch: Epoch | None = None
        self._resumed: Epoch | None = None
        self._built = True

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and "_built" in self.__dict__:
            raise ValueError(f"{name} attribute should not be set after DataLoader is initialized")
        super().__setattr__(name, value)

    def __len__(self) -> int:
        if isinstance(self.dataset, IterableDataset):
            full, rest = divmod(len(self.dataset), self.batch_size or 1)  # type: ignore[arg-type]
            return full + bool(rest and not self.drop_last)
        return len(self.sampler if self.batch_sampler is None else self.batch_sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        epoch = self._resumed or Epoch(draw_seed(self.generator))
        self._epoch, self._resumed = epoch, None
        skip, works = epoch.batches, self._works()
        if not isinstance(self.dataset, IterableDataset):
            skip, works = 0, islice(works, skip, None)
        return _Batches(self._deliver(epoch, works, skip), self)

    def _works(self) -> Iterator[tuple[int, int, Work]]:
        """What there is to do in an epoch: the batch's number, the worker it is for, and the work."""
        count = self.num_workers or 1
        if isinstance(self.dataset, IterableDataset):
            parts = [
                _Part(_iterate(self.dataset, self.collate_fn, self.batch_size, self.drop_last)) for _ in range(count)
            ]
            return (
                (turn * count + worker, worker, part)
                for turn in takewhile(lambda _: not all(part.over for part in parts), itertools.count())
                for worker, part in enumerate(parts)
                if not part.over
            )
        if self.batch_sampler is None:
            fetch: Callable[..., Any] = _fetch_one
            indices = iter(self.sampler)
        else:
            fetch = _fetch
            whole = shortcut(self.batch_sampler, "_batches", "__iter__")
            indices = iter(self.batch_sampler) if whole is None else whole()
        return (
            (number, number % count, partial(fetch, self.dataset, self.collate_fn, each))
            for number, each in enumerate(indices)
        )

    def _deliver(self, epoch: Epoch, works: Iterator[tuple[int, int, Work]], skip: int) -> Iterator[Any]:
        if self.pin_memory and not cuda.diagnose().usable:
            warnings.warn(
                "'pin_memory' argument is set as true, but no CUDA device can be used: batches are not pinned",
                stacklevel=2,
            )
        elif self.pin_memory:
            works = ((number, worker, partial(_pinned, work)) for number, worker, work in works)
        pool = self._workers(epoch) if self.num_workers else None
        try:
            if pool is None:
                results: Iterator[Any] = (epoch.work(number, work) for number, _, work in works)
            else:
                results = pool.run(epoch, works, self.timeout)
            for batch in _profiled(results):
                if batch is END:
                    continue
                if skip:
                    skip -= 1
                    continue
                epoch.batches += 1
                yield batch
            if self._epoch is epoch:
                self._epoch = None
        finally:
            epoch.over = True
            if pool is not None and pool is not self._pool:
                pool.stop()

    def _workers(self, epoch: Epoch) -> Pool:
        if self._pool is not None:
            return self._pool
        pool = Pool(self.num_workers, self.prefetch_factor or 1, self.dataset, epoch.seed, self.worker_init_fn)
        if self.persistent_workers:
            self._pool = pool
            weakref.finalize(self, pool.stop)
        return pool

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: the seeds of the epoch under way, and how many of its batches were given out.

        Holds numbers, lists and None only.  A generator given to a sampler, and the default
        generator, are not part of it.
        """
        epoch = self._resumed or self._epoch
        order: Any = self.sampler if self.batch_sampler is None else self.batch_sampler
        return {
            "seed": None if epoch is None else epoch.seed,
            "batches": 0 if epoch is None else epoch.batches,
            "sampler": order.state_dict() if epoch is not None and hasattr(order, "state_dict") else None,
            "generator": None if self.generator is None else np.asarray(self.generator.get_state()).tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken: the next iteration gives the batches that were left of that epoch.

        A sampler of another kind than this package's must give the same order again, or have
        ``state_dict`` and ``load_state_dict`` itself; an iterable-style dataset is gone through
        from its start.
        """
        self._epoch = None
        self._resumed = None if state["seed"] is None else Epoch(state["seed"], state["batches"])
        order: Any = self.sampler if self.batch_sampler is None else self.batch_sampler
        if state["sampler"] is not None:
            order.load_state_dict(state["sampler"])
        if self.generator is not None and state["generator"] is not None:
            self.generator.set_state(np.array(state["generator"], np.int64))


class _Batches:
    """What goes through an epoch; as long as its loader."""

    def __init__(self, batches: Iterator[Any], loader: DataLoader):
        self._batches, self._loader = batches, loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._batches)


def _profiled(batches: Iterator[Any]) -> Iterator[Any]:
    """The batches; what each is waited for is an event, if a profiler runs."""
    while True:
        recorder = profiling.recorder
        event = None if recorder is None else recorder.begin("DataLoader.__next__", "data")
        try:
            batch = next(batches)
        except StopIteration:
            return
        if event is not None:
            event.finish()
        yield batch


class _Part:
    """The batches that one worker makes of an iterable-style dataset; END when there are no more."""

    def __init__(self, batches: Iterator[Any]):
        self.batches = batches
        self.over = False

    def __call__(self) -> Any:
        batch = next(self.batches, END)
        self.over = batch is END
        return batch


class _Endless(Sampler[None]):
    """What stands in the place of a sampler for an iterable-style dataset."""

    def __iter__(self) -> Iterator[None]:
        return itertools.repeat(None)


def _iterate(dataset: Any, collate: Callable[..., Any], batch_size: int | None, drop_last: bool) -> Iterator[Any]:
    samples = iter(dataset)
    if batch_size is None:
        yield from map(collate, samples)
        return
    while (batch := list(islice(samples, batch_size))) and (len(batch) == batch_size or not drop_last):
        yield collate(batch)


def _fetch(dataset: Any, collate: Callable[..., Any], indices: Any) -> Any:
    if collate is default_collate:
        take = shortcut(dataset, "_take", "__getitem__")
        batch = NotImplemented if take is None else take(indices)
        if batch is not NotImplemented:
            return batch
    return collate(get_items(dataset, indices.tolist() if isinstance(indices, np.ndarray) else list(indices)))


def _pinned(work: Work) -> Any:
    return pin_memory(work())


def _fetch_one(dataset: Any, convert: Callable[..., Any], index: Any) -> Any:
    return convert(dataset[index])


def _check_workers(num_workers: int, timeout: float, prefetch_factor: int | None, persistent_workers: bool) -> None:
    if num_workers < 0:
        raise ValueError("num_workers option should be non-negative; use num_workers=0 to work in the calling thread.")
    if timeout < 0:
        raise ValueError("timeout option should be non-negative")
    if num_workers == 0 and prefetch_factor is not None:
        raise ValueError(
            "prefetch_factor option could only be specified with workers: let num_workers > 0, or leave it None."
        )
    if prefetch_factor is not None and prefetch_factor < 1:
        raise ValueError(f"prefetch_factor option should be positive, but got {prefetch_factor}")
    if persistent_workers and num_workers == 0:
        raise ValueError("persistent_workers option needs num_workers > 0")
