"""The checker of certificates, which shares no code with the solver. PROOFS.md says what every part proves, and why."""

import base64
import hashlib
import math
from fractions import Fraction
from typing import Any

import numpy as np
import scipy.sparse
from scipy.special import ndtri

_HALVINGS, _WIDEST, _ENTRIES, _DEEP = 40, 24, 2**31, 2000  # of units; of a table, of all; of a branch
_DENSE, _STEPS, _COLUMNS, DELTA = 5000, 10**5, 8, 2.0**-60  # nobody can try 2^60 matrices until one is wrong
_U, _ULPS, _TOLERANCE = 2.0**-53, 16, 1e-11  # unit roundoff; roundings an entry; what other machines may add


class Rejected(Exception):  # noqa: N818 - it is an answer
    """The certificate does not prove what it claims; the sentence says which part fails."""


def demand(condition: Any, sentence: str) -> None:
    """Raises `Rejected` with this sentence where the condition fails."""
    if not condition:
        raise Rejected(sentence)


def arrays(part: Any, **kinds: str) -> list[Any]:
    """Fields of a part from base64, each of its numpy kind."""
    return [np.frombuffer(base64.b64decode(part[name], validate=True), kind) for name, kind in kinds.items()]


def rounded_up(value: Fraction) -> float:
    """The least float64 that is not below."""
    return float(value) if float(value) >= value else math.nextafter(float(value), math.inf)


class Checker:
    """Works out, in integers, what a certificate proves: an edge e from u[e] to v[e] weighs w[e] / unit."""

    progress: Any = staticmethod(lambda stage, done, total: None)  # told of every step that takes long
    delta, entries = 0.0, 0  # after `check`, the chance that the bound is wrong; entries of all tables

    def agree(self, part: Any, name: str, value: Any, slack: float = 0.0) -> Any:
        """The claim of this name, which must equal `value`, or lie above it by 2 slack at most."""
        claim = part[name]
        well = value <= claim <= value + 2 * slack if slack else claim == value and type(claim) is type(value)
        demand(well, f"{part.get('kind', 'the whole')}: {name} {claim!r:.70} does not follow from its parts.")
        return claim

    def check(self, graph: Any, document: Any) -> tuple[Fraction, Fraction]:
        """The exact values of the partition and of the bound. Raises Rejected, and nothing else for any document."""
        try:
            demand(document["graph"] == graph.fingerprint(), "the certificate speaks of another graph.")
            n, (u, v, w) = graph.n_vertices, graph.edges()
            self.unit = max([x.as_integer_ratio()[1] for x in np.unique(w).tolist()], default=1) << _HALVINGS
            side, w = np.frombuffer(document["partition"].encode(), np.uint8), self.whole(w)
            demand(side.size == n and np.isin(side, (48, 49)).all(), "partition: not one 0 or 1 a vertex.")
            cut = Fraction(sum(w[side[u] != side[v]]), self.unit)
            self.agree(document, "cut_value", 0.0 - rounded_up(-cut))
            bound = Fraction(self.prove(n, u, v, w, document["proof"]), self.unit)
            demand(cut <= bound, "the bound is below the cut of the partition itself.")
            self.agree(document, "upper_bound", rounded_up(bound))
            self.agree(document, "delta", self.delta)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise Rejected(f"malformed ({type(error).__name__}: {error}).") from error
        return cut, bound

    def whole(self, x: Any) -> Any:
        """Floats in units, as Python's integers: rounded down, but for weights, which are whole."""
        ratios = map(float.as_integer_ratio, x.tolist())
        return np.array([above * self.unit // below for above, below in ratios], object)

    def prove(self, n: int, u: Any, v: Any, w: Any, part: Any, *fixed: dict[int, bool]) -> Any:
        """The bound of a part, rounded down to the grid of cuts, for those that cut the fixed edges, or do not."""
        bound = self.agree(part, "value", getattr(self, f"prove_{part['kind']}")(n, u, v, w, part, *fixed))
        degrees = np.zeros(n, object)
        np.add.at(degrees, np.concatenate([u, v]), np.concatenate([w, w]))
        grid = math.gcd(*degrees, *(2 * w))
        return bound - bound % grid if grid else 0

    def prove_rows(self, n: int, u: Any, v: Any, w: Any, part: Any, fixed: Any = None) -> Any:
        """The sum of lambda_r (|F_r| - 1), what parts prove of the weights left, and what is positive of the rest."""
        kinds = {"added": "<u4", "lengths": "<u4", "members": "<u4", "F": "|u1", "multipliers": "<f8"}
        added, lengths, members, marks, factors = arrays(part, **kinds)
        (a, b), factors = added.reshape(-1, 2).T, self.whole(factors)
        u, v, left = np.concatenate([u, a]), np.concatenate([v, b]), np.concatenate([w, 0 * a])
        fits = lengths.size == factors.size and lengths.sum() == members.size == marks.size
        sound = (a < b).all() and (b < n).all() and (marks <= 1).all() and (factors >= 0).all()
        demand(fits and sound, "rows: the arrays do not fit together.")
        row = np.repeat(np.arange(lengths.size), lengths)
        visits = np.unique(row * n + np.stack([u, v])[:, members], return_counts=True)[1]
        size = np.bincount(row[marks == 1], minlength=lengths.size)
        demand((visits % 2 == 0).all() and (size % 2).all(), "rows: a row is no cycle, or its F is even.")
        self.agree(part, "used", sum(factors * lengths))  # the value alone may not change with a multiplier
        np.subtract.at(left, members, np.where(marks == 1, factors[row], -factors[row]))
        bound = sum(factors * (size - 1))
        for piece in [] + part["parts"]:  # of nothing but a list
            (edges,) = arrays(piece, edges="<u4")
            demand((np.diff(np.sort(edges)) > 0).all(), "rows: a part has an edge twice.")
            names, ends = np.unique(np.stack([u, v])[:, edges], return_inverse=True)
            bound += self.prove(names.size, *ends.reshape(2, -1), left[edges], piece["proof"])
            left[edges] = 0
        for edge, is_cut in (fixed or {}).items():
            bound += left[edge] if is_cut else 0
            left[edge] = 0
        return bound + sum(np.maximum(left, 0))

    def prove_twins(self, n: int, u: Any, v: Any, w: Any, part: Any) -> Any:
        """Vertices turned over, and twins made one: they have edges to the same others, with weights in proportion."""
        into, turned = arrays(part, into="<u4", turned="|u1")
        fits = into.size == turned.size == n and (into == into[into]).all() and (turned <= 1).all()
        demand(fits, "twins: not one vertex for each.")
        moved, near = np.flatnonzero(into != np.arange(n)), [dict[int, int]() for _ in into]
        some = np.isin(u, [moved, into[moved]]) | np.isin(v, [moved, into[moved]])
        for a, b, weight in zip(u[some].tolist(), v[some].tolist(), w[some], strict=True):
            near[a][b] = near[b][a] = near[a].get(b, 0) + weight
        for x in moved.tolist():
            own, other = near[x], near[into[x]]
            ratios = {Fraction(weight, other.get(y, 0)) for y, weight in own.items()}
            demand(len(ratios) == 1 and len(own) == len(other), f"twins: {x} and {into[x]} are none.")
            demand((ratios.pop() > 0) == (turned[x] == turned[into[x]]), f"twins: {x} is on the wrong side.")
        across = turned[u] != turned[v]
        return sum(w[across]) + self.prove(n, into[u], into[v], np.where(across, -w, w), part["proof"])

    def prove_branch(self, n: int, u: Any, v: Any, w: Any, part: Any) -> Any:
        """The tree from its root, the side where an edge is cut before the other; -1 for a leaf, which is of rows."""
        waiting, bounds = [dict[int, bool]()], list[int]()
        for edge in arrays(part, tree="<i4")[0].tolist():
            fixed = waiting.pop()
            if edge == -1:
                bounds.append(self.prove(n, u, v, w, part["leaves"][len(bounds)], fixed))
            else:
                demand(-1 < edge < len(u) and edge not in fixed and len(fixed) < _DEEP, "branch: not free.")
                waiting += [{**fixed, edge: False}, {**fixed, edge: True}]
        demand(not waiting and len(bounds) == len(part["leaves"]), "branch: tree and leaves do not fit.")
        return max(bounds)

    def prove_table(self, n: int, u: Any, v: Any, w: Any, part: Any) -> Any:
        """The maximum itself: one vertex after another is maximised out of the sum of the tables that it is in."""
        (order,), step = arrays(part, order="<u4"), math.gcd(*w) or 1
        demand(np.array_equal(np.sort(order), np.arange(n)), "table: not an order of all vertices.")
        place, kind = np.argsort(order), np.int64 if sum(abs(w)) // step < 2**62 else object
        tables: list[list[Any]] = [[] for _ in range(n + 1)]  # the last is for what depends on no vertex
        for *ends, x in zip(place[u].tolist(), place[v].tolist(), w // step, strict=True):
            tables[min(ends)].append((ends, np.array([[0, x], [x, 0]], kind)))
        for here, own in enumerate(tables[:n]):
            scope = sorted({here, *(x for names, _ in own for x in names)})
            self.entries += 2 ** len(scope)
            demand(len(scope) <= _WIDEST + 1 and self.entries <= _ENTRIES, "table: of too many vertices.")
            each = (table.reshape([1 + (x in names) for x in scope]) for names, table in own)
            best = sum(each, np.zeros([1] * len(scope), kind)).max(axis=0)
            tables[(*scope, n)[1]].append((scope[1:], best))
            own.clear()
        return sum(int(best) for _, best in tables[n]) * step

    def prove_spectral(self, n: int, u: Any, v: Any, w: Any, part: Any) -> Any:
        """W/2 + (sum h + tau sum d) / 4 with Diag(h + tau d) + A >= 0, d the degrees and a twentieth of their mean."""
        steps, h = part["steps"], self.whole(arrays(part, h="<f8")[0])
        demand(type(steps) is int and 0 <= steps <= _STEPS and h.size == n, "spectral: out of range.")
        keys, which = np.unique(np.minimum(u, v) * np.int64(n) + np.maximum(u, v), return_inverse=True)
        (u, v), every, w = np.divmod(keys, n), w, np.zeros(keys.size, object)
        np.add.at(w, which, every)  # exact: what float64 loses of parallel edges would not be counted
        near, far = np.concatenate([u, v, np.arange(n)]), np.concatenate([v, u, np.arange(n)])
        entries = np.array([x / self.unit for x in (*w, *w, *h)])
        degree = np.bincount(near[:-n], abs(entries[:-n]), n)
        d = self.whole(degree + math.fsum(degree) / (20 * n))
        root = np.array([math.sqrt(self.unit / x) for x in d])
        matrix = scipy.sparse.csr_array((entries * root[near] * root[far], (near, far)), shape=(n, n))
        below = self.below(matrix, steps, repr((n, steps, keys.tolist(), w.tolist(), h.tolist())).encode())
        tau = self.agree(part, "tau", below, _TOLERANCE * (1 + below))
        self.delta += DELTA if steps else 0.0
        return math.ceil((2 * sum(w) + sum(h) + Fraction(tau) * sum(d)) / 4)

    @np.errstate(all="ignore")
    def below(self, matrix: Any, steps: int, whole: bytes) -> Any:
        """No eigenvalue of M is below minus this: by Cholesky, or by T_k(I - 2 M / upper) of a Gaussian block."""
        n, diagonal = matrix.shape[0], matrix.diagonal()
        if steps == 0 and n <= _DENSE:
            lowest = min(0.0, float(np.linalg.eigvalsh(matrix.toarray())[0]))  # says where to look
            slack = 4 * (n + _ULPS) * _U * (1 + float(abs(diagonal).sum()) - n * lowest)
            np.linalg.cholesky(matrix.toarray() + (slack - lowest) * np.eye(n))  # raises, or proves it
            return 2 * slack - lowest
        upper = 1 + max(0.0, float(diagonal.max()))
        twice = (2 * scipy.sparse.eye_array(n) - (4 / upper) * matrix).tocsr()
        words = np.random.Philox(key=int(hashlib.sha256(whole).hexdigest()[:32], 16)).random_raw(n * _COLUMNS)
        current = ndtri(((words >> np.uint64(11)) + 0.5) * 2.0**-53).reshape(n, _COLUMNS)
        previous, lengths = twice @ current / 2, [np.linalg.norm(current, axis=0).max()]
        for done in range(steps):
            self.progress("dual vector", done, steps)
            previous, current = current, twice @ current - previous
            lengths.append(np.linalg.norm(current, axis=0).max())
        error = _U * (np.diff(twice.indptr).max() + _ULPS) * (abs(twice.diagonal()).max() + 4 / upper + 1)
        quantile = ndtri(0.5 + 0.5 * DELTA ** (1 / _COLUMNS)) * (1 - 1e-9)
        k, longest = np.arange(1, steps + 1), np.maximum.accumulate(lengths)[1:]
        sure = quantile - (k + 1) * (k + 2) / 2 * error * longest
        demand((sure > 0).any(), "spectral: float64 proves nothing about the eigenvalues.")
        tau = upper * np.sinh(np.arccosh(np.maximum(1, lengths[1:] / sure)) / (2 * k)) ** 2
        return float(tau[sure > 0].min())
