"""A run's folder: built beside its place and renamed, with provenance, metrics and tables."""

from __future__ import annotations

import csv
import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pooch
import torch

from hwl.config import PROJECT
from hwl.errors import HwlError
from hwl.files import replacing

PACKAGES = ("hwl", "torch", "torchvision", "numpy", "opencv-python-headless", "pycocotools")
OPTIONAL_PACKAGES = ("onnx", "onnxruntime", "openvino", "nncf")  # what the runtimes need


def partial_folder(folder: Path) -> Path:
    """Where a run is built until it is finished; a killed run leaves it for the next to go on."""
    return folder.with_name(folder.name + ".partial")


def publish(folder: Path) -> None:
    """Rename a run's finished partial folder into place, replacing an older run whole."""
    partial = partial_folder(folder)
    old = folder.with_name(folder.name + ".partial-old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def start(folder: Path) -> Path:
    """A fresh partial folder to fill, to be published when it is complete."""
    partial = partial_folder(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


@contextmanager
def new_run(folder: Path) -> Iterator[Path]:
    """A fresh partial folder to fill; published at the end, removed where something is raised."""
    partial = start(folder)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    publish(folder)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    """Write readable JSON; NaN ("no such persons") becomes null."""
    write_text(path, json.dumps(_without_nan(content), indent=2) + "\n")


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
    except json.JSONDecodeError as error:
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


def fingerprint(path: Path) -> str:
    """The first 16 hex digits of a file's SHA-256."""
    return pooch.file_hash(str(path), alg="sha256")[:16]


def provenance(config: object, inputs: Mapping[str, Path]) -> dict[str, object]:
    """What made a run: code, packages, hardware, configuration, input files, time.

    Args:
        config: the run's configuration dataclass.
        inputs: name to file, for fingerprints.
    """
    return {
        "config": dataclasses.asdict(config),
        "inputs": {
            name: f"{path.name} sha256:{fingerprint(path)}" for name, path in inputs.items()
        },
        "git": _git(),
        "packages": {name: _version(name) for name in (*PACKAGES, *OPTIONAL_PACKAGES)},
        "python": platform.python_version(),
        "hardware": hardware(),
        "finished_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def hardware() -> dict[str, object]:
    """CPU and GPU model, cores and the threads that torch uses."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def hardware_slug() -> str:
    """CPU and GPU model for file names, such as "intel-xeon" or "intel-xeon-nvidia-h200"."""
    found = hardware()
    return "-".join(_slug(str(found[kind])) for kind in ("cpu", "gpu") if found[kind])


def _slug(model: str) -> str:
    """A model's name in lower case without trade marks, clock rate and words that all share."""
    model = re.sub(r"\((r|tm)\)|@.*|\d+-core|with .*", " ", model.lower())
    words = re.findall(r"[a-z0-9]+(?:[.-][a-z0-9]+)*", model)
    return "-".join(word for word in words if word not in ("cpu", "gpu", "processor"))


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, object] | None:
    """Commit, and whether code differs from it; None outside a clone."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", PROJECT, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        # Results made by this very run do not count as a change of the code.
        changed = git("status", "--porcelain", "--", ".", ":!results")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return None
