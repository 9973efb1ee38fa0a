"""One picture of a run: the spectrum over time, the alignment with U, and W itself as an image.

Drawn on matplotlib's Figure objects without pyplot, so no window opens and no global state changes.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sdp.optim.structure import StructureResult

SUFFIXES = (".png", ".pdf", ".svg")
# Vermilion, blue, green and grey of Okabe and Ito's palette, told apart by the colour-blind.
FIRST_COLOUR, SHARE_COLOUR, ERROR_COLOUR, REST_COLOUR = "#D55E00", "#0072B2", "#009E73", "0.6"
DRAWN_VALUES = 64  # singular values a panel shows
IMAGE_COLUMNS = 256
DPI = 150


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Raises ValueError unless `path` ends like a kind of picture that can be drawn."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise ValueError(f"a plot's file name must end in {', '.join(SUFFIXES)}; got {os.fspath(path)!r}.")


def plot_structure(result: StructureResult, path: str | os.PathLike[str]) -> None:
    """Draws a run into a file, by atomic rename.

    Panels: singular values of W over the steps; ||W_perp||/||W||, the sines of the principal angles and the held-out
    error over the steps; W before and after as images, in coordinates whose first r columns are W U^T.

    Args:
        result: what `discover_structure` returned.
        path: file to write, ending in one of `SUFFIXES`.

    Raises:
        ValueError: the suffix is unknown.
        OSError: the file cannot be written.
    """
    check_suffix(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.0, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _draw_spectrum(left, result)
    _draw_alignment(middle, result)
    _draw_weights(right, result)
    options = result.options
    figure.suptitle(
        f"{options.teacher} teacher of rank {options.rank} in dimension {options.dim}; "
        f"student {options.width} wide, {options.depth} deep, {options.activation}; lam {options.lam:g}",
        fontsize=11,
    )
    _save(figure, Path(path))


def _draw_spectrum(axes: Axes, result: StructureResult) -> None:
    steps = [record.step for record in result.records]
    values = np.array([record.spectrum.singular_values[:DRAWN_VALUES] for record in result.records])
    shown = result.options.rank
    axes.plot(steps, values[:, shown:], color=REST_COLOUR, lw=0.6)
    axes.plot(steps, values[:, :shown], color=FIRST_COLOUR, lw=1.8)
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_title(f"singular values of W; visible rank {result.visible_rank}", fontsize=9, color="0.35")
    axes.grid(color="0.9", lw=0.6)


def _draw_alignment(axes: Axes, result: StructureResult) -> None:
    steps = [record.step for record in result.records]
    if result.perp_share is not None:
        found = [record.spectrum for record in result.records]
        shares = np.array([one.perp_share for one in found], np.float64)
        axes.plot(steps, shares, color=SHARE_COLOUR, lw=2.0, label=r"$\|W_\perp\| / \|W\|$")
        sines = np.sin(np.array([one.angles for one in found], np.float64))
        lines = axes.plot(steps, sines, color=FIRST_COLOUR, lw=1.0)
        lines[0].set_label("sines of angles to U")
    axes.plot(
        steps,
        [record.held_out_error for record in result.records],
        color=ERROR_COLOUR,
        lw=1.2,
        label="held-out error",
    )
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_title("alignment with the teacher", fontsize=9, color="0.35")
    axes.grid(color="0.9", lw=0.6)
    axes.legend(loc="lower left", frameon=False, fontsize=8)


def _draw_weights(axes: Axes, result: StructureResult) -> None:
    """|W| with the columns turned so that the first r of them are W U^T, rows sorted by their size there."""
    W = result.W.double().numpy()
    if result.perp_share is not None:
        U = result.U.double().numpy()
        # The reflections of a QR of U^T complete its rows to a basis of R^d.
        others = np.eye(U.shape[1])[:, : IMAGE_COLUMNS + len(U)]
        basis = np.linalg.qr(np.concatenate([U.T, others], axis=1))[0]
        W = W @ basis
        W = W[np.argsort(-np.linalg.norm(W[:, : len(U)], axis=1))]
    image = axes.imshow(
        np.abs(W[:, :IMAGE_COLUMNS]), aspect="auto", cmap="magma", interpolation="nearest", vmin=0.0
    )
    rank = result.options.rank
    axes.set_title(f"|W|, columns turned: the first {rank} are U's", fontsize=9, color="0.35")
    axes.set_xlabel("column")
    axes.set_ylabel("unit")
    axes.figure.colorbar(image, ax=axes, fraction=0.05)


def _save(figure: Any, path: Path) -> None:
    """Under its name only when whole."""
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        figure.savefig(hidden, format=path.suffix[1:].lower(), dpi=DPI)
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)
