"""Mixed precision, as in ``torch.amp``: ``autocast`` chooses dtypes op by op, ``GradScaler`` keeps small gradients."""

from .autocast_mode import autocast, custom_bwd, custom_fwd, is_autocast_available
from .grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]
