"""Regions that grow in a graph around its odd nodes: the state that `sdp.maxcut._growth` works on, and its clock.

How far a node is covered is kept as the radius of the outermost region that holds it and what was wrapped up before, so
that nothing is touched while regions grow. What comes next is in a heap: entries may be early, never late, and are
looked at again when their time has come.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from sdp.maxcut._moats import incident

Int64 = NDArray[np.int64]

NOBODY = -1
OUTSIDE = -2  # the mate of a region that is matched to the outside
NEVER = 2**62
NOW, HEAP, FREE, TREES, STAMP = 0, 1, 2, 3, 4  # places in `Regions.number`


class Regions(NamedTuple):
    """The state of a search. Nodes are numbered from 0 to n - 1, n is the outside; regions from 0 to 2k - 1.

    Attributes:
        ends, lengths: int64 (m, 2) and (m,), of the edges; no loops, lengths even and >= 0.
        at, edges: int64, edges at each node as compressed rows.
        label: int64 (n,), a label of the outermost region that holds a node, or `NOBODY`.
        wrap: int64 (n,), how far a node is covered, less the radius of that region and the label's `offset`.
        owner, offset: int64 (k,), of each label. A blossom takes over the label of the largest region on its ring, so
            that only nodes of the others need a new one.
        name, amount: int64 (2k,), the label of a region and the number of nodes it holds, while it is outermost.
        source: int64 (n,), the odd node from which a node was reached.
        below: int64 (n,), the node that the same region reached before.
        leaf: int64 (n,), the region that an odd node is the seed of.
        shell: int64 (2k,), the node reached last by a region itself, not by those inside it.
        radius, since, rate: int64 (2k,), a region's radius was `radius` at the time `since` and changes by `rate`.
        up: int64 (2k,), the region that holds a region.
        mate: int64 (2k, 2), the odd nodes, inside and outside of a region, along which it is matched.
        parent: int64 (2k, 2), the odd nodes along which a shrinking region hangs on a growing one.
        child, sibling: int64 (2k,), lists of the shrinking regions that hang on a growing one.
        ring: int64 (2k,), the next region of the odd cycle inside a blossom; `inner` one of them.
        joint: int64 (2k, 2), the odd nodes between a region and the next of the ring.
        inner: int64 (2k,), a region on the ring of a blossom, or `NOBODY`.
        keys, items: int64, a heap of times and what happens then: edge e, or m + r for a shrinking region r.
        due: int64 (m + 2k,), when that will be, or `NEVER`.
        free: int64 (2k,), numbers for new regions.
        nodes, pile, mark: int64, scratch.
        number: int64, the time and four counts.
    """

    ends: Int64
    lengths: Int64
    at: Int64
    edges: Int64
    label: Int64
    wrap: Int64
    owner: Int64
    offset: Int64
    name: Int64
    amount: Int64
    source: Int64
    below: Int64
    leaf: Int64
    shell: Int64
    radius: Int64
    since: Int64
    rate: Int64
    up: Int64
    mate: Int64
    parent: Int64
    child: Int64
    sibling: Int64
    ring: Int64
    joint: Int64
    inner: Int64
    keys: Int64
    items: Int64
    due: Int64
    free: Int64
    nodes: Int64
    pile: Int64
    mark: Int64
    number: Int64


@numba.njit(cache=True, nogil=True)
def planted(ends: Int64, lengths: Int64, odd: Int64, n: int) -> Regions:
    """A region of radius 0 around each odd node, growing."""
    m, k = len(ends), len(odd)
    size = 2 * k
    at, edges = incident(ends, n + 1)
    number = np.zeros(5, np.int64)
    number[FREE], number[TREES] = k, k
    s = Regions(
        ends,
        lengths,
        at,
        edges,
        np.full(n, NOBODY),
        np.zeros(n, np.int64),
        np.arange(k),
        np.zeros(k, np.int64),
        np.arange(size),
        np.ones(size, np.int64),
        np.full(n, NOBODY),
        np.full(n, NOBODY),
        np.full(n, NOBODY),
        np.full(size, NOBODY),
        np.zeros(size, np.int64),
        np.zeros(size, np.int64),
        np.zeros(size, np.int64),
        np.full(size, NOBODY),
        np.full((size, 2), NOBODY),
        np.full((size, 2), NOBODY),
        np.full(size, NOBODY),
        np.full(size, NOBODY),
        np.full(size, NOBODY),
        np.full((size, 2), NOBODY),
        np.full(size, NOBODY),
        np.empty(2 * (m + size) + 2, np.int64),
        np.empty(2 * (m + size) + 2, np.int64),
        np.full(m + size, NEVER),
        np.arange(size - 1, -1, -1),
        np.empty(n, np.int64),
        np.empty(size + 1, np.int64),
        np.zeros(size, np.int64),
        number,
    )
    for r in range(k):
        v = odd[r]
        s.label[v] = s.leaf[v] = r
        s.source[v] = s.shell[r] = v
        s.rate[r] = 1
    for r in range(k):
        look(s, odd[r])
    return s


@numba.njit(cache=True, nogil=True)
def top(s: Regions, v: int) -> int:
    """The outermost region that holds a node that is held."""
    return int(s.owner[s.label[v]])


@numba.njit(cache=True, nogil=True)
def level(s: Regions, r: int) -> int:
    """The radius at which an outermost region reached its last node, 0 where it has none of its own."""
    v = s.shell[r]
    return 0 if v < 0 else int(-s.wrap[v] - s.offset[s.label[v]])


@numba.njit(cache=True, nogil=True)
def radius(s: Regions, r: int) -> int:
    return int(s.radius[r] + s.rate[r] * (s.number[NOW] - s.since[r]))


@numba.njit(cache=True, nogil=True)
def turn(s: Regions, r: int, rate: int) -> None:
    """Has a region grow, shrink or stay from now on."""
    s.radius[r] = radius(s, r)
    s.since[r] = s.number[NOW]
    s.rate[r] = rate


@numba.njit(cache=True, nogil=True)
def uncovered(s: Regions, e: int) -> tuple[int, int]:
    """What is not yet covered of an edge, and how fast it dwindles; rate 0 where its ends are in one region."""
    rest, rate, one = s.lengths[e], 0, NOBODY
    for side in range(2):
        v = s.ends[e, side]
        label = s.label[v] if v < len(s.label) else NOBODY
        if label < 0:
            continue
        if label == one:
            return rest, 0
        one = label
        r = s.owner[label]
        rest -= s.wrap[v] + s.offset[label] + radius(s, r)
        rate += s.rate[r]
    return rest, rate


@numba.njit(cache=True, nogil=True)
def foresee(s: Regions, e: int) -> None:
    """Puts into the heap when an edge will be covered."""
    rest, rate = uncovered(s, e)
    if rate > 0:
        push(s, s.number[NOW] + rest // rate, e)


@numba.njit(cache=True, nogil=True)
def look(s: Regions, v: int) -> None:
    for place in range(s.at[v], s.at[v + 1]):
        foresee(s, s.edges[place])


@numba.njit(cache=True, nogil=True)
def look_around(s: Regions, r: int) -> None:
    """Foresees anew around a region that grows faster than before."""
    for place in range(held(s, r)):
        look(s, s.nodes[place])


@numba.njit(cache=True, nogil=True)
def pile_parts(s: Regions, r: int, high: int) -> int:
    """Puts the parts of a region, if it has any, on the pile; the height it has then."""
    first = s.inner[r]
    if first >= 0:
        c = first
        while True:
            s.pile[high] = c
            high += 1
            c = s.ring[c]
            if c == first:
                break
    return high


@numba.njit(cache=True, nogil=True)
def held(s: Regions, r: int) -> int:
    """Writes the nodes that a region holds into `nodes`; how many there are."""
    count, high = 0, 1
    s.pile[0] = r
    while high:
        high -= 1
        x = s.pile[high]
        v = s.shell[x]
        while v >= 0:
            s.nodes[count] = v
            count += 1
            v = s.below[v]
        high = pile_parts(s, x, high)
    return count


@numba.njit(cache=True, nogil=True)
def foresee_shrinking(s: Regions, r: int) -> None:
    push(s, s.number[NOW] + radius(s, r) - level(s, r), len(s.ends) + r)


@numba.njit(cache=True, nogil=True)
def within(s: Regions, blossom: int, v: int) -> int:
    """The region on the ring of a blossom that holds an odd node."""
    r = s.leaf[v]
    while s.up[r] != blossom:
        r = s.up[r]
    return int(r)


@numba.njit(cache=True, nogil=True)
def push(s: Regions, key: int, item: int) -> None:
    if key >= s.due[item]:
        return
    s.due[item] = key
    if s.number[HEAP] == len(s.keys):
        sweep(s)
    hole = s.number[HEAP]
    s.number[HEAP] += 1
    rise(s, hole, key, item)


@numba.njit(cache=True, nogil=True)
def rise(s: Regions, hole: int, key: int, item: int) -> None:
    while hole:
        above = (hole - 1) // 2
        if s.keys[above] <= key:
            break
        s.keys[hole], s.items[hole] = s.keys[above], s.items[above]
        hole = above
    s.keys[hole], s.items[hole] = key, item


@numba.njit(cache=True, nogil=True)
def sweep(s: Regions) -> None:
    """Leaves in the heap what is due, at most one entry an item: half of it at most."""
    kept = 0
    for place in range(s.number[HEAP]):
        key, item = s.keys[place], s.items[place]
        if s.due[item] == key:
            s.due[item] = -key - 1  # no second time
            rise(s, kept, key, item)
            kept += 1
    s.number[HEAP] = kept
    for place in range(kept):
        s.due[s.items[place]] = s.keys[place]


@numba.njit(cache=True, nogil=True)
def pop(s: Regions) -> tuple[int, int]:
    key, item = s.keys[0], s.items[0]
    s.number[HEAP] -= 1
    size = s.number[HEAP]
    last_key, last = s.keys[size], s.items[size]
    hole = 0
    while True:
        low = 2 * hole + 1
        if low >= size:
            break
        if low + 1 < size and s.keys[low + 1] < s.keys[low]:
            low += 1
        if s.keys[low] >= last_key:
            break
        s.keys[hole], s.items[hole] = s.keys[low], s.items[low]
        hole = low
    s.keys[hole], s.items[hole] = last_key, last
    return key, item
