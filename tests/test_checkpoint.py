"""A saved model comes back bit for bit, and a folder that is no saved model says what is wrong with it."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_reference import written

from model import checkpoint
from model.batch import Sizes
from model.checkpoint import from_pretrained, save_pretrained
from model.config import Frozen, LossConfig, ModelConfig, added
from model.guided import GuidedVQShape
from model.quantizer import QUANTIZERS

README = (Path(__file__).parent.parent / "README.md").read_text()
SMALL = dict(
    patches=6, tokens=4, width=16, heads=2, encoder_layers=1, tokenizer_layers=1, codes=8, shape_length=16
)
SIZES = Sizes(length=24, channels=2, classes=3, text_width=12, concepts=("lift", "lower"))
ONE_WAY = {"guidance": {"attention": "one_way", "layers": 2}}
TEXT = ONE_WAY | {"text_codes": True, "sub_actions": "decoder"}
LOSSES = {"info_nce": 0.1, "text_recon": 0.1, "series_from_text": 1, "sub_action": 1, "ce_series": 0.2}
CELLS: dict[str, tuple[dict[str, Any], dict[str, Any], int | None]] = {
    **{f"quantizer {name}": ({"quantizer": name}, {}, None) for name in QUANTIZERS},
    **{f"channels {name}": ({"channels": name}, {}, None) for name in ("independent", "joint", "flatten")},
    "one_way": (ONE_WAY, {}, None),
    "two_way mean": ({"guidance": {"attention": "two_way"}}, {"ce_guided_text": 1}, 3),
    "two_way contrast": ({"guidance": {"attention": "two_way", "merge": "contrast"}}, {"supcon": 1}, None),
    "guidance at patches": ({"guidance": {"attention": "one_way", "at": "patches", "into": "all"}}, {}, None),
    "everything": (TEXT, LOSSES, 5),
}


def build(cell: str, seed: int = 0) -> GuidedVQShape:
    """A model of which no tensor is as it was built."""
    config, losses, queries = CELLS[cell]
    if config.get("text_codes"):
        losses = losses | {"text_vq": 0.5}
    model = GuidedVQShape(
        ModelConfig.model_validate(SMALL | config), LossConfig.model_validate(losses), SIZES, queries, seed
    )
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand(value.shape, generator=noise) + 0.1)
            else:
                value.copy_(~value if value.dtype == torch.bool else value + 1)
    return model


@pytest.mark.parametrize("cell", CELLS)
def test_a_model_comes_back_bit_for_bit_with_its_buffers_and_tokens(cell: str, tmp_path: Path) -> None:
    model = build(cell).train()
    save_pretrained(model, tmp_path / "deep" / "folder")
    assert model.training
    loaded = from_pretrained(tmp_path / "deep" / "folder")
    before, after = model.state_dict(), loaded.state_dict()
    assert list(before) == list(after) and {"offset", "scale", "class_weight"} <= after.keys()
    for name, value in before.items():
        assert value.dtype == after[name].dtype and torch.equal(value, after[name]), name
    assert (loaded.config, loaded.weights, loaded.sizes) == (model.config, model.weights, model.sizes)
    assert not any(module.training for module in loaded.modules())
    x = torch.randn(3, 2, 24, generator=torch.Generator().manual_seed(1))
    model.eval()
    one, other = (m.features(x, m.tokenize(x)) for m in (model, loaded))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert model.text is None or loaded.text is not None


def test_a_loaded_model_saves_to_the_same_bytes_and_loading_draws_no_random_number(tmp_path: Path) -> None:
    save_pretrained(build("everything"), tmp_path / "one")
    torch.manual_seed(3)
    state = torch.get_rng_state()
    save_pretrained(from_pretrained(tmp_path / "one"), tmp_path / "two")
    assert torch.equal(state, torch.get_rng_state())
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["config.json", "model.safetensors"]
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize("last", ["model.safetensors", "config.json"])
def test_a_save_that_dies_leaves_no_folder_that_passes_for_whole(
    last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pretrained(build("one_way"), tmp_path)
    real = os.replace

    def dies(source: Path, target: Path) -> None:
        if target.name == last:
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            save_pretrained(build("one_way", seed=1), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        from_pretrained(tmp_path)
    save_pretrained(build("one_way", seed=1), tmp_path)
    assert torch.equal(from_pretrained(tmp_path).offset, build("one_way", seed=1).offset)


def config(**changes: Any) -> Callable[[Path], None]:
    """Edit config.json: dotted names with __, None takes a key away."""

    def edit(folder: Path) -> None:
        path = folder / "config.json"
        whole = json.loads(path.read_text())
        for dotted, value in changes.items():
            *outer, name = dotted.split("__")
            inner = whole
            for key in outer:
                inner = inner[key]
            if value is None:
                del inner[name]
            else:
                inner[name] = value
        path.write_text(json.dumps(whole))

    return edit


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        found = load_file(folder / "model.safetensors")
        change(found)
        save_file(found, folder / "model.safetensors")

    return edit


def cut(name: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return edit


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    "a cut config": (cut("config.json"), "config.json: "),
    "cut weights": (cut("model.safetensors"), "model.safetensors is broken: "),
    "a list": (lambda f: (f / "config.json").write_text("[]"), "config.json: expected format 1, found None"),
    "another format": (config(format=2), "config.json: expected format 1, found 2"),
    "a newer setting": (
        config(model__guidance__depth=3),
        "config.json: model.guidance.depth: not a setting of this ShapeLex; a newer one may have written it",
    ),
    "a newer part": (config(audio={}), "config.json: audio: not a setting of this ShapeLex"),
    "a setting gone": (config(losses__spread=None), "config.json: losses.spread is missing"),
    "sizes gone": (config(sizes__length=None), "config.json: sizes.length: Field required"),
    "a wrong value": (
        config(model__quantizer="sharp"),
        "config.json: model.quantizer: Input should be 'standard'",
    ),
    "a bad pair": (config(losses__ce_guided_text=1), "config.json: losses.ce_guided_text reads text"),
    "no length for it": (config(sizes__length=25), "config.json: model.patches 6 does not divide"),
    "a tensor gone": (
        tensors(lambda t: t.pop("core.tokenizer.tokens")),
        "model.safetensors does not fit config.json: .* missing there: core.tokenizer.tokens",
    ),
    "a tensor too many": (tensors(lambda t: t.update(x=torch.ones(1))), "model.safetensors .* unexpected: x"),
    "another shape": (
        config(model__codes=9),
        r"another shape: core.codebook.embedding.weight \(theirs \(8, 8\), ours \(9, 8\)\)",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_folder_that_is_no_saved_model_says_which_file_and_why(what: str, tmp_path: Path) -> None:
    save_pretrained(build("one_way"), tmp_path)
    from_pretrained(tmp_path)
    damage, message = BROKEN[what]
    damage(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
        from_pretrained(tmp_path)
    assert str(tmp_path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_setting_added_since_takes_the_value_that_changes_nothing_and_not_todays_default() -> None:
    class Inner(Frozen):
        new: int = added(2, leaves_at=1)
        old: int = 5

    class Outer(Frozen):
        inner: Inner = Inner()
        newer: str = added("fast", leaves_at="exact")

    completed = checkpoint._complete(Outer, {"inner": {"old": 4}}, "model")
    assert completed == {"inner": {"old": 4, "new": 1}, "newer": "exact"}
    with pytest.raises(ValueError, match=r"model\.inner\.old is missing"):
        checkpoint._complete(Outer, {"inner": {}}, "model")


def test_a_model_saved_before_a_setting_was_added_still_loads(tmp_path: Path) -> None:
    save_pretrained(build("one_way"), tmp_path)
    config(model__quantizer=None, model__guidance__at=None, losses__supcon=None)(tmp_path)
    loaded = from_pretrained(tmp_path)
    assert loaded.config == build("one_way").config and loaded.weights == build("one_way").weights


def test_the_readmes_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = README.split("## Use the model\n")[1].split("\n## ")[0]
    lines = [line.removeprefix("    ") for line in text.splitlines() if line.startswith("    ") or not line]
    save_pretrained(build("everything"), tmp_path / "runs/trials/0123456789abcdef/model")
    written(tmp_path / "VQShape.ckpt")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec("\n".join(lines), scope)
    assert scope["tokens"].code.shape == (8, 2, 4)
    assert scope["reference"].config.normalize == "instance" and not scope["reference"].training
    assert re.match(r"\d+ of \d+ tensors match", str(scope["report"]))
