"""Measures of what codes mean, on arrays where the answer is known."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

from experiments import meaning

RNG = np.random.default_rng(0)
LABEL = np.repeat([0, 1], 60)
WAVE = np.sqrt(2) * np.sin(np.arange(16) / 8 * np.pi)  # mean 0, deviation 1
# Class 0 has concepts 0 and 1, class 1 has 2 and 3.
CONCEPT = (2 * LABEL)[:, None, None] + RNG.integers(0, 2, (120, 2, 3))


def test_codes_of_sub_actions_beat_the_null_within_class_and_codes_of_the_class_do_not() -> None:
    follows = meaning.agreement(CONCEPT, CONCEPT, LABEL)
    assert follows["nmi"] == pytest.approx(1) and follows["purity"] == 1 and follows["nmi_p"] < 0.01
    of_class = np.broadcast_to(LABEL[:, None, None], CONCEPT.shape).copy()
    alone = meaning.agreement(of_class, CONCEPT, LABEL)
    # It agrees with its sub-actions all the same: only the null within class says that this means nothing.
    assert alone["nmi"] > 0.5 and alone["nmi_p"] == 1
    assert alone["nmi"] == pytest.approx(alone["nmi_null"])
    assert alone["nmi"] == pytest.approx(normalized_mutual_info_score(of_class.ravel(), CONCEPT.ravel()))


def test_tokens_without_a_concept_are_left_out() -> None:
    some = CONCEPT.copy()
    some[:, 1] = -1
    code = np.concatenate([CONCEPT[:, :1], RNG.integers(0, 4, (120, 1, 3))], axis=1)
    assert meaning.agreement(code, some, LABEL)["purity"] == 1


def lexicon(**changes: Any) -> dict[str, Any]:
    """Two concepts, four codes, the last of them never used; a window is event 0 first, then event 1."""
    event = np.repeat([[[0] * 50 + [1] * 50]], 40, axis=0)
    code = np.tile([[[0, 1, 2]]], (40, 1, 1))
    found = {
        "z": np.eye(4), "shape": WAVE * [[[1]], [[1]], [[-1]], [[1]]],
        "code": code, "event": event, "events": np.array(["up", "down"]),
        "t": np.tile([[[0.1, 0.6, 0.55]]], (40, 1, 1)), "l": np.tile([[[0.2, 0.3, 0.001]]], (40, 1, 1)),
        "concepts": np.array(["down", "up"]), "evidence": np.array(["decoder"]),
        "p": np.array([[[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [1, 0]]]), "name": np.array([[1, 0, 1, 0]]),
        "label": np.zeros(40, dtype=int), "predicted": np.zeros(40, dtype=int),
        "of_class": np.array([[True, False]]), "token_concept": np.full((40, 1, 3), -1),
        "contribution": np.tile([[[0.1, 0.5, -0.3]]], (40, 1, 1)), "train_use": np.array([[3, 2, 1, 0]]),
    }  # fmt: skip
    return found | changes


def test_an_event_is_what_mostly_happens_where_the_token_lies() -> None:
    found = meaning.events(lexicon())
    assert found is not None and found[0, 0].tolist() == [0, 1, 1]  # the last is shorter than a step
    across = meaning.events(lexicon(t=np.full((40, 1, 3), 0.3), l=np.full((40, 1, 3), 0.3)))
    assert across is not None and across[0, 0].tolist() == [0, 0, 0]
    assert meaning.events(lexicon(event=np.zeros((0, 0, 0)))) is None


def test_recovered_codes_are_those_named_as_what_happens_where_they_lie() -> None:
    found = lexicon()
    event = meaning.events(found)
    assert event is not None
    assert meaning.recovered(found, event) == pytest.approx(2 / 3)  # code 2 is named up where down happens
    half = lexicon(name=np.array([[1, -1, 1, -1]]))
    assert meaning.recovered(half, event) == pytest.approx(1 / 3)  # no name is not right either
    nothing = np.full_like(event, -1)
    assert meaning.recovered(found, nothing) == 0


def test_the_score_loses_more_with_tokens_of_the_predicted_class_than_with_any() -> None:
    found = meaning.faithfulness(lexicon())
    assert found["named_drop"] == pytest.approx(0.5) and found["random_drop"] == pytest.approx(0.1)
    unnamed = meaning.faithfulness(lexicon(name=np.full((1, 4), -1)))
    assert unnamed["named_drop"] == unnamed["random_drop"] == 0
    same = meaning.faithfulness(lexicon(contribution=np.ones((40, 1, 3))))
    assert same["named_drop"] == same["random_drop"] == 1 and same["named_drop_p"] == 1


def test_text_and_series_overlap_by_the_codes_that_both_use() -> None:
    assert meaning.overlap(np.array([2, 2, 0]), np.array([1, 1, 2])) == pytest.approx(0.5)
    assert meaning.overlap(np.array([1, 0]), np.array([0, 1])) == 0


def test_a_lexicon_gives_every_number_that_it_allows() -> None:
    found = meaning.measure(lexicon(text_use=np.array([3, 2, 1, 0])))
    assert found["meaning/text_overlap"] == pytest.approx(1)
    assert found["meaning/named_frac"] == 1  # of the three in use
    assert "meaning/nmi" not in found and "meaning/event_nmi" in found  # nothing attends to phrases here
    bare = lexicon(
        event=np.zeros((0, 0, 0)), p=np.zeros((0, 4, 0)), name=np.zeros((0, 4)), evidence=np.array([])
    )
    assert meaning.measure(bare).keys() == {"meaning/shapes_apart_frac"}


def test_shapes_lie_apart_by_what_codes_in_use_do_not_draw_in_common() -> None:
    # Two of three tokens draw the wave, one its mirror.
    assert meaning.apart(lexicon()) == pytest.approx(1 - 1 / 9)
    mirrored = lexicon(code=np.tile([[[0, 2]]], (40, 1, 1)))
    assert meaning.apart(mirrored) == pytest.approx(1)
    alike = WAVE * np.ones((4, 1, 1))
    assert meaning.apart(lexicon(shape=alike)) == pytest.approx(0)
    joint = np.concatenate([lexicon()["shape"], alike], axis=1)
    assert meaning.apart(lexicon(shape=joint)) == pytest.approx((1 - 1 / 9) / 2)
