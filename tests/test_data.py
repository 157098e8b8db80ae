"""The data sets inside packages, their cache, and the safe reading of a pickled data file."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import data
from experiments.config import DataConfig, RunConfig
from experiments.data import cut, spar
from experiments.data.windows import DataError, Recording, triads

SPAR = DataConfig(name="spar", window_s=4, overlap_frac=0.5, split="subject_kfold")
PACKAGED = {
    "basic_motions": DataConfig(),
    "spar": SPAR,
    "pickup_gesture": DataConfig(name="pickup_gesture", length=60),
    "japanese_vowels": DataConfig(name="japanese_vowels", length=30, resize="pad"),
    "gun_point": DataConfig(name="gun_point"),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def load(config: DataConfig, cache: Path) -> data.Windows:
    return data.load(config, "digest", cache)[0]


@pytest.mark.parametrize("config", PACKAGED.values(), ids=PACKAGED)
def test_what_a_data_set_says_of_itself_is_what_its_windows_have(cache: Path, config: DataConfig) -> None:
    data.check(RunConfig(data=config, baseline="statistics"))
    entry, (windows, about) = data.DATASETS[config.name], data.load(config, "digest", cache)
    assert windows.series.shape[1:] == (len(entry.channels), entry.window_length(config))
    assert windows.series.dtype == np.float32 and np.isfinite(windows.series).all()
    assert len(set(windows.subject) - {-1}) == entry.subjects == len(about["amount"])
    assert set(windows.label) == set(range(len(entry.classes)))
    assert set(windows.official) == ({0, 1} if entry.official else {-1})
    assert {len(part) for part in windows} == {len(windows.label)}
    assert about["classes"] == list(entry.classes) and about["licence"] and about["citation"]


def test_basic_motions_is_the_published_split_of_40_and_40(cache: Path) -> None:
    windows = load(DataConfig(), cache)
    assert windows.series.shape == (80, 6, 100)
    assert np.bincount(windows.label).tolist() == [20] * 4
    assert (windows.official == 0).sum() == 40
    # the first training window's first acceleration, as the archive's file has it
    first = data.DATASETS["basic_motions"].files(data.root())[0].read_text().split("@data\n")[1]
    assert windows.series[0, 0, 0] == np.float32(first.split(",")[0])


def test_unequal_series_are_padded_with_their_last_value_or_resampled_end_to_end(cache: Path) -> None:
    from aeon.datasets import load_from_ts_file

    raw, _ = load_from_ts_file(str(data.DATASETS["japanese_vowels"].files(data.root())[0]))
    config = PACKAGED["japanese_vowels"]
    padded = load(config, cache).series
    stretched = load(config.model_copy(update={"resize": "resample"}), cache).series
    for w in (0, 133, 269):
        steps = raw[w].shape[1]
        assert np.array_equal(padded[w, :, :steps], raw[w].astype(np.float32))
        assert np.array_equal(padded[w, :, steps:], np.repeat(padded[w, :, steps - 1 : steps], 30 - steps, 1))
        assert np.allclose(stretched[w][:, [0, -1]], raw[w][:, [0, -1]])
    cropped = load(config.model_copy(update={"length": 7}), cache).series
    assert np.array_equal(cropped[0], raw[0][:, :7].astype(np.float32))


def test_resampling_is_linear_in_time() -> None:
    x = np.array([[0.0, 2.0, 4.0], [1.0, 0.0, 1.0]])
    assert cut.resample(x, 5).tolist() == [[0, 1, 2, 3, 4], [1, 0.5, 0, 0.5, 1]]
    assert cut.resample(x, 2).tolist() == [[0, 4], [1, 1]]
    assert cut.resample(x[:, :1], 3).tolist() == [[0, 0, 0], [1, 1, 1]]


def test_gaps_are_filled_in_a_straight_line_up_to_the_longest_allowed() -> None:
    nan = np.nan
    x = np.array([[nan, 1, nan, 3, nan, nan, nan, 7], [nan] * 8])
    assert np.array_equal(cut.filled(x)[0], [1, 1, 2, 3, 4, 5, 6, 7])
    assert np.array_equal(cut.filled(x, 2)[0], [1, 1, 2, 3, nan, nan, nan, 7], equal_nan=True)
    assert np.isnan(cut.filled(x)[1]).all() and np.isnan(x[0, 0])


def test_windows_are_cut_inside_one_recording_and_one_label() -> None:
    label = np.array([0] * 5 + [1] * 4 + [-1] * 6 + [1] * 3 + [0] * 7)
    first = Recording(np.arange(25.0)[:, None], label, 3)
    second = Recording(100 + np.arange(4.0)[:, None], np.zeros(4, int), 1)
    short = Recording(np.zeros((3, 1)), np.ones(3, int), 9)
    config = DataConfig(name="spar", window_s=2, overlap_frac=0.5)
    windows, amount, _ = cut.cut([first, second, short], config, rate_hz=2)
    assert windows.series[:, 0, 0].tolist() == [0, 5, 18, 20, 100]
    assert (windows.series[:, 0, -1] - windows.series[:, 0, 0]).tolist() == [3] * 5
    assert windows.label.tolist() == [0, 1, 0, 0, 0]
    assert windows.subject.tolist() == [3, 3, 3, 3, 1] and windows.session.tolist() == [0, 0, 0, 0, 1]
    assert amount == {3: 19, 1: 4, 9: 3}
    with pytest.raises(ValueError, match=r"no recording holds 50 s of one label: make data.window_s smaller"):
        cut.cut([first], config.model_copy(update={"window_s": 50}), rate_hz=2)


def test_spar_windows_are_cut_inside_one_recording(cache: Path) -> None:
    windows = load(SPAR, cache)
    assert windows.series.shape == (2229, 6, 200)
    with spar.files(data.root())[0].open("rb") as file:
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


def test_the_cache_is_read_not_parsed_again_and_follows_the_digest_and_the_cut(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(DataConfig(), cache)
    entry = data.DATASETS["basic_motions"]

    def parsed(files: list[Path], config: DataConfig) -> Any:
        raise AssertionError("parsed again")

    broken = {"basic_motions": data.DataSet(**{**vars(entry), "read": parsed})}
    monkeypatch.setattr(data, "DATASETS", broken)
    assert isinstance(load(DataConfig(), cache).series, np.memmap)
    for config, digest in ((DataConfig(), "another digest"), (DataConfig(length=50), "digest")):
        with pytest.raises(AssertionError, match="parsed again"):
            data.load(config, digest, cache)


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


TS = """#A comment
@problemName Mine
@timeStamps false
@missing true
@univariate false
@dimensions 2
@equalLength {equal}
{length}@classLabel true Up down
@data
"""


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SHAPELEX_DATA", str(tmp_path))
    data._of_family.cache_clear()

    def archive(train: str, test: str, equal: bool = True) -> DataConfig:
        head = TS.format(equal=str(equal).lower(), length="@seriesLength 4\n" if equal else "")
        (tmp_path / "Mine").mkdir(exist_ok=True)
        for side, lines in (("TRAIN", train), ("TEST", test)):
            (tmp_path / "Mine" / f"Mine_{side}.ts").write_text(head + lines)
        return DataConfig(name="uea:Mine")

    return archive


def test_any_archive_set_is_read_from_its_folder_by_name(archive: Any, tmp_path: Path) -> None:
    config = archive("1,2,3,4:5,6,7,8:Up\n0,?,2,3:1,1,1,1:down\n", "9,9,9,9:0,0,0,0:down\n")
    entry = data.entry("uea:Mine")
    assert (entry.classes, entry.samples, entry.kind, len(entry.channels)) == (
        ("Up", "down"),
        4,
        "windows",
        2,
    )
    windows = load(config, tmp_path / "cache")
    assert windows.series[0].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert windows.series[1, 0].tolist() == [0, 1, 2, 3]  # the missing value is filled in
    assert windows.label.tolist() == [0, 1, 1] and windows.official.tolist() == [0, 0, 1]


def test_an_archive_set_of_unequal_lengths_asks_for_one(archive: Any, tmp_path: Path) -> None:
    config = archive("1,2,3:4,5,6:Up\n1,2:3,4:down\n", "1,2,3,4:1,1,1,1:down\n", equal=False)
    run = RunConfig(data=config, baseline="statistics")
    with pytest.raises(ValueError, match=r"uea:Mine has series of unequal lengths: set data\.length"):
        data.check(run)
    longer = config.model_copy(update={"length": 5})
    data.check(run.model_copy(update={"data": longer}))
    assert load(longer, tmp_path / "cache").series.shape == (3, 2, 5)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("1,2,3,4:5,6,7,8:Sideways\n", "unknown class"),
        ("?,?,?,?:?,?,?,?:Up\n", "series 0 has no value"),
        ("1,2,3,4:?,?,?,?:Up\n", "series 0 has a channel without a value"),
        ("1,2,x,4:5,6,7,8:Up\n", "aeon can't read this .ts file"),
    ],
)
def test_a_malformed_archive_file_is_one_line_that_names_it(
    archive: Any, tmp_path: Path, train: str, message: str
) -> None:
    config = archive(train, "9,9,9,9:0,0,0,0:down\n")
    with pytest.raises(DataError) as caught:
        load(config, tmp_path / "cache")
    text = str(caught.value)
    assert "Mine_TRAIN.ts: " in text and message in text and len(text.splitlines()) == 1
    assert not list((tmp_path / "cache" / "windows").glob("*"))


def test_a_missing_archive_set_says_where_it_comes_from_and_fetching_it_fails_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aeon.datasets import _data_loaders

    monkeypatch.setenv("SHAPELEX_DATA", str(tmp_path / "there"))
    with pytest.raises(FileNotFoundError, match=r"there/Nothing: get it from .* --download"):
        data.entry("uea:Nothing")

    def cut_off(*_: Any, **__: Any) -> None:
        raise TimeoutError("the line\nwas cut")

    monkeypatch.setattr(_data_loaders, "urlopen", cut_off)
    with pytest.raises(OSError, match=r"^uea:RacketSports could not be .* the line was cut") as caught:
        data.archive.download("RacketSports", tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_axes_of_one_placement_belong_together() -> None:
    names = ("hand_acc_x", "hand_acc_y", "hand_acc_z", "hand_temp", "hand_gyro_x", "hand_gyro_y",
             "hand_gyro_z", "ankle_acc_x", "ankle_acc_y", "ankle_acc_z", "gyro_x", "gyro_y")  # fmt: skip
    assert triads(names) == {"hand": [[0, 1, 2], [4, 5, 6]], "ankle": [[7, 8, 9]]}
    assert triads(data.DATASETS["spar"].channels) == {"": [[0, 1, 2], [3, 4, 5]]}
