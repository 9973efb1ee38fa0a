"""The spectrum of a layer of your own torch model, recorded while your own loop trains it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from sdp.optim.spectrum import Spectrum, check_directions, spectrum
from sdp.optim.structure import JSON_VALUES


@dataclass(frozen=True)
class TrackRecord:
    """A layer at one step.

    Attributes:
        step: as told to `record`, or counted.
        spectrum: of the layer's weight.
        values: whatever else was told to `record`, such as loss=0.3.
    """

    step: int
    spectrum: Spectrum
    values: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """All numbers in one level; of the singular values the leading `JSON_VALUES`."""
        found = self.spectrum.to_dict()
        found["singular_values"] = found["singular_values"][:JSON_VALUES]
        return {"step": self.step, **self.values, **found}


class StructureTracker:
    """What `track_structure` returns: records, and three ways to add to them.

    Attributes:
        records: list of `TrackRecord`, in the order in which they were made.
    """

    def __init__(
        self,
        weight: Callable[[], Tensor],
        module: nn.Module | None,
        every: int,
        U: Tensor | None,
        callback: Callable[[TrackRecord], object] | None,
    ) -> None:
        self._weight, self._module, self._every, self._U, self._callback = weight, module, every, U, callback
        self._seen = 0
        self._handle: Any = None
        self.records: list[TrackRecord] = []

    @property
    def spectrum(self) -> Spectrum:
        """Of the last record.

        Raises:
            ValueError: nothing was recorded.
        """
        if not self.records:
            raise ValueError("nothing was recorded yet; call `record`, or train inside the `with` block.")
        return self.records[-1].spectrum

    def record(self, step: int | None = None, **values: float) -> TrackRecord:
        """Measures the layer now.

        Args:
            step: for the record; one more than the last one's if not given.
            **values: anything to be kept beside it, such as loss=0.3.

        Raises:
            ValueError: the weight has entries that are not finite.

        Complexity: O(k d min(k, d)).
        """
        if step is None:
            step = self.records[-1].step + 1 if self.records else 0
        kept = {name: float(value) for name, value in values.items()}
        found = TrackRecord(int(step), spectrum(self._weight(), self._U), kept)
        self.records.append(found)
        if self._callback is not None:
            self._callback(found)
        return found

    def __call__(self, step: int | None = None, **values: float) -> TrackRecord:
        """The same as `record`, for loops that take a callback."""
        return self.record(step, **values)

    def __enter__(self) -> StructureTracker:
        """From here on every `every`-th training pass through the layer is recorded, before it.

        Raises:
            TypeError: a bare tensor is tracked, which has no passes.
        """
        if self._module is None:
            raise TypeError("a bare tensor has no passes to count; use `record`, or track its module.")
        self._handle = self._module.register_forward_pre_hook(self._count)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Records the last state, if all went well, and takes the hook away."""
        self._handle.remove()
        if kind is None:
            self.record(self._seen)

    def to_dict(self) -> dict[str, Any]:
        """The records, ready for JSON."""
        return {"records": [record.to_dict() for record in self.records]}

    def __repr__(self) -> str:
        if not self.records:
            return "<StructureTracker: nothing recorded yet>"
        last = self.records[-1]
        return (
            f"<StructureTracker: {len(self.records)} records, step {last.step}: visible rank "
            f"{last.spectrum.visible_rank}, stable rank {last.spectrum.stable_rank:.3g}>"
        )

    def _count(self, module: nn.Module, _: Any) -> None:
        if module.training and torch.is_grad_enabled():
            if self._seen % self._every == 0:
                self.record(self._seen)
            self._seen += 1


def track_structure(
    layer: nn.Module | Tensor,
    *,
    every: int = 100,
    U: Tensor | Sequence[Sequence[float]] | None = None,
    callback: Callable[[TrackRecord], object] | None = None,
) -> StructureTracker:
    """Watches the spectrum of a layer of any torch model, whatever trains it.

    Either inside a `with` block, which counts training passes through the layer and records every `every`-th, or by
    calls of `record(step, loss=...)` wherever the loop likes. The model is never changed.

    For structure to emerge the layer should be the first, decay should act on it alone, and inputs should be near
    Gaussian (whiten or standardise them): that is what the theory asks for, not this function.

    Args:
        layer: a module with a `weight` (out, in, ...), such as nn.Linear or nn.Conv2d, which is read as a matrix
            (out, rest), or such a weight itself.
        every: passes between two records of the `with` block.
        U: (r, d) orthonormal rows to measure angles to, if the relevant directions are known.
        callback: called with every `TrackRecord`.

    Returns:
        A `StructureTracker`.

    Raises:
        TypeError: the layer has no weight of floating-point numbers.
        ValueError: `every` is below 1, or U does not fit.

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with track_structure(model[0], every=2) as tracker:
    ...     for _ in range(5):
    ...         loss = model(torch.ones(8, 3)).square().mean()
    ...         loss.backward()
    ...         optimizer.step()
    >>> [record.step for record in tracker.records]
    [0, 2, 4, 5]
    """
    module = layer if isinstance(layer, nn.Module) else None
    held = getattr(layer, "weight", None) if module is not None else layer
    if not isinstance(held, Tensor) or not held.is_floating_point() or held.ndim < 2:
        raise TypeError(
            "`layer` must be a module with a `weight` of two axes or more, or such a tensor; "
            f"got {type(layer).__name__}."
        )
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ValueError(f"`every` must be an integer of at least 1; got {every!r}.")

    def weight() -> Tensor:
        now = layer.weight if isinstance(layer, nn.Module) else layer
        assert isinstance(now, Tensor)  # seen above
        return now.detach().flatten(1)

    if U is not None:
        U = torch.as_tensor(U)
        check_directions(U, *weight().shape)
    return StructureTracker(weight, module, every, U, callback)
