"""The linear program over cycle rows, as HiGHS keeps it: rows come and go, edges are fixed, multipliers come out.

    maximise  sum_e w_e x_e   over   0 <= x <= 1,   sum_{F_r} x - sum_{C_r - F_r} x <= |F_r| - 1  for every row r

Small programs are solved by the dual simplex, which starts from the last basis. Programs of many columns are degenerate
and stall it: the interior point method without crossover then takes a tenth of the time, and its central points are cut
deeper by the rows that they violate (a torus of 50 x 50: optimal in 5 rounds, where the simplex had not come as
near after a minute; G70 reduced: 9684 in 15 rounds and 10 s, where the eighth simplex alone took a minute).
"""

from __future__ import annotations

import math

import highspy
import numpy as np
from numpy.typing import NDArray

from sdp.maxcut.bound import UNIT_ROUNDOFF
from sdp.maxcut.proof import CycleRows
from sdp.maxcut.separation import Rows

SIMPLEX_EDGES = 2500  # programs of more columns start with the interior point method
SIMPLEX_ITERATIONS = 5000  # after so many in one solve the program is one for the interior point method
IDLE_ROUNDS = 3  # a row that was slack for so many is dropped
IDLE_SHARE = 0.25  # of the rows, before they are worth a new factorisation
SLACK = 1e-3  # of a row that counts as slack
TIGHTEST, LOOSEST = 1e-9, 1e-3  # relative gap at which an interior point counts as optimal
FREE, UNCUT, CUT = -1, 0, 1


class CycleProgram:
    """A linear program over the edges, x in [0, 1]^m, and the rows that it holds.

    Attributes:
        x: float64 (m,), the last point, in [0, 1].
        multipliers: float64 (rows.n_rows,), >= 0, of the last solve, in units of the weights; all 0 before it.
        rows: in the program now.
        iterations: of all solves.
    """

    def __init__(self, weights: NDArray[np.float64], rows: Rows) -> None:
        self.weights = weights
        # A power of two, so that multipliers go back exactly.
        self._unit = 2.0 ** (math.frexp(float(np.abs(weights).max(initial=0.0)))[1])
        self._by_simplex = weights.size <= SIMPLEX_EDGES
        self._solver = _silent_solver()
        self._solver.addVars(weights.size, np.zeros(weights.size), np.ones(weights.size))
        columns = np.arange(weights.size, dtype=np.int32)
        self._solver.changeColsCost(weights.size, columns, -weights / self._unit)
        self.x = (weights > 0).astype(np.float64)
        self.rows, self.iterations = Rows.none(), 0
        self.multipliers, self._idle = np.empty(0), np.empty(0, np.int64)
        self.add(rows)

    def start(self, rows: Rows | CycleRows) -> None:
        """Takes the first rows, and their multipliers if they have some: what they prove is proved before any solve."""
        if isinstance(rows, Rows):
            self.add(rows)
            return
        first = Rows.of(rows)
        distinct = np.zeros(first.n_rows, np.bool_)
        distinct[np.unique(first.hashes, return_index=True)[1]] = True
        self.add(first.only(distinct))
        self.multipliers = rows.multipliers[distinct].copy()

    def add(self, rows: Rows) -> bool:
        """Adds rows that the program does not hold yet; whether there were any."""
        rows = rows.only(~np.isin(rows.hashes, self.rows.hashes))
        if not rows.n_rows:
            return False
        values = np.where(rows.in_F, 1.0, -1.0)
        starts = rows.pointers[:-1].astype(np.int32)
        lower = np.full(rows.n_rows, -highspy.kHighsInf)
        self._solver.addRows(
            rows.n_rows, lower, rows.right_sides, values.size, starts, rows.members.astype(np.int32), values
        )
        self.rows += rows
        self.multipliers = np.concatenate((self.multipliers, np.zeros(rows.n_rows)))
        self._idle = np.concatenate((self._idle, np.zeros(rows.n_rows, np.int64)))
        return True

    def fix(self, fixed: NDArray[np.int8]) -> None:
        """Fixes edges, int8 (m,): FREE, UNCUT or CUT."""
        columns = np.arange(fixed.size, dtype=np.int32)
        lower, upper = (fixed == CUT).astype(np.float64), (fixed != UNCUT).astype(np.float64)
        self._solver.changeColsBounds(fixed.size, columns, lower, upper)

    def solve(self, accuracy: float, seconds: float) -> bool:
        """Solves for `x` and `multipliers`; False if neither could be had within the seconds, or no point is feasible.

        Args:
            accuracy: relative gap of the interior point method, between TIGHTEST and LOOSEST.
            seconds: of this solve.
        """
        if self._by_simplex and not self._run("simplex", accuracy, seconds):
            if self.is_infeasible or self._solver.getModelStatus() == highspy.HighsModelStatus.kTimeLimit:
                return False
            self._by_simplex = False  # too many iterations, or numbers that it could not cope with
        if not self._by_simplex and not self._run("ipm", accuracy, seconds):
            return False
        solution = self._solver.getSolution()
        self.x = np.clip(np.asarray(solution.col_value, dtype=np.float64), 0.0, 1.0)
        duals = -np.asarray(solution.row_dual, dtype=np.float64)
        self.multipliers = np.maximum(duals, 0.0) * self._unit
        slack = self.rows.right_sides - np.asarray(solution.row_value, dtype=np.float64)
        self._idle = np.where((slack > SLACK) & (duals < max(accuracy, TIGHTEST)), self._idle + 1, 0)
        return True

    def solve_freely(self, fixed: NDArray[np.int8], penalty: float, seconds: float) -> bool:
        """Solves with a penalty in place of the fixings: for a program that they make infeasible.

        There is always a point then, and multipliers whose bound with the fixings falls as the penalty rises.

        Args:
            fixed: int8 (m,).
            penalty: for each edge that is not as it is fixed, in units of the weights.
            seconds: of this solve.
        """
        sign = np.where(fixed == CUT, 1.0, np.where(fixed == UNCUT, -1.0, 0.0))
        columns = np.arange(fixed.size, dtype=np.int32)
        self._solver.changeColsCost(fixed.size, columns, -(self.weights + penalty * sign) / self._unit)
        self.fix(np.full(fixed.size, FREE, np.int8))
        solved = self.solve(TIGHTEST, seconds)
        self._solver.changeColsCost(fixed.size, columns, -self.weights / self._unit)
        self.fix(fixed)
        return solved

    def leaning_point(self, lean: NDArray[np.float64], seconds: float) -> NDArray[np.float64] | None:
        """A point that is best for weights + lean, roughly, float64 (m,), or None; all else stays as it was.

        Where many points are best the interior point method ends amid them, and says little of each edge. With a lean
        at random few points are best, and edges are decided. The simplex method ends at one of them anyway.
        """
        if self._by_simplex:
            return None
        columns = np.arange(lean.size, dtype=np.int32)
        self._solver.changeColsCost(lean.size, columns, -(self.weights + lean) / self._unit)
        solved = self._run("ipm", LOOSEST, seconds)
        point = np.clip(np.asarray(self._solver.getSolution().col_value, dtype=np.float64), 0.0, 1.0)
        self._solver.changeColsCost(lean.size, columns, -self.weights / self._unit)
        return point if solved else None

    @property
    def is_infeasible(self) -> bool:
        """Whether the last solve found that no point satisfies the rows and the fixings."""
        return self._solver.getModelStatus() in (
            highspy.HighsModelStatus.kInfeasible,
            highspy.HighsModelStatus.kUnboundedOrInfeasible,
        )

    def purge(self) -> None:
        """Drops the rows that were slack for `IDLE_ROUNDS` solves, once they are `IDLE_SHARE` of all."""
        idle = self._idle >= IDLE_ROUNDS
        if idle.sum() <= IDLE_SHARE * idle.size:
            return
        basis = self._solver.getBasis() if self._by_simplex else None
        dropped = np.flatnonzero(idle).astype(np.int32)
        self._solver.deleteRows(dropped.size, dropped)
        if basis is not None and basis.valid:
            # HiGHS forgets the basis; slack rows are basic, so what is left of it is one.
            left = highspy.HighsBasis()
            left.col_status = basis.col_status
            left.row_status = [
                status for status, drop in zip(basis.row_status, idle, strict=True) if not drop
            ]
            left.valid = True
            self._solver.setBasis(left)
        self.rows = self.rows.only(~idle)
        self.multipliers, self._idle = self.multipliers[~idle], self._idle[~idle]

    def proof(self) -> CycleRows:
        """The rows with a multiplier above 0, and those."""
        used = self.multipliers > 0
        rows = self.rows.only(used)
        return CycleRows(rows.pointers, rows.members.astype(np.int64), rows.in_F, self.multipliers[used])

    def _run(self, method: str, accuracy: float, seconds: float) -> bool:
        solver = self._solver
        solver.setOptionValue("solver", method)
        solver.setOptionValue("ipm_optimality_tolerance", min(max(accuracy, TIGHTEST), LOOSEST))
        solver.setOptionValue("time_limit", solver.getRunTime() + max(seconds, 0.0))
        solver.run()
        self.iterations += max(solver.getInfo().simplex_iteration_count, 0)
        solution = solver.getSolution()
        return bool(
            solver.getModelStatus() in (highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kUnknown)
            and solution.value_valid
            and solution.dual_valid
        )


def proved_bound(weights: NDArray[np.float64], proof: CycleRows, fixed: NDArray[np.int8]) -> float:
    """What rows and multipliers prove, rounded to the safe side, by the formula of `CycleRows`.

    Args:
        weights: float64 (m,).
        proof: rows over these edges.
        fixed: int8 (m,): FREE, UNCUT or CUT.

    Complexity: O(members + m).
    """
    row_of = np.repeat(np.arange(proof.multipliers.size), np.diff(proof.pointers))
    each = proof.multipliers[row_of]
    used = np.bincount(proof.members, np.where(proof.in_F, each, -each), minlength=weights.size)
    sizes = np.bincount(row_of[proof.in_F], minlength=proof.multipliers.size)
    right = math.fsum((proof.multipliers * (sizes - 1)).tolist())
    left = weights - used
    counted = np.where(fixed == CUT, left, np.where(fixed == UNCUT, 0.0, np.maximum(left, 0.0)))
    # A sum of k terms by `bincount` is off by k - 1 roundings of at most the sum of their sizes.
    terms = int(np.bincount(proof.members, minlength=1).max()) + 4
    sizes_of_all = right + math.fsum(np.abs(weights).tolist()) + math.fsum(each.tolist())
    return right + math.fsum(counted.tolist()) + 2 * terms * UNIT_ROUNDOFF * sizes_of_all


def _silent_solver() -> highspy.Highs:
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.silent()
    options: dict[str, bool | int | float | str] = {
        "threads": 1,  # rows, multipliers and bounds are then the same on every machine
        "presolve": "off",  # it would cost the warm start
        "run_crossover": "off",
        "simplex_strategy": 1,  # dual
        "simplex_iteration_limit": SIMPLEX_ITERATIONS,
    }
    for name, value in options.items():
        solver.setOptionValue(name, value)
    return solver
