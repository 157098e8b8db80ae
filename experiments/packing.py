"""How many trials a GPU takes at once, from what nvidia-smi says of it and what trials needed so far.

Megabytes are 2^20 bytes, nvidia-smi's and torch's alike. A GPU that nvidia-smi tells nothing of, or a part of
one (MIG), takes one trial.
"""

import os
import subprocess
from collections.abc import Mapping
from statistics import fmean
from typing import NamedTuple

from experiments.machine import number, question

LIMIT_S = 10.0  # nvidia-smi takes a second; beside a GPU that hangs it never returns
MEMORY_FULL = 0.9  # of a GPU's memory
UTILISATION_FULL = 1.05  # sum over trials
CONTEXT_MB = 600.0  # at least what a process's CUDA context takes beside torch's tensors
SAMPLES = 5  # of a trial alone, before others join it
FIELDS = ("index", "uuid", "name", "mig.mode.current", "memory.total", "memory.used", "utilization.gpu")


class Use(NamedTuple):
    """A GPU at a moment, all its processes together. utilisation_frac: of the last second or less, the part
    in which any kernel ran; None where the GPU does not tell."""

    total_mb: float
    used_mb: float
    utilisation_frac: float | None


class Gpu(NamedTuple):
    """A line of nvidia-smi's. use: None where it can't be told, or is that of more than CUDA would name."""

    number: str
    uuid: str
    name: str
    use: Use | None


def sample(device: str) -> Use | None:
    """The GPU that CUDA calls `device` ("cuda:1", "cuda") in this environment; None where nobody tells."""
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return None
    command = question("nvidia-smi", ",".join(FIELDS))
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    gpus = visible(parse(ran.stdout), os.environ)
    place = int(number or 0)
    return gpus[place].use if place < len(gpus) else None


def parse(text: str) -> list[Gpu]:
    """What nvidia-smi prints of FIELDS. It says [N/A], [Not Supported] or [GPU is lost] for what it can't."""
    found = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == len(FIELDS):
            place, uuid, name, mig, *told = fields
            total_mb, used_mb, percent = map(number, told)
            use = None
            if total_mb is not None and used_mb is not None and mig != "Enabled":
                use = Use(total_mb, used_mb, None if percent is None else percent / 100)
            found.append(Gpu(place, uuid, name, use))
    return found


def visible(gpus: list[Gpu], environment: Mapping[str, str]) -> list[Gpu]:
    """Those that CUDA sees, in CUDA's order; empty where that can't be told.

    CUDA_VISIBLE_DEVICES holds numbers or beginnings of UUIDs, and ends at the first that names no GPU. Unless
    CUDA_DEVICE_ORDER is PCI_BUS_ID, as nvidia-smi counts, CUDA counts unlike GPUs from the fastest on.
    """
    same_order = environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len({gpu.name for gpu in gpus}) == 1
    names = environment.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        return gpus if same_order else []
    found: list[Gpu] = []
    for name in (part.strip() for part in names.split(",")):
        by_number = name.isdecimal()
        if by_number and not same_order:
            return []
        named = [
            g for g in gpus if (g.number == str(int(name)) if by_number else name and g.uuid.startswith(name))
        ]
        if len(named) != 1:
            break
        found += named
    return found


class Packing:
    """What was seen of each GPU while trials ran on it, and so how many fit. fixed: that many, whatever is
    seen (None: as many as fit)."""

    def __init__(self, fixed: int | None) -> None:
        self.fixed = fixed
        self.before: dict[str, Use] = {}  # without a trial of ours
        self.last: dict[str, tuple[int, Use]] = {}
        self.most: dict[str, int] = {}
        self.alone_mb: list[float] = []
        self.alone_frac: list[float] = []
        self.context_mb: float | None = None

    def seen(self, device: str, running: int, use: Use) -> None:
        """`use` of the device while so many trials of ours ran there."""
        self.last[device] = (running, use)
        before = self.before.get(device, Use(use.total_mb, 0.0, 0.0))
        if running == 0:
            self.before[device] = use
        elif running == 1 and use.used_mb > before.used_mb:  # else it has not come to the GPU yet
            self.alone_mb.append(use.used_mb - before.used_mb)
            if use.utilisation_frac is not None:
                self.alone_frac.append(max(0.0, use.utilisation_frac - (before.utilisation_frac or 0.0)))

    def ran_out(self, device: str, running: int) -> None:
        """A trial ran out of memory there, one of so many: from now on they are fewer."""
        self.most[device] = max(1, min(running, self.most.get(device, running)) - 1)

    def slots(self, device: str, peak_mb: float | None) -> int:
        """How many trials the device takes at once, at least 1. peak_mb: the largest of any trial so far, as
        torch counts (`cost.peak_gpu_memory_mb`); None before one ended."""
        if self.fixed is not None:
            return self.fixed
        if peak_mb is None or device not in self.last or len(self.alone_mb) < SAMPLES:
            return 1
        if self.context_mb is None:  # only now is the peak that of the trial which was seen alone
            self.context_mb = max(CONTEXT_MB, max(self.alone_mb) - peak_mb)
        trial_mb, (running, use) = peak_mb + self.context_mb, self.last[device]
        before = self.before.get(device, Use(use.total_mb, 0.0, 0.0))
        # Others': what was there before, as far as it still is, and what our trials do not explain.
        others_mb = max(min(before.used_mb, use.used_mb), use.used_mb - running * trial_mb)
        found = (use.total_mb * MEMORY_FULL - others_mb) // trial_mb
        share = fmean(self.alone_frac) if self.alone_frac else 0.0
        if share > 0:
            found = min(found, (UTILISATION_FULL - (before.utilisation_frac or 0.0)) // share)
        return max(1, int(min(found, self.most.get(device, found))))

    def free(self, running: Mapping[str, int], peak_mb: float | None) -> list[str]:
        """A name for each trial that may start now, emptiest devices first. running: ours on each device."""
        places = [
            (place, device)
            for device, busy in running.items()
            for place in range(busy, self.slots(device, peak_mb))
        ]
        return [device for _, device in sorted(places, key=lambda pair: pair[0])]
