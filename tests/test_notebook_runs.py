"""The six notebooks, run one after the other on a few puppets: what they leave."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import KernelManager, start_new_kernel
from nbclient import NotebookClient
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from hwl import execute as notebooks
from hwl.runs.provenance import hardware_slug


def jobs_of(runs: Path, puppets: Path, outputs: Path) -> dict[str, dict[str, object]]:
    """Parameters of the six notebooks on a few puppets.

    Args:
        runs: the profile whose weights and evaluations they read.
        puppets: the data.
        outputs: where their own runs go.
    """
    small = {"input_height": 64, "input_width": 32}
    data = {"data": str(puppets), **small}
    model = {**data, "weights": str(runs / "train/ours-seed0/best.safetensors")}
    detections = str(puppets / "person_detection_results/val2017_simulated_detections.json")
    evaluation = {"detections": detections, "bootstrap": 5, "threads": 1}
    speed = {"models": ["ours"], "runtimes": ["eager", "fused"], "threads": [1]}
    speed |= {"batches": [1, 2], "rounds": 2, "images": 2}
    ablations = {"runs": str(runs / "evaluate"), "variants": ["ours"], "baseline": "ours"}
    ablations["evidence_runs"] = ""
    jobs = {
        "1_train": ("train/ours-seed0", {**data, "epochs": 2, "batch_size": 4, "threads": 1}),
        "2_evaluate": ("evaluate/ours-seed0", {**model, **evaluation}),
        "3_loss_weights": ("loss_weights", {**model, "persons": 4}),
        "4_ablations": ("ablations", ablations),
        "5_speed": ("speed", {**data, **speed, "accuracy": str(runs / "evaluate")}),
        "6_report": ("report", {"runs": str(runs)}),
    }
    return {
        name: {"output": str(outputs / output), **values} for name, (output, values) in jobs.items()
    }


@pytest.fixture(scope="module")
def profile(puppets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a profile's runs: all six notebooks on a few puppets, run from elsewhere."""
    runs = tmp_path_factory.mktemp("profile")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        patch.setenv("OMP_NUM_THREADS", "1")
        for name, values in jobs_of(runs, puppets, runs).items():
            notebooks.run(notebooks.NOTEBOOKS / f"{name}.ipynb", values)
            if name == "2_evaluate":  # and as another one left it that was killed
                output = Path(str(values["output"]))
                shutil.copytree(output, output.with_name(f"{output.name}.partial"))
        assert list(Path.cwd().iterdir()) == []
    return runs


@pytest.mark.slow(60)
def test_the_six_notebooks_leave_their_runs_and_nothing_half_written(profile: Path) -> None:
    files = {
        "train/ours-seed0": "best.safetensors history.csv curves.svg metrics.json images/1.png",
        "evaluate/ours-seed0": "protocols.csv keypoints.csv keypoint_errors.png images/1.png "
        "metrics.json keypoints_val2017_results.json",
        "loss_weights": "gradient_shares.csv weight_functions.svg metrics.json images/1.png",
        "ablations": "runs.csv comparison.csv ablations.png metrics.json",
        "speed": "counting-64x32.csv speed_heatmap.svg accuracy_over_speed.svg end_to_end.svg "
        "metrics.json",
        "report": "evaluations.csv",
    }
    for folder, names in files.items():
        for name in [*names.split(), "run.json", "notebook.ipynb", "notebook.html"]:
            assert (profile / folder / name).stat().st_size > 0
    machine = hardware_slug()
    for table in ("latencies", "peak_rate", "agreement", "end_to_end"):
        assert (profile / f"speed/{table}-64x32-{machine}.csv").stat().st_size > 0
    assert [path.name for path in profile.rglob("*.partial*")] == ["ours-seed0.partial"]
    assert "partial" not in (profile / "report/evaluations.csv").read_text()


@pytest.mark.slow
def test_the_six_notebooks_show_no_error_no_warning_and_nothing_missing(profile: Path) -> None:
    for path in profile.rglob("notebook.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                assert output.output_type != "error" and output.get("name") != "stderr", output
                assert not re.search("Warning|IProgress|has not been made", str(output)), output


@pytest.mark.slow
def test_the_six_notebooks_embed_no_image_of_the_data(profile: Path) -> None:
    # Those of the report are the others' figures, and poses of puppets, which may be passed on.
    figures = {"train": 2, "evaluate": 3, "loss_weights": 5, "ablations": 1, "speed": 5}
    for path in profile.rglob("notebook.ipynb"):
        start_of_a_png = path.read_text().count("iVBORw0KGgo")
        assert start_of_a_png == figures.get(path.relative_to(profile).parts[0], 9), path


@pytest.mark.slow
def test_no_notebook_shows_an_output_widget_which_can_hang_a_run(profile: Path) -> None:
    texts = {path.parent.name: path.read_text() for path in profile.rglob("notebook.ipynb")}

    assert "DropdownModel" in texts["loss_weights"]
    assert not [name for name, text in texts.items() if "OutputModel" in text]


def lasting(folder: Path) -> dict[str, object]:
    """The files of a run by name, with the content of those that time does not change."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            steady = path.suffix in (".csv", ".safetensors") and "speed" not in folder.name
            found[str(path.relative_to(folder))] = path.read_bytes() if steady else None
    found["config"] = json.loads((folder / "run.json").read_text())["config"]
    return found


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelManager]:
    """One kernel for all notebooks: what they import, it imports once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        manager, client = start_new_kernel(kernel_name="python3", cwd=str(notebooks.NOTEBOOKS))
    client.stop_channels()
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in notebooks.NOTEBOOKS.glob("*.ipynb")))
def test_a_notebook_whose_cells_are_run_again_leaves_the_same_run(
    name: str, profile: Path, puppets: Path, kernel: KernelManager, tmp_path: Path
) -> None:
    values = jobs_of(profile, puppets, tmp_path)[name]
    path = notebooks.NOTEBOOKS / f"{name}.ipynb"
    notebook = parameterize_notebook(load_notebook_node(str(path)), values)
    notebook.cells.append(nbformat.v4.new_code_cell("%reset -f"))  # for the next notebook
    *cells, reset = [(cell, i) for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    client = NotebookClient(notebook, km=kernel)
    output = Path(str(values["output"]))

    with client.setup_kernel():
        for cell, index in cells:
            client.execute_cell(cell, index)
        first = lasting(output)
        for cell, index in [*cells, cells[-1]]:  # all of them again, and the last once more
            client.execute_cell(cell, index)
        client.execute_cell(*reset)

    assert lasting(output) == first
    assert not output.with_name(f"{output.name}.partial").exists()


@pytest.mark.slow
def test_2_evaluate_takes_the_images_of_test_dev_which_have_no_annotations(
    trained: Path, puppets: Path, tmp_path: Path
) -> None:
    truth = json.loads((puppets / "annotations/person_keypoints_val2017.json").read_text())
    listing = {name: truth[name] for name in ("info", "licenses", "images")}
    # The list that COCO gives out, whose categories have no keypoints.
    listing["categories"] = [{"id": 1, "name": "person", "supercategory": "person"}]
    (tmp_path / "data/annotations").mkdir(parents=True)
    (tmp_path / "data/annotations/image_info_test-dev2017.json").write_text(json.dumps(listing))
    shutil.copytree(puppets / "val2017", tmp_path / "data/test2017")
    values = jobs_of(tmp_path, puppets, tmp_path)["2_evaluate"]
    values |= {"weights": str(trained / "best.safetensors")}
    values |= {"data": str(tmp_path / "data"), "split": "test-dev2017"}

    notebooks.run(notebooks.NOTEBOOKS / "2_evaluate.ipynb", values)

    run = tmp_path / "evaluate/ours-seed0"
    results = json.loads((run / "keypoints_test-dev2017_results.json").read_text())
    assert {one["image_id"] for one in results} <= {image["id"] for image in listing["images"]}
    numbers = json.loads((run / "metrics.json").read_text())
    assert results and numbers["images"] == len(listing["images"]) and "AP" not in numbers
    assert not list(run.glob("*.png"))  # there is no truth to draw beside
