"""The choice of engine: where the tensors lie decides which twin of an operation runs.

Every family of operations (`graph`, `gaussian`, ...) has one public file, which checks arguments, and one
twin of the same name for each engine. `SDP_ENGINE=cpu|triton|interpret` overrides the choice. "interpret" runs
the Triton twin on the CPU in Triton's interpreter, which is slow and for tests.

Triton decides when it is imported whether it compiles or interprets, so one process does one or the other:
asking for both is an error. Other packages (torch.library among them) may import triton first; this module
therefore settles the mode as soon as it is loaded, if `SDP_ENGINE` says interpret.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ENGINES = ("cpu", "triton", "interpret")
_ENGINE_OF_DEVICE = {"cpu": "cpu", "cuda": "triton"}
_INTERPRET = "TRITON_INTERPRET"

if os.environ.get("SDP_ENGINE") == "interpret" and "triton" not in sys.modules:
    os.environ[_INTERPRET] = "1"


def engine(*tensors: Any) -> str:
    """Name of the engine that runs operations on these tensors.

    Args:
        tensors: the operation's tensors, all on one device; numpy arrays lie on the CPU.

    Returns:
        "cpu", "triton" or "interpret".

    Raises:
        ValueError: the tensors lie on several devices, on a device without an engine, or `SDP_ENGINE`
            names no engine.
    """
    places = {_place(tensor) for tensor in tensors}
    if len(places) > 1:
        raise ValueError(f"tensors must lie on one device; got {', '.join(sorted(places))}.")
    return engine_of(_device_type(*tensors))


def engine_of(device_type: str) -> str:
    """As `engine`, for tensors that lie on a device of this type ("cpu", "cuda")."""
    chosen = os.environ.get("SDP_ENGINE")
    if chosen:
        if chosen not in ENGINES:
            raise ValueError(f"SDP_ENGINE must be one of {', '.join(ENGINES)}; got {chosen!r}.")
        return chosen
    if device_type not in _ENGINE_OF_DEVICE:
        raise ValueError(f"no engine for device {device_type!r}; devices are {', '.join(_ENGINE_OF_DEVICE)}.")
    return _ENGINE_OF_DEVICE[device_type]


@functools.cache
def is_installed(name: str, family: str | None = None) -> bool:
    """Whether the package holds an engine of this name, and in it a twin of this family of operations."""
    place = f"{__package__}.{_folder(name)}"
    return importlib.util.find_spec(place if family is None else f"{place}.{family}") is not None


def twin(family: str, *tensors: Any) -> ModuleType:
    """The module that implements a family of operations for the device of these tensors.

    Raises:
        ValueError: as `engine`, `twin_of`.
    """
    name = engine(*tensors)
    module = _load(family, name, _device_type(*tensors))
    return _on_device(module, tensors[0].device) if name == "triton" and tensors else module


def twin_on(family: str, device: torch.device) -> ModuleType:
    """As `twin`, for an operation that makes its tensors on this device instead of being given any.

    Raises:
        ValueError: no engine for the device, none for the family, the package triton is missing or was
            imported in the other mode, or the engine cannot reach tensors of that device.
    """
    name = engine_of(device.type)
    module = _load(family, name, device.type)
    return _on_device(module, device) if name == "triton" else module


def host_twin(family: str) -> ModuleType:
    """The CPU engine's module, whatever the device: for a step that no accelerator helps, on copied tensors."""
    return _load(family, "cpu", "cpu")


def check_loadable(name: str, family: str | None = None) -> None:
    """That this process can run this engine.

    Raises:
        ValueError: it is not part of this installation, has no twin of the family, lacks the package triton, or
            triton was imported in the other mode.
    """
    if not is_installed(name):
        raise ValueError(f"the {name} engine is not part of this installation; move the tensors to the CPU.")
    if name != "cpu":
        if not _has_triton():
            raise ValueError(f"the {name} engine needs the package triton: pip install triton.")
        _check_mode(name)
    if family is not None and not is_installed(name, family):
        raise ValueError(f"the {name} engine has no `{family}` yet; move the tensors to the CPU.")


def _load(family: str, name: str, device_type: str) -> ModuleType:
    check_loadable(name, family)
    reached = "cpu" if name == "cpu" else "cuda" if name == "triton" else device_type
    if device_type != reached:
        raise ValueError(
            f"the {name} engine works on {reached} tensors; got {device_type} (SDP_ENGINE overrides)."
        )
    if name == "interpret":
        os.environ[_INTERPRET] = "1"  # read at the import of triton, and again for every kernel
    return importlib.import_module(f"{__package__}.{_folder(name)}.{family}")


def _on_device(module: ModuleType, device: torch.device) -> ModuleType:
    """The module, whose functions run with this GPU as the current one: triton launches there, wherever tensors lie."""
    from torch import cuda

    is_current = device.index is None or device.index == cuda.current_device()
    return module if is_current else _Elsewhere(module, device)


class _Elsewhere(ModuleType):
    """A twin whose functions run on a GPU that is not the current one."""

    def __init__(self, module: ModuleType, device: torch.device) -> None:
        super().__init__(module.__name__)
        self._module, self._device = module, device

    def __getattr__(self, name: str) -> Any:
        from torch import cuda

        found = getattr(self._module, name)
        if not callable(found):
            return found

        @functools.wraps(found)
        def run(*arguments: Any, **named: Any) -> Any:
            with cuda.device(self._device):
                return found(*arguments, **named)

        return run


def _place(tensor: Any) -> str:
    """Where it lies, "cuda:0"; numpy's arrays say "cpu", or before numpy 2 nothing."""
    return str(getattr(tensor, "device", "cpu"))


def _device_type(*tensors: Any) -> str:
    """Type of the first one's device."""
    return _place(tensors[0]).partition(":")[0] if tensors else "cpu"


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _folder(name: str) -> str:
    return "cpu" if name == "cpu" else "triton"


def _check_mode(name: str) -> None:
    is_interpreted = _triton_is_interpreted()
    if name == "interpret" and is_interpreted is False:
        raise ValueError(
            "SDP_ENGINE=interpret, but triton was imported before to compile, and one process cannot do both; "
            f"set SDP_ENGINE or {_INTERPRET}=1 before the process starts."
        )
    if name == "triton" and (os.environ.get(_INTERPRET) == "1" or is_interpreted):
        raise ValueError(
            f"the triton engine compiles, but {_INTERPRET}=1 lets triton interpret, and one process cannot do "
            f"both; unset {_INTERPRET} and start again, or set SDP_ENGINE=interpret."
        )


def _triton_is_interpreted() -> bool | None:
    """Whether the triton in this process interprets; None when nothing has imported it.

    Its own library functions were decorated at its import, and tell which way.
    """
    library = sys.modules.get("triton.language.standard")
    return None if library is None else type(library.sum).__name__ == "InterpretedFunction"
