"""Every level of the model and its losses trains an epoch on real windows, by the trial that a sweep runs."""

import json
import math
from typing import Any, get_args

import pytest
import torch
from conftest import run_trial
from safetensors.torch import load_file
from test_trial import Jobs, numbers

from experiments.config import RunConfig, TrainConfig
from experiments.ledger import Store
from experiments.lit import PRECISION
from model.config import GuidanceConfig, LossConfig, ModelConfig
from model.quantizer import QUANTIZERS

TWO_WAY = {"model.guidance.attention": "two_way"}
CONTRAST = TWO_WAY | {"model.guidance.merge": "contrast"}
PATCHES = {"model.guidance.at": "patches"}
NCE = {"losses.info_nce": 0.1}
FLAT = {"model.channels": "flatten", "model.patches": 30, "model.tokens": 30}
TEXT_CODES = {"model.text_codes": True, "losses.text_vq": 0.1, "losses.series_from_text": 0.1}
DECODER = {"model.sub_actions": "decoder", "losses.sub_action": 0.1}
ATTENTION = {"losses.sub_action_target": "attention"}
LEVELS: dict[str, dict[str, Any]] = {
    "independent": {"model.channels": "independent", "figures": True},
    "flatten": FLAT | {"figures": True},
    "joint": {"model.channels": "joint", "figures": True},
    "instance, keep_scale": {"model.normalize": "instance", "model.keep_scale": True},
    "joint, keep_scale": {"model.channels": "joint", "model.keep_scale": True, "model.normalize": "dataset"},
    "one way": {"model.guidance.attention": "one_way"},
    "one way at patches": {"model.guidance.attention": "one_way"} | PATCHES,
    "mean": TWO_WAY | {"model.guidance.merge": "mean", "text.tokens": 3},
    "mean at patches": TWO_WAY | PATCHES | {"model.guidance.layers": 2, "model.guidance.heads": 1},
    "contrast": CONTRAST | NCE,
    "contrast at patches": CONTRAST | NCE | PATCHES | {"model.guidance.layers": 2, "model.guidance.heads": 1},
    "contrast by supcon": CONTRAST | {"losses.supcon": 0.1},
    "contrast by ce_guided_text": CONTRAST | {"losses.ce_guided_text": 0.1},
    "no text_dropout": TWO_WAY | {"model.guidance.text_dropout": 0, "model.guidance.into": ["z"]},
    "info_nce without guidance": NCE,
    "supcon without guidance": {"losses.supcon": 0.1},
    "ce_series": {"losses.ce_series": 0.1},
    "ce_guided": TWO_WAY | {"losses.ce_guided_series": 0.1, "losses.ce_guided_text": 0.1},
    "consistency": {"model.guidance.attention": "one_way", "losses.consistency": 0.1} | PATCHES,
    "text_recon": {"losses.text_recon": 0.1},
    "text_recon guided": TWO_WAY | {"losses.text_recon": 0.1, "losses.text_recon_level": "guided"},
    "text codes": TEXT_CODES | {"model.quantizer": "standard"},
    "sub-actions": {"model.sub_actions": "head", "losses.sub_action": 0.1},
    "sub-actions of codes": DECODER | {"model.channels": "joint"},
    "sub-actions attended to": TWO_WAY | ATTENTION | DECODER | {"model.sub_actions": "head"},
    "sub-actions of codes attended to": TWO_WAY | ATTENTION | DECODER,
    "everything, flatten": TWO_WAY | NCE | TEXT_CODES | DECODER | FLAT
    | {"losses.supcon": 0.1, "losses.consistency": 0.1, "losses.text_recon": 0.1, "losses.ce_series": 0.1},
    "bfloat16": TWO_WAY | NCE | TEXT_CODES | DECODER | {"train.precision": "bfloat16"},
    **{f"quantizer {name}": TWO_WAY | NCE | {"model.quantizer": name} for name in QUANTIZERS},
}  # fmt: skip
ALWAYS = ("series", "shape", "vq", "spread")


def lines(store: Store, signature: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (store.trial(signature) / "metrics.jsonl").read_text().splitlines()]


def variant(settings: dict[str, Any]) -> str:
    """One row of YAML, a single epoch."""
    return json.dumps({"train.epochs": 1} | settings)[1:-1]


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_trains_an_epoch_and_reports_its_losses(level: str, store: Store, jobs: Jobs) -> None:
    settings = LEVELS[level]
    job, *_ = jobs(f"row: {{{variant(settings)}}}, plain: {{}}")
    config = RunConfig.model_validate(job.config)
    run_trial(job)
    found = numbers(store, job)["metrics"]
    assert all(math.isfinite(value) for value in found.values()) and 0 <= found["test/macro_f1"] <= 1
    (line,) = lines(store, job.signature)
    weights = config.losses.model_dump()
    named = {name for name in weights if isinstance(weights[name], float) and "temperature" not in name}
    on = {name for name in named if weights[name] or name in ALWAYS}
    assert {key.removeprefix("train/") for key in line if key.startswith("train/")} == on | {"loss"}
    total = sum(weights[name] * line[f"train/{name}"] for name in on)
    assert line["train/loss"] == pytest.approx(total, rel=1e-2 if "bfloat16" in level else 1e-5)
    has_codes = config.model.quantizer != "none"
    assert ("test/histogram/macro_f1" in found) == ("codes/perplexity" in found) == has_codes
    assert ("val/penalty_scale" in found) == config.model.keep_scale
    figures = store.trial(job.signature) / "figures"
    assert (figures / "reconstruction.png").exists() == config.figures


def test_every_level_of_every_choice_is_among_those_that_train() -> None:
    tried: dict[str, set[Any]] = {}
    for settings in LEVELS.values():
        for name, value in settings.items():
            tried.setdefault(name, set()).add(json.dumps(value))
    models = {"model.": ModelConfig, "model.guidance.": GuidanceConfig, "losses.": LossConfig}
    for prefix, kind in models.items():
        for name, field in kind.model_fields.items():
            levels = get_args(field.annotation)
            if not all(isinstance(level, str) for level in levels):
                continue
            missing = {json.dumps(level) for level in levels} - tried.get(prefix + name, set())
            assert missing <= {json.dumps(str(field.default))}, (prefix + name, missing)
    off = {name for name, field in LossConfig.model_fields.items() if field.default == 0.0}
    assert off <= {name.removeprefix("losses.") for name in tried}, off


def test_bfloat16_changes_the_loss_and_not_the_weights_type(store: Store, jobs: Jobs) -> None:
    rows = [f"{precision}: {{{variant({'train.precision': precision})}}}" for precision in PRECISION]
    planned = jobs(", ".join(rows))
    assert len(planned) == 2 and set(PRECISION) == set(
        TrainConfig.model_fields["precision"].annotation.__args__
    )
    losses = []
    for job in planned:
        run_trial(job)
        losses.append(lines(store, job.signature)[0]["train/loss"])
        kept = load_file(store.trial(job.signature) / "model" / "model.safetensors")
        assert {value.dtype for value in kept.values()} == {torch.float32}
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.05)
