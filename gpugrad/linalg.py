"""Linear algebra under PyTorch's names: decompositions, solutions, norms (``gg.linalg``)."""

from .ops import FUNCTIONS as _FUNCTIONS
from .ops.linalg import (
    LinAlgError,
    cholesky_ex,
    cond,
    eigvalsh,
    inv_ex,
    lstsq,
    matrix_exp,
    matrix_norm,
    matrix_power,
    matrix_rank,
    multi_dot,
    norm,
    solve_triangular,
    svdvals,
    vander,
    vecdot,
    vector_norm,
)
from .ops.linalg import cholesky_ as cholesky
from .ops.linalg import cross_ as cross
from .ops.linalg import det_ as det
from .ops.linalg import diagonal_ as diagonal
from .ops.linalg import eigh_ as eigh
from .ops.linalg import inv_ as inv
from .ops.linalg import pinv_ as pinv
from .ops.linalg import qr_ as qr
from .ops.linalg import slogdet_ as slogdet
from .ops.linalg import solve_ as solve
from .ops.linalg import svd_ as svd

matmul = _FUNCTIONS["matmul"]

__all__ = [
    "LinAlgError",
    "cholesky",
    "cholesky_ex",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "inv",
    "inv_ex",
    "lstsq",
    "matmul",
    "matrix_exp",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "multi_dot",
    "norm",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
    "svdvals",
    "vander",
    "vecdot",
    "vector_norm",
]
