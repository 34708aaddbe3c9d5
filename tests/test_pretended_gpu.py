"""No job leaves a tensor on the CPU that a GPU needs: each runs on a GPU that is pretended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .pretended_gpu import JOBS

PROGRAM = Path(__file__).with_name("pretended_gpu.py")


def run(*command: object) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, env=environment
    )


@pytest.mark.slow(15)
@pytest.mark.parametrize("job", JOBS)
def test_a_job_keeps_the_tensors_of_gpu_and_cpu_apart(
    job: str, puppets: Path, tmp_path: Path
) -> None:
    done = run(PROGRAM, job, puppets, tmp_path / "run")

    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("torch.ones(3, device='cuda') + torch.ones(3)", "to be on the same device"),
        ("nn.Linear(3, 1).to('cuda')(torch.ones(3))", "to be on the same device"),
        ("torch.ones(3)[torch.zeros(3, dtype=torch.long).to('cuda')]", "to be on the same device"),
        ("torch.ones(3).to('cuda').numpy()", "can't convert cuda:0"),
    ],
)
def test_the_pretended_gpu_refuses_what_a_gpu_refuses(mistake: str, message: str) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(PROGRAM.parent)!r})\n"
        "import torch; from torch import nn; from pretended_gpu import pretended_gpu\n"
        f"with pretended_gpu(): {mistake}"
    )

    done = run("-c", code)

    assert done.returncode == 1 and message in done.stderr
