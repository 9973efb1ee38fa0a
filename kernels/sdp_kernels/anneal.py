"""Local search on many partitions of one graph: annealing, one-opt and partition crossover.

    anneal                Metropolis sweeps: vertex i changes sides when  gain_i > T ln u,  u uniform in (0, 1)
    anneal_packed         the same for 32 replicas a word, on graphs whose weights all have one magnitude
    one_opt               changes sides while that gains
    partition_crossover   takes from other partitions every part of the graph they do better

State is a sign vector and its gains (`sdp_kernels.graph.gains`), kept up to date at each change; of packed
replicas it is the words of `sdp_kernels.replicas` alone. Vertices are visited colour class by colour class, so no
decision inside a class depends on another.

Random numbers of `anneal`. -ln u comes from a table of THRESHOLDS exponential numbers; the vertices of a block of
BLOCK_VERTICES share one random place in it, so a sweep costs one Philox call for each block. The word is
keyed by (seed, stream + replica) and counted by (sweep, block): the result is independent of threads, and of
how a run of sweeps is cut into calls.

Random numbers of `anneal_packed`. u is a fixed-point number. With random="independent" its first OWN_BITS bits belong
to each replica alone and the 32 bits after them to the word: every replica accepts with its exact chance (to
2^-39), and only where two replicas agree in all of their own bits (2^-OWN_BITS) is a decision taken for both
together. Two replicas' decisions at one vertex in one sweep correlate by at most 2^-OWN_BITS, for a fifth of the
random words that 39 bits of each would take. With random="shared" all 32 bits belong to the word: its replicas
differ by their partitions alone, for half of the random words. Calls are keyed by seed and counted by (vertex,
call, sweep, stream + word).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from sdp_kernels._engine import twin
from sdp_kernels._numbers import integer
from sdp_kernels.graph import CSR, check_class_ptr, check_csr, check_replicas, check_rows

BLOCK_VERTICES = 64
THRESHOLDS = 1 << 16
_TABLE_KEY = 0x5D9
OWN_BITS = 7  # and one common word: two calls of Philox
RANDOM = ("independent", "shared")
_BELOW_ONE = 1 - 2.0**-24


@cache
def threshold_table() -> Tensor:
    """float32 (THRESHOLDS + BLOCK_VERTICES,): independent exponential numbers -ln u, the same everywhere."""
    uniform = np.random.Generator(np.random.Philox(_TABLE_KEY)).random(THRESHOLDS + BLOCK_VERTICES)
    return torch.from_numpy((-np.log1p(-uniform)).astype(np.float32))


@cache
def _thresholds_on(device: torch.device) -> Tensor:
    return threshold_table().to(device)


def anneal(
    csr: CSR,
    class_ptr: Tensor,
    signs: Tensor,
    gains: Tensor,
    temperatures: Tensor,
    *,
    seed: int,
    stream: int = 0,
    first_sweep: int = 0,
) -> Tensor:
    """Metropolis sweeps of every replica at its own temperatures, in place.

    Args:
        csr: the graph.
        class_ptr: int64 (n_classes + 1,), colour classes of consecutive vertices.
        signs: int8 (R, n) in {-1, +1}, contiguous; changed in place.
        gains: float32 (R, n), the gains of `signs`; changed in place.
        temperatures: float32 (R, n_sweeps) >= 0, in units of edge weight.
        seed: key of the random numbers, 0 <= seed < 2^63.
        stream: number of the first replica among all that share the seed, below 2^31.
        first_sweep: number of the first sweep, to go on where an earlier call stopped.

    Returns:
        int64 (R,), how many changes each replica made.

    Raises:
        TypeError, ValueError: another dtype, shape or range.

    Complexity: O(R (n n_sweeps + changes x degree)). Source: Kirkpatrick, Gelatt and Vecchi (1983).
    """
    check_csr(csr)
    check_class_ptr(class_ptr, csr)
    _check_state(csr, signs, gains)
    _check_temperatures(temperatures, signs.shape[0])
    _check_numbers(seed, stream, first_sweep, temperatures.shape[1])
    changes: Tensor = twin("anneal", csr.indptr, signs).anneal(
        csr, class_ptr, signs, gains, temperatures, _thresholds_on(signs.device), seed, stream, first_sweep
    )
    return changes


def anneal_packed(
    csr: CSR,
    class_ptr: Tensor,
    packed: Tensor,
    temperatures: Tensor,
    *,
    seed: int,
    stream: int = 0,
    first_sweep: int = 0,
    random: str = "independent",
) -> None:
    """Metropolis sweeps of 32 replicas a word at once, in place, where all weights are +w or -w.

    Fields are counted by carry-save additions of words and compared with u bit by bit, so a replica costs a few
    instructions a vertex. A vertex changes sides when  gain > T ln u; a gain of 0 does whenever T > 0.

    Chances of acceptance are powers of exp(-2w/T) by repeated multiplication in float32: the k-th is exact to
    k 2^-24 relative, and 2^-39 (shared: 2^-32) absolute.

    Args:
        csr: the graph; every weight of the same magnitude.
        class_ptr: int64 (n_classes + 1,), colour classes of consecutive vertices, on the CPU.
        packed: int32 (n, n_words) of `sdp_kernels.replicas.pack_signs`, contiguous; changed in place.
        temperatures: float32 (n_words, n_sweeps) >= 0, one a word, in units of edge weight.
        seed: key of the random numbers, 0 <= seed < 2^63.
        stream: number of the first word among all that share the seed, below 2^31.
        first_sweep: number of the first sweep, to go on where an earlier call stopped.
        random: "independent", or "shared" by the 32 replicas of a word (see above).

    Raises:
        TypeError, ValueError: another dtype, shape, range or name, or weights of several magnitudes.

    Complexity: O((n + m) n_words n_sweeps) operations on words. Source: multi-spin coding, Jacobs and Rebbi (1981);
        Isakov, Zintchenko, Ronnow and Troyer, "Optimised simulated annealing for Ising spin glasses" (2015).
    """
    check_csr(csr)
    check_class_ptr(class_ptr, csr)
    check_rows("packed", packed, csr, (torch.int32,))
    _check_temperatures(temperatures, packed.shape[1])
    _check_numbers(seed, stream, first_sweep, temperatures.shape[1])
    if random not in RANDOM:
        raise ValueError(f"`random` must be one of {', '.join(RANDOM)}; got {random!r}.")
    weight, columns = _one_magnitude(csr)
    if packed.numel() and temperatures.numel():
        twin("anneal", csr.indptr, packed).anneal_packed(
            csr, class_ptr, columns, packed, _chances(weight, temperatures), seed, stream, first_sweep, random
        )


def one_opt(csr: CSR, class_ptr: Tensor, signs: Tensor, gains: Tensor, tolerance: float = 0.0) -> None:
    """Changes the side of any vertex whose gain is above `tolerance`, in vertex order, until none is; in place.

    An engine may stop after a thousand passes or more, so that rounded gains cannot keep it for ever.

    Args:
        csr: the graph.
        class_ptr: int64 (n_classes + 1,), colour classes of consecutive vertices; an engine may decide a class at once.
        signs: int8 (R, n), changed in place.
        gains: float32 (R, n), the gains of `signs`, changed in place.
        tolerance: least gain worth a change, in units of edge weight; above 0 for weights whose float32
            sums are rounded.

    Raises:
        TypeError, ValueError: another dtype or shape.
    """
    check_csr(csr)
    check_class_ptr(class_ptr, csr)
    _check_state(csr, signs, gains)
    twin("anneal", csr.indptr, signs).one_opt(csr, class_ptr, signs, gains, float(tolerance))


def partition_crossover(csr: CSR, signs: Tensor, others: Tensor) -> Tensor:
    """Takes from each of the others, one after another, every part in which it is no worse; in place.

    Where two partitions differ (up to swapping the sides of one), the differing vertices fall into connected
    components. Components are not adjacent, so each can be taken over or left alone, and what it gains does
    not depend on the rest: the result is the best of 2^components mixtures, never worse than either parent.
    Components that gain nothing are taken too, which lets the search drift over plateaus.

    Args:
        csr: the graph.
        signs: int8 (1, n), changed in place.
        others: int8 (R, n).

    Returns:
        float64 (R,), what each of the others added to the cut value, in units of edge weight. A GPU adds gains up as
        integers of 2^-61 m max |w| at most, rounded down: exact for weights above 2^-37 m of the largest, m edges;
        with smaller ones it may leave a part whose gain is below that unit an edge.

    Raises:
        TypeError, ValueError: another dtype or shape.

    Complexity: O(R (n + edges inside the differences)), on a GPU O(R (n + m)). Source: the cluster moves of Houdayer
    (2001) and the partition crossover of Whitley, Hains and Howe (2009), applied to cuts.
    """
    check_csr(csr)
    check_replicas("signs", signs, csr, torch.int8)
    check_replicas("others", others, csr, torch.int8)
    if signs.shape[0] != 1:
        raise ValueError(f"`signs` must hold one partition; got {signs.shape[0]}.")
    added: Tensor = twin("anneal", csr.indptr, signs, others).partition_crossover(csr, signs, others)
    return added


def _check_state(csr: CSR, signs: Tensor, gains: Tensor) -> None:
    check_replicas("signs", signs, csr, torch.int8)
    check_replicas("gains", gains, csr, torch.float32)
    if signs.shape != gains.shape:
        raise ValueError(
            f"`signs` and `gains` must share a shape; got {tuple(signs.shape)}, {tuple(gains.shape)}."
        )


def _check_temperatures(temperatures: Tensor, rows: int) -> None:
    if temperatures.dtype != torch.float32:
        raise TypeError(f"`temperatures` must be torch.float32; got {temperatures.dtype}.")
    if temperatures.ndim != 2 or temperatures.shape[0] != rows or not temperatures.is_contiguous():
        raise ValueError(
            f"`temperatures` must be contiguous with shape ({rows}, n_sweeps); got {tuple(temperatures.shape)}."
        )


def _check_numbers(seed: int, stream: int, first_sweep: int, n_sweeps: int) -> None:
    for name, number in (("seed", seed), ("stream", stream), ("first_sweep", first_sweep)):
        integer(name, number)
    if not 0 <= seed < 2**63 or not 0 <= stream < 2**31:
        raise ValueError(f"`seed` must lie in [0, 2^63) and `stream` in [0, 2^31); got {seed}, {stream}.")
    if not 0 <= first_sweep <= 2**32 - n_sweeps:
        raise ValueError(f"`first_sweep` must lie in [0, 2^32 - {n_sweeps}]; got {first_sweep}.")


def _one_magnitude(csr: CSR) -> tuple[float, Tensor]:
    """|w| of every edge, and int32 (nnz,) columns: j where w_ij > 0, ~j (negative) where w_ij < 0."""
    if not csr.weights.numel():
        return 1.0, csr.indices
    magnitudes = csr.weights.abs()
    least, most, lowest = torch.stack([magnitudes.min(), magnitudes.max(), csr.weights.min()]).tolist()
    if not 0 < least == most < float("inf"):
        raise ValueError(
            f"packed annealing needs weights of one magnitude above 0; got {least:g} to {most:g}: use `anneal`."
        )
    return most, csr.indices if lowest > 0 else torch.where(csr.weights < 0, ~csr.indices, csr.indices)


def _chances(weight: float, temperatures: Tensor) -> Tensor:
    """float32 (3, n_sweeps, n_words): of losing 0 (1 if T > 0 else 0), w and 2w, the last two below 1."""
    inverse = weight / temperatures.T.double()
    chances = torch.stack([torch.ones_like(inverse), torch.exp(-inverse), torch.exp(-2 * inverse)]).float()
    chances[0] = temperatures.T > 0
    chances[1:].clamp_(max=_BELOW_ONE)
    return chances
