"""What bit-equality is promised for: versions, machine type, threads, device, code."""

import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from experiments.execute import Job

PINNED = (  # beside torch, what numbers hang on
    "aeon", "lightning", "numpy", "scikit-learn", "scipy", "transformers", "vector-quantize-pytorch",
)  # fmt: skip


@cache
def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # a machine that trains needs neither data sets nor every quantizer
        return None


VERSIONS = {name: _version(name) for name in PINNED}  # read once for all trials that are forked from here


def environment(job: Job) -> dict[str, Any]:
    """What bit-equality is promised for: versions, machine type, threads, device, code."""
    device, number = job.device, torch.device(job.device).index
    if number is not None and number < torch.cuda.device_count():
        device = torch.cuda.get_device_name(number)
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **VERSIONS,
        "platform": f"{sys.platform}-{platform.machine()}",
        "cpu": _cpu(),
        "device": device,
        "code": job.code,
        **(job.origin or {}),
    }
