"""The choice of engine: where the tensors lie decides which twin of an operation runs.

Every family of operations (`graph`, `anneal`, ...) has one public file, which checks arguments, and one
twin of the same name for each engine. `SDP_ENGINE=cpu|triton|interpret` overrides the choice.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from types import ModuleType

import torch

ENGINES = ("cpu", "triton", "interpret")
_ENGINE_OF_DEVICE = {"cpu": "cpu", "cuda": "triton"}


def engine(*tensors: torch.Tensor) -> str:
    """Name of the engine that runs operations on these tensors.

    Args:
        tensors: the operation's tensors, all on one device.

    Returns:
        "cpu", "triton" or "interpret".

    Raises:
        ValueError: the tensors lie on several devices, on a device without an engine, or `SDP_ENGINE`
            names no engine.
    """
    devices = {tensor.device for tensor in tensors}
    if len(devices) > 1:
        named = ", ".join(sorted(map(str, devices)))
        raise ValueError(f"tensors must lie on one device; got {named}.")
    chosen = os.environ.get("SDP_ENGINE")
    if chosen:
        if chosen not in ENGINES:
            raise ValueError(f"SDP_ENGINE must be one of {', '.join(ENGINES)}; got {chosen!r}.")
        return chosen
    kind = next(iter(devices)).type if devices else "cpu"
    if kind not in _ENGINE_OF_DEVICE:
        raise ValueError(f"no engine for device {kind!r}; devices are {', '.join(_ENGINE_OF_DEVICE)}.")
    return _ENGINE_OF_DEVICE[kind]


def is_installed(name: str) -> bool:
    """Whether the package holds an engine of this name ("interpret" is the triton engine, interpreted)."""
    return importlib.util.find_spec(f"{__package__}.{'cpu' if name == 'cpu' else 'triton'}") is not None


def twin(family: str, *tensors: torch.Tensor) -> ModuleType:
    """The module that implements a family of operations for the device of these tensors.

    Raises:
        ValueError: as `engine`, or the engine is not part of this installation.
    """
    name = engine(*tensors)
    if not is_installed(name):
        raise ValueError(f"the {name} engine is not part of this installation; move the tensors to the CPU.")
    folder = "cpu" if name == "cpu" else "triton"
    return importlib.import_module(f"{__package__}.{folder}.{family}")
