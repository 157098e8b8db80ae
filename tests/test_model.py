"""Guidance by text: what it may change, what it may not, and where gradient goes."""

from itertools import product

import pytest
import torch

from model.batch import Batch, Sizes
from model.config import ATTRIBUTES, GuidanceConfig, LossConfig, ModelConfig
from model.guided import GuidedVQShape
from model.text import TextTable, TextTokens
from model.vqshape import VQShape

SIZES = Sizes(length=24, channels=2, classes=3, text_width=12)
SMALL = dict(patches=6, tokens=4, width=16, heads=2, encoder_layers=1, tokenizer_layers=1, codes=8)
W = 6


def build(
    guidance: dict | None = None, losses: dict | None = None, queries: int | None = None, seed: int = 0
):
    config = ModelConfig(**SMALL, shape_length=16, guidance=GuidanceConfig(**(guidance or {})))
    return GuidedVQShape(config, LossConfig(**(losses or {})), SIZES, queries, seed)


def table(seed: int = 0) -> TextTable:
    g = torch.Generator().manual_seed(seed)
    real = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()
    return TextTable.from_tokens(torch.randn(3, 5, 12, generator=g), real)


def batch(sees: list[bool] | None = None, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    keep = torch.rand(W * 2, 6, generator=g).argsort(-1)[:, 1:]
    text = torch.tensor([0, 1, 2, 0, 1, 2])
    sees_text = torch.tensor(sees or [True, False] * 3)
    return Batch(torch.randn(W, 2, 24, generator=g), text.clone(), keep, text, text, sees_text)


CELLS = [
    ("one_way", "mean", {}),
    ("two_way", "mean", {}),
    ("two_way", "contrast", {"info_nce": 0.1}),
    ("two_way", "mean", {"info_nce": 0.1, "consistency": 0.1, "text_recon": 0.1, "ce_series": 0.1}),
]


@pytest.mark.parametrize(("attention", "merge", "losses"), CELLS)
@pytest.mark.parametrize("into", [("z",), ("t",), ("mu", "sigma"), ATTRIBUTES])
def test_gradient_reaches_every_attention_and_every_series_only_head(
    attention: str, merge: str, losses: dict, into: tuple[str, ...]
) -> None:
    model = build({"attention": attention, "merge": merge, "into": into}, losses)
    model.losses(batch(), table())["total"].backward()
    without = [
        name
        for name, p in model.named_parameters()
        if (p.grad is None or not p.grad.abs().sum() > 0)
        # a standardised output leaves its last bias without gradient (ANCHORS 23)
        and name != "core.shape_decoder.layers.9.bias"
    ]
    assert without == []


@pytest.mark.parametrize(("attention", "merge", "losses"), [*CELLS, ("none", "mean", {"ce_series": 0.1})])
def test_the_series_only_heads_learn_where_no_window_sees_text(
    attention: str, merge: str, losses: dict
) -> None:
    model = build({"attention": attention, "merge": merge}, losses)
    model.losses(batch([False] * W), table())["total"].backward()
    for name, p in model.core.attr_decoder.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name


def test_no_text_reaches_the_series_only_path() -> None:
    model = build({"attention": "two_way"}, {"info_nce": 1, "text_recon": 1, "consistency": 1}).eval()
    x = batch().x
    before = model.features(x, model.tokenize(x))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if not name.startswith("core."):
                p.normal_()
    after = model.features(x, model.tokenize(x))
    for name in before:
        assert torch.equal(before[name], after[name])


def test_text_does_change_the_guided_path_and_only_for_windows_that_see_it() -> None:
    model = build({"attention": "one_way", "text_dropout": 0.5}).eval()
    one, other = (model.losses(batch([True] * W), table(s))["total"] for s in (0, 1))
    assert not torch.equal(one, other)
    one, other = (model.losses(batch([False] * W), table(s))["total"] for s in (0, 1))
    assert torch.equal(one, other)


def test_guidance_off_equals_the_class_without_guidance_bit_for_bit() -> None:
    guided, core = (
        build({"attention": "none"}),
        VQShape(ModelConfig(**SMALL, shape_length=16), 24, axes=1, seed=0),
    )
    b = batch()
    for step in range(3):
        losses = []
        for module in (guided, core):
            torch.manual_seed(step)
            optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
            if isinstance(module, GuidedVQShape):
                found = module.losses(b, None)
            else:
                x = b.x.flatten(0, 1).unsqueeze(1)
                found = module.losses(x, module(x, b.keep))
                found["total"] = torch.stack(
                    [w * found[k] for k, w in {"series": 1, "shape": 1, "vq": 1, "spread": 0.8}.items()]
                ).sum()
            optimizer.zero_grad()
            found["total"].backward()
            optimizer.step()
            losses.append(found["total"].detach())
        assert torch.equal(losses[0], losses[1])
    for name, p in core.named_parameters():
        assert torch.equal(p, dict(guided.core.named_parameters())[name]), name


@pytest.mark.parametrize(("attention", "merge"), list(product(("one_way", "two_way"), ("mean", "contrast"))))
def test_bolting_modules_on_moves_no_initial_weight_of_the_core(attention: str, merge: str) -> None:
    plain = build().core.state_dict()
    guided = build(
        {"attention": attention, "merge": merge}, {"info_nce": 1, "ce_series": 1}, 3
    ).core.state_dict()
    assert all(torch.equal(plain[k], guided[k]) for k in plain)
    assert not torch.equal(plain["codebook.embedding.weight"], build(seed=1).core.codebook.embedding.weight)


def test_building_a_model_draws_nothing_of_the_callers_and_seeds_no_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("a GPU was seeded"))
    before = torch.get_rng_state()
    build({"attention": "two_way"})
    assert torch.equal(torch.get_rng_state(), before)


def test_only_the_attributes_in_into_read_the_fused_tokens() -> None:
    model = build({"attention": "one_way"}).eval()
    heads = model.core.attr_decoder
    h, fused = torch.randn(2, 4, 16), torch.randn(2, 4, 16)
    alone = heads(h)
    every = heads.guided(alone, h, fused, ATTRIBUTES)
    for name in ("z", "mu", "sigma", "t"):
        one = heads.guided(alone, h, fused, (name,))
        for other in ("z", "mu", "sigma", "t"):
            expected = every if other == name else alone
            assert torch.equal(getattr(one, other), getattr(expected, other)), (name, other)
    # l is measured from t on, so it moves with t even where it reads h
    only_l = heads.guided(alone, h, fused, ("l",))
    assert torch.equal(only_l.t, alone.t) and not torch.equal(only_l.l, alone.l)


def test_padding_of_a_text_changes_nothing() -> None:
    model = build({"attention": "two_way"}, {"info_nce": 1, "text_recon": 1}).eval()
    short = table()
    longer = torch.nn.functional.pad(short.tokens, (0, 0, 0, 3), value=7.0)
    padded = TextTable.from_tokens(longer, torch.nn.functional.pad(short.real, (0, 3)))
    one, other = model.losses(batch(), short), model.losses(batch(), padded)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-5, atol=1e-6)


def test_text_tokens_are_native_or_n_learned_queries() -> None:
    native, real = TextTokens(12, 16, 2, None)(table())
    assert native.shape == (3, 5, 16) and torch.equal(real, table().real)
    queried, real = TextTokens(12, 16, 2, 4)(table())
    assert queried.shape == (3, 4, 16) and real.all()


def test_the_teacher_of_consistency_draws_no_random_number_and_gets_no_gradient() -> None:
    states = []
    for weight in (0.0, 1.0):
        model = build({"attention": "one_way"}, {"consistency": weight})
        torch.manual_seed(0)
        model.losses(batch(), table())
        states.append(torch.get_rng_state())
        assert model.training
    assert torch.equal(states[0], states[1])
    model = build({"attention": "one_way", "into": ["z"]}, {"consistency": 1.0})
    model.losses(batch([False] * W), table())["consistency"].backward()
    assert model.core.codebook.embedding.weight.grad is None
    assert model.guidance is not None
    assert all(p.grad is None for p in model.guidance.parameters())
    assert model.core.attr_decoder.z_head.layers[0].weight.grad.abs().sum() > 0


def test_instance_normalisation_forgets_offset_and_scale_and_dataset_keeps_them() -> None:
    x = batch().x
    for normalize, same in (("instance", True), ("dataset", False)):
        config = ModelConfig(**SMALL, shape_length=16, normalize=normalize)
        model = GuidedVQShape(config, LossConfig(), SIZES, None, 0).eval()
        with torch.no_grad():
            one, other = (model.features(v, model.tokenize(v))["tokens"] for v in (x, 3 * x + 5))
        assert torch.allclose(one, other, atol=1e-3) is same


def test_a_window_of_the_wrong_shape_says_expected_and_found() -> None:
    with pytest.raises(
        ValueError, match=r"expected windows \(W, 2 channels, 24 steps\), found shape \(6, 3, 24\)"
    ):
        build().tokenize(torch.randn(6, 3, 24))


def test_a_length_that_cannot_be_cut_names_numbers_that_work() -> None:
    with pytest.raises(
        ValueError, match=r"model.patches 6 does not divide a series of 25 samples; try \[5, 25\]"
    ):
        VQShape(ModelConfig(**SMALL, shape_length=16), 25, axes=1, seed=0)
