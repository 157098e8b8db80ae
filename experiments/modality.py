"""What texts and series of a trained model share: directions of pooled tokens, and codes.

W windows, U texts, Y classes, N codes.
"""

from typing import Any

import numpy as np
import torch

from experiments import data
from experiments.config import RunConfig
from experiments.data.side import Side
from experiments.encoder import TextCache
from experiments.retrieval import class_texts, classes_have_texts, similarity
from experiments.texts import TextRows, assigned, embeddings
from experiments.words import planned_words
from model.guided import GuidedVQShape


def by_class(
    config: RunConfig, digests: dict[str, Any], model: GuidedVQShape, side: Side, cache: TextCache
) -> np.ndarray | None:
    """Mean cosine (Y, Y) of the series of class y and the texts of class y', of its wordings the best for
    each window. NaN for a class without windows; None without text modules, or without texts of classes."""
    if model.text is None or not classes_have_texts(config):
        return None
    of_class, rows = class_texts(config, digests, cache, side.device)
    cosine_WY = similarity(model, side, rows, of_class)
    classes = range(cosine_WY.shape[1])
    own = [cosine_WY[side.label == y] for y in classes]
    return np.stack([part.mean(0) if len(part) else np.full(len(classes), np.nan) for part in own])


@torch.no_grad()
def text_use(
    config: RunConfig, digests: dict[str, Any], model: GuidedVQShape, loaded: data.Loaded, cache: TextCache
) -> np.ndarray | None:
    """How often the texts of training windows use each code (N,), each of a window's wordings alike; None for
    a model without text codes."""
    if model.text is None or model.text_codes is None:
        return None
    texts = assigned(config, planned_words(config, digests["text"]), loaded)
    device = str(model.offset.device)
    rows = TextRows(embeddings(config, texts.texts, cache), device)
    seen_U = np.zeros(len(texts.texts))
    for kind, windows in enumerate(np.bincount(texts.kind, minlength=len(texts.first))):
        first, count = texts.first[kind], texts.wordings[kind]
        np.add.at(seen_U, texts.row[first : first + count], windows / count)
    use_N, first = np.zeros(model.config.codes), 0
    for table, row_B in rows.parts(np.arange(len(texts.texts)), 256):
        z_UKC = model.text_codes(*model.text(table))[row_B]
        code_UK = model.core.codebook.lookup(z_UKC)[1]
        assert code_UK is not None
        weight_UK = np.repeat(seen_U[first : first + len(code_UK), None], code_UK.shape[1], axis=1)
        np.add.at(use_N, code_UK.cpu().numpy(), weight_UK)
        first += len(code_UK)
    return use_N
