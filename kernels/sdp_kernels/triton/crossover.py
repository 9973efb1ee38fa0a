"""Partition crossover on the device: as `sdp_kernels.anneal.partition_crossover`, with nothing waited for on the host.

For each of the other partitions, one after another, five launches:

    compare   how many vertices agree with it (done with the step before)
    mark      root[i] = i where vertex i differs (up to swapping sides), else -1; gain[i] = 0
    link      every edge inside the difference joins the trees of its ends
    flatten   root[i] = the root of its tree, which is the least vertex of its component
    gain      every edge that leaves the difference adds w s_i s_j to gain[root]
    take      components with gain >= 0 change sides; `added` takes their gains

Linking is the lock-free union of ECL-CC: a root is hung below a smaller one by an integer atomic minimum; where the
larger one was no root any more, the link goes on from the parent that it had, so that no link is lost. Parents are
always smaller, so there are no cycles, and the last root of a component is its least vertex whatever the order:
deterministic, though how trees grow is not. On the way, vertices are hung two steps higher (path halving); a halving
may undo a minimum that came between, but the link behind that minimum goes on by itself.

Gains are integers, in units of 2^-exponent chosen so that no sum passes 2^62; integer atomics commute, so the bits
depend on no order. Terms are rounded down: a component is taken only if its true gain is >= 0, `added` is at most
what was added, and by less than (edges that leave the difference) units. Weights above 2^24 units, in a graph of m
edges those above 2^-37 m of the largest, are exact: there the result is the CPU twin's. A component's gain goes to
one address; a program adds up those of its least root itself, since mostly one component is far larger than the rest.

    bytes: 8 an edge for its ends, twice, and 8 gathered (link: roots; gain: roots, and signs on the border),
    and about 40 a vertex: a replica of a graph of 10^6 edges and 3 10^5 vertices is about 40 MB, in 5 launches

Source: Jaiganesh and Burtscher, "A high-performance connected components implementation for GPUs" (HPDC 2018).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from sdp_kernels.triton._edges import Edges, edges_of

if TYPE_CHECKING:
    from sdp_kernels.graph import CSR

BLOCK_LINK, BLOCK_LINK_AMD = 32, 64  # edges a program of one warp, which goes on until its last link is made
BLOCK_EDGES = 1024
BLOCK_VERTICES = 512  # 1024 spill 8 bytes on sm_80
BLOCK_INTERPRETED = 1 << 16  # a program of the interpreter costs 45 us whatever its size
MAX_SUM_BITS = 62
MAX_EXPONENT = 120  # 2^exponent is a float32; where all weights are below 1e-29, their last bits are cut off
_NOBODY = tl.constexpr(0x7FFFFFFF)  # above any vertex


@triton.jit
def _compare_kernel(
    signs_ptr, other_ptr,  # int8 (n,)
    agree_ptr,             # int32 (1,), counts up
    n,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Adds to `agree` how many vertices lie on the same side in both."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    _count_agreeing(tl.load(signs_ptr + i, mask=i < n, other=0), other_ptr, agree_ptr, i, n)


@triton.jit
def _count_agreeing(signs, other_ptr, agree_ptr, i, n):
    other = tl.load(other_ptr + i, mask=i < n, other=0)
    agree = (signs == other) & (i < n)
    tl.atomic_add(agree_ptr, tl.sum(agree.to(tl.int32), axis=0), sem="relaxed")


@triton.jit
def _mark_kernel(
    signs_ptr, other_ptr,  # int8 (n,)
    agree_ptr,             # int32 (1,)
    root_ptr,              # int32 (n,)
    gain_ptr,              # int64 (n,)
    n,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """root[i] = i where i differs from the nearer of the other partition and its mirror image, else -1; gain[i] = 0."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    is_same = tl.load(signs_ptr + i, mask=mask, other=0) == tl.load(other_ptr + i, mask=mask, other=0)
    is_mirrored = 2 * tl.load(agree_ptr).to(tl.int64) < n
    tl.store(root_ptr + i, tl.where(is_same != is_mirrored, -1, i).to(tl.int32), mask=mask)
    tl.store(gain_ptr + i, tl.zeros((BLOCK,), tl.int64), mask=mask)


@triton.jit
def _step_up(root_ptr, u, mask):
    """Where u leads in one step, and whether that is u itself; hangs u below its grandparent on the way."""
    parent = tl.load(root_ptr + u, mask=mask, other=0, volatile=True)
    is_root = parent == u
    above = tl.load(root_ptr + parent, mask=mask & ~is_root, other=0, volatile=True)
    tl.store(root_ptr + u, above, mask=mask & ~is_root & (above != parent))
    return tl.where(is_root, u, above), is_root


@triton.jit
def _link_kernel(
    rows_ptr, cols_ptr,  # int32 (m,)
    root_ptr,            # int32 (n,), a forest
    m,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Joins the trees of the ends of every edge whose ends both differ."""
    e = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    u = tl.load(rows_ptr + e, mask=e < m, other=0)
    v = tl.load(cols_ptr + e, mask=e < m, other=0)
    root_u = tl.load(root_ptr + u, mask=e < m, other=-1)
    root_v = tl.load(root_ptr + v, mask=e < m, other=-1)
    u, v = root_u, root_v  # marks, or ancestors already
    active = (root_u >= 0) & (root_v >= 0) & (u != v)
    while tl.max(active.to(tl.int32), axis=0) > 0:
        u, u_is_root = _step_up(root_ptr, u, active)
        v, v_is_root = _step_up(root_ptr, v, active)
        active = active & (u != v)
        high, low = tl.maximum(u, v), tl.minimum(u, v)
        tries = active & u_is_root & v_is_root
        before = tl.atomic_min(root_ptr + high, low, mask=tries, sem="relaxed")
        active = active & ~(tries & (before == high))
        u = tl.where(tries, before, u)
        v = tl.where(tries, low, v)
        active = active & (u != v)


@triton.jit
def _flatten_kernel(root_ptr, n, BLOCK: tl.constexpr):
    """root[i] = root of i's tree. Everyone doubles its steps, so long chains take few passes."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    parent = tl.load(root_ptr + i, mask=i < n, other=-1)
    active = parent >= 0
    while tl.max(active.to(tl.int32), axis=0) > 0:
        above = tl.load(root_ptr + parent, mask=active, other=0, volatile=True)
        active = active & (above != parent)
        tl.store(root_ptr + i, above, mask=active)
        parent = tl.where(active, above, parent)


@triton.jit
def _gain_kernel(
    rows_ptr, cols_ptr,  # int32 (m,)
    weights_ptr, scale,  # float32 (m,); 2^exponent
    signs_ptr,           # int8 (n,)
    root_ptr,            # int32 (n,)
    gain_ptr,            # int64 (n,), at roots
    m,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """gain[root] += floor(scale w s_i s_j) over the edges with one end in the component, the other in none."""
    e = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    i = tl.load(rows_ptr + e, mask=e < m, other=0)
    j = tl.load(cols_ptr + e, mask=e < m, other=0)
    root_i = tl.load(root_ptr + i, mask=e < m, other=-1)
    root_j = tl.load(root_ptr + j, mask=e < m, other=-1)
    leaves = (root_i < 0) != (root_j < 0)
    root = tl.where(leaves, tl.maximum(root_i, root_j), _NOBODY)
    first = tl.min(root, axis=0)
    weight = tl.load(weights_ptr + e, mask=leaves, other=0.0) * scale
    is_cut = tl.load(signs_ptr + i, mask=leaves, other=0) != tl.load(signs_ptr + j, mask=leaves, other=0)
    term = tl.floor(tl.where(is_cut, -weight, weight)).to(tl.int64)
    is_first = leaves & (root == first)
    own = tl.sum(tl.where(is_first, term, 0), axis=0)
    tl.atomic_add(gain_ptr + first, own, mask=first != _NOBODY, sem="relaxed")
    tl.atomic_add(gain_ptr + root, term, mask=leaves & (root != first), sem="relaxed")


@triton.jit
def _take_kernel(
    signs_ptr,           # int8 (n,), changed
    root_ptr, gain_ptr,  # int32 (n,), int64 (n,)
    added_ptr,           # int64 (1,), counts up
    next_ptr, agree_ptr, # int8 (n,) and int32 (1,) of the next of the others
    n,
    IS_LAST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Changes the sides of all components with gain >= 0, adds up what that adds, and compares with the next."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    root = tl.load(root_ptr + i, mask=i < n, other=-1)
    gain = tl.load(gain_ptr + root, mask=root >= 0, other=-1)
    signs = tl.load(signs_ptr + i, mask=i < n, other=0)
    is_taken = (root >= 0) & (gain >= 0)
    tl.store(signs_ptr + i, -signs, mask=is_taken)
    tl.atomic_add(added_ptr, tl.sum(tl.where(is_taken & (root == i), gain, 0), axis=0), sem="relaxed")
    if not IS_LAST:
        _count_agreeing(tl.where(is_taken, -signs, signs), next_ptr, agree_ptr, i, n)


def partition_crossover(csr: CSR, signs: Tensor, others: Tensor) -> Tensor:
    """See the public operation; waits for the device at the first call with a graph only."""
    n, n_others = csr.n_vertices, others.shape[0]
    added = torch.zeros(n_others, dtype=torch.int64, device=signs.device)
    if not n or not n_others:
        return added.double()
    edges = edges_of(csr)
    exponent = _exponent(edges)
    agree = torch.zeros(n_others, dtype=torch.int32, device=signs.device)
    root = torch.empty(n, dtype=torch.int32, device=signs.device)
    gain = torch.empty(n, dtype=torch.int64, device=signs.device)
    block = _block(BLOCK_VERTICES)
    over_vertices = (triton.cdiv(n, block),)
    _compare_kernel[over_vertices](signs, others[0], agree, n, BLOCK=block)
    for k in range(n_others):
        _mark_kernel[over_vertices](signs, others[k], agree[k:], root, gain, n, BLOCK=block)
        _launch_edges(edges, exponent, signs, root, gain, n)
        last = k + 1 == n_others
        after = k if last else k + 1
        _take_kernel[over_vertices](
            signs, root, gain, added[k:], others[after], agree[after:], n, IS_LAST=last, BLOCK=block
        )
    return added.double() * 2.0**-exponent


def _launch_edges(edges: Edges, exponent: int, signs: Tensor, root: Tensor, gain: Tensor, n: int) -> None:
    """Components of the marked vertices, and their gains at their roots."""
    m = edges.rows.numel()
    if not m:
        return
    link, block = _block(BLOCK_LINK_AMD if torch.version.hip else BLOCK_LINK), _block(BLOCK_EDGES)
    _link_kernel[(triton.cdiv(m, link),)](edges.rows, edges.cols, root, m, BLOCK=link, num_warps=1)
    _flatten_kernel[(triton.cdiv(n, link),)](root, n, BLOCK=link, num_warps=1)
    _gain_kernel[(triton.cdiv(m, block),)](
        edges.rows, edges.cols, edges.weights, 2.0**exponent, signs, root, gain, m, BLOCK=block
    )


def _exponent(edges: Edges) -> int:
    """Of the unit of gains: the sum of all weights' magnitudes stays below 2^MAX_SUM_BITS units."""
    return min(MAX_EXPONENT, MAX_SUM_BITS - math.frexp(edges.largest * max(1, edges.rows.numel()))[1])


def _block(size: int) -> int:
    return BLOCK_INTERPRETED if triton.knobs.runtime.interpret else size
