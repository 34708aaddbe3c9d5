"""A folder of puppets tells how it was drawn, and no other folder is taken for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwl.errors import HwlError
from hwl.puppets.config import PuppetConfig
from hwl.puppets.dataset import make_puppets


def test_an_empty_folder_is_filled_and_one_with_something_else_is_refused(tmp_path: Path) -> None:
    config = PuppetConfig(str(tmp_path / "puppets"), train_images=1, val_images=0)
    (tmp_path / "puppets").mkdir()

    make_puppets(config, processes=1)

    assert config.drawn()
    (tmp_path / "puppets/puppets.json").write_text("{}")
    with pytest.raises(HwlError, match="exists but does not hold the puppets"):
        make_puppets(config, processes=1)
