"""One word a concept, the field's own: the words that were replaced do not come back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]

# Each with the word to say instead.
REPLACED = {
    r"pictures?": "image",
    r"joints?": "keypoint",
    r"systems?": "model, or method in the paper's tables",
    r"networks?": "model",
    r"regions?": "bounding box, or crop with center and scale",
    r"(un)?labelled": "annotated",
    r"true boxes": "ground-truth boxes",
    r"normalis\w*": "normalize",
    r"colou?rs?(?<!color)(?<!colors)": "color",
    r"cent(re)s?": "center",
    r"in turns": "interleaved",
    r"whole way": "end to end",
    r"rooflines?": "peak matrix-multiply rate",
    r"rewritten": "fused",
    r"learnt( by heart)?": "learned, or overfit",
}
# MPII's and Leeds Sports Pose's own names for their files and fields, and what a computer has.
ALLOWED = re.compile(r"joints\.mat|joints_vis|['\"`]joints['\"`]|file systems?|the network\b")
WORDS = re.compile(r"(?<![a-z])(" + "|".join(REPLACED) + r")(?![a-z])", re.IGNORECASE)


def files() -> Iterator[Path]:
    for pattern in ("hwl/**/*.py", "notebooks/*.ipynb", "profiles/*.*", "docs/*.md", "docs/*.py"):
        yield from PROJECT.glob(pattern)
    yield from (PROJECT / name for name in ("README.md", "Snakefile", "Makefile"))


def lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    return text.splitlines()


def test_no_replaced_word_is_left() -> None:
    found = [
        f"{path.relative_to(PROJECT)}:{number}: {match[0]!r} in {line.strip()[:80]}"
        for path in files()
        for number, line in enumerate(lines(path), start=1)
        for match in WORDS.finditer(ALLOWED.sub("", line))
    ]

    assert found == []


@pytest.mark.parametrize(
    "line", ["a picture", "num_joints", "Networks", "the centre", "colour", "unlabelled"]
)
def test_a_replaced_word_is_found(line: str) -> None:
    assert WORDS.search(line)


@pytest.mark.parametrize("line", ["an image", "center", "color", "adjoint", "colors"])
def test_the_words_to_say_are_let_through(line: str) -> None:
    assert not WORDS.search(line)
