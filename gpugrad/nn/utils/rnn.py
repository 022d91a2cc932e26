"""Sequences of different lengths: padded to one tensor, or packed without the padding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ...backend import CPU
from ...creation import full
from ...creation import tensor as make_tensor
from ...ops import FUNCTIONS
from ...tensor import Tensor


class PackedSequence(NamedTuple):
    """Sequences sorted by falling length, stored step by step without padding.

    Attributes:
        data: (sum of the lengths, ...): the first elements of all sequences, then the second ones of those that
            have one, and so on.
        batch_sizes: int64 on the CPU: how many sequences have a step 0, 1, ...
        sorted_indices: the original number of each sequence; None where they came sorted.
        unsorted_indices: where each original sequence is now.
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None

    @property
    def is_cuda(self) -> bool:
        """Whether the data lives on a CUDA device."""
        return self.data.is_cuda

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The sequences in another dtype or on another device."""
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        orders = [None if t is None else t.to(data.device) for t in (self.sorted_indices, self.unsorted_indices)]
        return PackedSequence(data, self.batch_sizes, *orders)

    def cpu(self) -> PackedSequence:
        """The sequences on the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> PackedSequence:
        """The sequences on a CUDA device."""
        return self.to("cuda" if device is None else device)


def _places(lengths: np.ndarray, steps: int) -> np.ndarray:
    """Where the elements of packed sequences stand in a padded (steps, batch) array, as flat positions."""
    return np.flatnonzero(np.arange(steps)[:, None] < lengths)


def _lengths_of(batch_sizes: Tensor) -> np.ndarray:
    sizes = np.asarray(batch_sizes.tolist())
    return (sizes[:, None] > np.arange(sizes[0])).sum(axis=0)


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Pack padded sequences (T, B, ...).

    Args:
        lengths: the length of each sequence, a list or a tensor on the CPU.
        batch_first: the input is (B, T, ...).
        enforce_sorted: the lengths must fall; otherwise they are sorted here, and back when unpacked.

    Raises:
        RuntimeError: the lengths do not fit the input, or are not sorted and should be.
    """
    counts = np.asarray(lengths.tolist() if isinstance(lengths, Tensor) else [int(n) for n in lengths], dtype=np.int64)
    if batch_first:
        input = input.transpose(0, 1)
    steps, batch = input.shape[:2]
    if counts.shape != (batch,):
        raise RuntimeError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {counts.size} (batch_size={batch})"
        )
    if batch == 0 or counts.min() <= 0:
        raise RuntimeError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0"
        )
    if counts.max() > steps:
        raise RuntimeError(f"a length of {counts.max()} is given, but the padded sequences have only {steps} steps")
    sorted_indices = unsorted_indices = None
    if enforce_sorted:
        if (np.diff(counts) > 0).any():
            raise RuntimeError(
                "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. "
                "You can pass `enforce_sorted=False` to have the sequences sorted here"
            )
    else:
        order = np.argsort(-counts, kind="stable")
        sorted_indices = make_tensor(order, device=input.device)
        unsorted_indices = make_tensor(np.argsort(order), device=input.device)
        input, counts = input[:, sorted_indices], counts[order]
    places = make_tensor(_places(counts, steps), device=input.device)
    sizes = (counts > np.arange(counts.max())[:, None]).sum(axis=1)
    return PackedSequence(
        input.reshape(steps * batch, *input.shape[2:])[places],
        make_tensor(sizes, device=CPU),
        sorted_indices,
        unsorted_indices,
    )


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Padded sequences (T, B, ...) and their lengths, from packed ones.

    Args:
        batch_first: give (B, T, ...).
        padding_value: what fills up the shorter sequences.
        total_length: T, if it is to be more than the longest sequence's length.

    Raises:
        ValueError: ``total_length`` is less than the longest length.
    """
    counts = _lengths_of(sequence.batch_sizes)
    data = sequence.data
    longest, batch = int(counts.max()), counts.size
    steps = longest if total_length is None else total_length
    if steps < longest:
        raise ValueError(
            f"Expected total_length to be at least the length of the longest sequence in input, but got "
            f"total_length={total_length} and max sequence length being {longest}"
        )
    padded = full((steps * batch, *data.shape[1:]), padding_value, dtype=data.dtype, device=data.device)
    padded[make_tensor(_places(counts, steps), device=data.device)] = data
    padded = padded.reshape(steps, batch, *data.shape[1:])
    if sequence.unsorted_indices is not None:
        padded = padded[:, sequence.unsorted_indices]
        counts = counts[sequence.unsorted_indices.cpu().numpy()]
    return padded.transpose(0, 1) if batch_first else padded, make_tensor(counts, device=CPU)


def pad_sequence(
    sequences: Iterable[Tensor], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """One tensor (T, B, ...) from B sequences (length, ...), filled up with ``padding_value``.

    Args:
        batch_first: give (B, T, ...).
        padding_side: "right" or "left", where it is filled up.

    Raises:
        RuntimeError: there are no sequences, or they differ in more than their length.
        ValueError: the side is unknown.
    """
    tensors = list(sequences)
    if not tensors:
        raise RuntimeError("pad_sequence: received an empty list of sequences")
    if padding_side not in ("left", "right"):
        raise ValueError(f"padding_side should be either 'left' or 'right', but got {padding_side!r}")
    rest = tuple(tensors[0].shape[1:])
    if any(tuple(t.shape[1:]) != rest for t in tensors):
        raise RuntimeError(
            f"pad_sequence: the sequences differ in more than their length: {[tuple(t.shape) for t in tensors]}"
        )
    longest = max(len(t) for t in tensors)
    filled = []
    for t in tensors:
        filling = full((longest - len(t), *rest), padding_value, dtype=t.dtype, device=t.device)
        filled.append(FUNCTIONS["cat"]([t, filling] if padding_side == "right" else [filling, t]))
    return FUNCTIONS["stack"](filled, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False) -> list[Tensor]:
    """The sequences in a padded tensor, each of its length."""
    if not batch_first:
        padded_sequences = padded_sequences.transpose(0, 1)
    return [sequence[:length] for sequence, length in zip(padded_sequences, lengths.tolist(), strict=True)]


def pack_sequence(sequences: Iterable[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences (length, ...); see :func:`pack_padded_sequence`."""
    tensors = list(sequences)
    return pack_padded_sequence(pad_sequence(tensors), [len(t) for t in tensors], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences that were packed."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences))
