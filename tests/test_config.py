from typing import Any

import pytest
from pydantic import ValidationError

from experiments.config import RunConfig
from experiments.settings import OWNED, submodel
from model.config import ATTRIBUTES, GuidanceConfig, ModelConfig

SPAR = {"name": "spar", "window_s": 4, "overlap_frac": 0.5, "split": "subject_kfold"}
GUIDED = {"guidance": {"attention": "one_way"}}


def test_the_defaults_build_and_survive_the_way_to_a_trial_and_back() -> None:
    config = RunConfig()
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config
    guided = RunConfig.model_validate({"model": GUIDED, "data": SPAR, "text": {"tokens": 3}})
    assert RunConfig.model_validate(guided.model_dump(mode="json")) == guided != config


def test_a_config_never_changes_and_knows_no_other_keys() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig().seed = 3
    for values in ({"sead": 1}, {"model": {"hads": 4}}, {"model": {"guidance": {"inot": "all"}}}):
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            RunConfig.model_validate(values)


def test_all_equals_the_sorted_list_of_every_attribute() -> None:
    every = GuidanceConfig.model_validate({"into": "all"})
    assert every == GuidanceConfig.model_validate({"into": ["z", "t", "sigma", "mu", "l", "z"]})
    assert every.into == ATTRIBUTES == ("l", "mu", "sigma", "t", "z")
    assert GuidanceConfig.model_validate({"into": ["z", "mu"]}).into == ("mu", "z")


PAIRS: list[tuple[dict[str, Any], str]] = [
    ({"model": {"width": 60, "heads": 8}}, r"model.heads 8 do not divide model.width 60; try \[5, 6, 10\]"),
    ({"model": {"smoothing": 4}}, "smoothing 4 is even; try 3"),
    ({"train": {"lr": 1e-6}}, "lr_min 1e-05 is above lr 1e-06"),
    ({"probe": {"representation": "statistics"}}, "belongs to baseline: statistics alone"),
    ({"model": GUIDED, "text": {"source": "none"}}, "text.source is none: set it to label"),
    ({"model": GUIDED, "text": {"source": "series", "control": "constant"}}, "the same whatever the source"),
    ({"model": GUIDED, "text": {"source": "both", "control": "one_hot"}}, "the same whatever the source"),
    ({"model": GUIDED, "text": {"source": "series", "control": "shuffled_classes"}}, "series know none"),
    (
        {"model": GUIDED, "losses": {"ce_guided_series": 1}, "text": {"source": "series"}},
        "were made for none",
    ),
    (
        {
            "model": GUIDED | {"sub_actions": "head"},
            "losses": {"sub_action": 1},
            "text": {"control": "random"},
        },
        "takes the words away",
    ),
    (
        {"model": {"sub_actions": "head"}, "losses": {"sub_action": 1}, "text": {"source": "both"}},
        "sub-actions alone read no caption",
    ),
    ({"losses": {"info_nce": 1}, "text": {"source": "none"}}, "text.source is none: set it to label"),
    ({"losses": {"consistency": 1}}, "set model.guidance.attention to one_way or two_way"),
    ({"losses": {"text_recon": 1}, "text": {"control": "constant"}}, "leaves losses.text_recon nothing"),
    (
        {"losses": {"info_nce": 1, "supcon": 1}, "text": {"control": "constant"}},
        "info_nce, losses.supcon nothing",
    ),
    (
        {"model": {"sub_actions": "head"}, "losses": {"sub_action": 1}, "text": {"control": "constant"}},
        "losses.sub_action nothing to learn: set to 0 and model.sub_actions to none",
    ),
    (
        {
            "model": GUIDED | {"sub_actions": "head"},
            "losses": {"sub_action": 1, "sub_action_target": "attention"},
            "text": {"tokens": 3},
        },
        "set text.tokens to native",
    ),
    ({"model": {"sub_actions": "head"}}, "go together"),
    ({"losses": {"sub_action": 1}}, "go together"),
    ({"model": {"quantizer": "none", "sub_actions": "decoder"}, "losses": {"sub_action": 1}}, "try head"),
    ({"model": {"quantizer": "none"}, "probe": {"representation": "histogram"}}, "no histogram of codes"),
    ({"model": {"quantizer": "fsq", "codes": 33}}, r"fsq can't have 33 codes; try \[8, 16, 32\]"),
    ({"model": {"quantizer": "cosine", "code_width": 1}}, "no angle to read"),
    ({"model": {"shape_length": 40}}, r"no multiple of 16; try \[32, 48\]"),
    ({"model": {"guidance": {"attention": "one_way", "heads": 7}}}, "model.guidance.heads 7 do not divide"),
    ({"model": {"guidance": {"attention": "one_way", "at": "patches", "into": ["z"]}}}, "set .* to all"),
    ({"losses": {"ce_guided_series": 1}}, "set model.guidance.attention to one_way or two_way"),
    ({"model": GUIDED, "losses": {"ce_guided_text": 1}}, "set model.guidance.attention to two_way"),
    ({"losses": {"text_recon": 1, "text_recon_level": "guided"}}, "reads fused tokens"),
    ({"model": GUIDED | {"quantizer": "fsq"}, "losses": {"consistency": 1}}, "leave z out"),
    (
        {
            "model": {"guidance": {"attention": "one_way", "at": "patches"}, "quantizer": "fsq"},
            "losses": {"consistency": 1},
        },
        "fsq has none: set it to 0",
    ),
    ({"model": {"text_codes": True}}, "losses.text_vq and series_from_text"),
    ({"losses": {"text_vq": 1}}, "needs model.text_codes: true"),
    ({"model": {"text_codes": True, "quantizer": "ema"}, "losses": {"text_vq": 1}}, "can't move the codes"),
    (
        {"model": {"guidance": {"attention": "two_way", "merge": "contrast"}}},
        "supcon or ce_guided_text alone",
    ),
]


@pytest.mark.parametrize(("values", "message"), PAIRS)
def test_settings_that_do_not_go_together_are_refused_when_the_config_is_made(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        RunConfig.model_validate(values)


@pytest.mark.parametrize(
    "values",
    [
        {"model": {"guidance": {"attention": "two_way", "merge": "contrast"}}, "losses": {"info_nce": 1}},
        {"model": {"guidance": {"attention": "one_way", "merge": "contrast"}}},
        {"model": GUIDED, "losses": {"consistency": 1}},
        {"text": {"source": "none"}},
        {"baseline": "statistics", "losses": {"consistency": 1}},
        {"baseline": "statistics", "probe": {"representation": "statistics"}},
        {"data": SPAR | {"folds": 4, "fold": 3}},
        {"train": {"lr": 1e-5}},
    ],
)
def test_settings_that_go_together_are_accepted(values: dict[str, Any]) -> None:
    RunConfig.model_validate(values)


def test_text_is_read_by_guidance_and_by_text_losses_and_by_nothing_else() -> None:
    assert RunConfig.model_validate({"model": GUIDED}).reads_text
    for loss in ("info_nce", "text_recon"):
        assert RunConfig.model_validate({"losses": {loss: 0.1}}).reads_text
    assert not RunConfig.model_validate({"losses": {"ce_series": 0.1}}).reads_text
    assert not RunConfig.model_validate({"model": GUIDED, "baseline": "statistics"}).reads_text


def test_a_cells_config_is_the_one_that_validation_would_make() -> None:
    config = RunConfig.model_validate({"data": SPAR, "model": GUIDED})
    cell = config.cell(seed=4, fold=2, representation="histogram")
    dumped = config.model_dump() | {"seed": 4, "probe": {"representation": "histogram"}}
    assert cell == RunConfig.model_validate(dumped | {"data": SPAR | {"fold": 2}})
    assert OWNED.keys() - {"evaluate"} == {"seed", "data.fold", "probe.representation"}


@pytest.mark.parametrize("name", ["patches", "tokens"])
def test_a_length_that_the_model_can_not_cut_is_refused_with_numbers_that_work(name: str) -> None:
    config = ModelConfig.model_validate({name: 30})
    config.check_length(300)
    with pytest.raises(ValueError, match=rf"model.{name} 30 does not divide a series of 200 samples; try \["):
        config.check_length(200)
    with pytest.raises(ValueError, match="a series of 0 samples"):
        config.check_length(0)


def test_as_many_heads_for_guidance_as_for_the_model_is_one_config() -> None:
    guided = {"guidance": {"attention": "one_way", "heads": 4}}
    assert ModelConfig.model_validate(guided) == ModelConfig.model_validate(GUIDED)
    assert ModelConfig.model_validate(guided | {"heads": 2}).guidance.heads == 4


def test_every_number_of_a_config_has_a_range() -> None:
    def numbers(model: type, prefix: str = "") -> list[str]:
        out = []
        for name, field in model.model_fields.items():  # type: ignore[attr-defined]
            if below := submodel(field):
                out += numbers(below, f"{prefix}{name}.")
            elif field.annotation in (int, float, float | None) and not field.metadata:
                out.append(f"{prefix}{name}")
        return out

    assert numbers(RunConfig) == []
