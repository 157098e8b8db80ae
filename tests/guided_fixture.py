"""A small guided model with any config, and the batch, texts and concepts that it trains on.

W windows, L text tokens, E text width, R phrases of a class.
"""

from typing import Any

import numpy as np
import torch

from experiments.captions import Assignment
from experiments.data.side import Side
from model.batch import Batch, Sizes
from model.concepts import ConceptTable
from model.config import LossConfig, ModelConfig
from model.guided import GuidedVQShape
from model.text import TextTable

torch.set_num_threads(1)  # more only get in each other's way on tensors this small
SIZES = Sizes(length=24, channels=2, classes=3, text_width=12, concepts=tuple("abcde"))
SMALL: dict[str, Any] = dict(
    patches=6, tokens=4, width=16, heads=2, encoder_layers=1, tokenizer_layers=1, codes=8, shape_length=16
)
W = 6
TWO_WAY: dict[str, Any] = {"attention": "two_way", "merge": "mean"}
# Every loss with a weight; they need guidance two_way, text_codes and sub_actions.
EVERY_LOSS = {
    name: 0.5
    for name in (
        *("info_nce", "supcon", "consistency", "text_recon", "text_vq", "series_from_text", "ce_series"),
        *("ce_guided_series", "ce_guided_text", "sub_action"),
    )
}


def build(
    losses: dict[str, Any] | None = None,
    sizes: Sizes = SIZES,
    queries: int | None = None,
    seed: int = 0,
    **model: Any,
) -> GuidedVQShape:
    config = ModelConfig.model_validate(SMALL | model)
    built = GuidedVQShape(config, LossConfig.model_validate(losses or {}), sizes, queries, seed)
    if built.sub_actions is not None:
        built.know(concepts())
    return built


def full(**model: Any) -> GuidedVQShape:
    """Every module and every loss at once."""
    losses = EVERY_LOSS | model.pop("losses", {})
    return build(losses, **{"guidance": TWO_WAY, "text_codes": True, "sub_actions": "decoder"} | model)


def table(seed: int = 0) -> TextTable:
    """Three texts of different lengths."""
    g = torch.Generator().manual_seed(seed)
    real_WL = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()
    return TextTable.from_tokens(torch.randn(3, 5, SIZES.text_width, generator=g), real_WL)


def concepts(seed: int = 0) -> ConceptTable:
    """Three classes with 2, 1 and 3 phrases; the first and the last share a concept, of five."""
    g = torch.Generator().manual_seed(seed)
    tokens = [torch.randn(4, SIZES.text_width, generator=g) for _ in range(6)]
    return ConceptTable.from_tokens(tokens, [[0, 1], [2], [3, 0, 4]])


def batch(model: GuidedVQShape, sees: list[bool] | None = None, seed: int = 0) -> Batch:
    """Six windows, two of each class, every other one sees its text; one patch in each series is hidden."""
    g, sizes = torch.Generator().manual_seed(seed), model.sizes
    keep = torch.rand(W * model.streams, model.config.patches, generator=g).argsort(-1)[:, 1:]
    label = torch.arange(W) % 3
    x = torch.randn(W, sizes.channels, sizes.length, generator=g)
    return Batch(x, label, keep, label, label, torch.tensor(sees or [True, False] * 3))


def unmasked(model: GuidedVQShape, sees: list[bool] | None = None) -> Batch:
    """The same batch with every patch in view."""
    b = batch(model, sees)
    return b._replace(keep=torch.arange(model.config.patches).expand(len(b.keep), -1))


def losses(model: GuidedVQShape, sees: list[bool] | None = None) -> dict[str, torch.Tensor]:
    return model.losses(batch(model, sees), table(), concepts())


def side(x_WMT: torch.Tensor, label_W: np.ndarray) -> Side:
    """Windows in memory, of nobody."""
    places = np.arange(len(x_WMT))
    return Side(x_WMT, places, np.asarray(label_W), np.full(len(x_WMT), -1), "cpu")


def per_class(texts: list[list[str]], kind_W: np.ndarray) -> Assignment:
    """Texts of classes; each window sees those of its kind."""
    return Assignment.of(texts, kind_W, kind_W)
