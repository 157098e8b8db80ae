"""Weights on disk: safetensors, nothing that runs code when it is read."""

import os
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn


def save(model: nn.Module, path: Path) -> None:
    """Atomic: written beside `path`, then renamed."""
    temporary = path.with_suffix(".tmp")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, temporary)
    os.replace(temporary, path)


def load(model: nn.Module, path: Path) -> None:
    """Into a model of the same config. Raises RuntimeError naming what is missing or of another shape."""
    model.load_state_dict(load_file(path), strict=True)
