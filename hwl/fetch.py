"""Downloads that are checked, resumed where they broke off, and there whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import filelock
import pooch
from tqdm import tqdm

from hwl.errors import HwlError

CHUNK = 1 << 20  # bytes
LIMIT = 8_000_000_000  # bytes, more than any weights file has
TIMEOUT = 60  # seconds without a byte before the connection counts as broken


def fetch(
    url: str,
    target: Path,
    sha256_prefix: str | None = None,
    md5: str | None = None,
    limit: int = LIMIT,
    fault_of: Callable[[Path], str | None] = lambda path: None,
) -> Path:
    """Download ``url`` to ``target``, going on where an earlier call broke off, and verify it.

    Bytes gather in ``<target>.part``, renamed to ``target`` only when size and hash are right; a
    ``target`` that is there is verified and not fetched.

    Args:
        url: of the file.
        target: where it goes.
        sha256_prefix: the start of the hash in hex digits, as published weights carry it in their
            names (eight digits).
        md5: the whole hash in hex digits.
        limit: bytes that the file may have, for a server may send without end.
        fault_of: what is wrong with a file in words that follow its name, or None; for files whose
            hash nobody tells.

    Raises:
        HwlError: the server cannot be reached or refuses, the connection breaks or the disk is
            full, all of which leave the part to the next call; or the file is too long, its hash
            is wrong or it has a fault, which deletes it.
    """
    try:
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with _alone(target):
                if not target.exists():  # another process may have fetched it meanwhile
                    part = part_of(target)
                    _download(url, part, limit)
                    if fault := hash_fault(part, sha256_prefix, md5) or fault_of(part):
                        part.unlink()
                        raise HwlError(f"what came from {url} {fault} and was deleted: run again")
                    os.replace(part, target)
                    return target
    except OSError as error:  # the network's errors are HwlError by now: this is the disk's
        raise HwlError(f"cannot write {target} ({error}): make room and run again") from error
    if fault := hash_fault(target, sha256_prefix, md5) or fault_of(target):
        raise HwlError(f"{target} {fault}: remove it and run again to fetch it from {url}")
    return target


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Within it, no other process fetches that file; others wait."""
    with filelock.FileLock(target.with_name(f".{target.name}.lock")) as lock:
        try:
            yield
        finally:
            Path(lock.lock_file).unlink(missing_ok=True)  # while it is still ours


def _download(url: str, part: Path, limit: int) -> None:
    # The last byte is asked for again: a server would refuse to send nothing to a whole part.
    have = max(part.stat().st_size - 1, 0) if part.exists() else 0
    response, start = _open(url, have)
    with response, part.open("r+b" if start else "wb") as file:
        require_space(part.parent, response.length or 0)
        file.seek(start)
        total = start + response.length if response.length is not None else None
        with tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem) as bar:
            for chunk in _chunks(response, url):
                if max(total or 0, file.tell() + len(chunk)) > limit:
                    part.unlink()
                    raise HwlError(
                        f"{url} sends more than {limit / 1e9:.3f} GB, which is not the file that "
                        "is meant; what came was deleted: check the URL"
                    )
                file.write(chunk)
                bar.update(len(chunk))


def _open(url: str, start: int) -> tuple[HTTPResponse, int]:
    """A response to ``url`` and the byte it begins at: ``start`` if the server resumes, else 0."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416 and start:  # the part is longer than the file is by now
            return _open(url, 0)
        raise HwlError(f"{url} answers HTTP {error.code}: try later or get it elsewhere") from error
    except (OSError, HTTPException) as error:
        raise HwlError(f"cannot reach {url} ({error}): check the network and proxy") from error
    if start == 0 or response.status != 206:
        return response, 0
    sent = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", ""))
    if sent and int(sent[1]) == start and int(sent[2]) + 1 == int(sent[3]):
        return response, start
    response.close()
    return _open(url, 0)


def _chunks(response: HTTPResponse, url: str) -> Iterator[bytes]:
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except (OSError, HTTPException) as error:
        raise HwlError(f"{url} broke off ({error}): run again to resume") from error
    if response.length:
        raise HwlError(f"{url} broke off {response.length} bytes early: run again to resume")


def hash_fault(path: Path, sha256_prefix: str | None, md5: str | None = None) -> str | None:
    """That a file's hash is not the expected one, in words that follow its name; else None."""
    for algorithm, expected in (("sha256", sha256_prefix), ("md5", md5)):
        if expected is not None:
            actual = pooch.file_hash(str(path), alg=algorithm)
            if not actual.startswith(expected):
                return f"has the {algorithm} {actual}, not {expected}"
    return None


def require_space(folder: Path, needed: int) -> None:
    """HwlError unless a folder's disk has that many bytes free."""
    free = free_space(folder)
    if free < needed:
        raise HwlError(f"{folder} has {free / 1e9:.3f} of {needed / 1e9:.3f} GB needed: make room")


def free_space(folder: Path) -> int:
    """Bytes free on the disk of a folder, which need not be there yet."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def part_of(target: Path) -> Path:
    """Where the bytes of a download gather."""
    return target.with_name(target.name + ".part")
