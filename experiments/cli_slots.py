"""Where the trials of a launch run, as the command line says it: its executor and its slots."""

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from experiments.fail import fail

if TYPE_CHECKING:
    from experiments.cluster import Cluster
    from experiments.execute import Executor
    from experiments.packing import Packing


def slots(
    executor: str, workers: int | None, devices: str | None, per_gpu: str | None, words: list[str]
) -> "Callable[[], Executor]":
    """What makes the executor; whatever can't be ends here, with one line."""
    from experiments.cluster import parse
    from experiments.execute import EXECUTORS
    from experiments.yamlfile import nearest

    if executor not in EXECUTORS:
        fail(f"--executor {executor}: {nearest(executor, EXECUTORS)}")
    try:
        cluster = parse(executor, words)
    except ValueError as error:
        fail(f"--cluster {error}")
    if cluster is not None:
        return _on(cluster, executor, workers, devices, per_gpu)
    names = device_names(devices or "cpu")
    if missing := _missing(names):
        fail(f"--devices {missing}: torch sees no such GPU; `shapelex doctor --devices {devices}` says why")
    if executor == "inline" and max(workers or 1, len(names)) > 1:
        fail("--executor inline runs one trial at a time on one device: use local for more")
    count, packing = _counts(workers, names, per_gpu)
    return lambda: EXECUTORS[executor](count, names, packing, None)


def device_names(devices: str) -> list[str]:
    """What --devices says; anything else ends here, with one line."""
    names = [name.strip() for name in devices.split(",")]
    if not all(re.fullmatch(r"cpu|cuda:\d+", name) for name in names):
        fail(f"--devices {devices}: expected cpu, or cuda:0,cuda:1,...")
    return names


def _on(
    cluster: "Cluster", executor: str, workers: int | None, devices: str | None, per_gpu: str | None
) -> "Callable[[], Executor]":
    from importlib.util import find_spec

    from experiments.execute import EXECUTORS

    package = {"ray": "ray", "slurm": "submitit"}[executor]
    if find_spec(package) is None:
        fail(f"--executor {executor} needs {package}: pip install -c constraints.txt -e '.[{executor}]'")
    if devices not in (None, "cpu"):
        fail(f"--devices {devices}: a cluster says itself which GPUs; --cluster gpus=1 asks for one a trial")
    if per_gpu is not None:
        part = " (gpus=0.5: two share one)" if executor == "ray" else ""
        fail(f"--per-gpu {per_gpu} is for GPUs of this machine: --cluster gpus says what a trial gets{part}")
    device = devices or cluster.device
    return lambda: EXECUTORS[executor](workers or 0, [device], None, cluster)


def _missing(devices: list[str]) -> str:
    """Those that torch does not see; only who asks for GPUs pays for the import."""
    if devices == ["cpu"]:
        return ""
    import torch

    count = torch.cuda.device_count()
    return ",".join(name for name in devices if name != "cpu" and int(name.removeprefix("cuda:")) >= count)


def _counts(workers: int | None, devices: list[str], per_gpu: str | None) -> "tuple[int, Packing | None]":
    """How many trials at a time, and who says how many on each device."""
    from experiments.packing import Packing

    if per_gpu is None:
        return workers or len(devices), None
    if "cpu" in devices:
        fail("--per-gpu is for GPUs: name them with --devices cuda:0,cuda:1,...")
    if per_gpu == "auto":
        return workers or os.cpu_count() or 1, Packing(None)
    if not per_gpu.isdecimal() or int(per_gpu) < 1:
        fail(f"--per-gpu {per_gpu}: expected a number from 1, or auto")
    most = int(per_gpu) * len(devices)
    return min(workers or most, most), Packing(int(per_gpu))
