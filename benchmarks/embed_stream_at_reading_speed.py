"""How fast does `sdp embed` go through a file, against reading it once, and in how much memory?

A float32 .npy of 10,000 columns (made by `tools/make_embedding_data.py` if it is not there) is read once by
`readinto` and embedded in 1,024 columns, in turn, each from a cold page cache. Memory is the process's largest resident
size, beside that of one which imports the same and embeds two rows (and which compiles, where nothing has before). Then
the same command is killed three times (SIGKILL) and resumed, and its bytes are compared.

    python -m benchmarks.embed_stream_at_reading_speed --data /tmp/big.npy --gigabytes 20

The page cache is dropped by posix_fadvise, which needs no rights; other readers of the file would spoil it.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import _machine
from benchmarks._records import RESULTS_FOLDER, Record, Results, markdown_table, spread
from tools import make_embedding_data

QUESTION = "embed_stream_at_reading_speed"
KEY = ("kind", "gigabytes", "n_components")
FEATURES, COMPONENTS = 10_000, 1024
CLAIM, MEMORY_MB = 1.3, 300.0  # MB of 10^6 bytes, all that is resident
READ_BYTES = 8 << 20
KILLS = 3
AFTER_A_RECORD = 0.5  # seconds, in which rows are written that the record does not know
_EMBED = "import sys; from sdp.cli.main import main; sys.exit(main(sys.argv[1:]))"
_OFTEN = "from sdp.jl import stream; stream.SYNC_SECONDS = 1.0; "  # 20 GB may take ten seconds, two records
# Imports and compiles what an embedding needs, on rows of the same width that are no more than one block.
_IDLE = """\
import sys, numpy as np
from sdp.cli import embed, main
from sdp.jl import sources_extra, stream
from sdp.jl.maps import Map
Map(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])).apply(np.ones((2, int(sys.argv[2])), np.float32))
"""


def forget(path: Path) -> None:
    """Drops a file's pages from the cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_once(path: Path) -> float:
    """Seconds of reading a file from front to back into one buffer."""
    forget(path)
    buffer = bytearray(READ_BYTES)
    start = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while file.readinto(buffer):
            pass
    return time.perf_counter() - start


def run_alone(words: list[str]) -> tuple[float, float, str]:
    """Seconds, MiB of largest resident size, and output of a process of its own."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode:
        raise RuntimeError(f"{words[1:]} ended with {process.returncode}.")
    return time.perf_counter() - start, usage.ru_maxrss / 1024, output


def embed_words(data: Path, output: Path, kind: str) -> list[str]:
    """The command line of the embedding."""
    return [
        _EMBED,
        "embed",
        str(data),
        str(output),
        "--kind",
        kind,
        "--n-components",
        str(COMPONENTS),
        "--json",
    ]


def killed_and_resumed(data: Path, output: Path, kind: str) -> int:
    """Runs the command with `KILLS` kills, each soon after progress was recorded; rows done when the last run began."""
    words = [sys.executable, "-c", *embed_words(data, output, kind), "--resume"]
    words[2] = _OFTEN + words[2]
    progress = output.with_name(f"{output.name}.progress")
    for _ in range(KILLS):
        before = recorded(progress)
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        while recorded(progress) in (before, None):
            if process.poll() is not None:
                raise RuntimeError("the run ended before it could be killed; take more gigabytes.")
            time.sleep(0.05)
        time.sleep(AFTER_A_RECORD)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return int(json.loads(done.stdout)["resumed_at"])


def recorded(progress: Path) -> str | None:
    """What the progress file says, if there is one; it is replaced in one step."""
    return progress.read_text() if progress.exists() else None


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            state.update(piece)
    return state.hexdigest()


def measure(data: Path, output: Path, kind: str, repeats: int, kills: bool) -> Record:
    """Times, memory, and whether a run that was killed wrote the same bytes."""
    idle = max(run_alone([_IDLE, kind, str(FEATURES), str(COMPONENTS)])[1] for _ in range(2))
    reading, inside, whole, memory = [], [], [], []
    for _ in range(repeats):
        reading.append(read_once(data))
        forget(data)
        seconds, resident, said = run_alone(embed_words(data, output, kind))
        whole.append(seconds)
        memory.append(resident)
        inside.append(float(json.loads(said)["seconds"]))
    record: Record = {
        "kind": kind,
        "gigabytes": round(data.stat().st_size / 1e9, 1),
        "n_components": COMPONENTS,
    }
    for name, taken in (("read", reading), ("embed", inside), ("command", whole)):
        found = spread(taken)
        record |= {f"{name}_seconds": found.median, f"{name}_low": found.low, f"{name}_high": found.high}
    ratios = spread(ours / theirs for ours, theirs in zip(inside, reading, strict=True))
    record |= {"ratio": ratios.median, "ratio_low": ratios.low, "ratio_high": ratios.high}
    record |= {"resident_mib": max(memory), "imports_mib": idle, "repeats": repeats}
    if kills:
        expected = digest(output)
        resumed_at = killed_and_resumed(data, output, kind)
        record |= {"kills": KILLS, "resumed_at": resumed_at, "same_bytes": digest(output) == expected}
    output.unlink()
    output.with_name(f"{output.name}.json").unlink()
    return {**record, "commit": _machine.commit(), "load_average": _machine.load_average()}


def table(records: list[Record]) -> str:
    """All records as Markdown."""
    rows = [
        [
            record["kind"],
            record["gigabytes"],
            f"{record['read_seconds']:.1f}",
            f"{record['embed_seconds']:.1f}",
            f"{record['ratio']:.2f} ({record['ratio_low']:.2f} to {record['ratio_high']:.2f})",
            f"{record['resident_mib']:.0f} ({record['imports_mib']:.0f})",
            record.get("same_bytes"),
        ]
        for record in records
    ]
    header = [
        "map",
        "GB",
        "read, s",
        "embed, s",
        "embed / read",
        "MiB resident (of imports)",
        "same after 3 kills",
    ]
    return markdown_table(header, rows)


def broken_claims(records: list[Record]) -> list[str]:
    """Sentences on each claim that a measurement contradicts."""
    found = []
    for record in records:
        name = f"{record['kind']}, {record['gigabytes']} GB"
        if record["kind"] == "sparse" and record["ratio"] > CLAIM:
            found.append(f"{name}: {record['ratio']:.2f} times the reading, not {CLAIM}.")
        resident = record["resident_mib"] * 2**20 / 1e6
        if resident > MEMORY_MB:
            found.append(f"{name}: {resident:.0f} MB resident, not {MEMORY_MB:.0f}.")
        if record.get("same_bytes") is False:
            found.append(f"{name}: killed and resumed, the bytes differ.")
    return found


def run(
    data: Annotated[Path, typer.Option(help="The .npy; made if it is not there.")],
    gigabytes: Annotated[float, typer.Option(help="Its size where it is made.")] = 20.0,
    kinds: Annotated[str, typer.Option(help="Maps, with commas.")] = "sparse,srht",
    repeats: Annotated[int, typer.Option(help="Repeats of reading and embedding.")] = 3,
    kills: Annotated[bool, typer.Option(help="Also kill and resume.")] = True,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER,
) -> None:
    """Measure every map, then print the table and what does not hold."""
    if not data.exists():
        make_embedding_data.write(data, make_embedding_data.rows_in(gigabytes, FEATURES), FEATURES, seed=0)
    results = Results(QUESTION, KEY, out)
    for kind in kinds.split(","):
        results.add(measure(data, data.with_name("embedded.npy"), kind, repeats, kills))
        typer.echo(kind, err=True)
    typer.echo(table(results.records()))
    for sentence in broken_claims(results.records()):
        typer.echo(f"DOES NOT HOLD: {sentence}")


if __name__ == "__main__":
    typer.run(run)
