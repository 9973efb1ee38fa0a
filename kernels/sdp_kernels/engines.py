"""Which engine runs the operations on a device, for those who choose a device before they have tensors."""

from __future__ import annotations

import torch

from sdp_kernels import _engine


def engine_for(device: str, family: str | None = None) -> str:
    """Name of the engine that runs operations on tensors of this device here and now.

    Args:
        device: "cpu" or "cuda".
        family: the operations that are needed ("graph", "gaussian", ...); None asks for the engine alone.

    Returns:
        "cpu", "triton", or what `SDP_ENGINE` asks for.

    Raises:
        ValueError: this installation cannot run operations on that device; the message says what is missing.

    >>> engine_for("cpu", "graph")
    'cpu'
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA device: torch finds none on this machine.")
    name = _engine.engine_of(device)
    _engine.check_loadable(name, family)
    return name
