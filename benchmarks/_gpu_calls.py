"""How `make gpu` calls each operation of the catalogue: a maker a name, from the operation's shape to a call.

A maker takes `Operation.shape` and a device and returns a function without arguments; what it prepares (graphs,
random input, outputs) is outside the clock. `NEEDED` tells the sizes that a shape must name. The graphs are sparse
random ones, every weight 1, coloured and ordered as the solver does it.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch

from sdp_kernels.graph import CSR

SEED = 0
TEMPERATURE = (
    0.5  # in units of edge weight, between the heats and the cold that the solver anneals from and to
)
BETA = 8.0
NONZEROS, DENSITY = 8, 0.01  # of sparse maps
Call = Callable[[], object]
Shape = Mapping[str, Any]
Maker = Callable[[Shape, torch.device], Call]
DTYPES = {"fp16": torch.float16, "fp32": torch.float32, "fp64": torch.float64}


def normals(shape: Shape, device: torch.device) -> Call:
    """Normals of a float32 matrix."""
    from sdp_kernels import gaussian

    rows, columns = int(shape["rows"]), int(shape["columns"])
    out = torch.empty(rows, columns, device=device)
    return lambda: gaussian.normal((rows, columns), seed=SEED, device=device, out=out)


def expectation(name: str) -> Maker:
    """Values, gradients or Hessian-vector products of a tanh network of equal widths, q = k = h."""

    def prepare(shape: Shape, device: torch.device) -> Call:
        from sdp_kernels.expectation import (
            Draw,
            Network,
            grad_batches,
            hessian_b_batches,
            hvp_batches,
            value_batches,
        )

        width, depth = int(shape["width"]), int(shape["depth"])
        made = torch.Generator().manual_seed(SEED)

        def matrix(*sizes: int) -> torch.Tensor:
            return torch.randn(*sizes, generator=made).mul_(width**-0.5).to(device)

        # A Hessian in b takes k directions, so k is their number there.
        k = int(shape["directions"]) if name == "hessian_b" else width
        L, b = matrix(k, width), matrix(k)
        params = [t for i in range(depth) for t in (matrix(width, width if i else k), matrix(width))]
        params += [matrix(width), torch.zeros((), device=device)]
        network = Network("tanh")
        draw = Draw(n=int(shape["samples"]) // 2, seed=SEED)  # antithetic: pairs
        precision = str(shape["precision"])
        if name == "value":
            return lambda: value_batches(L, b, params, network, draw, precision)
        if name == "grad":
            return lambda: grad_batches(L, b, params, network, draw, precision)
        if name == "hessian_b":
            return lambda: hessian_b_batches(L, b, params, network, draw, precision)
        n_columns = sum(t.numel() for t in (L, b, *params))
        directions = matrix(int(shape["directions"]), n_columns)
        return lambda: hvp_batches(L, b, params, network, draw, directions, precision)

    return prepare


@lru_cache(maxsize=2)  # some gigabytes each at the largest shapes
def _graph(vertices: int, degree: int, device: torch.device) -> tuple[CSR, torch.Tensor]:
    """Rows on the device, colour classes on the CPU."""
    from sdp.maxcut.problem import prepare
    from tools import make_graphs

    problem = prepare(make_graphs.random_sparse(vertices, float(degree), seed=SEED))
    return CSR(*(tensor.to(device) for tensor in problem.csr)), problem.class_ptr


def graph_of(shape: Shape, device: torch.device) -> tuple[CSR, torch.Tensor]:
    """The graph of a shape's "vertices" and "degree"; vertices that no edge meets are left out."""
    return _graph(int(shape["vertices"]), int(shape["degree"]), device)


def rows_of(shape: Shape, n: int, device: torch.device) -> torch.Tensor:
    """Random unit rows (n, "columns") of the shape's "storage"."""
    made = torch.Generator().manual_seed(SEED)
    rows = torch.randn(n, int(shape["columns"]), generator=made)
    return torch.nn.functional.normalize(rows).to(DTYPES[shape["storage"]]).to(device)


def signs_of(replicas: int, n: int, device: torch.device) -> torch.Tensor:
    """Random signs, int8 (replicas, n)."""
    made = torch.Generator().manual_seed(SEED)
    return torch.randint(0, 2, (replicas, n), generator=made, dtype=torch.int8).mul_(2).sub_(1).to(device)


def mixing_sweep(shape: Shape, device: torch.device) -> Call:
    """One sweep; recorded as a CUDA graph from the second call on."""
    from sdp_kernels.graph import mixing_sweeps

    csr, class_ptr = graph_of(shape, device)
    V = rows_of(shape, csr.n_vertices, device)
    return lambda: mixing_sweeps(csr, class_ptr, V, 0.9, 1)


def fields(shape: Shape, device: torch.device) -> Call:
    """Lengths of all fields."""
    from sdp_kernels import graph

    csr, _ = graph_of(shape, device)
    V = rows_of(shape, csr.n_vertices, device)
    return lambda: graph.fields(csr, V)


def adjacency_product(shape: Shape, device: torch.device) -> Call:
    """A X for X of the shape's storage."""
    from sdp_kernels import graph

    csr, _ = graph_of(shape, device)
    X = rows_of(shape, csr.n_vertices, device)
    rows = CSR(csr.indptr, csr.indices, csr.weights.to(X.dtype))
    return lambda: graph.adjacency_product(rows, X)


def chebyshev_step(shape: Shape, device: torch.device) -> Call:
    """One step of the certificate in float64; with rows of this norm blocks neither grow nor vanish."""
    from sdp_kernels import graph

    csr, _ = graph_of(shape, device)
    rows = CSR(csr.indptr, csr.indices, csr.weights.double() / (2 * float(shape["degree"])))
    diagonal = torch.zeros(csr.n_vertices, dtype=torch.float64, device=device)
    X = rows_of({**shape, "storage": "fp64"}, csr.n_vertices, device)
    previous = X.flip(0).contiguous()
    return lambda: graph.chebyshev_step(rows, diagonal, X, previous)


def gains(shape: Shape, device: torch.device) -> Call:
    """Gains of all replicas."""
    from sdp_kernels import graph

    csr, _ = graph_of(shape, device)
    signs = signs_of(int(shape["replicas"]), csr.n_vertices, device)
    return lambda: graph.gains(csr, signs)


def anneal(shape: Shape, device: torch.device) -> Call:
    """So many "sweeps" of int8 replicas with their gains, at one temperature."""
    from sdp_kernels import graph
    from sdp_kernels.anneal import anneal

    csr, class_ptr = graph_of(shape, device)
    signs = signs_of(int(shape["replicas"]), csr.n_vertices, device)
    gained = graph.gains(csr, signs)
    temperatures = torch.full((signs.shape[0], int(shape["sweeps"])), TEMPERATURE, device=device)
    return lambda: anneal(csr, class_ptr, signs, gained, temperatures, seed=SEED)


def packed_of(shape: Shape, n: int, device: torch.device) -> torch.Tensor:
    """Random words int32 (n, "replicas" / 32)."""
    from sdp_kernels.replicas import n_words

    made = torch.Generator().manual_seed(SEED)
    size = (n, n_words(int(shape["replicas"])))
    return torch.randint(-(2**31), 2**31, size, generator=made).to(torch.int32).to(device)


def anneal_packed(shape: Shape, device: torch.device) -> Call:
    """So many "sweeps" of packed replicas, at one temperature; "random" as `anneal_packed` names it."""
    from sdp_kernels.anneal import anneal_packed

    csr, class_ptr = graph_of(shape, device)
    packed = packed_of(shape, csr.n_vertices, device)
    temperatures = torch.full((packed.shape[1], int(shape["sweeps"])), TEMPERATURE, device=device)
    random = str(shape["random"])
    return lambda: anneal_packed(csr, class_ptr, packed, temperatures, seed=SEED, random=random)


def cut_values(shape: Shape, device: torch.device) -> Call:
    """Cut values of packed replicas."""
    from sdp_kernels import replicas

    csr, _ = graph_of(shape, device)
    packed = packed_of(shape, csr.n_vertices, device)
    return lambda: replicas.cut_values(csr, packed)


def hyperplanes(shape: Shape, device: torch.device) -> Call:
    """Packed signs of V ("vertices", "columns") times "planes" normals."""
    from sdp_kernels import replicas

    V = rows_of({**shape, "storage": "fp32"}, int(shape["vertices"]), device)
    made = torch.Generator().manual_seed(SEED)
    planes = torch.randn(V.shape[1], int(shape["planes"]), generator=made).to(device)
    return lambda: replicas.project_signs(V, planes)


def crossover(shape: Shape, device: torch.device) -> Call:
    """The best mixture of one partition with "replicas" others, each with one vertex in ten moved."""
    from sdp_kernels.anneal import partition_crossover

    csr, _ = graph_of(shape, device)
    elite = signs_of(1, csr.n_vertices, device)
    made = torch.Generator().manual_seed(SEED)
    moved = torch.rand(int(shape["replicas"]), csr.n_vertices, generator=made) < 0.1
    others = torch.where(moved.to(device), -elite, elite).contiguous()
    return lambda: partition_crossover(csr, elite.clone(), others)


def probit_cut(name: str) -> Maker:
    """The smooth cut of V, alone or with its gradients in V and mu."""

    def prepare(shape: Shape, device: torch.device) -> Call:
        from sdp_kernels import probit_cut

        csr, _ = graph_of(shape, device)
        V = rows_of({**shape, "storage": "fp32"}, csr.n_vertices, device)
        mu = torch.zeros(csr.n_vertices, device=device)
        if name == "value":
            return lambda: probit_cut.probit_cut_value(csr, V, mu, BETA)
        return lambda: probit_cut.probit_cut_value_and_grad(csr, V, mu, BETA)

    return prepare


def projection(shape: Shape, device: torch.device) -> Call:
    """Dense rows ("rows", "features") of the shape's "storage" times a map of a "kind" with "components" columns."""
    from sdp_kernels import projection

    X = _features(shape).to(DTYPES[shape["storage"]]).to(device)
    return _projected(projection, shape, X)


def sparse_projection(shape: Shape, device: torch.device) -> Call:
    """The same of compressed rows of "stored" entries each."""
    from sdp_kernels import projection

    rows, features, stored = (int(shape[name]) for name in ("rows", "features", "stored"))
    made = torch.Generator().manual_seed(SEED)
    indices = torch.randint(0, features, (rows, stored), generator=made).sort(1).values.flatten()
    X = projection.SparseRows(
        torch.arange(0, rows * stored + 1, stored, device=device),
        indices.to(torch.int32).to(device),
        torch.randn(rows * stored, generator=made).to(device),
        features,
    )
    return _projected(projection, shape, X)


def _features(shape: Shape) -> torch.Tensor:
    made = torch.Generator().manual_seed(SEED)
    return torch.randn(int(shape["rows"]), int(shape["features"]), generator=made)


def _projected(projection: Any, shape: Shape, X: Any) -> Call:
    components, kind = int(shape["components"]), str(shape["kind"])
    n_rows = int(shape["rows"])
    out = torch.empty(n_rows, components, device=X[0].device)
    if kind.startswith("blocked"):  # "blocked", or "blocked 4" for four entries a feature
        stored = int(kind.partition(" ")[2] or NONZEROS)
        return lambda: projection.blocked(X, components, stored, seed=SEED, out=out)
    if kind == "independent":
        return lambda: projection.independent(X, components, DENSITY, seed=SEED, out=out)
    dense = getattr(projection, kind)
    return lambda: dense(X, components, seed=SEED, out=out)


def fwht(shape: Shape, device: torch.device) -> Call:
    """The fast Walsh-Hadamard transform of float32 rows, "features" a power of two."""
    from sdp_kernels import hadamard

    X = _features(shape).to(device)
    out = torch.empty_like(X)
    return lambda: hadamard.fwht(X, out=out)


def srht(shape: Shape, device: torch.device) -> Call:
    """The subsampled randomised Hadamard transform of float32 rows."""
    from sdp_kernels import hadamard

    X, components = _features(shape).to(device), int(shape["components"])
    return lambda: hadamard.srht(X, components, seed=SEED)


CALLS: dict[str, Maker] = {
    "normal": normals,
    "value": expectation("value"),
    "grad": expectation("grad"),
    "hvp": expectation("hvp"),
    "hessian_b": expectation("hessian_b"),
    "mixing sweep": mixing_sweep,
    "fields": fields,
    "adjacency product": adjacency_product,
    "chebyshev step": chebyshev_step,
    "gains": gains,
    "anneal": anneal,
    "anneal packed": anneal_packed,
    "cut values": cut_values,
    "hyperplanes": hyperplanes,
    "crossover": crossover,
    "probit cut value": probit_cut("value"),
    "probit cut gradient": probit_cut("gradient"),
    "projection": projection,
    "sparse projection": sparse_projection,
    "fwht": fwht,
    "srht": srht,
}
_GRAPH = {"vertices", "degree"}
_HEAD = {"width", "depth", "samples", "precision"}
NEEDED: dict[str, set[str]] = {
    "normal": {"rows", "columns"},
    "value": _HEAD,
    "grad": _HEAD,
    "hvp": _HEAD | {"directions"},
    "hessian_b": _HEAD | {"directions"},
    "mixing sweep": _GRAPH | {"columns", "storage"},
    "fields": _GRAPH | {"columns", "storage"},
    "adjacency product": _GRAPH | {"columns", "storage"},
    "chebyshev step": _GRAPH | {"columns"},
    "gains": _GRAPH | {"replicas"},
    "anneal": _GRAPH | {"replicas", "sweeps"},
    "anneal packed": _GRAPH | {"replicas", "sweeps", "random"},
    "cut values": _GRAPH | {"replicas"},
    "hyperplanes": {"vertices", "columns", "planes"},
    "crossover": _GRAPH | {"replicas"},
    "probit cut value": _GRAPH | {"columns"},
    "probit cut gradient": _GRAPH | {"columns"},
    "projection": {"rows", "features", "components", "kind", "storage"},
    "sparse projection": {"rows", "features", "components", "kind", "stored"},
    "fwht": {"rows", "features"},
    "srht": {"rows", "features", "components"},
}
