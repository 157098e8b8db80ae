"""The reference's checkpoints, saved as its LightningModule saves them, load whole or in part; none runs."""

import argparse
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import lightning as pl
import numpy as np
import pytest
import torch

from model.arrays import tokenize
from model.batch import Sizes
from model.config import LossConfig, ModelConfig
from model.reference import load_into, load_reference
from model.vqshape import VQShape

GOLDEN = np.load(Path(__file__).parent / "golden" / "vqshape_micro.npz", allow_pickle=False)
WEIGHTS = {k.removeprefix("state/"): torch.tensor(GOLDEN[k]) for k in GOLDEN.files if k.startswith("state/")}


def arguments(**changes: Any) -> argparse.Namespace:
    """What the reference's `get_args` gives for the golden model; a change to None takes one away."""
    c = json.loads(str(GOLDEN["config"]))
    given = {
        "dim_embedding": c["dim_embedding"],
        "normalize_length": c["len_input"],
        "patch_size": c["patch_size"],
        "num_patch": c["num_patch"],
        "num_token": c["num_token"],
        "num_transformer_enc_heads": c["num_enc_head"],
        "num_transformer_enc_layers": c["num_enc_layer"],
        "num_tokenizer_heads": c["num_tokenizer_head"],
        "num_tokenizer_layers": c["num_tokenizer_layer"],
        "num_transformer_dec_heads": c["num_dec_head"],
        "num_transformer_dec_layers": c["num_dec_layer"],
        "num_code": c["num_code"],
        "dim_code": c["dim_code"],
        "codebook_type": c["codebook_type"],
        "len_s": c["len_s"],
        "s_smooth_factor": c["s_smooth_factor"],
        "lambda_x": 1.0,
        "lambda_z": 1.0,
        "lambda_s": 1.0,
        "lambda_dist": 0.8,
        "lambda_vq_commit": c["lambda_commit"],
        "lambda_vq_entropy": c["lambda_entropy"],
        "entropy_gamma": c["entropy_gamma"],
        "mask_ratio": c["mask_ratio"],
        "lr": 1e-4,
        "data_root": "../data/VQShape",
        "dev": False,
        "precision": "bf16-mixed",
        "save_dir": "./checkpoints/vqshape_pretrain/uea_dim512_codebook64",
    }
    return argparse.Namespace(**{k: v for k, v in (given | changes).items() if v is not None})


def golden_core(**changes: Any) -> VQShape:
    micro = dict(patches=8, tokens=8, width=32, codes=16, shape_length=32, normalize="instance")
    return VQShape(ModelConfig.model_validate(micro | changes), 64, axes=1, seed=7)


class LitVQShape(pl.LightningModule):
    """The reference's module as far as a checkpoint shows it. At rate 0 the golden weights stay."""

    def __init__(self, args: argparse.Namespace, whole: bool) -> None:
        super().__init__()
        if whole:
            self.save_hyperparameters(args)
        else:
            self.save_hyperparameters(ignore=["whole"])
        self.model = golden_core()
        self.model.load_state_dict(WEIGHTS)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        return self.model(batch[0]).x_hat.square().mean()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.0, weight_decay=0.01)
        parts = [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.0001, 1, 1),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2, eta_min=0.0),
        ]
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, schedulers=parts, milestones=[1])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@pytest.fixture(scope="module", params=["save_hyperparameters(args)", "save_hyperparameters()"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that Lightning's trainer saved, optimizer, schedules and callbacks inside."""
    folder = tmp_path_factory.mktemp("lightning")
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    x = torch.utils.data.TensorDataset(torch.tensor(GOLDEN["x"]).unsqueeze(1))
    module = LitVQShape(arguments(), whole="args" in request.param)
    trainer.fit(module, torch.utils.data.DataLoader(x, batch_size=3))
    trainer.save_checkpoint(folder / "VQShape.ckpt")
    return folder / "VQShape.ckpt"


def written(path: Path, **changes: Any) -> Path:
    """A checkpoint of that layout by hand; a change to None leaves the entry out."""
    content = {
        "epoch": 2,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"model.{k}": v for k, v in WEIGHTS.items()},
        "hparams_name": "args",
        "hyper_parameters": arguments(),
    }
    torch.save({k: v for k, v in (content | changes).items() if v is not None}, path)
    return path


def assert_golden(path: Path) -> None:
    model = load_reference(path, channels=1)
    assert not model.training and model.config.normalize == "instance" and model.weights == LossConfig()
    x = torch.tensor(GOLDEN["x"]).unsqueeze(1)
    with torch.no_grad():
        out = model.core(x)
    for name, found in {
        "x_pred": out.x_hat[:, 0],
        "s_pred": out.s_hat[:, :, 0],
        "code": out.attributes.z,
        "t_pred": out.attributes.t,
        "l_pred": out.attributes.l,
        "mu_pred": out.attributes.mu,
        "sigma_pred": out.attributes.sigma,
    }.items():
        np.testing.assert_allclose(found, GOLDEN[f"output/{name}"], rtol=1e-5, atol=1e-5, err_msg=name)
    tokens = tokenize(model, GOLDEN["x"][:, None])
    assert (tokens.code[:, 0] == GOLDEN["output/code_idx"]).all()
    expected = GOLDEN["representation/token"].reshape(len(x), -1)
    np.testing.assert_allclose(tokens.features["tokens"], expected, rtol=1e-5, atol=1e-5)
    assert (tokens.features["histogram"] == GOLDEN["representation/histogram"]).all()


def test_a_checkpoint_that_lightning_saved_gives_the_references_outputs(trained: Path) -> None:
    inside = torch.load(trained, weights_only=False)
    assert inside["optimizer_states"][0]["state"] and inside["lr_schedulers"] and inside["callbacks"]
    assert_golden(trained)


LAYOUTS = {
    "a Namespace as hyper_parameters": {},
    "its fields": {"hyper_parameters": vars(arguments())},
    "a Namespace by its argument's name": {"hyper_parameters": {"args": arguments()}},
    "hparams, as before Lightning 0.8": {"hyper_parameters": None, "hparams": vars(arguments())},
    "from before the tokenizer's own arguments": {
        "hyper_parameters": arguments(num_tokenizer_heads=None, num_tokenizer_layers=None, codebook_type=None)
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_references_outputs(layout: str, tmp_path: Path) -> None:
    assert_golden(written(tmp_path / "VQShape.ckpt", **LAYOUTS[layout]))


def test_loading_leaves_torchs_list_of_safe_classes_as_it_was(tmp_path: Path) -> None:
    path = written(tmp_path / "VQShape.ckpt")
    torchs_own = set(torch.serialization.get_safe_globals())
    assert argparse.Namespace not in torchs_own
    load_reference(path, channels=1)
    assert set(torch.serialization.get_safe_globals()) == torchs_own
    with torch.serialization.safe_globals([argparse.Namespace]):
        load_reference(path, channels=1)
        assert argparse.Namespace in torch.serialization.get_safe_globals()


class Calls:
    """Unpickled in full, it calls `function`."""

    def __init__(self, function: Any, *given: Any) -> None:
        self.reduced = function, given

    def __reduce__(self) -> Any:
        return self.reduced


class Other:
    """Harmless, and not let in either."""


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("where", ["hyper_parameters", "a field of the Namespace", "beside"])
@pytest.mark.parametrize(("kind", "named"), [("os", "posix.mkdir"), ("exec", "exec"), ("other", "Other")])
def test_any_other_class_is_refused_and_nothing_of_it_runs(
    kind: str, named: str, where: str, zipped: bool, tmp_path: Path
) -> None:
    trace, path = tmp_path / "ran", tmp_path / "VQShape.ckpt"
    bad = {
        "os": Calls(os.mkdir, str(trace)),
        "exec": Calls(exec, f"import os; os.mkdir({str(trace)!r})"),
        "other": Other(),
    }[kind]
    at = {
        "hyper_parameters": {"hyper_parameters": bad},
        "a field of the Namespace": {"hyper_parameters": arguments(extra=bad)},
        "beside": {"callbacks": {"x": bad}},
    }[where]
    content = torch.load(written(path), weights_only=False) | at
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    for load in (lambda: load_reference(path, channels=1), lambda: load_into(golden_core(), path)):
        with pytest.raises(ValueError, match=named) as raised:
            load()
        assert str(path) in str(raised.value) and "\n" not in str(raised.value)
        assert not trace.exists()
    if kind != "other":
        torch.load(path, weights_only=False)
        assert trace.exists()  # so the file does bite who reads it otherwise


def broken(kind: str, path: Path) -> None:
    data = written(path).read_bytes()
    if kind == "archive":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("uea_dim256_codebook512/VQShape.ckpt", data)
    else:
        path.write_bytes({"cut": data[: len(data) // 2], "text": b"hello there", "empty": b""}[kind])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut", "not a checkpoint, or not whole"),
        ("text", "not a checkpoint, or not whole"),
        ("empty", "not a checkpoint, or not whole"),
        ("archive", "unpack it, and load uea_dim256_codebook512/VQShape.ckpt"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_one_clear_line(kind: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "VQShape.ckpt"
    broken(kind, path)
    with pytest.raises(ValueError, match=message) as raised:
        load_reference(path, channels=1)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "weights alone": ({"state_dict": None}, "no Lightning checkpoint: it has no state_dict"),
    "no arguments": ({"hyper_parameters": None}, "num_patch, num_token, dim_embedding, .* are not there"),
    "arguments missing": (
        {"hyper_parameters": arguments(len_s=None, lambda_x=None)},
        "expected the reference's arguments, and len_s, lambda_x are not there",
    ),
    "text for a number": ({"hyper_parameters": arguments(num_code="64")}, "expected numbers, and num_code"),
    "vqtorch": ({"hyper_parameters": arguments(codebook_type="vqtorch")}, "codebook_type vqtorch"),
    "heads": (
        {"hyper_parameters": arguments(num_tokenizer_heads=2)},
        r"one number of heads, not \[4, 2, 4\]",
    ),
    "overlap": ({"hyper_parameters": arguments(patch_size=16)}, "8 patches of 16 do not make up 64 steps"),
    "a value out of range": ({"hyper_parameters": arguments(mask_ratio=1.5)}, "mask_frac: .* less than 1"),
    "other arguments than weights": (
        {"hyper_parameters": arguments(num_code=99)},
        r"another shape: codebook.embedding.weight \(theirs \(16, 8\), ours \(99, 8\)\)",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_checkpoint_that_cannot_be_the_references_is_one_clear_line(what: str, tmp_path: Path) -> None:
    changes, message = WRONG[what]
    path = written(tmp_path / "VQShape.ckpt", **changes)
    with pytest.raises(ValueError, match=message) as raised:
        load_reference(path, channels=1)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.ckpt"):
        load_reference(tmp_path / "nowhere.ckpt", channels=1)


def test_a_core_of_another_config_takes_what_fits_and_keeps_the_rest(tmp_path: Path) -> None:
    path = written(tmp_path / "VQShape.ckpt")
    core = golden_core(codes=24, tokens=4, decoder_layers=2)
    before = {name: value.clone() for name, value in core.state_dict().items()}
    report = load_into(core, path)
    after = core.state_dict()
    assert all(torch.equal(after[name], WEIGHTS[name]) for name in report.matched)
    rest = set(after) - set(report.matched)
    assert all(torch.equal(after[name], before[name]) for name in rest)
    assert set(report.missing) == {name for name in after if name.startswith("decoder.transformer.layers.1.")}
    assert {name for name, _, _ in report.other_shape} == {
        "codebook.embedding.weight",
        "tokenizer.tokens",
        "decoder.out_layer.weight",
        "decoder.out_layer.bias",
    }
    assert ("codebook.embedding.weight", (16, 8), (24, 8)) in report.other_shape
    assert rest == set(report.missing) | {name for name, _, _ in report.other_shape}
    assert report.unexpected == () and report.other_settings == () and not report.whole
    assert str(report).startswith(f"{len(report.matched)} of {len(after)} tensors match; missing there: ")


def test_a_core_of_the_same_config_takes_everything(tmp_path: Path) -> None:
    core = golden_core()
    report = load_into(core, written(tmp_path / "VQShape.ckpt"))
    assert report.whole and set(report.matched) == set(WEIGHTS)
    assert str(report) == f"{len(WEIGHTS)} of {len(WEIGHTS)} tensors match"
    assert all(torch.equal(value, WEIGHTS[name]) for name, value in core.state_dict().items())


def test_the_report_names_settings_that_no_shape_shows_and_tensors_that_have_no_place(tmp_path: Path) -> None:
    core = golden_core(heads=2, normalize="dataset", tokenizer_layers=1, quantizer="none")
    report = load_into(core, written(tmp_path / "VQShape.ckpt"))
    assert ("num_tokenizer_heads", 4, 2) in report.other_settings
    assert ("normalize", "instance", "dataset") in report.other_settings
    assert "codebook.embedding.weight" in report.unexpected and report.missing == report.other_shape == ()
    assert "other settings: num_transformer_enc_heads (theirs 4, ours 2)" in str(report)


def test_a_checkpoint_of_which_nothing_fits_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "VQShape.ckpt", state_dict={"model.other": torch.ones(2)})
    core = golden_core()
    before = {name: value.clone() for name, value in core.state_dict().items()}
    with pytest.raises(ValueError, match="no tensor of it fits; 0 of"):
        load_into(core, path)
    assert all(torch.equal(value, before[name]) for name, value in core.state_dict().items())


def test_every_argument_of_a_checkpoint_becomes_the_setting_of_its_kind(tmp_path: Path) -> None:
    core = golden_core(smoothing=3)
    path = written(
        tmp_path / "other.ckpt",
        state_dict={f"model.{k}": v for k, v in core.state_dict().items()},
        hyper_parameters=arguments(
            s_smooth_factor=3,
            lambda_x=2.0,
            lambda_s=3.0,
            lambda_z=4.0,
            lambda_dist=5.0,
            lambda_vq_commit=0.6,
            lambda_vq_entropy=0.7,
            entropy_gamma=0.8,
            mask_ratio=0.5,
        ),
    )
    model = load_reference(path, channels=3)
    assert model.sizes == Sizes(64, 3, 0, 0)
    assert model.weights == LossConfig(series=2, shape=3, vq=4, spread=5)
    changed = {
        "smoothing": 3,
        "codebook_weight": 0.6,
        "entropy_weight": 0.7,
        "entropy_gamma": 0.8,
        "mask_frac": 0.5,
    }
    assert model.config == core.config.model_copy(update=changed)
