"""Which modules each loss moves, what no text may reach, and what text at patches and mixed precision do."""

from typing import Any

import pytest
import torch
from guided_fixture import SMALL, TWO_WAY, batch, build, concepts, full, losses, table, unmasked
from torch.nn import functional as F

from model import losses as L
from model.attributes import Attributes
from model.guided import GuidedVQShape

HEADS = {"z_head", "tl_mean_head", "mu_head", "sigma_head"}
SERIES = {"encoder", "tokenizer"}
TEXT = {"text", "guidance"}
# What each loss reaches with two_way guidance, merge mean, at tokens, into all; half of the windows see text.
REACHES = {
    "series": SERIES | TEXT | HEADS | {"attr_encoder", "decoder"},
    "shape": SERIES | TEXT | {"z_head", "mu_head", "sigma_head", "shape_decoder"},
    "vq": SERIES | TEXT | {"z_head", "codebook"},
    "spread": SERIES | TEXT | {"tl_mean_head"},
    "info_nce": SERIES | {"text", "log_scale"},
    "supcon": SERIES | {"text"},
    "consistency": SERIES | HEADS,
    "text_recon": SERIES | {"z_head", "text_head"},
    "text_vq": {"text", "text_codes", "codebook"},
    "series_from_text": {"text", "text_codes", "attr_encoder", "decoder"},
    "ce_series": SERIES | HEADS | {"classifier"},
    "ce_guided_series": SERIES | TEXT | {"guided_classifier"},
    "ce_guided_text": SERIES | TEXT | {"text_classifier"},
    "sub_action": SERIES | {"z_head", "sub_actions"},
}
OTHERWISE: list[tuple[dict[str, Any], dict[str, set[str]]]] = [
    ({}, {}),
    (
        {"guidance": {"attention": "two_way", "merge": "contrast"}},
        {name: REACHES[name] | {"guidance"} for name in ("info_nce", "supcon")},
    ),
    # text at patches attends to the encoder's output, which no tokenizer has seen
    (
        {"guidance": TWO_WAY | {"at": "patches"}},
        {"ce_guided_text": {"encoder", "text", "guidance", "text_classifier"}},
    ),
    ({"losses": {"text_recon_level": "guided"}}, {"text_recon": SERIES | TEXT | {"text_head"}}),
    ({"sub_actions": "head"}, {"sub_action": SERIES | {"sub_actions"}}),
    ({"sub_actions": "decoder", "losses": {"sub_action_target": "attention"}}, {}),
    (
        {"sub_actions": "head", "losses": {"sub_action_target": "attention"}},
        {"sub_action": SERIES | {"sub_actions"}},
    ),
    ({"channels": "joint"}, {}),
    # only z reads text, so only z's losses reach it
    (
        {"guidance": TWO_WAY | {"into": ["z"]}},
        {"spread": SERIES | {"tl_mean_head"}, "consistency": SERIES | {"z_head"}},
    ),
    (
        {
            "quantizer": "none",
            "text_codes": False,
            "sub_actions": "head",
            "losses": {"text_vq": 0, "series_from_text": 0},
        }
        | {"guidance": TWO_WAY | {"into": ["t", "mu"]}},
        {
            "vq": set(),
            "shape": REACHES["shape"],
            "consistency": SERIES | {"tl_mean_head", "mu_head"},
            "sub_action": SERIES | {"sub_actions"},
        },
    ),
]


def reached(model: GuidedVQShape, loss: torch.Tensor) -> set[str]:
    """Modules with a gradient that is not 0: the core's parts and heads, and the text modules."""
    if not loss.requires_grad:
        return set()
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    moved = [n for n, grad in zip(names, found, strict=True) if grad is not None and grad.abs().sum() > 0]
    return {n.removeprefix("core.").removeprefix("attr_decoder.").split(".")[0] for n in moved}


@pytest.mark.parametrize(("settings", "otherwise"), OTHERWISE, ids=[str(s)[:60] for s, _ in OTHERWISE])
def test_a_loss_moves_the_modules_that_it_names_and_no_other(
    settings: dict[str, Any], otherwise: dict[str, set[str]]
) -> None:
    model = full(**settings)
    found = losses(model)
    expected = {name: modules for name, modules in (REACHES | otherwise).items() if name in found}
    assert found.keys() - {"total"} == expected.keys()
    assert {name: reached(model, found[name]) for name in expected} == expected


@pytest.mark.parametrize("name", ["info_nce", "supcon", "text_recon", "ce_series"])
def test_a_loss_without_guidance_leaves_the_guided_modules_unbuilt(name: str) -> None:
    model = build({name: 1.0})
    assert model.guidance is None and "guidance" not in reached(model, losses(model)[name])
    assert reached(model, losses(model)[name]) == REACHES[name]


@pytest.mark.parametrize("at", ["tokens", "patches"])
@pytest.mark.parametrize("merge", ["mean", "contrast"])
def test_gradient_reaches_every_attention_of_every_layer(at: str, merge: str) -> None:
    model = full(guidance={"attention": "two_way", "merge": merge, "at": at, "layers": 3, "heads": 1})
    losses(model)["total"].backward()
    assert len(model.guidance.text_to_series) == len(model.guidance.series_to_text) == 3
    assert {attend.num_heads for attend in model.guidance.text_to_series} == {1}
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # a standardised output leaves its last bias without gradient
    assert set(without) <= {"core.shape_decoder.layers.9.bias"}


@pytest.mark.parametrize("sub_actions", ["head", "decoder"])
@pytest.mark.parametrize("at", ["tokens", "patches"])
def test_no_text_and_no_parameter_outside_the_core_reaches_the_series_only_path(
    at: str, sub_actions: str
) -> None:
    model = full(guidance=TWO_WAY | {"at": at}, sub_actions=sub_actions, keep_scale=True).eval()
    x = batch(model).x
    outside = [(n, p) for n, p in model.named_parameters() if not n.startswith("core.")]
    assert {n.split(".")[0] for n, _ in outside} == {
        "text", "guidance", "text_codes", "text_head", "classifier", "guided_classifier",
        "text_classifier", "sub_actions", "log_scale",
    }  # fmt: skip
    seen = []
    with torch.no_grad():
        for _ in range(2):
            tokens = model.tokenize(x)
            seen.append(model.features(x, tokens) | {"x_hat": model.reconstruct(x, tokens).x_hat})
            for _, p in outside:
                p.normal_()
            model.weigh(torch.zeros(4, dtype=torch.long))
    assert seen[0].keys() == {"tokens", "tokens_ze", "pooled", "histogram", "scale", "x_hat"}
    assert all(torch.equal(seen[0][name], seen[1][name]) for name in seen[0])


def test_training_on_other_texts_gives_other_codes() -> None:
    trained = []
    for seed in (0, 1):
        model = full()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model.losses(batch(model), table(seed), concepts(seed))["total"].backward()
        optimizer.step()
        trained.append(model.core.codebook.codes().detach())
    assert not torch.equal(*trained)


@pytest.mark.parametrize("merge", ["mean", "contrast"])
def test_guidance_at_patches_knows_which_patches_were_hidden(merge: str) -> None:
    model = full(guidance={"attention": "two_way", "merge": merge, "at": "patches"}).eval()
    g = torch.Generator().manual_seed(0)
    p_BPD, g_BLD = torch.randn(4, 6, 16, generator=g), torch.randn(4, 5, 16, generator=g)
    real_BL = torch.ones(4, 5).bool()
    order_BP = torch.rand(4, 6, generator=g).argsort(-1)
    shuffled_BPD = p_BPD.gather(1, order_BP.unsqueeze(-1).expand(-1, -1, 16))
    straight = model.guidance(p_BPD, g_BLD, real_BL).read
    found = model.guidance(shuffled_BPD, g_BLD, real_BL, order_BP).read
    torch.testing.assert_close(found, straight.gather(1, order_BP.unsqueeze(-1).expand(-1, -1, 16)))
    kept = model.guidance(shuffled_BPD[:, 2:], g_BLD, real_BL, order_BP[:, 2:]).read
    assert kept.shape == (4, 4, 16)


def test_text_draws_a_series_with_its_own_codes_and_the_series_attributes() -> None:
    model = full().eval()
    b, core = batch(model), model.core
    x_BAT = model.to_series(b.x)
    alone, _ = core.tokenize(x_BAT)
    z_UKC = model.text_codes(*model.text(table()))
    with torch.no_grad():  # codes near each text's, which at first would all choose the same
        core.codebook.embedding.weight[:6] = z_UKC[:, :2].flatten(0, 1)
    assert len({tuple(codes) for codes in core.codebook.lookup(z_UKC)[1].tolist()}) == 3
    found = model.from_text(x_BAT, alone, z_UKC[b.text])
    errors = []
    for i, x_AT in enumerate(x_BAT):  # two channels a window
        own, _ = core.codebook.lookup(z_UKC[b.text[i // 2]][None])
        given = Attributes(*(value[i : i + 1] for value in alone))
        drawn = core.decode_series(x_AT[None], given._replace(z=own))
        errors.append(torch.nn.functional.mse_loss(drawn[0], x_AT))
    torch.testing.assert_close(found["series_from_text"], torch.stack(errors).mean())
    assert torch.equal(found["text_vq"], core.codebook(z_UKC[b.text]).vq)


@pytest.mark.parametrize("sub_actions", ["head", "decoder"])
@pytest.mark.parametrize("target", ["attention", "nearest"])
def test_a_token_names_the_sub_actions_of_its_own_windows_class(target: str, sub_actions: str) -> None:
    model = full(sub_actions=sub_actions, losses={"sub_action_target": target}).eval()
    b, core, known = batch(model), model.core, concepts()
    h_BKD = core.embed(model.to_series(b.x), b.keep)
    z_BKC, _ = core.codebook.lookup(core.attr_decoder(h_BKD).z)
    log_p_BKQ = model.sub_actions.log_p(h_BKD if sub_actions == "head" else z_BKC)
    phrases_YRD, attend = model.text.project(known.phrases), model.guidance.text_to_series[0]
    concept_YR = [[0, 1], [2], [3, 0, 4]]
    terms = []
    for i, log_p_KQ in enumerate(log_p_BKQ):  # two channels a window
        own = concept_YR[b.group[i // 2]]
        phrase_1RD = phrases_YRD[b.group[i // 2], : len(own)][None]
        weights_1KR = attend(h_BKD[[i]], phrase_1RD, phrase_1RD)[1]
        for k, log_p_Q in enumerate(log_p_KQ):
            if target == "nearest":
                terms.append(-max(log_p_Q[q] for q in own))
            else:
                terms.append(
                    sum(w * (w.log() - log_p_Q[q]) for w, q in zip(weights_1KR[0, k], own, strict=True))
                )
    torch.testing.assert_close(losses(model)["sub_action"], torch.stack(terms).mean(), rtol=1e-5, atol=1e-6)


def test_pooled_losses_take_a_windows_channels_together_and_the_class_of_its_text() -> None:
    model = full(guidance={"attention": "two_way", "merge": "contrast"}).eval()
    b = batch(model)._replace(label=torch.tensor([2, 2, 1, 0, 0, 0]))
    model.weigh(torch.tensor([0, 0, 0, 1, 2, 2]))
    h_BKD = model.core.embed(model.to_series(b.x), b.keep)
    g_ULD, real_UL = model.text(table())
    row_B = b.text.repeat_interleave(2)
    fused = model.guidance(h_BKD, g_ULD[row_B], real_UL[row_B])
    pooled: dict[str, list[torch.Tensor]] = {"h": [], "g": [], "s": [], "u": []}
    for w, row in enumerate(b.text):
        both = [2 * w, 2 * w + 1]
        pooled["h"].append(h_BKD[both].mean((0, 1)))
        pooled["s"].append(fused.s[both].mean((0, 1)))
        pooled["g"].append(g_ULD[row, real_UL[row]].mean(0))
        pooled["u"].append(fused.u[both][:, real_UL[row]].mean((0, 1)))
    h, g, s, u = (torch.stack(rows) for rows in pooled.values())
    weight = torch.tensor([6 / 9, 2.0, 1.0])
    expected = {
        "info_nce": L.info_nce(h, g, b.group, model.log_scale) + L.info_nce(s, u, b.group, model.log_scale),
        "supcon": L.supcon(h, g, b.group) + L.supcon(s, u, b.group),
        "ce_guided_series": L.ce_guided(model.guided_classifier(s), b.group, weight),
        "ce_guided_text": L.ce_guided(model.text_classifier(u), b.group, weight),
    }
    found = model.losses(b, table(), concepts())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


def test_text_recon_guided_reads_what_the_guided_heads_read() -> None:
    model = full(losses={"text_recon_level": "guided"}).eval()
    b, x_BAT = batch(model), model.to_series(batch(model).x)
    p_BPD = model.core.patches(x_BAT, b.keep)
    h_BKD, row_B = model.core.tokenizer(p_BPD), b.text.repeat_interleave(2)
    g_ULD, real_UL = model.text(table())
    read_BKD = model.guidance(h_BKD, g_ULD[row_B], real_UL[row_B]).read
    predicted_WE = model.text_head(read_BKD).reshape(6, 2 * 4, 12).mean(1)
    cosine_W = torch.nn.functional.cosine_similarity(predicted_WE, table().target[b.text])
    torch.testing.assert_close(losses(model)["text_recon"], (1 - cosine_W).mean())


def test_a_class_weight_is_the_inverse_frequency_and_a_class_that_never_occurs_weighs_nothing() -> None:
    model = build()
    assert model.class_weight.tolist() == [1, 1, 1]
    model.weigh(torch.tensor([0, 0, 0, 2]))
    assert model.class_weight.tolist() == pytest.approx([4 / 9, 0, 4 / 3])


@pytest.mark.parametrize("without", ["texts", "concepts"])
def test_a_model_that_trains_on_text_refuses_a_step_without_it(without: str) -> None:
    model = full()
    given = (None, concepts()) if without == "texts" else (table(), None)
    with pytest.raises(ValueError, match=f"expected {without}"):
        model.losses(batch(model), *given)


CELLS: list[dict[str, Any]] = [
    {},
    {"code_width": 2, "codes": 4},  # few codes for many tokens: each code's shape is decoded once
    {"guidance": {"attention": "two_way", "merge": "contrast", "at": "patches"}, "channels": "joint"},
    {"losses": {"text_recon_level": "guided", "sub_action_target": "attention"}, "sub_actions": "head"},
    *({"quantizer": name} for name in ("rotation", "simvq")),
    *(
        {"quantizer": name, "text_codes": False, "sub_actions": "head"}
        | {"losses": {"text_vq": 0, "series_from_text": 0}}
        for name in ("ema", "cosine", "fsq", "none")
    ),
]


@pytest.mark.parametrize("settings", CELLS, ids=lambda v: str(v)[:60])
def test_a_step_in_bfloat16_has_finite_losses_near_those_in_float32(settings: dict[str, Any]) -> None:
    guidance = TWO_WAY | {"into": ["t", "l", "mu", "sigma"]}  # a z that rounds to another code is no fault
    # two models: a moving average moves with every step
    other, model = (full(**{"guidance": guidance} | settings, dropout=0.0) for _ in range(2))
    exact = losses(other)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = losses(model)
    found["total"].backward()
    assert {value.dtype for value in found.values()} == {torch.float32}
    for name, value in found.items():
        assert value.isfinite(), name
        assert value.item() == pytest.approx(exact[name].item(), rel=0.1, abs=0.05), name
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert grads and all(g.isfinite().all() and g.dtype == torch.float32 for g in grads.values())
    assert model.core.codebook.codes() is None or model.core.codebook.codes().dtype == torch.float32


def test_every_series_of_a_window_takes_the_windows_path(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(guidance=TWO_WAY).eval()
    b, taken = unmasked(model, [True, False, False, True, False, False]), []
    decode = model.core.decode
    monkeypatch.setattr(model.core, "decode", lambda x, a: (taken.append(a), decode(x, a))[1])
    model.losses(b, table())
    alone = model.tokenize(b.x).attributes
    moved = (taken[0].z - alone.z).abs().amax((1, 2)) > 1e-4
    assert moved.tolist() == b.sees_text.repeat_interleave(2).tolist()


def test_supervised_and_text_losses_read_the_codes_that_users_get() -> None:
    """Quantised and from the series alone, whatever path a window took."""
    model = build({"ce_series": 1.0, "text_recon": 1.0}, guidance=TWO_WAY).eval()
    b, texts = unmasked(model, [True] * 6), table()
    found, tokens = model.losses(b, texts), model.tokenize(b.x)
    logits = model.classifier(tokens.tokens(len(b.x)))
    torch.testing.assert_close(found["ce_series"], F.cross_entropy(logits, b.label))
    named = model.text_head(tokens.quantized.z).unflatten(0, (len(b.x), -1)).mean((1, 2))
    cosine = F.cosine_similarity(named, texts.target[b.text], dim=-1)
    torch.testing.assert_close(found["text_recon"], (1 - cosine).mean())


def test_text_queries_have_the_models_heads_and_guidance_its_own() -> None:
    model = build(guidance={"attention": "one_way", "heads": 1}, queries=3)
    assert model.text.attend.num_heads == 2 and model.guidance.text_to_series[0].num_heads == 1


def test_under_bfloat16_attributes_stay_float32() -> None:
    model = full().eval()
    x = batch(model).x
    exact = model.tokenize(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.tokenize(x)
    assert {value.dtype for value in found.attributes} == {torch.float32}
    for one, other in zip(found.attributes, exact.attributes, strict=True):
        torch.testing.assert_close(one, other, atol=0.05, rtol=0.05)


def test_the_label_itself_reaches_the_supervised_loss_alone() -> None:
    """Under shuffled text everything else follows the class that the text was made for."""
    model = full().eval()
    b = batch(model)
    other = b._replace(label=b.label.flip(0))
    one, two = (model.losses(each, table(), concepts()) for each in (b, other))
    assert {name for name in one if not torch.equal(one[name], two[name])} == {"ce_series", "total"}


def test_codes_name_their_sub_actions_without_any_series() -> None:
    model = full().eval()
    named_NQ = model.name_codes()
    assert named_NQ.shape == (SMALL["codes"], 5)
    torch.testing.assert_close(named_NQ.sum(1), torch.ones(SMALL["codes"]))
    assert torch.equal(named_NQ, model.sub_actions.log_p(model.core.codebook.codes()).exp())
    with pytest.raises(ValueError, match="only a model with sub_actions: decoder names its codes"):
        full(sub_actions="head").name_codes()
    with pytest.raises(ValueError, match="has no sub-actions"):
        build().know(concepts())
