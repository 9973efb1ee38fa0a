"""The inner loops of `sdp.maxcut.reduce`: a graph that shrinks in place, and the way back.

Every vertex has a doubly linked list of half-edges; half-edge h and its mirror image h ^ 1 belong to edge h >> 1. No
rule leaves more edges than it found, so edges that vanish make room for those that appear: nothing is allocated.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from sdp.maxcut.bound import UNIT_ROUNDOFF

DEGREE_1, DEGREE_2, DEGREE_3, DOMINATING, TWINS = range(5)
RULES = ("degree 1", "degree 2", "degree 3", "dominating edge", "twins")
HUB = 1024  # degree from which on no edge between two such vertices is looked for on behalf of a small one
SCANNED = (
    32  # degree up to which a vertex is searched for a dominating edge whenever something near it changed
)
_NONE = -1
_SPLITTER = 2.0**27 + 1  # cuts the 53 bits of a float64 into two halves
_LEAST_PRODUCT = 1e-200  # whose rounding error is still no subnormal number


class Network(NamedTuple):
    """The graph that shrinks.

    Attributes:
        head: int32 (n,), a half-edge of each vertex or -1.
        degree: int32 (n,).
        to: int32 (2m,), the vertex at the far end of a half-edge.
        after, before: int32 (2m,), its neighbours in the list, or -1.
        weight: float64 (m,).
        free: int32 (m,), a stack of unused edges; its height is counts[0].
        counts: int64 (1 + rules,), height of the stack, then how many vertices each rule removed.
        queue: int32 (n,), a ring of the vertices to look at.
        ring: int64 (2,), where the ring begins and how many it holds.
        waiting: bool (n,), whether a vertex is in the ring.
        alive: bool (n,).
        touched: int32 (n,), changes at a vertex since it was last searched.
        lost: float64 (1,), what rounding may have cost, in units of the weights.
    """

    head: NDArray[np.int32]
    degree: NDArray[np.int32]
    to: NDArray[np.int32]
    after: NDArray[np.int32]
    before: NDArray[np.int32]
    weight: NDArray[np.float64]
    free: NDArray[np.int32]
    counts: NDArray[np.int64]
    queue: NDArray[np.int32]
    ring: NDArray[np.int64]
    waiting: NDArray[np.bool_]
    alive: NDArray[np.bool_]
    touched: NDArray[np.int32]
    lost: NDArray[np.float64]


class Log(NamedTuple):
    """What was done, one record for each vertex removed, in order.

    Attributes:
        length: int64 (1,).
        vertex: int32 (n,), the vertex removed.
        rule: int8 (n,), index into `RULES`.
        ends: int32 (n, 3), the vertices its side depends on; -1 beyond their number.
        weights: float64 (n, 3), the weights of the edges to them; for a merger the sign alone.
        constant: float64 (n,), what the step added to every cut.
    """

    length: NDArray[np.int64]
    vertex: NDArray[np.int32]
    rule: NDArray[np.int8]
    ends: NDArray[np.int32]
    weights: NDArray[np.float64]
    constant: NDArray[np.float64]


@numba.njit(cache=True, nogil=True)
def linked(n: int, u: NDArray[np.int32], v: NDArray[np.int32], w: NDArray[np.float64]) -> Network:
    """The network of n vertices and these edges, none twice, none of weight 0; all vertices wait to be looked at."""
    m = len(u)
    head = np.full(n, _NONE, np.int32)
    degree = np.zeros(n, np.int32)
    to = np.empty(2 * m, np.int32)
    after = np.full(2 * m, _NONE, np.int32)
    before = np.full(2 * m, _NONE, np.int32)
    net = Network(
        head,
        degree,
        to,
        after,
        before,
        w.copy(),
        np.empty(m, np.int32),
        np.zeros(1 + len(RULES), np.int64),
        np.arange(n).astype(np.int32),
        np.array([0, n]),
        np.ones(n, np.bool_),
        np.ones(n, np.bool_),
        np.zeros(n, np.int32),
        np.zeros(1),
    )
    for e in range(m):
        to[2 * e], to[2 * e + 1] = v[e], u[e]
        _link(net, 2 * e, u[e])
        _link(net, 2 * e + 1, v[e])
    return net


@numba.njit(cache=True, nogil=True)
def empty_log(n: int) -> Log:
    """Room for n records."""
    return Log(
        np.zeros(1, np.int64),
        np.empty(n, np.int32),
        np.empty(n, np.int8),
        np.full((n, 3), _NONE, np.int32),
        np.zeros((n, 3)),
        np.zeros(n),
    )


@numba.njit(cache=True, nogil=True)
def eliminate(net: Network, log: Log, allowed: NDArray[np.bool_], exact: bool) -> None:
    """Applies the allowed rules of bounded degree and of dominating edges until none applies.

    Args:
        net: changed in place.
        log: gets a record for each vertex removed.
        allowed: bool (rules,).
        exact: whether all weights are integers far below 2^53; otherwise `net.lost` gathers what rounding may cost.
    """
    while net.ring[1] > 0:
        u = net.queue[net.ring[0]]
        net.ring[0] = (net.ring[0] + 1) % len(net.queue)
        net.ring[1] -= 1
        net.waiting[u] = False
        d = net.degree[u]
        if not net.alive[u] or d == 0:
            continue
        if d <= 3 and allowed[d - 1] and _remove_small(net, log, u, exact):
            continue
        net.touched[u] += 1
        if allowed[DOMINATING] and (d <= SCANNED or net.touched[u] >= d):
            net.touched[u] = 0
            _contract_dominating(net, log, u, exact)


@numba.njit(cache=True, nogil=True)
def _remove_small(net: Network, log: Log, u: int, exact: bool) -> bool:
    """Removes a vertex of degree 1 to 3; False where halving would leave the grid of the weights, or between hubs."""
    d = net.degree[u]
    if d > 1 and _hubs(net, u) > 1:
        return False
    k = log.length[0]
    h = net.head[u]
    for i in range(d):
        log.ends[k, i] = net.to[h]
        log.weights[k, i] = net.weight[h >> 1]
        h = net.after[h]
    a, b, c = log.ends[k]
    w1, w2, w3 = log.weights[k]
    best = max(0.0, w1 + w2 + w3)  # of the edges at u where all its neighbours lie on one side
    apart_1 = max(w1, w2 + w3) - best  # more than that where a alone lies on the other side
    apart_2 = max(w2, w1 + w3) - best
    apart_3 = max(w3, w1 + w2) - best
    if d == 3 and exact and (apart_1 + apart_2 - apart_3) % 2.0 != 0.0:
        log.ends[k] = _NONE
        log.weights[k] = 0.0
        return False
    while net.head[u] >= 0:
        _remove(net, net.head[u] >> 1)
    if not exact:
        net.lost[0] += 16 * UNIT_ROUNDOFF * (abs(w1) + abs(w2) + abs(w3))
    if d == 1:
        _wait(net, a)
    elif d == 2:
        _add(net, a, b, apart_1, exact)
    else:
        _add(net, a, b, (apart_1 + apart_2 - apart_3) / 2, exact)
        _add(net, a, c, (apart_1 + apart_3 - apart_2) / 2, exact)
        _add(net, b, c, (apart_2 + apart_3 - apart_1) / 2, exact)
    _record(net, log, u, d - 1, best)
    return True


@numba.njit(cache=True, nogil=True)
def _hubs(net: Network, u: int) -> int:
    """How many neighbours of u have so many edges that looking for one between two of them takes long."""
    hubs = 0
    h = net.head[u]
    while h >= 0:
        hubs += net.degree[net.to[h]] >= HUB
        h = net.after[h]
    return hubs


@numba.njit(cache=True, nogil=True)
def _contract_dominating(net: Network, log: Log, u: int, exact: bool) -> None:
    """Merges u with a neighbour v where |w_uv| is at least the sum of all other |w_ux|."""
    total, largest, heaviest = 0.0, 0.0, _NONE
    h = net.head[u]
    while h >= 0:
        size = abs(net.weight[h >> 1])
        total += size
        if size > largest:
            largest, heaviest = size, h
        h = net.after[h]
    if 2.0 * largest < total:
        return
    if not exact:
        net.lost[0] += 4 * UNIT_ROUNDOFF * net.degree[u] * total
    sign = -1.0 if net.weight[heaviest >> 1] > 0.0 else 1.0
    merge(net, log, u, net.to[heaviest], sign, DOMINATING, exact)


@numba.njit(cache=True, nogil=True)
def merge(net: Network, log: Log, u: int, v: int, sign: float, rule: int, exact: bool) -> None:
    """Makes u and v one vertex, s_u = sign s_v; the one of fewer edges goes."""
    if net.degree[u] > net.degree[v]:
        u, v = v, u
    k = log.length[0]
    log.ends[k, 0] = v
    log.weights[k, 0] = sign
    constant = 0.0
    while net.head[u] >= 0:
        h = net.head[u]
        x, w = net.to[h], net.weight[h >> 1]
        _remove(net, h >> 1)
        if sign < 0.0:
            constant += w  # cut where s_x = s_v, and for x = v always
            if not exact:
                net.lost[0] += UNIT_ROUNDOFF * abs(constant)
        if x != v:
            _add(net, v, x, sign * w, exact)
    _wait(net, v)
    _record(net, log, u, rule, constant)


@numba.njit(cache=True, nogil=True)
def merge_twins(
    net: Network, log: Log, order: NDArray[np.int64], keys: NDArray[np.uint64], exact: bool
) -> int:
    """Merges vertices whose edges lead to the same vertices with proportional weights; returns how many.

    Args:
        net: changed in place; merged vertices wait to be looked at.
        log: gets a record for each vertex removed.
        order: int64 (n,), vertices sorted by key.
        keys: uint64 (n,), `neighbourhood_keys`.
        exact: as in `eliminate`.
    """
    merged = 0
    weight_of = np.zeros(len(order))
    mark = np.full(len(order), _NONE, np.int64)
    begin = 0
    while begin < len(order):
        end = begin + 1
        while end < len(order) and keys[order[end]] == keys[order[begin]]:
            end += 1
        for i in range(begin, end):
            first = order[i]
            if i + 1 == end or not net.alive[first] or net.degree[first] == 0:
                continue
            h = net.head[first]
            while h >= 0:
                mark[net.to[h]] = first
                weight_of[net.to[h]] = net.weight[h >> 1]
                h = net.after[h]
            for j in range(i + 1, end):
                other = order[j]
                # Earlier mergers change neighbourhoods: keys only say whom to compare.
                if not net.alive[other] or net.degree[other] != net.degree[first]:
                    continue
                sign = _proportional(net, other, first, mark, weight_of)
                if sign != 0.0:
                    merge(net, log, other, first, sign, TWINS, exact)
                    merged += 1
                    if not net.alive[first]:
                        break
                    h = net.head[first]
                    while h >= 0:
                        mark[net.to[h]] = first
                        weight_of[net.to[h]] = net.weight[h >> 1]
                        h = net.after[h]
        begin = end
    return merged


@numba.njit(cache=True, nogil=True)
def _proportional(
    net: Network,
    u: int,
    v: int,
    mark: NDArray[np.int64],
    weight_of: NDArray[np.float64],
) -> float:
    """Sign of alpha where w_u. = alpha w_v., from v's edges in `mark` and `weight_of`; 0 where there is none."""
    h = net.head[u]
    if mark[net.to[h]] != v:
        return 0.0
    here, there = net.weight[h >> 1], weight_of[net.to[h]]
    while h >= 0:
        x, w = net.to[h], net.weight[h >> 1]
        if mark[x] != v:
            return 0.0
        if not _same_product(w, there, weight_of[x], here):
            return 0.0
        h = net.after[h]
    return 1.0 if (here > 0.0) == (there > 0.0) else -1.0


@numba.njit(cache=True, nogil=True)
def _same_product(a: float, b: float, c: float, d: float) -> bool:
    """Whether ab = cd exactly; False where the products come near the ends of float64."""
    one, other = a * b, c * d
    return one == other and abs(one) > _LEAST_PRODUCT and _product_error(a, b) == _product_error(c, d)


@numba.njit(cache=True, nogil=True)
def _product_error(a: float, b: float) -> float:
    """The product ab less its rounded value, exactly (Dekker 1971)."""
    a_high = _SPLITTER * a - (_SPLITTER * a - a)
    b_high = _SPLITTER * b - (_SPLITTER * b - b)
    a_low, b_low = a - a_high, b - b_high
    return a_low * b_low - (((a * b - a_high * b_high) - a_low * b_high) - a_high * b_low)


@numba.njit(cache=True, nogil=True)
def neighbourhood_keys(net: Network) -> NDArray[np.uint64]:
    """uint64 (n,), equal for vertices with the same neighbours and proportional weights; 0 for vertices without any.

    Weights count by their ratio to that of the first neighbour. Equal ratios are rounded to the same number.
    """
    keys = np.zeros(len(net.head), np.uint64)
    for u in range(len(keys)):
        first = len(keys)
        unit = 1.0
        h = net.head[u]
        while h >= 0:
            if net.to[h] < first:
                first, unit = net.to[h], net.weight[h >> 1]
            h = net.after[h]
        h = net.head[u]
        while h >= 0:
            mantissa, exponent = math.frexp(net.weight[h >> 1] / unit)
            ratio = np.uint64(np.int64(mantissa * 2.0**53)) ^ (np.uint64(np.int64(exponent)) << np.uint64(54))
            keys[u] += _mixed(_mixed(np.uint64(net.to[h] + 1)) ^ ratio)
            h = net.after[h]
    return keys


@numba.njit(cache=True, nogil=True, inline="always")
def _mixed(word: np.uint64) -> np.uint64:
    """The finaliser of splitmix64, which makes sums of small numbers distinct."""
    word = word * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@numba.njit(cache=True, nogil=True)
def edges_left(net: Network) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """The edges of the network, each once: u < v, and the weight."""
    m = 0
    for u in range(len(net.head)):
        m += net.degree[u]
    m //= 2
    us, vs, ws = np.empty(m, np.int32), np.empty(m, np.int32), np.empty(m)
    k = 0
    for u in range(len(net.head)):
        h = net.head[u]
        while h >= 0:
            if u < net.to[h]:
                us[k], vs[k], ws[k] = u, net.to[h], net.weight[h >> 1]
                k += 1
            h = net.after[h]
    return us, vs, ws


@numba.njit(cache=True, nogil=True)
def lift(log: Log, sides: NDArray[np.uint8]) -> None:
    """Gives every removed vertex its best side, the last removed first; sides uint8 (n,) is completed in place."""
    for k in range(log.length[0] - 1, -1, -1):
        u, first = log.vertex[k], log.ends[k, 0]
        if log.rule[k] >= DOMINATING:
            sides[u] = sides[first] if log.weights[k, 0] > 0.0 else 1 - sides[first]
            continue
        pull = 0.0  # towards side 1: weight of the edges to vertices on side 0, less that of the others
        for i in range(log.rule[k] + 1):
            w = log.weights[k, i]
            pull += w if sides[log.ends[k, i]] == 0 else -w
        sides[u] = 1 if pull > 0.0 else 0


@numba.njit(cache=True, nogil=True)
def _record(net: Network, log: Log, u: int, rule: int, constant: float) -> None:
    k = log.length[0]
    log.vertex[k], log.rule[k], log.constant[k] = u, rule, constant
    log.length[0] = k + 1
    net.alive[u] = False
    net.counts[1 + rule] += 1


@numba.njit(cache=True, nogil=True)
def _wait(net: Network, u: int) -> None:
    if not net.waiting[u]:
        net.waiting[u] = True
        net.queue[(net.ring[0] + net.ring[1]) % len(net.queue)] = u
        net.ring[1] += 1


@numba.njit(cache=True, nogil=True)
def _add(net: Network, u: int, v: int, w: float, exact: bool) -> None:
    """Adds w to the weight between u and v; an edge of weight 0 vanishes. Both wait to be looked at."""
    _wait(net, u)
    _wait(net, v)
    if w == 0.0:
        return
    h = _between(net, u, v)
    if h < 0:
        net.counts[0] -= 1
        e = net.free[net.counts[0]]
        net.to[2 * e], net.to[2 * e + 1] = v, u
        net.weight[e] = w
        _link(net, 2 * e, u)
        _link(net, 2 * e + 1, v)
        return
    weight = net.weight[h >> 1] + w
    if not exact:
        net.lost[0] += UNIT_ROUNDOFF * abs(weight)
    net.weight[h >> 1] = weight
    if weight == 0.0:
        _remove(net, h >> 1)


@numba.njit(cache=True, nogil=True)
def _between(net: Network, u: int, v: int) -> int:
    """The half-edge from u to v, or -1: a walk along the shorter list."""
    turned = 0
    if net.degree[u] > net.degree[v]:
        u, v, turned = v, u, 1
    h = int(net.head[u])
    while h >= 0 and net.to[h] != v:
        h = int(net.after[h])
    return h ^ turned if h >= 0 else _NONE


@numba.njit(cache=True, nogil=True)
def _link(net: Network, h: int, u: int) -> None:
    first = net.head[u]
    net.after[h], net.before[h] = first, _NONE
    if first >= 0:
        net.before[first] = h
    net.head[u] = h
    net.degree[u] += 1


@numba.njit(cache=True, nogil=True)
def _remove(net: Network, e: int) -> None:
    for h in (2 * e, 2 * e + 1):
        u, after, before = net.to[h ^ 1], net.after[h], net.before[h]
        if before >= 0:
            net.after[before] = after
        else:
            net.head[u] = after
        if after >= 0:
            net.before[after] = before
        net.degree[u] -= 1
    net.free[net.counts[0]] = e
    net.counts[0] += 1
