"""What this machine's processors and GPUs are doing."""

import os
import shutil
import subprocess
from typing import NamedTuple

QUERY = "index,name,driver_version,utilization.gpu,memory.used,memory.total"
GPU_EVERY_S = 10.0


class Gpu(NamedTuple):
    """One line of nvidia-smi. busy_percent and memory are None where it doesn't say (a part of a MIG)."""

    number: int
    name: str
    driver: str
    busy_percent: float | None
    used_mib: float | None
    total_mib: float | None


def parse(text: str) -> list[Gpu]:
    """nvidia-smi's CSV of `QUERY`."""
    out = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 6 and parts[0].isdecimal():
            out.append(Gpu(int(parts[0]), parts[1], parts[2], *map(number, parts[3:])))
    return out


def question(tool: str, fields: str) -> list[str]:
    """The command that asks nvidia-smi for a line a GPU."""
    return [tool, f"--query-gpu={fields}", "--format=csv,noheader,nounits"]


def number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def cpus() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Load:
    """Asks nvidia-smi now and then, and never waits for it: with a sick driver it hangs."""

    def __init__(self) -> None:
        self.tool = shutil.which("nvidia-smi")
        self.asked: subprocess.Popen[str] | None = None
        self.gpus: list[Gpu] = []
        self.due = 0.0

    def look(self, now: float) -> None:
        """Take the answer where it has come, ask again where it is time. now: seconds of any steady clock."""
        if self.asked is not None and self.asked.poll() is not None:
            self.gpus, self.asked = parse(self.asked.communicate()[0]), None
        if self.tool and self.asked is None and now >= self.due:
            self.due = now + GPU_EVERY_S
            self.asked = subprocess.Popen(
                question(self.tool, QUERY),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )

    def wait(self, timeout_s: float) -> None:
        """Give an answer that was asked for that long to come."""
        if self.asked is not None:
            try:
                self.asked.wait(timeout_s)
            except subprocess.TimeoutExpired:
                return
            self.look(0.0)

    def close(self) -> None:
        if self.asked is not None:
            self.asked.kill()
            self.asked.communicate()
            self.asked = None

    def line(self) -> str:
        """The last minute's load of this machine, and its GPUs as last heard of."""
        load = os.getloadavg()[0]
        return "   ".join([f"load {load:.1f} on {cpus()} CPUs", *_shown(self.gpus)])


def _shown(gpus: list[Gpu]) -> list[str]:
    """A GPU each, or their sum where a line of 80 has no room for each."""
    memory = [(gpu.used_mib / 1024, gpu.total_mib / 1024) for gpu in gpus if gpu.used_mib and gpu.total_mib]
    busy = [gpu.busy_percent for gpu in gpus if gpu.busy_percent is not None]
    if len(gpus) > 2:
        mean = f"{sum(busy) / len(busy):.0f} % busy, " if busy else ""
        used, total = (sum(part) for part in zip(*memory, strict=True)) if memory else (0.0, 0.0)
        return [f"{len(gpus)} GPUs {mean}{used:.0f} of {total:.0f} GiB"]
    out = []
    for gpu in gpus:
        percent = "" if gpu.busy_percent is None else f" {gpu.busy_percent:.0f} %"
        known = gpu.used_mib is not None and gpu.total_mib is not None
        amount = f" {(gpu.used_mib or 0) / 1024:.0f}/{(gpu.total_mib or 0) / 1024:.0f} GiB" if known else ""
        out.append(f"GPU {gpu.number}{percent}{amount}")
    return out
