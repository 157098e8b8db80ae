import json
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from experiments import captions
from experiments.config import ProbeConfig, RunConfig, TrainConfig
from experiments.identity import FileDigests, canonical, different, digest, flat, signature
from experiments.ledger import Store
from experiments.settings import NAMES, inside, setting, submodel
from experiments.sweep import load
from experiments.yamlfile import Document
from model.config import added, inert

GOLDEN = json.loads((Path(__file__).parent / "golden" / "signatures.json").read_text())
DIGESTS: dict[str, str | None] = {"data": "d" * 64, "text": "7" * 64, "encoder": "e" * 64}
NOWHERE = Document(Path("test"), {}, {(): 1}, "")
TEXT_ON: dict[str, Any] = {
    "model": {"guidance": {"attention": "two_way"}},
    "losses": {"info_nce": 0.1, "consistency": 0.1, "text_recon": 0.1, "ce_series": 0.1},
    "train": {"select": "validation"},
}
SPAR = {"name": "spar", "window_s": 4, "overlap_frac": 0.5, "split": "subject_kfold"}
CONTEXTS = {
    "default": RunConfig(),
    "text on": RunConfig.model_validate(TEXT_ON),
    "subjects": RunConfig.model_validate(TEXT_ON | {"data": SPAR}),
    "one way": RunConfig.model_validate({"model": {"guidance": {"attention": "one_way", "into": ["t"]}}}),
    "constant text": RunConfig.model_validate(
        TEXT_ON
        | {"text": {"control": "constant"}, "losses": TEXT_ON["losses"] | {"info_nce": 0, "text_recon": 0}}
    ),
    "resized": RunConfig.model_validate({"data": {"length": 50}}),
    "captions": RunConfig.model_validate(TEXT_ON | {"text": {"source": "series"}}),
    "both texts": RunConfig.model_validate(TEXT_ON | {"text": {"source": "both"}}),
    "class numbers": RunConfig.model_validate(TEXT_ON | {"text": {"control": "one_hot"}}),
    "text to rebuild": RunConfig.model_validate({"losses": {"text_recon": 0.1}}),
    "no vq": RunConfig.model_validate({"losses": {"vq": 0}}),
    "no entropy": RunConfig.model_validate({"model": {"entropy_weight": 0}}),
    "statistics": RunConfig.model_validate({"baseline": "statistics"}),
    "fcn": RunConfig.model_validate({"baseline": "fcn"}),
    "minirocket": RunConfig.model_validate({"baseline": "minirocket"}),
    "sub-actions alone": RunConfig.model_validate(
        {"model": {"sub_actions": "decoder"}, "losses": {"sub_action": 0.1}}
    ),
    "unquantised": RunConfig.model_validate({"model": {"quantizer": "none"}}),
    "grid of codes": RunConfig.model_validate({"model": {"quantizer": "fsq"}}),
}
ONLY_LEVEL = object()  # a Literal with one level: nothing to perturb yet
ALTERNATIVES: dict[str, Any] = {
    "data.name": "spar",
    "data.window_s": 2.5,
    "data.overlap_frac": 0.25,
    "data.split": "subject_kfold",
    "data.folds": 4,
    "data.length": 60,
    "data.resize": "pad",
    "data.augment.jitter": 0.1,
    "data.augment.scaling": 0.1,
    "data.augment.rotation_deg": 30.0,
    "data.augment.time_warp": 0.2,
    "data.augment.channel_drop": 0.1,
    "data.fold": 1,
    "data.validation_frac": 0.5,
    "text.source": "none",
    "text.form": "keyword",
    "text.control": "shuffled_samples",
    "text.encoder": "hf:somewhere",
    "text.bank": "mine",
    "text.subject_info": True,
    "text.tokens": 3,
    "model.patches": 20,
    "model.tokens": 20,
    "model.width": 32,
    "model.heads": 2,
    "model.encoder_layers": 1,
    "model.tokenizer_layers": 1,
    "model.decoder_layers": 2,
    "model.codes": 8,
    "model.code_width": 4,
    "model.shape_length": 16,
    "model.smoothing": 3,
    "model.mask_frac": 0.5,
    "model.dropout": 0.2,
    "model.codebook_weight": 0.5,
    "model.entropy_weight": 0.2,
    "model.entropy_gamma": 0.5,
    "model.normalize": "instance",
    "model.channels": "joint",
    "model.keep_scale": True,
    "model.quantizer": "ema",
    "model.text_codes": True,
    "model.sub_actions": "head",
    "model.guidance.attention": "one_way",
    "model.guidance.merge": "contrast",
    "model.guidance.at": "patches",
    "model.guidance.layers": 2,
    "model.guidance.heads": 2,
    "model.guidance.into": ["z", "mu"],
    "model.guidance.text_dropout": 0.0,
    "losses.series": 2.0,
    "losses.shape": 2.0,
    "losses.vq": 2.0,
    "losses.spread": 2.0,
    "losses.info_nce": 2.0,
    "losses.consistency": 2.0,
    "losses.consistency_temperature": 2.0,
    "losses.text_recon": 2.0,
    "losses.text_recon_level": "guided",
    "losses.text_vq": 2.0,
    "losses.series_from_text": 2.0,
    "losses.supcon": 2.0,
    "losses.ce_series": 2.0,
    "losses.ce_guided_series": 2.0,
    "losses.ce_guided_text": 2.0,
    "losses.sub_action": 2.0,
    "losses.sub_action_target": "attention",
    "train.epochs": 5,
    "train.batch_size": 8,
    "train.lr": 0.01,
    "train.lr_min": 0.0,
    "train.warmup_frac": 0.0,
    "train.weight_decay": 0.0,
    "train.clip": 5.0,
    "train.precision": "bfloat16",
    "train.select": "validation",
    "train.validate_every": 2,
    "probe.representation": "histogram",
    "probe.penalties": [1.0],
    "baseline": "statistics",
    "seed": 1,
    "threads": 2,
    "figures": False,
    "evaluate": "validation",
}
LEAVES = [name for name, field in NAMES.items() if submodel(field) is None]


def perturbed(config: RunConfig, name: str) -> RunConfig:
    """The config with that one field at its alternative, alone: whether the pair makes sense is no matter
    to a signature."""
    path = name.split(".")
    nodes: list[BaseModel] = [config]
    for part in path[:-1]:
        nodes.append(getattr(nodes[-1], part))
    value: Any = setting(name, ALTERNATIVES[name], NOWHERE, ()).value
    for node, part in zip(reversed(nodes), reversed(path), strict=True):
        value = node.model_copy(update={part: value})
    return value


def is_inert(name: str) -> bool:
    extra = NAMES[name].json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("inert"))


@pytest.mark.parametrize("name", GOLDEN)
def test_a_signature_is_the_one_that_old_results_lie_under(name: str) -> None:
    entry = GOLDEN[name]
    found = signature(RunConfig.model_validate(entry["config"]), entry["digests"])
    assert found == entry["signature"], "every result so far would be lost: use added(default, leaves_at=...)"


def test_the_golden_configs_differ_in_kind() -> None:
    assert len({entry["signature"] for entry in GOLDEN.values()}) == len(GOLDEN) >= 6


def test_every_setting_has_an_alternative_to_try() -> None:
    missing = [name for name in LEAVES if name not in ALTERNATIVES]
    assert not missing, f"give ALTERNATIVES another value of {missing}, to show that it changes the signature"
    assert ALTERNATIVES.keys() <= set(LEAVES), "ALTERNATIVES names a setting that is gone"
    for name in LEAVES:
        if ALTERNATIVES[name] is ONLY_LEVEL:
            levels = get_args(NAMES[name].annotation)
            assert len(levels) == 1, (
                f"{name} has several levels now: give ALTERNATIVES another than the default"
            )


@pytest.mark.parametrize("name", [name for name in LEAVES if ALTERNATIVES.get(name) is not ONLY_LEVEL])
def test_a_setting_changes_the_signature_just_where_it_is_read(name: str) -> None:
    read = 0
    for context, config in CONTEXTS.items():
        other = perturbed(config, name)
        if other == config:
            continue
        silent = is_inert(name) or (inside(name, config.unused()) and inside(name, other.unused()))
        read += not silent
        same = signature(other, DIGESTS) == signature(config, DIGESTS)
        assert same == silent, f"{name} in the context '{context}'"
    assert read or is_inert(name), f"no context reads {name}: CONTEXTS needs one that does"


def test_what_a_config_never_reads_is_a_known_name_and_not_in_its_canonical_form() -> None:
    dropped = set()
    for config in CONTEXTS.values():
        left = flat(canonical(config))
        for name in config.unused():
            assert name in NAMES
            assert not any(inside(other, {name}) for other in left)
        dropped |= config.unused()
    assert {"model", "losses", "train", "seed", "text", "text.form", "text.tokens", "data.folds"} < dropped


def test_a_digest_changes_the_signature() -> None:
    known = signature(RunConfig(), DIGESTS)
    for name in DIGESTS:
        assert signature(RunConfig(), DIGESTS | {name: "0" * 64}) != known
        assert signature(RunConfig(), DIGESTS | {name: None}) != known


def test_a_digest_knows_values_and_neither_order_nor_notation() -> None:
    assert digest({"b": 1e-4, "a": [True, None]}) == digest({"a": [True, None], "b": 0.0001})
    distinct = [1, 1.0, True, "1", None, "", [], {}, [1], {"1": 1}, "é", "e"]
    assert len({digest(value) for value in distinct}) == len(distinct)
    with pytest.raises(ValueError, match="JSON"):
        digest(float("nan"))


class LaterTrain(TrainConfig):
    decay: float = added(1.0, leaves_at=1.0)
    progress: bool = inert(True)


class Later(RunConfig):
    train: LaterTrain = LaterTrain()
    averaging: str = added("ema", leaves_at="none")
    note: str = inert("")


def test_a_field_that_came_later_leaves_the_signature_at_one_literal_value_alone() -> None:
    old = signature(RunConfig(), DIGESTS)
    assert signature(Later(averaging="none"), DIGESTS) == old
    assert signature(Later(averaging="none", train=LaterTrain(decay=0.5)), DIGESTS) != old
    assert signature(Later(), DIGESTS) != old, "the default is free to move, the literal is not"


def test_an_inert_field_changes_nothing_whatever_its_value() -> None:
    old = signature(RunConfig(), DIGESTS)
    silent = Later(averaging="none", note="x", figures=False, train=LaterTrain(progress=False))
    assert signature(silent, DIGESTS) == old


def test_a_number_is_the_same_number_however_it_was_given() -> None:
    whole = RunConfig.model_validate({"train": {"lr": 1}, "probe": {"penalties": [1, 10]}})
    point = RunConfig(train=TrainConfig(lr=1.0), probe=ProbeConfig(penalties=(1.0, 10.0)))
    assert signature(whole, DIGESTS) == signature(point, DIGESTS)


READERS = """
variants:
  plain: {losses.ce_series: 0.1}
  statistics: {baseline: statistics}
  sentence: {model.guidance.attention: one_way}
  shuffled: {model.guidance.attention: one_way, text.control: shuffled_samples}
  constant: {model.guidance.attention: one_way, text.control: constant}
  recon: {losses.text_recon: 0.1}
  keyword: {model.guidance.attention: one_way, text.form: keyword}
"""


@pytest.fixture
def bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(captions.BANKS, tmp_path / "banks")
    monkeypatch.setattr(captions, "BANKS", tmp_path / "banks")
    return tmp_path / "banks" / "basic_motions.yaml"


@pytest.fixture
def changed(bank: Path, tmp_path: Path) -> Any:
    (tmp_path / "x.yaml").write_text(READERS)
    store = Store(tmp_path / "store")

    def changed(old: str, new: str) -> set[str]:
        """Rows whose signature and text digest change with the bank; one never changes alone."""
        before = load(tmp_path / "x.yaml", store)
        text = bank.read_text()
        assert text.count(old) == 1
        bank.write_text(text.replace(old, new))
        after = load(tmp_path / "x.yaml", store)
        rows = set()
        for one, other in zip(before.cells, after.cells, strict=True):
            texts = [sweep.digests[cell.signature]["text"] for sweep, cell in ((before, one), (after, other))]
            assert (one.signature == other.signature) == (texts[0] == texts[1])
            rows |= {one.row} if one.signature != other.signature else set()
        return rows

    return changed


def test_editing_a_text_of_the_bank_renames_the_trials_that_read_it_and_no_other(changed: Any) -> None:
    old = "- A person with a smart watch on the wrist stands in one place and lets the arm hang at rest."
    assert changed(old, old.replace("at rest", "down")) == {"sentence", "shuffled", "recon"}
    assert changed("keyword: standing", "keyword: standing still") == {"keyword"}


def test_editing_what_the_bank_says_of_itself_renames_nothing(changed: Any) -> None:
    assert changed('date: "2026-11-21"', 'date: "2027-01-01"\n  checked_by: a clinician') == set()
    assert changed("# Label texts for BasicMotions.", "# Texts.") == set()


def test_a_files_digest_follows_its_content_and_is_kept_between_processes(tmp_path: Path) -> None:
    file, cache = tmp_path / "weights", tmp_path / "cache"
    file.write_bytes(b"one")
    first = FileDigests(cache).of([file])
    assert FileDigests(cache).of([file]) == first
    (tmp_path / "copy").write_bytes(b"one")
    assert FileDigests(cache).of([tmp_path / "copy"]) == first
    file.write_bytes(b"other")
    assert FileDigests(cache).of([file]) != first
    assert FileDigests(cache).of([file, file]) != FileDigests(cache).of([file])
    (cache / "digests.json").write_text("{broken")
    assert FileDigests(cache).of([tmp_path / "copy"]) == first


def test_files_that_were_hashed_once_are_not_read_again(tmp_path: Path, monkeypatch: Any) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    first = FileDigests(tmp_path / "cache").of([file])
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("read again"))
    assert FileDigests(tmp_path / "cache").of([file]) == first


def test_two_configs_differ_in_the_settings_that_differ_by_their_dotted_names() -> None:
    one = RunConfig()
    assert different(one, RunConfig()) == set()
    changed = {"model": {"heads": 2, "guidance": {"layers": 2}}, "seed": 1}
    assert different(one, RunConfig.model_validate(changed)) == {
        "model.heads",
        "model.guidance.layers",
        "seed",
    }
