from . import ops
from .creation import tensor
from .tensor import Tensor, grad, backward
