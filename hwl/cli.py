"""The command line `hwl`: run notebooks and the graph, train, evaluate, predict, get data."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

from hwl.cli_data import DATA_COMMANDS
from hwl.errors import HwlError, explained
from hwl.evaluation.config import EvaluateConfig
from hwl.runs.command import COMMAND, in_words
from hwl.training.config import TrainConfig

Inline = tyro.conf.arg(name="")


def run(
    notebook: tyro.conf.Positional[str],
    parameter: Annotated[
        tyro.conf.UseAppendAction[list[tuple[str, str]]],
        tyro.conf.arg(metavar="NAME VALUE", aliases=["-p"]),
    ] = [],  # noqa: B006 - tyro copies it
    page: Path | None = None,
) -> None:
    """Run a notebook with parameters and leave it, executed, in its run's folder.

    Args:
        notebook: a notebook file, or the name of one in notebooks/, such as 1_train.
        parameter: a parameter and its value; lists and dictionaries as JSON. Relative paths start
            at the project's folder, as in the notebook.
        page: write the outputs, without the code, to this HTML page too.
    """
    from hwl.execute import NOTEBOOKS, parse, write_page
    from hwl.execute import run as execute

    path = Path(notebook)
    if path.suffix != ".ipynb":
        path = NOTEBOOKS / f"{notebook}.ipynb"
    values = {name: parse(path, name, text) for name, text in parameter}
    executed = execute(path, values)
    if page is not None:
        write_page(executed, page)
    print(f"executed notebook: {executed}")


def train(config: Annotated[TrainConfig, Inline]) -> None:
    """Train a model; run again after a kill, it goes on where it was."""
    from hwl.training.fit import fit

    fit(config)


def evaluate(config: Annotated[EvaluateConfig, Inline]) -> None:
    """Evaluate a weights file, by every protocol that the given boxes allow."""
    from hwl.evaluation.evaluate import evaluate_weights, write_evaluation
    from hwl.models.published import OPENMMLAB, PUBLISHED
    from hwl.runs.folder import new_run

    with new_run(config) as folder:
        annotations, evaluations = evaluate_weights(config)
        write_evaluation(folder, config, annotations, evaluations)
    for evaluation in evaluations:
        print(evaluation.sentence())
        print("  " + "  ".join(f"{name} {v:.3f}" for name, v in evaluation.metrics.items()))
    if config.weights == OPENMMLAB:
        published = PUBLISHED[config.model].ap / 100
        print(f"mmpose's model zoo: AP {published:.3f} on COCO val2017, detected boxes, flip test")


def predict(
    images: tyro.conf.Positional[tuple[Path, ...]],
    weights: str,
    model: str = "",
    box: Annotated[
        tyro.conf.UseAppendAction[list[tuple[float, float, float, float]]],
        tyro.conf.arg(metavar="X Y W H"),
    ] = [],  # noqa: B006 - tyro copies it
    output: Path = Path("predictions"),
    input_height: int = 256,
    input_width: int = 192,
    flip: bool = True,
    runtime: str = "eager",
    calibration_data: str = "",
    calibration_split: str = "train2017",
) -> None:
    """Draw the keypoints of the persons in images.

    Args:
        images: image files.
        weights: weights file of hwl, any checkpoint or URL with --model, or openmmlab.
        model: of create_model, if the weights do not name their model (empty: they do).
        box: a person's box in pixels of the image; without one, the whole image is one person.
        output: folder for the drawings and `keypoints.json`.
        input_height: pixels.
        input_width: pixels.
        flip: use the flip test.
        runtime: of hwl.inference.runtimes, or auto: the fastest of float32 precision here.
        calibration_data: folder in COCO's layout whose persons calibrate an int8 runtime.
        calibration_split: of that folder.
    """
    from hwl.reporting.drawing import predict_and_draw

    if not images:
        raise HwlError("predict needs at least one image file")
    size = (input_height, input_width)
    calibration = (calibration_data, calibration_split)
    for path in predict_and_draw(
        images, weights, box, output, size, flip, model, runtime, calibration
    ):
        print(path)


def export(
    output: tyro.conf.Positional[Path],
    weights: str,
    model: str = "",
    input_height: int = 256,
    input_width: int = 192,
    calibration_data: str = "",
    calibration_split: str = "train2017",
) -> None:
    """Write a trained model for other programs: .onnx, or .safetensors with its configuration.

    Args:
        output: the file; its ending says which kind.
        weights: weights file of hwl, any checkpoint or URL with --model, or openmmlab.
        model: of create_model, if the weights do not name their model (empty: they do).
        input_height: pixels, of an .onnx file.
        input_width: pixels, of an .onnx file.
        calibration_data: folder in COCO's layout whose persons calibrate int8 (empty: float32).
        calibration_split: of that folder.
    """
    from hwl.inference.export import write_model

    size, calibration = (input_height, input_width), (calibration_data, calibration_split)
    write_model(output, weights, model, size, calibration)
    print(output)


def reproduce(profile: tyro.conf.Positional[str] = "embedded", cores: int = 1) -> None:
    """Make what is out of date of a profile in runs/, and compare it with what is published.

    Args:
        profile: the name of a file in profiles/.
        cores: CPU cores that jobs may use together.
    """
    from hwl.runs.graph import reproduce

    reproduce(profile, cores)
    compare(profile)
    print(f"The report: runs/{profile}/index.html")


def compare(profile: tyro.conf.Positional[str] = "embedded") -> None:
    """Compare your runs of a profile, in runs/, with the published ones, in results/.

    Args:
        profile: the name of a file in profiles/.
    """
    from hwl.paths import PUBLISHED, RUNS
    from hwl.reporting.comparison import compare_runs, in_words

    print(in_words(compare_runs(RUNS / profile, PUBLISHED / profile)))


def publish(profile: tyro.conf.Positional[str] = "embedded") -> None:
    """Copy what is to be published of a profile's finished runs to results/, as evidence.

    Args:
        profile: the name of a file in profiles/.
    """
    from hwl.reporting.publishing import publish

    for path in publish(profile):
        print(path)


def data() -> None:
    """Make, fetch, check or convert data: puppets, coco, coco-subset, check, lsp, mpii."""


COMMANDS: dict[str, Callable[..., None]] = {
    "run": run,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "reproduce": reproduce,
    "compare": compare,
    "publish": publish,
    "data": data,
}


def _json_rule(
    info: tyro.constructors.PrimitiveTypeInfo,
) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """Dictionaries are given as JSON."""
    if info.type is not dict:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=lambda words: json.loads(words[0]),
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    )


def main() -> None:
    """Entry point: a user's mistake is one line on standard error and exit status 1.

    An interrupt exits with status 130, a closed pipe with 141, as those of a shell do.
    """
    try:
        _run_command(sys.argv[1:])
        sys.stdout.flush()  # here, where a closed pipe is caught
    except HwlError as error:
        sys.exit(f"hwl: {error}")
    except KeyboardInterrupt:
        logging.disable()  # asyncio would tell of what was under way
        print("hwl: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # such as `hwl data check data/coco | head`
        # Python flushes standard output once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        name = OSError.__name__ if isinstance(error, OSError) else type(error).__name__
        told = explained(name, str(error))
        if told is None:
            raise
        sys.exit(f"hwl: {told}")


def _run_command(arguments: list[str]) -> None:
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise HwlError(f"argument {argument!r} is not UTF-8: rename what it names") from None
    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(_json_rule)
    os.environ[COMMAND] = in_words("hwl", arguments)
    commands, program, what = COMMANDS, "hwl", "Pose estimation with a heatmap-weighting loss."
    if arguments[:1] == ["data"]:
        commands, program, what = DATA_COMMANDS, "hwl data", "Make, fetch, check or convert data."
        arguments = arguments[1:]
    tyro.extras.subcommand_cli_from_dict(
        commands, prog=program, description=what, args=arguments, registry=registry
    )
