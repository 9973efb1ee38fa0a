"""Fill the tables of README.md and benchmarks/README.md from the results that were measured last.

    python -m benchmarks.tables

Between ``<!-- results: QUESTION -->`` and ``<!-- end -->`` stands what ``benchmarks.QUESTION.table(records)`` returns,
or its ``main_table(records)`` where there is more to say, so no number in a README is typed by hand.
"""

import importlib
import re
from collections.abc import Callable
from pathlib import Path

from benchmarks._records import Record, latest, load

FOLDER = Path(__file__).resolve().parent
READMES = (FOLDER / "README.md", FOLDER.parent / "README.md")
MARKED = re.compile(r"<!-- results: (?P<question>\w+) -->\n.*?<!-- end -->", re.DOTALL)


def filled(text: str) -> str:
    """The same text with every marked table made anew."""

    def table(found: re.Match[str]) -> str:
        question = found["question"]
        module, path = importlib.import_module(f"benchmarks.{question}"), latest(question)
        write: Callable[[list[Record]], str] = getattr(module, "main_table", module.table)
        rows = write(load(path)) if path else "Not measured yet."
        return f"<!-- results: {question} -->\n{rows}\n<!-- end -->"

    return MARKED.sub(table, text)


if __name__ == "__main__":
    for readme in READMES:
        readme.write_text(filled(readme.read_text()))
