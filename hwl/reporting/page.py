"""A page to read on a desk or a phone: a notebook without its code."""

from __future__ import annotations

import html
import re
from pathlib import Path

from nbconvert import HTMLExporter
from nbformat import NotebookNode

from hwl.files import write_text
from hwl.reporting.formulas import Formulas

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 "Segoe UI", Roboto, sans-serif; color: #222;
       background: #fff; margin: 0; }
main { max-width: 62rem; margin: 0 auto; padding: 1rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; }
h2 { font-size: 1.3rem; margin-top: 2.4rem; padding-bottom: .25rem; border-bottom: 1px solid #ddd; }
h1, h2, h3 { overflow-wrap: anywhere; }
p, li { max-width: 46rem; }
a { color: #0b5cad; }
img, svg { max-width: 100%; height: auto; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th { text-align: left; border-bottom: 2px solid #999; vertical-align: bottom; }
th, td { padding: .3rem .7rem .3rem 0; }
td { border-bottom: 1px solid #e5e5e5; vertical-align: top; }
caption { caption-side: bottom; text-align: left; color: #555; padding-top: .4rem; }
.good { color: #00714f; font-weight: 600; }
.bad { color: #a63c00; font-weight: 600; }
.open { color: #555; }
pre { overflow-x: auto; white-space: pre-wrap; font-size: .86rem; }
@media (max-width: 40rem) {
  main { padding: .5rem .75rem 3rem; }
  h1 { font-size: 1.35rem; }
  table { font-size: .8rem; }
  .wide img { max-width: none; width: 42rem; }
  table.claims, table.claims tbody, table.claims tr, table.claims td { display: block; }
  table.claims thead { display: none; }
  table.claims tr { border-bottom: 2px solid #bbb; padding: .5rem 0; }
  table.claims td { border: 0; padding: .1rem 0; }
  table.claims td::before { content: attr(data-label) ": "; color: #555; }
  table.claims td:first-child { font-weight: 600; }
  table.claims td:first-child::before { content: ""; }
}
"""


def write_page(notebook: NotebookNode, page: Path) -> None:
    """Write a notebook as one HTML page: its texts and outputs, no code, no prompts.

    The page needs no script and no file but those that it links.

    Args:
        notebook: executed; its first heading becomes the page's title.
        page: the HTML file.
    """
    exporter = HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
        preprocessors=[Formulas],
    )
    body, _ = exporter.from_notebook_node(notebook)
    # Tables and figures wider than a phone scroll by themselves, not with the page.
    body = re.sub(
        r"(<table.*?</table>|<img[^>]*>)", r'<div class="wide">\1</div>', body, flags=re.S
    )
    heading = re.search(r"<h1[^>]*>(.*?)</h1>", body, flags=re.S)
    title = html.escape(re.sub(r"<[^>]+>", "", heading[1]).strip()) if heading else page.stem
    text = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )
    write_text(page, text)
