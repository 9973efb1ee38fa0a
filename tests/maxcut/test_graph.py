"""The graph against dictionaries and loops, and its ways in and out of other libraries."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import igraph
import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdp.maxcut.graph import Graph, as_graph
from sdp.maxcut.io import read_graph, write_graph

WEIGHTS = st.one_of(
    st.integers(-5, 5).map(float),
    st.floats(-1e30, 1e30, allow_nan=False),
    st.sampled_from([1e30, 1e-30, 0.1]),
)


@st.composite
def edge_lists(draw: st.DrawFn) -> tuple[int, list[tuple[int, int, float]]]:
    """Up to 9 vertices, some isolated; loops and repetitions in both directions."""
    n = draw(st.integers(1, 9))
    vertex = st.integers(0, n - 1)
    return n, draw(st.lists(st.tuples(vertex, vertex, WEIGHTS), max_size=30))


def adjacency(n: int, edges: list[tuple[int, int, float]]) -> list[dict[int, float]]:
    """The oracle: a dictionary of neighbours for each vertex, sums in the order of the edges."""
    rows: list[dict[int, float]] = [{} for _ in range(n)]
    for u, v, w in edges:
        if u != v:
            for i, j in ((u, v), (v, u)):
                rows[i][j] = rows[i][j] + w if j in rows[i] else w
    return rows


def graph_of(n: int, edges: list[tuple[int, int, float]]) -> Graph:
    u, v, w = zip(*edges, strict=True) if edges else ((), (), ())
    return Graph.from_edges(u, v, w, n_vertices=n)


def small_graph() -> Graph:
    """Five vertices, one isolated; weights of both signs that float32 holds."""
    return Graph.from_edges([0, 1, 2, 0], [1, 2, 3, 3], [1.0, -2.0, 0.5, 3.0], n_vertices=5)


@given(edge_lists())
def test_rows_are_the_dictionaries(case: tuple[int, list[tuple[int, int, float]]]) -> None:
    n, edges = case
    graph, rows = graph_of(n, edges), adjacency(*case)
    assert graph.n_vertices == n
    assert graph.n_edges == sum(map(len, rows)) // 2
    for i, row in enumerate(rows):
        part = slice(graph.indptr[i], graph.indptr[i + 1])
        assert graph.indices[part].tolist() == sorted(row)
        assert graph.weights64[part].tolist() == [row[j] for j in sorted(row)]
    np.testing.assert_array_equal(graph.weights, graph.weights64.astype(np.float32))
    assert (graph.exact_weights is None) == np.array_equal(graph.weights, graph.weights64)


@given(edge_lists(), st.integers(0, 2**9 - 1))
def test_cut_values_are_those_of_a_loop(case: tuple[int, list[tuple[int, int, float]]], bits: int) -> None:
    n, edges = case
    graph, rows = graph_of(n, edges), adjacency(*case)
    sides = [bits >> i & 1 for i in range(n)]
    pairs = [(i, j, w) for i, row in enumerate(rows) for j, w in row.items() if i < j]
    cut = [w for i, j, w in pairs if sides[i] != sides[j]]
    for value, terms in (
        (graph.cut_value(sides), cut),
        (graph.total_weight, [w for _, _, w in pairs]),
        (graph.absolute_weight, [abs(w) for _, _, w in pairs]),
    ):
        exact = sum(map(Fraction, terms), Fraction())
        # Neumaier's sum errs by 2 ulp of the result and k^2 eps^2 of the absolute sum, k <= 36 terms.
        error = abs(Fraction(value) - exact)
        assert error <= 2**-52 * abs(exact) + 36**2 * 2**-106 * sum(
            map(abs, map(Fraction, terms)), Fraction()
        )
    assert graph.cut_value([1 - s for s in sides]) == graph.cut_value(sides)
    assert graph.cut_value(2 * np.array(sides, np.int8) - 1) == graph.cut_value(sides)
    assert graph.cut_value(np.array(sides, bool)) == graph.cut_value(sides)


def test_large_and_small_weights_do_not_hide_each_other() -> None:
    graph = Graph.from_edges([0, 1, 2], [1, 2, 0], [1e30, 1e-30, -1e30])
    assert graph.total_weight == 1e-30
    assert graph.absolute_weight == 2e30
    assert graph.cut_value([1, 0, 0]) == 0.0
    assert graph.cut_value([0, 0, 1]) == 1e-30 - 1e30
    star = Graph.from_edges([0, 0, 0], [1, 2, 3], [1e30, 1e-30, -1e30])
    assert star.cut_value([1, 0, 0, 0]) == 1e-30


def test_integers_past_float32_are_exact() -> None:
    graph = Graph.from_edges([0, 1], [1, 2], [2**24 + 1, -(2**40) - 3])
    assert graph.is_integer
    assert graph.weights64.tolist() == [2**24 + 1, 2**24 + 1, -(2**40) - 3, -(2**40) - 3]
    assert graph.exact_weights is not None
    assert graph.total_weight == 2**24 + 1 - 2**40 - 3
    assert not Graph.from_edges([0], [1], [2.0**53]).is_integer
    assert not Graph.from_edges([0], [1], [0.5]).is_integer
    assert Graph.from_edges([0], [1]).is_integer


def test_empty_graphs_are_ordinary() -> None:
    for graph in (Graph.from_edges([], []), Graph.from_edges([], [], [], 3), Graph.from_edges([1], [1])):
        assert graph.n_edges == 0
        assert (graph.total_weight, graph.absolute_weight, graph.is_integer) == (0.0, 0.0, True)
        assert graph.cut_value(np.zeros(graph.n_vertices)) == 0.0
        assert graph.edges()[0].size == 0
        assert "0 edges" in repr(graph)
        assert as_graph(graph.to_scipy()).fingerprint() == graph.fingerprint()


def test_graphs_cannot_be_changed() -> None:
    u = np.array([0, 1])
    graph = Graph.from_edges(u, [1, 2], [0.1, 0.2])
    before = graph.fingerprint()
    u[0] = 2
    with pytest.raises(AttributeError):
        graph.name = "other"  # type: ignore[misc]
    for array in (graph.indptr, graph.indices, graph.weights, graph.exact_weights):
        assert array is not None
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    graph.to_scipy().data[:] = 9
    graph.to_scipy().indices[:] = 0
    graph.to_csr().weights.fill_(9)
    assert graph.fingerprint() == before
    for again in (copy.deepcopy(graph), pickle.loads(pickle.dumps(graph))):
        assert again.fingerprint() == before
        assert not again.indices.flags.writeable


def test_fingerprints_tell_graphs_apart() -> None:
    graph = small_graph()
    same = Graph.from_edges([3, 0, 3, 2], [0, 1, 2, 1], [3.0, 1.0, 0.5, -2.0], n_vertices=5)
    assert graph.fingerprint() == same.fingerprint()
    others = [
        Graph.from_edges(*graph.edges()),
        Graph.from_edges(*graph.edges(), n_vertices=6),
        Graph.from_edges(*graph.edges()[:2], n_vertices=5),
        Graph.from_edges(graph.edges()[0], graph.edges()[1], graph.edges()[2] + 1e-12, n_vertices=5),
    ]
    assert len({other.fingerprint() for other in [graph, *others]}) == 5
    zero = [Graph.from_edges([0], [1], [w]).fingerprint() for w in (0.0, -0.0)]
    assert zero[0] == zero[1]


def test_repr_is_for_people() -> None:
    graph = Graph.from_edges([0, 1, 1, 2], [1, 2, 2, 2], [1, -2, -2, 5], n_vertices=1500)
    assert repr(graph) == (
        "<Graph: 1,500 vertices, 2 edges, weights from -4 to 1; 1 self-loop dropped; "
        "1 repeated listing of edges summed>"
    )
    assert repr(Graph.from_edges([0], [1])) == "<Graph: 2 vertices, 1 edge, every weight 1>"


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (([0, 1], [1]), ValueError, "u has 2 entries but v has 1; an edge needs both."),
        (([0], [1], [1, 2]), ValueError, "w has 2 entries but u and v have 1."),
        (([[0]], [[1]]), ValueError, "u must have one dimension; got shape (1, 1)."),
        (([0, -1], [1, 2]), ValueError, "vertices are integers from 0; entry 1 of u is -1."),
        (([0], [1.0]), TypeError, "v must hold integers; got float64."),
        ((["a"], ["b"]), TypeError, "u must hold integers; got <U1."),
        (([True], [False]), TypeError, "u must hold integers; got bool."),
        (([0], [2**64]), ValueError, f"a vertex of v must fit 64 bits; got {2**64}."),
        (([0], [2**63]), ValueError, f"a vertex of v must fit 64 bits; got {2**63}."),
        (([0], [2**40]), ValueError, f"a graph has at most 2147483647 vertices; got {2**40 + 1}."),
        (
            ([0], [2**30]),
            ValueError,
            f"a graph has at most 16777216 vertices without an edge; got {2**30 + 1} vertices with 1 edge.",
        ),
        (([0], [5], None, 5), ValueError, "n_vertices must exceed every vertex; got 5 and vertex 5."),
        (([], [], None, -2), ValueError, "n_vertices must exceed every vertex; got -2 and vertex -1."),
        (([0], [1], [np.nan]), ValueError, "weights must be finite; entry 0 is nan."),
        (([0, 1], [1, 2], [1, -np.inf]), ValueError, "weights must be finite; entry 1 is -inf."),
        (([0], [1], [2e37]), ValueError, "weights must lie within +-1e+37; entry 0 is 2e+37."),
        (([0], [1], [1j]), TypeError, "weights must be real numbers; got complex128."),
        (([0], [1], ["1"]), TypeError, "weights must be real numbers; got <U1."),
        (
            ([0, 1], [1, 0], [9e36, 9e36]),
            ValueError,
            "weights must lie within +-1e+37; repeated edges add up to more.",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_edges_are_one_sentence(
    arguments: tuple[Any, ...], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error) as caught:
        Graph.from_edges(*arguments)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("partition", "sentence"),
    [
        ([0, 1], "partition must have shape (5,); got (2,)."),
        ([0, 1, 2, 0, 0], "partition must hold 0 and 1, or -1 and +1; entry 2 is 2 and the least is 0."),
        ([0, 1, -1, 0, 0], "partition must hold 0 and 1, or -1 and +1; entry 0 is 0 and the least is -1."),
        (
            [0, 1, 0.5, 0, 0],
            "partition must hold 0 and 1, or -1 and +1; entry 2 is 0.5 and the least is 0.0.",
        ),
    ],
)
def test_bad_partitions_are_one_sentence(partition: list[float], sentence: str) -> None:
    with pytest.raises(ValueError, match="partition") as caught:
        small_graph().cut_value(partition)
    assert str(caught.value) == sentence
    with pytest.raises(ValueError, match="partition must hold"):
        small_graph().cut_value([np.nan, 1, 0, 1, 0])


def test_arrays_that_do_not_fit_are_refused() -> None:
    indptr, indices, weights = np.array([0, 1, 2]), np.array([1, 0], np.int32), np.ones(2, np.float32)
    assert Graph(indptr, indices, weights).n_edges == 1
    with pytest.raises(ValueError, match=r"^weights must be float32 \(2,\); got float64 \(2,\)\.$"):
        Graph(indptr, indices, np.ones(2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^labels must be int64 \(2,\); got int64 \(3,\)\.$"):
        Graph(indptr, indices, weights, labels=np.arange(3))
    with pytest.raises(
        ValueError, match=r"^indptr must run from 0 to the 2 entries of indices; got 0 to 1\.$"
    ):
        Graph(np.array([0, 1, 1]), indices, weights)


def to_networkx(graph: Graph) -> nx.Graph[int]:
    other: nx.Graph[int] = nx.Graph()
    other.add_nodes_from(range(graph.n_vertices))
    other.add_weighted_edges_from(zip(*(x.tolist() for x in graph.edges()), strict=True))
    return other


def to_igraph(graph: Graph) -> igraph.Graph:
    u, v, w = graph.edges()
    return igraph.Graph(
        graph.n_vertices, list(zip(u.tolist(), v.tolist(), strict=True)), edge_attrs={"weight": w}
    )


def to_torch_csr(graph: Graph) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # sparse CSR is in beta
        return to_torch_coo(graph).to_sparse_csr()


def to_torch_coo(graph: Graph) -> torch.Tensor:
    matrix = graph.to_scipy().tocoo()
    indices = np.stack([matrix.row, matrix.col]).astype(np.int64)
    return torch.sparse_coo_tensor(
        torch.from_numpy(indices), torch.from_numpy(matrix.data), matrix.shape, check_invariants=True
    )


def to_file(graph: Graph, folder: Path) -> Path:
    write_graph(graph, folder / "graph.txt.gz")
    return folder / "graph.txt.gz"


ROUND_TRIPS: dict[str, Callable[[Graph], Any]] = {
    "graph": lambda graph: graph,
    "edges": lambda graph: (*graph.edges(),),
    "scipy array": lambda graph: graph.to_scipy(),
    "scipy matrix": lambda graph: sp.csr_matrix(graph.to_scipy()),
    "scipy coo": lambda graph: graph.to_scipy().tocoo(),
    "scipy csc": lambda graph: graph.to_scipy().tocsc(),
    "scipy upper": lambda graph: sp.triu(graph.to_scipy()),
    "scipy lower": lambda graph: sp.tril(graph.to_scipy()),
    "networkx": to_networkx,
    "networkx directed": lambda graph: to_networkx(graph).to_directed(),
    "networkx multigraph": lambda graph: nx.MultiGraph(to_networkx(graph)),
    "igraph": to_igraph,
    "igraph directed": lambda graph: to_igraph(graph).as_directed(mode="mutual"),
    "torch coo": to_torch_coo,
    "torch csr": to_torch_csr,
}


@pytest.mark.parametrize("kind", ROUND_TRIPS)
def test_other_libraries_give_the_graph_back(kind: str) -> None:
    rng = np.random.default_rng(5)
    for w in (rng.integers(-9, 9, 300), rng.standard_normal(300)):
        graph = Graph.from_edges(*rng.integers(0, 60, (2, 300)), w, n_vertices=61)
        graph = Graph.from_edges([*graph.edges()[0], 59], [*graph.edges()[1], 60], [*graph.edges()[2], 0.25])
        again = as_graph(ROUND_TRIPS[kind](graph))
        assert again.fingerprint() == graph.fingerprint()
        assert again.labels is None


def test_files_give_the_graph_back(tmp_path: Path) -> None:
    graph = small_graph()
    path = to_file(graph, tmp_path)
    for source in (path, str(path)):
        assert as_graph(source).fingerprint() == graph.fingerprint()
    assert Graph.from_file(path).fingerprint() == read_graph(path, "rudy").fingerprint()


def test_as_graph_names_what_it_takes() -> None:
    for source in (None, 3, np.eye(2), [0, 1], torch.eye(2)):
        with pytest.raises(
            TypeError, match=r"^(a graph must be a Graph, a path|tensor must be a torch sparse)"
        ):
            as_graph(source)


def test_matrices_that_are_no_graph() -> None:
    matrix = sp.csr_array(np.array([[0, 1, 2], [1, 0, 3], [2, 3.5, 0]]))
    with pytest.raises(ValueError, match=r"entry \(1, 2\) is 3 but entry \(2, 1\) is 3\.5\.$"):
        as_graph(matrix)
    with pytest.raises(ValueError, match=r"entry \(0, 2\) is 2 but entry \(2, 0\) is absent\.$"):
        as_graph(sp.csr_array(np.array([[0, 1, 2], [1, 0, 3], [0, 3, 0]])))
    with pytest.raises(ValueError, match=r"^the matrix must be square; got shape \(2, 3\)\.$"):
        as_graph(sp.csr_array((2, 3)))
    with pytest.raises(TypeError, match=r"^weights must be real numbers; got complex128\.$"):
        as_graph(sp.csr_array(np.array([[0, 1j], [1j, 0]])))
    with pytest.raises(ValueError, match=r"^weights must be finite; entry 0 is nan\.$"):
        as_graph(sp.csr_array(np.array([[0, np.nan], [np.nan, 0]])))
    with pytest.raises(TypeError, match=r"^matrix must be a scipy\.sparse matrix; got ndarray\.$"):
        Graph.from_scipy(np.eye(2))


def test_indices_that_another_library_does_not_check() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # sparse CSR is in beta
        parts = (torch.tensor([0, 1, 2]), torch.tensor([7, 7]), torch.ones(2))
        broken = torch.sparse_csr_tensor(*parts, (2, 2), check_invariants=False)
    with pytest.raises(ValueError, match=r"^vertices must lie in \[0, 2\); got 7 to 7\.$"):
        as_graph(broken)


def test_matrix_diagonals_are_dropped_and_lone_zeros_kept() -> None:
    graph = as_graph(sp.coo_array(([1, 1, 5, 0], ([0, 1, 2, 0], [1, 0, 2, 2])), shape=(3, 3)))
    assert graph.notes == ("1 self-loop dropped",)
    assert [x.tolist() for x in graph.edges()] == [[0, 0], [1, 2], [1.0, 0.0]]


def test_torch_dtypes_and_blocks() -> None:
    indices = torch.tensor([[0, 1, 1, 0, 0], [1, 0, 0, 1, 0]])
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.int64):
        values = torch.tensor([1, 1, 2, 2, 9], dtype=dtype)
        tensor = torch.sparse_coo_tensor(indices, values, (2, 2), check_invariants=True)
        graph = as_graph(tensor)
        assert [x.tolist() for x in graph.edges()] == [[0], [1], [3.0]]
    blocks = torch.sparse_coo_tensor(indices, torch.ones(5, 2), (2, 2, 2), check_invariants=True)
    with pytest.raises(ValueError, match=r"^the matrix must be square; got shape \(2, 2, 2\)\.$"):
        as_graph(blocks)
    with pytest.raises(TypeError, match=r"^weights must be real numbers; got torch\.complex64\.$"):
        as_graph(
            torch.sparse_coo_tensor(
                indices, torch.ones(5, dtype=torch.complex64), (2, 2), check_invariants=True
            )
        )


def test_networkx_labels_and_attributes() -> None:
    graph = nx.Graph()
    graph.add_edge(70, 5, weight=2)
    graph.add_edge(5, -3)
    graph.add_edge(5, 5)
    ours = as_graph(graph)
    assert ours.labels is not None
    assert ours.labels.tolist() == [-3, 5, 70]
    assert [x.tolist() for x in ours.edges()] == [[0, 1], [1, 2], [1.0, 2.0]]
    assert ours.notes == ("1 self-loop dropped",)

    named = nx.Graph(name="people")
    named.add_edge("bob", "ann", strength=3)
    ours = Graph.from_networkx(named, weight="strength")
    assert (ours.name, ours.labels, ours.total_weight) == ("people", None, 3.0)
    assert ours.notes == ("vertices are in the order of graph.nodes",)

    graph.add_edge(70, 5, weight="heavy")
    with pytest.raises(ValueError, match=r"^weights must be numbers; that of edge \(70, 5\) is 'heavy'\.$"):
        as_graph(graph)
    graph.add_edge(70, 5, weight=float("nan"))
    with pytest.raises(ValueError, match=r"^weights must be finite; entry \d is nan\.$"):
        as_graph(graph)


def test_directed_and_parallel_edges() -> None:
    directed = nx.DiGraph([(0, 1), (1, 0), (1, 2)])
    assert [x.tolist() for x in as_graph(directed).edges()] == [[0, 1], [1, 2], [2.0, 1.0]]
    directed.add_edge(2, 1)
    assert as_graph(directed).total_weight == 2.0
    assert as_graph(directed).notes == ("every edge is listed in both directions and counts once",)
    parallel = nx.MultiGraph([(0, 1), (1, 0), (0, 1)])
    assert [x.tolist() for x in as_graph(parallel).edges()] == [[0], [1], [3.0]]
    assert as_graph(igraph.Graph([(0, 1), (1, 0)])).total_weight == 2.0
    assert as_graph(igraph.Graph([(0, 1), (1, 0)], directed=True)).total_weight == 1.0


def test_no_library_is_imported_that_nobody_brought() -> None:
    code = (
        "import sys; from sdp.maxcut.graph import as_graph; from sdp.maxcut import io;"
        "g = as_graph(([0, 1], [1, 2])); g.cut_value([0, 1, 0]);"
        "sys.exit(', '.join({'networkx', 'igraph', 'torch'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
