"""What each code of a trained model is named: by its decoder, by attention, or by what occurs together.

Names come from training windows and the texts that they saw, never from held-out ones. V training windows,
B series, K tokens of one, D width, N codes, Q concepts, Y classes, R phrases of a class.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from experiments import data
from experiments.concepts import concepts
from experiments.config import RunConfig
from experiments.encoder import TextCache
from experiments.identity import digest
from experiments.texts import assigned
from experiments.words import bank_of, planned_words
from model.concepts import ConceptTable
from model.guided import GuidedVQShape

WORDLESS = ("random", "constant", "one_hot")  # text.control that takes the phrases away
SWEEPS = 200
CLEAR = 1.5  # times as probable as any other, or it is no name
NOTHING = 0.1  # weight of no concept beside each of a class's: no more than what no concept explains


class Names(NamedTuple):
    """The concepts that codes may be named by. names: Q phrases; of_class (Y, Q): which a class has; group
    (V,): whose phrases a training window saw; by: "text", or "labels" where training saw no phrases and codes
    are named after the fact; table: the phrases' vectors, None where no attention was trained on them."""

    names: list[str]
    of_class: np.ndarray
    group: np.ndarray
    by: str
    table: ConceptTable | None
    digest: str


def names(
    config: RunConfig, digests: dict[str, str | None], loaded: data.Loaded, cache: TextCache | None
) -> Names:
    """Of all training windows of the split. A data set without a bank has no names. Raises ValueError where
    the bank is not the one that the trial read."""
    classes, path = loaded.classes, bank_of(config)
    label = np.asarray(loaded.windows.label[loaded.split.train])
    if not path.is_file():
        return Names([], np.zeros((len(classes), 0), dtype=bool), label, "labels", None, "")
    found = concepts(path, classes)
    of_class = np.zeros((len(classes), len(found.names)), dtype=bool)
    for y, of in enumerate(found.concept):
        of_class[y, of] = True
    group, by, table = label, "labels", None
    reads = config.reads_text or config.reads_concepts
    if reads and config.text.source != "series" and config.text.control not in WORDLESS:
        group, by = assigned(config, planned_words(config, digests["text"]), loaded).group, "text"
        guidance = config.model.guidance
        if cache is not None and guidance.attention != "none" and guidance.at == "tokens":
            every = [phrase for phrases in found.phrases for phrase in phrases]
            vectors = [torch.from_numpy(tokens) for tokens in cache.get(every)]
            table = ConceptTable.from_tokens(vectors, found.concept)
    return Names(found.names, of_class, group, by, table, digest([found.names, found.digestible]))


@torch.no_grad()
def attended(model: GuidedVQShape, h_BKD: Tensor, table: ConceptTable, label_B: Tensor) -> Tensor:
    """How each token spreads its attention over the concepts of its window's class (B, K, Q)."""
    assert model.guidance is not None and model.text is not None
    phrase_BRD = model.text.project(table.phrases)[label_B]
    weights_BKR = model.guidance.weights(h_BKD, phrase_BRD, table.real[label_B])
    return table.spread(weights_BKR, label_B)


def by_cooccurrence(count_YN: np.ndarray, of_class_YQ: np.ndarray) -> np.ndarray:
    """p (N, Q) that code n means concept q, from how often it occurs beside each class's concepts.

    IBM's model 1 of translation (Brown et al. 1993), as Duygulu et al. 2002 named image regions by it:
    each token is drawn by one of its class's concepts or, seldom, by none of them, as all classes share,
    t(n | q) is fitted by expectation maximisation, and p is the expected share of a code's tokens. A row
    sums to less than 1: the rest means nothing. count_YN: tokens of windows that saw class y's phrases. A
    code that never occurs gets zeros.
    """
    member_YQ = np.hstack([of_class_YQ, np.full((len(of_class_YQ), 1), NOTHING)])
    total_N = count_YN.sum(0)
    t_QN = np.tile((total_N + 1) / (total_N + 1).sum(), (member_YQ.shape[1], 1))
    share_NQ = np.zeros((len(total_N), member_YQ.shape[1]))
    for _ in range(SWEEPS):
        joint_YNQ = member_YQ[:, None, :] * t_QN.T[None]
        expected_YNQ = count_YN[..., None] * joint_YNQ / np.maximum(joint_YNQ.sum(-1, keepdims=True), 1e-300)
        share_NQ = expected_YNQ.sum(0)
        t_QN = (share_NQ / np.maximum(share_NQ.sum(0), 1e-300)).T
    return share_NQ[:, :-1] / np.maximum(total_N, 1)[:, None]


def clear(p_NQ: np.ndarray) -> np.ndarray:
    """The concept that names each code (N,): the one that is CLEAR times as probable as any other, -1 where
    none is. p_NQ may hold NaN, for codes that never occur."""
    p_NQ = np.pad(np.nan_to_num(p_NQ), ((0, 0), (0, 2)))  # two that nothing means: there is always a second
    second_N, first_N = np.sort(p_NQ, axis=1)[:, -2:].T
    return np.where((first_N > 0) & (first_N >= CLEAR * second_N), p_NQ.argmax(1), -1)
