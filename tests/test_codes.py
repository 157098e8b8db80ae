"""What codes mean in numbers and on a page, on arrays where the answer is known."""

import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from made_up_codes_fixture import CHANNELS, CLASSES, CODES, made_up

from analysis import codes, codes_page, svg
from analysis.lexicon import Lexicon


def small(**changes: Any) -> Lexicon:
    """Two windows, classes a and b, subjects 7 and 8; series x has codes 0 0, then 1 2; y 0 2 twice."""
    arrays = {
        "z": np.array([[0.0, 0], [0.1, 0], [9, 0], [0, 9]]),
        "label": np.array([0, 1]), "predicted": np.array([0, 1]), "subject": np.array([7, 8]),
        "window": np.arange(2), "drawn": np.arange(2), "classes": np.array(["a", "b"]),
        "channels": np.array(["x", "y"]),
        "code": np.array([[[0, 0], [0, 2]], [[1, 2], [0, 2]]]),
        "t": np.array([[[0, 0.5], [0, 0.5]], [[0, 0.5], [0.4, 0.5]]]),
        "l": np.full((2, 2, 2), 0.5),
        "fit": np.array([[[1, 2], [3, 0]], [[0, 0], [0, 0]]]),
        "contribution": np.array([[[1, 1], [1, 5]], [[4, 0], [0, 0]]]),
        "concepts": np.array(["up", "down"]), "evidence": np.array(["decoder"]),
        "p": np.array([[[0.9, 0.1], [0.3, 0.7], [0.5, 0.5], [0, 0]]]),
    }  # fmt: skip
    return made_up(**(arrays | changes))


def test_the_table_counts_tokens_and_says_where_and_whose_they_are() -> None:
    table = codes.table(small())
    assert list(table.index) == [0, 2, 1, 3]  # the most used first
    assert table["tokens"].tolist() == [4, 3, 1, 0] and table["share"].tolist() == [0.5, 0.375, 0.125, 0]
    assert table["series"].tolist() == ["x", "y", "x", "-"]
    assert table["on"].tolist()[:3] == [0.5, 2 / 3, 1] and np.isnan(table["on"][3])
    assert table["start"].tolist()[:3] == pytest.approx([0.225, 0.5, 0])
    assert table["start_sd"][0] == pytest.approx(np.std([0, 0.5, 0, 0.4])) and table["length"][0] == 0.5
    assert table["fit"][0] == 1.5
    # Any token of window 0 adds 2, of window 1 it adds 1; each of code 0 adds 1 less than that.
    assert table["gain"][0] == pytest.approx(-1)
    assert table["gain"][1] == pytest.approx(4 - 1) and table["gain"][2] == pytest.approx((3 - 1 - 1) / 3)
    assert table["class/a"].to_dict() == {0: 0.75, 1: 0, 2: 0.25, 3: 0}
    assert table["class/b"].to_dict() == {0: 0.25, 1: 0.25, 2: 0.5, 3: 0}
    assert table["subject/8"].tolist() == table["class/b"].tolist()
    assert table.loc[3, ["start", "length", "fit", "gain"]].isna().all()  # no token, nothing measured


def test_a_code_has_the_name_that_is_clear_of_others() -> None:
    names = codes.names(small())
    assert names["name"].tolist() == ["up", "down", "-", "-"]
    assert names["p"].tolist() == [0.9, 0.7, 0.5, 0]
    assert (names["second"][0], names["second_p"][0]) == ("down", 0.1)
    assert set(names["evidence"]) == {"decoder"}
    without = codes.table(small(evidence=np.array([]), p=np.zeros((0, 4, 2))))
    assert set(without["name"]) == {"-"} and without["p"].isna().all()


def test_near_codes_lie_within_a_tenth_of_the_mean_distance() -> None:
    assert codes.near(small().z) == ["1", "0", "", ""]
    assert codes.near(np.zeros((1, 2))) == [""]


def test_series_are_channels_unless_these_share_tokens() -> None:
    assert codes.series_names(made_up()) == list(CHANNELS)
    assert codes.series_names(made_up("joint")) == codes.series_names(made_up("flatten")) == ["all channels"]


def test_data_without_subjects_have_no_columns_of_them() -> None:
    assert not [c for c in codes.table(small(subject=np.array([-1, -1]))) if str(c).startswith("subject/")]


def said(found: Lexicon, window: int) -> list[tuple[float, float, str]]:
    return [(run.start, run.end, run.name) for run in codes.readout(found, window)]


def one_series(code: list[int], t: list[float], length: list[float]) -> Lexicon:
    places = {name: np.tile([[v]], (2, 1, 1)) for name, v in (("code", code), ("t", t), ("l", length))}
    return small(**places, contribution=np.zeros((2, 1, len(code))), fit=np.zeros((2, 1, len(code))))


def test_a_window_is_read_from_left_to_right_by_the_votes_of_its_tokens() -> None:
    found = one_series([0, 1], [0.0, 0.5], [0.5, 0.5])
    assert said(found, 0) == [(0, 0.5, "up"), (0.5, 1, "down")]
    assert codes.readout(found, 0)[0].p == pytest.approx(0.9)
    # Where both lie, the shorter counts more: down has 0.7 * 2.5 of votes, up 0.9.
    assert said(one_series([0, 1], [0.0, 0.2], [1.0, 0.4]), 0) == [
        (0, 0.2, "up"), (0.2, 0.6, "down"), (0.6, 1, "up"),
    ]  # fmt: skip


def test_equal_neighbours_are_one_stretch_and_gaps_and_ties_say_nothing() -> None:
    assert said(one_series([0, 0], [0.0, 0.5], [0.5, 0.25]), 0) == [(0, 0.75, "up")]
    assert said(one_series([2, 1], [0.0, 0.5], [0.5, 0.5]), 1) == [(0.5, 1, "down")]
    assert said(one_series([3, 3], [0.0, 0.5], [0.0, 0.5]), 0) == []


def test_a_strip_says_a_name_once_however_often_it_is_read_in_a_row() -> None:
    plain = made_up()
    found = made_up(code=np.zeros_like(plain.code), l=np.full(plain.l.shape, 0.1))
    assert len(codes.readout(found, 0)) == plain.code.shape[2]
    assert codes_page.parts(found)["strips"][0]["said"] == [found.names()[0][0]]


def test_a_page_on_which_no_code_has_a_name_says_so() -> None:
    about = {"title": "t", "lines": [], "numbers": {}}
    assert "No code has a name" not in codes_page.page(made_up(), about)
    alike = made_up(p=np.full_like(made_up().p, 0.3))
    assert "No code has a name: none has a sub-action that is clear" in codes_page.page(alike, about)


def test_codes_without_names_read_nothing() -> None:
    assert codes.readout(made_up(text=False), 0) == []


@pytest.mark.parametrize("channels", ["independent", "joint", "flatten"])
def test_every_code_in_use_has_a_card_and_every_drawn_window_a_strip(channels: str) -> None:
    found = made_up(channels)
    parts = codes_page.parts(found)
    assert sorted(card["code"] for card in parts["cards"]) == sorted(set(found.code.ravel().tolist()))
    assert parts["unused"] == CODES - len(parts["cards"]) == 2
    assert len(parts["strips"]) == len(found.drawn) and parts["strips"][0]["said"]
    for card in parts["cards"]:
        assert len(card["examples"]) == (found.example[card["code"]][:, 0] >= 0).sum()
        drawings = [card["shape"], card["place"], *card["examples"]]
        assert all("nan" not in str(ET.tostring(ET.fromstring(one))) for one in drawings)
    shape = ET.fromstring(parts["cards"][0]["shape"])
    assert len(shape) == (len(CHANNELS) if channels == "joint" else 1)
    strip = ET.fromstring(parts["strips"][0]["picture"])
    axes = len(CHANNELS) if channels == "joint" else 1
    lines = [at for at in strip if at.tag == "polyline"]
    assert len(lines) == axes * (1 + found.code.shape[2])  # the series, and a shape a token


def test_a_strip_names_what_was_predicted() -> None:
    predicted = made_up().label.copy()
    predicted[0] = 1
    found = made_up(predicted=predicted)
    first, second = codes_page.parts(found)["strips"][:2]
    assert (first["label"], first["predicted"], first["right"]) == (CLASSES[0], CLASSES[1], False)
    assert second["right"] and f'<b class="wrong">Predicted {CLASSES[1]}</b>' in codes_page.page(
        found, {"title": "t", "lines": [], "numbers": {}}
    )


def test_names_from_outside_are_text_in_the_page() -> None:
    evil = "<script>alert(1)</script>\"'&"
    found = made_up(
        classes=np.array([evil, "b", "c"]),
        concepts=np.array([evil, "d", "e"]),
        channels=np.array([evil, "y"]),
    )
    page = codes_page.page(found, {"title": evil, "lines": [evil], "numbers": {evil: 1.0}})
    assert "<script" not in page and page.count("&lt;script&gt;") > 10
    for strip in codes_page.parts(found)["strips"]:
        assert "<script" not in strip["picture"] and ET.fromstring(strip["picture"]).tag == "svg"


def test_a_page_without_names_says_so_and_draws_all_the_same() -> None:
    page = codes_page.page(made_up(text=False), {"title": "t", "lines": [], "numbers": {}})
    assert "codes have no names" in page and page.count('class="card"') == 4 and "nan" not in page


def test_evidence_that_ties_names_nothing_on_a_card() -> None:
    p = made_up().p.copy()
    p[1] = 0.1
    card = codes_page.parts(made_up(p=p))["cards"][0]
    assert [(kind, name) for kind, name, _ in card["others"]][1] == ("cooccurrence", "-")


def test_a_token_at_the_very_end_is_drawn() -> None:
    found = made_up(example_t=np.ones((CODES, 5)), example_l=np.zeros((CODES, 5)))
    assert all(card["examples"] for card in codes_page.parts(found)["cards"])


def test_a_trial_without_held_out_tokens_has_codes_and_no_cards() -> None:
    none = {name: made_up().__dict__[name][:, :, :0] for name in ("code", "t", "l", "fit", "contribution")}
    found = made_up(**none, example=np.full((CODES, 5, 2), -1), drawn=np.zeros(0, dtype=int))
    assert codes.table(found)["share"].tolist() == [0] * CODES
    assert codes_page.parts(found)["cards"] == [] and codes_page.parts(found)["unused"] == CODES


def test_heights_fall_from_low_to_high_and_are_cut_off_beyond() -> None:
    assert svg.level(np.array([-9, -3, 0, 3, 9]), -3, 3, 10, 70).tolist() == [70, 70, 40, 10, 10]
    assert svg.level(np.zeros(2), 0, 0, 10, 70).tolist() == [70, 70]
    assert len({svg.colour(n) for n in range(40)}) == 40
