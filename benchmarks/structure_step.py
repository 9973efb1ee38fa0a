"""What does a training step of structure discovery cost, against autograd and torch.optim?

The same perceptron, the same samples already made, one step of SGD with momentum with weight decay on the first layer;
the peer is torch.nn, autograd and torch.optim.SGD with two parameter groups (foreach, torch's default, and fused).

    python -m benchmarks.structure_step --repeats 30

Methods run one after the other in every repeat; parameters are compared after the first steps.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from benchmarks import _machine
from benchmarks._records import RESULTS_FOLDER, Record, Results, markdown_table, spread

QUESTION = "structure_step"
KEY = ("dim", "width", "depth", "batch", "method", "threads")
OURS = "sdp"
SHAPES = ((256, 64, 3, 64), (256, 64, 3, 256), (256, 64, 6, 256), (1024, 256, 3, 256), (4096, 1024, 3, 256))
LAM, LR, STEPS = 5e-4, 0.01, 10  # few steps: rounding grows with each
AGREEMENT = 1e-4  # of parameters after the first steps, relative to the largest


def make_ours(
    shape: tuple[int, int, int, int], x: Tensor, y: Tensor
) -> tuple[Callable[[], None], Callable[[], Tensor]]:
    """A step, and the first layer's weights."""
    from sdp.optim._optimizers import make_step
    from sdp.optim._student import Student

    dim, width, depth, _ = shape
    student = Student(dim, width, depth, "tanh", 1.0, "mse", LAM, seed=0)
    move = make_step("momentum", student, seed=0)

    def step() -> None:
        student.backward(x, y)
        move(LR)

    return step, lambda: student.W.clone()


def make_torch(
    shape: tuple[int, int, int, int], x: Tensor, y: Tensor, *, fused: bool
) -> tuple[Callable[[], None], Callable[[], Tensor]]:
    """The same in torch.nn and torch.optim."""
    from sdp.optim._student import Student

    dim, width, depth, _ = shape
    layers: list[nn.Module] = [nn.Linear(dim, width), nn.Tanh()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.Tanh()]
    model = nn.Sequential(*layers, nn.Linear(width, 1))
    start = Student(dim, width, depth, "tanh", 1.0, "mse", LAM, seed=0)
    with torch.no_grad():
        for mine, theirs in zip(start.parameters, model.parameters(), strict=True):
            theirs.copy_(mine.view(theirs.shape))
    first, *others = list(model.parameters())
    groups: list[dict[str, object]] = [{"params": [first], "weight_decay": 2 * LAM}, {"params": others}]
    optimizer = torch.optim.SGD(groups, lr=LR, momentum=0.9, fused=fused or None)

    def step() -> None:
        optimizer.zero_grad()
        loss = 0.5 * (model(x)[:, 0] - y).square().mean()
        loss.backward()
        optimizer.step()

    return step, lambda: first.detach().clone()


def measure(shape: tuple[int, int, int, int], repeats: int, threads: int) -> list[Record]:
    """Seconds a step of every method, interleaved."""
    torch.set_num_threads(threads)
    dim, width, depth, batch = shape
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(batch, dim, generator=generator), torch.randn(batch, generator=generator)
    methods = {
        OURS: make_ours(shape, x, y),
        "autograd and torch.optim.SGD": make_torch(shape, x, y, fused=False),
        "the same, fused": make_torch(shape, x, y, fused=True),
    }
    weights = {}
    for name, (step, state) in methods.items():
        for _ in range(STEPS):
            step()
        weights[name] = state()
        off = float((weights[name] - weights[OURS]).abs().max() / weights[OURS].abs().max())
        if not off < AGREEMENT:
            raise RuntimeError(f"{name} differs from ours by {off:.1e} of the largest weight.")
    taken: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(repeats):
        for name, (step, _) in methods.items():
            start = time.perf_counter()
            for _ in range(STEPS):
                step()
            taken[name].append((time.perf_counter() - start) / STEPS)
    records = []
    for name, seconds in taken.items():
        ratios = spread(theirs / ours for theirs, ours in zip(seconds, taken[OURS], strict=True))
        records.append(
            {
                **dict(zip(KEY, (dim, width, depth, batch, name, threads), strict=True)),
                "seconds": spread(seconds).median,
                "seconds_low": min(seconds),
                "ratio": ratios.median,
                "ratio_low": ratios.low,
                "ratio_high": ratios.high,
                "ratio_of_lowest": min(seconds) / min(taken[OURS]),
                "repeats": repeats,
                "commit": _machine.commit(),
                "load_average": _machine.load_average(),
            }
        )
    return records


def table(records: list[Record]) -> str:
    """All shapes as Markdown."""
    header = [
        "d",
        "width",
        "depth",
        "batch",
        "threads",
        "method",
        "ms a step",
        "peer / ours",
        "of the lowest",
    ]
    rows: list[list[object]] = []
    for r in records:
        is_ours = r["method"] == OURS
        ratio = f"{r['ratio']:.3g} ({r['ratio_low']:.3g} to {r['ratio_high']:.3g})"
        start = [r["dim"], r["width"], r["depth"], r["batch"], r["threads"], r["method"]]
        lowest = None if is_ours else f"{r['ratio_of_lowest']:.3g}"
        rows.append([*start, f"{1e3 * r['seconds']:.3g}", None if is_ours else ratio, lowest])
    return markdown_table(header, rows)


def run(
    repeats: Annotated[int, typer.Option(help="Repeats of ten steps.")] = 30,
    threads: Annotated[int, typer.Option(help="Threads of torch, for all methods.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER,
) -> None:
    """Measure every shape and print the table."""
    results = Results(QUESTION, KEY, out)
    for shape in SHAPES:
        for record in measure(shape, repeats, threads):
            results.add(record)
    typer.echo(table(results.records()))


if __name__ == "__main__":
    typer.run(run)
