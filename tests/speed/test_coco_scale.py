"""What reads files of COCO's size, told task by task; on a thousandth of them here."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.context import BaseContext

import pytest

from hwl.speed.coco_scale import coco_scale


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs Linux")
def test_each_task_tells_its_seconds_and_its_peak_memory(
    forkserver: BaseContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its fresh processes would import everything anew, one after the other.
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: forkserver)

    table = coco_scale(factor=1000).set_index("task")

    assert (table["seconds"] > 0).all() and (table["peak MiB"] > 100).all()
    assert table.loc["load train2017's annotations", "also"] == "persons 262, images 118"
    assert "a worker's own MiB" in table.loc["first batch of 64, 2 workers", "also"]
    evaluated = table.loc["evaluate detected boxes, bootstrap 200", "also"]
    assert evaluated.startswith("boxes 104, results MB ")
