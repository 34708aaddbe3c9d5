"""What a step of the evidence experiment is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hwl.config import FilePath, OptionalName, check


@dataclass(frozen=True, kw_only=True)
class EvidenceConfig:
    """A step of the evidence experiment: its pilot, the trace of an arm or its report."""

    kind: ClassVar[str] = "evidence"

    output: FilePath  # the run's folder
    runs: FilePath = "runs/evidence"  # folder with the experiment's train/ and evaluate/
    profile: FilePath = "profiles/evidence.yaml"  # the design
    arm: OptionalName = ""  # to trace

    def __post_init__(self) -> None:
        """Check every value; raises HwlError."""
        check(self)
