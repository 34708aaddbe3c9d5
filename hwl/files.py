"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from hwl.errors import HwlError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside a file to write its new content to; it takes the file's place at the end.

    A kill at any moment leaves the old file or the new one; an error leaves the old one alone.
    Folders on the way are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def told_when_full(kept: str) -> Iterator[None]:
    """Make one line of a full disk.

    Args:
        kept: what is not lost, and what to do.

    Raises:
        HwlError: the disk, or the user's share of it, is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise HwlError(f"{error.strerror} ({error.filename or 'the output'}); {kept}") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    """Write readable JSON; NaN ("no such persons") becomes null."""
    write_text(path, json.dumps(_without_nan(content), indent=2) + "\n")


def write_compact_json(path: Path, content: object) -> None:
    """Write JSON on one line, for large files that programs read."""
    with replacing(path) as partial:
        partial.write_bytes(msgspec.json.encode(content))


def read_json(path: Path) -> dict:
    """Read a run's JSON file.

    Raises:
        HwlError: the file is missing or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HwlError(
            f"{path}: cannot be read ({error.strerror}); has the run that writes it been made?"
        ) from error
    except ValueError as error:  # no JSON, or no UTF-8
        raise HwlError(f"{path} is broken ({error}); make the run again") from error


def _without_nan(content: object) -> object:
    if isinstance(content, float) and math.isnan(content):
        return None
    if isinstance(content, Mapping):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return content


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows as CSV; the columns are the first row's keys, with their units."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
