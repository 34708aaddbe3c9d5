"""The experiment of docs/evidence.md as a graph; `make reproduce PROFILE=evidence` makes it.

Runs of an earlier stage come first, and in a stage those of the first seeds, so that wherever the
work stops, pairs are whole. The pilot's spread decides how many seeds the main arms get. Trainings
and tests go through `hwl train` and `hwl evaluate`, for a notebook a run would cost more time than
it tells. A killed run goes on where it was, and tests that are there already, as those in
results/evidence, are not made again. Outputs are marked `update`, or snakemake would delete them
before a job begins.
"""

import json
import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from hwl.errors import HwlError
from hwl.puppets.config import LABEL, PuppetConfig
from hwl.studies.design import read_design

try:
    DESIGN = read_design(config, "the profile")
    for folder, settings in DESIGN.puppets.items():
        PuppetConfig(folder=folder, **settings).drawn()  # refuses other ones
except HwlError as error:
    raise WorkflowError(str(error)) from None

HWL = f"{shlex.quote(sys.executable)} -m hwl"
OUT = f"runs/{DESIGN.profile}"
STEP = f"--runs {OUT} --profile {shlex.quote(str(workflow.configfiles[0]))}"
LOGS = f"{OUT}/logs"
STAGES = DESIGN.stages
MAIN = DESIGN.piloted()
RUN = "{arm}-seed{seed}"
WEIGHTS = f"{OUT}/train/{RUN}/last.safetensors"
TEST = f"{OUT}/evaluate/{RUN}/persons.npz"
TRACE = f"{OUT}/trace/{{arm}}/trace.csv"
SEEDS = 100  # more than a stage has


def options(values):
    """A mapping as options of a command."""
    words = []
    for name, value in values.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, list):
            words += [f"--{option}", *map(str, value)]
        else:
            words += [f"--{option}", json.dumps(value) if isinstance(value, dict) else str(value)]
    return shlex.join(words)


def data_of(told):
    """What a training's or a test's data must hold; of drawn puppets, how they were drawn."""
    folder = told["data"]
    return f"{folder}/{LABEL}" if folder in DESIGN.puppets else folder


def tests(stage, seeds):
    """Where the tests of a stage's arms are."""
    return [
        TEST.format(arm=arm, seed=seed)
        for arm in stage.arms
        for seed in range(seeds)
    ]


def absent(path, arms, seed=0):
    """The arms of which a file is not there yet; one that is there is taken as it is."""
    return [arm for arm in arms if not Path(path.format(arm=arm, seed=seed)).exists()]


# A run that was tested elsewhere has no weights here, and cannot be traced.
UNTRACED = [
    arm
    for arm in absent(TRACE, DESIGN.trace)
    if absent(TEST, [arm]) or not absent(WEIGHTS, [arm])
]
TRACED = [arm for arm in DESIGN.trace if arm in UNTRACED or not absent(TRACE, [arm])]


def lacking_data(stage):
    """The folders that a stage reads and that are neither there nor drawn."""
    setting = DESIGN.settings[stage.setting]
    folders = {setting.train["data"], setting.test["data"]} - DESIGN.puppets.keys()
    return sorted(folder for folder in folders if not Path(folder).exists())


onstart:
    for stage in STAGES:
        if lacking := lacking_data(stage):
            print(f"stage {stage.name} is left out: {', '.join(lacking)} is not there")


def everything(wildcards):
    """All tests within the budget, which are known when the pilot is done, and that can be made."""
    decided = json.loads(Path(checkpoints.pilot.get().output[0]).read_text())["seeds"]
    return [
        path
        for stage in DESIGN.affordable(decided)
        for path in tests(stage, stage.seeds_of(decided))
        if Path(path).exists() or not lacking_data(stage)
    ]


rule report:
    message:
        "the report of {OUT}"
    input:
        everything,
        expand(TRACE, arm=TRACED),
    output:
        page=update(f"{OUT}/index.html"),
        record=update(f"{OUT}/report/run.json"),
    log:
        f"{LOGS}/report.log",
    shell:
        "{HWL} evidence report --output {OUT}/report {STEP} 2>&1 | tee {log}"


for folder, settings in DESIGN.puppets.items():

    rule:
        name:
            f"draw_{Path(folder).name}"
        message:
            f"draw {folder}"
        output:
            update(f"{folder}/{LABEL}"),
        params:
            options({"folder": folder, **settings}),
        log:
            f"{LOGS}/{Path(folder).name}.log",
        threads: workflow.cores
        priority: (len(STAGES) + 1) * SEEDS
        shell:
            "{HWL} data puppets {params} 2>&1 | tee {log}"


for position, stage, of_seed in [
    (position, stage, seed)
    for position, stage in enumerate(STAGES)
    for seed in range(stage.seeds)
]:
    untested = absent(TEST, stage.arms, of_seed)
    if untested:

        rule:
            name:
                f"train_{stage.name}_seed{of_seed}"
            message:
                "train {wildcards.arm}, seed {wildcards.seed}"
            wildcard_constraints:
                arm="|".join(map(re.escape, untested)),
                seed=str(of_seed),
            input:
                data_of(DESIGN.settings[stage.setting].train),
            output:
                update(WEIGHTS),
            params:
                lambda wildcards, output: options(
                    {
                        "output": os.path.dirname(output[0]),
                        **DESIGN.recipe(wildcards.arm, int(wildcards.seed)),
                    }
                ),
            log:
                f"{LOGS}/train/{RUN}.log",
            priority: (len(STAGES) - position) * SEEDS - of_seed
            shell:
                "{HWL} train {params} 2>&1 | tee {log}"

        rule:
            name:
                f"test_{stage.name}_seed{of_seed}"
            message:
                "test {wildcards.arm}, seed {wildcards.seed}"
            wildcard_constraints:
                arm="|".join(map(re.escape, untested)),
                seed=str(of_seed),
            input:
                # The last weights and not the best ones, which a test would have chosen.
                weights=WEIGHTS,
                data=data_of(DESIGN.settings[stage.setting].test),
            output:
                update(TEST),
            params:
                lambda wildcards, input, output: options(
                    {
                        "output": os.path.dirname(output[0]),
                        "weights": input.weights,
                        **DESIGN.test(wildcards.arm),
                    }
                ),
            log:
                f"{LOGS}/evaluate/{RUN}.log",
            # Before the training of the same seed.
            priority: (len(STAGES) - position) * SEEDS - of_seed + 1
            shell:
                "{HWL} evaluate {params} 2>&1 | tee {log}"


checkpoint pilot:
    message:
        "the pilot: how many seeds"
    input:
        ancient(tests(MAIN, MAIN.pilot)),  # a copy of published runs may have any order in time
    output:
        update(f"{OUT}/pilot/metrics.json"),
    log:
        f"{LOGS}/pilot.log",
    priority: (len(STAGES) + 1) * SEEDS
    shell:
        "{HWL} evidence pilot --output {OUT}/pilot {STEP} 2>&1 | tee {log}"


if UNTRACED:

    rule trace:
        message:
            "what the weighting does to {wildcards.arm} over training"
        wildcard_constraints:
            arm="|".join(map(re.escape, UNTRACED)),
        input:
            WEIGHTS.replace("{seed}", "0"),
        output:
            update(TRACE),
        log:
            f"{LOGS}/trace/{{arm}}.log",
        priority: (len(STAGES) + 1) * SEEDS
        shell:
            "{HWL} evidence trace --output {OUT}/trace/{wildcards.arm} --arm {wildcards.arm} {STEP} 2>&1"
            " | tee {log}"
