"""Published times of other solvers for the relaxation of MAXCUT: what could be found, exactly as it was found.

A time stands here only with the words of a source that was read. Of the papers below only abstracts and the
repositories' own files could be read, not the tables inside: where a table would be needed, no number is given.
"""

from typing import NamedTuple


class Published(NamedTuple):
    """One statement about one solver.

    Attributes:
        solver: name.
        problem: what was solved.
        hardware: where.
        seconds: least and most seconds that are stated, or None: no time for MAXCUT was found.
        vertices: of the graph, or None.
        tolerance: the accuracy, as far as the source states it.
        source: where the words stand.
        words: what it says, or what could not be found.
    """

    solver: str
    problem: str
    hardware: str
    seconds: tuple[float, float] | None
    vertices: float | None
    tolerance: str
    source: str
    words: str


PUBLISHED = (
    Published(
        solver="cuLoRADS",
        problem="a set of MaxCut problems",
        hardware="one NVIDIA H100, 80 GB",
        seconds=(10.0, 60.0),
        vertices=1e7,
        tolerance="not in the abstract; the program's default ends its second phase at 1e-5 (README, phase2Tol)",
        source="Han, Lin, Liu, Chen, Deng, Ge and Ye, arXiv:2407.15049v3, abstract; github.com/COPT-Public/cuLoRADS",
        words="matrix variables of 10^7 x 10^7 in 10 seconds to 1 minute each; no rounding, no certified bound, and "
        "the edges of the graphs stand in tables that were not read",
    ),
    Published(
        solver="cuLoRADS",
        problem="a MaxCut problem",
        hardware="one NVIDIA H100, 80 GB",
        seconds=None,
        vertices=1.7e8,
        tolerance="not in the abstract",
        source="arXiv:2407.15049v3, abstract",
        words="a matrix variable of 170 million x 170 million in a matter of minutes: no number",
    ),
    Published(
        solver="cuHALLaR",
        problem="none of MAXCUT",
        hardware="",
        seconds=None,
        vertices=None,
        tolerance="",
        source="Aguirre, Cifuentes, Guigues, Monteiro, Nascimento and Sujanani, arXiv:2505.13719v1 and v2, abstracts",
        words="its problem classes are maximum stable set, matrix completion and phase retrieval",
    ),
    Published(
        solver="SketchyCGAL",
        problem="MaxCut among others",
        hardware='"a laptop" (abstract)',
        seconds=None,
        vertices=None,
        tolerance="",
        source="Yurtsever, Tropp, Fercoq, Udell and Cevher, SIAM J. Math. Data Sci. 3(1), 171-200 (2021), abstract; "
        "github.com/alpyurtsever/SketchyCGAL",
        words="matrix variables of over 10^13 entries (10^14 in a later talk's abstract); the data of its figures "
        "are not in its repository, so no time",
    ),
)


def rows() -> list[list[object]]:
    """One row a statement, for a Markdown table."""
    return [
        [
            entry.solver,
            f"{entry.problem}, {entry.vertices:.3g} vertices" if entry.vertices else entry.problem,
            entry.hardware or None,
            f"{entry.seconds[0]:g} to {entry.seconds[1]:g} s" if entry.seconds else "none found",
            entry.words,
            entry.source,
        ]
        for entry in PUBLISHED
    ]


HEADER = ("solver", "problem", "hardware", "published time", "what the source says", "source")
