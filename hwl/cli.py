"""The command line `hwl`: run notebooks and the graph, train, evaluate, predict, get data."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro

from hwl.cli_bench import BENCH_COMMANDS
from hwl.cli_data import DATA_COMMANDS
from hwl.errors import HwlError, explained
from hwl.evaluation.config import EvaluateConfig
from hwl.inference.config import DetectConfig, PredictConfig, PredictorConfig
from hwl.runs.command import COMMAND, in_words
from hwl.studies.config import EvidenceConfig
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
    from hwl.execute import NOTEBOOKS, parse
    from hwl.execute import run as execute
    from hwl.paths import PROJECT
    from hwl.runs.gpus import own_gpus

    path = Path(notebook)
    if path.suffix != ".ipynb":
        path = NOTEBOOKS / f"{notebook}.ipynb"
    values = {name: parse(path, name, text) for name, text in parameter}
    with own_gpus(PROJECT / ".snakemake"):
        executed = execute(path, values)
    if page is not None:
        import nbformat

        from hwl.reporting.page import write_page

        write_page(nbformat.read(executed, as_version=4), page)
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
    images: tyro.conf.Positional[tuple[str, ...]],
    config: Annotated[PredictConfig, Inline, tyro.conf.UseAppendAction],
) -> None:
    """Draw the keypoints of the persons in images, folders, globs and videos.

    Args:
        images: image files, folders, globs and videos.
    """
    from hwl.inference.predict import predict_files

    for path in predict_files(images, config):
        print(path)


def detect(config: Annotated[DetectConfig, Inline]) -> None:
    """Find the persons of a split and write them as a detections file for evaluate."""
    from hwl.inference.detection import detect_split

    print(detect_split(config))


def export(
    output: tyro.conf.Positional[Path],
    weights: str,
    config: Annotated[PredictorConfig, Inline],
) -> None:
    """Write a trained model for other programs: .onnx, or .safetensors, which describes itself.

    Args:
        output: the file; its ending says which kind.
        weights: weights file of hwl, any checkpoint or URL with --model, or openmmlab.
    """
    from hwl.inference.load import write_model

    write_model(output, weights, config)
    print(output)


def reproduce(
    profile: tyro.conf.Positional[str] = "embedded",
    cores: int = 1,
    executor: Literal["local", "slurm"] = "local",
) -> None:
    """Make what is out of date of a profile in runs/, and compare it with what is published.

    Args:
        profile: the name of a file in profiles/.
        cores: CPU cores of this machine that jobs may use together.
        executor: what runs the jobs: this machine, or the scheduler SLURM.
    """
    from hwl.paths import PUBLISHED
    from hwl.runs.graph import has_own_graph, read_profile, reproduce
    from hwl.studies.profile import check_profile, made_otherwise

    values = read_profile(profile)
    again = [] if has_own_graph(profile) else made_otherwise(check_profile(values))
    reproduce(profile, cores, executor, again)
    if (PUBLISHED / profile).is_dir():
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


def evidence(
    step: tyro.conf.Positional[Literal["pilot", "trace", "report"]],
    config: Annotated[EvidenceConfig, Inline],
) -> None:
    """A step of the evidence experiment: seeds from its pilot, an arm's trace, or the report.

    Args:
        step: which.
        config: where its runs are.
    """
    from hwl.reporting import evidence_report

    if step == "pilot":
        print(f"seeds of the main arms: {evidence_report.write_pilot(config)['seeds']}")
    elif step == "trace":
        evidence_report.write_trace(config)
    else:
        print(evidence_report.write_report(config))


def data() -> None:
    """Make, fetch, check or convert data: puppets, coco, coco-subset, check, lsp, mpii."""


def bench() -> None:
    """Measure how fast this machine feeds and trains a model: data, train."""


COMMANDS: dict[str, Callable[..., None]] = {
    "run": run,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "detect": detect,
    "export": export,
    "evidence": evidence,
    "reproduce": reproduce,
    "compare": compare,
    "publish": publish,
    "data": data,
    "bench": bench,
}
# Commands that have commands of their own.
GROUPS = {
    "data": (DATA_COMMANDS, "Make, fetch, check or convert data."),
    "bench": (BENCH_COMMANDS, "Measure how fast this machine feeds and trains a model."),
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
        try:
            _run_command(sys.argv[1:])
        finally:  # after --help too, which raises SystemExit
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
    if arguments and arguments[0] in GROUPS:
        (commands, what), program = GROUPS[arguments[0]], f"hwl {arguments[0]}"
        arguments = arguments[1:]
    tyro.extras.subcommand_cli_from_dict(
        commands, prog=program, description=what, args=arguments, registry=registry
    )
