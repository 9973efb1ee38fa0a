"""Where benchmark graphs come from: folders named on the command line, the bundled ones, seeded families."""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sdp.maxcut.graph import Graph

BUNDLED_FOLDER = Path(__file__).resolve().parent.parent / "tests" / "data" / "graphs"
BEST_KNOWN_FILE = Path(__file__).resolve().parent / "best_known.csv"
GRAPH_FILE = re.compile(r"^(G\d+|.+\.(txt|mtx|mc|rud|graph)(\.gz)?)$")


@dataclass(frozen=True)
class BestKnown:
    """The best cut value published for a Gset graph, and where it was found."""

    value: float
    source: str


def find_graphs(folders: Iterable[Path], names: Sequence[str] = ()) -> dict[str, Path]:
    """Graph files by name, from the given folders and the bundled one; smallest file first.

    Args:
        folders: searched in order, not recursively; the first file of a name wins.
        names: keep only these; all where empty.

    Raises:
        ValueError: a folder is missing, or a name was not found.
    """
    found: dict[str, Path] = {}
    for folder in [*folders, BUNDLED_FOLDER]:
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder; --data takes the folder that holds the graph files.")
        for path in sorted(folder.iterdir()):
            if GRAPH_FILE.match(path.name):
                found.setdefault(re.sub(r"(\.[a-z]+)?(\.gz)?$", "", path.name), path)
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"{', '.join(missing)}: no such graph; found {', '.join(sorted(found))}.")
    wanted = set(names) or set(found)
    chosen = [(name, path) for name, path in found.items() if name in wanted]
    return dict(sorted(chosen, key=lambda item: (item[1].stat().st_size, item[0])))


def best_known() -> dict[str, BestKnown]:
    """Best published cut values of the Gset graphs, from ``best_known.csv``."""
    with BEST_KNOWN_FILE.open(newline="") as lines:
        return {
            row["name"]: BestKnown(float(row["best_known"]), row["source"]) for row in csv.DictReader(lines)
        }


def edges(
    graph: Graph,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Each edge once: ends u < v, int32 (m,) each, and weights float64 (m,)."""
    rows = np.repeat(np.arange(graph.n_vertices, dtype=np.int32), np.diff(graph.indptr))
    once = rows < graph.indices
    return rows[once], graph.indices[once], np.asarray(graph.weights64)[once]
