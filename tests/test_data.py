"""The two data sets inside packages, their splits, and the safe reading of a pickled data file."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from experiments import data
from experiments.config import DataConfig
from experiments.data import spar

SPAR = DataConfig(name="spar", window_s=4, overlap_frac=0.5, split="subject_kfold")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_basic_motions_is_the_published_split_of_40_and_40(cache: Path) -> None:
    windows = data.load(DataConfig(), "digest", cache)
    assert windows.series.shape == (80, 6, 100) and windows.series.dtype == np.float32
    assert np.bincount(windows.label).tolist() == [20] * 4
    assert (windows.official == 0).sum() == 40
    # the first training window's first acceleration, as the archive's file has it
    first = Path(data.DATASETS["basic_motions"].files()[0]).read_text().split("@data\n")[1]
    assert windows.series[0, 0, 0] == np.float32(first.split(",")[0])


@pytest.mark.parametrize("config", [DataConfig(), SPAR], ids=lambda c: c.name)
def test_what_a_data_set_says_of_itself_is_what_its_windows_have(cache: Path, config: DataConfig) -> None:
    entry, windows = data.DATASETS[config.name], data.load(config, "digest", cache)
    assert windows.series.shape[1:] == (len(entry.channels), entry.window_length(config))
    assert len(set(windows.subject) - {-1}) == entry.subjects
    assert set(windows.label) == set(range(len(entry.classes)))


def test_basic_motions_validation_is_a_stratified_part_of_training(cache: Path) -> None:
    windows = data.load(DataConfig(), "digest", cache)
    split = data.split(windows, DataConfig())
    assert [len(side) for side in split] == [30, 10, 40]
    assert np.bincount(windows.label[split.val]).min() >= 2
    assert set(windows.official[np.concatenate([split.train, split.val])]) == {0}
    assert np.array_equal(split.test, np.flatnonzero(windows.official == 1))


def test_spar_windows_are_cut_inside_one_recording(cache: Path) -> None:
    windows = data.load(SPAR, "digest", cache)
    assert windows.series.shape == (2229, 6, 200)
    with spar.files()[0].open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        raw = spar._ArraysOnly(file).load().item()
    for session in (0, 77, 139):
        rows = np.flatnonzero(windows.session == session)
        assert len(rows) == (len(raw["X"][session]) - 200) // 100 + 1
        for i, row in enumerate(rows):
            expected = raw["X"][session][100 * i : 100 * i + 200].T.astype(np.float32)
            assert np.array_equal(windows.series[row], expected)
        assert set(windows.subject[rows]) == {raw["subject"][session]}
        assert set(windows.label[rows]) == {raw["y"][session]}
    assert raw["y_labels"] == list(data.DATASETS["spar"].classes)


@pytest.mark.parametrize("fold", range(5))
def test_no_subject_and_no_recording_is_on_two_sides(cache: Path, fold: int) -> None:
    windows = data.load(SPAR, "digest", cache)
    split = data.split(windows, SPAR.model_copy(update={"fold": fold}))
    assert len(np.unique(np.concatenate(split))) == len(windows.label) == sum(map(len, split))
    for of in (windows.subject, windows.session):
        train, val, test = (set(of[side]) for side in split)
        assert not train & val and not train & test and not val & test
    assert len(set(windows.subject[split.test])) == len(set(windows.subject[split.val])) == 2


def test_every_subject_is_tested_once_over_the_folds(cache: Path) -> None:
    windows = data.load(SPAR, "digest", cache)
    splits = [data.split(windows, SPAR.model_copy(update={"fold": fold})) for fold in range(5)]
    assert sorted(np.concatenate([split.test for split in splits])) == list(range(len(windows.label)))


def test_the_cache_is_read_not_parsed_again_and_follows_the_digest(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.load(DataConfig(), "digest", cache)
    entry = data.DATASETS["basic_motions"]

    def parsed(files: list[Path], config: DataConfig) -> data.Windows:
        raise AssertionError("parsed again")

    broken = {"basic_motions": data.DataSet(**{**vars(entry), "read": parsed})}
    monkeypatch.setattr(data, "DATASETS", broken)
    data.load(DataConfig(), "digest", cache)
    with pytest.raises(AssertionError, match="parsed again"):
        data.load(DataConfig(), "another digest", cache)


def test_a_data_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    array = np.empty((), dtype=object)
    array[()] = Evil()
    path = tmp_path / "watch_dataset.npy"
    np.save(path, array, allow_pickle=True)
    with pytest.raises(pickle.UnpicklingError, match="refused"):
        spar.read([path], SPAR)
    assert not (tmp_path / "ran").exists()
