"""Matrix products that stay on the thread that asks for them.

OpenBLAS, which comes with numpy, hands a large product to threads of its own.  Where slices are already worked on in parallel those
threads fight ours, and a small computation becomes ten times slower.  Products of fewer than 4 * 65536 multiplications are done on
the calling thread, so large ones are cut into such pieces, which also fit the cache.
"""

import numpy as np

LARGEST = 250_000
"""Multiplications in one piece."""


def product(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """``a @ b`` for float32 matrices (m, k) and (k, n), in pieces along n."""
    if out is None:
        out = np.empty((a.shape[0], b.shape[1]), np.result_type(a, b))
    # One call for all whole pieces: threads that come back for every piece wait for each other between the pieces.
    step = max(8, LARGEST // max(1, a.size))
    whole = b.shape[1] // step * step
    if whole:
        np.matmul(a, _pieces(b[:, :whole], step), out=_pieces(out[:, :whole], step))
    if whole < b.shape[1]:
        np.matmul(a, b[:, whole:], out=out[:, whole:])
    return out


def product_of_columns(columns: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """``columns.T @ matrix.T`` (n, m) for columns (k, n) and a matrix (m, k): one row a column, in pieces along n."""
    out = np.empty((columns.shape[1], matrix.shape[0]), np.float32)
    step = max(8, LARGEST // max(1, matrix.size))
    whole = columns.shape[1] // step * step
    if whole:
        rows = _pieces(columns[:, :whole], step).transpose(0, 2, 1)
        np.matmul(rows, matrix.T, out=out[:whole].reshape(-1, step, matrix.shape[0]))
    if whole < columns.shape[1]:
        np.matmul(columns[:, whole:].T, matrix.T, out=out[whole:])
    return out


def _pieces(matrix: np.ndarray, step: int) -> np.ndarray:
    """View of a matrix (k, p * step) as its p pieces (p, k, step)."""
    rows, columns = matrix.shape
    down, along = matrix.strides
    return np.lib.stride_tricks.as_strided(matrix, (columns // step, rows, step), (step * along, down, along))


def weighted_sum(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """``weights @ rows`` for (k,) and (k, n); a matrix-vector product would go to threads from 9216 elements on."""
    return np.einsum("k,kn->n", weights, rows)
