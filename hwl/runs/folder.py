"""A run's folder: checked, locked, built beside its place and renamed when it is whole.

A run folder carries a marker, the file `.hwl-run`: its kind and, once it is published, the files
that the run made. Of a published run only these are ever deleted.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, ClassVar, Protocol

import filelock

from hwl.errors import HwlError
from hwl.files import told_when_full, write_json
from hwl.paths import PROJECT, is_path

MARKER = ".hwl-run"
CHECKPOINT = "checkpoint.pt"  # what only an unfinished run needs
RESUMABLE = ("train",)  # kinds of run that go on where a killed one was


class RunConfig(Protocol):
    """What a run is told: a dataclass with the run's folder and, for all of its class, a kind."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    kind: ClassVar[str]

    @property
    def output(self) -> str:
        """The run's folder."""


def partial_folder(folder: Path) -> Path:
    """Where a run is built until it is finished; a killed run leaves it for the next to go on."""
    return folder.with_name(folder.name + ".partial")


def read_marker(folder: Path) -> dict | None:
    """What a run folder's marker says: `kind`, `id` and, of a finished run, `files`; else None."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) and isinstance(marker.get("kind"), str) else None


class RunFolder:
    """The folder of one run while it is made: `begin`, fill `path`, `publish`.

    From `begin` to `publish` or `close` the output is locked against other runs, on this machine
    and, where the file system passes locks on, on others. The lock ends with the process.

    Attributes:
        kind: of the configuration, such as train, evaluate or report.
        output: the run's place.
        path: the partial folder beside it.
    """

    def __init__(self, kind: str, output: str | Path, reads: Mapping[str, str]) -> None:
        """Args:
        kind: as above.
        output: the run's place; relative ones start at the working directory.
        reads: files and folders that the run reads, by the name of the parameter.

        Raises:
            HwlError: the output is no possible path.
        """
        self.kind = kind
        self.id = uuid.uuid4().hex
        self._given = output
        self._reads = reads
        self._lock: filelock.BaseFileLock | None = None
        with self._told():
            if not str(output):
                raise HwlError("parameter 'output' is empty; name a new folder for the run")
            if os.path.islink(output):
                raise HwlError(f"output {output} is a link; name the folder itself")
            self.output = Path(os.path.realpath(output))
        if not self.output.name:
            raise HwlError(f"output {output} is the root of the file system; name a new folder")
        self.path = partial_folder(self.output)
        self._old = self.path.with_name(self.path.name + "-old")

    @classmethod
    def of(cls, config: RunConfig, reads: Mapping[str, str] | None = None) -> RunFolder:
        """The folder of a run that reads what its configuration names, and `reads`."""
        values = dataclasses.asdict(config)
        named = {name: v for name, v in values.items() if name != "output" and is_path(name, v)}
        return cls(config.kind, config.output, {**named, **(reads or {})})

    def begin(self) -> Path:
        """Check the output, lock it and make the partial folder.

        What a killed run left there is removed, unless it was a training, which goes on.

        Returns:
            The partial folder.

        Raises:
            HwlError: the output is not this run's to replace, another run is making it, or the
                folder cannot be made.
        """
        return self._open(keep=self.kind in RESUMABLE)

    def go_on(self) -> Path:
        """As `begin`, with everything that is in the partial folder left there."""
        return self._open(keep=True)

    def reopen(self) -> Path:
        """Copy the run that this object published back into the partial folder, to change it.

        Raises:
            HwlError: as `begin`, or another run has taken its place or, a training, is unfinished.
        """
        folder = self._open(keep=False)
        marker = read_marker(self.output)
        if marker is None or marker.get("id") != self.id:
            self.discard()
            raise HwlError(f"{self.output} is another run by now; begin this one again")
        with self._told():
            copy_run(self.output, folder)
        return folder

    def mark(self, **more: object) -> None:
        """Write the partial folder's marker: whose it is and, in `more`, how far it got."""
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since_utc": since}
        write_json(self.path / MARKER, {"kind": self.kind, "id": self.id, **holder, **more})

    def publish(self) -> Path:
        """Rename the finished partial folder into place, replacing an older run whole.

        Files in the older run's folder that no run made move on into the new one.

        Returns:
            The run's place.

        Raises:
            HwlError: something that no run made is in the way; the partial folder stays.
        """
        self._check()
        with self._told():
            (self.path / CHECKPOINT).unlink(missing_ok=True)
            files = sorted(set(_files(self.path)) - {MARKER})
            for name in _foreign(self.output):
                if any(_in_the_way(self.path / part) for part in [Path(name), *Path(name).parents]):
                    raise HwlError(
                        f"{self.output / name} was made by no run and is in the way of this one, "
                        f"which is kept in {self.path}; move it away and run again"
                    )
            write_json(self.path / MARKER, {"kind": self.kind, "id": self.id, "files": files})
            if self.output.exists():
                self.output.rename(self._old)
            self.path.rename(self.output)
            _retire(self._old, self.output)
        self.close()
        return self.output

    def discard(self) -> None:
        """Remove the partial folder; the older run stays."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let other runs have the output; a partial folder without a file of the run is removed."""
        if self._lock is not None:
            if set(_files(self.path)) <= {MARKER}:
                shutil.rmtree(self.path, ignore_errors=True)
            with suppress(OSError):
                os.unlink(self._lock.lock_file)  # before the release, while it is still ours
            self._lock.release(force=True)
            self._lock = None

    def _open(self, keep: bool) -> Path:
        self._check()
        with self._told():
            self.output.parent.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            try:
                self._check()  # again, now that no other run changes anything
                if self.output.exists():
                    _retire(self._old, self.output)
                elif self._old.exists():  # killed between its renames
                    self._old.rename(self.output)
                if not keep and self.path.exists():
                    if self.kind in RESUMABLE and (self.path / CHECKPOINT).exists():
                        raise HwlError(
                            f"{self.path} holds another, interrupted training, which would be lost:"
                            " finish it first by running it again, or move that folder away"
                        )
                    shutil.rmtree(self.path)
                self.path.mkdir(exist_ok=True)
                self.mark()
            except BaseException:
                self.close()
                raise
        return self.path

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        lock = filelock.FileLock(self.output.with_name(f".{self.output.name}.lock"), timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            by = read_marker(self.path) or {}
            who = "another run"
            if "pid" in by:
                who = f"process {by['pid']} on {by.get('host')} since {by.get('since_utc')}"
            raise HwlError(
                f"output {self._given} is being made by {who}; wait until it has ended, or choose "
                "another output"
            ) from None
        self._lock = lock

    def _check(self) -> None:
        """HwlError unless the output is a place that this run may fill and replace."""
        with self._told():
            if self.output.name.endswith((".partial", ".partial-old")):
                raise HwlError(
                    f"output {self._given}: unfinished runs are named so; choose another"
                )
            for place in (self.output, self.path, self._old):
                self._check_place(place)
            for folder in self.output.parents:
                if read_marker(folder):
                    raise HwlError(
                        f"output {self._given} is inside the run {folder}; choose another"
                    )
            self._check_kind()

    def _check_place(self, place: Path) -> None:
        protected = {
            "the project": PROJECT,
            "the working directory": Path.cwd(),
            "the home folder": Path.home(),
            **{f"'{name}', which it reads": Path(path) for name, path in self._reads.items()},
        }
        for what, path in protected.items():
            path = Path(os.path.realpath(path))
            if path.exists() and (path == place or place in path.parents):
                raise HwlError(
                    f"output {self._given}: {place} is or holds {what} ({path}) and would be "
                    "replaced; choose a folder of its own"
                )
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise HwlError(f"output {self._given}: {place} is not a folder; choose another")

    def _check_kind(self) -> None:
        for place in (self.output, self.path, self._old):
            if not place.exists() or not any(place.iterdir()):
                continue
            marker = read_marker(place)
            if marker is None:
                raise HwlError(
                    f"output {self._given}: {place} holds files and no run; choose another output "
                    "or move them away"
                )
            if marker["kind"] != self.kind:
                what = "what a killed run left" if place == self.path else "a run"
                raise HwlError(
                    f"output {self._given}: {place} holds {what} of kind '{marker['kind']}', not "
                    f"'{self.kind}'; choose another output or move it away"
                )
            if place == self.output and not isinstance(marker.get("files"), list):
                raise HwlError(
                    f"output {self._given}: {place} holds an unfinished run; choose another output "
                    "or move it away"
                )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What the file system refuses, in one line."""
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise HwlError(f"output {str(self._given)[:200]!r} cannot be used: {why}") from error


def copy_run(source: Path, target: Path) -> None:
    """Copy the files that a finished run made into a folder."""
    marker = read_marker(source) or {}
    for name in sorted(set(_files(source)) & set(marker.get("files", []))):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, target / name, follow_symlinks=False)


@contextmanager
def new_run(config: RunConfig, reads: Mapping[str, str] | None = None) -> Iterator[Path]:
    """A fresh partial folder to fill; published at the end, removed where something is raised.

    Args:
        config: of the run.
        reads: files that the run reads and its configuration does not name.

    Raises:
        HwlError: as `RunFolder.begin` and `RunFolder.publish`.
    """
    run = RunFolder.of(config, reads)
    folder = run.begin()
    try:
        with told_when_full(f"nothing of this run is kept, an older one in {run.output} is"):
            yield folder
    except BaseException:
        run.discard()
        raise
    run.publish()


def _files(folder: Path) -> Iterator[str]:
    """Everything below a folder but folders, links among it, as relative names."""
    for root, folders, files in os.walk(folder):
        for name in files + [name for name in folders if os.path.islink(os.path.join(root, name))]:
            yield os.path.relpath(os.path.join(root, name), folder)


def _foreign(folder: Path) -> list[str]:
    """The files in a run's folder that no run made."""
    made = {MARKER, *(read_marker(folder) or {}).get("files", [])}
    return sorted(name for name in _files(folder) if name not in made)


def _in_the_way(path: Path) -> bool:
    return os.path.lexists(path) and (path.is_symlink() or not path.is_dir())


def _retire(old: Path, new: Path) -> None:
    """Delete a replaced run's own files; what no run made moves on into the new one."""
    foreign = _foreign(old)
    for name in foreign:
        if not os.path.lexists(new / name):
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (old / name).rename(new / name)
    made = set(_files(old)) - set(foreign)
    for name in sorted(made, key=lambda name: name == MARKER):  # the marker last
        (old / name).unlink()
    for root, _, _ in os.walk(old, topdown=False):
        with suppress(OSError):
            os.rmdir(root)
