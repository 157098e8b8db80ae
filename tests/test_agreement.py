"""Agreement of trials over their seeds, on arrays where the answer is known."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up_codes_fixture import made_up

from analysis.agreement import between, codes_at, seeds
from analysis.lexicon import Lexicon

CONCEPTS = np.array(["up", "down"])


def trial(code: np.ndarray, p: list[list[float]] | None = None, **changes: Any) -> Lexicon:
    """Windows of one series whose tokens (W, K) lie end to end; p (N, Q): what the codes mean."""
    windows, tokens = code.shape
    t = np.broadcast_to(np.arange(tokens) / tokens, (windows, 1, tokens))
    named = {"evidence": np.array(["decoder"] if p else [], dtype=np.str_), "concepts": CONCEPTS}
    arrays = {
        "code": code[:, None], "t": t, "l": np.full(t.shape, 1 / tokens), "window": np.arange(windows),
        "z": np.zeros((8, 2)), "p": np.array([p]) if p else np.zeros((0, 8, 2)), **named,
    }  # fmt: skip
    return made_up("joint", **(arrays | changes))


DRAWS = np.random.default_rng(0).integers(0, 8, (2, 300, 4))


def test_the_same_codes_under_other_numbers_agree_wholly_and_unrelated_ones_do_not() -> None:
    one, renumbered, other = DRAWS[0], (DRAWS[0] + 3) % 8, DRAWS[1]
    found = between({"a": trial(one), "b": trial(renumbered), "c": trial(other)})
    assert list(found.index) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert found.loc[("a", "b"), "code_nmi"] == pytest.approx(1)
    assert found.loc[("a", "c"), "code_nmi"] < 0.05
    assert found["name_kappa"].isna().all()
    assert (found["covered"] == 1).all() and (found["named"] == 0).all()


def test_kappa_is_that_of_the_names_where_both_have_one() -> None:
    up, down, tied = [0.9, 0.1], [0.2, 0.8], [0.5, 0.5]
    # Four places a window, the names of one: up up down down; of the other: up up up and none.
    one = trial(np.array([[0, 0, 1, 1]]), [up, down] + [tied] * 6)
    other = trial(np.array([[5, 5, 4, 7]]), [tied] * 4 + [up, up] + [tied] * 2)
    found = between({"one": one, "other": other}).iloc[0]
    # Observed agreement 2/3; by chance 2/3 * 1 + 1/3 * 0 = 2/3.
    assert found["name_kappa"] == pytest.approx(0) and found["named"] == 0.75
    third = trial(np.array([[4, 4, 3, 4]]), [tied] * 3 + [down, up] + [tied] * 3)
    # up up down up against up up down down: observed 3/4; by chance 1/2 * 3/4 + 1/2 * 1/4 = 1/2.
    assert between({"one": one, "third": third}).iloc[0]["name_kappa"] == pytest.approx(0.5)


def test_two_trials_of_one_code_each_have_nothing_to_agree_on() -> None:
    alone = {name: trial(np.full((5, 4), code)) for name, code in (("a", 1), ("b", 2))}
    assert np.isnan(between(alone)["code_nmi"].iloc[0])


def test_of_tokens_that_overlap_the_shortest_speaks_and_where_none_lies_nobody_does() -> None:
    t, length = np.array([[[0.0, 0.25]]]), np.array([[[0.75, 0.25]]])
    places = codes_at(trial(np.array([[3, 6]]), t=t, l=length))[0, 0]
    assert places.tolist() == [3] * 8 + [6] * 8 + [3] * 8 + [-1] * 8
    found = between({"a": trial(np.array([[3, 6]]), t=t, l=length), "b": trial(np.array([[0, 1]]))})
    assert found["covered"].iloc[0] == 0.75


def test_trials_of_other_windows_are_refused() -> None:
    other = trial(DRAWS[0], window=np.arange(300) + 1)
    with pytest.raises(ValueError, match="same held-out series, found other ones in b"):
        between({"a": trial(DRAWS[0]), "b": other})
    with pytest.raises(ValueError, match="same held-out series"):
        between({"a": trial(DRAWS[0]), "b": made_up(window=np.arange(300))})
    assert between({"a": other}).empty


def test_the_seeds_of_a_trial_are_the_done_ones_of_its_row_and_fold() -> None:
    cells = [
        ("text", 0, 0, "a", "done"), ("text", 1, 0, "b", "done"), ("text", 2, 0, "c", "failed"),
        ("text", 0, 1, "d", "done"), ("plain", 0, 0, "e", "done"),
    ]  # fmt: skip
    frame = pd.DataFrame(cells, columns=["row", "seed", "fold", "signature", "status"])
    assert seeds(frame.astype({"seed": "Int64"}), "a") == {"seed 0": "a", "seed 1": "b"}
    with pytest.raises(ValueError, match="expected a trial of the sweep, found 'x'"):
        seeds(frame, "x")
