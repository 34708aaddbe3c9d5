"""What made a run: code, packages, hardware, configuration, inputs, time."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

import pooch
import torch

from hwl.paths import PROJECT

PACKAGES = ("hwl", "torch", "torchvision", "numpy", "opencv-python-headless", "pycocotools")
OPTIONAL_PACKAGES = ("onnx", "onnxruntime", "openvino", "nncf")  # what the runtimes need


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
