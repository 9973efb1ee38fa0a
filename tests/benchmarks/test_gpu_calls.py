"""The calls that `make gpu` times are the operations they name: here on the CPU engine, which has the same ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks import _gpu_calls
from sdp_kernels.triton.catalog import operations

CPU = torch.device("cpu")
SHAPE = {
    "rows": 2,
    "columns": 8,
    "width": 4,
    "depth": 2,
    "samples": 64,
    "directions": 3,
    "precision": "high",
    "vertices": 60,
    "degree": 8,
    "storage": "fp32",
    "replicas": 40,
    "sweeps": 3,
    "random": "independent",
    "planes": 40,
    "features": 16,
    "stored": 3,
    "components": 4,
    "kind": "gaussian",
}
PARAMETERS = 4 * 4 + 4 + 2 * (4 * 4 + 4) + 4 + 1
ENTRIES = 60 * 8
# Shapes of what a call returns; where it returns nothing, it changes something in place.
EXPECTED: dict[str, list[tuple[int, ...]] | None] = {
    "normal": [(2, 8)],
    "value": [(32,)],
    "grad": [(32,), (32, PARAMETERS)],
    "hvp": [(32,), (32, PARAMETERS), (32, 3, PARAMETERS)],
    "hessian_b": [(32, 3, 3)],
    "mixing sweep": None,
    "fields": [(60,), (60,)],
    "adjacency product": [(60, 8)],
    "chebyshev step": [(8,)],
    "gains": [(40, 60)],
    "anneal": [(40,)],
    "anneal packed": None,
    "cut values": [(64,)],
    "hyperplanes": [(60, 2)],
    "crossover": [(40,)],
    "probit cut value": None,
    "probit cut gradient": None,
    "projection": [(2, 4)],
    "sparse projection": [(2, 4)],
    "fwht": [(2, 16)],
    "srht": [(2, 4)],
}


def test_calls_and_their_sizes_are_listed_together() -> None:
    assert set(_gpu_calls.CALLS) == set(_gpu_calls.NEEDED) == set(EXPECTED)


@pytest.mark.parametrize("call", _gpu_calls.CALLS)
def test_calls_are_the_operations_they_name(call: str) -> None:
    shape = {name: SHAPE[name] for name in _gpu_calls.NEEDED[call]}
    run = _gpu_calls.CALLS[call](shape, CPU)
    found: Any = run()
    expected = EXPECTED[call]
    if expected is None:
        return
    assert [tuple(t.shape) for t in (found if isinstance(found, tuple) else (found,))] == expected
    again: Any = run()
    assert all(torch.isfinite(t.double()).all() for t in (again if isinstance(again, tuple) else (again,)))


@pytest.mark.parametrize("kind", ["rademacher", "blocked", "independent"])
@pytest.mark.parametrize("call", ["projection", "sparse projection"])
def test_every_kind_of_map(call: str, kind: str) -> None:
    found: Any = _gpu_calls.CALLS[call]({**SHAPE, "components": 32, "kind": kind}, CPU)()
    assert found.shape == (2, 32)


def test_packed_annealing_changes_its_words() -> None:
    csr, class_ptr = _gpu_calls.graph_of(SHAPE, CPU)
    packed = _gpu_calls.packed_of(SHAPE, csr.n_vertices, CPU)
    assert packed.shape == (60, 2)
    assert packed.dtype == torch.int32
    assert int(class_ptr[-1]) == 60
    assert csr.indices.numel() == ENTRIES


def test_every_operation_of_the_report_can_be_timed() -> None:
    for operation in operations():
        if operation.call:
            assert set(operation.shape) == _gpu_calls.NEEDED[operation.call], operation.name
