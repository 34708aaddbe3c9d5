"""A profile: what the graph of the paper is told, checked before anything is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hwl.config import Count, FilePath, Name, OptionalName, OptionalPath, build, check
from hwl.errors import HwlError


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The keys of a file of profiles/."""

    profile: Name  # its name, and the folder of its runs
    data: FilePath  # folder in COCO's layout
    detections: OptionalPath = ""  # detected boxes of its validation split
    puppets: dict = field(default_factory=dict)  # fields of PuppetConfig, where the data are drawn
    cores_per_run: Count  # of a training or an evaluation
    recipe: dict  # parameters of 1_train
    protocol: dict  # parameters of 2_evaluate
    variants: dict[str, dict]  # changes to the recipe by the variant's name
    seeds: dict[str, list[int]]  # by the variant's name; others have seed 0
    compare: list[Name] = field(default_factory=list)  # variants of 4_ablations, the baseline first
    published_weights: dict = field(default_factory=dict)  # model cards by the name of a run
    int8: OptionalName = ""  # runtime to evaluate all in too
    speed: dict[str, dict]  # parameters of 5_speed by the name of its run

    def __post_init__(self) -> None:
        """Check every value; raises HwlError."""
        check(self)


def check_profile(values: Mapping[str, object]) -> None:
    """Check the keys of a profile, as snakemake reads them.

    Raises:
        HwlError: a key is missing, unknown or of another type, or `seeds` or `compare` names no
            variant.
    """
    try:
        profile = build(Profile, values)
    except HwlError as error:
        raise HwlError(f"profile '{values.get('profile', '')}': {error}") from None
    for name in ("seeds", "compare"):
        for variant in getattr(profile, name):
            if variant not in profile.variants:
                raise HwlError(
                    f"profile '{profile.profile}': '{name}' has '{variant}', which is not one of "
                    f"its variants {', '.join(profile.variants)}"
                )
