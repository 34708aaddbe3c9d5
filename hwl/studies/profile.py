"""A profile: what the graph of the paper is told, checked before anything is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hwl.config import Count, FilePath, Name, OptionalName, OptionalPath, build, check, checked
from hwl.errors import HwlError
from hwl.evaluation.config import EvaluateConfig
from hwl.paths import PROJECT
from hwl.puppets.config import LABEL, PuppetConfig
from hwl.runs.cluster import cluster_of
from hwl.runs.provenance import recorded_config
from hwl.speed.config import SpeedConfig
from hwl.speed.repeated import REPEATS, runs_of
from hwl.training.config import TrainConfig, differing

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = type["DataclassInstance"]

# What a recipe must tell, for a notebook's defaults are those of the embedded puppets.
NEEDED = ("input_height", "input_width", "epochs", "evaluate_every")

# What the graph gives each job itself.
OWN: dict[Config, tuple[str, ...]] = {
    TrainConfig: ("output", "seed"),
    EvaluateConfig: ("output", "weights"),
    PuppetConfig: ("folder",),
    SpeedConfig: ("output",),
}


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
    speed: dict[str, dict]  # parameters of 5_speed by the name of its run, with `repeats`
    cluster: dict = field(default_factory=dict)  # fields of Cluster, for EXECUTOR=slurm

    def __post_init__(self) -> None:
        """Check every value; raises HwlError."""
        check(self)

    def runs(self) -> list[tuple[str, int]]:
        """Variant and seed of every training."""
        return [(v, seed) for v in self.variants for seed in self.seeds.get(v, [0])]

    def training(self, variant: str, seed: int) -> dict[str, object]:
        """1_train's parameters of a variant, but for the output."""
        return {"data": self.data, **self.recipe, **self.variants[variant], "seed": seed}

    def evaluation(self, variant: str) -> dict[str, object]:
        """2_evaluate's, but for output and weights: on the data that a variant was trained for."""
        trained = self.training(variant, 0)
        same = ("data", "metric", "threads", "workers")
        # A variant that validates on a split of its own is evaluated on those very persons.
        own_split = "val_split" in self.variants[variant]
        detected = trained["data"] == self.data and not own_split
        return {
            **{name: trained[name] for name in same if name in trained},
            "split": trained.get("val_split", "val2017"),
            "limit": trained.get("val_limit", 0) if own_split else 0,
            "detections": self.detections if detected else "",
            **self.protocol,
        }

    def evaluation_int8(self, variant: str) -> dict[str, object]:
        """The same of the runtime `int8`, calibrated with what the variant was trained on."""
        trained = self.training(variant, 0)
        return {
            **self.evaluation(variant),
            "runtime": self.int8,
            "calibration_data": trained["data"],
            "calibration_split": trained.get("train_split", "train2017"),
        }

    def data_files(self, told: Mapping[str, object]) -> list[str]:
        """The files that tell snakemake whether a training's or an evaluation's data changed.

        Args:
            told: its parameters.
        """
        folder = str(told["data"])
        if self.puppets and folder == self.data:
            return [f"{folder}/{LABEL}"]  # which the graph makes
        splits = [told.get("train_split", "train2017"), told.get("val_split", "val2017")]
        if "split" in told:  # an evaluation's only one
            splits = [told["split"]]
        files = [f"{folder}/annotations/person_keypoints_{split}.json" for split in splits]
        return [*files, str(told["detections"])] if told.get("detections") else files


def check_profile(values: Mapping[str, object]) -> Profile:
    """A profile as snakemake reads it, checked down to every parameter that it gives a job.

    Raises:
        HwlError: a key is missing, unknown or of another type, `seeds` or `compare` names no
            variant, or a job would refuse a parameter; it names the profile and the entry.
    """
    try:
        profile = build(Profile, values)
        cluster_of(values)
        for name in ("seeds", "compare"):
            for variant in getattr(profile, name):
                if variant not in profile.variants:
                    raise HwlError(
                        f"'{name}' has '{variant}', which is not one of its variants "
                        f"{', '.join(profile.variants)}"
                    )
        for setting in profile.speed.values():
            checked(REPEATS, setting.get(REPEATS, 1), Count)
        for entry, job, given in _jobs(profile):
            _check_job(entry, job, given)
        for name, changes in profile.variants.items():
            for needed in NEEDED:
                if needed not in {**profile.recipe, **changes}:
                    raise HwlError(f"'recipe' has no '{needed}', which variant '{name}' needs")
    except HwlError as error:
        raise HwlError(f"profile '{values.get('profile', '')}': {error}") from None
    return profile


def made_otherwise(profile: Profile) -> list[str]:
    """The pages of trainings and evaluations whose run was given other parameters, by hand.

    Snakemake compares the parameters of what it made itself; anything else it takes as it is.
    """
    runs, found = f"runs/{profile.profile}", []
    for variant, seed in profile.runs():
        jobs = {
            "train": profile.training(variant, seed),
            "evaluate": profile.evaluation(variant),
            "evaluate_int8": profile.evaluation_int8(variant),
        }
        for kind, told in jobs.items():
            folder = f"{runs}/{kind}/{variant}-seed{seed}"
            if kind != "train":
                told["weights"] = f"{runs}/train/{variant}-seed{seed}/best.safetensors"
            made = recorded_config(PROJECT / folder / "run.json")
            if made and differing(told, made):
                found.append(f"{folder}/notebook.html")
    return found


def _jobs(profile: Profile) -> Iterator[tuple[str, Config, dict]]:
    """Each entry that tells a job its parameters: its name, the job's configuration, and they."""
    recipe = {"data": profile.data, **profile.recipe}
    yield "recipe", TrainConfig, recipe
    for name, changes in profile.variants.items():
        yield f"variants.{name}", TrainConfig, {**recipe, **changes}
    yield "protocol", EvaluateConfig, {"data": profile.data, **profile.protocol}
    yield "puppets", PuppetConfig, profile.puppets
    for name, setting in runs_of(profile.speed).items():
        yield f"speed.{name}", SpeedConfig, setting


def _check_job(entry: str, job: Config, given: Mapping[str, object]) -> None:
    """HwlError unless a job takes these parameters, which are told in an entry of a profile."""
    for name in OWN[job]:
        if name in given:
            raise HwlError(f"'{entry}' has '{name}', which the graph sets: leave it out")
    paths = {name: "runs" for name in OWN[job] if name != "seed"}
    try:
        build(job, {**paths, **given})
    except HwlError as error:
        raise HwlError(f"'{entry}': {error}") from None
