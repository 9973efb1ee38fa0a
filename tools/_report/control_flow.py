"""Loops in straight machine code: which instructions run once, and which run every pass.

Instructions are cut into basic blocks, dominators are found, and a branch to a block that dominates its own source
closes a natural loop. That is more than "a branch backwards": both compilers put waiting loops and rare cases behind
the last instruction and jump back from there, which is a branch backwards but no loop.

Source: Aho, Lam, Sethi, Ullman, Compilers (2006), section 9.6; dominators by Cooper, Harvey, Kennedy (2001).
"""

from collections.abc import Sequence
from typing import NamedTuple


class Instruction(NamedTuple):
    """One machine instruction.

    Attributes:
        opcode: full mnemonic with its modifiers, such as "LDG.E.128" or "v_fma_f32".
        operands: the rest of the line.
        guarded: whether it runs under a predicate.
        target: index of the instruction that it branches to, None where it does not.
        ends: whether control never falls through to the next instruction.
        control: NVIDIA's scheduling bits (see sass.py), or 0.
    """

    opcode: str
    operands: str = ""
    guarded: bool = False
    target: int | None = None
    ends: bool = False
    control: int = 0


class Loop(NamedTuple):
    """A natural loop.

    Attributes:
        header: index of its first instruction.
        members: indices of all its instructions, inner loops included.
        depth: 0 for an outermost loop.
        waits: whether it only spins on a barrier.
    """

    header: int
    members: frozenset[int]
    depth: int
    waits: bool


def _blocks(code: Sequence[Instruction]) -> tuple[list[tuple[int, int]], list[list[int]]]:
    """Basic blocks as (first, past the last) and the successors of each."""
    leaders = {0}
    for index, instruction in enumerate(code):
        if instruction.target is not None:
            leaders.add(instruction.target)
        if instruction.target is not None or instruction.ends:
            leaders.add(index + 1)
    starts = sorted(leader for leader in leaders if leader < len(code))
    blocks = list(zip(starts, [*starts[1:], len(code)], strict=True))
    number = {first: position for position, (first, _) in enumerate(blocks)}
    successors: list[list[int]] = []
    for position, (_, end) in enumerate(blocks):
        last = code[end - 1]
        following = [] if last.target is None else [number[last.target]]
        if not last.ends and position + 1 < len(blocks):
            following.append(position + 1)
        successors.append(following)
    return blocks, successors


def _dominators(successors: Sequence[Sequence[int]]) -> tuple[list[int], dict[int, int]]:
    """Reachable blocks in reverse postorder, and the immediate dominator of each of them."""
    order: list[int] = []
    seen = {0}
    stack = [(0, iter(successors[0]))]
    while stack:
        node, pending = stack[-1]
        follower = next(pending, None)
        if follower is None:
            order.append(node)
            stack.pop()
        elif follower not in seen:
            seen.add(follower)
            stack.append((follower, iter(successors[follower])))
    order.reverse()
    rank = {node: position for position, node in enumerate(order)}
    predecessors: dict[int, list[int]] = {node: [] for node in order}
    for node in order:
        for follower in successors[node]:
            predecessors[follower].append(node)
    immediate = {0: 0}
    changed = True
    while changed:
        changed = False
        for node in order[1:]:
            done = [other for other in predecessors[node] if other in immediate]
            best = done[0]
            for other in done[1:]:
                while best != other:
                    if rank[best] > rank[other]:
                        best = immediate[best]
                    else:
                        other = immediate[other]
            if immediate.get(node) != best:
                immediate[node] = best
                changed = True
    return order, immediate


def _dominates(above: int, below: int, immediate: dict[int, int]) -> bool:
    while below != above and below != immediate[below]:
        below = immediate[below]
    return below == above


def loops(code: Sequence[Instruction], waiting: Sequence[str] = ()) -> list[Loop]:
    """All natural loops, outer before inner, in the order of their first instructions.

    Args:
        code: instructions in address order.
        waiting: beginnings of opcodes that wait for a barrier; a loop of at most 16 instructions that holds one of
            them is marked as waiting.

    Returns:
        The loops; those that share a header are merged.

    Complexity: O(n) but for the dominators, which take O(blocks^2) at worst.
    """
    if not code:
        return []
    blocks, successors = _blocks(code)
    order, immediate = _dominators(successors)
    reachable = set(order)
    predecessors: dict[int, list[int]] = {node: [] for node in order}
    for node in order:
        for follower in successors[node]:
            predecessors[follower].append(node)
    bodies: dict[int, set[int]] = {}
    for node in order:
        for header in successors[node]:
            if header not in reachable or not _dominates(header, node, immediate):
                continue
            body = bodies.setdefault(header, {header})
            pending = [node]
            while pending:
                inner = pending.pop()
                if inner not in body:
                    body.add(inner)
                    pending.extend(predecessors[inner])
    found = []
    for header, body in bodies.items():
        depth = sum(header in other and body < other for other in bodies.values())
        members = frozenset(index for block in body for index in range(*blocks[block]))
        waits = len(members) <= 16 and any(code[index].opcode.startswith(tuple(waiting)) for index in members)
        found.append(Loop(blocks[header][0], members, depth, bool(waiting) and waits))
    return sorted(found, key=lambda loop: (loop.header, -len(loop.members)))


def reachable(code: Sequence[Instruction]) -> frozenset[int]:
    """Indices of the instructions that control can reach from the first one."""
    if not code:
        return frozenset()
    blocks, successors = _blocks(code)
    order, _ = _dominators(successors)
    return frozenset(index for block in order for index in range(*blocks[block]))


# A smaller part of the program is not taken for its main loop unless the catalogue says so: a rare case may loop too.
SMALLEST_MAIN_LOOP = 0.1


class Weights(NamedTuple):
    """How often each instruction runs.

    Attributes:
        once: passes of each instruction outside the main loop (0 inside it).
        each: passes within one pass of the main loop (0 outside it).
        looped: whether there is a main loop; without one everything counts as `each`.
        inner: number of inner loops that were found and needed trips.
    """

    once: list[float]
    each: list[float]
    looped: bool
    inner: int


class TripsError(ValueError):
    """The catalogue's trips do not fit the loops that the compiler left."""


def weights(
    code: Sequence[Instruction],
    found: Sequence[Loop],
    inner_trips: Sequence[float],
    looped: bool | None = None,
) -> Weights:
    """Passes of every instruction, with the main loop set apart.

    The main loop is the outermost loop of most instructions; with `looped` False there is none and all of the program
    counts. Loops inside it run `inner_trips` times a pass of the
    loop around them, in address order; waiting loops and further outermost loops are counted as one pass.
    Both sides of every forward branch are counted, which is an upper bound.

    Raises:
        TripsError: `inner_trips` names more or fewer loops than there are, there is no loop though `looped` says so,
            or the largest one is too small a part of the program to be taken for the main loop unasked.
    """
    alive = reachable(code)
    outer = [loop for loop in found if loop.depth == 0 and not loop.waits]
    main = max(outer, key=lambda loop: len(loop.members), default=None)
    if main is None and looped:
        raise TripsError("looped is True but the machine code has no loop.")
    if main is not None and looped is None and len(main.members) < SMALLEST_MAIN_LOOP * len(alive):
        raise TripsError(
            f"the largest loop holds {len(main.members)} of {len(alive)} instructions; looped must say whether it is "
            "the main loop."
        )
    if main is None or looped is False:
        main, is_looped = Loop(0, alive, -1, False), False
    else:
        is_looped = True
    inner = [
        loop for loop in found if loop.depth > main.depth and not loop.waits and loop.header in main.members
    ]
    if len(inner) != len(inner_trips):
        sizes = ", ".join(str(len(loop.members)) for loop in inner) or "none"
        raise TripsError(
            f"inner_trips has {len(inner_trips)} entries but the machine code has {len(inner)} inner loops "
            f"(instructions in each: {sizes})."
        )
    each = [float(index in main.members) for index in range(len(code))]
    for loop, trips in zip(inner, inner_trips, strict=True):
        for index in loop.members:
            each[index] *= trips
    once = [float(index in alive and index not in main.members) for index in range(len(code))]
    return Weights(once, each, is_looped, len(inner))
