"""The vectors of concepts, and which phrase of which class means which.

Y classes, R phrases of a class (the most that any has), P phrases of all classes, Q concepts, L text tokens,
E width of the frozen encoder, B windows or series, K shape tokens.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence


class ConceptTable(NamedTuple):
    """vectors (Q, E): unit vectors, centred over the concepts. phrases (Y, R, E): mean tokens as they are, 0
    where padded. real (Y, R): true where there is a phrase. concept (Y, R): the phrase's concept, 0 where
    padded. of_class (Y, Q): true for the concepts that a class has."""

    vectors: Tensor
    phrases: Tensor
    real: Tensor
    concept: Tensor
    of_class: Tensor

    @classmethod
    def from_tokens(cls, tokens: list[Tensor], concept: list[list[int]]) -> "ConceptTable":
        """tokens: one (L, E) for each phrase, class after class; concept: 0..Q-1 for each, by class.

        A concept's vector is the mean of its phrases, centred before it is made a unit, because MiniLM's
        phrases share a large part: two concepts' mean cosine is .34 in BasicMotions' bank and .44 in SPAR's,
        and centred -.03 and -.02. Opposites stay near even so (.94 for a pendulum's two ways). Raises
        ValueError if counts differ or a concept has no phrase.
        """
        lengths = torch.tensor([len(row) for row in concept])
        flat_P = torch.tensor([q for row in concept for q in row])
        if len(tokens) != len(flat_P):
            raise ValueError(
                f"expected {len(flat_P)} phrases, as many as concept indices, found {len(tokens)}"
            )
        count_Q = torch.bincount(flat_P)
        if not count_Q.all():
            raise ValueError(f"concept {int(count_Q.argmin())} of {len(count_Q)} has no phrase")
        mean_PE = torch.stack([token_LE.mean(0) for token_LE in tokens])
        sum_QE = mean_PE.new_zeros(len(count_Q), mean_PE.shape[1]).index_add(0, flat_P, mean_PE)
        mean_QE = sum_QE / count_Q.unsqueeze(1)
        phrases_YRE = pad_sequence(list(mean_PE.split(lengths.tolist())), batch_first=True)
        concept_YR = pad_sequence(list(flat_P.split(lengths.tolist())), batch_first=True)
        real_YR = torch.arange(concept_YR.shape[1]) < lengths.unsqueeze(1)
        of_class_YQ = _member(concept_YR, real_YR, len(count_Q)).any(1)
        vectors_QE = F.normalize(mean_QE - mean_QE.mean(0), dim=-1)
        return cls(vectors_QE, phrases_YRE, real_YR, concept_YR, of_class_YQ)

    def to(self, device: str) -> "ConceptTable":
        return ConceptTable(*(part.to(device) for part in self))

    def spread(self, weights_BKR: Tensor, label_B: Tensor) -> Tensor:
        """Weights over the phrases of each label, as weights over all concepts (B, K, Q): phrases of one
        concept add up, padding counts for nothing, so rows that sum to one still do."""
        # a matrix product rather than scatter_add, whose sums on a GPU come in no fixed order
        member_YRQ = _member(self.concept, self.real, len(self.vectors)).to(weights_BKR.dtype)
        return weights_BKR @ member_YRQ[label_B]


def _member(concept_YR: Tensor, real_YR: Tensor, concepts: int) -> Tensor:
    """True (Y, R, Q) where a phrase means a concept."""
    return F.one_hot(concept_YR, concepts).bool() & real_YR.unsqueeze(-1)
