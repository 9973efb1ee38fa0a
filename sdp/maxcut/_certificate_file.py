"""The file of a certificate: gzipped JSON with a digest, read by the checker and written by the solver.

What the fields mean is said in PROOFS.md beside this file.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from typing import Any

from sdp.maxcut.io import atomic_write

FORMAT = "sdp certificate 2"
_DIGEST = "sha256"
_LEVEL = 6  # of gzip; 9 takes three times as long for 1% less
_MOST_BYTES = 2**31  # of text; a certificate of 10^7 edges has some 10^8


def digest(document: dict[str, Any]) -> str:
    """SHA-256 (hex) of everything in a certificate but its digest."""
    body = {key: value for key, value in document.items() if key != _DIGEST}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def save(path: str | os.PathLike[str], document: dict[str, Any]) -> None:
    """Writes a certificate and its digest, all or nothing; the same certificate gives the same bytes.

    Raises:
        OSError: the file cannot be written.
    """
    text = json.dumps({**document, _DIGEST: digest(document)}, separators=(",", ":"), allow_nan=False)
    with (
        atomic_write(path) as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=file, mtime=0) as packed,
    ):
        packed.write(text.encode())


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a certificate; nothing in it is checked but its format.

    Raises:
        ValueError: it is none, or damaged.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        packed = file.read()
    name = os.fspath(path)
    try:
        document = json.loads(_unpacked(packed))
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise ValueError(f"{name}: no certificate, or a damaged one ({str(error).rstrip('.')}).") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f'{name}: no certificate; it does not say "format": "{FORMAT}".')
    return document


def _unpacked(packed: bytes) -> bytes:
    """The whole of a gzipped file, unless it is a small file that unpacks to more than memory holds."""
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    text = stream.decompress(packed, _MOST_BYTES)
    if stream.unconsumed_tail:
        raise ValueError(f"it unpacks to more than {_MOST_BYTES:,} bytes")
    if not stream.eof:
        raise EOFError("it ends too early")
    return text


def is_stale(document: dict[str, Any]) -> bool:
    """Whether the certificate was changed after it was written, by someone who left its digest alone."""
    try:
        return bool(document.get(_DIGEST) != digest(document))
    except (ValueError, RecursionError):  # numbers that are none, or a depth that no writer makes
        return True
