"""What programs ask about distributed training, which is not supported: one process computes, on one device."""

from typing import Any, NoReturn


def is_available() -> bool:
    """False."""
    return False


def is_initialized() -> bool:
    """False."""
    return False


is_nccl_available = is_gloo_available = is_mpi_available = is_torchelastic_launched = is_available


def get_rank(group: Any = None) -> NoReturn:
    """The number of this process among those of a group, of which there is none.

    Raises:
        ValueError: always, as in PyTorch before ``init_process_group``.
    """
    raise ValueError("Default process group has not been initialized: distributed training is not supported")


get_world_size = get_backend = get_rank


def init_process_group(*args: Any, **kwargs: Any) -> NoReturn:
    """Refused.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError("Distributed training is not supported: run the program as one process, on one device")


destroy_process_group = new_group = barrier = broadcast = reduce = all_reduce = gather = all_gather = scatter = (
    init_process_group
)
