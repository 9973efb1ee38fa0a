"""The stored entries of sparse maps, and the tables by which dense rows are multiplied: torch operations on the device.

    blocked       word b of a feature: component = start_b + (word // 2) length_b // 2^31, sign -1 where it is odd
    independent   stored where word // 2 < limit, for words of all k components; sign likewise

A table serves `projection_sparse._panel_kernel`. Features fall into panels of FEATURES, components into chunks of
CHUNK; a panel's entries of one component, in order of features, are dealt to steps, SLOTS to a step. A chunk takes as
many steps as its longest list; a slot is 16 bits, (place of the feature in its panel << 2) | (is negative << 1) | (is
stored). Tables are kept for the last maps, BYTES together: a function of (seed, position) alone, they are never stale.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from sdp_kernels.triton._philox import words4

FEATURES = 1024  # of a panel
CHUNK = 64  # components
CHUNKS = 16  # of a program, at most
SLOTS = 4  # 16 bits each: a step's word is an int64
BYTES = 1 << 28  # of tables that are kept
WORDS_AT_ONCE = 1 << 24

_LANES = 4  # words a call of Philox


class Map(NamedTuple):
    """Which sparse map.

    Attributes:
        n_features, n_components: D, k.
        n_nonzeros: s of a blocked map; 0 for an independent one.
        limit: of an independent map, of 2^31; 0 for a blocked one.
        seed, purpose: key of the words.
    """

    n_features: int
    n_components: int
    n_nonzeros: int
    limit: int
    seed: int
    purpose: int


class Table(NamedTuple):
    """What `_panel_kernel` reads.

    Attributes:
        words: int64 (n_steps + 1, CHUNK), SLOTS of a component's entries each.
        starts: int32 (tiles of components x panels x chunks + 1,), first step of each.
        chunks: chunks of a program: 1, 2, 4, 8 or 16.
        n_panels: panels of features.
        n_tiles: tiles of components.
    """

    words: Tensor
    starts: Tensor
    chunks: int
    n_panels: int
    n_tiles: int


@triton.jit(do_not_specialize=["n", "n_columns", "seed", "purpose"])
def _words_kernel(
    features_ptr,           # int64 (n,)
    out_ptr,                # int32 (n, n_columns)
    n, n_columns, seed, purpose,
    ROWS: tl.constexpr, CALLS: tl.constexpr,
):  # fmt: skip
    """out[i, c] = word of (features[i], c)."""
    offs_n = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    calls = tl.program_id(1) * CALLS + tl.arange(0, CALLS)
    features = tl.load(features_ptr + offs_n, mask=offs_n < n, other=0)
    words = words4(features[:, None], calls[None, :], purpose, seed)
    for lane in tl.static_range(4):
        column = calls * 4 + lane
        mask = (offs_n < n)[:, None] & (column < n_columns)[None, :]
        place = out_ptr + offs_n[:, None] * n_columns + column[None, :]
        tl.store(place, words[lane].to(tl.int32, bitcast=True), mask=mask)


def words_of(features: Tensor, n_columns: int, seed: int, purpose: int) -> Tensor:
    """Words of columns 0 to n_columns - 1 of these features: int64 (n, n_columns), below 2^32."""
    n = len(features)
    out = torch.empty((n, n_columns), dtype=torch.int32, device=features.device)
    calls = min(triton.next_power_of_2(triton.cdiv(n_columns, _LANES)), 256)
    rows = (1 << 14 if triton.knobs.runtime.interpret else 1 << 8) // calls or 1
    if n:
        _words_kernel[(triton.cdiv(n, rows), triton.cdiv(n_columns, _LANES * calls))](
            features, out, n, n_columns, seed, purpose, ROWS=rows, CALLS=calls, num_warps=4
        )
    return out.to(torch.int64) & 0xFFFFFFFF


def block_starts(n_components: int, n_nonzeros: int, device: torch.device) -> Tensor:
    """First component of every block, and k: int64 (s + 1,)."""
    return torch.arange(n_nonzeros + 1, device=device) * n_components // n_nonzeros


def entries(which: Map, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Stored entries of some features, feature by feature.

    Args:
        which: the map.
        features: int64 (m,).

    Returns:
        For each entry: int64 place of its feature in `features`, int64 component (rising), bool whether it is -1.
    """
    if which.n_nonzeros:
        words = words_of(features, which.n_nonzeros, which.seed, which.purpose)
        starts = block_starts(which.n_components, which.n_nonzeros, features.device)
        components = starts[:-1] + ((words >> 1) * starts.diff() >> 31)
        owner = torch.arange(len(features), device=features.device)[:, None].expand_as(words)
        return owner.reshape(-1), components.reshape(-1), (words & 1).bool().reshape(-1)
    found = []
    step = max(1, WORDS_AT_ONCE // which.n_components)
    for first in range(0, max(1, len(features)), step):  # once at least: three empty tensors
        words = words_of(features[first : first + step], which.n_components, which.seed, which.purpose)
        owner, component = torch.nonzero(words >> 1 < which.limit, as_tuple=True)
        found.append((owner + first, component, (words[owner, component] & 1).bool()))
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))  # type: ignore[return-value]


def ranks(keys: Tensor) -> Tensor:
    """How many equal keys stand before each, of keys in rising order: int64."""
    position = torch.arange(len(keys), device=keys.device)
    is_first = torch.ones_like(keys, dtype=torch.bool)
    is_first[1:] = keys[1:] != keys[:-1]
    return position - torch.where(is_first, position, 0).cummax(0).values


_tables: OrderedDict[tuple[Map, torch.device], Table] = OrderedDict()


def table(which: Map, device: torch.device) -> Table:
    """The table of a map, made or remembered.

    Complexity: a sort of its entries, 40 bytes an entry while it is made; 2 to 5 bytes an entry kept.
    """
    key = (which, device)
    if key not in _tables:
        _tables[key] = _make(which, device)
    _tables.move_to_end(key)
    while len(_tables) > 1 and sum(t.words.nbytes for t in _tables.values()) > BYTES:
        _tables.popitem(last=False)
    return _tables[key]


def _make(which: Map, device: torch.device) -> Table:
    features, components, is_negative = entries(which, torch.arange(which.n_features, device=device))
    chunks = min(CHUNKS, triton.next_power_of_2(triton.cdiv(which.n_components, CHUNK)))
    n_panels = triton.cdiv(which.n_features, FEATURES)
    n_tiles = triton.cdiv(which.n_components, chunks * CHUNK)
    chunk = components // CHUNK
    # Lists in order of (tile, panel, chunk of the tile, component of the chunk).
    group = (chunk // chunks * n_panels + features // FEATURES) * chunks + chunk % chunks
    keys, order = torch.sort(group * CHUNK + components % CHUNK, stable=True)
    rank, group = ranks(keys), keys // CHUNK
    longest = torch.zeros(n_tiles * n_panels * chunks, dtype=torch.int64, device=device)
    longest.scatter_reduce_(0, group, rank // SLOTS + 1, "amax")
    starts = torch.nn.functional.pad(longest.cumsum(0), (1, 0))
    # A step more: the kernel reads one ahead.
    slots = torch.zeros((int(starts[-1]) + 1, CHUNK, SLOTS), dtype=torch.int16, device=device)
    word = features[order] % FEATURES << 2 | is_negative[order].to(torch.int64) << 1 | 1
    slots[starts[group] + rank // SLOTS, keys % CHUNK, rank % SLOTS] = word.to(torch.int16)
    words = slots.view(-1, CHUNK * SLOTS).view(torch.int64)
    return Table(words, starts.to(torch.int32), chunks, n_panels, n_tiles)
