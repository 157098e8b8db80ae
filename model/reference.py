"""The reference's Lightning checkpoints (github.com/YunshiWen/VQShape, vqshape/pretrain.py at 24fc507).

They hold the core's tensors under `model.` and the training script's arguments, as an argparse.Namespace or
as the dict that Lightning makes of one.
"""

import argparse
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from model.batch import Sizes
from model.checkpoint import Report, compare, one_line
from model.config import LossConfig, ModelConfig
from model.guided import GuidedVQShape
from model.vqshape import VQShape

MODEL = {  # ours: theirs
    "patches": "num_patch",
    "tokens": "num_token",
    "width": "dim_embedding",
    "heads": "num_transformer_enc_heads",
    "encoder_layers": "num_transformer_enc_layers",
    "tokenizer_layers": "num_tokenizer_layers",
    "decoder_layers": "num_transformer_dec_layers",
    "codes": "num_code",
    "code_width": "dim_code",
    "shape_length": "len_s",
    "smoothing": "s_smooth_factor",
    "mask_frac": "mask_ratio",
    "codebook_weight": "lambda_vq_commit",
    "entropy_weight": "lambda_vq_entropy",
    "entropy_gamma": "entropy_gamma",
}
LOSSES = {"series": "lambda_x", "shape": "lambda_s", "vq": "lambda_z", "spread": "lambda_dist"}
HEADS = ("num_transformer_enc_heads", "num_tokenizer_heads", "num_transformer_dec_heads")
REST = ("normalize_length", "patch_size", "codebook_type")
# Checkpoints from before the tokenizer had settings of its own; the reference fills them in the same way.
LEGACY = {
    "num_tokenizer_heads": "num_transformer_enc_heads",
    "num_tokenizer_layers": "num_transformer_enc_layers",
}


def load_reference(path: str | Path, channels: int) -> GuidedVQShape:
    """A reference model whole, in evaluation mode, on raw windows of that many channels, each its own series.

    It takes windows as long as `model.sizes.length` (the released ones 512: the reference resamples every
    series to that linearly), and is trained to read each by instance normalisation. Nothing in the file but
    tensors, plain values and argparse.Namespace is built, and none of it runs.

    Raises FileNotFoundError, or ValueError, one line with the file's name, for a file that is no such
    checkpoint, holds other classes, or a model that VQShape can't be built as.
    """
    tensors, arguments = _read(path)
    try:
        length, model, losses = _configs(arguments)
        guided = GuidedVQShape(model, losses, Sizes(length, channels, 0, 0), None, seed=0)
    except ValidationError as error:
        raise ValueError(f"{path}: {one_line(error)}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not (report := compare(tensors, guided.core.state_dict())).whole:
        raise ValueError(f"{path}: its tensors do not fit its arguments: {report}")
    guided.core.load_state_dict(tensors)
    return guided.eval()


def load_into(core: VQShape, path: str | Path) -> Report:
    """Copy into `core` what the checkpoint has by the same name in the same shape; the rest stays as it is.

    For a core of another length, width, number of codes or channels: `model.core` of a GuidedVQShape. The
    report also names settings that no shape shows and the weights were not trained for. Raises as
    `load_reference`, and where nothing matches.
    """
    tensors, arguments = _read(path)
    ours = core.state_dict()
    report = compare(tensors, ours)
    if not report.matched:
        raise ValueError(f"{path}: no tensor of it fits; {report}")
    with torch.no_grad():
        for name in report.matched:
            ours[name].copy_(tensors[name])
    differ: list[tuple[str, Any, Any]] = []
    for name in HEADS:
        if arguments.get(name) not in (None, core.config.heads):
            differ.append((name, arguments[name], core.config.heads))
    if core.config.normalize != "instance":
        differ.append(("normalize", "instance", core.config.normalize))
    return report._replace(other_settings=tuple(differ))


def _read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The core's tensors and the script's arguments."""
    # The context takes its classes out of torch's list again: not one that the caller had put there.
    new = [c for c in (argparse.Namespace,) if c not in torch.serialization.get_safe_globals()]
    try:
        with torch.serialization.safe_globals([*new]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a broken pickle may raise anything
        raise ValueError(f"{path}: {_reason(path, str(error))}") from None
    state = found.get("state_dict") if isinstance(found, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{path} is no Lightning checkpoint: it has no state_dict of tensors")
    arguments = _plain(found.get("hyper_parameters", found.get("hparams")))
    return {str(name).removeprefix("model."): value for name, value in state.items()}, arguments


def _reason(path: str | Path, message: str) -> str:
    if refused := re.search(r"GLOBAL (\S+)", message):
        return (
            f"it holds {refused[1]}; of classes only argparse.Namespace is let in, and nothing of it was run"
        )
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            inside = [name for name in archive.namelist() if name.endswith(".ckpt")]
        if inside:
            return f"it is an archive: unpack it, and load {inside[0]}"
    return "not a checkpoint, or not whole: torch can't read it"


def _plain(arguments: Any) -> dict[str, Any]:
    """The arguments as a dict, whether Lightning kept a Namespace, its fields, or both nested by name."""
    if isinstance(arguments, argparse.Namespace):
        return vars(arguments)
    if not isinstance(arguments, dict):
        return {}
    nested = [value for value in arguments.values() if isinstance(value, dict | argparse.Namespace)]
    return _plain(nested[0]) if len(arguments) == len(nested) == 1 else arguments


def _configs(given: dict[str, Any]) -> tuple[int, ModelConfig, LossConfig]:
    given = {name: given[old] for name, old in LEGACY.items() if old in given} | {
        "codebook_type": "standard",
        **given,
    }
    wanted = (*MODEL.values(), *LOSSES.values(), *HEADS, *REST)
    if lacking := [name for name in dict.fromkeys(wanted) if name not in given]:
        raise ValueError(f"expected the reference's arguments, and {', '.join(lacking)} are not there")
    numbers = [name for name in wanted if name != "codebook_type"]
    if wrong := [name for name in numbers if type(given[name]) not in (int, float)]:
        raise ValueError(f"expected numbers, and {', '.join(dict.fromkeys(wrong))} are none")
    if given["codebook_type"] != "standard":
        raise ValueError(f"codebook_type {given['codebook_type']} can't be loaded: only standard")
    if len({given[name] for name in HEADS}) > 1:
        raise ValueError(f"ShapeLex has one number of heads, not {[given[name] for name in HEADS]}")
    length, patches, size = (given[name] for name in ("normalize_length", "num_patch", "patch_size"))
    if length != patches * size:
        raise ValueError(f"{patches} patches of {size} do not make up {length} steps without overlap")
    settings = {ours: given[theirs] for ours, theirs in MODEL.items()}
    model = ModelConfig.model_validate({**settings, "dropout": 0.1, "normalize": "instance"})
    return int(length), model, LossConfig.model_validate({k: given[v] for k, v in LOSSES.items()})
