"""How a command ends: exit codes, and one sentence instead of a traceback for bad input.

`SDP_TRACEBACK=1` shows the traceback behind a sentence, for those who work on this project.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SOLVED = 0
FAILED = 1
BAD_INPUT = 2
# What numpy and torch say of memory that they do not get, torch in a plain RuntimeError.
_ASKED = re.compile(r"allocate ([\d.]+?)\.? (bytes|[KMGTPE]iB)")
INTERRUPTED = 130  # 128 + SIGINT, the shell's word for "stopped by the user"; SIGTERM ends the same way


class CommandError(Exception):
    """Ends the command with this exit code, after one sentence on standard error."""

    def __init__(self, sentence: str, code: int = BAD_INPUT) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.code = code


@contextmanager
def bad_input() -> Iterator[None]:
    """Turns what the library raises about its arguments and files into a `CommandError` of one sentence."""
    try:
        yield
    except (ValueError, TypeError, OSError, MemoryError, ArithmeticError, RuntimeError) as error:
        is_defect = isinstance(error, RuntimeError) and not _lacks_memory(error)
        if is_defect or os.environ.get("SDP_TRACEBACK"):
            raise
        raise CommandError(sentence_of(error)) from error


def sentence_of(error: Exception) -> str:
    r"""The message of an error on one line, without the number that the system gives it.

    >>> sentence_of(FileNotFoundError(2, "No such file or directory", "roads.txt"))
    'roads.txt: no such file or directory.'
    >>> sentence_of(ValueError("eps must lie in (0, 1);\n got 1.5."))
    'eps must lie in (0, 1); got 1.5.'
    >>> sentence_of(MemoryError("Unable to allocate 149. GiB for an array with shape (2, 10000000000)"))
    'not enough memory; 149 GiB were asked for at once.'
    """
    if _lacks_memory(error):
        asked = _ASKED.search(str(error))
        return (
            f"not enough memory; {asked[1]} {asked[2]} were asked for at once."
            if asked
            else "not enough memory."
        )
    if isinstance(error, ArithmeticError):
        return f"a number is out of range: {str(error).rstrip('.')}."
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror[:1].lower() + error.strerror[1:]
        return f"{error.filename}: {reason}." if error.filename is not None else f"{reason}."
    return " ".join(str(error).split()) or type(error).__name__


def _lacks_memory(error: Exception) -> bool:
    if isinstance(error, RuntimeError):  # torch's own class is one too, but not every version raises it
        return "can't allocate memory" in str(error) or "out of memory" in str(error)
    return isinstance(error, MemoryError)


def say(sentence: str) -> None:
    """Writes one line to standard error."""
    print(f"sdp: {sentence}", file=sys.stderr)
