"""Fill the tables of README.md and benchmarks/README.md from the results that were measured last.

    python -m benchmarks.tables

Between ``<!-- results: QUESTION -->`` and ``<!-- end -->`` stands what ``benchmarks.QUESTION.main_table()``
returns, so no number in a README is typed by hand.
"""

import importlib
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
READMES = (FOLDER / "README.md", FOLDER.parent / "README.md")
MARKED = re.compile(r"<!-- results: (?P<question>\w+) -->\n.*?<!-- end -->", re.DOTALL)


def filled(text: str) -> str:
    """The same text with every marked table made anew."""

    def table(found: re.Match[str]) -> str:
        question = found["question"]
        rows: str = importlib.import_module(f"benchmarks.{question}").main_table()
        return f"<!-- results: {question} -->\n{rows}\n<!-- end -->"

    return MARKED.sub(table, text)


if __name__ == "__main__":
    for readme in READMES:
        readme.write_text(filled(readme.read_text()))
