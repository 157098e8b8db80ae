"""The core equals the reference VQShape on a micro configuration, evaluation mode."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from model.config import ModelConfig
from model.vqshape import Output, VQShape

GOLDEN = np.load(Path(__file__).parent / "golden" / "vqshape_micro.npz", allow_pickle=False)


def load() -> VQShape:
    c = json.loads(str(GOLDEN["config"]))
    config = ModelConfig(
        patches=c["num_patch"],
        tokens=c["num_token"],
        width=c["dim_embedding"],
        heads=c["num_enc_head"],
        encoder_layers=c["num_enc_layer"],
        tokenizer_layers=c["num_tokenizer_layer"],
        decoder_layers=c["num_dec_layer"],
        codes=c["num_code"],
        code_width=c["dim_code"],
        shape_length=c["len_s"],
        smoothing=c["s_smooth_factor"],
        mask_frac=c["mask_ratio"],
        codebook_weight=c["lambda_commit"],
        entropy_weight=c["lambda_entropy"],
        entropy_gamma=c["entropy_gamma"],
        normalize="instance",
    )
    core = VQShape(config, c["len_input"], axes=1, seed=0)
    state = {
        k.removeprefix("state/"): torch.tensor(GOLDEN[k]) for k in GOLDEN.files if k.startswith("state/")
    }
    core.load_state_dict(state, strict=True)
    return core.eval()


def run(core: VQShape) -> tuple[Output, dict[str, torch.Tensor], torch.Tensor]:
    x = torch.tensor(GOLDEN["x"]).unsqueeze(1)
    out = core(x)
    losses = core.losses(x, out)
    total = losses["series"] + losses["vq"] + losses["shape"] + 0.8 * losses["spread"]
    return out, losses, total


def close(found: torch.Tensor, name: str, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(found.detach().numpy(), GOLDEN[name], rtol=1e-5, atol=atol, err_msg=name)


def decode(core: VQShape, way: str) -> None:
    """Make the core's shapes token by token, code by code, or the cheaper way."""
    module, cheaper = core.shape_decoder, core.shape_decoder.decode
    module.decode = {  # type: ignore[method-assign]
        "tokens": lambda z, code, codes: cheaper(z, None, None),
        "codes": module.by_code,
        "cheaper": cheaper,
    }[way]


ways = pytest.mark.parametrize("way", ["tokens", "codes", "cheaper"])


@ways
def test_outputs_and_representations_equal_the_reference(way: str) -> None:
    core = load()
    decode(core, way)
    out, _, _ = run(core)
    x, a = torch.tensor(GOLDEN["x"]).unsqueeze(1), out.attributes
    close(out.x_hat.squeeze(1), "output/x_pred")
    close(out.s_hat.squeeze(2), "output/s_pred")
    close(core.true_shapes(x, a).squeeze(2), "output/s_true")
    close(a.z, "output/code")
    for name, value in {"t": a.t, "l": a.l, "mu": a.mu, "sigma": a.sigma}.items():
        close(value, f"output/{name}_pred")
    assert (out.code.numpy() == GOLDEN["output/code_idx"]).all()
    close(torch.cat([a.z, a.t, a.l, a.mu, a.sigma], -1), "representation/token")
    counts = torch.nn.functional.one_hot(out.code, 16).sum(1)
    assert (counts.numpy() == GOLDEN["representation/histogram"]).all()


@ways
def test_losses_equal_the_reference(way: str) -> None:
    core = load()
    decode(core, way)
    _, losses, total = run(core)
    names = {"series": "ts_loss", "vq": "vq_loss", "shape": "shape_loss", "spread": "dist_loss"}
    for ours, theirs in names.items():
        close(losses[ours].reshape(1), f"loss/{theirs}")
    close(total, "loss/total")


@ways
def test_gradients_equal_the_reference(way: str) -> None:
    core = load()
    decode(core, way)
    _, _, total = run(core)
    total.backward()
    checked = 0
    for name, p in core.named_parameters():
        assert p.grad is not None, name
        if f"grad/{name}" in GOLDEN.files:
            np.testing.assert_allclose(p.grad.numpy(), GOLDEN[f"grad/{name}"], rtol=1e-4, atol=1e-5)
            checked += 1
        norm = float(GOLDEN[f"grad_norm/{name}"])
        assert abs(float(p.grad.norm()) - norm) <= 1e-4 * norm + 1e-5, name
    assert checked == 4


def test_the_loss_and_gradients_of_both_ways_agree_on_more_tokens_than_codes() -> None:
    x = torch.randn(40, 1, 64, generator=torch.Generator().manual_seed(1))
    grads = []
    for way in ("codes", "tokens"):
        core = load()
        decode(core, way)
        out = core(x)
        loss = core.losses(x, out)["shape"]
        loss.backward()
        grads.append([loss.detach(), *(p.grad.clone() for p in core.parameters() if p.grad is not None)])
    for fast, slow in zip(*grads, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
