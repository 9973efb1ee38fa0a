"""The parts of a certificate as JSON, without the claims that the checker works out."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Edges = tuple[NDArray[np.signedinteger], NDArray[np.signedinteger]]


def packed(array: Any, kind: str) -> str:
    """Base64 of the entries, little-endian."""
    return base64.b64encode(np.ascontiguousarray(array).astype(kind).tobytes()).decode()


def rows_part(
    lengths: Any = (),
    members: Any = (),
    in_f: Any = (),
    multipliers: Any = (),
    *,
    added: Any = (),
    parts: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Rows with multipliers, the edges that they add, and the parts that prove what they leave."""
    return {
        "kind": "rows",
        "added": packed(added, "<u4"),
        "lengths": packed(lengths, "<u4"),
        "members": packed(members, "<u4"),
        "F": packed(in_f, "|u1"),
        "multipliers": packed(multipliers, "<f8"),
        "parts": list(parts),
    }


def piece(edges: Any, proof: dict[str, Any]) -> dict[str, Any]:
    """A part for some of the edges that rows leave, by their numbers."""
    return {"edges": packed(edges, "<u4"), "proof": proof}


def twins_part(into: Any, turned: Any, proof: dict[str, Any]) -> dict[str, Any]:
    """Vertices made one or turned over, and the proof of the graph that they leave."""
    return {"kind": "twins", "into": packed(into, "<u4"), "turned": packed(turned, "|u1"), "proof": proof}
