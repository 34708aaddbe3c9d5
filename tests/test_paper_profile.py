"""The paper's profile in miniature, from end to end; by a real SLURM where one can be started.

COCO's folder and file names and the profile's recipe are those of the paper; the images are a few
puppets, and the trainings have a step or six. On SLURM a training of the other input size is
cancelled and goes on in the next job. Of the six notebooks, four are run so; test_notebook_runs.py
has all.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml

from hwl.files import read_json, write_json
from hwl.paths import PROJECT
from hwl.runs.cluster import PLUGIN

LOCALHOST = Path(__file__).with_name("slurm") / "localhost.sh"
PATIENCE = 1500.0  # seconds for all jobs on a busy machine
JOBS = 8  # on SLURM
EPOCHS = 6  # of the training that is cancelled
TRAIN_IMAGES = 2
DETECTIONS = "person_detection_results/COCO_val2017_detections_AP_H_56_person.json"


def miniature(paper: dict, cancelled: bool) -> dict:
    """The paper's profile with a variant, a few persons and a step.

    Args:
        paper: the profile.
        cancelled: add a variant whose training is cancelled.
    """
    few = {"train_limit": 2, "batch_size": 2, "workers": 0, "threads": 1, "checkpoint_steps": 1}
    short = {"epochs": 1, "lr_drops": [], "warmup_steps": 1}
    timing = {"models": ["ours"], "runtimes": ["eager"], "threads": [1], "batches": [1]}
    timing |= {"rounds": 1, "images": 1, "memory": False}
    variants = {"ours-384x288": paper["variants"]["ours-384x288"]}
    if cancelled:  # first, and it takes long enough to be met at work
        variants = {"mse": {**paper["variants"]["mse"], "epochs": EPOCHS}, **variants}
    return {
        **{key: value for key, value in paper.items() if key != "compare"},
        "cores_per_run": 1,
        "cluster": {**paper["cluster"], "gpus": 0, "memory_GB": 1, "retries": 3},
        "recipe": {**paper["recipe"], **few, **short},
        "protocol": {"bootstrap": 5},
        "variants": variants,
        "seeds": {},
        "int8": "openvino-int8",
        "speed": {"speed": {**paper["speed"]["speed"], **timing}},
    }


@dataclass(frozen=True)
class Outcome:
    """What `hwl reproduce` left and said, and SLURM's number of the job that was cancelled."""

    runs: Path
    said: str
    cancelled: str | None


def keep_train_images(annotations: Path, number: int) -> None:
    """Take out of a file of annotations all images but the first ones, and what is on them."""
    content = read_json(annotations)
    content["images"] = content["images"][:number]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
    write_json(annotations, content)


@pytest.fixture(scope="module")
def project(
    puppets: Path, slurm: dict[str, str] | None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A copy of the project with a miniature COCO."""
    folder = tmp_path_factory.mktemp("miniature") / "project"
    for name in ("hwl", "notebooks"):
        shutil.copytree(PROJECT / name, folder / name)
    shutil.copy(PROJECT / "Snakefile", folder)
    shutil.copytree(puppets, folder / "data/coco")
    (folder / "data/coco/puppets.json").unlink()
    detections = folder / "data/coco" / DETECTIONS
    detections.with_name("val2017_simulated_detections.json").rename(detections)
    # All persons are cropped for the cache, and calibrate int8.
    keep_train_images(
        folder / "data/coco/annotations/person_keypoints_train2017.json", TRAIN_IMAGES
    )
    (folder / "profiles").mkdir()
    profile = miniature(
        yaml.safe_load((PROJECT / "profiles/paper.yaml").read_text()), slurm is not None
    )
    (folder / "profiles/paper.yaml").write_text(yaml.safe_dump(profile))
    # What an evaluation left that was killed.
    killed = folder / "runs/paper/evaluate/killed-seed0.partial"
    killed.mkdir(parents=True)
    (killed / "protocols.csv").write_text("boxes,AP\nground-truth,0.5\n")
    write_json(killed / "run.json", {"config": {"data": "data/coco"}})
    return folder


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str] | None]:
    """The environment of a SLURM on this machine, or None where none can be started."""
    commands = ("slurmctld", "slurmd", "munged")
    if os.geteuid() != 0 or not all(map(shutil.which, commands)) or not _has_plugin():
        yield None
        return
    folder = tmp_path_factory.mktemp("slurm")
    try:
        subprocess.run(["bash", LOCALHOST, "start", folder], check=True)
        # The settings of a cluster are a profile of snakemake's; here, it asks often.
        (folder / "config.yaml").write_text(
            "slurm-init-seconds-before-status-checks: 1\nslurm-status-command: squeue\n"
        )
        yield {
            "SLURM_CONF": f"{folder}/slurm.conf",
            "SNAKEMAKE_PROFILE": str(folder),
            "PATH": f"{folder}/bin{os.pathsep}{os.environ['PATH']}",
        }
    finally:
        subprocess.run(["bash", LOCALHOST, "stop", folder], check=True)


def _has_plugin() -> bool:
    return any(Path(path, PLUGIN).is_dir() for path in sys.path)


@pytest.fixture(scope="module")
def outcome(project: Path, slurm: dict[str, str] | None) -> Outcome:
    """The whole miniature, made once."""
    command = [sys.executable, "-m", "hwl", "reproduce", "paper"]
    command += ["--executor", "slurm"] if slurm else ["--cores", "2"]
    environment = {**os.environ, **(slurm or {}), "PYTHONPATH": str(project)}
    environment["OMP_NUM_THREADS"] = "1"
    runs, cancelled = project / "runs/paper", None
    with (
        (project / "said.txt").open("w") as said,
        subprocess.Popen(command, cwd=project, env=environment, stdout=said, stderr=said) as graph,
    ):
        try:
            if slurm:
                cancelled = cancel_training(runs, graph, environment)
            graph.wait(PATIENCE)
        finally:
            graph.terminate()
    told = (project / "said.txt").read_text()
    assert graph.returncode == 0, told
    return Outcome(runs, told, cancelled)


def cancel_training(runs: Path, graph: subprocess.Popen, environment: dict[str, str]) -> str:
    """Cancel the longer training's job when it has a checkpoint, and return its number."""
    until = time.monotonic() + PATIENCE
    while not (runs / "train/mse-seed0.partial/checkpoint.pt").exists():
        assert graph.poll() is None and time.monotonic() < until, "nothing was trained"
        time.sleep(0.1)
    command = ["squeue", "--noheader", "--states=RUNNING", "--format=%i %k"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    (number,) = re.findall(r"^(\d+) rule_train_wildcards_mse_0$", told.stdout, re.M)
    subprocess.run(["scancel", number], env=environment, check=True)
    return number


@pytest.mark.slow(110)
def test_the_paper_profile_runs_from_end_to_end_on_a_folder_of_cocos_names(
    outcome: Outcome,
) -> None:
    sizes = {"ours-384x288-seed0": [384, 288]}
    if outcome.cancelled is not None:
        sizes["mse-seed0"] = [256, 192]
    assert {path.name for path in (outcome.runs / "train").iterdir()} == set(sizes)
    for run, size in sizes.items():
        config = read_json(outcome.runs / f"train/{run}/run.json")["config"]
        assert [config["input_height"], config["input_width"]] == size
        for evaluation, runtime in (("evaluate", "eager"), ("evaluate_int8", "openvino-int8")):
            folder = outcome.runs / evaluation / run
            assert (folder / "images/1.png").stat().st_size > 0
            protocols = pd.read_csv(folder / "protocols.csv")
            assert protocols.boxes.tolist() == ["ground-truth", "ground-truth", "detected"]
            assert read_json(folder / "run.json")["config"]["runtime"] == runtime
            assert DETECTIONS in read_json(folder / "run.json")["config"]["detections"]
    assert list(outcome.runs.glob("speed/latencies-256x192-*.csv"))
    page = (outcome.runs / "index.html").read_text()
    assert "ours-384x288" in page and "killed-seed0" not in page


def notebooks_of(outcome: Outcome) -> dict[str, Path]:
    """The executed notebooks by their runs' folders."""
    paths = outcome.runs.rglob("notebook.ipynb")
    return {path.parent.relative_to(outcome.runs).as_posix(): path for path in paths}


@pytest.mark.slow
def test_executed_notebooks_show_no_error_no_warning_and_nothing_missing(outcome: Outcome) -> None:
    missing = set()
    for path in notebooks_of(outcome).values():
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                assert output.output_type != "error" and output.get("name") != "stderr", output
                assert not re.search("Warning|IProgress", str(output)), output
                missing |= set(re.findall(r"\*(\w+)/\S+ has not been made", str(output)))
    assert missing == {"loss_weights", "ablations"}


@pytest.mark.slow
def test_executed_notebooks_embed_no_image_of_the_data(outcome: Outcome) -> None:
    # Those of the report are the others' figures, of each training one.
    report = 4 + len(list((outcome.runs / "train").iterdir()))
    figures = {"train": 2, "evaluate": 3, "evaluate_int8": 3, "speed": 5, "report": report}
    for run, path in notebooks_of(outcome).items():
        start_of_a_png = path.read_text().count("iVBORw0KGgo")
        assert start_of_a_png == figures[run.split("/")[0]], path


@pytest.mark.slow
def test_a_report_leaves_out_what_a_killed_evaluation_left(outcome: Outcome) -> None:
    left = [path.name for path in outcome.runs.rglob("*.partial*")]

    assert left == ["killed-seed0.partial"]
    assert "killed-seed0" not in (outcome.runs / "report/evaluations.csv").read_text()


@pytest.mark.slow
def test_a_training_that_slurm_cancels_goes_on_in_the_next_job(outcome: Outcome) -> None:
    if outcome.cancelled is None:
        pytest.skip("needs root and `apt-get install slurm-wlm munge`, to start SLURM")

    assert f"SLURM-job '{outcome.cancelled}' failed, SLURM status is: 'CANCELLED'" in outcome.said
    given = re.findall(r"has been submitted with SLURM jobid (\d+)", outcome.said)
    assert len(given) > JOBS
    kept = {path.stem for path in (outcome.runs / "logs/slurm").rglob("*.log")}
    assert kept == set(given)
    log = (outcome.runs / "logs/train-mse-seed0.log").read_text()
    went_on = re.search(r"going on from \S+: epoch (\d+), step \d+", log)
    assert 0 < int(went_on[1]) < EPOCHS
    assert f"epoch   {EPOCHS}/{EPOCHS}" in log and f"epoch   1/{EPOCHS}" not in log
