"""Does the first layer become low-rank, for which networks, and is it the weight decay that does it?

Every case is trained twice, with lam and with lam = 0, everything else equal; a student with nothing to learn stands
beside them. Reported as found, also where nothing emerges.

    python -m benchmarks.structure_table            # all of it; about an hour on two quiet cores
    python -m benchmarks.structure_table --only reference

The reference case (d 256, r 3, width 64, depth 3, tanh, lam 5e-4) has a bar: ||W_perp|| / ||W|| at most 0.06 and
exactly three singular values above ten times the fourth, within 10,000 steps and 60 s, on each of five seeds.
"""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks import _machine
from benchmarks._records import RESULTS_FOLDER, Record, Results, markdown_table, spread

QUESTION = "structure_table"
KEY = ("group", "case", "lam", "seed")
LAM = 5e-4
SEEDS = range(5)
MOST_SHARE, MOST_SECONDS, RANK = 0.06, 60.0, 3

# Group -> case -> what differs from the reference case.
CASES: dict[str, dict[str, dict[str, Any]]] = {
    "reference": {"d 256, r 3, width 64, depth 3, tanh": {}},
    "nothing to learn": {"labels are noise": {"teacher": "none"}},
    "depth": {f"depth {depth}": {"depth": depth} for depth in (2, 4, 5, 6)},
    "width": {f"width {width}": {"width": width} for width in (16, 256)}
    | {"width 1024, lam 2e-3": {"width": 1024, "lam": 2e-3}},
    "dimension": {f"d {dim}": {"dim": dim} for dim in (64, 1024, 4096)}
    | {"d 4096, lam 2e-3": {"dim": 4096, "lam": 2e-3}},
    "rank": {f"r {rank}": {"rank": rank} for rank in (1, 8)},
    "activation": {
        "softplus": {"activation": "softplus"},
        "gelu": {"activation": "gelu"},
        "sigmoid": {"activation": "sigmoid"},
    },
    "loss": {
        "logistic, tanh": {"task": "classification"},
        "logistic, softplus": {"task": "classification", "activation": "softplus"},
        # Near the border between two labels gradients stay noisy, which holds W_perp up: larger batches lower it.
        "logistic, tanh, lam 2e-3, 5,000 steps of 1,024": {
            "task": "classification",
            "lam": 2e-3,
            "batch": 1024,
            "steps": 5000,
        },
    },
    "teacher": {name: {"teacher": name} for name in ("sine", "polynomial", "product")},
    "optimizer": {name: {"optimizer": name} for name in ("sgd", "adam", "pgd")},
    "large": {
        "d 4096, width 1024, 3,000 steps, lam 1e-2": {"dim": 4096, "width": 1024, "steps": 3000, "lam": 1e-2}
    },
}
SEVERAL_SEEDS = ("reference", "nothing to learn")


def jobs(only: str | None) -> list[tuple[Record, dict[str, Any]]]:
    """The key of every measurement, and the arguments that it takes."""
    found = []
    for group, cases in CASES.items():
        if only not in (None, group):
            continue
        for case, changes in cases.items():
            for seed in SEEDS if group in SEVERAL_SEEDS else (0,):
                for lam in (changes.get("lam", LAM), 0.0):
                    key = {"group": group, "case": case, "lam": lam, "seed": seed}
                    found.append((key, {**changes, "lam": lam, "seed": seed}))
    return found


def measure(arguments: dict[str, Any]) -> Record:
    """One training run, as a record."""
    from sdp.optim.structure import discover_structure

    result = discover_structure(**arguments)
    found = result.spectrum
    gap = found.gap(result.options.rank)
    return {
        "perp_share": result.perp_share,
        "norm": found.norm,
        "initial_norm": result.records[0].spectrum.norm,
        "gap": gap,
        "visible_rank": result.visible_rank,
        "rank": result.options.rank,
        "largest_angle": found.angles[-1] if found.angles else None,
        "stable_rank": found.stable_rank,
        "held_out_error": result.held_out_error,
        "steps": result.steps,
        "status": result.status,
        "seconds": result.seconds,
        "history": [
            [r.step, r.spectrum.perp_share, r.loss, r.held_out_error, *r.spectrum.singular_values[:5]]
            for r in result.records[::10]
        ],
        "commit": _machine.commit(),
        "load_average": _machine.load_average(),
    }


def table(records: list[Record]) -> str:
    """One row a case: medians over its seeds, the control without decay beside them."""
    header = ["group", "case", "seeds", "W_perp / W", "s_r / s_{r+1}", "visible rank"]
    header += ["held-out error", "seconds", "W_perp / W, lam 0", "visible rank, lam 0", "error, lam 0"]
    rows: list[list[object]] = []
    for group, cases in CASES.items():
        for case in cases:
            own = [record for record in records if (record["group"], record["case"]) == (group, case)]
            with_decay = [record for record in own if record["lam"] > 0]
            without = [record for record in own if record["lam"] == 0]
            if with_decay:
                rows.append([group, case, len(with_decay), *_cells(with_decay), *_control(without)])
    return markdown_table(header, rows)


def _cells(records: list[Record]) -> list[object]:
    def text(name: str) -> str:
        values = [record[name] for record in records if record[name] is not None]
        return spread(values).text() if values else "-"

    ranks = sorted({record["visible_rank"] for record in records})
    seen = ", ".join(f"{rank or 'none'}" for rank in ranks)
    diverged = sum(record["status"] == "diverged" for record in records)
    seen += f" ({diverged} diverged)" if diverged else ""
    return [text("perp_share"), text("gap"), seen, text("held_out_error"), text("seconds")]


def _control(records: list[Record]) -> list[object]:
    if not records:
        return [None, None, None]
    share, _, seen, error, _ = _cells(records)
    return [share, seen, error]


def broken_claims(records: list[Record]) -> list[str]:
    """Sentences on each seed of the reference case that misses the bar."""
    found = []
    for record in records:
        if record["group"] == "reference" and record["lam"] > 0:
            bars = {
                f"||W_perp||/||W|| {record['perp_share']:.3g}, not {MOST_SHARE} or less": record["perp_share"]
                <= MOST_SHARE,
                f"visible rank {record['visible_rank']}, not {RANK}": record["visible_rank"] == RANK,
                f"{record['seconds']:.0f} s, not {MOST_SECONDS:.0f}": record["seconds"] <= MOST_SECONDS,
            }
            found += [f"seed {record['seed']}: {words}." for words, holds in bars.items() if not holds]
    return found


def run(
    only: Annotated[str | None, typer.Option(help="One group of cases.")] = None,
    threads: Annotated[int, typer.Option(help="Threads of torch; small steps use one in any case.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER,
) -> None:
    """Train what was not trained before, one after the other, then print the table and what does not hold."""
    if only is not None and only not in CASES:
        raise typer.BadParameter(f"`--only` must be one of {', '.join(CASES)}; got {only!r}.")
    torch.set_num_threads(threads)
    results = Results(QUESTION, KEY, out)
    for key, arguments in jobs(only):
        if not results.has(key):
            record = {**key, **measure(arguments)}
            results.add(record)
            typer.echo(
                {name: record[name] for name in (*KEY, "perp_share", "visible_rank", "seconds")}, err=True
            )
    typer.echo(table(results.records()))
    for sentence in broken_claims(results.records()):
        typer.echo(f"DOES NOT HOLD: {sentence}")


if __name__ == "__main__":
    typer.run(run)
