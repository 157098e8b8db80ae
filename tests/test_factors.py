"""Every setting of the model and its losses changes something, and nothing but what it is for.

W windows, M channels, T steps.
"""

import re
from functools import cache
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
import torch
from guided_fixture import (
    EVERY_LOSS,
    SIZES,
    SMALL,
    TWO_WAY,
    build,
    concepts,
    full,
    losses,
    per_class,
    side,
    table,
)
from test_identity import ALTERNATIVES, LEAVES

from experiments.config import RunConfig
from experiments.lit import TrainingSet
from experiments.settings import NAMES, inside
from experiments.texts import Text
from model.batch import Sizes
from model.config import LossConfig, ModelConfig
from model.guided import GuidedVQShape
from model.quantizer import QUANTIZERS

BASE: dict[str, Any] = {"patches": 10, "tokens": 10, "width": 16, "heads": 4, "encoder_layers": 2}
BASE |= {"codes": 16, "mask_frac": 0.25}
EVERYTHING: dict[str, Any] = {"guidance": TWO_WAY, "text_codes": True, "sub_actions": "decoder"}
CONTRAST = {"guidance": TWO_WAY | {"merge": "contrast", "at": "patches"}}
CONTEXTS: dict[str, RunConfig] = {
    name: RunConfig.model_validate({"model": BASE | model, "losses": weights})
    for name, model, weights in (
        ("plain", {}, {}),
        ("everything", EVERYTHING, EVERY_LOSS),
        ("contrast at patches", EVERYTHING | CONTRAST, EVERY_LOSS),
        ("one way into t", {"guidance": {"attention": "one_way", "into": ["t"]}}, {"consistency": 1}),
        ("text to rebuild", {}, {"text_recon": 1}),
        ("no entropy", {"entropy_weight": 0}, {}),
        ("sub-actions alone", {"sub_actions": "head"}, {"sub_action": 1}),
        *((quantizer, {"quantizer": quantizer}, {}) for quantizer in QUANTIZERS if quantizer != "standard"),
    )
}
LENGTH = 40
# Of the other quantizers' contexts, only what could mean something else to them is asked.
OF_CODES = ("model.code", "model.entropy", "model.quantizer", "model.text_codes", "losses.vq")
FIELDS = [name for name in LEAVES if name.startswith(("model.", "losses."))]


@cache
def fingerprint(config: RunConfig) -> dict[str, torch.Tensor]:
    """All that a config decides: initial weights, the first batch, its losses and gradients, and what probes
    would read."""
    sizes = SIZES._replace(length=LENGTH)
    model = GuidedVQShape(config.model, config.losses, sizes, None, config.seed)
    rows, g = np.arange(6) % 3, torch.Generator().manual_seed(5)
    text = Text(assignment=per_class([["a"], ["b"], ["c"]], rows))
    x_WMT = torch.randn(6, sizes.channels, LENGTH, generator=g)
    first = next(TrainingSet(config, side(x_WMT, rows), text).epoch(0)).batch
    found = {f"initial {name}": value.clone() for name, value in model.state_dict().items()}
    if config.model.guidance.attention == "none":  # nobody asks which windows see text
        first = first._replace(sees_text=torch.zeros_like(first.sees_text))
    found |= {f"batch {name}": value for name, value in first._asdict().items()}
    torch.manual_seed(0)
    values = model.losses(first, table(), concepts())
    values["total"].backward()
    found |= {f"loss {name}": value.detach() for name, value in values.items()}
    found |= {f"grad {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    with torch.no_grad():
        return found | model.eval().features(x_WMT, model.tokenize(x_WMT))


def alternatives(config: RunConfig, name: str) -> list[RunConfig]:
    """The config with that field at its other levels, less those that can't be."""
    annotation = NAMES[name].annotation
    levels = get_args(annotation) if get_origin(annotation) is Literal else (ALTERNATIVES[name],)
    levels = (True, False) if annotation is bool else levels
    found = []
    for level in levels:
        written = config.model_dump(mode="json")
        *above, last = name.split(".")
        node = written
        for part in above:
            node = node[part]
        node[last] = level
        if name == "model.text_codes":  # no config has them without a loss that trains them
            written["losses"]["text_vq"] = float(level)
            written["losses"]["series_from_text"] = 0.0
        try:
            other = RunConfig.model_validate(written)
        except ValueError:
            continue
        found += [other] if other != config else []
    return found


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_changes_what_is_built_or_computed_just_where_it_is_read(name: str) -> None:
    read = 0
    for context, config in CONTEXTS.items():
        if context in QUANTIZERS and not name.startswith(OF_CODES):
            continue
        one = fingerprint(config)
        for other in alternatives(config, name):
            two = fingerprint(other)
            same = one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
            silent = inside(name, config.unused()) and inside(name, other.unused())
            assert same == silent, f"{name} in the context '{context}'"
            read += not silent
    assert read, f"no context reads {name}"


SIZED = [
    (500, {"patches": 50, "tokens": 50, "shape_length": 48}),
    (500, {"patches": 50, "tokens": 20, "shape_length": 112}),
    (500, {"patches": 20, "tokens": 50, "shape_length": 48, "smoothing": 5}),
    (200, {"patches": 25, "tokens": 25, "shape_length": 112}),
    (200, {"patches": 25, "tokens": 8, "shape_length": 32, "smoothing": 51}),
    (77, {"patches": 7, "tokens": 11, "shape_length": 16}),
]


@pytest.mark.parametrize("channels", ["independent", "flatten", "joint"])
@pytest.mark.parametrize(("length", "numbers"), SIZED)
def test_a_window_need_not_be_a_power_of_two(length: int, numbers: dict[str, int], channels: str) -> None:
    model = full(sizes=SIZES._replace(length=length), channels=channels, **numbers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    totals = []
    for _ in range(2):
        torch.manual_seed(0)
        found = losses(model)
        optimizer.zero_grad()
        found["total"].backward()
        optimizer.step()
        assert all(value.isfinite() for value in found.values())
        totals.append(found["series"].item())
    assert totals[1] != totals[0]
    x = windows(2, 2, length)
    out = model.eval().reconstruct(x, model.tokenize(x))
    assert out.x_hat.shape[-1] == (2 * length if channels == "flatten" else length)
    assert out.s_hat.shape[1] == numbers["tokens"] and out.s_hat.shape[-1] == numbers["shape_length"]


FAULTS: list[tuple[str, dict[str, Any], Sizes]] = [
    ("patches", {"patches": 7}, SIZES),
    ("tokens", {"tokens": 7}, SIZES),
    ("tokens", {"tokens": 30}, SIZES),
    ("patches", {"patches": 7, "channels": "flatten"}, SIZES),
    ("patches", {"patches": 50, "tokens": 13}, SIZES._replace(length=13)),
    ("heads", {"heads": 3}, SIZES),
    ("heads", {"heads": 40}, SIZES),
    ("guidance.heads", {"guidance": {"attention": "one_way", "heads": 5}}, SIZES),
    ("shape_length", {"shape_length": 17}, SIZES),
    ("shape_length", {"shape_length": 100}, SIZES),
    ("smoothing", {"smoothing": 4}, SIZES),
    ("codes", {"quantizer": "fsq", "codes": 100}, SIZES),
    ("codes", {"quantizer": "fsq", "codes": 3}, SIZES),
    ("code_width", {"quantizer": "cosine", "code_width": 1}, SIZES),
]


@pytest.mark.parametrize(("name", "settings", "sizes"), FAULTS)
def test_what_cannot_be_built_names_numbers_that_can(name: str, settings: dict, sizes: Sizes) -> None:
    def build_it(changed: dict[str, Any]) -> None:
        GuidedVQShape(ModelConfig.model_validate(SMALL | changed), LossConfig(), sizes, None, 0)

    with pytest.raises(ValueError, match=r"try \[?\d") as fault:
        build_it(settings)
    numbers = [
        int(n) for n in re.findall(r"\d+", str(fault.value).split("try ")[1].split("\n")[0].split("[type")[0])
    ]
    assert numbers
    for number in numbers:
        changed: dict[str, Any] = {name: number}
        if name == "guidance.heads":
            changed = {"guidance": settings["guidance"] | {"heads": number}}
        build_it(settings | changed)


def windows(count: int, channels: int, length: int) -> torch.Tensor:
    return torch.randn(count, channels, length, generator=torch.Generator().manual_seed(0))


PATCHES = TWO_WAY | {"at": "patches", "layers": 2}
SWITCHED_ON: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "guidance at tokens": ({"guidance": TWO_WAY | {"layers": 3, "heads": 1}}, {}),
    "guidance at patches": ({"guidance": PATCHES}, {}),
    "one way": ({"guidance": {"attention": "one_way"}}, {}),
    "contrast": ({"guidance": TWO_WAY | {"merge": "contrast"}}, {"info_nce": 1}),
    "contrast at patches": ({"guidance": PATCHES | {"merge": "contrast"}}, {"supcon": 1}),
    "consistency": ({"guidance": TWO_WAY}, {"consistency": 1}),
    "consistency at patches": ({"guidance": PATCHES}, {"consistency": 1}),
    "ce_guided": ({"guidance": PATCHES}, {"ce_guided_series": 1, "ce_guided_text": 1}),
    "text codes": ({"text_codes": True}, {"text_vq": 1}),
    "series from text": ({"text_codes": True}, {"series_from_text": 1}),
    "sub-actions, head": ({"sub_actions": "head"}, {"sub_action": 1}),
    "sub-actions, decoder": ({"sub_actions": "decoder"}, {"sub_action": 1}),
    "keep_scale": ({"keep_scale": True}, {}),
    "text_recon": ({}, {"text_recon": 1}),
    "ce_series": ({}, {"ce_series": 1}),
    "everything": (EVERYTHING, EVERY_LOSS),
    "everything at patches": (EVERYTHING | {"guidance": PATCHES}, EVERY_LOSS),
}


@pytest.mark.parametrize("quantizer", ["standard", "rotation"])
@pytest.mark.parametrize("name", SWITCHED_ON)
def test_switching_a_module_on_moves_no_weight_and_no_random_draw_of_the_core(
    name: str, quantizer: str
) -> None:
    model, weights = SWITCHED_ON[name]
    plain = build(quantizer=quantizer, dropout=0.3)
    other = build(weights, quantizer=quantizer, dropout=0.3, **model)
    start = plain.core.state_dict()
    assert start.keys() == other.core.state_dict().keys()
    assert all(torch.equal(value, start[key]) for key, value in other.core.state_dict().items())
    passes: list[list[torch.Tensor]] = []
    for built in (plain, other):
        torch.manual_seed(7)  # once: whatever a module drew would show in the second pass
        runs = [losses(built, sees=[False] * 6) for _ in range(3)]
        core = [run[loss] for run in runs for loss in ("series", "shape", "vq", "spread")]
        passes.append([*core, torch.get_rng_state()])
    assert all(torch.equal(*pair) for pair in zip(*passes, strict=True))
    assert passes[0][0] != passes[0][4], "dropout draws other masks in the second pass"


@pytest.mark.parametrize("name", SWITCHED_ON)
def test_switching_a_module_on_leaves_order_masks_and_who_sees_text_alone(name: str) -> None:
    model, weights = SWITCHED_ON[name]
    rows, x_WMT = np.arange(10) % 3, windows(10, 2, 24)
    text = per_class([[f"{y} {i}" for i in range(3)] for y in range(3)], rows)
    drawn = []
    for config, seen in (({}, None), ({"model": SMALL | model, "losses": weights}, text)):
        settings = {"model": SMALL, "train": {"batch_size": 4}} | config
        data = TrainingSet(RunConfig.model_validate(settings), side(x_WMT, rows), Text(assignment=seen))
        drawn.append([step.batch for epoch in (0, 1) for step in data.epoch(epoch)])
    assert len(drawn[0]) == len(drawn[1]) == 6
    for one, other in zip(*drawn, strict=True):
        assert torch.equal(one.x, other.x) and torch.equal(one.keep, other.keep)
        assert torch.equal(one.label, other.label) and torch.equal(one.sees_text, other.sees_text)
