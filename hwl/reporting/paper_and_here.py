"""The paper and here: every table, figure and claim of the paper, its number, ours, a verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from hwl.paper import CLAIMS, COCO_VAL, SPEED
from hwl.paper import Claim as PaperClaim
from hwl.reporting.claims import eager_on_one_thread
from hwl.speed.counting import counting_table
from hwl.studies.evidence import sentence

SUPPORTED, CONTRADICTED, NOT_HERE = "supported", "contradicted", "cannot be tested here"
NOT_MADE = "not made yet"
ON_COCO = "make reproduce PROFILE=paper"
EVIDENCE = "make reproduce PROFILE=evidence"


@dataclass(frozen=True)
class Claim:
    """One row of the page.

    Attributes:
        where: in the paper.
        claim: in words.
        paper: its number.
        here: ours, with its conditions.
        verdict: supported, contradicted, within noise or cannot be tested here.
        command: that makes our number or, where it cannot be made here, that would.
    """

    where: str
    claim: str
    paper: str
    here: str
    verdict: str
    command: str


def paper_and_here(comparisons: pd.DataFrame, published: Path) -> pd.DataFrame:
    """All claims, one row each, with the columns of `Claim`.

    Args:
        comparisons: of `hwl.studies.evidence.comparisons`; may be empty.
        published: the folder of published results, for the speed.
    """
    claims = [
        *_accuracies(),
        *_loss(comparisons),
        *_attention_and_head(comparisons),
        *_counts(),
        *_speeds(published),
    ]
    return pd.DataFrame([asdict(claim) for claim in claims])


def _accuracies() -> Iterator[Claim]:
    for row in COCO_VAL.itertuples():
        number = f"AP {row.AP}, AP50 {row.AP50}, AP75 {row.AP75}, AR {row.AR}"
        claim = f"accuracy on COCO val2017, detected boxes, flip test, {row.input}"
        yield Claim("results on val2017", claim, number, "", NOT_HERE, ON_COCO)
    command = "hwl evaluate --split test-dev2017 --detections ... (docs/coco.md)"
    yield Claim("abstract", "accuracy on COCO test-dev2017", "AP 65.3", "", NOT_HERE, command)
    for peer in SPEED[SPEED["model"] != "ours"].itertuples():
        command = f"hwl evaluate --model {peer.model} --weights openmmlab (docs/coco.md)"
        claim = f"accuracy of {peer.model} on COCO val2017, 256x192"
        yield Claim("speed table", claim, f"AP {peer.AP}", "", NOT_HERE, command)


# Which arms test what the paper claims, and what it does not claim.
PAIRS_OF_THE_LOSS = [
    (CLAIMS["loss"], "identity", "zero"),
    (
        PaperClaim("the loss", "where the weights lie matters (placebo; not in the paper)"),
        *("identity", "placebo"),
    ),
    (CLAIMS["double"], "double", "zero"),
    (CLAIMS["square"], "square", "zero"),
    (CLAIMS["exponential"], "exponential", "zero"),
    (
        PaperClaim("the loss", "it beats MSE on Leeds Sports Pose (not in the paper)"),
        *("lsp-identity", "lsp-zero"),
    ),
    (
        PaperClaim("the loss", "it beats MSE on 1,717 COCO images (not in the paper)"),
        "coco-identity",
        "coco-zero",
    ),
]
PAIRS_OF_THE_MODEL = [
    (CLAIMS["attention"], "identity", "attention-none"),
    (CLAIMS["squeeze-excite"], "identity", "attention-squeeze-excite"),
    (CLAIMS["cbam"], "identity", "attention-cbam"),
    (CLAIMS["head"], "identity", "head-dense"),
]
PEERS = [name for name in SPEED["model"] if name != "ours"]


def _loss(comparisons: pd.DataFrame) -> Iterator[Claim]:
    yield Claim(
        "the loss", "it beats MSE on COCO, 210 epochs", "in the paper", "", NOT_HERE, ON_COCO
    )
    for claim, arm, base in PAIRS_OF_THE_LOSS:
        yield _paired(comparisons, claim, arm, base)
    for peer in PEERS:
        claim = PaperClaim("the loss", f"it beats MSE for {peer} too (not in the paper)")
        yield _paired(comparisons, claim, f"{peer}-identity", f"{peer}-zero")


def _attention_and_head(comparisons: pd.DataFrame) -> Iterator[Claim]:
    for claim, arm, base in PAIRS_OF_THE_MODEL:
        yield _paired(comparisons, claim, arm, base)


def _paired(comparisons: pd.DataFrame, claim: PaperClaim, arm: str, base: str) -> Claim:
    """A claim that two arms of the evidence experiment test."""
    found = comparisons
    if len(comparisons):
        found = comparisons[(comparisons["arm"] == arm) & (comparisons["base"] == base)]
    if not len(found):
        return Claim(claim.where, claim.says, claim.number, "", NOT_MADE, EVIDENCE)
    row = next(found.itertuples())
    verdict = row.verdict
    if verdict.startswith("within"):
        verdict = f"within noise: {verdict}"
    here = f"{arm} - {base}: {sentence(row)}"
    verdict = f"{verdict}, on {row.data}"
    return Claim(claim.where, claim.says, claim.number, here, verdict, EVIDENCE)


def _counts() -> Iterator[Claim]:
    small = counting_table(list(SPEED["model"]), (256, 192)).set_index("model")
    large = counting_table(["ours"], (384, 288)).set_index("model")
    command = "hwl run 5_speed"
    yield Claim(
        *("results on val2017", "parameters", f"{COCO_VAL['params_M'].iloc[0]} M"),
        *(f"{small.loc['ours', 'parameters']:,}", SUPPORTED, command),
    )
    cases = [(name, "256x192", row) for name, row in small.iterrows()]
    cases.append(("ours", "384x288", large.loc["ours"]))
    for name, size, row in cases:
        counter = row["follows from"]
        here = f"{row['mmcv count (M)'] / 1000:.2f} by mmcv's counter"
        verdict = SUPPORTED if "mmcv" in counter else "supported, by another counter"
        if counter == "none":
            verdict = CONTRADICTED
        elif "mmcv" not in counter:
            here += f"; the paper's number is that of {counter}"
        paper = f"{row['paper GFLOPs']:.2f}"
        yield Claim("speed table", f"GFLOPs of {name}, {size}", paper, here, verdict, command)


def _speeds(published: Path) -> Iterator[Claim]:
    command = "hwl run 5_speed"
    paper = SPEED.set_index("model")
    for model in SPEED["model"]:
        yield Claim(
            *("speed table, GPU", f"{model} on a GTX 1650 Ti notebook GPU"),
            *(f"{paper.loc[model, 'FPS_GPU']} FPS", "", NOT_HERE, f"{command}, with that GPU"),
        )
    here = dict(eager_on_one_thread(published / "speed").get("FPS", {}))
    for peer in PEERS:
        ratio = paper.loc["ours", "FPS_CPU"] / paper.loc[peer, "FPS_CPU"]
        claim = f"on a CPU ours is {'faster' if ratio > 1 else 'slower'} than {peer}"
        told = f"{ratio:.2f} times as fast, i7-10750H"
        if not {"ours", peer} <= here.keys():
            yield Claim("speed table, CPU", claim, told, "", NOT_MADE, command)
            continue
        ours = here["ours"] / here[peer]
        verdict = SUPPORTED if (ours > 1) == (ratio > 1) else CONTRADICTED
        measured = (
            f"{ours:.2f} times as fast, eager PyTorch, one thread, batch 1, medians over runs"
        )
        yield Claim("speed table, CPU", claim, told, measured, verdict, command)


def as_markdown(table: pd.DataFrame) -> str:
    """The page's table in Markdown."""
    header = (
        "| In the paper | Claim | Paper | Here | Verdict | Command |\n|---|---|---|---|---|---|"
    )
    rows = [
        "| " + " | ".join(str(value).replace("|", "\\|") for value in row) + " |"
        for row in table.itertuples(index=False)
    ]
    return "\n".join([header, *rows])
