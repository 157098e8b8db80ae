"""Every benchmark at its smallest: both sides run, agree as it demands, and it prints how they compare."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SMALLEST = {  # a benchmark's quickest options, and what its last line then says
    "train_step": ("--small --batch 4 --steps 1", "tokenize ratio"),
    "loop": ("--tiny --epochs 1 --repeats 1", "ms a step"),
    "probe": ("--repeats 1", "same choice"),
    "loading": ("--windows 3000 --skip-texts", "ratio"),
    "chaos": ("--faults 1 --seeds 1", "survived"),
    "planning": ("--cells 100 --repeats 1", "half failed"),
    "recompute": ("--small --batch 4 --steps 1", "times less memory"),
    "tables": ("--cells 400", "ratio"),
    "scale": ("--cells 100 --running 10", "GPUs that trials"),
    "overhead": ("--noops 20 --epochs 5 --trials 1 --workers 1", "ratio"),
}


def test_that_every_benchmark_is_run_here() -> None:
    assert {file.stem for file in (ROOT / "benchmarks").glob("*.py")} == set(SMALLEST)


@pytest.mark.parametrize("name", SMALLEST)
def test_that_a_benchmark_compares_its_sides(name: str) -> None:
    options, last = SMALLEST[name]
    ran = subprocess.run(
        [sys.executable, str(ROOT / f"benchmarks/{name}.py"), *options.split()],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert ran.returncode == 0, ran.stderr
    assert last in ran.stdout.splitlines()[-1]
