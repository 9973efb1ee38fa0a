"""Gset graphs made again are the published ones: their fingerprints were taken from the published files."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdp.maxcut.io import read_graph
from tools import make_graphs
from tools.gset import gset

# The first 16 digits of `Graph.fingerprint()`; G55's is that of the graph made here, of which only parts were compared.
PUBLISHED = {
    "G1": "ca51c890c74f2456",
    "G2": "8f15f32caad6d71a",
    "G22": "481baec4567b744e",
    "G43": "7141483bcd05247e",
    "G55": "10fd34d7f9621e1a",
    "G60": "7993fef356f796b0",
    "G70": "4ec4e124f16771d9",
    "G11": "793a55eb5fbc73c1",
    "G32": "c6fd54834aa37fb7",
    "G57": "7dd7f3873bf6a318",
    "G81": "6638ce6d3d373572",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_is_the_published_graph(name: str) -> None:
    graph = gset(name)
    assert graph.name == name
    assert graph.fingerprint().startswith(PUBLISHED[name])


def test_another_name_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"^name must be one of G1, G2, .*, G81; got 'G99'\.$"):
        gset("G99")


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "G11"
    make_graphs.main(["gset", "--name", "G11", "--out", str(path)])
    assert read_graph(path).fingerprint().startswith(PUBLISHED["G11"])
    with pytest.raises(SystemExit):
        make_graphs.main(["gset", "--name", "G0", "--out", str(path)])
    assert "name must be one of" in capsys.readouterr().err
