"""What a finished run says of itself: the entries of its `run.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwl.errors import HwlError
from hwl.files import read_json


def finished_files(runs: Path, pattern: str) -> list[Path]:
    """Files of finished runs by a glob pattern from the folder of runs on, sorted.

    What a run leaves half-written lies in a folder with ".partial" in its name.
    """
    found = runs.glob(pattern)
    return sorted(
        path
        for path in found
        if not any(".partial" in part for part in path.relative_to(runs).parts)
    )


class Record:
    """A run's `run.json`, as `hwl.runs.provenance` writes it.

    Args:
        path: of the file.

    Raises:
        HwlError: the file is missing, broken or no record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content = read_json(path)
        if not isinstance(self._content, dict):
            raise self._foreign("holds no record of a run")

    def entry(self, *names: str) -> Any:
        """An entry by its name and those of the mappings that it lies in.

        Raises:
            HwlError: there is none, for the file is of an older version or of another program.
        """
        found: Any = self._content
        try:
            for name in names:
                found = found[name]
        except (KeyError, TypeError):
            raise self._foreign(f"has no entry '{'.'.join(names)}'") from None
        return found

    def _foreign(self, what: str) -> HwlError:
        return HwlError(
            f"{self.path} {what}: another version or program wrote it; make the run again, or move "
            "its folder away"
        )

    def has(self, name: str) -> bool:
        """Whether there is an entry of this name at the top."""
        return name in self._content


def is_of_other_weights(evaluation: Path, training: Path) -> bool:
    """Whether an evaluation was made of other weights than a training left, by their records.

    Args:
        evaluation: its folder.
        training: likewise; where a record is missing or tells no weights, the answer is no.
    """
    try:
        told = read_json(evaluation / "run.json")["inputs"]["weights"]
        left = read_json(training / "run.json")["weights"].values()
    except (HwlError, KeyError, TypeError, AttributeError):
        return False
    return not str(told).endswith(tuple(f"sha256:{digest}" for digest in left))


ORIGIN: dict[str, tuple[str, ...]] = {
    "commit": ("git", "commit"),
    "cpu": ("hardware", "cpu"),
    "cores": ("hardware", "cores"),
    "gpu": ("hardware", "gpu"),
    "torch": ("packages", "torch"),
}


def origin(record: Record) -> dict[str, object]:
    """The code and the machine that made a run: commit, cpu, cores, gpu and torch."""
    code = record.entry("git") is not None
    found = {
        name: record.entry(*where) if code or name != "commit" else "unknown"
        for name, where in ORIGIN.items()
    }
    return found | {"gpu": found["gpu"] or ""}


def unlike_the_others(origins: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    """In what each run's origin differs from that of most runs, such as "commit, cpu", or "".

    Numbers of different commits or machines stand in one table only where it says so.

    Args:
        origins: `origin` of each run by its name.
    """
    usual = {
        part: Counter(str(one[part]) for one in origins.values()).most_common(1)[0][0]
        for part in ORIGIN
        if origins
    }
    return {
        name: ", ".join(part for part in ORIGIN if str(one[part]) != usual[part])
        for name, one in origins.items()
    }
