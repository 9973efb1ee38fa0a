"""Gaussian expectations, their optimisation, and certified MAXCUT on graphs with millions of edges.

The public names are loaded when first used, so that `import sdp` and `sdp --help` need not wait for torch
and numba.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import sdp_kernels  # noqa: F401  sets how threads wait, which must come before torch

if TYPE_CHECKING:
    from sdp.expectation.estimate import Blocks as Blocks
    from sdp.expectation.estimate import Estimate as Estimate
    from sdp.expectation.expectation import Expectation as Expectation
    from sdp.expectation.heads import MLP as MLP
    from sdp.expectation.heads import CallableHead as CallableHead
    from sdp.expectation.heads import TeacherStudent as TeacherStudent
    from sdp.jl.dimension import johnson_lindenstrauss_min_dim as johnson_lindenstrauss_min_dim
    from sdp.jl.learned import LearnedJL as LearnedJL
    from sdp.jl.transforms import SRHT as SRHT
    from sdp.jl.transforms import GaussianJL as GaussianJL
    from sdp.jl.transforms import RademacherJL as RademacherJL
    from sdp.jl.transforms import SparseJL as SparseJL
    from sdp.maxcut.graph import Graph as Graph
    from sdp.maxcut.solve import MaxCutResult as MaxCutResult
    from sdp.maxcut.solve import maxcut as maxcut
    from sdp.optim.certificate import Certificate as Certificate
    from sdp.optim.certify_function import certify_function as certify_function
    from sdp.optim.derandomize import Derandomization as Derandomization
    from sdp.optim.derandomize import derandomize as derandomize
    from sdp.optim.pgd import PGD as PGD
    from sdp.optim.sosp import certify as certify
    from sdp.optim.structure import StructureResult as StructureResult
    from sdp.optim.structure import discover_structure as discover_structure
    from sdp.optim.track import track_structure as track_structure

__version__ = "0.1.0"
__all__ = [
    "MLP",
    "PGD",
    "SRHT",
    "Blocks",
    "CallableHead",
    "Certificate",
    "Derandomization",
    "Estimate",
    "Expectation",
    "GaussianJL",
    "Graph",
    "LearnedJL",
    "MaxCutResult",
    "RademacherJL",
    "SparseJL",
    "StructureResult",
    "TeacherStudent",
    "__version__",
    "certify",
    "certify_function",
    "derandomize",
    "discover_structure",
    "johnson_lindenstrauss_min_dim",
    "maxcut",
    "track_structure",
]

_HOME = {  # public name -> module that defines it
    "Blocks": "sdp.expectation.estimate",
    "CallableHead": "sdp.expectation.heads",
    "Certificate": "sdp.optim.certificate",
    "Derandomization": "sdp.optim.derandomize",
    "Estimate": "sdp.expectation.estimate",
    "Expectation": "sdp.expectation.expectation",
    "GaussianJL": "sdp.jl.transforms",
    "Graph": "sdp.maxcut.graph",
    "LearnedJL": "sdp.jl.learned",
    "MLP": "sdp.expectation.heads",
    "MaxCutResult": "sdp.maxcut.solve",
    "PGD": "sdp.optim.pgd",
    "RademacherJL": "sdp.jl.transforms",
    "SRHT": "sdp.jl.transforms",
    "SparseJL": "sdp.jl.transforms",
    "StructureResult": "sdp.optim.structure",
    "TeacherStudent": "sdp.expectation.heads",
    "certify": "sdp.optim.sosp",
    "certify_function": "sdp.optim.certify_function",
    "derandomize": "sdp.optim.derandomize",
    "discover_structure": "sdp.optim.structure",
    "johnson_lindenstrauss_min_dim": "sdp.jl.dimension",
    "maxcut": "sdp.maxcut.solve",
    "track_structure": "sdp.optim.track",
}


class _Package(ModuleType):
    """This package, whose public names win over subpackages of the same name.

    When a subpackage is first imported, Python binds it as an attribute of its parent. Without this class
    `from sdp.maxcut import graph` would thereby replace the function `sdp.maxcut` by the package.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name in _HOME and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.modules[__name__].__class__ = _Package
