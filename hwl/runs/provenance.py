"""What made a run: code, packages, hardware, configuration, inputs, time."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pooch
import psutil

from hwl import processor
from hwl.errors import HwlError
from hwl.files import read_json
from hwl.paths import PROJECT, from_project
from hwl.runs.command import command, relative

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PACKAGES = ("hwl", "torch", "torchvision", "numpy", "opencv-python-headless", "pycocotools")
# Environment variables that change numbers or speed, by how their names start.
VARIABLES: tuple[str, ...] = (
    *("OMP_", "KMP_", "MKL_", "OPENBLAS_", "ONEDNN_", "DNNL_", "MALLOC_", "GLIBC_TUNABLES"),
    *("TORCH", "PYTORCH_", "CUBLAS_", "CUDA_VISIBLE_DEVICES", "NVIDIA_TF32", "LD_PRELOAD"),
)
SMALL = 64 * 2**20  # bytes of a folder that is hashed by content


def fingerprint(path: Path) -> str:
    """The first 16 hex digits of a file's SHA-256."""
    return pooch.file_hash(str(path), alg="sha256")[:16]


def folder_fingerprint(folder: Path) -> str:
    """How many files a folder has, below it and in linked folders too, and what tells them apart.

    The hash is over names and contents where they have 64 MiB or less together, else over names and
    sizes, and says which: COCO's 118,000 training images are listed in seconds and read in minutes.
    """
    files = sorted(_files(folder))
    sizes = [path.stat().st_size for path in files]
    small = sum(sizes) <= SMALL
    digest = hashlib.sha256()
    for path, size in zip(files, sizes, strict=True):
        tells = hashlib.sha256(path.read_bytes()).hexdigest() if small else str(size)
        digest.update(f"{path.relative_to(folder).as_posix()}\0{tells}\n".encode())
    how = "names and contents" if small else "names and sizes"
    return f"{len(files)} files, {how} sha256:{digest.hexdigest()[:16]}"


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder; one that several links name is entered once, so that loops end."""
    entered: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        folders.sort()  # so that the link to enter by is the same one everywhere
        place = os.path.realpath(root)
        if place in entered:
            folders.clear()
            continue
        entered.add(place)
        yield from (path for name in names if (path := Path(root, name)).is_file())


def provenance(config: DataclassInstance, inputs: Mapping[str, Path]) -> dict[str, object]:
    """What made a run: command, code, packages, hardware, configuration, inputs, time.

    Paths are relative to the project, so that a record can be published.

    Args:
        config: the run's configuration dataclass.
        inputs: name to file or folder, for fingerprints.
    """
    return {
        "command": command(),
        "config": relative(dataclasses.asdict(config)),
        "inputs": fingerprints(inputs),
        **LOADED,
        "packages": {name: _version(name) for name in recorded_packages()},
        "python": platform.python_version(),
        "environment": {
            name: relative(value)
            for name, value in sorted(os.environ.items())
            if name.startswith(VARIABLES)
        },
        "hardware": hardware(),
        "kernel": platform.platform(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "finished_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def recorded_packages() -> list[str]:
    """The packages whose versions a record has: those that compute, and the runtimes' extra."""
    try:
        needs = importlib.metadata.requires("hwl") or []
    except importlib.metadata.PackageNotFoundError:
        needs = []
    runtimes = [need for need in needs if re.search(r"extra == .runtimes.", need)]
    return [*PACKAGES, *(re.split(r"[^\w.-]", need, maxsplit=1)[0] for need in runtimes)]


def recorded_config(record: Path) -> dict[str, object]:
    """The configuration in a run's `run.json`; empty where that is missing or a foreign file."""
    try:
        config = read_json(record)["config"]
    except (HwlError, KeyError, TypeError):
        return {}
    return config if isinstance(config, dict) else {}


def fingerprints(inputs: Mapping[str, Path]) -> dict[str, str]:
    """Each input's path, relative to the project, and its fingerprint."""
    return {name: _input(path) for name, path in inputs.items()}


def code_fingerprint() -> str:
    """The first 16 hex digits of a SHA-256 over the package's source, committed or not."""
    digest = hashlib.sha256()
    for path in sorted((PROJECT / "hwl").rglob("*.py")):
        digest.update(f"{path.relative_to(PROJECT).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _input(path: Path) -> str:
    if path.is_dir():
        return f"{from_project(path)}: {folder_fingerprint(path)}"
    return f"{from_project(path)} sha256:{fingerprint(path)}"


def hardware() -> dict[str, object]:
    """CPU and GPU model, cores of this job, the threads that torch uses, and memory in GiB."""
    import torch  # takes seconds, and to read what a run left needs none of it

    return {
        "cpu": _cpu(),
        "cores": processor.cores(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "memory_GiB": round(psutil.virtual_memory().total / 2**30, 1),
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


# Of the code that this process runs, and so told when it begins: a run may outlast a commit.
LOADED: dict[str, object] = {"git": _git(), "code": code_fingerprint()}
