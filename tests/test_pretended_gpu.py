"""No job leaves a tensor on the CPU that a GPU needs: each runs on a GPU that is pretended."""

from __future__ import annotations

import json
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


@pytest.mark.slow(12)
@pytest.mark.parametrize("job", JOBS)
def test_a_job_keeps_the_tensors_of_gpu_and_cpu_apart(
    job: str, puppets: Path, tmp_path: Path
) -> None:
    done = run(PROGRAM, job, puppets, tmp_path / "run")

    assert done.returncode == 0, done.stderr[-3000:]


MISTAKES = {
    "torch.ones(3, device='cuda') + torch.ones(3)": "to be on the same device",
    "nn.Linear(3, 1).to('cuda')(torch.ones(3))": "to be on the same device",
    "torch.ones(3)[torch.zeros(3, dtype=torch.long).to('cuda')]": "to be on the same device",
    "torch.ones(3).to('cuda').numpy()": "can't convert cuda:0",
}
# Makes each mistake, and tells what was said to it.
MAKE_MISTAKES = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch
from torch import nn
from pretended_gpu import pretended_gpu

said = {}
with pretended_gpu():
    for mistake in sys.argv[2:]:
        try:
            eval(mistake)
        except (RuntimeError, TypeError) as error:
            said[mistake] = str(error)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def refused() -> dict[str, str]:
    """What the pretended GPU said to each mistake; one process makes them all."""
    done = run("-c", MAKE_MISTAKES, PROGRAM.parent, *MISTAKES)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_pretended_gpu_refuses_what_a_gpu_refuses(
    mistake: str, refused: dict[str, str]
) -> None:
    assert MISTAKES[mistake] in refused[mistake]
