"""A log of exact reductions, done again and written down as parts of a certificate.

Degrees 1 to 3 and dominating edges need no rules of their own there: they are sums of triangle inequalities over edges
some of which weigh nothing before. With t = |w_xy| the triangle of x, a and y moves the edge from x and y to a and y,

    w_xa [x | a] + w_xy [x | y] <= const + (w_xa - sign(w_xa) t) [x | a] - sign(w_xa) w_xy [a | y],

so that x is left with one edge where |w_xa| is at least the sum of the others. Where none of three edges dominates,
the triangles of x with two of its neighbours each share the weights among them. Twins are no such sum: a layer of rows
ends with them, and another one begins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdp.maxcut._elimination import DOMINATING, TWINS
from sdp.maxcut._parts import Edges, piece, rows_part, twins_part
from sdp.maxcut.reduce import Reduction


@dataclass
class _Rows:
    """The rows of one layer.

    Attributes:
        vertices: int64, what the checker calls the layer's vertices, rising.
        a: one end of each edge, by those labels.
        b: the other.
        own: number of edges that are the graph's; the others are added.
    """

    vertices: NDArray[np.int64]
    a: list[int]
    b: list[int]
    own: int
    lengths: list[int] = field(default_factory=list)
    members: list[int] = field(default_factory=list)
    marks: list[bool] = field(default_factory=list)
    multipliers: list[float] = field(default_factory=list)

    def join(self, a: int, b: int) -> int:
        """The number of a new edge, of weight 0."""
        self.a.append(a)
        self.b.append(b)
        return len(self.a) - 1

    def add(self, members: tuple[int, ...], marks: tuple[bool, ...], multiplier: float) -> None:
        """A row, which edges of it are in F, and its multiplier."""
        self.lengths.append(len(members))
        self.members += members
        self.marks += marks
        self.multipliers.append(multiplier)

    def move(self, edge: int, onto: int, weight: float) -> None:
        """Moves so much of an edge's weight to another one with the same ends: a cycle of two."""
        self.add((edge, onto), (weight > 0, weight < 0), abs(weight))

    def part(self, unit: float, edges: list[int], proof: dict[str, Any]) -> dict[str, Any]:
        """The rows, and a proof for these of the edges that they leave."""
        added = np.searchsorted(self.vertices, np.array([self.a[self.own :], self.b[self.own :]], np.int64))
        multipliers = np.array(self.multipliers) * unit
        parts = [piece(edges, proof)] if edges else []
        return rows_part(
            self.lengths, self.members, self.marks, multipliers, added=np.sort(added, axis=0).T, parts=parts
        )


class Replay:
    """The graph of a reduction as it shrinks, in the solver's own float64.

    Args:
        edges: of the reduction's graph, by its vertices.
        labels: int64 (n,), what the checker calls these vertices.
        vertices: int64, all labels of the checker's graph, rising.
        reduction: whose log is done again.
        unit: of its weights, a power of two.
        is_exact: whether no weight was rounded up to here, so that the checker has the same.

    Attributes:
        labels: int64, what the checker calls the vertices of the graph that is left.
    """

    def __init__(
        self,
        edges: Edges,
        labels: NDArray[np.int64],
        vertices: NDArray[np.int64],
        reduction: Reduction,
        unit: float,
        is_exact: bool,
    ) -> None:
        self._unit, self._is_exact = unit, is_exact and reduction.is_exact
        self._label: list[int] = labels.tolist()
        self._turned = [False] * len(self._label)  # whether the checker has a vertex on the other side
        # Numbers alone: garbage collection walks through whatever holds more.
        self._near: list[dict[int, int]] = [{} for _ in self._label]  # the edge to each neighbour
        self._weight: list[float] = reduction.original.edges()[2].tolist()  # of each edge
        for e, (x, y) in enumerate(zip(*(side.tolist() for side in edges), strict=True)):
            if self._weight[e]:
                self._near[x][y] = self._near[y][x] = e
        u, v = (labels[side].tolist() for side in edges)
        self._rows = _Rows(vertices, u, v, len(u))
        self._layers: list[dict[str, Any]] = []
        self._twins: list[tuple[int, int, bool]] = []
        self._run(reduction)
        kept = reduction.kept
        if self._twins or any(self._turned[x] for x in kept.tolist()):
            self._end_layer()
        left = zip(*(kept[side].tolist() for side in reduction.graph.edges()[:2]), strict=True)
        self._left = [self._near[x][y] for x, y in left]
        self.labels = np.array([self._label[x] for x in kept.tolist()], np.int64)

    def part(self, proof: dict[str, Any]) -> dict[str, Any]:
        """All layers, around the proof of the graph that is left."""
        part = self._rows.part(self._unit, self._left, proof)
        for layer in reversed(self._layers):
            layer["parts"][0]["proof"]["proof"] = part
            part = layer
        return part

    def _run(self, reduction: Reduction) -> None:
        log = reduction.log
        columns = (log.vertex, log.rule, log.ends, log.weights)
        for x, rule, ends, weights in zip(*(column.tolist() for column in columns), strict=True):
            if rule == TWINS:
                # Twins by what other twins became are none of this layer.
                if self._twins and not self._are_twins(x, ends[0]):
                    self._end_layer()
                self._twins.append((x, ends[0], weights[0] < 0))
                continue
            if self._twins:
                self._end_layer()
            if rule == DOMINATING:
                self._contract(x, ends[0], weights[0])
            else:
                self._remove_small(x, ends[: rule + 1])

    def _remove_small(self, x: int, far: list[int]) -> None:
        """Degrees 1 to 3, by the formulas of `reduce`."""
        w1, w2, w3 = [self._weight[self._near[x][y]] for y in far] + [0.0] * (3 - len(far))
        best = max(0.0, w1 + w2 + w3)
        apart_1, apart_2, apart_3 = max(w1, w2 + w3) - best, max(w2, w1 + w3) - best, max(w3, w1 + w2) - best
        if len(far) == 2:
            self._share(x, far[0], far[1], apart_1)
        elif len(far) == 3:
            self._share(x, far[0], far[1], (apart_1 + apart_2 - apart_3) / 2)
            self._share(x, far[0], far[2], (apart_1 + apart_3 - apart_2) / 2)
            self._share(x, far[1], far[2], (apart_2 + apart_3 - apart_1) / 2)
        self._drop(x)

    def _contract(self, x: int, a: int, sign: float) -> None:
        """Makes x and a one, s_x = sign s_a: the star of the one whose edge dominates goes to the other."""
        near, weight = self._near, self._weight
        if 2 * abs(weight[near[x][a]]) >= sum(abs(weight[e]) for e in near[x].values()):
            for y, e in list(near[x].items()):
                if y != a:
                    self._share(x, a, y, sign * weight[e])
            self._drop(x)
            return
        moved = {y: e for y, e in near[x].items() if y != a}
        total = {y: sign * weight[e] for y, e in moved.items()}
        for y, e in list(near[a].items()):
            if y != x:
                if y not in moved:
                    moved[y] = self._join(x, y)
                total[y] = weight[e] + total.get(y, 0.0)
                self._triangle(a, x, y, moved[y], abs(weight[e]))
        self._drop(x)
        self._drop(a)
        self._label[a], self._turned[a] = self._label[x], self._turned[x] != (sign < 0)
        for y, e in moved.items():
            weight[e] = total[y]
            if weight[e]:
                near[a][y] = near[y][a] = e

    def _share(self, x: int, a: int, y: int, gain: float) -> None:
        """The triangle of x, a and y that adds so much to the edge between a and y."""
        if gain == 0.0:
            return
        near, weight = self._near, self._weight
        e = near[a][y] if y in near[a] else self._join(a, y)
        if (weight[near[x][a]] > 0) == ((weight[near[x][y]] > 0) == (gain < 0)):  # but for rounding
            self._triangle(x, a, y, e, abs(gain))
        weight[e] += gain
        if weight[e]:
            near[a][y] = near[y][a] = e
        else:
            del near[a][y], near[y][a]

    def _join(self, x: int, y: int) -> int:
        """A new edge, of weight 0."""
        self._weight.append(0.0)
        return self._rows.join(self._label[x], self._label[y])

    def _triangle(self, x: int, a: int, y: int, edge: int, size: float) -> None:
        """Takes so much of the edges of x to a and y, and gives it to this edge between the two."""
        to_a, to_y = self._near[x][a], self._near[x][y]
        plus_a = (self._weight[to_a] > 0) != (self._turned[x] != self._turned[a])
        plus_y = (self._weight[to_y] > 0) != (self._turned[x] != self._turned[y])
        self._rows.add((to_a, to_y, edge), (plus_a, plus_y, plus_a == plus_y), size)

    def _drop(self, x: int) -> None:
        for y in self._near[x]:
            del self._near[y][x]
        self._near[x] = {}

    def _are_twins(self, x: int, a: int) -> bool:
        own, other = self._near[x], self._near[a]
        if own.keys() != other.keys():
            return False
        return (
            len({Fraction(self._weight[e]) / Fraction(self._weight[other[y]]) for y, e in own.items()}) == 1
        )

    def _end_layer(self) -> None:
        """Closes the rows with a part of the twins found, and of vertices to be turned over; begins the next rows."""
        near, rows, weight = self._near, self._rows, self._weight
        x = np.array([x for x, row in enumerate(near) for y in row if x < y])
        y = np.array([y for x, row in enumerate(near) for y in row if x < y])
        edges = [e for x, row in enumerate(near) for y, e in row.items() if x < y]
        turned, label = np.array(self._turned), np.array(self._label)
        if (
            not self._is_exact
        ):  # weights exactly as the solver has them; what the checker has beside is left over
            for k, (e, across) in enumerate(zip(edges, (turned[x] != turned[y]).tolist(), strict=True)):
                edges[k] = rows.join(rows.a[e], rows.b[e])
                weight.append(weight[e])
                rows.move(e, edges[k], -weight[e] if across else weight[e])
        last, opposite = np.arange(len(near)), np.zeros(len(near), np.bool_)
        for one, other, is_opposite in reversed(self._twins):
            last[one], opposite[one] = last[other], opposite[other] != is_opposite
        linked = np.unique(np.concatenate([x, y]))
        vertices = np.sort(label[linked])
        place = np.searchsorted(vertices, label[linked])
        into, turned_over = np.empty_like(place), np.empty(place.size, np.bool_)
        into[place] = np.searchsorted(vertices, label[last[linked]])
        turned_over[place] = opposite[linked] != turned[linked]
        self._layers.append(rows.part(self._unit, edges, twins_part(into, turned_over, {})))
        before = [weight[e] for e in edges]
        self._turned = [False] * len(near)
        self._merge()
        self._begin_layer(vertices, last[x], last[y], np.where(opposite[x] != opposite[y], -1, 1) * before)

    def _begin_layer(
        self, vertices: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64], w: NDArray[np.float64]
    ) -> None:
        """Rows over these edges; those with the same ends become one, whose weight is the solver's."""
        near, weight, label = self._near, self._weight, np.array(self._label)
        self._rows = rows = _Rows(vertices, label[a].tolist(), label[b].tolist(), len(a))
        keys = np.minimum(a, b) * len(near) + np.maximum(a, b)
        _, first, which = np.unique(keys, return_index=True, return_inverse=True)
        for e in np.flatnonzero(first[which] != np.arange(len(a))).tolist():
            rows.move(e, int(first[which[e]]), float(w[e]))
        self._weight = [0.0] * len(a)
        for e, x, y in zip(first.tolist(), a[first].tolist(), b[first].tolist(), strict=True):
            if y in near[x]:
                self._weight[e] = weight[near[x][y]]
                near[x][y] = near[y][x] = e

    def _merge(self) -> None:
        """Merges twins in the solver's order, for its rounding."""
        near, weight = self._near, self._weight
        for x, a, opposite in self._twins:
            for y, e in near[x].items():
                w = -weight[e] if opposite else weight[e]
                one = near[a].setdefault(y, e)
                weight[one] = w if one == e else weight[one] + w
                if weight[one]:
                    near[y][a] = one
                else:
                    del near[a][y]
                    near[y].pop(a, None)
            self._drop(x)
        self._twins = []
