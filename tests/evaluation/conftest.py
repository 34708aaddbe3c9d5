"""The small data set that this folder's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwl.data.annotations import Annotations, load_split

from .drawn_data import write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "lsp")


@pytest.fixture(scope="module")
def annotations(data: Path) -> Annotations:
    return load_split(data, "val")
