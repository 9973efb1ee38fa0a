"""Many partitions at once: 32 sign vectors ("replicas") share one machine word a vertex.

    packed[i, w] bit b  =  1  where replica 32 w + b puts vertex i on side +1
    cut_values[32 w + b] = sum over edges {i, j} of weight_ij [s_i != s_j]

A word is kept as int32 because torch has no arithmetic on uint32; only its bits mean something. When
the number of replicas is no multiple of 32 the last word is filled up with replicas whose every vertex
is on side -1: their cut is 0, never mistaken for one that was asked for unless every cut is negative,
so callers slice `[:n_replicas]`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sdp_kernels._engine import twin
from sdp_kernels.graph import CSR, check_csr

REPLICAS_PER_WORD = 32


def n_words(n_replicas: int) -> int:
    """Words that hold so many replicas of one vertex."""
    return -(-n_replicas // REPLICAS_PER_WORD)


def pack_signs(signs: Tensor) -> Tensor:
    """Pack sign vectors, one bit an entry.

    Args:
        signs: (n, R) bool (True is +1), or int8 (positive is +1).

    Returns:
        int32 (n, ceil(R / 32)), contiguous; missing replicas of the last word are -1 everywhere.

    Raises:
        TypeError, ValueError: another dtype or shape.

    Complexity: O(n R) reads.

    >>> pack_signs(torch.tensor([[1, -1, 1], [-1, -1, 1]], dtype=torch.int8)).tolist()
    [[5], [4]]
    """
    if signs.dtype not in (torch.bool, torch.int8):
        raise TypeError(f"`signs` must be bool or int8; got {signs.dtype}.")
    if signs.ndim != 2:
        raise ValueError(f"`signs` must have shape (n, R); got {tuple(signs.shape)}.")
    packed: Tensor = twin("replicas", signs).pack_signs(signs)
    return packed


def unpack_signs(packed: Tensor, n_replicas: int | None = None) -> Tensor:
    """The sign vectors of packed words.

    Args:
        packed: int32 (n, n_words).
        n_replicas: how many replicas to return, at most 32 n_words; all of them when None.

    Returns:
        int8 (n, n_replicas) in {-1, +1}.

    Raises:
        TypeError, ValueError: another dtype or shape, or more replicas than there are.

    >>> unpack_signs(torch.tensor([[5], [4]], dtype=torch.int32), 3).tolist()
    [[1, -1, 1], [-1, -1, 1]]
    """
    _check_packed(packed)
    held = REPLICAS_PER_WORD * packed.shape[1]
    wanted = held if n_replicas is None else n_replicas
    if not 0 <= wanted <= held:
        raise ValueError(f"`n_replicas` must lie in [0, {held}], what `packed` holds; got {wanted}.")
    signs: Tensor = twin("replicas", packed).unpack_signs(packed, wanted)
    return signs


def cut_values(csr: CSR, packed: Tensor) -> Tensor:
    """Cut value of every replica.

    Integer weights (below 2^24, where float32 is exact) are counted, not summed: each edge adds the word
    `s_i ^ s_j` to bit-sliced counters by carry-save addition, once for every set bit of |w|, so 32
    replicas cost about as much as one and the result is exact below 2^53. Other weights are summed in
    float64, in an order fixed by the graph alone. A GPU counts wherever the weights take at most 64 values,
    and adds others up as integers, exact for weights above 2^-26 of the largest, within 2^-49 of it for all.

    Args:
        csr: the graph; both directions of every edge, indices rising within a row.
        packed: int32 (n, n_words) of `pack_signs`.

    Returns:
        float64 (32 n_words,), in units of edge weight. Replicas that only fill the last word give 0.

    Raises:
        TypeError, ValueError: `packed` has another dtype, or not one row a vertex; arrays that are no `CSR`.

    Complexity: O(m n_words) word operations times the mean number of set bits in |w|. Source: carry-save
        counters of Harley and Seal, in Warren, Hacker's Delight (2012), chapter 5.
    """
    check_csr(csr)
    _check_packed(packed)
    if packed.shape[0] != csr.n_vertices:
        raise ValueError(f"`packed` has {packed.shape[0]} rows but the graph has {csr.n_vertices} vertices.")
    values: Tensor = twin("replicas", *csr, packed).cut_values(csr, packed)
    return values


def project_signs(V: Tensor, planes: Tensor) -> Tensor:
    """Signs of V @ planes, packed without the product ever being stored.

    Args:
        V: float32 (n, r), contiguous.
        planes: float32 (r, R), contiguous: one hyperplane's normal a column.

    Returns:
        int32 (n, ceil(R / 32)) as `pack_signs`; a product of exactly 0 counts as +1.

    Raises:
        TypeError, ValueError: another dtype or layout, or a different r.

    Complexity: O(n r R) operations, n (4 r + R / 8) bytes. An entry's sum runs over r in order, so its
        sign does not depend on how many planes share the call. NVIDIA's GPUs give the CPU's bits; AMD's matrix
        cores round differently, so that products within rounding of 0 may change sign.
    """
    for name, tensor in (("V", V), ("planes", planes)):
        if tensor.dtype != torch.float32:
            raise TypeError(f"`{name}` must be float32; got {tensor.dtype}.")
        if tensor.ndim != 2 or not tensor.is_contiguous():
            raise ValueError(f"`{name}` must be a contiguous matrix; got shape {tuple(tensor.shape)}.")
    if V.shape[1] != planes.shape[0]:
        raise ValueError(
            f"`V` has {V.shape[1]} columns but `planes` has {planes.shape[0]} rows; "
            "V (n, r) and planes (r, R) must share r."
        )
    packed: Tensor = twin("replicas", V, planes).project_signs(V, planes)
    return packed


def _check_packed(packed: Tensor) -> None:
    if packed.dtype != torch.int32:
        raise TypeError(f"`packed` must be int32 words; got {packed.dtype}.")
    if packed.ndim != 2:
        raise ValueError(f"`packed` must have shape (n, n_words); got {tuple(packed.shape)}.")
