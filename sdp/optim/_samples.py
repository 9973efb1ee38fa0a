"""The samples a student is trained and judged on: Gaussian, each a function of the seed and its number alone."""

from __future__ import annotations

import torch
from torch import Tensor

from sdp.optim._teachers import (
    PURPOSE_HELD_OUT,
    PURPOSE_NOISE,
    PURPOSE_SAMPLES,
    PURPOSE_SHUFFLE,
    Teacher,
)
from sdp_kernels import gaussian

# Of fresh samples made at once: enough to hide the calls, little enough to stay in cache. A step of 256 x 256 numbers
# takes 130 microseconds in blocks of 2 to 16 steps, 190 alone, 380 in blocks of 64.
_BLOCK_BYTES, _BLOCK_STEPS = 1 << 22, 16
_HELD_OUT_NOISE = 1 << 40  # rows of noise from here on belong to the held-out samples


class Samples:
    """Batches of a teacher's samples.

    Args:
        teacher: whose labels.
        batch: samples a step; at most n_train.
        n_train: size of a fixed training set, passed over in a new order each time; None for samples that are fresh at
            every step.
        subspace: V (q, d): the student then sees V x, while labels are those of x. None for x itself.
        seed: of all samples.
    """

    def __init__(
        self, teacher: Teacher, batch: int, n_train: int | None, subspace: Tensor | None, seed: int
    ) -> None:
        self._teacher, self._subspace, self._seed = teacher, subspace, seed
        self.batch = batch if n_train is None else min(batch, n_train)
        self._n_train = n_train
        dim = teacher.U.shape[1]
        self.steps_in_block = max(1, min(_BLOCK_STEPS, _BLOCK_BYTES // (4 * dim * self.batch)))
        self._first, self._block = -1, (torch.empty(0), torch.empty(0))
        self._room = torch.empty(0 if n_train is not None else self.steps_in_block * self.batch, dim)
        if n_train is not None:
            self._all = self._make(0, n_train, PURPOSE_SAMPLES)
            self._epoch, self._order = -1, torch.empty(0)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """A step's x (batch, d or q) and y (batch,); valid until the next call."""
        return self._fresh(step) if self._n_train is None else self._fixed(step, self._n_train)

    def held_out(self, n: int) -> tuple[Tensor, Tensor]:
        """Samples x (n, d or q), y (n,) that no step has seen."""
        return self._make(0, n, PURPOSE_HELD_OUT)

    def _fresh(self, step: int) -> tuple[Tensor, Tensor]:
        first = step - step % self.steps_in_block
        if first != self._first:
            self._block = self._make(first * self.batch, len(self._room), PURPOSE_SAMPLES, self._room)
            self._first = first
        at = (step - first) * self.batch
        return self._block[0][at : at + self.batch], self._block[1][at : at + self.batch]

    def _fixed(self, step: int, n: int) -> tuple[Tensor, Tensor]:
        epoch, place = divmod(step, n // self.batch)
        if epoch != self._epoch:
            words = gaussian.uniform_bits((n,), seed=self._seed, purpose=PURPOSE_SHUFFLE, row_offset=epoch)
            self._order, self._epoch = torch.argsort(words, stable=True), epoch
        chosen = self._order[place * self.batch : (place + 1) * self.batch]
        return self._all[0][chosen], self._all[1][chosen]

    def _make(self, first: int, n: int, purpose: int, room: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Samples number `first` and on, into `room` (n, d) if it is given."""
        teacher = self._teacher
        x = torch.empty(n, teacher.U.shape[1]) if room is None else room
        gaussian.normal(tuple(x.shape), seed=self._seed, purpose=purpose, row_offset=first, out=x)
        noise = None
        if teacher.noise:
            row = first + (_HELD_OUT_NOISE if purpose == PURPOSE_HELD_OUT else 0)
            noise = gaussian.normal((n, 1), seed=self._seed, purpose=PURPOSE_NOISE, row_offset=row)[:, 0]
        y = teacher.labels(x, noise)
        return (x if self._subspace is None else x @ self._subspace.T), y
