"""Files that are there whole or not at all."""

import os
from pathlib import Path


def text(path: Path, content: str) -> None:
    """Write `content` beside `path`, then rename; makes the folder. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    partial.write_text(content, encoding="utf-8", newline="\n")
    os.replace(partial, path)
