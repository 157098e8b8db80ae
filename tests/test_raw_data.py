"""The published raw files, made small: values by hand, known faults, and what is said of a file that is not
as its authors publish it."""

from pathlib import Path

import numpy as np
import pytest
import raw_files_fixture as make
from raw_files_fixture import fails

from experiments import data
from experiments.config import DataConfig
from experiments.data import motion_sense, pamap2, uci_har, usc_had

PUBLISHED = {
    "uci_har": "UCI HAR Dataset",
    "pamap2": "PAMAP2_Dataset",
    "wisdm": "WISDM_ar_v1.1",
    "usc_had": "USC-HAD",
    "motion_sense": "MotionSense",
}
TENTH = {"window_s": 0.1, "overlap_frac": 0.0, "split": "subject_kfold"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_missing_folder_is_one_line_that_says_where_to_get_it(root: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"^no folder .*https://") as error:
        data.DATASETS[name].files(root)
    assert PUBLISHED[name] in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_a_published_set_says_of_itself_hangs_together(name: str) -> None:
    entry = data.DATASETS[name]
    sensors = {channel.split("_")[-2] for channel in entry.channels}
    assert set(entry.units) == sensors and entry.placement and entry.licence and entry.citation
    assert "https://" in entry.origin and len(set(entry.classes)) == len(entry.classes)
    placements = {"hand", "chest", "ankle"} if name == "pamap2" else {""}
    assert set(entry.triads()) == placements
    assert sum(3 * len(triads) for triads in entry.triads().values()) == len(entry.channels)


def test_uci_har_is_read_with_its_official_split(root: Path, tmp_path: Path) -> None:
    make.uci_har(root, {"train": [1, 3, 5, 6], "test": [2, 4]}, activities=[5, 1], copies=3)
    config = DataConfig(name="uci_har", split="official")
    loaded = data.load_split(config, "digest", tmp_path / "cache")
    windows = loaded.windows
    assert windows.series.shape == (36, 9, 128) and windows.series.dtype == np.float32
    # side 0, line 4, sensor gyro (1), step 7; side 1, line 0, sensor total_acc (2), step 0
    assert windows.series[4, 3, 7] == np.float32(0 + 40 + 1 + 0.007)
    assert windows.series[24, 8, 0] == np.float32(1 + 0 + 2)
    assert loaded.channels[3] == "gyro_x" and loaded.channels[8] == "acc_z"
    assert [loaded.classes[label] for label in windows.label[[0, 3]]] == ["standing", "walking"]
    assert windows.session.tolist() == np.repeat(np.arange(12), 3).tolist()
    assert windows.official.tolist() == [0] * 24 + [1] * 12
    assert loaded.subjects("test") == [2, 4] and not set(loaded.subjects("train")) & set(
        loaded.subjects("val")
    )
    assert loaded.about["amount"] == {str(subject): 6 for subject in range(1, 7)}


def test_a_uci_har_file_that_broke_off_is_named_with_its_line(root: Path) -> None:
    folder = make.uci_har(root, {"train": [1], "test": [2]}, activities=[1, 2])
    broken = folder / "test/Inertial Signals/total_acc_y_test.txt"
    whole = broken.read_text()

    def read() -> object:
        return uci_har.read(uci_har.files(root), DataConfig(name="uci_har"))

    broken.write_text(whole[:-900])
    assert fails(read).startswith(f"{broken}:2: ") and "should be 128" in fails(read)
    broken.write_text(whole[: whole.index("\n") + 1])
    assert fails(read) == f"{broken}: 1 lines, and y_test.txt has 2"
    broken.write_text(whole.replace("e", "x", 1))
    assert fails(read).startswith(f"{broken}:1: ") and "no finite number" in fails(read)
    broken.write_text("")
    assert fails(read) == f"{broken}: this file is empty"
    broken.write_text(whole)
    (folder / "train/y_train.txt").write_text("1\n7\n")
    assert fails(read).endswith("y_train.txt:2: 7 is not from 1 to 6")
    (folder / "train/y_train.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"y_train.txt: is .* whole\? It comes from https"):
        uci_har.files(root)


def test_pamap2_takes_the_columns_of_the_three_units(root: Path) -> None:
    folder = make.pamap2_files(root, {101: [make.pamap2_line(8.38 + t / 100, 24, t) for t in range(3)]})
    (recording,) = pamap2.recordings(folder / "subject101.dat")
    assert recording.series.shape == (3, 27) and recording.subject == 101
    # the readme counts from 1: hand 4-20, chest 21-37, ankle 38-54; in each acc 2-4, gyro 8-10, mag 11-13
    column = {name: recording.series[2, i] for i, name in enumerate(data.DATASETS["pamap2"].channels)}
    assert column["hand_acc_x"] == np.float32(2.04) and column["hand_acc_z"] == np.float32(2.06)
    assert column["chest_gyro_y"] == np.float32(2.28) and column["ankle_mag_z"] == np.float32(2.49)
    assert [pamap2.PAMAP2.classes[label] for label in recording.label] == ["rope_jumping"] * 3


def test_pamap2_fills_short_gaps_leaves_long_ones_out_and_parts_where_time_jumps(root: Path) -> None:
    lost = {f"c{i}": "NaN" for i in range(3, 20)}
    times = [t / 100 for t in range(100)] + [2 + t / 100 for t in range(20)]
    gaps = {*range(10, 30), *range(40, 61)}  # 20 samples, then 21
    lines = [
        make.pamap2_line(time, 0 if t in (5, 6) else 4, t, **(lost if t in gaps else {}))
        for t, time in enumerate(times)
    ]
    folder = make.pamap2_files(root, {105: lines})
    first, second = pamap2.recordings(folder / "subject105.dat")
    assert len(first.label) == 100 and len(second.label) == 20
    left_out = np.flatnonzero(first.label == -1)
    assert left_out.tolist() == [5, 6, *range(40, 61)] and set(first.label) == {-1, 3}
    assert first.series[:, 0][10:30] == pytest.approx([t + 0.04 for t in range(10, 30)])
    assert np.isfinite(first.series[first.label >= 0]).all()


def test_pamap2_goes_through_the_cut_the_cache_and_folds_of_subjects(root: Path, tmp_path: Path) -> None:
    rows = [make.pamap2_line(t / 100, 4 if t < 25 else 0, 0) for t in range(40)]
    make.pamap2_files(root, {subject: rows for subject in pamap2.TABLE})
    loaded = data.load_split(DataConfig(name="pamap2", folds=3, **TENTH), "digest", tmp_path / "cache")
    assert loaded.windows.series.shape == (18, 27, 10)  # 25 samples of walking: two windows of 10
    sides = [set(loaded.subjects(side)) for side in ("train", "val", "test")]
    assert [len(side) for side in sides] == [3, 3, 3] and set.union(*sides) == set(pamap2.TABLE)
    assert loaded.about["people"]["108"] == {
        "age_years": 32,
        "height_cm": 179,
        "weight_kg": 87,
        "hand": "left",
    }


def test_the_people_of_pamap2_have_the_means_that_its_readme_gives() -> None:
    age, height, weight = (np.array([row[i] for row in pamap2.TABLE.values()]) for i in range(3))
    index = weight / (height / 100) ** 2
    assert [round(float(x), 2) for x in (age.mean(), age.std(ddof=1))] == [27.22, 3.31]
    assert [round(float(x), 2) for x in (index.mean(), index.std(ddof=1))] == [25.11, 2.62]


def test_a_pamap2_file_that_broke_off_is_named_with_its_line(root: Path) -> None:
    folder = make.pamap2_files(root, {})
    broken = folder / "subject104.dat"
    whole = broken.read_text()

    def read() -> object:
        return pamap2.read(pamap2.files(root), DataConfig(name="pamap2", **TENTH))

    broken.write_text(whole[:-100])
    assert fails(read).startswith(f"{broken}:2: ") and "should be 54" in fails(read)
    broken.write_text(whole + whole.splitlines()[0] + " 1\n")
    assert fails(read) == f"{broken}:3: 55 values, and there should be 54"
    broken.write_text(whole.splitlines()[0] + " 1\n" + whole)
    assert fails(read) == f"{broken}:1: 55 values, and there should be 54"
    broken.write_text(whole + make.pamap2_line(0.02, 8, 0))
    assert fails(read) == f"{broken}:3: activity 8 is unknown"
    broken.write_text(whole + make.pamap2_line(0.02, 3, 0, c7="1,5"))
    assert fails(read) == f"{broken}:3: '1,5' is no finite number"
    broken.write_text(whole + make.pamap2_line(0.02, 3, 0, c0="NaN"))
    assert fails(read) == f"{broken}:3: this line has no time or no activity"
    short = whole.splitlines()[0].split()
    broken.write_text(" ".join(short[:20] + short[21:]) + "\n" + whole)  # every later column moves up
    assert fails(read) == f"{broken}:1: 53 values, and there should be 54"
    broken.write_text("")
    assert fails(read) == f"{broken}: this file is empty"


def test_usc_had_says_the_activity_by_name_and_the_person_by_field(root: Path, tmp_path: Path) -> None:
    folder = make.usc_had_files(root, steps=20)
    readings = np.arange(120).reshape(20, 6) / 8
    make.usc_had_file(folder / "Subject13/a11t4.mat", readings, field="activity_numbr")
    loaded = data.load_split(DataConfig(name="usc_had", folds=7, **TENTH), "digest", tmp_path / "cache")
    windows = loaded.windows
    assert windows.series.shape == (14 * 12 * 5 * 2, 6, 10) and len(np.unique(windows.session)) == 840
    mine = (windows.subject == 13) & (windows.label == loaded.classes.index("elevator_up"))
    assert mine.sum() == 10 and (windows.series[mine][6] == readings[:10].T).all()
    assert loaded.about["people"]["1"] == {"age_years": 23.0, "height_cm": 185.0, "weight_kg": 78.0}
    assert [len(loaded.subjects(side)) for side in ("train", "val", "test")] == [10, 2, 2]


def test_a_usc_had_file_that_is_not_as_published_is_named(root: Path) -> None:
    path = root / "Subject2" / "a3t1.mat"
    path.parent.mkdir()
    make.usc_had_file(path, np.zeros((5, 6)), activity_number="4")
    assert fails(lambda: usc_had._one(path)).startswith(f"{path}: its name says activity 3, its field ")
    make.usc_had_file(path, np.zeros((5, 3)))
    assert fails(lambda: usc_had._one(path)).startswith(f"{path}: sensor_readings is 5 x 3")
    make.usc_had_file(path, np.full((5, 6), np.nan))
    assert "no finite numbers" in fails(lambda: usc_had._one(path))
    make.usc_had_file(path, np.zeros((500, 6)))
    path.write_bytes(path.read_bytes()[:-9000])
    message = fails(lambda: usc_had._one(path))
    assert message.startswith(f"{path}: this is no whole MATLAB file") and "https://sipi.usc.edu" in message


def test_motion_sense_leaves_attitude_out_and_knows_its_people(root: Path, tmp_path: Path) -> None:
    make.motion_sense_files(root, steps=12)
    loaded = data.load_split(DataConfig(name="motion_sense", **TENTH), "digest", tmp_path / "cache")
    windows = loaded.windows
    assert windows.series.shape == (24 * 15 * 2, 9, 5)
    jogging = (windows.subject == 3) & (windows.label == loaded.classes.index("jogging"))
    assert jogging.sum() == 4
    # gravity.x is column 4, rotationRate.y column 8, userAcceleration.z 12; step 2 of window 2
    step = windows.series[jogging][1][:, 2]
    assert step[[0, 4, 8]] == pytest.approx([3 + 4 + 0.7, 3 + 8 + 0.7, 3 + 12 + 0.7])
    assert loaded.about["people"]["3"] == {"age_years": 23.0, "height_cm": 163.0, "weight_kg": 63.0}
    assert [len(loaded.subjects(side)) for side in ("train", "val", "test")] == [14, 5, 5]


def test_a_motion_sense_file_that_broke_off_is_named_with_its_line(root: Path) -> None:
    folder = make.motion_sense_files(root, steps=3)
    path = folder / "A_DeviceMotion_data/std_14/sub_24.csv"
    whole = path.read_text()
    path.write_text(whole[:-30])
    message = fails(lambda: motion_sense._one(path))
    assert message.startswith(f"{path}:4: ") and "the header has 13" in message
    path.write_text(whole.replace("gravity.x", "gravity"))
    assert fails(lambda: motion_sense._one(path)).startswith(f"{path}:1: no column 'gravity.x'")
    path.write_text(whole.splitlines()[0])
    assert "has no sample" in fails(lambda: motion_sense._one(path))
    path.write_text("")
    assert fails(lambda: motion_sense._one(path)) == f"{path}: this file is empty"
