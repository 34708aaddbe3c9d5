"""The design of an experiment of many runs: settings, arms, seeds, comparisons, budget."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hwl.errors import HwlError

TRACE_STEPS = 50  # steps between kept weights; they do not change what a run computes


class Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Data and recipe that arms share.

    Attributes:
        train: parameters of `hwl train`.
        test: parameters of `hwl evaluate`.
    """

    train: dict[str, object]
    test: dict[str, object]


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the experiment, made before the next one.

    Attributes:
        name: of the stage.
        setting: name of the setting.
        arms: for each arm its changes to the setting's parameters of `hwl train`.
        compare: pairs (arm, base) whose difference is told; arms of earlier stages may be named.
        core_hours: expected of one run, training and test.
        seeds: runs an arm, with seeds from 0; the most of them where a pilot decides.
        pilot: seeds an arm whose spread decides how many follow (0: no pilot).
    """

    name: str
    setting: str
    arms: dict[str, dict[str, object]]
    compare: list[tuple[str, str]]
    core_hours: float
    seeds: int
    pilot: int = 0

    def seeds_of(self, decided: int = 0) -> int:
        """Seeds an arm, with the pilot's decision where it is made (else 0)."""
        return decided if self.pilot and decided else self.seeds


class Design(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole experiment, as a profile tells it.

    Attributes:
        profile: its name.
        core_hours: budget; stages that would pass it are left out.
        puppets: for each folder of drawn data the options of `hwl data puppets`.
        settings: by name.
        stages: in the order of the budget.
        trace: arms whose first run keeps its weights, to see what the weighting does over training.
    """

    profile: str
    core_hours: float
    puppets: dict[str, dict[str, int]]
    settings: dict[str, Setting]
    stages: list[Stage]
    trace: list[str]

    def arms(self) -> dict[str, Stage]:
        """The stage of every arm."""
        return {arm: stage for stage in self.stages for arm in stage.arms}

    def recipe(self, arm: str, seed: int) -> dict[str, object]:
        """What `hwl train` is told of an arm and seed, but for the output.

        Raises:
            HwlError: no stage has the arm.
        """
        if arm not in self.arms():
            raise HwlError(f"arm '{arm}' is not one of {', '.join(self.arms())}")
        stage = self.arms()[arm]
        told = {**self.settings[stage.setting].train, **stage.arms[arm], "seed": seed}
        if arm in self.trace and seed == 0:
            told |= {"keep_weights": True, "checkpoint_steps": TRACE_STEPS}
        return told

    def test(self, arm: str) -> dict[str, object]:
        """What `hwl evaluate` is told of an arm, but for output and weights."""
        setting = self.settings[self.arms()[arm].setting]
        same = ("input_height", "input_width", "threads", "workers")
        return {name: setting.train[name] for name in same if name in setting.train} | setting.test

    def plan(self, decided: int = 0) -> list[dict[str, object]]:
        """One row a stage: runs, core-hours, their sum so far, whether it is within the budget.

        A later, cheaper stage may follow one that is left out.

        Args:
            decided: the pilot's number of seeds (0: the most that are allowed).
        """
        rows, total = [], 0.0
        for stage in self.stages:
            seeds = stage.seeds_of(decided)
            runs = len(stage.arms) * seeds
            hours = runs * stage.core_hours
            made = total + hours <= self.core_hours
            total += hours if made else 0.0
            rows.append(
                {
                    "stage": stage.name,
                    "arms": len(stage.arms),
                    "seeds": seeds,
                    "runs": runs,
                    "core-hours": round(hours, 1),
                    "sum": round(total, 1),
                    "made": made,
                }
            )
        return rows

    def affordable(self, decided: int = 0) -> list[Stage]:
        """The stages within the budget, by `plan`."""
        return [s for s, row in zip(self.stages, self.plan(decided), strict=True) if row["made"]]

    def piloted(self) -> Stage:
        """The stage that begins with a pilot; raises `HwlError` where there is none."""
        for stage in self.stages:
            if stage.pilot:
                return stage
        raise HwlError(f"profile '{self.profile}' has no stage with a pilot")


def read_design(content: object, where: str) -> Design:
    """A profile's content, checked.

    Args:
        content: of the YAML file.
        where: it comes from, for messages.

    Raises:
        HwlError: an unknown key, a value of another type, an arm or setting that is not defined.
    """
    try:
        design = msgspec.convert(content, Design)
    except msgspec.ValidationError as error:
        raise HwlError(f"{where}: {error}") from error
    arms: set[str] = set()
    for stage in design.stages:
        if stage.setting not in design.settings:
            raise HwlError(f"{where}: stage '{stage.name}' names no setting: '{stage.setting}'")
        if repeated := arms & stage.arms.keys():
            raise HwlError(f"{where}: arm '{repeated.pop()}' is in two stages; rename one")
        arms |= stage.arms.keys()
        for arm in {name for pair in stage.compare for name in pair} - arms:
            raise HwlError(f"{where}: stage '{stage.name}' compares '{arm}', which is no arm")
    for arm in set(design.trace) - arms:
        raise HwlError(f"{where}: 'trace' names '{arm}', which is no arm")
    return design


def load_design(path: Path) -> Design:
    """A profile's design; raises `HwlError` as `read_design` does."""
    try:
        return read_design(msgspec.yaml.decode(path.read_bytes()), path.name)
    except (OSError, msgspec.DecodeError) as error:
        raise HwlError(f"{path} cannot be read as a profile: {error}") from error
