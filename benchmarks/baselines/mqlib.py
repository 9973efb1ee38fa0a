"""MQLib: the rank-2 heuristic of Burer, Monteiro and Zhang (2002), its strongest for sparse MAXCUT."""

import numpy as np
import scipy.sparse

from benchmarks._graphs import edges
from benchmarks.baselines._answer import Answer, Stopwatch, sides
from sdp.maxcut.graph import Graph


def burer2002(graph: Graph, time_limit: float, seed: int) -> Answer:
    """Run BURER2002 until the time is up; one thread.

    Args:
        graph: at least one edge.
        time_limit: seconds, kept by MQLib itself.
        seed: of MQLib.
    """
    import MQLib

    watch = Stopwatch()
    u, v, w = edges(graph)
    shape = (graph.n_vertices, graph.n_vertices)
    instance = MQLib.Instance("M", scipy.sparse.coo_matrix((w, (u, v)), shape=shape))
    setup_seconds = watch.lap()
    found = MQLib.runHeuristic("BURER2002", instance, time_limit, seed)
    return Answer(sides(np.asarray(found["solution"])), watch.lap(), setup_seconds)
