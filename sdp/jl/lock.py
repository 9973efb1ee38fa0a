"""One run at a time on an output: a lock that the system drops when its holder ends, however it ends."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows, where two runs on one output are not kept apart
    _HAS_LOCKS = False
else:
    _HAS_LOCKS = True

UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # said by network file systems without locks


@contextmanager
def only_run(path: Path, output: Path) -> Iterator[None]:
    """Holds the lock file `path`, which is made for it and removed at the end.

    A killed run leaves the file but not the lock. Where the system or the file system has no locks nothing is held.

    Raises:
        ValueError: another run holds it; the message names `output`.
        OSError: the file cannot be made.
    """
    if not _HAS_LOCKS:
        yield
        return
    held = _acquire(path, output)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock is dropped: nobody can have taken it yet
        os.close(held)


def _acquire(path: Path, output: Path) -> int:
    while True:
        held = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"{output}: another run is writing it; wait for it, or end it.") from None
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
            if _is_still(held, path):
                return held
        except BaseException:
            os.close(held)
            raise
        os.close(held)  # the run that held it ended, and removed the file, between our opening and locking it


def _is_still(held: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(held), path.stat())
    except FileNotFoundError:
        return False
