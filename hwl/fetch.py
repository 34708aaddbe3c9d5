"""Downloads that are checked, resumed where they broke off, and there whole or not at all."""

import os
import re
import shutil
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pooch
from tqdm import tqdm

from hwl.errors import HwlError

CHUNK = 1 << 20  # bytes
TIMEOUT = 60  # seconds without a byte before the connection counts as broken


def fetch(url: str, target: Path, sha256_prefix: str | None = None, md5: str | None = None) -> Path:
    """Download ``url`` to ``target``, going on where an earlier call broke off, and verify it.

    Bytes gather in ``<target>.part``, renamed to ``target`` only when size and hash are right; a
    ``target`` that is there is verified and not fetched. ``sha256_prefix`` is the start of the hash
    in hex digits, as published weights carry it in their names (eight digits).

    Raises HwlError if the server cannot be reached or refuses, the connection breaks or the disk is
    full, all of which leave the part to the next call, or if the hash is wrong, which deletes it.
    """
    if target.exists():
        if fault := _hash_fault(target, sha256_prefix, md5):
            raise HwlError(f"{target} {fault}: remove it and run again to fetch it from {url}")
        return target
    part = part_of(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _download(url, part)
        if fault := _hash_fault(part, sha256_prefix, md5):
            part.unlink()
            raise HwlError(f"what came from {url} {fault} and was deleted: run again")
        os.replace(part, target)
    except OSError as error:  # the model's errors are HwlError by now: this is the disk's
        raise HwlError(f"cannot write {target} ({error}): make room and run again") from error
    return target


def _download(url: str, part: Path) -> None:
    # The last byte is asked for again: a server would refuse to send nothing to a whole part.
    have = max(part.stat().st_size - 1, 0) if part.exists() else 0
    response, start = _open(url, have)
    with response, part.open("r+b" if start else "wb") as file:
        require_space(part.parent, response.length or 0)
        file.seek(start)
        total = start + response.length if response.length is not None else None
        with tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem) as bar:
            for chunk in _chunks(response, url):
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
        raise HwlError(f"cannot reach {url} ({error}): check model and proxy") from error
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


def _hash_fault(path: Path, sha256_prefix: str | None, md5: str | None) -> str | None:
    for algorithm, expected in (("sha256", sha256_prefix), ("md5", md5)):
        if expected is not None:
            actual = pooch.file_hash(str(path), alg=algorithm)
            if not actual.startswith(expected):
                return f"has the {algorithm} {actual}, not {expected}"
    return None


def require_space(folder: Path, needed: int) -> None:
    free = free_space(folder)
    if free < needed:
        raise HwlError(f"{folder} has {free / 1e9:.3f} of {needed / 1e9:.3f} GB needed: make room")


def free_space(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")
