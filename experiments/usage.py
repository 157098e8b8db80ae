"""What a trial's process uses of its machine, epoch by epoch: `system.jsonl`, which no result depends on."""

import json
from pathlib import Path
from typing import Any

import psutil
import torch

NAME = "system.jsonl"


class Usage:
    """Adds a line an epoch to the file in `folder`; of an epoch that is there twice the last line counts."""

    def __init__(self, folder: Path, goes_on: bool) -> None:
        self.path, self.process = folder / NAME, psutil.Process()
        self.process.cpu_percent()  # counted from here
        if not goes_on:
            self.path.unlink(missing_ok=True)

    def log(self, epoch: int) -> None:
        memory = self.process.memory_info().rss / 2**20
        found: dict[str, Any] = {"cpu_percent": self.process.cpu_percent(), "memory_mb": memory}
        found["machine_memory_percent"] = psutil.virtual_memory().percent
        if torch.cuda.is_initialized():
            found["gpu_memory_mb"] = torch.cuda.memory_reserved() / 2**20
        with self.path.open("a") as file:
            file.write(json.dumps({"epoch": epoch, **found}) + "\n")
