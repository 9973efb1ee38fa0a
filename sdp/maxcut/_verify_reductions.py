"""The part of the checker that does exact reductions again: what they add to every cut, and the graph they leave.

A step takes a vertex out, and may only make what is proved weaker.

- Degrees 1 to 3, weights w1, w2, w3 (0 where there is no such edge) to a, b, c: the constant grows by
  f = max(0, w1 + w2 + w3), and with d1 = max(w1, w2 + w3) - f and d2, d3 likewise ab gains (d1 + d2 - d3) / 2, ac and
  bc likewise, rounded up where the unit is too coarse.
- A merger puts x where a is, or across from it, and pays what a cut may lose by that: for a dominating edge at most
  the sum of the other |w_xy| less |w_xa|, for twins at most sum_y |w_xy - (p / q) w_ay| for any ratio p / q.

Where weights are integers nothing is ever paid; where the solver rounded, next to nothing: more is refused, though it
would be valid.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from sdp.maxcut._verify_numbers import Progress, Weights, arrays, demand

_HALVINGS = 40  # of the unit, before weights are rounded up
_FREE = 30  # bits: so far below the sum of |w| all payments must stay


def reduced(graph: Weights, part: dict[str, Any], progress: Progress) -> tuple[Fraction, Weights]:
    """What the steps add to every cut, and the graph that they leave.

    Args:
        graph: before the first step.
        part: `removed`, `rules` (1 to 3: degrees; 4 and 5: dominating edge and twins, negative where sides are
            opposite), `ends` and the `pairs` of vertices between which edges are left.
        progress: called with a stage, steps done and steps.

    Returns:
        A constant and a graph: maxcut(graph) <= constant + maxcut(left).

    Raises:
        Rejected: a step is not what its rule allows, or other edges are left.

    Complexity: 10 microseconds a step.
    """
    near: list[Any] = [{} for _ in range(graph.n)]
    constant = 0

    def add(a: int, b: int, w: int) -> None:
        w += near[a].pop(b, 0)
        near[b].pop(a, 0)
        if w:
            near[a][b] = near[b][a] = w

    for a, b, w in zip(graph.u.tolist(), graph.v.tolist(), graph.w.tolist(), strict=True):
        add(a, b, w << _HALVINGS)
    whole, paid = int(np.abs(graph.w).sum()) << _HALVINGS, 0
    removed, rules, ends = arrays(part, removed="<i4", rules="|i1", ends="<i4")
    steps = zip(removed.tolist(), rules.tolist(), ends.reshape(-1, 3).tolist(), strict=True)
    for step, (x, rule, (a, b, c)) in enumerate(steps):
        if step % 10000 == 0:
            progress("reductions", step, removed.size)
        demand(rule in (1, 2, 3, 4, -4, 5, -5), f"reductions: step {step:,} has no such rule.")
        far = (a, b, c)[: rule if 0 < rule < 4 else 1]
        sound = min(x, *far) >= 0 and (a, b, c)[len(far) :] == (-1, -1)[: 3 - len(far)]
        sound = sound and len({x, *far}) == 1 + len(far) and all(near[y] is not None for y in (x, *far))
        demand(sound, f"reductions: step {step:,} has no such vertices.")
        edges, near[x] = near[x], None
        for y in edges:
            del near[y][x]
        if 0 < rule < 4:
            w1, w2, w3 = [edges.pop(y, 0) for y in far] + [0] * (3 - rule)
            lost = sum(map(abs, edges.values()))  # rounding's: the solver has no such edges
            same = max(0, w1 + w2 + w3)
            d1, d2, d3 = max(w1, w2 + w3) - same, max(w2, w1 + w3) - same, max(w3, w1 + w2) - same
            constant += same
            gains = ((a, b, d1 + d2 - d3), (a, c, d1 + d3 - d2), (b, c, d2 + d3 - d1))
            for y, z, twice in gains[: (0, 0, 1, 3)[rule]]:
                add(y, z, -(-twice // 2))  # up, where 2^-40 unit will not do
        else:
            there, w, sign = near[a], edges.get(a, 0), 1 if rule > 0 else -1
            if abs(rule) == 4:
                lost = sum(map(abs, edges.values())) - abs(w) + sign * w
                lost = max(0, min(lost, sum(map(abs, there.values())) + sign * w) if lost > 0 else 0)
            else:
                p, q = max(((edges[y], there[y]) for y in edges if y in there), key=lambda pair: abs(pair[0]))
                demand(w == 0 and p * q * sign > 0, f"reductions: step {step:,} merges no twins.")
                differences = (edges.get(y, 0) * q - p * there.get(y, 0) for y in {*edges, *there})
                lost = -(-sum(map(abs, differences)) // abs(q))
            for y, w in edges.items():
                constant += w if sign < 0 else 0
                if y != a:
                    add(a, y, sign * w)
        paid += lost
        demand(paid << _FREE <= whole, f"reductions: step {step:,} is not allowed by its rule.")
    pairs = arrays(part, pairs="<i4")[0].reshape(-1, 2)
    kept, ends = np.unique(pairs, return_inverse=True)
    u, v = ends.reshape(-1, 2).T
    demand((u < v).all() and kept.min(initial=0) >= 0, "reductions: what is left has no such edges.")
    weights = [(near[a] or {}).pop(b, 0) for a, b in pairs.tolist()]
    for x, y in pairs.tolist():
        (near[y] or {}).pop(x, None)
    paid += sum(abs(w) for edges in near if edges for w in edges.values()) // 2
    demand(paid << _FREE <= whole, "reductions: other edges are left.")
    fine = math.gcd(*weights) or 1
    fine &= -fine
    kind = np.int64 if sum(map(abs, weights)) // fine < 2**60 else object
    unit = graph.unit / (1 << _HALVINGS)
    left = Weights(kept.size, u, v, np.array([w // fine for w in weights], kind), fine * unit)
    return (constant + paid) * unit, left
