"""Who may import whom: cli -> maxcut, jl, optim -> expectation -> sdp_kernels -> its engines."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {"sdp": ROOT / "sdp", "sdp_kernels": ROOT / "kernels" / "sdp_kernels"}

# Room of `sdp` -> rooms it may import beside itself. The root package hands out everybody's names.
ROOMS = {
    "sdp": {"sdp.maxcut", "sdp.jl", "sdp.optim", "sdp.expectation"},
    "sdp.cli": {"sdp", "sdp.maxcut", "sdp.jl", "sdp.optim", "sdp.expectation"},
    "sdp.maxcut": {"sdp.optim", "sdp.expectation"},
    "sdp.jl": {"sdp.optim", "sdp.expectation"},
    "sdp.optim": {"sdp.expectation"},
    "sdp.expectation": set(),
}
ENGINES = ("sdp_kernels.cpu", "sdp_kernels.triton")
TRITON_MAY_IMPORT = {"torch", "triton"} | set(sys.stdlib_module_names)
# Plain records of arguments that a public file hands to its twins; a twin names them in its annotations.
RECORDS = {
    "sdp_kernels._expectation_problem.Draw",
    "sdp_kernels._expectation_problem.Network",
    "sdp_kernels.graph.CSR",
    "sdp_kernels.probit_cut.Derivatives",
    "sdp_kernels.probit_cut.Law",
}


def imported(source: str, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything a module imports, wherever in the file it does so.

    `from a import b` counts as `a.b`, since b may be a module; so does `importlib.import_module("a.b")`.
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def is_within(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def room_of(name: str) -> str:
    """The room of `sdp` that a module or a name in it belongs to."""
    parts = name.split(".")
    room = ".".join(parts[:2])
    return room if room in ROOMS else "sdp"


def objection(module: str, target: str) -> str | None:
    """Why `module` may not import `target`; None if it may."""
    if is_within(module, "sdp"):
        if is_within(target, "sdp"):
            own, other = room_of(module), room_of(target)
            return None if other == own or other in ROOMS[own] else f"{own} may not import {other}"
        if is_within(target, "sdp_kernels"):
            inner = target.split(".")[1:2]
            if inner and (inner[0] in ("cpu", "triton") or inner[0].startswith("_")):
                return "sdp uses the public files of sdp_kernels only"
        return None
    if is_within(target, "sdp"):
        return "sdp_kernels never imports sdp"
    engine = next((engine for engine in ENGINES if is_within(module, engine)), None)
    if engine is None:
        reached = any(is_within(target, engine) for engine in ENGINES)
        return "public files reach an engine through _engine.twin" if reached else None
    if engine == "sdp_kernels.triton" and not is_within(target, engine):
        allowed = target in RECORDS or target.split(".")[0] in TRITON_MAY_IMPORT
        return None if allowed else "triton twins import torch and triton only"
    if any(is_within(target, other) for other in ENGINES if other != engine):
        return "one engine does not import the other"
    return None


def violations(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Every import of this source that points against the arrows, one sentence each."""
    found = []
    for line, target in imported(source, module, is_package=is_package):
        why = objection(module, target)
        if why is not None:
            found.append(f"{module}, line {line}, imports {target}: {why}")
    return found


def modules() -> Iterator[tuple[str, Path]]:
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), path


def test_all_rooms_are_seen() -> None:
    names = {name for name, _ in modules()}
    assert {"sdp", "sdp.cli.main", "sdp.maxcut.plot", "sdp_kernels.graph", "sdp_kernels.cpu"} <= names


def test_imports_follow_the_arrows() -> None:
    found = [
        sentence
        for name, path in modules()
        for sentence in violations(path.read_text("utf-8"), name, is_package=path.name == "__init__.py")
    ]
    assert found == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        pytest.param("sdp.maxcut.solve", "from sdp_kernels.cpu import graph", id="engine from above"),
        pytest.param("sdp.maxcut.solve", "from sdp_kernels import _engine", id="private file"),
        pytest.param("sdp.maxcut.solve", "import sdp_kernels._engine as door", id="private file renamed"),
        pytest.param("sdp.maxcut.solve", "def f():\n    from sdp import jl", id="maxcut to jl, lazily"),
        pytest.param("sdp.jl.stream", "from ..maxcut.graph import Graph", id="jl to maxcut, relative"),
        pytest.param("sdp.maxcut.io", "from sdp.cli import main", id="up to the command"),
        pytest.param("sdp.maxcut.io", "import sdp", id="up to the root"),
        pytest.param("sdp.expectation.law", "from sdp.optim import pgd", id="up to the optimiser"),
        pytest.param("sdp.optim.pgd", "if TYPE_CHECKING:\n    from sdp.jl import x", id="for types only"),
        pytest.param("sdp_kernels.graph", "from sdp.maxcut.graph import Graph", id="kernels to sdp"),
        pytest.param("sdp_kernels.graph", "from .cpu import graph", id="public file to engine"),
        pytest.param(
            "sdp_kernels.graph",
            "import importlib\nimportlib.import_module('sdp_kernels.triton.graph')",
            id="by name",
        ),
        pytest.param("sdp_kernels.cpu.graph", "from sdp_kernels.triton import graph", id="engine to engine"),
        pytest.param("sdp_kernels.triton.graph", "import numpy as np", id="numpy on the GPU"),
        pytest.param(
            "sdp_kernels.triton.expectation",
            "from sdp_kernels._expectation_problem import check_draw",
            id="checks in a twin",
        ),
        pytest.param("sdp_kernels.triton.graph", "from ..cpu import graph", id="engine to engine, relative"),
    ],
)
def test_the_checker_sees(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sdp.cli.maxcut", "from sdp.maxcut import io\nimport sdp\nimport json"),
        (
            "sdp.maxcut.solve",
            "from sdp_kernels import graph\nfrom sdp_kernels.graph import CSR\nimport numba",
        ),
        ("sdp.maxcut.relax", "from . import graph\nfrom .graph import Graph"),
        ("sdp_kernels.graph", "from sdp_kernels import _engine"),
        ("sdp_kernels.cpu.graph", "import numba\nfrom sdp_kernels.graph import CSR\nfrom . import _rows"),
        ("sdp_kernels.triton.graph", "import torch, triton, math\nfrom ._math import phi"),
        ("sdp_kernels.triton.expectation", "from sdp_kernels._expectation_problem import Draw, Network"),
    ],
)
def test_the_checker_allows(module: str, source: str) -> None:
    assert violations(source, module) == []
