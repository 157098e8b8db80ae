"""What codes are named by what occurs together, against answers that are known."""

import numpy as np
import pytest

from experiments.naming import by_cooccurrence, clear

# Four classes and four concepts; no two concepts are in the same classes.
MEMBER = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]], dtype=bool)


def counts(share_QN: np.ndarray, each: int = 60) -> np.ndarray:
    """Tokens (Y, N) of classes that draw as many from each of their concepts."""
    return each * (MEMBER.astype(float) @ share_QN)


def test_each_code_gets_the_concept_that_draws_it() -> None:
    share = np.zeros((4, 5))
    share[[0, 1, 2, 3, 0], [0, 1, 2, 3, 4]] = [0.7, 1, 1, 1, 0.3]  # one concept has two codes
    p_NQ = by_cooccurrence(counts(share), MEMBER)
    assert p_NQ.argmax(1).tolist() == [0, 1, 2, 3, 0]
    assert (p_NQ.max(1) > 0.9).all() and (p_NQ.sum(1) <= 1 + 1e-9).all()


def test_what_every_class_has_alike_gets_no_clear_name() -> None:
    count_YN = np.hstack([counts(np.eye(4)), np.full((4, 1), 60.0)])
    p_NQ = by_cooccurrence(count_YN, MEMBER)
    assert p_NQ[:4].argmax(1).tolist() == [0, 1, 2, 3]
    assert p_NQ[4].max() < 0.35 and p_NQ[:4].max(1).min() > 0.99


def test_codes_that_ignore_their_texts_get_no_clear_name() -> None:
    rng = np.random.default_rng(0)
    code, label = rng.integers(0, 4, 4000), rng.integers(0, 4, 4000)
    count_YN = np.zeros((4, 4))
    np.add.at(count_YN, (label, code), 1)
    assert by_cooccurrence(count_YN, MEMBER).max() < 0.45  # concept 0 is in three classes of four


def test_codes_that_never_occur_and_concepts_that_no_text_can_tell_apart() -> None:
    twins = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=bool)
    p_NQ = by_cooccurrence(np.array([[9, 0, 0], [9, 0, 0], [0, 9, 0.0]]), twins)
    assert p_NQ[0, 0] == pytest.approx(p_NQ[0, 1]) and p_NQ[0, 2] == 0
    assert p_NQ[2].tolist() == [0, 0, 0]
    assert clear(p_NQ).tolist() == [-1, 2, -1]


def test_a_name_is_half_as_probable_again_as_any_other() -> None:
    p_NQ = np.array([[0.2, 0.31, 0.1], [0.2, 0.29, 0.1], [np.nan] * 3, [0.4, 0.4, 0.2], [0.06, 0, 0]])
    assert clear(p_NQ).tolist() == [1, -1, -1, -1, 0]
    assert clear(p_NQ[:, :1]).tolist() == [0, 0, -1, 0, 0]  # the only concept there is
    assert clear(p_NQ[:, :0]).tolist() == [-1] * 5
