"""README, the documentation and the notebooks: what they link within the project is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PAGES = [
    PROJECT / "README.md",
    PROJECT / "results/README.md",
    *sorted((PROJECT / "docs").glob("*.md")),
    *sorted((PROJECT / "notebooks").glob("*.ipynb")),
]
OUTSIDE = re.compile(r"[a-z]+:")  # of the web, which no test asks


def text_of(page: Path) -> str:
    """A page's Markdown without its code."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return re.sub(r"^( *)```.*?^\1```$|`[^`\n]*`", "", text, flags=re.M | re.S)


def links_of(text: str) -> Iterator[str]:
    yield from re.findall(r"\]\(([^()\s]+)\)", text)
    yield from re.findall(r"^\[[^\]]+\]:\s*(\S+)", text, flags=re.M)


def anchors_of(text: str) -> set[str]:
    """The names that GitHub and MyST give a page's headings."""
    headings = re.findall(r"^#{1,6} +(.+?) *$", text, flags=re.M)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


def broken_links(page: Path) -> list[str]:
    """What a page links and is not there: a file, a folder or a heading."""
    broken = []
    for link in links_of(text_of(page)):
        if OUTSIDE.match(link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors_of(text_of(target))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_a_page_links_what_is_there(page: Path) -> None:
    assert broken_links(page) == []


def test_every_page_of_the_guide_and_every_notebook_is_in_the_sites_contents() -> None:
    index = (PROJECT / "docs/index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^([\w/-]+)$", index, flags=re.M)

    pages = {page.stem for page in (PROJECT / "docs").glob("*.md")} - {"index"}
    pages |= {f"notebooks/{page.stem}" for page in (PROJECT / "notebooks").glob("*.ipynb")}
    assert pages <= set(listed)


def test_a_missing_file_and_a_missing_heading_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# One & two\n\n[a](b.md) [b](#one--two) [c](#three) [d](a.md)")

    assert broken_links(tmp_path / "a.md") == ["b.md", "#three"]
