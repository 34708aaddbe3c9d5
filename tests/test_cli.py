"""The command line: help of every command, mistakes in a line, the way from data to keypoints."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hwl.cli import COMMANDS, GROUPS, main
from hwl.evaluation.config import EvaluateConfig
from hwl.inference.config import DetectConfig, PredictConfig
from hwl.models import create_model
from hwl.runs.command import COMMAND
from hwl.speed.config import DataRateConfig, TrainingRateConfig
from hwl.training.config import TrainConfig

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hwl(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Command:
    """Runs a command line in this process: exit status, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setenv(COMMAND, "")  # main sets it; so that it is put back
        monkeypatch.setattr(sys, "argv", ["hwl", *map(str, arguments)])
        capfd.readouterr()
        status: object = 0
        try:
            main()
        except SystemExit as leaving:
            status = leaving.code or 0
        out, err = capfd.readouterr()
        # Python itself prints a text that a program exits with, and gives status 1.
        return (status, out, err) if isinstance(status, int) else (1, out, f"{err}{status}\n")

    return run


def process(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "hwl", *arguments], capture_output=True, text=True, cwd="/"
    )


def options(config: type) -> list[str]:
    found = []
    for field in dataclasses.fields(config):
        name = field.name.replace("_", "-")
        found.append(f"--no-{name}" if field.type == "bool" else f"--{name} ")
    return found


HELP = {
    "run": ["a notebook file", "-p NAME VALUE, --parameter", "--page"],
    "train": options(TrainConfig),
    "evaluate": options(EvaluateConfig),
    "predict": [
        "images, folders, globs and videos",
        *options(PredictConfig),
    ],
    "detect": options(DetectConfig),
    "export": [
        *("--weights", "--model", "--input-height", "--input-width"),
        *("--calibration-data", "--calibration-split"),
    ],
    "evidence": ["pilot,trace,report", "--runs", "--profile", "--arm"],
    "reproduce": ["a file in profiles/", "--cores"],
    "compare": ["published ones, in results/", "a file in profiles/"],
    "publish": ["as evidence", "a file in profiles/"],
    "bench data": options(DataRateConfig),
    "bench train": options(TrainingRateConfig),
    "data puppets": ["--folder", "--train-images", "--val-images", "--seed"],
    "data coco": ["--folder", "--splits", "--yes", "--keep-zips"],
    "data coco-subset": ["--coco", "--folder"],
    "data check": ["folder in COCO's layout", "(default: train2017 val2017)"],
    "data lsp": ["the unpacked lsp_dataset.zip", "folder for annotations/"],
    "data mpii": ["mpii_train.json", "folder of images", "file to write", "--ground-truth"],
}


def test_the_commands_are_those_whose_options_are_listed_here() -> None:
    grouped = {f"{group} {name}" for group, (commands, _) in GROUPS.items() for name in commands}
    commands = (COMMANDS.keys() - GROUPS.keys()) | grouped

    assert commands == HELP.keys()


@pytest.mark.parametrize("command", HELP)
def test_help_names_every_option(command: str, hwl: Command) -> None:
    status, out, _ = hwl(*command.split(), "--help")

    assert status == 0
    for option in HELP[command]:
        assert option in out


def test_help_lists_the_commands(hwl: Command) -> None:
    groups = [((name,), commands) for name, (commands, _) in GROUPS.items()]
    for arguments, commands in ((), COMMANDS), *groups:
        status, out, _ = hwl(*arguments, "--help")
        assert status == 0 and all(command in out for command in commands)


def test_the_module_is_the_command_line() -> None:
    done = process("--help")

    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("usage: hwl ")


def test_a_mistake_is_one_line_on_standard_error_and_status_1() -> None:
    done = process("run", "4_ablations", "-p", "baselin", "mse")

    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == (
        "hwl: 4_ablations.ipynb has no parameter 'baselin'; did you mean 'baseline'?\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "7_more"), "7_more.ipynb: there is no such notebook"),
        (("run", "7_more", "-p", "a", "1"), "7_more.ipynb: there is no such notebook"),
        (("run", "5_speed", "-p", "rounds", "many"), "'rounds' is 'many', which is no int"),
        (("train", "--output", "a", "--data", "/gone"), "cannot be read (No such file"),
        (
            ("train", "--output", "a", "--data", "b", "--lr", "0"),
            "'lr' is 0.0: it must be a number above 0",
        ),
        (("export", "a.onnx", "--weights", "gone.pth"), "gone.pth: there is no such weights file"),
        (("export", "a.onnx", "--weights", "openmmlab"), "`model` to be one of mobilenetv2, shuff"),
        (
            ("export", "a.onnx", "--weights", "openmmlab", "--model", "ours"),
            "the authors' weights of model 'ours' are not published by OpenMMLab",
        ),
        (("predict", "--weights", "gone.pth"), "predict needs at least one image"),
        (("data", "check", "/gone", "val2017"), "person_keypoints_val2017.json: cannot be read"),
    ],
)
def test_a_users_mistake_is_told_in_one_line(
    arguments: tuple[str, ...],
    message: str,
    hwl: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    status, _, err = hwl(*arguments)

    assert status == 1
    assert err.startswith("hwl: ") and message in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_option_that_is_not_there_is_refused(hwl: Command) -> None:
    status, _, err = hwl("train", "--output", "a", "--data", "b", "--learning-rate", "1")

    assert status == 2 and "--learning-rate" in err


def test_train_evaluate_and_predict_work_on_each_others_files(
    hwl: Command, puppets: Path, tmp_path: Path
) -> None:
    size = ("--input-height", 64, "--input-width", 32)
    small = ("--data", puppets, *size, "--batch-size", 4, "--workers", 0, "--threads", 1)
    weights = tmp_path / "train/best.safetensors"
    image = next((puppets / "val2017").glob("*.jpg"))

    trained = hwl(
        *("train", "--output", tmp_path / "train", *small, "--epochs", 1, "--train-limit", 8),
        *("--val-limit", 2, "--no-augment", "--model-options", '{"head": "lite"}'),
    )
    evaluated = hwl(
        *("evaluate", "--output", tmp_path / "evaluate", *small, "--weights", weights),
        *("--bootstrap", 0, "--limit", 2),
    )
    box = ("--box", 10, 20, 100, 200)
    predicted = hwl(
        *("predict", image, "--weights", weights, *box, *box),
        *("--output", tmp_path / "predict"),
    )

    assert trained[0] == 0 and "epoch   1/1  loss" in trained[1]
    assert evaluated[0] == 0 and "ground-truth boxes, flip test" in evaluated[1]
    assert (tmp_path / "evaluate/metrics.json").is_file()
    assert predicted == (0, f"{tmp_path / 'predict' / image.stem}.png\n", predicted[2])
    drawing = cv2.imread(str(tmp_path / f"predict/{image.stem}.png"))
    assert drawing.shape == cv2.imread(str(image)).shape
    results = json.loads((tmp_path / "predict/keypoints_results.json").read_text())
    assert [len(person["keypoints"]) for person in results] == [51, 51]


def test_evaluate_and_predict_take_a_checkpoint_of_the_model_that_is_named(
    hwl: Command, puppets: Path, tmp_path: Path
) -> None:
    state = create_model("litehrnet18").state_dict()
    torch.save({"state_dict": state}, tmp_path / "theirs.pth")
    named = ("--weights", tmp_path / "theirs.pth", "--model", "litehrnet18")
    size = ("--input-height", 64, "--input-width", 32)
    image = next((puppets / "val2017").glob("*.jpg"))

    evaluated = hwl(
        *("evaluate", "--output", tmp_path / "evaluate", "--data", puppets, *named, *size),
        *("--workers", 0, "--threads", 1, "--bootstrap", 0, "--limit", 2),
    )
    predicted = hwl(
        *("predict", image, *named, *size, "--whole-image", "--output", tmp_path / "predict")
    )

    assert evaluated[0] == 0 and "ground-truth boxes, flip test" in evaluated[1]
    run = json.loads((tmp_path / "evaluate/run.json").read_text())
    assert run["config"]["model"] == "litehrnet18"
    assert predicted[0] == 0 and (tmp_path / "predict/keypoints_results.json").is_file()


def test_evaluating_published_weights_tells_the_published_ap(
    hwl: Command, puppets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(create_model("litehrnet18").state_dict(), tmp_path / "fetched.pth")
    monkeypatch.setattr("hwl.models.published.fetch", lambda *_, **__: tmp_path / "fetched.pth")

    status, out, _ = hwl(
        *("evaluate", "--output", tmp_path / "evaluate", "--data", puppets, "--limit", 2),
        *("--weights", "openmmlab", "--model", "litehrnet18", "--bootstrap", 0),
        *("--input-height", 64, "--input-width", 32, "--workers", 0, "--threads", 1),
    )

    assert status == 0
    assert out.endswith("model zoo: AP 0.642 on COCO val2017, detected boxes, flip test\n")


def test_data_puppets_draws_what_data_check_accepts(hwl: Command, tmp_path: Path) -> None:
    folder = tmp_path / "puppets"

    drawn = hwl(*("data", "puppets", "--folder", folder, "--train-images", 2, "--val-images", 1))
    checked = hwl("data", "check", folder)

    assert drawn[:2] == (0, f"{folder}\n")
    assert checked[0] == 0
    train, train_pairs, val, val_pairs = checked[1].splitlines()
    assert train.startswith("train2017: 2 images, ") and val.startswith("val2017: 1 images, ")
    assert val.endswith("skeleton COCO-17")
    assert train_pairs == val_pairs and "left_eye - right_eye" in val_pairs


@pytest.fixture
def copied(puppets: Path, tmp_path: Path) -> Path:
    return shutil.copytree(puppets, tmp_path / "copied")


def test_data_check_names_a_missing_image(hwl: Command, copied: Path) -> None:
    first, second, _ = sorted((copied / "val2017").glob("*.jpg"))
    first.unlink()
    second.write_bytes(b"no image")

    status, _, err = hwl("data", "check", copied, "val2017")

    assert status == 1 and err.startswith("hwl: 2 of 3 images are wrong:\n")
    assert str(first) in err and str(second) in err and "Traceback" not in err


def test_data_check_names_a_image_of_another_size(hwl: Command, copied: Path) -> None:
    path = sorted((copied / "val2017").glob("*.jpg"))[0]
    height, width = cv2.imread(str(path)).shape[:2]
    cv2.imwrite(str(path), np.zeros((height, width + 2, 3), np.uint8))

    status, _, err = hwl("data", "check", copied, "val2017")

    assert status == 1
    assert f"{path} is {width + 2}x{height} pixels, " in err
    assert f"says {width}x{height}: it is not the image that was annotated" in err


def test_export_writes_the_file_and_prints_its_name(
    trained: Path, tmp_path: Path, hwl: Command
) -> None:
    target = tmp_path / "exported.safetensors"

    status, out, _ = hwl("export", str(target), "--weights", str(trained / "best.safetensors"))

    assert (status, out.strip()) == (0, str(target))
    assert target.exists()


def test_predict_in_a_runtime_that_does_not_exist_is_one_line(
    trained: Path, puppets: Path, tmp_path: Path, hwl: Command
) -> None:
    image = next((puppets / "val2017").iterdir())
    weights = str(trained / "best.safetensors")

    status, _, error = hwl(
        *("predict", str(image), "--weights", weights, "--runtime", "tensorrt"),
        *("--output", str(tmp_path / "drawings")),
    )

    assert status == 1
    assert "hwl: runtime 'tensorrt' is not one of auto, eager" in error
    assert not (tmp_path / "drawings").exists()
