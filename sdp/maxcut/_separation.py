"""The inner loops of `sdp.maxcut.separation`: shortest odd cycles by Dijkstra's search, and their chords."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Uint64 = NDArray[np.uint64]
Float64 = NDArray[np.float64]

HOP = 1e-9  # added to every length, so that of equally long walks the one with fewer edges comes first


@numba.njit(cache=True, nogil=True, parallel=True)
def odd_cycles(
    indptr: Int64,
    indices: Int32,
    edge: Int32,
    x: Float64,
    roots: Int64,
    rank: Int64,
    least: float,
    most_settled: int,
    chunks: int,
    cycles: Int32,
    sizes: Int64,
    lengths: Float64,
    hashes: Uint64,
) -> int:
    """The shortest odd cycle that a search from each root closes, made chordless.

    An edge is x_e long where it is not in F and 1 - x_e where it is; an odd cycle below length 1 is a violated row.
    Such a cycle takes at most one edge at the larger of its two lengths, so one label a vertex will do: lengths
    min(x_e, 1 - x_e), the parity that goes with them, and for each edge that is not in the tree the side that makes its
    cycle odd. Of three walks between two vertices never exactly one pair is odd, and in such families a shortest cycle
    is made of a tree walk, an edge and a tree walk (Thomassen 1990). Both walks end within half its length. A search
    looks at no vertex that ranks below its root: every cycle is found from its lowest vertex, and searches stay small.

    Args:
        indptr: int64 (n + 1,).
        indices: int32 (2m,).
        edge: int32 (2m,), the number of each half-edge.
        x: float64 (m,), in [0, 1].
        roots: int64 (r,).
        rank: int64 (n,), an order of the vertices.
        least: violation below which a cycle does not count.
        most_settled: vertices that one search settles, at most.
        chunks: of the roots, one after another within a chunk; says nothing about the result.
        cycles: int32 (r, width), out: the edges of each cycle as 2 e + (e in F), in the order of a walk.
        sizes: int64 (r,), out: edges of each cycle; 0 where there is none; its negative where it does not fit.
        lengths: float64 (r,), out: length of each cycle.
        hashes: uint64 (r,), out: the same for cycles with the same edges and the same F, whatever their order.

    Returns:
        How many searches stopped at `most_settled`.

    Complexity: O(r b log b) for b edges within length 1/2 of a root.
    """
    n = len(indptr) - 1
    cut_short = 0
    for chunk in numba.prange(chunks):
        key, label = np.empty(n), np.full(n, -1, np.int8)
        above, rise = np.empty(n, np.int32), np.empty(n, np.int32)
        place = np.full(n, -1, np.int32)
        heap, seen = np.empty(n, np.int32), np.empty(n, np.int32)
        walk, steps = np.empty(n + 1, np.int32), np.empty(n + 1, np.int32)
        spare, spare_steps = np.empty(n + 1, np.int32), np.empty(n + 1, np.int32)
        prefix, odd = np.empty(n + 1), np.empty(n + 1, np.int8)
        for r in range(chunk, len(roots), chunks):
            known, one, other, closing, stopped = _search(
                indptr,
                indices,
                edge,
                x,
                roots[r],
                rank,
                least,
                most_settled,
                key,
                label,
                above,
                rise,
                place,
                heap,
                seen,
            )
            cut_short += stopped
            sizes[r] = 0
            if closing >= 0:
                count = _tree_cycle(x, one, other, closing, above, rise, place, walk, steps)
                count, length = _without_chords(
                    indptr, indices, edge, x, count, walk, steps, spare, spare_steps, place, prefix, odd
                )
                lengths[r] = length
                if length < 1.0 - least:
                    sizes[r] = count if count <= cycles.shape[1] else -count
                    hashes[r] = cycle_hash(steps, count)
                    for k in range(min(count, cycles.shape[1])):
                        cycles[r, k] = steps[k]
            for k in range(known):
                label[seen[k]] = -1
    return cut_short


@numba.njit(cache=True, nogil=True)
def _search(
    indptr: Int64,
    indices: Int32,
    edge: Int32,
    x: Float64,
    root: int,
    rank: Int64,
    least: float,
    most_settled: int,
    key: Float64,
    label: Int8,
    above: Int32,
    rise: Int32,
    place: Int32,
    heap: Int32,
    seen: Int32,
) -> tuple[int, int, int, int, int]:
    """Dijkstra's search: how many vertices it saw (listed in `seen`), the edge that closes the shortest odd walk.

    `label` is -1 for unknown vertices, else the parity of the walk, plus 2 once settled; the caller puts it back.
    `above` and `rise` are the vertex and the edge before. Returns (seen, one end, other end, edge or -1, cut short).
    """
    best, one, other, closing, stopped = 1.0 - least, -1, -1, -1, 0
    key[root], label[root], above[root], rise[root] = 0.0, 0, -1, -1
    heap[0], place[root] = root, 0
    waiting, settled = 1, 0
    while waiting > 0:
        u = heap[0]
        if 2.0 * key[u] >= best:
            break
        if settled >= most_settled:
            stopped = 1
            break
        waiting = _pop(heap, place, key, waiting)
        label[u] += 2
        seen[settled] = u
        settled += 1
        for entry in range(indptr[u], indptr[u + 1]):
            w, e = indices[entry], edge[entry]
            if e == rise[u] or rank[w] < rank[root]:
                continue
            short, parity = x[e], 0
            if short > 0.5:
                short, parity = 1.0 - short, 1
            if label[w] >= 2:
                is_odd = (label[u] ^ label[w] ^ parity) & 1
                total = key[u] + key[w] + HOP + (short if is_odd else 1.0 - short)
                if total < best:
                    best, one, other, closing = total, u, w, e
                continue
            there = key[u] + short + HOP
            # Farther vertices than half of the best walk lie on no better one.
            if 2.0 * there >= best or (label[w] >= 0 and there >= key[w]):
                continue
            if label[w] < 0:
                place[w] = waiting
                heap[waiting] = w
                waiting += 1
            key[w], label[w], above[w], rise[w] = there, (label[u] ^ parity) & 1, u, e
            _up(heap, place, key, place[w])
    for k in range(waiting):
        seen[settled + k] = heap[k]
        place[heap[k]] = -1
    return settled + waiting, one, other, closing, stopped


@numba.njit(cache=True, nogil=True)
def _up(heap: Int32, place: Int32, key: Float64, at: int) -> None:
    v = heap[at]
    while at > 0:
        parent = (at - 1) >> 1
        if key[heap[parent]] <= key[v]:
            break
        heap[at] = heap[parent]
        place[heap[at]] = at
        at = parent
    heap[at] = v
    place[v] = at


@numba.njit(cache=True, nogil=True)
def _pop(heap: Int32, place: Int32, key: Float64, waiting: int) -> int:
    """Takes the first vertex off the heap; returns how many are left."""
    place[heap[0]] = -1
    waiting -= 1
    if waiting == 0:
        return 0
    v, at = heap[waiting], 0
    while True:
        child = 2 * at + 1
        if child >= waiting:
            break
        if child + 1 < waiting and key[heap[child + 1]] < key[heap[child]]:
            child += 1
        if key[heap[child]] >= key[v]:
            break
        heap[at] = heap[child]
        place[heap[at]] = at
        at = child
    heap[at] = v
    place[v] = at
    return waiting


@numba.njit(cache=True, nogil=True)
def _tree_cycle(
    x: Float64,
    one: int,
    other: int,
    closing: int,
    above: Int32,
    rise: Int32,
    place: Int32,
    walk: Int32,
    steps: Int32,
) -> int:
    """The cycle of an edge and two tree walks up to where they meet: its length in edges.

    `walk[k]` and `walk[k + 1]` are the ends of `steps[k]`, and of the last step the last and the first vertex.
    """
    count, v = 0, one
    while v >= 0:
        place[v] = count
        count += 1
        v = above[v]
    meet = other
    while place[meet] < 0:
        meet = above[meet]
    v = one
    while v >= 0:
        place[v] = -1
        v = above[v]
    size, parity, v = 0, 0, other
    while v != meet:
        walk[size], steps[size] = v, 2 * rise[v] + (x[rise[v]] > 0.5)
        parity ^= steps[size] & 1
        size += 1
        v = above[v]
    turn, v = size, one
    while v != meet:
        size += 1
        v = above[v]
    walk[size] = one
    # The other walk backwards: its vertices end at `one`.
    at, v = size, one
    while v != meet:
        at -= 1
        walk[at + 1], steps[at] = v, 2 * rise[v] + (x[rise[v]] > 0.5)
        parity ^= steps[at] & 1
        v = above[v]
    walk[turn] = meet
    steps[size] = 2 * closing + (1 - parity)
    return size + 1


@numba.njit(cache=True, nogil=True)
def _without_chords(
    indptr: Int64,
    indices: Int32,
    edge: Int32,
    x: Float64,
    count: int,
    walk: Int32,
    steps: Int32,
    spare: Int32,
    spare_steps: Int32,
    place: Int32,
    prefix: Float64,
    odd: Int8,
) -> tuple[int, float]:
    """Replaces a cycle by the shorter of the two into which its best chord splits it, until there is no chord.

    The two have the cycle's length plus 1 together, and a chord that is in F for one is not for the other: so if the
    cycle's row is violated, one of theirs is, and it says more. Returns edges and length; O(count + half-edges) a pass.
    """
    while True:
        prefix[0], odd[0] = 0.0, 0
        for k in range(count):
            value = x[steps[k] >> 1]
            prefix[k + 1] = prefix[k] + (1.0 - value if steps[k] & 1 else value)
            odd[k + 1] = odd[k] ^ (steps[k] & 1)
            place[walk[k]] = k
        total = prefix[count]
        best, begin, end, chord = np.inf, -1, -1, -1
        for i in range(count):
            for entry in range(indptr[walk[i]], indptr[walk[i] + 1]):
                j = place[indices[entry]]
                if j <= i + 1 or (i == 0 and j == count - 1):
                    continue
                value = x[edge[entry]]
                inside = odd[j] ^ odd[i]
                one = prefix[j] - prefix[i] + (value if inside else 1.0 - value)
                two = total - (prefix[j] - prefix[i]) + (1.0 - value if inside else value)
                if one < best:
                    best, begin, end, chord = one, i, j, 2 * edge[entry] + (1 - inside)
                if two < best:
                    best, begin, end, chord = two, j, i, 2 * edge[entry] + inside
        for k in range(count):
            place[walk[k]] = -1
        if chord < 0:
            return count, total
        size, k = 0, begin
        while k != end:
            spare[size], spare_steps[size] = walk[k], steps[k]
            size += 1
            k = k + 1 if k + 1 < count else 0
        spare[size], spare_steps[size] = walk[end], chord
        count = size + 1
        walk[:count] = spare[:count]
        steps[:count] = spare_steps[:count]


@numba.njit(cache=True, nogil=True)
def cycle_hash(steps: Int32, count: int) -> np.uint64:
    """Sum of a mixed word of each entry: the same in whatever order they come (mixer: Steele et al. 2014)."""
    total = np.uint64(0)
    for k in range(count):
        word = (np.uint64(steps[k]) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        total += word ^ (word >> np.uint64(31))
    return total


@numba.njit(cache=True, nogil=True)
def row_hashes(pointers: Int64, steps: Int32) -> Uint64:
    """`cycle_hash` of each row, uint64 (r,); steps int32 are 2 e + (e in F), one row after another."""
    hashes = np.empty(len(pointers) - 1, np.uint64)
    for r in range(len(hashes)):
        begin = pointers[r]
        hashes[r] = cycle_hash(steps[begin:], pointers[r + 1] - begin)
    return hashes


@numba.njit(cache=True, nogil=True)
def spread_out(cycles: Int32, sizes: Int64, order: Int64, most: int, n_edges: int) -> NDArray[np.bool_]:
    """Bool (len(order),): in that order, cycles some edge of which is in fewer than `most` of those taken before."""
    load = np.zeros(n_edges, np.int32)
    taken = np.zeros(len(order), np.bool_)
    for at in range(len(order)):
        c = order[at]
        for k in range(sizes[c]):
            if load[cycles[c, k] >> 1] < most:
                taken[at] = True
                break
        if taken[at]:
            for k in range(sizes[c]):
                load[cycles[c, k] >> 1] += 1
    return taken


@numba.njit(cache=True, nogil=True)
def gathered(cycles: Int32, sizes: Int64, order: Int64) -> Int32:
    """The entries of the cycles listed, one after another."""
    total = 0
    for c in order:
        total += sizes[c]
    out = np.empty(total, np.int32)
    used = 0
    for c in order:
        out[used : used + sizes[c]] = cycles[c, : sizes[c]]
        used += sizes[c]
    return out


@numba.njit(cache=True, nogil=True)
def one_opt(indptr: Int64, indices: Int32, weights: Float64, sides: NDArray[np.uint8]) -> None:
    """Turns vertices, the first that gains first, until none gains; in place. Weights float64 (2m,)."""
    n = len(indptr) - 1
    gain = np.zeros(n)
    queue, waits = np.arange(n), np.ones(n, np.bool_)
    for v in range(n):
        for entry in range(indptr[v], indptr[v + 1]):
            gain[v] += weights[entry] if sides[v] == sides[indices[entry]] else -weights[entry]
    head, tail, count = 0, 0, n
    scale = 0.0
    for w in weights:
        scale = max(scale, abs(w))
    while count > 0:
        v = queue[head]
        head = (head + 1) % n
        count -= 1
        waits[v] = False
        if (
            gain[v] <= 1e-12 * scale
        ):  # gains are sums with rounding: a smaller one might be turned back for ever
            continue
        sides[v] ^= 1
        gain[v] = -gain[v]
        for entry in range(indptr[v], indptr[v + 1]):
            u = indices[entry]
            gain[u] += 2.0 * (weights[entry] if sides[v] == sides[u] else -weights[entry])
            if not waits[u]:
                waits[u] = True
                queue[tail] = u
                tail = (tail + 1) % n
                count += 1
