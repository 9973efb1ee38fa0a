"""Structure discovery: how the first layer of a network becomes low-rank while every parameter is trained.

    y = h(Ux),  U (r, d) orthonormal rows;   a student of any depth and width reads Wx + b;   x ~ N(0, I_d)
    f = E loss(student(x), y) + lam ||W||_F^2,     lam on the first layer only

With W = W_par + W_perp, W_par = W U^T U, Stein's identity on the part of x that U does not see gives
grad f's part outside U as (H + 2 lam I) W_perp, where H is the mean Hessian of the loss in z = Wx + b. So where the
gradient and the curvature are as at a local minimum W_perp is small:

    ||W_perp||_F <= e_g / (2 lam - e_H),      ||grad_W f||_F <= e_g,  lambda_min(H) >= -e_H,  2 lam > e_H.

It says nothing about the loss that is reached, nor that W_par finds all of U; those are measured here, not claimed. A
flat H with a tiny lam is slow: W_perp decays at the rate lr (2 lam + lambda_min(H)).

Where no rank shows: the noise of the samples holds W_perp up. Larger batches, a longer decay of lr and a larger lam
lower that floor; before it is reached, more steps do.

Source: Tsikouras, Pantis, Mitliagkas and Tzamos, "A Derandomization Framework for Structure Discovery"
(arXiv 2510.19382).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sdp.expectation.expectation import Expectation
from sdp.expectation.heads import TeacherStudent
from sdp.optim._optimizers import Step, make_step, schedule
from sdp.optim._samples import Samples
from sdp.optim._structure_options import StructureOptions, make_options
from sdp.optim._student import Student
from sdp.optim._teachers import Teacher, directions, make_score
from sdp.optim.spectrum import Spectrum, check_directions, spectrum

CHECK_EVERY = 64  # steps between two looks at whether all parameters are finite
# Operations of a step below which it runs on one thread: two cost more in waiting for each other than they save, and
# many times more on a machine that others use as well. The bits are the same.
ONE_THREAD_BELOW = 1e9
JSON_VALUES = 32  # singular values a record of `to_dict` holds


@dataclass(frozen=True)
class StructureRecord:
    """The state after some steps.

    Attributes:
        step: steps taken.
        loss: mean loss of the last batch before this record, without the weight decay; of the first batch at step 0.
        held_out_error: regression: mean squared error over the labels' variance, so that 1 is what the best constant
            has; classification: share of wrong signs.
        spectrum: of W.
    """

    step: int
    loss: float
    held_out_error: float
    spectrum: Spectrum

    def to_dict(self) -> dict[str, Any]:
        """All numbers in one level; of the singular values the leading `JSON_VALUES`."""
        record = {"step": self.step, "loss": self.loss, "held_out_error": self.held_out_error}
        found = self.spectrum.to_dict()
        found["singular_values"] = found["singular_values"][:JSON_VALUES]
        return {**record, **found}


@dataclass(frozen=True, repr=False, eq=False)
class StructureResult:
    """A trained student and what its first layer looked like on the way.

    Attributes:
        options: as asked for, with every default filled in.
        records: the states recorded, the first before any step.
        status: "steps done", "stopped" (by the callback), "interrupted" (Ctrl-C) or "diverged".
        steps: taken, of those that the parameters rest on.
        seconds: of training and recording.
        teacher: directions and labels.
        parameters: W (k, d), b (k,), A_2, c_2, ..., a (k,), c (1,), float32.
        notes: what went otherwise than asked, in words.
    """

    options: StructureOptions
    records: tuple[StructureRecord, ...]
    status: str
    steps: int
    seconds: float
    teacher: Teacher
    parameters: tuple[Tensor, ...]
    notes: tuple[str, ...]

    @property
    def W(self) -> Tensor:  # noqa: N802  the formula's name
        """The first layer, (k, d)."""
        return self.parameters[0]

    @property
    def U(self) -> Tensor:  # noqa: N802
        """The teacher's directions, (r, d) float32, orthonormal rows."""
        return self.teacher.U

    @property
    def spectrum(self) -> Spectrum:
        """Of W as it is now."""
        return self.records[-1].spectrum

    @property
    def perp_share(self) -> float | None:
        """||W_perp||_F / ||W||_F now; None where the student saw a subspace only."""
        return self.spectrum.perp_share

    @property
    def visible_rank(self) -> int:
        """Singular values before the widest gap of ten times or more, now; 0 if there is no such gap."""
        return self.spectrum.visible_rank

    @property
    def held_out_error(self) -> float:
        """As `StructureRecord.held_out_error`, now."""
        return self.records[-1].held_out_error

    def model(self) -> nn.Sequential:
        """The student as a torch module, x (n, d) -> (n,): the first layer, then an `sdp.MLP` that reads Wx + b."""
        student = _student(self.options, self.W.shape[1])
        for ours, theirs in zip(student.parameters, self.parameters, strict=True):
            ours.copy_(theirs)
        k, d = self.W.shape
        first = nn.Linear(d, k)
        with torch.no_grad():
            first.weight.copy_(self.W)
            first.bias.copy_(self.parameters[1])
        return nn.Sequential(first, student.head())

    def expectation(self, n_samples: int = 2**14, seed: int | None = None) -> Expectation:
        """E loss at the present parameters over all x, not over the samples trained on: what `sdp.certify` reads.

        Args:
            n_samples: as `sdp.Expectation`.
            seed: of its samples, which are others than training had; that of the run by default.

        Raises:
            ValueError: the student saw a subspace only, or labels have noise, which an expectation over x leaves out.
        """
        if self.perp_share is None or self.teacher.noise:
            what = "a student of all of x" if self.perp_share is None else "labels without noise"
            raise ValueError(f"`expectation` wants {what}; this run had other ones.")
        first, head = self.model()
        with torch.no_grad():
            W, b = first.weight.detach().clone(), first.bias.detach().clone()  # type: ignore[operator]
        guided = TeacherStudent(head, self.teacher.target, self.U, self.options.loss)
        return Expectation(guided, W, b, n_samples, self.options.seed if seed is None else seed)

    def to_dict(self, weights: bool = False) -> dict[str, Any]:
        """Options, records and the last state, ready for JSON; W and U as nested lists only if asked for."""
        last = self.records[-1].to_dict()
        record: dict[str, Any] = {
            **{name: last[name] for name in ("visible_rank", "perp_share", "held_out_error", "loss")},
            "status": self.status,
            "steps": self.steps,
            "seconds": self.seconds,
            "options": asdict(self.options),
            "notes": list(self.notes),
            "records": [entry.to_dict() for entry in self.records],
        }
        if weights:
            record |= {"W": self.W.tolist(), "U": self.U.tolist()}
        return _json_ready(record)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        k, d = self.W.shape
        share = "" if self.perp_share is None else f", ||W_perp||/||W|| {self.perp_share:.3g}"
        return (
            f"<StructureResult W ({k}, {d}): visible rank {self.visible_rank}{share}, "
            f"held-out error {self.held_out_error:.3g}; {self.status}>"
        )


def discover_structure(
    *,
    dim: int = 256,
    rank: int = 3,
    width: int = 64,
    depth: int = 3,
    teacher: str | Callable[[Tensor], Tensor] = "network",
    task: str = "regression",
    activation: str = "tanh",
    iota: float = 4.0,
    loss: str | None = None,
    optimizer: str = "momentum",
    lr: float | None = None,
    lam: float = 5e-4,
    steps: int = 10_000,
    batch: int = 256,
    n_train: int | None = None,
    noise: float | None = None,
    warm_up: float = 0.05,
    decay: float = 0.5,
    n_held_out: int = 4096,
    record_every: int | None = None,
    subspace: Tensor | None = None,
    seed: int = 0,
    callback: Callable[[StructureRecord], bool | None] | None = None,
) -> StructureResult:
    """Trains a student, all of its parameters, on a teacher's labels, and watches its first layer.

    The same arguments give the same bits, whatever torch's number of threads.

    Args:
        dim: d, entries of x ~ N(0, I_d).
        rank: r, directions that the teacher reads, at most min(dim, width).
        width: k, units of every hidden layer of the student.
        depth: its hidden layers, W being the first: at least 1.
        teacher: "network", "sine", "polynomial", "product", "none" (labels are noise), or any function of torch
            operations u (n, r) -> (n,).
        task: "regression", or "classification" of the sign of h(Ux).
        activation: of the student, a name of `sdp_kernels.activations.NAMES`.
        iota: sharpness of softplus, log(1 + exp(iota z)) / iota.
        loss: "mse" or "logistic" (classification only); logistic for classification by default.
        optimizer: "momentum" (0.9), "sgd", "adam" or "pgd" (`sdp.PGD`, stochastic, with that momentum).
        lr: learning rate at its plateau; by default the optimizer's own, lower for widths above 256.
        lam: weight decay of W alone, 0 or more: the gradient has 2 lam W. 0 is the control.
        steps: to take.
        batch: samples a step.
        n_train: size of a fixed training set; fresh samples at every step if None.
        noise: standard deviation of what is added to h(Ux), before the sign in classification; 0 by default, and
            `DEFAULT_NOISE` for the teacher "none".
        warm_up: share of the steps over which the learning rate rises.
        decay: share of the steps, at the end, over which it falls to 0.
        n_held_out: samples that the held-out error is taken over.
        record_every: steps between two records; a hundredth of the steps by default.
        subspace: V (q, d): the student sees V x instead of x, and W is (k, q). Labels stay those of x.
        seed: of teacher, student and samples.
        callback: called with every record; returning True stops the run.

    Returns:
        A `StructureResult`. Ctrl-C ends the run early and keeps what there is. When a parameter stops being finite the
        run ends with status "diverged" and the last good parameters, and the notes say at which step.

    Raises:
        TypeError, ValueError: an argument is out of its range.

    Complexity: a step costs 4 batch k (d + 1.5 (depth - 1) k) operations, a record O(k d min(k, d)).

    >>> result = discover_structure(dim=16, rank=2, width=16, depth=2, steps=1500, batch=64, lam=5e-3, seed=1)
    >>> result.visible_rank, result.perp_share < 0.1
    (2, True)
    """
    options = make_options(
        dim, rank, width, depth, teacher, task, activation, iota, loss, optimizer, lr, lam, steps, batch,
        n_train, noise, warm_up, decay, n_held_out, record_every, seed,
    )  # fmt: skip
    score = teacher if callable(teacher) else make_score(teacher, rank, seed)
    guide = Teacher(directions(rank, dim, seed), score, task, options.noise, options.teacher)
    if subspace is not None:
        check_directions(subspace, dim, dim)
        subspace = subspace.detach().to("cpu", torch.float32)
    student = _student(options, dim if subspace is None else len(subspace))
    samples = Samples(guide, batch, n_train, subspace, seed)
    watch = _Watch(student, samples, guide, options, subspace is None, callback)
    start = time.perf_counter()
    with _threads_for(options):
        status, taken, notes = _descend(student, samples, watch, options)
    return StructureResult(
        options=options,
        records=tuple(watch.records),
        status=status,
        steps=taken,
        seconds=time.perf_counter() - start,
        teacher=guide,
        parameters=tuple(part.clone() for part in student.parameters),
        notes=notes,
    )


@contextlib.contextmanager
def _threads_for(options: StructureOptions) -> Iterator[None]:
    """One thread of torch's and of numba's for small steps; afterwards as many as before."""
    import numba

    inner = options.dim + 1.5 * (options.depth - 1) * options.width
    before = torch.get_num_threads(), numba.get_num_threads()
    if 4.0 * options.batch * options.width * inner < ONE_THREAD_BELOW:
        torch.set_num_threads(1)
        numba.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


class _Watch:
    """Takes the records of a run and passes them on."""

    def __init__(
        self,
        student: Student,
        samples: Samples,
        teacher: Teacher,
        options: StructureOptions,
        sees_everything: bool,
        callback: Callable[[StructureRecord], bool | None] | None,
    ) -> None:
        self._student, self._samples, self._callback = student, samples, callback
        self._task = options.task
        self._U = teacher.U if sees_everything else None
        self._x, self._y = samples.held_out(options.n_held_out)
        self._spread = float(self._y.double().var(correction=0)) or 1.0
        self.records: list[StructureRecord] = []

    def record(self, step: int) -> bool:
        """Adds a record; whether the callback wants to stop. A step is recorded once."""
        if self.records and self.records[-1].step == step:
            return False
        x, y = self._samples.at(max(0, step - 1))
        loss = float(self._student.losses(self._student.scores(x), y).double().mean())
        found = StructureRecord(step, loss, self._error(), spectrum(self._student.W, self._U))
        self.records.append(found)
        return bool(self._callback is not None and self._callback(found))

    def forget_after(self, step: int) -> None:
        """Drops records of a state that is not kept."""
        self.records = [record for record in self.records if record.step <= step]

    def _error(self) -> float:
        scores = self._student.scores(self._x)
        if self._task == "classification":
            return float((scores * self._y <= 0).double().mean())
        return float((scores - self._y).double().square().mean()) / self._spread


def _descend(
    student: Student, samples: Samples, watch: _Watch, options: StructureOptions
) -> tuple[str, int, tuple[str, ...]]:
    """Trains: the status, the steps that the parameters rest on, and notes."""
    move: Step = make_step(options.optimizer, student, options.seed)
    good, good_step = student.vector.clone(), 0
    step = 0
    try:
        if watch.record(0):
            return "stopped", 0, ()
        while step < options.steps:
            student.backward(*samples.at(step))
            move(options.lr * schedule(step, options.steps, options.warm_up, options.decay))
            step += 1
            is_last = step == options.steps
            if step % CHECK_EVERY == 0 or step % options.record_every == 0 or is_last:
                if not math.isfinite(float(student.vector.sum())):
                    return _diverged(student, watch, good, good_step, step)
                good.copy_(student.vector)
                good_step = step
            if (step % options.record_every == 0 or is_last) and watch.record(step):
                return "stopped", step, ()
    except FloatingPointError:  # sdp.PGD looks at its gradients itself
        return _diverged(student, watch, good, good_step, step + 1)
    except KeyboardInterrupt:
        student.vector.copy_(good)
        watch.forget_after(good_step)
        watch.record(good_step)
        return "interrupted", good_step, (f"interrupted after step {good_step}",)
    return "steps done", step, ()


def _diverged(
    student: Student, watch: _Watch, good: Tensor, good_step: int, step: int
) -> tuple[str, int, tuple[str, ...]]:
    student.vector.copy_(good)
    watch.record(good_step)
    note = f"parameters were not finite by step {step}; those of step {good_step} are kept: use a smaller lr"
    return "diverged", good_step, (note,)


def _student(options: StructureOptions, dim: int) -> Student:
    return Student(
        dim,
        options.width,
        options.depth,
        options.activation,
        options.iota,
        options.loss,
        options.lam,
        options.seed,
    )


def _json_ready(value: Any) -> Any:
    """The same with infinities and NaN as None, which JSON can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _json_ready(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_json_ready(entry) for entry in value]
    return value
