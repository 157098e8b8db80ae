"""Guidance and the text's queries, against their equations written down a head and a pair at a time."""

import math

import pytest
import torch
from guided_fixture import SIZES, batch, build, table, unmasked
from torch import Tensor, nn

from model.guidance import GUIDANCE, OneWay
from model.guided import GuidedVQShape
from model.text import TextCodes, TextTokens

WIDTH, HEADS, LAYERS, B, K, TEXTS = 12, 3, 2, 3, 4, 5
REAL = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]]).bool()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weights_by_hand(
    module: nn.MultiheadAttention, heads: int, q_BQD: Tensor, k_BKD: Tensor, real: Tensor
) -> Tensor:
    """softmax(q k / sqrt(E)) over the real keys alone (B, H, Q, K)."""
    width = q_BQD.shape[-1]
    w_q, w_k, _ = module.in_proj_weight.split(width)
    b_q, b_k, _ = module.in_proj_bias.split(width)
    q, k = q_BQD @ w_q.T + b_q, k_BKD @ w_k.T + b_k
    found = torch.zeros(len(q), heads, q.shape[1], k.shape[1])
    size = width // heads
    for b in range(len(q)):
        kept = real[b].nonzero().flatten()
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = q[b, :, part] @ k[b, kept][:, part].T / math.sqrt(size)
            found[b, head][:, kept] = scores.softmax(-1)
    return found


def attend(module: nn.MultiheadAttention, heads: int, q: Tensor, memory: Tensor, real: Tensor) -> Tensor:
    """CA(query q; key, value memory)."""
    width = q.shape[-1]
    v = memory @ module.in_proj_weight[2 * width :].T + module.in_proj_bias[2 * width :]
    weights_BHQK = weights_by_hand(module, heads, q, memory, real)
    v_BHKE = v.unflatten(-1, (heads, -1)).transpose(1, 2)
    out = (weights_BHQK @ v_BHKE).transpose(1, 2).flatten(2)
    return out @ module.out_proj.weight.T + module.out_proj.bias


@pytest.fixture
def sides() -> tuple[Tensor, Tensor]:
    return draw(B, K, WIDTH), draw(B, TEXTS, WIDTH, seed=1)


def guidance(attention: str, merge: str) -> OneWay:
    torch.manual_seed(0)
    found = GUIDANCE[attention, merge](WIDTH, HEADS, LAYERS, K)
    for p in found.parameters():  # MultiheadAttention's biases start at 0, which would hide them
        nn.init.normal_(p, 0, 0.4)
    return found


@pytest.mark.parametrize("merge", ["contrast", "mean"])
def test_one_way_adds_what_each_layer_finds_in_the_text(sides: tuple[Tensor, Tensor], merge: str) -> None:
    h, g = sides
    module = guidance("one_way", merge)
    found = module(h, g, REAL)
    s = h
    for layer in module.text_to_series:
        s = s + attend(layer, HEADS, s, g, REAL)
    torch.testing.assert_close(found.s, s)
    assert found.read is found.s and found.u is None


@pytest.mark.parametrize("merge", ["contrast", "mean"])
@pytest.mark.parametrize("keep", [None, [[0, 2], [3, 1], [2, 0]]], ids=["all", "kept"])
def test_two_way_layers_read_what_the_one_before_made_of_both_sides(
    sides: tuple[Tensor, Tensor], merge: str, keep: list[list[int]] | None
) -> None:
    h, g = sides
    keep_BK = None if keep is None else torch.tensor(keep)
    if keep_BK is not None:
        h = h[torch.arange(B).unsqueeze(1), keep_BK]
    module = guidance("two_way", merge)
    found = module(h, g, REAL, keep_BK)
    s, u, every = h, g, torch.ones(h.shape[:2]).bool()
    for to_series, to_text in zip(module.text_to_series, module.series_to_text, strict=True):
        s, u = s + attend(to_series, HEADS, s, u, REAL), u + attend(to_text, HEADS, u, s, every)
    torch.testing.assert_close(found.s, s)
    torch.testing.assert_close(found.u, u)
    if merge == "contrast":
        assert found.read is found.s
        return
    query = module.queries.expand(B, -1, -1)
    if keep_BK is not None:
        query = query[torch.arange(B).unsqueeze(1), keep_BK]
    torch.testing.assert_close(found.read, (s + attend(module.gather, HEADS, query, u, REAL)) / 2)


def test_attention_over_phrases_is_the_first_layers_and_the_mean_of_its_heads(
    sides: tuple[Tensor, Tensor],
) -> None:
    h, phrases = sides
    module = guidance("one_way", "mean")
    found = module.weights(h, phrases, REAL)
    torch.testing.assert_close(
        found, weights_by_hand(module.text_to_series[0], HEADS, h, phrases, REAL).mean(1)
    )


def test_learned_text_tokens_are_queries_and_what_they_find_in_the_real_tokens() -> None:
    torch.manual_seed(0)
    module, texts = TextTokens(SIZES.text_width, WIDTH, HEADS, 3), table()
    g, real = module(texts)
    query = module.queries.expand(3, -1, -1)
    projected = texts.tokens @ module.project.weight.T + module.project.bias
    torch.testing.assert_close(g, query + attend(module.attend, HEADS, query, projected, texts.real))
    assert real.shape == (3, 3) and real.all()


def test_text_codes_read_queries_and_what_they_find_in_the_real_tokens(sides: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    module, g = TextCodes(K, WIDTH, HEADS, 8), sides[1]
    query = module.queries.expand(B, -1, -1)
    torch.testing.assert_close(
        module(g, REAL), module.z_head(query + attend(module.attend, HEADS, query, g, REAL))
    )


def test_a_texts_target_is_its_mean_real_token_centred_over_the_table() -> None:
    texts = table()
    means = torch.stack([texts.tokens[i, real].mean(0) for i, real in enumerate(texts.real)])
    torch.testing.assert_close(texts.target, means - means.mean(0))


def guided_by_hand(model: GuidedVQShape, into: tuple[str, ...]) -> dict[str, tuple[Tensor, Tensor]]:
    """The two sides of consistency: the series-only attributes, and the guided ones, of every patch."""
    b = batch(model)
    core, x = model.core, model.to_series(b.x)
    g, real = model.text(table())
    rows = b.text.repeat_interleave(model.streams)
    h = core.embed(x)
    fused = model.guidance(h, g[rows], real[rows]).read
    alone, guided = core.attr_decoder(h), core.attr_decoder(fused)
    if "t" not in into:  # a length is measured from the start that the series alone gives
        length = core.attr_decoder.tl_mean_head(fused)[..., 1:].sigmoid()
        guided = guided._replace(l=length * (1 - alone.t) + 1 / 64)
    return {name: (getattr(alone, name), getattr(guided, name)) for name in into}


@pytest.mark.parametrize("into", [("z",), ("mu", "sigma"), ("z", "sigma"), ("l",), ("l", "t")])
def test_consistency_pulls_the_attributes_in_into_to_what_the_text_makes_of_them(
    into: tuple[str, ...],
) -> None:
    temperature = 0.3
    losses = {"consistency": 1.0, "consistency_temperature": temperature}
    model = build(losses, guidance={"attention": "two_way", "into": list(into)}, dropout=0.0, mask_frac=0.0)
    found = model.losses(unmasked(model), table())["consistency"]
    terms = []
    for name, (alone, guided) in guided_by_hand(model, into).items():
        if name == "z":
            codes = model.core.codebook.codes()
            p, q = (torch.softmax(-(torch.cdist(z, codes) ** 2) / temperature, -1) for z in (guided, alone))
            terms.append((p * (p / q).log()).sum(-1).mean())
        else:
            terms.append(nn.functional.smooth_l1_loss(alone, guided))
    assert torch.stack(terms).min() > 0
    torch.testing.assert_close(found, torch.stack(terms).mean(), rtol=1e-4, atol=1e-7)
