"""The experiment of docs/evidence.md as a graph; `make reproduce PROFILE=evidence` makes it.

Runs of an earlier stage come first. The pilot's spread decides how many seeds the main arms get.
Trainings and tests go through `hwl train` and `hwl evaluate`, for a notebook a run would cost more
time than it tells. A killed run goes on where it was.
"""

import json
import re
import shlex
import sys
from pathlib import Path

from hwl.studies.design import read_design

DESIGN = read_design(config, "the profile")
HWL = f"{shlex.quote(sys.executable)} -m hwl"
OUT = f"runs/{DESIGN.profile}"
STEP = f"--runs {OUT} --profile {shlex.quote(str(workflow.configfiles[0]))}"
LOGS = f"{OUT}/logs"
STAGES = DESIGN.stages
MAIN = DESIGN.piloted()
RUN = "{arm}-seed{seed}"


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


def tests(stage, seeds):
    """Where the tests of a stage's arms are."""
    return [
        f"{OUT}/evaluate/{arm}-seed{seed}/persons.npz"
        for arm in stage.arms
        for seed in range(seeds)
    ]


def everything(wildcards):
    """All tests within the budget, which are known when the pilot is done."""
    decided = json.loads(Path(checkpoints.pilot.get().output[0]).read_text())["seeds"]
    return [
        path
        for stage in DESIGN.affordable(decided)
        for path in tests(stage, stage.seeds_of(decided))
    ]


rule report:
    message:
        "the report of {OUT}"
    input:
        everything,
        expand(f"{OUT}/trace/{{arm}}/trace.csv", arm=DESIGN.trace),
    output:
        page=f"{OUT}/index.html",
        record=f"{OUT}/report/run.json",
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
            directory(folder),
        params:
            options(settings),
        log:
            f"{LOGS}/{Path(folder).name}.log",
        threads: workflow.cores
        priority: len(STAGES) + 2
        shell:
            "{HWL} data puppets --folder {output} {params} 2>&1 | tee {log}"


for position, stage in enumerate(STAGES):

    rule:
        name:
            f"train_{stage.name}"
        message:
            "train {wildcards.arm}, seed {wildcards.seed}"
        wildcard_constraints:
            arm="|".join(map(re.escape, stage.arms)),
            seed=r"\d+",
        input:
            DESIGN.settings[stage.setting].train["data"],
        output:
            f"{OUT}/train/{RUN}/last.safetensors",
        params:
            lambda wildcards, output: options(
                {
                    "output": os.path.dirname(output[0]),
                    **DESIGN.recipe(wildcards.arm, int(wildcards.seed)),
                }
            ),
        log:
            f"{LOGS}/train/{RUN}.log",
        priority: len(STAGES) - position
        shell:
            "{HWL} train {params} 2>&1 | tee {log}"

    rule:
        name:
            f"test_{stage.name}"
        message:
            "test {wildcards.arm}, seed {wildcards.seed}"
        wildcard_constraints:
            arm="|".join(map(re.escape, stage.arms)),
            seed=r"\d+",
        input:
            # The last weights and not the best ones, which a test would have chosen.
            weights=f"{OUT}/train/{RUN}/last.safetensors",
            data=DESIGN.settings[stage.setting].test["data"],
        output:
            f"{OUT}/evaluate/{RUN}/persons.npz",
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
        priority: len(STAGES) + 1 - position
        shell:
            "{HWL} evaluate {params} 2>&1 | tee {log}"


checkpoint pilot:
    message:
        "the pilot: how many seeds"
    input:
        tests(MAIN, MAIN.pilot),
    output:
        f"{OUT}/pilot/metrics.json",
    log:
        f"{LOGS}/pilot.log",
    priority: len(STAGES) + 2
    shell:
        "{HWL} evidence pilot --output {OUT}/pilot {STEP} 2>&1 | tee {log}"


rule trace:
    message:
        "what the weighting does to {wildcards.arm} over training"
    input:
        f"{OUT}/train/{{arm}}-seed0/last.safetensors",
    output:
        f"{OUT}/trace/{{arm}}/trace.csv",
    log:
        f"{LOGS}/trace/{{arm}}.log",
    shell:
        "{HWL} evidence trace --output {OUT}/trace/{wildcards.arm} --arm {wildcards.arm} {STEP} 2>&1"
        " | tee {log}"
