"""The model of a solve on a GPU: its arithmetic on a small made-up report, and its words where a kernel is missing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from benchmarks import _gpu_costs, _gpu_solve, _published, on_gpu
from benchmarks import maxcut_gpu_model as model
from benchmarks._gpu_costs import Kernel, Kernels, Launch, Work, launch_cost, machine_of
from benchmarks._gpu_operations import Graph, Operations
from benchmarks._gpu_timeline import Solve
from benchmarks._records import Results
from sdp_kernels.triton.catalog import TARGETS

H100 = machine_of("sm_90", memory_share=1.0)


def kernel(work: Work, resident: int = 8, items: int = 0, **each: float) -> Kernel:
    counted = {"warps": 4, "each": each, "once": {}, "cycles_each": 0.0, "cycles_once": 0.0}
    return Kernel("made up", work, counted, resident, items)


def test_bytes_that_miss_the_cache_come_from_memory_a_sector_at_a_time() -> None:
    made = kernel(Work("entry", 1024, read_bytes=8, cached_bytes=16), issue=1.0)
    small = launch_cost(H100, made, [Launch(1e8)], table_bytes=25e6, access_bytes=16)
    assert small.by_bound.keys() == {"cache"}
    assert small.seconds == pytest.approx(1e8 * 16 / 5.5e12)
    large = launch_cost(H100, made, [Launch(1e8)], table_bytes=200e6, access_bytes=16)
    assert large.by_bound.keys() == {"dram"}
    assert large.seconds == pytest.approx(1e8 * (8 + 0.75 * 16 * 2) / 3.35e12)
    wide = launch_cost(H100, made, [Launch(1e8)], table_bytes=200e6, access_bytes=64)
    assert wide.seconds == pytest.approx(1e8 * (8 + 0.75 * 16) / 3.35e12)


def test_passes_of_gathers_wait_for_one_another() -> None:
    made = kernel(Work("entry", 512), resident=1, items=128, issue=1.0)
    a_pass = 2 * H100.hit_seconds
    long = launch_cost(H100, made, [Launch(512.0, items=128, passes=128, longest=32)], 0, 0)
    assert long.by_bound == {"gather latency": pytest.approx(32 * a_pass)}
    # 132 multiprocessors, one program of 128 items each: ten rounds of items of two passes.
    items = 128.0 * 132 * 10
    many = launch_cost(H100, made, [Launch(4 * items, items=items, passes=2 * items, longest=2)], 0, 0)
    assert many.seconds == pytest.approx(10 * 2 * a_pass)
    missed = launch_cost(H100, made, [Launch(512.0, 128, 128, 32)], table_bytes=1e15, access_bytes=64)
    assert missed.seconds == pytest.approx(32 * (H100.hit_seconds + H100.miss_seconds), rel=1e-6)


def test_launches_add_up_and_empty_ones_are_not_made() -> None:
    made = kernel(Work("entry", 1024, read_bytes=8), issue=1.0)
    one = launch_cost(H100, made, [Launch(1e7)], 0, 0)
    both = launch_cost(H100, made, [Launch(1e7), Launch(0.0), Launch(1e7)], 0, 0)
    assert both.launches == 2
    assert both.seconds == pytest.approx(2 * one.seconds)
    again = both.times(3)
    assert (again.launches, again.seconds) == (6, pytest.approx(6 * one.seconds))
    assert math.fsum(again.by_bound.values()) == pytest.approx(again.seconds)


def report(**record: Any) -> dict[str, Any]:
    about: dict[str, Any] = {
        "kernel": "mixing",
        "variant": "r16",
        "target": "sm_90",
        "error": None,
        "uncounted": None,
    }
    about["constants"] = {"ITEMS": 64}
    return {"records": [{**about, "counted": {"each": {}}, "resident_programs": 3, **record}]}


def test_a_kernel_is_found_or_the_sentence_says_how_to_make_it() -> None:
    works = {("mixing", "r16"): Work("entry", 64)}
    found = Kernels(report(), "sm_90", works).find("mixing", "r16")
    assert (found.resident, found.items) == (3, 64)
    words = r"the kernel report has no mixing r16 for sm_80; run make report, which compiles it\."
    with pytest.raises(LookupError, match=words):
        Kernels(report(), "sm_80", works).find("mixing", "r16")
    with pytest.raises(LookupError, match="run make report"):
        Kernels(report(error="out of registers"), "sm_90", works).find("mixing", "r16")
    with pytest.raises(LookupError, match="cannot be counted: two loops"):
        Kernels(report(uncounted="two loops"), "sm_90", works).find("mixing", "r16")


def test_the_committed_report_and_the_catalogue_name_the_same_kernels() -> None:
    kernels = Kernels(_gpu_costs.load_report(), "sm_90")
    found = kernels.find("normal", "32-bit")
    assert found.work.unit == "normal"
    assert found.counted["warps"] == 4


class Anything(Kernels):
    """A report that has every kernel, each of the same few costs; units by what the kernels go over."""

    def __init__(self) -> None:
        super().__init__({"records": []}, "sm_90", {})

    def find(self, name: str, variant: str) -> Kernel:
        return kernel(Work("entry", 512, read_bytes=8, cached_bytes=8), resident=8, items=64, issue=20.0)


def counted(rows: float = 3e5, **more: Any) -> dict[str, Any]:
    """A made-up record of `_solve_counts`: three classes of rows of eight entries, one with a heavy row."""
    shares = (0.5, 0.3, 0.2)
    items = [share * rows for share in shares]
    kinds = {f"{what}_{kind}": [0.0] * 3 for what in ("items", "entries") for kind in ("4", "16", "many")}
    classes = {
        **kinds,
        "rows": items,
        "entries": [8 * n for n in items],
        "items": items,
        "passes": [2 * n for n in items],
        "longest": [32, 2, 2],
        "heavy": [1, 0, 0],
        "slots": [80, 0, 0],
        "longest_heavy": [20, 0, 0],
        "items_8": items,
        "entries_8": [8 * n for n in items],
    }
    return {
        "n_vertices": rows,
        "n_edges": 4 * rows,
        "classes": classes,
        "seconds": {"prepare": 0.5, "reduce": 0.25, "relax": 9.0, "polish": 40.0},
        "certificates": 2,
        "normals": 16 * rows + 2 * 8 * rows,
        "cut_value": 1e6,
        "operations": [
            {"operation": "mixing_sweeps", "columns": 16, "bytes": 4, "sweeps": 40, "calls": 8},
            {"operation": "fields", "columns": 16, "calls": 1},
            {"operation": "chebyshev_step", "columns": 8, "calls": 100},
            {"operation": "anneal", "replicas": 8, "calls": 20, "sweeps": 3200},
            {"operation": "one_opt", "replicas": 8, "calls": 64},
        ],
        **more,
    }


def test_stages_add_up_and_each_place_is_counted_once() -> None:
    graphs = model.Graphs(Graph(counted()), Graph(counted()))
    stages = graphs.stages(Anything(), H100)
    assert len({stage.name for stage in stages}) == len(stages)
    places = [model.seconds(stages, H100, place) for place in ("host", "link", "device")]
    assert all(place > 0 for place in places)
    assert sum(places) == pytest.approx(sum(stage.total(H100) for stage in stages))
    host = {stage.name: stage.seconds for stage in stages if stage.place == "host"}
    assert list(host.values()) == [0.25, 0.5]
    link = next(stage for stage in stages if stage.name == "graph to the device")
    assert link.seconds == pytest.approx((8 * (3e5 + 1) + 8 * 8 * 3e5 + 8 * 3e5) / 50e9)
    for stage in stages:
        assert sum(stage.by_bound.values()) == pytest.approx(stage.seconds) or stage.place != "device"


def test_starts_are_drawn_on_the_device_and_grow_with_the_graph() -> None:
    def starts(record: dict[str, Any], factor: float = 1.0) -> float:
        stages = Solve(Graph(record, factor), Anything(), H100).relaxation()
        (found,) = [stage for stage in stages if stage.name == "random starts"]
        assert found.place == "device"
        return found.seconds

    record = counted()
    rows_alone = counted(certificates=0, normals=16 * record["n_vertices"])
    # Numbers of certificates cost sixty passes over float64, rows three over float32.
    assert starts(record) - starts(rows_alone) > 10 * starts(rows_alone)
    assert starts(record, 10.0) == pytest.approx(10 * starts(record), rel=0.1)


def test_an_anneal_is_recorded_again_at_every_look_at_the_clock() -> None:
    def recordings(factor: float) -> float:
        graph = Graph(counted(), factor)
        stages = Solve(graph, Anything(), H100).polishing(graph, True)
        return stages[0].by_bound["recording"]

    # 64 rounds of 50 sweeps: 26 sweeps of 300,000 vertices and 256 partitions fit a slice, one of 10 times as many two.
    assert recordings(10.0) == pytest.approx(recordings(1.0) * 25 / 2)


def test_the_host_is_measured_again_alone(tmp_path: Path) -> None:
    results = model.Results(model.COUNTS, model.COUNTS_KEY, tmp_path)
    key = {"family": "random-8", "edges_asked": 4000, "threads": 1}
    for part, limit in ((model.GAP, None), (model.SOLVE, 60.0)):
        results.add({**key, "part": part, "time_limit": limit, **counted()})
    results.add({**key, "part": model.GAP, "time_limit": None, **counted(), "edges_asked": 8000})
    model.measure_host([], [4000], tmp_path)
    gap, solve, other = results.records()
    assert other["seconds"] == counted()["seconds"]
    for found in (gap, solve):
        assert 0 < found["seconds"].pop("prepare") != 0.5
        assert {**found, "seconds": counted()["seconds"]}.items() >= counted().items()
    assert gap["seconds"]["reduce"] == 0.25  # relaxations are not reduced
    assert 0 < solve["seconds"].pop("reduce") != 0.25
    assert {name: solve["seconds"][name] for name in ("relax", "polish")} == {"relax": 9.0, "polish": 40.0}


def test_sweeps_are_launched_class_by_class_and_heavy_rows_once_more() -> None:
    operations = Operations(Graph(counted()), Anything(), H100)
    assert operations.sweep(16, 4).launches == 4
    assert (
        operations.packed_sweep(8).launches == 2 + 3 + 1
    )  # the table and the sweep's number, one kind a class
    a_pass = 2 * H100.hit_seconds
    # The longest item of the first class, and the slots of its heavy row.
    assert operations.sweep(16, 4).by_bound["gather latency"] >= 32 * a_pass + 22 * H100.hit_seconds


def test_larger_graphs_take_longer_at_every_stage() -> None:
    before: dict[str, float] = {}
    for factor in (1.0, 10.0, 100.0):
        graphs = model.Graphs(Graph(counted(), factor), Graph(counted(), factor))
        now = {stage.name: stage.total(H100) for stage in graphs.stages(Anything(), H100)}
        assert all(now[name] >= seconds for name, seconds in before.items())
        before = now
    certificate = Solve(Graph(counted(), 100.0), Anything(), H100).relaxation()[-1]
    once = Solve(Graph(counted()), Anything(), H100).relaxation()[-1]
    assert certificate.launches > once.launches  # a larger graph takes more steps


@pytest.mark.parametrize("target", TARGETS)
def test_every_kernel_of_the_model_is_in_the_catalogue(target: str) -> None:
    works, found = _gpu_costs.works_of(target), set()

    class Named(Anything):
        def find(self, name: str, variant: str) -> Kernel:
            assert (name, variant) in works
            found.add(name)
            return super().find(name, variant)

    for columns in (16, 32, 64):
        operations = [{**r, "columns": columns} if "columns" in r and "step" not in r["operation"] else r
                      for r in counted()["operations"]]  # fmt: skip
        graph = Graph(counted(operations=operations))
        model.Graphs(graph, graph).stages(Named(), machine_of(target))
    assert {"graph_mixing", "graph_chebyshev", "anneal_packed", "crossover_link"} <= found


def test_steps_that_are_recorded_are_replayed() -> None:
    record = counted()
    again = [
        {**r, "operation": "chebyshev_steps", "steps": 100}
        for r in record["operations"]
        if "step" in r["operation"]
    ]
    others = [r for r in record["operations"] if "step" not in r["operation"]]
    one, many = (
        Solve(Graph({**record, "operations": operations}), Anything(), H100).relaxation()[-1]
        for operations in (record["operations"], [*others, *again])
    )
    assert (one.name, one.launches) == (many.name, many.launches)
    assert not one.recorded
    assert many.recorded
    assert many.total(H100) < one.total(H100)


def test_assumptions_move_the_prediction_the_right_way() -> None:
    record = model.modelled("made-up", 10**6, model.Graphs(Graph(counted()), Graph(counted())), Anything())
    assert record["rounds_alike_device_seconds"] > record["device_seconds"]
    base, other = record["device_seconds"], record["sensitivity"]
    assert other["L2 bandwidth / 2"] >= base >= other["L2 bandwidth x 2"]
    assert other["launches x 2"] > base > other["launches / 2"]
    assert other["latency of gathers x 2"] > base
    assert other["no gather hits the cache"] > base
    assert other["nothing recorded"] > base
    assert record["total_seconds"] == pytest.approx(sum(stage["total"] for stage in record["stages"]))
    json.dumps(record)


def test_the_table_says_what_it_is_and_which_bars_do_not_hold() -> None:
    slow = counted(seconds={"prepare": 5.0})
    graphs = [model.Graphs(Graph(counted())), model.Graphs(Graph(slow))]
    records = [model.modelled(name, 10**6, g, Anything()) for name, g in zip("ab", graphs, strict=True)]
    text = model.table(records)
    assert "A model, not a measurement." in text
    sentences = [line for line in text.splitlines() if line.startswith("DOES NOT HOLD")]
    assert [line for line in sentences if " of b, with the host's part: 5." in line]
    assert not [line for line in sentences if "on the device" in line]
    both = model.modelled("a", 10**6, model.Graphs(Graph(counted()), Graph(counted())), Anything())
    rows = [line for line in model.table([both]).splitlines() if line.startswith("| a |")]
    assert rows[0].count("|") == 7
    assert "cuLoRADS, 1e+07 vertices" in model.published([{**records[0], "n_vertices": 9e6}])
    assert "This model" not in model.published(records)


def test_the_drawing_has_a_bar_a_family_and_chip() -> None:
    pytest.importorskip("matplotlib")
    from benchmarks import plots

    graphs = model.Graphs(Graph(counted()), Graph(counted()))
    records = [model.modelled(name, 10**6, graphs, Anything()) for name in ("a", "b")]
    figure = plots.draw_timeline(records)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a, H100", "b, H100"]
    ends = [max(bar.get_x() + bar.get_width() for bar in axes.patches) for axes in figure.axes]
    assert ends == pytest.approx([records[0]["total_seconds"], records[0]["device_seconds"]])


def test_an_empty_results_folder_and_a_missing_kernel_are_sentences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, app = CliRunner(), typer.Typer()
    app.command()(model.run)
    none = runner.invoke(app, ["--out", str(tmp_path)])
    assert none.exit_code == 2
    assert "run with --count first" in none.output
    about = {"part": model.GAP, "family": "made-up", "edges_asked": 10**6, "threads": 2, "time_limit": None}
    Results(model.COUNTS, model.COUNTS_KEY, tmp_path, "here").add({**about, **counted()})
    monkeypatch.setattr(_gpu_costs, "load_report", lambda: {"records": []})
    missing = runner.invoke(app, ["--out", str(tmp_path)])
    assert missing.exit_code == 1
    assert "run make report, which compiles it." in missing.output


def test_published_times_name_their_source() -> None:
    for entry in _published.PUBLISHED:
        assert entry.source
        assert entry.words
        if entry.seconds is not None:
            assert entry.seconds[0] <= entry.seconds[1]
            assert entry.hardware
            assert entry.vertices


def test_solves_are_timed_beside_their_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, where the same calls run."""
    predicted = {"family": "random-8", "n_edges": 6000.0, "device_seconds": 0.5, "total_seconds": 2.0}
    records = [{**predicted, "part": model.GAP}, {**predicted, "part": model.SOLVE, "counted_cut": 3000.0}]
    monkeypatch.setattr(_gpu_solve, "predictions", lambda target: records)
    monkeypatch.setattr(_gpu_solve, "EDGES", 6000)
    monkeypatch.setattr(_gpu_solve, "REPEATS", 1)
    gap, solve = _gpu_solve.measure("sm_90", torch.device("cpu"))
    for record, seconds in ((gap, 0.5), (solve, 2.0)):
        assert record["predicted_seconds"] == seconds
        assert record["measured_over_predicted"] == pytest.approx(record["call_seconds"] / seconds)
        assert 0 < record["call_seconds"] < 30
    assert gap["operation"] == "relaxation to a certified gap of 1e-3, random-8, 6e+03 edges"
    assert solve["operation"] == "solve until the CPU engine's cut of 60 s, random-8, 6e+03 edges"
    on_gpu.table([gap, solve], "here", "sm_90")
