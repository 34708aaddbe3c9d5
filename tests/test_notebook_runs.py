"""The six notebooks on a few puppets: what they show, and leave when their cells are run again."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import nbformat
import numpy as np
import pytest
from jupyter_client.manager import KernelManager, start_new_kernel
from nbclient import NotebookClient
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from hwl import cli
from hwl import execute as notebooks
from hwl.evaluation.config import EvaluateConfig
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
    speed |= {"batches": [1], "rounds": 1, "images": 1}
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
def profile(puppets: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a profile's runs: a training, and its evaluation with drawn poses."""
    runs = tmp_path_factory.mktemp("profile")
    shutil.copytree(trained, runs / "train/ours-seed0")
    values = jobs_of(runs, puppets, runs)["2_evaluate"]
    cli.evaluate(EvaluateConfig(**values, split="val2017", workers=0))
    (runs / "evaluate/ours-seed0/images").mkdir()
    cv2.imwrite(str(runs / "evaluate/ours-seed0/images/1.png"), np.zeros((9, 9, 3)))
    return runs


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
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the notebooks are run from."""
    return tmp_path_factory.mktemp("elsewhere")


# Cells that the notebooks do not have. A matrix product of the peak rate takes a second.
SMALL_PEAK = "from hwl.speed import peak; peak.MATRIX = dict.fromkeys(peak.MATRIX, 256)"
FIGURES_UNSEEN = "%config InlineBackend.figure_formats = []"
FIGURES_SEEN = "%config InlineBackend.figure_formats = ['png']"


@pytest.fixture(scope="module")
def kernel(elsewhere: Path) -> Iterator[KernelManager]:
    """One kernel for all notebooks: what they import, it imports once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        manager, client = start_new_kernel(kernel_name="python3", cwd=str(elsewhere))
    assert client.execute(SMALL_PEAK, reply=True)["content"]["status"] == "ok"
    client.stop_channels()
    yield manager
    manager.shutdown_kernel(now=True)


@dataclass(frozen=True)
class Executed:
    """A notebook whose cells were run, and what it left then and when they were run again."""

    name: str
    notebook: nbformat.NotebookNode  # as the cells' first run left it
    output: Path
    first: dict[str, object]
    again: dict[str, object]
    widgets: frozenset[str]  # their kinds


@pytest.fixture(
    scope="module", params=sorted(path.stem for path in notebooks.NOTEBOOKS.glob("*.ipynb"))
)
def executed(
    request: pytest.FixtureRequest,
    profile: Path,
    puppets: Path,
    kernel: KernelManager,
    tmp_path_factory: pytest.TempPathFactory,
) -> Executed:
    """Each of the six notebooks: all cells, all of them again, and the last once more.

    The second time figures are saved, and not shown.
    """
    name = request.param
    values = jobs_of(profile, puppets, tmp_path_factory.mktemp(name))[name]
    client, cells, unseen, end = opened(name, values, kernel)
    output = Path(str(values["output"]))
    with client.setup_kernel():
        for cell, index in cells:
            client.execute_cell(cell, index)
        shown, first = copy.deepcopy(client.nb), lasting(output)
        for cell, index in [unseen, *cells, cells[-1], end]:
            client.execute_cell(cell, index)
    widgets = frozenset(str(state.get("_model_name")) for state in client.widget_state.values())
    return Executed(name, shown, output, first, lasting(output), widgets)


Cell = tuple[nbformat.NotebookNode, int]


def opened(
    name: str, values: dict[str, object], kernel: KernelManager
) -> tuple[NotebookClient, list[Cell], Cell, Cell]:
    """A notebook in the warm kernel.

    Returns:
        Its client, its cells, one after which no figures are shown, and one to end with.
    """
    path = notebooks.NOTEBOOKS / f"{name}.ipynb"
    notebook = parameterize_notebook(load_notebook_node(str(path)), values)
    for source in (FIGURES_UNSEEN, f"{FIGURES_SEEN}\n%reset -f"):
        notebook.cells.append(nbformat.v4.new_code_cell(source))
    code = [(cell, i) for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    *cells, unseen, end = code
    return NotebookClient(notebook, km=kernel), cells, unseen, end


def outputs_of(executed: Executed) -> list[tuple[nbformat.NotebookNode, bool]]:
    """What the cells show, and whether it is images of the data, which are taken out."""
    return [
        (output, notebooks.IMAGES_TAG in cell.metadata.get("tags", []))
        for cell in executed.notebook.cells
        for output in cell.get("outputs", [])
    ]


@pytest.mark.slow(12)
def test_cells_that_are_run_again_leave_the_same_run(executed: Executed, elsewhere: Path) -> None:
    assert executed.again == executed.first
    assert list(executed.output.parent.glob("*.partial")) == []
    assert list(elsewhere.iterdir()) == []


def test_a_notebook_leaves_its_run(executed: Executed) -> None:
    machine = hardware_slug()
    files = {
        "1_train": "best.safetensors history.csv curves.svg metrics.json",
        "2_evaluate": "protocols.csv keypoints.csv keypoint_errors.png metrics.json "
        "keypoints_val2017_results.json",
        "3_loss_weights": "gradient_shares.csv weight_functions.svg metrics.json",
        "4_ablations": "runs.csv comparison.csv ablations.png metrics.json",
        "5_speed": "counting-64x32.csv speed_heatmap.svg accuracy_over_speed.svg end_to_end.svg "
        f"metrics.json latencies-64x32-{machine}.csv peak_rate-64x32-{machine}.csv "
        f"agreement-64x32-{machine}.csv end_to_end-64x32-{machine}.csv",
        "6_report": "evaluations.csv",
    }
    for name in ["run.json", *files[executed.name].split()]:
        assert (executed.output / name).stat().st_size > 0


def test_a_notebook_shows_no_error_and_no_warning(executed: Executed) -> None:
    for output, _ in outputs_of(executed):
        assert output.output_type != "error" and output.get("name") != "stderr", output
        assert not re.search("Warning|IProgress", str(output)), output


def test_a_notebook_embeds_figures_and_no_image_of_the_data(executed: Executed) -> None:
    # That of the report has poses of puppets, which may be passed on.
    figures = {"1_train": 2, "2_evaluate": 3, "3_loss_weights": 5, "4_ablations": 1, "5_speed": 5}
    figures |= {"6_report": 1}
    shown = "".join(str(output) for output, taken_out in outputs_of(executed) if not taken_out)

    start_of_a_png = shown.count("iVBORw0KGgo")
    assert start_of_a_png == figures[executed.name]


def test_no_notebook_shows_an_output_widget_which_can_hang_a_run(executed: Executed) -> None:
    assert ("DropdownModel" in executed.widgets) == (executed.name == "3_loss_weights")
    assert "OutputModel" not in executed.widgets


@pytest.mark.slow
def test_2_evaluate_takes_the_images_of_test_dev_which_have_no_annotations(
    trained: Path, puppets: Path, kernel: KernelManager, tmp_path: Path
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

    client, cells, _, end = opened("2_evaluate", values, kernel)
    with client.setup_kernel():
        for cell, index in [*cells, end]:
            client.execute_cell(cell, index)

    run = tmp_path / "evaluate/ours-seed0"
    results = json.loads((run / "keypoints_test-dev2017_results.json").read_text())
    assert {one["image_id"] for one in results} <= {image["id"] for image in listing["images"]}
    numbers = json.loads((run / "metrics.json").read_text())
    assert results and numbers["images"] == len(listing["images"]) and "AP" not in numbers
    assert not list(run.glob("*.png"))  # there is no truth to draw beside
