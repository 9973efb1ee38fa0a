"""The names and parameters that users may rely on: a change here is a change of the public API."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import subprocess
import sys

import pytest

import sdp
import sdp_kernels

PUBLIC = [
    "Blocks",
    "CallableHead",
    "Certificate",
    "Derandomization",
    "Estimate",
    "Expectation",
    "GaussianJL",
    "Graph",
    "LearnedJL",
    "MLP",
    "MaxCutResult",
    "PGD",
    "RademacherJL",
    "SRHT",
    "SparseJL",
    "StructureResult",
    "TeacherStudent",
    "__version__",
    "certify",
    "certify_function",
    "derandomize",
    "discover_structure",
    "johnson_lindenstrauss_min_dim",
    "maxcut",
    "track_structure",
]

MAXCUT_PARAMETERS = [
    "graph",
    "time_limit",
    "target_gap",
    "target_cut",
    "seed",
    "threads",
    "method",
    "warm_start",
    "callback",
    "checkpoint",
    "delta",
    "bound_share",
    "reduce",
    "max_rounds",
    "certificate",
    "device",
]
RESULT_FIELDS = [
    "cut_value",
    "partition",
    "upper_bound",
    "gap",
    "bound_kind",
    "delta",
    "relaxation_value",
    "status",
    "history",
    "timings",
    "seed",
    "method",
    "threads",
    "device",
    "engine",
    "graph_name",
    "n_vertices",
    "n_edges",
    "notes",
]
EXPECTATION_PARAMETERS = [
    "head",
    "W",
    "b",
    "n_samples",
    "seed",
    "method",
    "antithetic",
    "rel_error",
    "max_samples",
    "control_variate",
    "precision",
]
EXPECTATION_METHODS = {
    "at": ["W", "b"],
    "redrawn": ["seed", "n_samples", "method", "precision"],
    "smoothness_objection": [],
    "value": [],
    "grad": [],
    "value_and_grad": [],
    "hvp": ["directions"],
    "hessian_z": [],
    "to_scipy": [],
}
ESTIMATE_FIELDS = [
    "value",
    "standard_error",
    "n_samples",
    "method",
    "degrees_of_freedom",
    "converged",
    "notes",
]
CERTIFY_PARAMETERS = ["F", "lam", "delta", "eps", "curvature", "variables", "points", "n_batches", "seed"]
CERTIFY_FUNCTION_PARAMETERS = [
    "f",
    "params",
    "eps",
    "curvature",
    "delta",
    "batches",
    "tolerance",
    "columns",
    "max_steps",
    "dense_size",
    "seed",
    "progress",
]
DERANDOMIZE_PARAMETERS = ["F", "method", "lam", "delta", "max_steps", "compare", "seed", "progress"]
PGD_PARAMETERS = [
    "params",
    "lr",
    "mode",
    "momentum",
    "line_search",
    "eps",
    "curvature",
    "perturb",
    "wait",
    "hvp",
    "stochastic",
    "seed",
    "foreach",
    "ell",
    "rho",
    "gap",
    "delta",
    "sigma",
    "year",
    "force",
]
MLP_PARAMETERS = [
    "widths",
    "activation",
    "loss",
    "target",
    "activate_input",
    "iota",
    "seed",
    "dtype",
    "device",
]
OPERATIONS = {  # family of sdp_kernels -> its operations
    "activations": {"derivatives", "evaluate"},
    "anneal": {"anneal", "anneal_packed", "one_opt", "partition_crossover"},
    "expectation": {
        "batch_sizes",
        "expectation",
        "flatten",
        "grad_batches",
        "hessian_b_batches",
        "hvp_batches",
        "unflatten",
        "value_batches",
    },
    "gaussian": {"normal", "rademacher", "uniform_bits"},
    "graph": {
        "adjacency_product",
        "chebyshev_step",
        "chebyshev_steps",
        "fields",
        "gains",
        "laplacian_product",
        "mixing_sweep",
        "mixing_sweeps",
        "offers_rounded_steps",
        "rounded_chebyshev_step",
    },
    "hadamard": {"fwht", "padded", "sampled_rows", "srht"},
    "probit_cut": {
        "conditional_rounding",
        "hessian_product",
        "law",
        "law_derivatives",
        "law_value",
        "law_value_and_derivatives",
        "probit_cut_value",
        "probit_cut_value_and_grad",
        "scaled_law",
    },
    "projection": {"blocked", "gaussian", "independent", "rademacher"},
    "replicas": {"cut_values", "n_words", "pack_signs", "project_signs", "unpack_signs"},
}
GRAPH_METHODS = {
    "from_file": ["path", "format"],
    "from_edges": ["u", "v", "w", "n_vertices"],
    "cut_value": ["partition"],
    "fingerprint": [],
    "to_scipy": [],
}
GRAPH_CONSTRUCTORS = {"from_scipy", "from_networkx", "from_igraph", "from_torch"}
GRAPH_ATTRIBUTES = {
    "indptr",
    "indices",
    "weights",
    "exact_weights",
    "labels",
    "name",
    "notes",
    "n_vertices",
    "n_edges",
    "total_weight",
    "absolute_weight",
    "weights64",
    "is_integer",
}


def parameters(function: object) -> list[str]:
    assert callable(function)
    return list(inspect.signature(function).parameters)


def test_public_names_of_sdp() -> None:
    assert sorted(sdp.__all__) == PUBLIC
    for name in PUBLIC:
        assert name in dir(sdp)
        assert getattr(sdp, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'mincut'"):
        sdp.mincut  # noqa: B018


def test_parameters_of_maxcut() -> None:
    assert parameters(sdp.maxcut) == MAXCUT_PARAMETERS
    keywords = list(inspect.signature(sdp.maxcut).parameters.values())[1:]
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in keywords)


def test_fields_of_the_result() -> None:
    assert list(sdp.MaxCutResult.__dataclass_fields__) == RESULT_FIELDS
    assert callable(sdp.MaxCutResult.to_dict)


def test_members_of_the_expectation() -> None:
    assert parameters(sdp.Expectation) == EXPECTATION_PARAMETERS
    assert parameters(sdp.MLP) == MLP_PARAMETERS
    assert list(sdp.Estimate.__dataclass_fields__) == ESTIMATE_FIELDS
    assert sdp.Blocks._fields == ("W", "b", "theta")
    for name, expected in EXPECTATION_METHODS.items():
        method = getattr(sdp.Expectation, name)
        assert parameters(method)[1:] == expected  # less self
        assert inspect.getdoc(method)


def test_parameters_of_optimisation() -> None:
    assert parameters(sdp.PGD) == PGD_PARAMETERS
    assert parameters(sdp.certify) == CERTIFY_PARAMETERS
    assert parameters(sdp.certify_function) == CERTIFY_FUNCTION_PARAMETERS
    assert parameters(sdp.derandomize) == DERANDOMIZE_PARAMETERS


def test_members_of_graph() -> None:
    graph = sdp.Graph.from_edges([0, 1, 2], [1, 2, 0])
    for name, expected in GRAPH_METHODS.items():
        assert parameters(getattr(graph, name)) == expected
    for name in GRAPH_CONSTRUCTORS:
        assert callable(getattr(sdp.Graph, name))
    assert set(dir(graph)) >= GRAPH_ATTRIBUTES


@pytest.mark.parametrize("family", sorted(OPERATIONS))
def test_operations_of_the_kernels(family: str) -> None:
    """Each family has these operations, each of them a docstring, and the family a CPU twin."""
    module = importlib.import_module(f"sdp_kernels.{family}")
    found = {
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith(("_", "check_"))
    }
    assert found == OPERATIONS[family]
    assert all(inspect.getdoc(getattr(module, name)) for name in found)
    assert importlib.util.find_spec(f"sdp_kernels.cpu.{family}") is not None


def test_every_public_file_of_the_kernels_is_a_family() -> None:
    public = {module.name for module in pkgutil.iter_modules(sdp_kernels.__path__) if not module.ispkg}
    assert {name for name in public if not name.startswith("_")} == {*OPERATIONS, "engines", "threads"}


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param("import sdp", id="the package"),
        pytest.param("import sdp.maxcut.graph", id="a module of the subpackage"),
        pytest.param("from sdp.maxcut import graph\ngraph.Graph", id="module from the subpackage"),
        pytest.param("from sdp.maxcut.graph import Graph", id="name from a module"),
        pytest.param("import sdp\nsdp.maxcut\nfrom sdp.maxcut import io\nio.read_graph", id="afterwards"),
        pytest.param("from sdp import maxcut\nassert inspect.isfunction(maxcut)", id="from the package"),
        pytest.param("from sdp import *\nassert inspect.isfunction(maxcut)", id="star"),
    ],
)
def test_maxcut_stays_the_function(statements: str) -> None:
    """Importing the subpackage sdp/maxcut, in whatever way and order, does not replace sdp.maxcut."""
    code = f"import inspect\n{statements}\nimport sdp\nassert inspect.isfunction(sdp.maxcut), sdp.maxcut"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_import_loads_nothing_heavy() -> None:
    code = "import sdp, sys; print([name for name in ('torch', 'numba', 'scipy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
