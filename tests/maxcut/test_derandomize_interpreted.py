"""Derandomisation through the Triton engine, interpreted: the CPU engine's way down, and its cut."""

from __future__ import annotations

import numpy as np
import pytest

from sdp.maxcut import derandomize as room
from sdp.maxcut.derandomize import METHODS, derandomize
from tests.reference import cuts

CLOSE = 1e-6  # of sum |w|: float32 against float64, a step's rounding carried on by the next


@pytest.mark.parametrize("method", METHODS)
def test_same_way_down(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_SOSP_STEPS", 8)  # an evaluation takes a tenth of a second
    monkeypatch.setattr(room, "HOMOTOPY_STEPS", 1)
    csr = cuts.csr_of(cuts.sparse_random(16, 5.0, 1))
    V = cuts.mixing_method(cuts.dense(csr), 4, 30, 1)
    on_cpu = derandomize(csr, V, method, seed=1)
    monkeypatch.setenv("SDP_ENGINE", "interpret")
    found = derandomize(csr, V, method, seed=1)
    weight = 0.5 * float(csr.weights.abs().sum())
    assert found.cut_value == on_cpu.cut_value
    assert found.expected_value_before == pytest.approx(on_cpu.expected_value_before, abs=CLOSE * weight)
    # Later steps of the line searches may part by a halving.
    first = slice(0, 5)
    np.testing.assert_allclose(
        found.smooth_values[first], on_cpu.smooth_values[first], rtol=0.0, atol=CLOSE * weight
    )
