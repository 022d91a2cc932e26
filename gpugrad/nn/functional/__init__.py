"""The functions of networks, under PyTorch's names: activations, layers, losses, pooling, images."""

from ...ops.conv import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
from ...ops.distance import pdist
from ...ops.pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from . import activations, layers, losses, pooling, vision
from .activations import *  # noqa: F403
from .layers import *  # noqa: F403
from .losses import *  # noqa: F403
from .pooling import *  # noqa: F403
from .vision import *  # noqa: F403

__all__ = [
    *activations.__all__,
    *layers.__all__,
    *losses.__all__,
    *pooling.__all__,
    *vision.__all__,
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "pdist",
]
