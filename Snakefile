"""The paper as a graph: every run is a target; its folder holds the tables and figures.

    snakemake --cores 2                                       the embedded puppets
    snakemake --cores 2 --configfile profiles/subset.yaml     a COCO-layout folder on a CPU
    snakemake --cores 8 --configfile profiles/paper.yaml      full COCO on GPUs

`hwl reproduce` calls it so, and with --executor slurm gives the jobs to a scheduler.

A profile names the data, the recipe, the variants (changes to the recipe) and their seeds. Runs that
are finished and whose notebook, annotations and parameters have not changed are not made again; a
killed training goes on from its last checkpoint. All outputs are marked `update`, for snakemake would
delete them before a job begins: a run's folder is replaced whole by the job itself, when it is done.
"""

import json
import os
import shlex
import sys

from snakemake.exceptions import WorkflowError

from hwl.errors import HwlError
from hwl.puppets.config import LABEL, PuppetConfig
from hwl.runs.cluster import cluster_of
from hwl.speed.repeated import runs_of
from hwl.studies.profile import check_profile

# As a default and not as a base: a profile must not inherit another one's data or variants.
if "profile" not in config:

    configfile: "profiles/embedded.yaml"


try:
    PROFILE = check_profile(config)
    if PROFILE.puppets:
        PuppetConfig(folder=PROFILE.data, **PROFILE.puppets).drawn()  # refuses other ones
except HwlError as error:
    raise WorkflowError(str(error)) from None

CLUSTER = cluster_of(config)  # what a job asks a scheduler for
HWL = f"{shlex.quote(sys.executable)} -m hwl"
# A job that takes GPUs has them alone (hwl/runs/gpus.py).
ON_GPUS = f"HWL_GPUS={CLUSTER.gpus} {HWL}"
OUT = f"runs/{config['profile']}"
LOGS = f"{OUT}/logs"
RUNS = [f"{variant}-seed{seed}" for variant, seed in PROFILE.runs()]
OURS = next((run for run in RUNS if run.startswith("ours-seed")), "")  # the paper's own, if any
SPEEDS = runs_of(config["speed"])  # parameters of 5_speed by the name of their run
# A job can have all cores of this machine; from a scheduler, and in its job, it has those of a run.
SCHEDULED = workflow.remote_exec or workflow.resource_settings.cores is None
MOST_CORES = config["cores_per_run"] if SCHEDULED else workflow.cores


wildcard_constraints:
    variant="[^/]+",
    seed=r"\d+",
    setting="|".join(SPEEDS),


def parameters(values):
    """A mapping as -p options of `hwl run`."""
    words = []
    for name, value in values.items():
        words += ["-p", name, value if isinstance(value, str) else json.dumps(value)]
    return shlex.join(words)


def training_data(wildcards):
    """Files by which a change of a training's data is noticed."""
    return PROFILE.data_files(PROFILE.training(wildcards.variant, int(wildcards.seed)))


def evaluation_data(wildcards):
    """Files by which a change of an evaluation's data is noticed."""
    return PROFILE.data_files(PROFILE.evaluation(wildcards.variant))


rule report:
    message:
        "the report of {OUT}"
    input:
        "notebooks/6_report.ipynb",
        expand(f"{OUT}/evaluate/{{run}}/notebook.html", run=RUNS),
        expand(f"{OUT}/train/{{run}}/best.safetensors", run=RUNS),
        [f"{OUT}/evaluate_int8/{run}/notebook.html" for run in RUNS if config.get("int8")],
        [f"{OUT}/ablations/notebook.html"] if config.get("compare") else [],
        [f"{OUT}/loss_weights/notebook.html"] if OURS else [],
        expand(f"{OUT}/{{setting}}/notebook.html", setting=SPEEDS),
    output:
        page=update(f"{OUT}/index.html"),
        notebook=update(f"{OUT}/report/notebook.html"),
    params:
        parameters({"output": f"{OUT}/report", "runs": OUT}),
    resources:
        **CLUSTER.resources(),
    log:
        f"{LOGS}/report.log",
    shell:
        "{HWL} run 6_report {params} --page {output.page} 2>&1 | tee {log}"


if config.get("puppets"):

    rule puppets:
        message:
            "draw the puppets"
        output:
            update(f"{PROFILE.data}/{LABEL}"),
        params:
            shlex.join(
                word
                for name, value in config["puppets"].items()
                for word in (f"--{name.replace('_', '-')}", str(value))
            ),
        threads: MOST_CORES
        resources:
            **CLUSTER.resources(),
        log:
            f"{LOGS}/puppets.log",
        shell:
            "{HWL} data puppets --folder {PROFILE.data} {params} 2>&1 | tee {log}"


rule train:
    message:
        "train {wildcards.variant}, seed {wildcards.seed}"
    input:
        "notebooks/1_train.ipynb",
        training_data,
    output:
        update(f"{OUT}/train/{{variant}}-seed{{seed}}/notebook.html"),
        update(f"{OUT}/train/{{variant}}-seed{{seed}}/best.safetensors"),
    params:
        lambda wildcards, output: parameters(
            {
                "output": os.path.dirname(output[0]),
                **PROFILE.training(wildcards.variant, int(wildcards.seed)),
            }
        ),
    threads: config["cores_per_run"]
    resources:
        gpu=CLUSTER.gpus,
        **CLUSTER.resources(),
    log:
        f"{LOGS}/train-{{variant}}-seed{{seed}}.log",
    shell:
        "{ON_GPUS} run 1_train {params} 2>&1 | tee {log}"


rule evaluate:
    message:
        "evaluate {wildcards.variant}, seed {wildcards.seed}"
    input:
        "notebooks/2_evaluate.ipynb",
        evaluation_data,
        weights=f"{OUT}/train/{{variant}}-seed{{seed}}/best.safetensors",
    output:
        update(f"{OUT}/evaluate/{{variant}}-seed{{seed}}/notebook.html"),
    # First, so that what is short and needs one core runs two at a time behind it.
    priority: 2
    params:
        lambda wildcards, input, output: parameters(
            {
                "output": os.path.dirname(output[0]),
                "weights": input.weights,
                **PROFILE.evaluation(wildcards.variant),
            }
        ),
    threads: config["cores_per_run"]
    resources:
        gpu=CLUSTER.gpus,
        **CLUSTER.resources(),
    log:
        f"{LOGS}/evaluate-{{variant}}-seed{{seed}}.log",
    shell:
        "{ON_GPUS} run 2_evaluate {params} 2>&1 | tee {log}"


if config.get("int8"):

    use rule evaluate as evaluate_int8 with:
        message:
            "evaluate {wildcards.variant}, seed {wildcards.seed}, in int8"
        output:
            update(f"{OUT}/evaluate_int8/{{variant}}-seed{{seed}}/notebook.html"),
        log:
            f"{LOGS}/evaluate_int8-{{variant}}-seed{{seed}}.log",
        params:
            lambda wildcards, input, output: parameters(
                {
                    "output": os.path.dirname(output[0]),
                    "weights": input.weights,
                    **PROFILE.evaluation_int8(wildcards.variant),
                }
            ),


if OURS:

    rule loss_weights:
        message:
            "what the loss does"
        input:
            "notebooks/3_loss_weights.ipynb",
            lambda wildcards: PROFILE.data_files(PROFILE.evaluation("ours")),
            weights=f"{OUT}/train/{OURS}/best.safetensors",
        output:
            update(f"{OUT}/loss_weights/notebook.html"),
        priority: 1
        params:
            lambda wildcards, input, output: parameters(
                {
                    "output": os.path.dirname(output[0]),
                    "weights": input.weights,
                    "data": PROFILE.data,
                    "split": PROFILE.evaluation("ours")["split"],
                }
            ),
        resources:
            **CLUSTER.resources(),
        log:
            f"{LOGS}/loss_weights.log",
        shell:
            "{HWL} run 3_loss_weights {params} 2>&1 | tee {log}"


if config.get("compare"):

    rule ablations:
        message:
            "compare the variants"
        input:
            "notebooks/4_ablations.ipynb",
            [f"{OUT}/evaluate/{run}/notebook.html" for run in RUNS
             if run.rpartition("-seed")[0] in config["compare"]],
        output:
            update(f"{OUT}/ablations/notebook.html"),
        priority: 1
        params:
            lambda wildcards, output: parameters(
                {
                    "output": os.path.dirname(output[0]),
                    "runs": f"{OUT}/evaluate",
                    "variants": config["compare"],
                    "baseline": config["compare"][0],
                }
            ),
        resources:
            **CLUSTER.resources(),
        log:
            f"{LOGS}/ablations.log",
        shell:
            "{HWL} run 4_ablations {params} 2>&1 | tee {log}"


if SPEEDS:

    # Alone on the machine, and after the training that would disturb it.
    rule speed:
        message:
            "time the models: {wildcards.setting}"
        input:
            "notebooks/5_speed.ipynb",
            PROFILE.data_files({"data": PROFILE.data}),
            expand(f"{OUT}/evaluate/{{run}}/notebook.html", run=RUNS),
        output:
            update(f"{OUT}/{{setting}}/notebook.html"),
        params:
            lambda wildcards, output: parameters(
                {
                    "output": os.path.dirname(output[0]),
                    "data": PROFILE.data,
                    **SPEEDS[wildcards.setting],
                }
            ),
        log:
            f"{LOGS}/{{setting}}.log",
        threads: MOST_CORES
        resources:
            gpu=CLUSTER.gpus,
            **CLUSTER.resources(),
        shell:
            "{ON_GPUS} run 5_speed {params} 2>&1 | tee {log}"
