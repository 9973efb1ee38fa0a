"""How many evaluations until a saddle is left for a certified second-order stationary point?

Gradient descent, PGD (practical, with a Hessian-vector product, theory 2017 and 2021), PSGD, torch's Adam and L-BFGS,
from the saddles of `tests/reference/saddles.py`. A run ends where its method says so, at the first certified point if
it has no stopping rule, or at 20,000 evaluations; every 10 steps its point is certified by `sdp.certify_function`,
whose evaluations are not counted. The theory's constants are those of each function on the region that matters, and
its eps the largest at which the start is a saddle still (less a tenth); it runs to the end that it promises. Where that
is more than 10^7 steps the number is shown and nothing is run.

    python -m benchmarks.pgd_escapes_saddles      # minutes, most of them for the theory of 2021
    python -m benchmarks.pgd_escapes_saddles --only "quadratic, 2" --methods PGD --methods GD
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from benchmarks import _machine
from benchmarks._records import RESULTS_FOLDER, Record, Results, markdown_table
from tests.reference import saddles

QUESTION = "pgd_escapes_saddles"
KEY = ("problem", "method")
EPS, MOST = 1e-3, 20_000
HAVE_STOPPING_RULES = ("PGD", "PGD with HVP")
THEORY_SHARE = 0.9  # of the largest eps
PROBLEMS: dict[str, tuple[Callable[[], saddles.Saddle], float, float, float, float]] = {
    # f, ell, rho, gap, lowest curvature at the start (less its sign)
    "cosine, 2": (lambda: saddles.cosine(2), 1.0, 1.0, 2.0, 1.0),
    "quadratic, 2": (lambda: saddles.quadratic(2), 2.0, 6.0, 0.25, 1.0),
    "quadratic, 10": (lambda: saddles.quadratic(10), 2.0, 6.0, 0.25, 1.0),
    "quadratic, 100": (lambda: saddles.quadratic(100), 2.0, 6.0, 0.25, 1.0),
    "quadratic, 1000": (lambda: saddles.quadratic(1000), 2.0, 6.0, 0.25, 1.0),
    "double well": (saddles.double_well, 8.0, 24.0, 1.0, 4.0),
    "factorisation": (saddles.factorisation, 5.0, 12.0, 1.0, 1.39),
    "octopus, 5": (lambda: saddles.octopus(5), 26.0, 40.0, 900.0, 2.0),
    "octopus, 10": (lambda: saddles.octopus(10), 26.0, 40.0, 1800.0, 2.0),
}
METHODS = ("GD", "PGD", "PGD with HVP", "PGD theory 2017", "PGD theory 2021", "PSGD", "Adam", "L-BFGS")


def optimizer_of(
    method: str, x: Tensor, f: Callable[[Tensor], Tensor], ell: float, rho: float, gap: float, eps: float
) -> Any:
    """The optimiser; ValueError where the theory promises too many steps."""
    from sdp.optim.pgd import PGD

    def product(vectors: Any) -> Any:
        y = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(f(y), y, create_graph=True)
        return torch.autograd.grad(gradient, [y], vectors)

    theory: dict[str, Any] = {
        "mode": "theory",
        "eps": eps,
        "ell": ell,
        "rho": rho,
        "gap": gap,
        "delta": 0.1,
    }
    made: dict[str, Callable[[], Any]] = {
        "GD": lambda: torch.optim.SGD([x], lr=1.0 / ell),
        "PGD": lambda: PGD([x], eps=EPS),
        "PGD with HVP": lambda: PGD([x], eps=EPS, hvp=product),
        "PGD theory 2017": lambda: PGD([x], year=2017, **theory),
        "PGD theory 2021": lambda: PGD([x], year=2021, **theory),
        "PSGD": lambda: PGD([x], lr=1.0 / ell, stochastic=True, perturb=EPS / 2),
        "Adam": lambda: torch.optim.Adam([x], lr=0.01),
        "L-BFGS": lambda: torch.optim.LBFGS([x], line_search_fn="strong_wolfe", max_iter=20),
    }
    return made[method]()


def measure(problem: str, method: str) -> Record:
    """The record of one method on one problem."""
    from sdp.optim.certify_function import certify_function
    from sdp.optim.pgd import PGD

    make, ell, rho, gap, curvature = PROBLEMS[problem]
    f, start, least = make()
    x = start.clone().requires_grad_(True)
    is_theory = "theory" in method
    eps = THEORY_SHARE * curvature**2 / rho if is_theory else EPS
    bend = math.sqrt(rho * eps)
    record: Record = {
        "problem": problem,
        "method": method,
        "least": least,
        "eps": eps,
        "promised_steps": None,
    }
    if certify_function(lambda: f(x), [x], eps=eps, curvature=bend).is_sosp is not False:
        raise RuntimeError(f"{problem} starts where {method} has nothing to do.")
    try:
        optimizer = optimizer_of(method, x, f, ell, rho, gap, eps)
    except ValueError as error:
        return {**record, "status": str(error), "evaluations": None, "is_sosp": None}
    if isinstance(optimizer, PGD) and optimizer.constants is not None:
        record["promised_steps"] = optimizer.constants.promised_steps
    evaluations, worst = 0, -math.inf

    def closure() -> Tensor:
        nonlocal evaluations
        evaluations += 1
        optimizer.zero_grad()
        loss = f(x)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    status, first = "evaluations ran out", None
    step, check = 0, 5
    while evaluations < MOST or is_theory:
        worst = max(worst, float(torch.as_tensor(optimizer.step(closure)).detach()))
        step += 1
        if not math.isfinite(worst):
            status = "diverged"
            break
        if first is None and step >= check:
            check = math.ceil(1.1 * step) + 5
            found = certify_function(lambda: f(x), [x], eps=eps, curvature=bend)
            first = evaluations if found.is_sosp is True else None
            if first is not None and method not in HAVE_STOPPING_RULES and not is_theory:
                status = "certified"
                break
            if found.gradient.upper == 0.0 and method in ("GD", "Adam", "L-BFGS"):
                status = "stands still"
                break
        if isinstance(optimizer, PGD) and optimizer.is_done:
            status = optimizer.status
            break
    found = certify_function(lambda: f(x), [x], eps=eps, curvature=bend)
    return {
        **record,
        "status": status,
        "steps": step,
        "evaluations": evaluations,
        "evaluations_to_certified": first,
        "value": float(f(x.detach())),
        "is_sosp": found.is_sosp,
        "gradient": found.gradient.upper,
        "curvature_lower": found.curvature.lower,
        "commit": _machine.commit(),
    }


def table(records: list[Record]) -> str:
    """Problems by methods: evaluations to a certified point (and in all), or why there is none."""

    def cell(problem: str, method: str) -> str | None:
        record = next((r for r in records if (r["problem"], r["method"]) == (problem, method)), None)
        if record is None:
            return None
        if record["evaluations"] is None:
            return (
                f"promises {record['status'].split('after ')[1].split(' steps')[0]} (eps {record['eps']:.2g})"
            )
        if record["is_sosp"] is True:
            first = record["evaluations_to_certified"] or record["evaluations"]
            eps = f", eps {record['eps']:.2g}" if "theory" in method else ""
            return f"{first} ({record['evaluations']}{eps})"
        return f"no: {record['status']}"

    rows = [[problem, *(cell(problem, method) for method in METHODS)] for problem in PROBLEMS]
    return markdown_table(["saddle", *METHODS], rows)


def run(
    only: Annotated[str, typer.Option(help="Part of the problems' names.")] = "",
    methods: Annotated[list[str] | None, typer.Option(help="These methods only; may be given often.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER,
) -> None:
    """Run every method on every saddle, then print the table and what does not hold."""
    torch.set_num_threads(1)
    results = Results(QUESTION, KEY, out)
    for problem in PROBLEMS:
        if only in problem:
            for method in methods or METHODS:
                record = measure(problem, method)
                results.add(record)
                typer.echo(f"{problem}, {method}: {record['status']}, {record['evaluations']}", err=True)
    typer.echo(table(results.records()))
    for record in results.records():
        must = record["method"] in ("PGD", "PGD with HVP", "PSGD") or record["promised_steps"] is not None
        if must and record["is_sosp"] is not True:
            typer.echo(f"DOES NOT HOLD: {record['method']} on {record['problem']}: {record['status']}.")


if __name__ == "__main__":
    typer.run(run)
