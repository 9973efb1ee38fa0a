"""The arguments of `sdp.discover_structure`, checked, with defaults filled in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sdp.optim._optimizers import OPTIMIZERS, default_lr
from sdp.optim._student import LOSSES
from sdp.optim._teachers import TASKS, TEACHERS
from sdp_kernels import activations, gaussian

RECORDS = 100  # by default, over a whole run
DEFAULT_NOISE = 1.0  # of the teacher "none", whose labels would otherwise all be 0


@dataclass(frozen=True)
class StructureOptions:
    """What a run was asked to do; `discover_structure` says what each is."""

    dim: int
    rank: int
    width: int
    depth: int
    teacher: str
    task: str
    activation: str
    iota: float
    loss: str
    optimizer: str
    lr: float
    lam: float
    steps: int
    batch: int
    n_train: int | None
    noise: float
    warm_up: float
    decay: float
    n_held_out: int
    record_every: int
    seed: int


def make_options(
    dim: int,
    rank: int,
    width: int,
    depth: int,
    teacher: str | Callable[[Tensor], Tensor],
    task: str,
    activation: str,
    iota: float,
    loss: str | None,
    optimizer: str,
    lr: float | None,
    lam: float,
    steps: int,
    batch: int,
    n_train: int | None,
    noise: float | None,
    warm_up: float,
    decay: float,
    n_held_out: int,
    record_every: int | None,
    seed: int,
) -> StructureOptions:
    """The arguments of `discover_structure`, checked, with defaults filled in."""
    counts = {
        "dim": dim, "rank": rank, "width": width, "depth": depth, "steps": steps, "batch": batch,
        "n_held_out": n_held_out,
    }  # fmt: skip
    for name, count in counts.items():
        _check_count(name, count, 1)
    if n_train is not None:
        _check_count("n_train", n_train, 1)
    if record_every is not None:
        _check_count("record_every", record_every, 1)
    _check_count("seed", seed, 0, gaussian.SEEDS - 1)
    if rank > min(dim, width):
        raise ValueError(
            f"`rank` must be at most the smaller of dim and width, {min(dim, width)}; got {rank}."
        )
    loss = loss or ("logistic" if task == "classification" else "mse")
    names = {"task": (task, TASKS), "activation": (activation, activations.NAMES), "loss": (loss, LOSSES)}
    names |= {"optimizer": (optimizer, OPTIMIZERS)}
    if not callable(teacher):
        names |= {"teacher": (teacher, TEACHERS)}
    for name, (value, choices) in names.items():
        if value not in choices:
            raise ValueError(f"`{name}` must be one of {', '.join(choices)}; got {value!r}.")
    if loss == "logistic" and task == "regression":
        raise ValueError("`loss` must be mse for regression: logistic wants labels of +1 and -1.")
    if noise is None:
        noise = DEFAULT_NOISE if teacher == "none" else 0.0
    lr = default_lr(optimizer, width) if lr is None else lr
    _check_number("lr", lr, above=0.0)
    _check_number("iota", iota, above=0.0)
    _check_number("lam", lam, least=0.0)
    _check_number("noise", noise, least=0.0)
    for name, share in (("warm_up", warm_up), ("decay", decay)):
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"`{name}` must lie in [0, 1]; got {share}.")
    named = teacher if isinstance(teacher, str) else getattr(teacher, "__name__", type(teacher).__name__)
    return StructureOptions(
        dim, rank, width, depth, named, task, activation, float(iota), loss, optimizer, float(lr), float(lam),
        steps, batch, n_train, float(noise), float(warm_up), float(decay), n_held_out,
        record_every or max(1, steps // RECORDS), seed,
    )  # fmt: skip


def _check_count(name: str, value: object, least: int, most: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be an integer; got {value!r}.")
    if value < least or (most is not None and value > most):
        range_ = f"at least {least}" if most is None else f"in [{least}, {most}]"
        raise ValueError(f"`{name}` must be {range_}; got {value}.")


def _check_number(name: str, value: float, *, above: float | None = None, least: float | None = None) -> None:
    limit = above if above is not None else least
    assert limit is not None  # the caller gives one of them
    if not (math.isfinite(value) and (value > limit if above is not None else value >= limit)):
        range_ = f"above {limit:g}" if above is not None else f"at least {limit:g}"
        raise ValueError(f"`{name}` must be finite and {range_}; got {value}.")
