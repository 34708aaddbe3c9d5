"""A finished training, taken over instead of repeated."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping
from pathlib import Path

from accelerate import Accelerator

from hwl.errors import HwlError
from hwl.files import read_json
from hwl.runs.folder import copy_run, read_marker
from hwl.runs.provenance import LOADED, fingerprint
from hwl.training.config import TrainConfig, differing

WEIGHTS = ("best.safetensors", "last.safetensors")
HISTORY = "history.csv"


def take_over(
    config: TrainConfig, inputs: Mapping[str, str], folder: Path, accelerator: Accelerator
) -> bool:
    """Look for this training, finished, in its folder and published; copy it to its folder.

    Args:
        config: what is asked for.
        inputs: fingerprints of its data.
        folder: the run's partial folder.
        accelerator: all its processes call this.

    Returns:
        Whether it was found.
    """
    places = [folder, Path(config.output)]
    processes = accelerator.num_processes
    found = next((p for p in places if _is_finished(p, config, inputs, processes)), None)
    accelerator.wait_for_everyone()  # before anything is copied
    if found is None:
        return False
    if accelerator.is_main_process and found != folder:
        copy_run(found, folder)
    accelerator.wait_for_everyone()
    accelerator.print(
        f"{found} is finished, with this configuration, data and code; delete it to train it again"
    )
    return True


def _is_finished(
    folder: Path, config: TrainConfig, inputs: Mapping[str, str], processes: int
) -> bool:
    """Whether a folder holds what this training would leave, by this code, undamaged."""
    marker = read_marker(folder)
    if marker is None or marker["kind"] != config.kind:
        return False
    try:
        run = read_json(folder / "run.json")
        weights = {name: fingerprint(folder / name) for name in WEIGHTS}
        read_json(folder / "metrics.json")
        other = differing(dataclasses.asdict(config), run["config"])
        same = not other and bool(read_history(folder))
    except (HwlError, OSError, KeyError, TypeError, ValueError):
        return False
    made = {"inputs": dict(inputs), "codes": [LOADED["code"]], "weights": weights}
    return same and (made | {"processes": processes}).items() <= run.items()


def read_history(folder: Path) -> list[dict[str, float]]:
    """A run's history as it was returned: a record an epoch, without what was not measured."""
    with (folder / HISTORY).open(newline="", encoding="utf-8") as file:
        return [
            {name: _number(text) for name, text in row.items() if text}
            for row in csv.DictReader(file)
        ]


def _number(text: str) -> float:
    return int(text) if text.isdigit() else float(text)
