"""Is a cut that branch and cut calls optimal the maximum, by an independent integer program?

Random sparse graphs of up to 200 vertices, mean degree 3 to 6 (or half of `--most-degree` to that), weights 1, +-1,
-9 to 9 or normal, reduced first. Where branch and cut says "optimal", HiGHS's integer programming gets the edge
formulation of the graph itself,

    x_uv <= s_u + s_v,   x_uv <= 2 - s_u - s_v,   x_uv >= s_u - s_v,   x_uv >= s_v - s_u,   s in {0, 1}^n,

and a row that asks for a better cut than the one claimed: the claim holds if that is infeasible. Rows of shortest
frustrated cycles, found by networkx, are given besides (`--no-cycles` leaves them out): they cut off no partition, and
with the edge formulation alone one claim in eight stays open after 20 s.

    python -m benchmarks.optimal_claims_against_mip --graphs 300 --most-degree 4.5 --reduced --mip-seconds 150

Integer programming is much slower than branch and cut, so it may not finish; then the claim is neither confirmed nor
refuted. With `--reduced` it gets the reduced graph, which it solves sooner.
"""

from __future__ import annotations

import time
from itertools import islice, pairwise

import highspy
import networkx as nx
import numpy as np
import typer
from numpy.typing import NDArray

from sdp.maxcut.branch import branch_and_cut
from sdp.maxcut.graph import Graph
from sdp.maxcut.reduce import reduce

LARGEST = 200
KINDS = ("ones", "signs", "integers", "normal")
MOST_PATHS = 20  # shortest cycles through one vertex or edge
TOLERANCE = 1e-6  # relative, of the integer program


def main(
    graphs: int = 300,
    seconds: float = 20.0,
    mip_seconds: float = 60.0,
    seed: int = 0,
    most_degree: float = 6.0,
    reduced: bool = False,
    cycles: bool = True,
) -> None:
    """Counts the claims, those confirmed, and those refuted; the exit status is 1 if there is one of the last."""
    claims, confirmed, refuted, ours = 0, 0, 0, 0.0
    for number in range(graphs):
        graph = random_graph(seed, number, most_degree)
        reduction = reduce(graph)
        begin = time.perf_counter()
        found = branch_and_cut(reduction.graph, time_limit=seconds, seed=number)
        ours += time.perf_counter() - begin
        if found.status != "optimal":
            continue
        claims += 1
        value = graph.cut_value(reduction.lift(found.partition))
        if reduced:
            graph, value = reduction.graph, reduction.graph.cut_value(found.partition)
        verdict = better_cut(graph, value, mip_seconds, cycles=cycles)
        confirmed += verdict is False
        refuted += verdict is True
        if verdict is True:
            typer.echo(f"graph {number}: a cut better than {value} exists; seed {seed}.")
        if (number + 1) % 10 == 0:
            typer.echo(
                f"{number + 1} graphs: {claims} claims, {confirmed} confirmed, {refuted} refuted", err=True
            )
    typer.echo(
        f"{graphs} graphs, {claims} called optimal in {ours:.0f} s: {confirmed} confirmed, {refuted} refuted, "
        f"{claims - confirmed - refuted} undecided after {mip_seconds:g} s each."
    )
    if refuted:
        raise typer.Exit(1)


def random_graph(seed: int, number: int, most_degree: float) -> Graph:
    """A random graph of 20 to 200 vertices and mean degree from half the most; the kinds of weights take turns."""
    rng = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, number]))
    n = int(rng.integers(20, LARGEST + 1))
    m = int(n * rng.uniform(most_degree / 2, most_degree) / 2)
    u, v = rng.integers(0, n, (2, m))
    weights = {
        "ones": np.ones(m),
        "signs": rng.choice([-1.0, 1.0], m),
        "integers": rng.integers(-9, 10, m).astype(np.float64),
        "normal": rng.normal(size=m),
    }[KINDS[number % len(KINDS)]]
    return Graph.from_edges(u, v, weights, n_vertices=n)


def better_cut(graph: Graph, value: float, seconds: float, *, cycles: bool) -> bool | None:
    """Whether there is a cut better than this; None if the integer program did not say in time."""
    u, v, w = graph.edges()
    n, m = graph.n_vertices, graph.n_edges
    if m == 0:
        return value < 0
    step = 0.5 if graph.is_integer else TOLERANCE * max(1.0, graph.absolute_weight)
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.silent()
    solver.setOptionValue("time_limit", seconds)
    solver.addVars(n + m, np.zeros(n + m), np.ones(n + m))
    hub = int(np.bincount(np.concatenate((u, v)), minlength=n).argmax())
    solver.changeColBounds(hub, 0.0, 0.0)  # both sides are alike
    solver.changeColsCost(m, np.arange(n, n + m, dtype=np.int32), -w)
    solver.changeColsIntegrality(n, np.arange(n, dtype=np.int32), np.full(n, highspy.HighsVarType.kInteger))
    low, high = -highspy.kHighsInf, highspy.kHighsInf
    for signs, least, most in (
        ((-1.0, -1.0, 1.0), low, 0.0),
        ((1.0, 1.0, 1.0), low, 2.0),
        ((-1.0, 1.0, 1.0), 0.0, high),
        ((1.0, -1.0, 1.0), 0.0, high),
    ):
        columns = np.stack((u, v, np.arange(n, n + m, dtype=np.int32)), axis=1).ravel()
        starts = np.arange(0, 3 * m, 3, dtype=np.int32)
        solver.addRows(m, np.full(m, least), np.full(m, most), 3 * m, starts, columns, np.tile(signs, m))
    for cycle in frustrated_cycles(graph) if cycles else ():
        # Of an odd number of positive edges not all are cut unless some other edge is.
        positive = w[cycle] > 0
        columns, factors = (n + cycle).astype(np.int32), np.where(positive, 1.0, -1.0)
        solver.addRow(low, float(positive.sum() - 1), len(cycle), columns, factors)
    # A better cut is asked for as a row, so that the answer is "infeasible" when there is none.
    edges = np.arange(n, n + m, dtype=np.int32)
    solver.addRow(value + step, high, m, edges, w)
    solver.run()
    status = solver.getModelStatus()
    if status == highspy.HighsModelStatus.kInfeasible:
        return False
    return True if status == highspy.HighsModelStatus.kOptimal else None


def frustrated_cycles(graph: Graph) -> list[NDArray[np.int64]]:
    """Shortest cycles with an odd number of positive edges, through every vertex and every edge, as edge numbers.

    They are the shortest paths between the two copies of a vertex in the double cover, where a positive edge joins
    copies of unlike kind.
    """
    u, v, w = (part.tolist() for part in graph.edges())
    edge = {pair: number for number, ends in enumerate(zip(u, v, strict=True)) for pair in (ends, ends[::-1])}
    cover = nx.Graph()
    for a, b, weight in zip(u, v, w, strict=True):
        swaps = weight > 0
        cover.add_edges_from((((a, 0), (b, int(swaps))), ((a, 1), (b, int(not swaps)))))
    wanted: list[tuple[tuple[int, int], tuple[int, int], tuple[int, ...]]]
    wanted = [((a, 0), (a, 1), ()) for a in set(u) | set(v)]
    wanted += [((a, 0), (b, int(not w[i] > 0)), (i,)) for i, (a, b) in enumerate(zip(u, v, strict=True))]
    found: dict[frozenset[int], NDArray[np.int64]] = {}
    for start, end, closing in wanted:
        if not nx.has_path(cover, start, end):
            continue
        for path in islice(nx.all_shortest_paths(cover, start, end), MOST_PATHS):
            members = [*closing, *(edge[x[0], y[0]] for x, y in pairwise(path))]
            if len(set(members)) == len(members):
                found.setdefault(frozenset(members), np.array(members))
    return list(found.values())


if __name__ == "__main__":
    typer.run(main)
