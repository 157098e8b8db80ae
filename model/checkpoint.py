"""A model on disk: a folder with model.safetensors and config.json, neither of which runs code when read."""

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from model.batch import Sizes
from model.config import Frozen, LossConfig, ModelConfig
from model.guided import GuidedVQShape

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT: Literal[1] = 1


class Saved(Frozen):
    """What config.json holds: every argument of GuidedVQShape but the seed, and the format's version."""

    format: Literal[1]
    model: ModelConfig
    losses: LossConfig
    sizes: Sizes
    text_queries: int | None


class Report(NamedTuple):
    """What a file's tensors and a model's have in common, by name.

    missing: the file lacks it. other_shape, other_settings: (name, theirs, ours), the latter where settings
    differ that change what equal shapes mean. unexpected: the model lacks it.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    other_shape: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    unexpected: tuple[str, ...]
    other_settings: tuple[tuple[str, Any, Any], ...] = ()

    @property
    def whole(self) -> bool:
        return not any(self[1:])

    def __str__(self) -> str:
        parts = [f"{len(self.matched)} of {sum(map(len, self[:3]))} tensors match"]
        for what, names in (("missing there", self.missing), ("unexpected", self.unexpected)):
            if names:
                parts.append(f"{what}: {_some(names)}")
        for what, found in (("another shape", self.other_shape), ("other settings", self.other_settings)):
            if found:
                parts.append(f"{what}: {_some([f'{name} (theirs {a}, ours {b})' for name, a, b in found])}")
        return "; ".join(parts)


def _some(names: Any) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def compare(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> Report:
    """Match a file's tensors with a model's by name and shape."""
    both = [name for name in ours if name in theirs]
    shapes = [(name, tuple(theirs[name].shape), tuple(ours[name].shape)) for name in both]
    return Report(
        tuple(name for name, their, our in shapes if their == our),
        tuple(name for name in ours if name not in theirs),
        tuple(shape for shape in shapes if shape[1] != shape[2]),
        tuple(name for name in theirs if name not in ours),
    )


def save_pretrained(model: GuidedVQShape, folder: str | Path) -> None:
    """Write the folder; where config.json is, the folder is whole.

    Everything that `from_pretrained` needs is there: weights and buffers, and what the model is built from.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    _write(folder / WEIGHTS, to_bytes({k: v.contiguous() for k, v in model.state_dict().items()}))
    queries = None if model.text is None else model.text.queries
    config = {
        "format": FORMAT,
        "model": model.config.model_dump(mode="json"),
        "losses": model.weights.model_dump(mode="json"),
        "sizes": model.sizes._asdict(),
        "text_queries": None if queries is None else queries.shape[1],
    }
    _write(folder / CONFIG, (json.dumps(config, indent=1, allow_nan=False) + "\n").encode())


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def from_pretrained(folder: str | Path) -> GuidedVQShape:
    """The model of `save_pretrained`, bit for bit, on the CPU and in evaluation mode.

    Raises FileNotFoundError for a missing file, and ValueError, one line with the file's name, for one that
    can't be read, is of another format, has settings unknown here or tensors that do not fit them.
    """
    path, weights = Path(folder) / CONFIG, Path(folder) / WEIGHTS
    for file in (path, weights):
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} is missing: expected a folder of save_pretrained (a trial's is model/)"
            )
    try:
        saved = _read(json.loads(path.read_bytes()))
        model = GuidedVQShape(saved.model, saved.losses, saved.sizes, saved.text_queries, seed=0)
    except ValidationError as error:
        raise ValueError(f"{path}: {one_line(error)}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    try:
        tensors = load_file(weights)
    except SafetensorError as error:
        raise ValueError(f"{weights} is broken: {error}") from None
    if not (report := compare(tensors, model.state_dict())).whole:
        raise ValueError(f"{weights} does not fit {CONFIG}: {report}")
    model.load_state_dict(tensors)
    return model.eval()


def _read(config: Any) -> Saved:
    found = config.get("format") if isinstance(config, dict) else None
    if found != FORMAT:
        raise ValueError(f"expected format {FORMAT}, found {found!r}")
    for name, kind in (("model", ModelConfig), ("losses", LossConfig)):
        if isinstance(config.get(name), dict):
            config[name] = _complete(kind, config[name], name)
    return Saved.model_validate(config)


def _complete(kind: type[Frozen], given: dict[str, Any], where: str) -> dict[str, Any]:
    """A setting that was added after the file was written takes the value at which it changes nothing, not
    today's default."""
    found = dict(given)
    for name, field in kind.model_fields.items():
        extra, inner = field.json_schema_extra, field.annotation
        if name not in given:
            if not isinstance(extra, dict) or "leaves_at" not in extra:
                raise ValueError(f"{where}.{name} is missing")
            found[name] = extra["leaves_at"]
        elif isinstance(inner, type) and issubclass(inner, Frozen) and isinstance(given[name], dict):
            found[name] = _complete(inner, given[name], f"{where}.{name}")
    return found


def one_line(error: ValidationError) -> str:
    """Every fault of a config, by setting."""
    unknown = "not a setting of this ShapeLex; a newer one may have written it"
    return "; ".join(
        f"{'.'.join(map(str, e['loc']))}: {unknown if e['type'] == 'extra_forbidden' else e['msg']}"
        for e in error.errors()
    )
