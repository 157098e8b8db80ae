"""No subject, recording or overlapping window is on two sides of a split, `leaky_random` excepted."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from experiments import data
from experiments.config import DataConfig
from experiments.data.splits import split
from experiments.data.windows import Windows

SPAR = DataConfig(name="spar", window_s=4, overlap_frac=0.5, split="subject_kfold")
ONE_OUT = SPAR.model_copy(update={"split": "leave_one_subject_out"})
LEAKY = SPAR.model_copy(update={"split": "leaky_random"})


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def shared(windows: Windows, sides: data.Split, field: str) -> list[set[int]]:
    """What each two sides have in common."""
    of = [set(getattr(windows, field)[side].tolist()) for side in sides]
    return [one & other for one, other in combinations(of, 2)]


def covers(windows: Windows, sides: data.Split) -> bool:
    return np.array_equal(np.sort(np.concatenate(sides)), np.arange(len(windows.label)))


@pytest.mark.parametrize(
    "config",
    [SPAR.model_copy(update={"fold": fold}) for fold in range(5)]
    + [ONE_OUT.model_copy(update={"fold": fold}) for fold in range(10)],
    ids=lambda c: f"{c.split}-{c.fold}",
)
def test_no_subject_and_no_recording_is_on_two_sides(cache: Path, config: DataConfig) -> None:
    loaded = data.load_split(config, "digest", cache)
    assert covers(loaded.windows, loaded.split)
    assert shared(loaded.windows, loaded.split, "subject") == [set()] * 3
    assert shared(loaded.windows, loaded.split, "session") == [set()] * 3
    assert min(map(len, loaded.split)) > 0 and loaded.describe()["validation"] == "subjects"
    again = data.load_split(config, "digest", cache).split
    assert all(np.array_equal(*pair) for pair in zip(loaded.split, again, strict=True))


@pytest.mark.parametrize("config", [SPAR, ONE_OUT], ids=lambda c: c.split)
def test_every_subject_is_tested_once_over_the_folds(cache: Path, config: DataConfig) -> None:
    folds = data.last_fold(config) + 1
    assert folds == {"subject_kfold": 5, "leave_one_subject_out": 10}[config.split]
    found = [data.load_split(config.model_copy(update={"fold": f}), "digest", cache) for f in range(folds)]
    assert [len(one.subjects("test")) for one in found] == [10 // folds] * folds
    assert sorted(s for one in found for s in one.subjects("test")) == list(range(1, 11))


def test_folds_of_subjects_do_not_move_with_the_window() -> None:
    rng = np.random.default_rng(0)
    amount = {subject: int(n) for subject, n in enumerate(rng.integers(50, 500, 13))}
    tests = []
    for per_window in (10, 60):
        subject = np.repeat(list(amount), [1 + n // per_window for n in amount.values()])
        parts = Windows(
            subject[:, None, None], subject % 3, subject, np.arange(len(subject)), subject * 0 - 1
        )
        config = SPAR.model_copy(update={"folds": 4})
        sides = [split(parts, amount, config.model_copy(update={"fold": f})) for f in range(4)]
        tests.append([sorted(set(subject[side.test])) for side in sides])
    assert tests[0] == tests[1]


def test_without_subjects_official_validation_is_a_stratified_part_of_training(cache: Path) -> None:
    loaded = data.load_split(DataConfig(), "digest", cache)
    windows, sides = loaded.windows, loaded.split
    assert [len(side) for side in sides] == [30, 10, 40] and covers(windows, sides)
    assert np.bincount(windows.label[sides.val]).min() >= 2
    assert set(windows.official[np.concatenate([sides.train, sides.val])]) == {0}
    assert np.array_equal(sides.test, np.flatnonzero(windows.official == 1))
    assert loaded.describe()["validation"] == "stratified part"


def test_with_subjects_official_validation_is_whole_subjects_of_the_training_part() -> None:
    subject = np.repeat(np.arange(10), 6)
    official = (subject >= 7).astype(np.int8)
    parts = Windows(subject[:, None, None], subject % 2, subject, np.arange(60), official)
    sides = split(parts, {}, DataConfig(validation_frac=0.3))
    assert covers(parts, sides) and shared(parts, sides, "subject") == [set()] * 3
    assert len(set(subject[sides.val])) == 3 and set(official[sides.test]) == {1}


def test_random_windows_leak_as_their_name_says(cache: Path) -> None:
    found = [data.load_split(LEAKY.model_copy(update={"fold": f}), "digest", cache) for f in range(5)]
    for loaded in found:
        assert covers(loaded.windows, loaded.split)
        assert all(shared(loaded.windows, loaded.split, "session"))
        assert loaded.describe()["validation"] == "stratified part"
    assert covers(
        found[0].windows,
        data.Split(*(np.concatenate([f.split.test for f in found]),) * 1, *[np.array([], int)] * 2),
    )


def windows_of(subject: np.ndarray, session: np.ndarray, official: np.ndarray | None = None) -> Windows:
    official = np.full(len(subject), -1) if official is None else official
    return Windows(
        subject[:, None, None], subject % 1 + np.arange(len(subject)) % 2, subject, session, official
    )


NOBODY, OFFICIAL = np.full(120, -1), np.repeat([0, 1], [84, 36])


def test_without_subjects_official_validation_is_whole_recordings_where_they_have_several_windows() -> None:
    parts = windows_of(NOBODY, np.arange(120) // 12, OFFICIAL)
    sides = split(parts, {}, DataConfig())
    assert covers(parts, sides) and shared(parts, sides, "session") == [set()] * 3
    loaded = data.Loaded({"name": "x", "classes": [], "channels": []}, parts, sides)
    assert loaded.describe()["validation"] == "recordings"


def test_validation_of_the_one_person_that_is_left_is_whole_recordings() -> None:
    subject, session = np.repeat([1, 2], 60), np.arange(120) // 20
    config = ONE_OUT.model_copy(update={"fold": 1})
    sides = split(windows_of(subject, session), {1: 60, 2: 60}, config)
    parts = windows_of(subject, session)
    assert covers(parts, sides) and shared(parts, sides, "session") == [set()] * 3


@pytest.mark.parametrize(
    ("parts", "config", "message"),
    [
        (
            windows_of(np.arange(120) % 4, np.arange(120), OFFICIAL),
            DataConfig(),
            "subject 0 is in training and",
        ),
        (windows_of(NOBODY, np.arange(120) // 40, OFFICIAL), DataConfig(), "session 2 is in training and in"),
        (windows_of(NOBODY, np.arange(120), 0 * OFFICIAL), DataConfig(), "no test window"),
        (windows_of(np.repeat([1, 2], 60), np.repeat([0, 1], 60)), ONE_OUT, "from a single recording"),
    ],
)
def test_sides_that_are_empty_or_share_anybody_are_refused(
    parts: Windows, config: DataConfig, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        split(parts, {1: 60, 2: 60}, config)


def test_a_subject_without_a_long_enough_stretch_is_named_before_anything_trains() -> None:
    subject = np.repeat([1, 2], 60)
    parts = windows_of(subject, np.arange(120) // 20)
    with pytest.raises(ValueError, match=r"fold 2 of data\.split leave_one_subject_out has no test window"):
        split(parts, {1: 60, 2: 60, 3: 4}, ONE_OUT.model_copy(update={"fold": 2}))
