"""Which engine runs the operations on a device, for those who choose a device before they have tensors."""

from __future__ import annotations

import importlib.util

import torch

from sdp_kernels import _engine


def engine_for(device: str) -> str:
    """Name of the engine that runs operations on tensors of this device here and now.

    Args:
        device: "cpu" or "cuda".

    Returns:
        "cpu", "triton", or what `SDP_ENGINE` asks for.

    Raises:
        ValueError: this installation cannot run operations on that device; the message says what is missing.

    >>> engine_for("cpu")
    'cpu'
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA device: torch finds none on this machine.")
    name = _engine.engine(torch.empty(0, device=device))
    if not _engine.is_installed(name):
        raise ValueError(f"no engine for {device}: this version of sdp-kernels has no {name} engine yet.")
    if name != "cpu" and importlib.util.find_spec("triton") is None:
        raise ValueError(f"no engine for {device}: the {name} engine needs the package triton.")
    return name
