"""Least T-joins and their duals by growing regions (Edmonds 1965; as sparse blossom, Higgott and Gidney 2025).

Every odd node is the seed of a region that grows along edges. Regions that meet are matched, hang on as branches of an
alternating tree, whose regions grow and shrink by turns, or close an odd cycle, which becomes a region of its own, a
blossom. What the regions have grown by is a dual: no edge is covered beyond its length at any time.

Times are integers: lengths are even, and two regions that grow towards each other have covered an even rest.
"""

from __future__ import annotations

import numba

from sdp.maxcut._regions import (
    FREE,
    HEAP,
    NEVER,
    NOBODY,
    NOW,
    OUTSIDE,
    STAMP,
    TREES,
    Regions,
    foresee,
    foresee_shrinking,
    held,
    level,
    look,
    look_around,
    pop,
    radius,
    top,
    turn,
    uncovered,
    within,
)


@numba.njit(cache=True, nogil=True)
def grow(s: Regions, events: int) -> int:
    """Grows for a number of events at most; how many trees are left, negative if nothing will ever match them.

    Complexity: O(log m) an event; an event that makes a blossom costs as much as its regions hold but for the largest,
    one that ends a tree as much as its shrinking regions hold.
    """
    m = len(s.ends)
    while s.number[TREES] > 0 and events > 0:
        if s.number[HEAP] == 0:
            return -1
        key, item = pop(s)
        if key != s.due[item]:
            continue
        events -= 1
        s.due[item] = NEVER
        s.number[NOW] = key
        if item >= m:
            _shrunk(s, item - m)
        else:
            _met(s, item)
    return int(s.number[TREES])


@numba.njit(cache=True, nogil=True)
def _met(s: Regions, e: int) -> None:
    """An edge is covered as a whole."""
    rest, rate = uncovered(s, e)
    if rate <= 0:
        return
    if rest > 0:  # a region stood still for a while
        foresee(s, e)
        return
    u, v = s.ends[e, 0], s.ends[e, 1]
    n = len(s.label)
    if u >= n or s.label[u] < 0 or s.rate[top(s, u)] <= 0:
        u, v = v, u
    one = top(s, u)  # it grows
    if v >= n:
        _dissolve(s, one)
        _match_along(s, one, s.source[u], OUTSIDE)
    elif s.label[v] < 0:
        _reach(s, one, u, v)
    else:
        _collide(s, one, top(s, v), s.source[u], s.source[v])


@numba.njit(cache=True, nogil=True)
def _reach(s: Regions, r: int, u: int, v: int) -> None:
    s.label[v], s.source[v] = s.label[u], s.source[u]
    s.wrap[v] = -radius(s, r) - s.offset[s.label[u]]
    s.amount[r] += 1
    s.below[v] = s.shell[r]
    s.shell[r] = v
    look(s, v)


@numba.njit(cache=True, nogil=True)
def _collide(s: Regions, one: int, other: int, a: int, b: int) -> None:
    """A growing region meets another one, which does not shrink, between the odd nodes a and b."""
    if s.rate[other] > 0:
        stem = _stem(s, one, other)
        if stem >= 0:
            _bloom(s, stem, one, other, a, b)
            return
        _dissolve(s, one)
        _dissolve(s, other)
        _match_along(s, one, a, b)
        _match_along(s, other, b, a)
    elif s.mate[other, 1] == OUTSIDE:
        _dissolve(s, one)
        _match_along(s, one, a, b)
        s.mate[other, 0], s.mate[other, 1] = b, a
    else:
        s.parent[other, 0], s.parent[other, 1] = b, a
        s.sibling[other] = s.child[one]
        s.child[one] = other
        turn(s, other, -1)
        foresee_shrinking(s, other)
        mate = top(s, s.mate[other, 1])
        turn(s, mate, 1)
        look_around(s, mate)


@numba.njit(cache=True, nogil=True)
def _above(s: Regions, r: int) -> int:
    """The growing region next on the way from a growing one to the root, or `NOBODY`."""
    if s.mate[r, 1] < 0:
        return NOBODY
    return top(s, s.parent[top(s, s.mate[r, 1]), 1])


@numba.njit(cache=True, nogil=True)
def _stem(s: Regions, one: int, other: int) -> int:
    """Where the ways of two growing regions to the root meet, or `NOBODY` if they belong to two trees."""
    s.number[STAMP] += 1
    stamp = s.number[STAMP]
    while one >= 0 or other >= 0:
        if one >= 0:
            if s.mark[one] == stamp:
                return one
            s.mark[one] = stamp
            one = _above(s, one)
        one, other = other, one
    return NOBODY


@numba.njit(cache=True, nogil=True)
def _match_along(s: Regions, r: int, a: int, b: int) -> None:
    """Matches a region from its odd node a to b, and what hung above it the other way round, up to the root."""
    while True:
        before = s.mate[r, 1]
        s.mate[r, 0], s.mate[r, 1] = a, b
        if before < 0:
            return
        between = top(s, before)
        s.mate[between, 0], s.mate[between, 1] = s.parent[between, 0], s.parent[between, 1]
        a, b = s.parent[between, 1], s.parent[between, 0]
        r = top(s, a)


@numba.njit(cache=True, nogil=True)
def _dissolve(s: Regions, r: int) -> None:
    """Ends the growth of the tree that a growing region belongs to."""
    while _above(s, r) >= 0:
        r = _above(s, r)
    s.number[TREES] -= 1
    # The nodes of the tree are collected first: `pile` is needed for looking around.
    first, last = r, r
    s.ring[r] = NOBODY
    while r >= 0:
        turn(s, r, 0)
        c = s.child[r]
        s.child[r] = NOBODY
        while c >= 0:
            mate = top(s, s.mate[c, 1])
            s.ring[last], s.ring[c], s.ring[mate] = c, mate, NOBODY
            last = mate
            turn(s, c, 0)
            c = s.sibling[c]
        r = s.ring[r]
        if r >= 0:  # a shrinking one, whose mate comes next
            r = s.ring[r]
    shrunk = s.ring[first]
    while shrunk >= 0:
        look_around(s, shrunk)
        shrunk = s.ring[s.ring[shrunk]]


@numba.njit(cache=True, nogil=True)
def _bloom(s: Regions, stem: int, one: int, other: int, a: int, b: int) -> None:
    """Makes one growing region of the cycle from the stem down to two growing regions that meet between a and b."""
    s.number[FREE] -= 1
    new = s.free[s.number[FREE]]
    s.shell[new], s.up[new], s.child[new], s.inner[new] = NOBODY, NOBODY, NOBODY, stem
    s.radius[new], s.since[new], s.rate[new] = 0, s.number[NOW], 1
    s.mate[new] = s.mate[stem]
    # From `other` up to the stem the ring goes the way of the tree, from the stem down to `one` against it.
    r = other
    while r != stem:
        between = top(s, s.mate[r, 1])
        s.ring[r], s.joint[r] = between, s.mate[r]
        s.joint[between] = s.parent[between]
        r = top(s, s.parent[between, 1])
        s.ring[between] = r
    follower, x, y = other, a, b
    r = one
    while True:
        s.ring[r], s.joint[r, 0], s.joint[r, 1] = follower, x, y
        if r == stem:
            break
        between = top(s, s.mate[r, 1])
        s.ring[between], s.joint[between, 0], s.joint[between, 1] = r, s.mate[r, 1], s.mate[r, 0]
        follower, x, y = between, s.parent[between, 1], s.parent[between, 0]
        r = top(s, x)
    # What shrank before grows now: everything inside is looked at when all of it belongs to the new region.
    r = largest = stem
    s.amount[new] = 0
    while True:
        s.up[r] = new
        s.mark[r] = s.rate[r]
        turn(s, r, 0)
        s.amount[new] += s.amount[r]
        if s.amount[r] > s.amount[largest]:
            largest = r
        r = s.ring[r]
        if r == stem:
            break
    s.name[new] = s.name[largest]
    s.owner[s.name[new]] = new
    s.offset[s.name[new]] += s.radius[largest]
    while True:
        c = s.child[r]
        s.child[r] = NOBODY
        while c >= 0:
            onward = s.sibling[c]
            if s.up[c] != new:
                s.sibling[c] = s.child[new]
                s.child[new] = c
            c = onward
        if r != largest:
            _relabel(s, r, s.name[new], s.offset[s.name[r]] + s.radius[r] - s.offset[s.name[new]])
        r = s.ring[r]
        if r == stem:
            break
    while True:
        if s.mark[r] < 0:
            look_around(s, r)
        s.mark[r] = 0
        r = s.ring[r]
        if r == stem:
            break


@numba.njit(cache=True, nogil=True)
def _relabel(s: Regions, r: int, label: int, wrapped: int) -> None:
    """Gives the nodes that a region holds another label, under which they are wrapped that much more."""
    for place in range(held(s, r)):
        s.label[s.nodes[place]] = label
        s.wrap[s.nodes[place]] += wrapped


@numba.njit(cache=True, nogil=True)
def _shrunk(s: Regions, r: int) -> None:
    """A shrinking region is about to let go of a node, or has no more radius."""
    if s.rate[r] >= 0:
        return
    v = s.shell[r]
    if radius(s, r) > level(s, r):  # it stood still for a while
        foresee_shrinking(s, r)
    elif v < 0:
        _wither(s, r)
    elif s.leaf[v] == r:
        # Its neighbours in the tree meet at its odd node.
        a, b = s.parent[r, 1], s.mate[r, 1]
        _bloom(s, top(s, a), top(s, a), top(s, b), a, b)
    else:
        s.shell[r] = s.below[v]
        s.label[v] = NOBODY
        s.amount[r] -= 1
        look(s, v)
        foresee_shrinking(s, r)


@numba.njit(cache=True, nogil=True)
def _reverse(s: Regions, start: int) -> None:
    """Turns a ring round."""
    before, r = start, s.ring[start]
    x, y = s.joint[start, 0], s.joint[start, 1]
    while True:
        onward = s.ring[r]
        next_x, next_y = s.joint[r, 0], s.joint[r, 1]
        s.ring[r], s.joint[r, 0], s.joint[r, 1] = before, y, x
        if r == start:
            break
        before, r, x, y = r, onward, next_x, next_y


@numba.njit(cache=True, nogil=True)
def _wither(s: Regions, blossom: int) -> None:
    """Takes apart a shrinking blossom without radius: an even way through it stays in the tree, the rest is matched."""
    entry = within(s, blossom, s.parent[blossom, 0])
    leave = within(s, blossom, s.mate[blossom, 0])
    count, r = 0, entry
    while r != leave:
        count, r = count + 1, s.ring[r]
    if count % 2:
        _reverse(s, entry)
    r = largest = entry
    while True:
        s.up[r] = NOBODY
        s.since[r] = s.number[NOW]
        if s.name[r] == s.name[blossom]:
            s.owner[s.name[r]] = r
            largest = r
        else:
            _relabel(s, r, s.name[r], s.offset[s.name[blossom]] - s.radius[r] - s.offset[s.name[r]])
        r = s.ring[r]
        if r == entry:
            break
    s.offset[s.name[largest]] -= s.radius[largest]
    # It hung in the list of a growing region.
    above = top(s, s.parent[blossom, 1])
    s.parent[entry] = s.parent[blossom]
    s.sibling[entry] = s.sibling[blossom]
    if s.child[above] == blossom:
        s.child[above] = entry
    else:
        c = s.child[above]
        while s.sibling[c] != blossom:
            c = s.sibling[c]
        s.sibling[c] = entry
    r = entry
    while r != leave:
        grown = s.ring[r]
        following = s.ring[grown]
        s.mate[r] = s.joint[r]
        s.mate[grown, 0], s.mate[grown, 1] = s.joint[r, 1], s.joint[r, 0]
        s.parent[following, 0], s.parent[following, 1] = s.joint[grown, 1], s.joint[grown, 0]
        s.child[grown], s.sibling[following] = following, NOBODY
        s.rate[r], s.rate[grown] = -1, 1
        r = following
    s.rate[leave] = -1
    s.mate[leave] = s.mate[blossom]
    r = s.ring[leave]
    while r != entry:
        other = s.ring[r]
        s.mate[r] = s.joint[r]
        s.mate[other, 0], s.mate[other, 1] = s.joint[r, 1], s.joint[r, 0]
        r = s.ring[other]
    s.rate[blossom] = 0
    s.inner[blossom] = NOBODY
    s.due[len(s.ends) + blossom] = NEVER
    s.free[s.number[FREE]] = blossom
    s.number[FREE] += 1
    r = entry
    while True:
        if s.rate[r] < 0:
            foresee_shrinking(s, r)
        else:
            look_around(s, r)
        r = s.ring[r]
        if r == entry:
            break
