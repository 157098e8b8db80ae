"""Whether series find their texts: a diagnosis of trained text modules. No choice hangs on it, nor anything
that a user gets.

W windows, B series, K tokens, D width, U texts, Y classes.
"""

from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import normalize

from experiments.captions import Assignment
from experiments.config import RunConfig
from experiments.data.side import Side
from experiments.encoder import TextCache
from experiments.execute import Job
from experiments.ledger import Store
from experiments.metrics import BATCH
from experiments.texts import TextRows, embeddings
from experiments.words import planned_words
from model.guided import GuidedVQShape
from model.text import masked_mean


def classes_have_texts(config: RunConfig) -> bool:
    """Whether training windows read texts that can be had again of a class alone, and tell classes apart."""
    text = config.text
    drawn_by_window = text.source == "both" or config.tells_wearers
    return (
        config.reads_text
        and text.source in ("label", "both")
        and text.control != "constant"
        and not (text.control == "random" and drawn_by_window)
    )


def diagnose(config: RunConfig, job: Job, model: GuidedVQShape, side: Side) -> dict[str, float]:
    """Which class's texts lie nearest to each window of the side; nothing for a model without text modules,
    and where classes have no texts of their own. Raises ValueError if the bank is no longer as planned."""
    if model.text is None or not classes_have_texts(config):
        return {}
    cache = TextCache(Store(Path(job.store)).cache, config.text.encoder, str(job.digests["encoder"]))
    of_class, rows = class_texts(config, job.digests, cache, job.device)
    return scores(similarity(model, side, rows, of_class), side.label)


def class_texts(
    config: RunConfig, digests: dict[str, str | None], cache: TextCache, device: str
) -> tuple[Assignment, TextRows]:
    """The texts of each class, and their embeddings. Raises ValueError for another bank than was planned."""
    per_class = planned_words(config, digests["text"]).per_class
    of_class = Assignment.of(per_class, np.arange(len(per_class)), np.arange(len(per_class)))
    return of_class, TextRows(embeddings(config, of_class.texts, cache), device)


@torch.no_grad()
def similarity(model: GuidedVQShape, side: Side, rows: TextRows, of_class: Assignment) -> np.ndarray:
    """Cosines (W, Y) of pooled series tokens h and pooled text tokens g, of a class's wordings the best."""
    assert model.text is not None
    model.eval()
    ((table, _),) = rows.parts(np.arange(len(of_class.texts)), len(of_class.texts))
    g_UD = normalize(masked_mean(*model.text(table)), dim=-1)
    h_WD = torch.cat([model.pooled(model.core.embed(model.to_series(x)).mean(1)) for x in side.split(BATCH)])
    cosine_WU = (normalize(h_WD, dim=-1) @ g_UD.T).double().cpu().numpy()
    kinds = zip(of_class.first, of_class.wordings, strict=True)
    return np.stack([cosine_WU[:, of_class.row[first : first + n]].max(1) for first, n in kinds], axis=1)


def scores(similarity_WY: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Of the rank that each window's own class has. One that another class equals is no better than that."""
    own_W1 = np.take_along_axis(similarity_WY, label[:, None], 1)
    rank = (similarity_WY >= own_W1).sum(1)
    return {
        "diag/retrieval_accuracy": float((rank == 1).mean()),
        "diag/retrieval_mrr": float((1 / rank).mean()),
    }
