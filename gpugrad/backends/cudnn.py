"""What programs set and ask about cuDNN, which is never used here, so that it changes nothing."""

enabled = False
benchmark = False
deterministic = True
allow_tf32 = False


def is_available() -> bool:
    """False."""
    return False


def version() -> None:
    """None."""
