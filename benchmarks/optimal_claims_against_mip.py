"""Is a cut that branch and cut calls optimal the maximum, by an independent integer program?

Random sparse graphs of up to 200 vertices, mean degree 3 to 6 (or half of `--most-degree` to that), weights 1, +-1,
-9 to 9 or normal, reduced first. Where branch and cut says "optimal", HiGHS's integer programming gets the edge
formulation of the graph itself,

    x_uv <= s_u + s_v,   x_uv <= 2 - s_u - s_v,   x_uv >= s_u - s_v,   x_uv >= s_v - s_u,   s in {0, 1}^n,

and a row that asks for a better cut than the one claimed: the claim holds if that is infeasible.

    python -m benchmarks.optimal_claims_against_mip --graphs 300 --seconds 20 --mip-seconds 60

Integer programming is much slower, so it may not finish; then the claim is neither confirmed nor refuted.
With `--reduced` it gets the reduced graph, which it solves sooner.
"""

from __future__ import annotations

import time

import highspy
import numpy as np
import typer

from sdp.maxcut.branch import branch_and_cut
from sdp.maxcut.graph import Graph
from sdp.maxcut.reduce import reduce

LARGEST = 200
KINDS = ("ones", "signs", "integers", "normal")
TOLERANCE = 1e-6  # relative, of the integer program


def main(
    graphs: int = 300,
    seconds: float = 20.0,
    mip_seconds: float = 60.0,
    seed: int = 0,
    most_degree: float = 6.0,
    reduced: bool = False,
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
            verdict = better_cut(reduction.graph, reduction.graph.cut_value(found.partition), mip_seconds)
        else:
            verdict = better_cut(graph, value, mip_seconds)
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


def better_cut(graph: Graph, value: float, seconds: float) -> bool | None:
    """Whether there is a cut better than this; None if the integer program did not say in time."""
    u, v, w = graph.edges()
    n, m = graph.n_vertices, graph.n_edges
    step = 0.5 if graph.is_integer else TOLERANCE * max(1.0, graph.absolute_weight)
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.silent()
    solver.setOptionValue("time_limit", seconds)
    solver.addVars(n + m, np.zeros(n + m), np.ones(n + m))
    solver.changeColBounds(0, 0.0, 0.0)  # both sides are alike
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
    # A better cut is asked for as a row, so that the answer is "infeasible" when there is none.
    edges = np.arange(n, n + m, dtype=np.int32)
    solver.addRow(value + step, high, m, edges, w)
    solver.run()
    status = solver.getModelStatus()
    if status == highspy.HighsModelStatus.kInfeasible:
        return False
    return True if status == highspy.HighsModelStatus.kOptimal else None


if __name__ == "__main__":
    typer.run(main)
