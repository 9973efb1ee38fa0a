"""State of a solve in a file, so that a killed run goes on from its best."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdp.maxcut.graph import Graph
from sdp.maxcut.io import atomic_write

_FORMAT = 1
# All that numpy, zipfile and json were seen to raise at damaged bytes, and their relatives.
_DAMAGE = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Checkpoint:
    """What is kept.

    Attributes:
        partition: uint8 (n,) of 0 and 1.
        upper_bound: certified, infinite if none is.
        bound_kind: as `MaxCutResult.bound_kind`.
        delta: as `MaxCutResult.delta`.
        relaxation_value: as `MaxCutResult.relaxation_value`.
        history: (seconds, cut_value, upper_bound) rows.
        elapsed: seconds of solving so far.
        runs: how many runs have contributed; each draws from streams of its own.
    """

    partition: NDArray[np.uint8]
    upper_bound: float
    bound_kind: str
    delta: float
    relaxation_value: float
    history: tuple[tuple[float, float, float], ...]
    elapsed: float
    runs: int


def save(path: str | os.PathLike[str], graph: Graph, state: Checkpoint) -> None:
    """Writes a checkpoint by atomic rename; a crash leaves the old file or the new one."""
    header = {
        "format": _FORMAT,
        "graph": graph.fingerprint(),
        "bound_kind": state.bound_kind,
        "runs": state.runs,
    }
    numbers = np.array([state.upper_bound, state.delta, state.relaxation_value, state.elapsed])
    with atomic_write(path, "wb") as file:
        np.savez(
            file,
            header=np.array(json.dumps(header)),
            numbers=numbers,
            partition=np.packbits(state.partition),
            history=np.array(state.history, np.float64).reshape(-1, 3),
        )


def load(path: str | os.PathLike[str], graph: Graph) -> Checkpoint:
    """Reads a checkpoint of this graph.

    Raises:
        ValueError: the file is no checkpoint, is damaged, or belongs to another graph.
        OSError: it cannot be read.
    """
    # Read first: what goes wrong from here on is the content's fault, and no file stays open.
    with open(path, "rb") as file:
        content = io.BytesIO(file.read())
    try:
        with np.load(content, allow_pickle=False) as stored:
            header = json.loads(str(stored["header"]))
            upper_bound, delta, relaxation_value, elapsed = stored["numbers"].tolist()
            packed, history = stored["partition"], stored["history"]
        if header["format"] != _FORMAT:
            raise ValueError("another format")
        state = Checkpoint(
            partition=np.unpackbits(packed, count=graph.n_vertices),
            upper_bound=upper_bound,
            bound_kind=str(header["bound_kind"]),
            delta=delta,
            relaxation_value=relaxation_value,
            history=tuple((t, cut, bound) for t, cut, bound in history.tolist()),
            elapsed=elapsed,
            runs=int(header["runs"]),
        )
        fingerprint = header["graph"]
    except _DAMAGE as error:
        raise ValueError(
            f"checkpoint {os.fspath(path)!r} is damaged or no checkpoint of sdp maxcut."
        ) from error
    if fingerprint != graph.fingerprint():
        raise ValueError(
            f"checkpoint {os.fspath(path)!r} belongs to another graph than {graph.name or 'this one'!r}."
        )
    return state
