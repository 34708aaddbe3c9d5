"""The rows that the scripts of this folder measure, each written when it is there."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import TextIO


def write_row(file: TextIO, row: Mapping[str, object]) -> None:
    """Add a row to a CSV, after a header where it is the first; a kill leaves what was written."""
    writer = csv.DictWriter(file, row)
    if file.tell() == 0:
        writer.writeheader()
    writer.writerow(row)
    file.flush()
