"""Where a solve computes: the device, the engine that works there, and whether a graph has room on it.

A graph is read, reduced and coloured on the host; then its rows move to the device once, and what the relaxation, the
certificate and the local search need stays there. Between the two only numbers travel, when somebody looks at the
clock (`between_looks`), and partitions, when one is better than all before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sdp.maxcut.derandomize import METHODS as DERANDOMIZERS
from sdp_kernels.engines import engine_for

DEVICES = ("auto", "cpu", "cuda")
MOST_ENTRIES = 2**31 - 1  # of the rows, two an edge: their places are counted in 32 bits on a device
KEPT_FREE = 0.05  # of the free memory, for the driver's own and for what the allocator cannot use
WORDS = 8  # of 32 partitions, that a device polishes at once ...
POLISH_BYTES = 8 << 30  # ... or as many as take so much, at least one
_LOOK_ENTRIES = 1e10  # entries of V that sweeps on a device read between two looks at the clock: about 20 ms

_FAMILIES = ("graph", "replicas", "anneal", "gaussian")
_PARTITION_BYTES = 10  # a vertex and partition: sign, gain, difference, label of its component, a packed bit
_EDGE_BYTES = 15  # an entry, while edges are listed once each for cuts and crossovers; 6 are kept


@dataclass(frozen=True)
class Place:
    """Where a solve computes.

    Attributes:
        device: of the tensors.
        engine: "cpu", "triton" or "interpret".
        notes: why it is not the device that one might expect.
        is_choice: whether the caller insisted on it.
    """

    device: torch.device
    engine: str
    notes: tuple[str, ...] = ()
    is_choice: bool = False


def choose(device: str, method: str) -> Place:
    """The place that is asked for; "auto" is a GPU where torch sees one and the engine has all that is needed.

    Args:
        device: one of DEVICES.
        method: of `maxcut`.

    Raises:
        ValueError: another name, or this installation cannot solve graphs there; the sentence says why.
    """
    if device not in DEVICES:
        raise ValueError(f"`device` must be one of {', '.join(DEVICES)}; got {device!r}.")
    if device == "cuda":
        try:
            return Place(torch.device(device), engine_on(device, method), is_choice=True)
        except ValueError as error:
            raise ValueError(f"`device` cuda cannot be used: {error}") from error
    if device == "auto" and torch.cuda.is_available():
        try:
            engine = engine_on("cuda", method)
        except ValueError as error:
            return cpu_instead(str(error), method)
        if engine == "triton":
            return Place(torch.device("cuda"), engine)
    return Place(torch.device("cpu"), engine_on("cpu", method), is_choice=device == "cpu")


def cpu_instead(reason: str, method: str) -> Place:
    """The CPU, with a note that says why a GPU on which nobody insisted is not used."""
    return Place(torch.device("cpu"), engine_on("cpu", method), (f"solved on the CPU: {reason}",))


def engine_on(device: str, method: str = "auto") -> str:
    """Name of the engine that solves graphs by this method on this device ("cpu" or "cuda").

    Raises:
        ValueError: it cannot be done; the sentence says what is missing.
    """
    families = (*_FAMILIES, "probit_cut") if method in DERANDOMIZERS else _FAMILIES
    engines = {engine_for(device, family) for family in families}
    engine = engines.pop()
    if device == "cuda" and engine == "cpu":
        raise ValueError("SDP_ENGINE asks for the cpu engine, which works on the CPU alone.")
    return engine


def no_room(n: int, entries: int, rank: int, method: str, device: torch.device) -> str | None:
    """Why a graph cannot be solved on a device, as a sentence; None where it can.

    Args:
        n: vertices.
        entries: of the rows, two an edge.
        rank: columns of the relaxation's V.
        method: of `maxcut`.
        device: where.
    """
    if device.type != "cuda":
        return None
    if entries > MOST_ENTRIES:
        return (
            f"the graph has {entries:,} edge entries (two an edge), a device takes {MOST_ENTRIES:,} at most."
        )
    needed, free = bytes_needed(n, entries, rank, method), (1 - KEPT_FREE) * free_bytes(device)
    if needed > free:
        return f"the graph needs about {needed / 1e9:.1f} GB of its memory, of which {free / 1e9:.1f} GB are free."
    return None


def bytes_needed(n: int, entries: int, rank: int, method: str) -> int:
    """Bytes that a solve holds on a device at its peak, to about a tenth; arguments as `no_room`.

    - always: the rows (8 bytes a vertex, 8 an entry), and the kernels' plans of them (twice 16 bytes a row and a
      stretch of 128 entries of it);
    - relaxation: V, and while it grows its turned copy and the wider one; its certificate: float64 weights and two
      arrays of their size while these are made, six blocks of 8 columns;
    - derandomization: second moments and second derivatives of each entry in float64 with their temporaries, 14
      copies of V (descent's own; `sdp.optim.descent`);
    - polish: `words` of 32 partitions, and the list of edges.
    """
    always = 8 * (n + 1 + entries) + 2 * 16 * (n + entries // 128)
    wide = max(rank, min(64, 2 * rank))
    stages = [32 * words(n) * _PARTITION_BYTES * n + _EDGE_BYTES * entries]
    if method != "anneal":
        stages.append(4 * n * (2 * rank + wide) + 32 * entries + 6 * 64 * n)
    if method in DERANDOMIZERS:
        stages.append(14 * 4 * n * rank + 48 * entries)
    return always + max(stages)


def free_bytes(device: torch.device) -> int:
    """What torch may still allocate on a GPU, in bytes: free memory, and what it holds without using it."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def words(n: int) -> int:
    """Words of 32 partitions of n vertices that are polished at once on a device: the same on every device."""
    return max(1, min(WORDS, POLISH_BYTES // (32 * _PARTITION_BYTES * max(n, 1))))


def between_looks(device: torch.device, entries: float, most: int) -> int:
    """Steps between two looks at the clock: one on the CPU; on a device many, so that it never waits for the host.

    Args:
        device: where the steps are made.
        entries: of a matrix that a step reads.
        most: steps, where they are short.
    """
    if device.type == "cpu":
        return 1
    return max(1, min(most, int(_LOOK_ENTRIES / max(entries, 1))))


def is_interpreted(device: torch.device) -> bool:
    """Whether kernels on this device are interpreted: right, compiled by nobody, and thousands of times slower."""
    return device.type == "cpu" and engine_for("cpu") == "interpret"


def wait(device: torch.device) -> None:
    """Waits until all that was launched is done; without it a clock would tell when work was ordered."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Room for numbers; on the CPU by numpy, which asks for huge pages as torch does not."""
    if device.type != "cpu":
        return torch.empty(*shape, dtype=dtype, device=device)
    return torch.from_numpy(np.empty(shape, str(dtype).removeprefix("torch.")))


def zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros, as `empty`."""
    return empty(shape, dtype, device).zero_()
