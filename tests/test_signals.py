"""Series captions: facts by hand, sentences that carry all of them, and no way in for a label."""

import ast
import inspect
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from experiments import data, encoder, phrasing, signals
from experiments.config import DataConfig
from experiments.phrasing import captions
from experiments.signals import ABSENT, Facts, Sensor, facts, groups

WATCH = Sensor(
    channels=("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z"),
    units={"acc": "g", "gyro": "rad/s"},
    rate_hz=50.0,
    placement="a smart watch on the wrist",
)
TIME_S = np.arange(200) / 50
SPAR = DataConfig(name="spar", window_s=4, overlap_frac=0.5, split="subject_kfold")


@pytest.fixture(scope="module")
def spar(tmp_path_factory: pytest.TempPathFactory) -> data.Windows:
    return data.load(SPAR, "digest", tmp_path_factory.mktemp("cache"))[0]


def window(**moves: np.ndarray) -> np.ndarray:
    """(1, 6, 200): a watch with gravity along -z and these movements on top."""
    x = np.zeros((1, 6, 200))
    x[0, 2] = -1
    for name, move in moves.items():
        x[0, WATCH.channels.index(name)] += move
    return x


def wave(hertz: float, amplitude: float) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hertz * TIME_S)


def spikes(*at: int) -> np.ndarray:
    return 3.0 * np.isin(np.arange(200), at)


def one(found: Facts) -> dict[str, object]:
    return {name: value[0].tolist() for name, value in found._asdict().items()}


def same(a: Facts, b: Facts) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_sine_of_2_hz_along_y_gives_its_facts_and_says_them_with_units() -> None:
    found = facts(window(acc_y=wave(2, 0.5), gyro_x=wave(2, 3.0)), WATCH)
    assert one(found) == {
        "channel": [1, 3],
        "energy": [-1, 1],  # 0.354 g is nearest to 0.5, 2.12 rad/s to 2
        "frequency": 4,  # quarter octaves above 1 Hz
        "periodicity": 2,
        "posture": -9,
        "trend": 0,
        "change": ABSENT,
        "events": 0,
    }
    assert captions(found, WATCH) == [
        [
            "A smart watch on the wrist: acceleration mostly along y, 0.5 g RMS; rotation mostly about x, "
            "2 rad/s RMS; strongly periodic at 2 Hz; gravity along -z.",
            "Regular near 2 Hz; RMS acceleration 0.5 g, mainly along y; RMS rotation 2 rad/s, mainly "
            "about x; gravity lies on -z; from a smart watch on the wrist.",
            "Signal of a smart watch on the wrist: gravity felt on -z; 0.5 g RMS acceleration, most along y; "
            "2 rad/s RMS rotation, most about x; a clear rhythm of 2 Hz.",
        ]
    ]


def test_a_still_window_has_a_posture_and_nothing_else_whatever_its_sensors_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 0.005, (2, 1, 6, 200))
    still, noisy = facts(window(), WATCH), facts(window() + noise[0], WATCH)
    assert same(still, noisy)
    assert one(still) == {
        "channel": [ABSENT, ABSENT],
        "energy": [ABSENT, ABSENT],
        "frequency": ABSENT,
        "periodicity": 0,
        "posture": -9,
        "trend": 0,
        "change": ABSENT,
        "events": 0,
    }
    said = captions(still, WATCH)[0]
    assert said[0] == "A smart watch on the wrist: no acceleration; no rotation; gravity along -z."


@pytest.mark.parametrize(
    ("at", "events", "said"),
    [
        ((90,), 1, "one peak"),
        ((60, 120), 2, "two peaks"),
        ((60, 65), 1, "one peak"),  # 0.1 s apart
        ((20, 60, 100, 140, 180), 3, "many peaks"),
        ((0,), 1, "one peak"),
        ((199,), 1, "one peak"),
    ],
)
def test_spikes_are_counted_and_those_that_follow_at_once_are_one(
    at: tuple[int, ...], events: int, said: str
) -> None:
    found = facts(window(acc_x=spikes(*at)), WATCH)
    assert found.events.tolist() == [events]
    assert said in captions(found, WATCH)[0][0]


@pytest.mark.parametrize(("sign", "said"), [(1, "rising by 1 g"), (-1, "falling by 1 g")])
def test_a_ramp_rises_or_falls_by_its_height_and_has_no_frequency(sign: int, said: str) -> None:
    found = facts(window(acc_x=sign * np.linspace(0, 1, 200)), WATCH)
    assert (found.trend[0], found.change[0], found.channel[0, 0]) == (sign, 0, 0)
    assert (found.frequency[0], found.periodicity[0], found.events[0]) == (ABSENT, 0, 0)
    assert found.energy[0, 0] == -2  # 1 / sqrt(12) = 0.29 is nearer to 0.2 by ratio
    assert said in captions(found, WATCH)[0][0]


@pytest.mark.parametrize("hertz", [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0])
def test_the_frequency_of_a_sine_is_found_from_one_cycle_a_window_on(hertz: float) -> None:
    found = facts(window(acc_x=np.cos(2 * np.pi * hertz * TIME_S)), WATCH)
    off = abs(int(found.frequency[0]) - 4 * np.log2(hertz))
    assert off <= (0 if hertz >= 0.5 else 1)  # of a single cycle, within a quarter octave
    assert found.periodicity.tolist() == [2 if hertz >= 0.5 else 0]  # two cycles must be seen


def test_noise_is_not_periodic_and_a_sine_buried_in_it_is_weakly() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (200, 6, 200))
    assert (facts(noise, WATCH).periodicity == 0).mean() > 0.98
    buried = noise.copy()
    buried[:, 0] += wave(2, 1.6)
    assert (facts(buried, WATCH).periodicity == 1).mean() > 0.6


@pytest.mark.parametrize(
    ("gravity", "said"),
    [
        ((0, 0, 1), "gravity along +z."),
        ((-1, 0, 0.2), "gravity along -x."),
        ((-0.7, 0, 0.7), "gravity along -x and +z."),
        ((0.57, -0.57, 0.57), "gravity along +x and -y and +z."),
        ((0, 0.5, 0), None),  # it turned, or gravity was taken out
        ((0, 1.5, 0), None),
    ],
)
def test_posture_is_the_axes_near_gravity_and_only_where_the_mean_is_1_g(
    gravity: tuple[float, ...], said: str | None
) -> None:
    x = window()
    x[0, :3] = np.array(gravity)[:, None]
    metric = WATCH._replace(units={"acc": "m/s^2"})
    for scale, sensor in ((1.0, WATCH), (9.81, metric)):
        caption = captions(facts(x * scale, sensor), sensor)[0][0]
        assert caption.endswith(said) if said else "gravity" not in caption


def test_without_a_unit_none_is_said_and_there_is_no_posture() -> None:
    sensor = WATCH._replace(units={"gyro": "rad/s"}, placement="")
    found = facts(window(acc_y=wave(2, 0.5)), sensor)
    assert found.posture.tolist() == [ABSENT]
    said = "Acceleration mostly along y, 0.5 RMS; no rotation; strongly periodic at 2 Hz."
    assert captions(found, sensor)[0][0] == said


def test_of_several_placements_the_one_that_moves_most_is_named() -> None:
    names = tuple(f"{place}_acc_{axis}" for place in ("hand", "left_ankle") for axis in "xyz")
    sensor = Sensor(names, {"acc": "g"}, 50, "")
    x = np.zeros((2, 6, 200))
    x[:, 2], x[:, 3] = 1, -1
    x[0, 1] += wave(1, 0.15)
    x[1, 4] += wave(1, 0.15)
    found = facts(x, sensor)
    assert found.channel.tolist() == [[1], [4]] and found.posture.tolist() == [9, -1]
    assert [said[0] for said in captions(found, sensor)] == [
        "Acceleration mostly along y of the hand, 0.1 g RMS; strongly periodic at 1 Hz; gravity along +z.",
        "Acceleration mostly along y of the left ankle, 0.1 g RMS; strongly periodic at 1 Hz; "
        "gravity along -x.",
    ]


def test_channels_without_axes_are_each_their_own_and_have_no_posture() -> None:
    sensor = Sensor(("coefficient 1", "heart_rate", "coefficient 3"), {"heart_rate": "bpm"}, 50, "")
    x = np.ones((2, 3, 200))
    x[0, 1] += wave(1, 14)
    x[1, 2] += wave(1, 14)
    x[:, 0] += wave(3, 2)
    found = facts(x, sensor)
    assert found.channel.tolist() == [[1], [2]] and found.posture.tolist() == [ABSENT] * 2
    assert [said[0] for said in captions(found, sensor)] == [
        "Variation mostly in heart rate, 10 bpm RMS; strongly periodic at 1 Hz.",
        "Variation mostly in coefficient 3, 10 RMS; strongly periodic at 1 Hz.",
    ]


@pytest.mark.parametrize("units", [WATCH.units, {}])
def test_constant_channels_warn_of_nothing_and_rest(units: dict[str, str]) -> None:
    x = np.full((3, 6, 200), np.float32(0.1))
    x[1], x[2] = 0, 1e4
    sensor = WATCH._replace(units=units)
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        found = facts(x, sensor)
        assert (found.channel == ABSENT).all() and (found.events == 0).all()
        assert captions(found, sensor)[0][0] == "A smart watch on the wrist: no acceleration; no rotation."
        assert captions(facts(x[:0], sensor), sensor) == []


def test_no_real_window_warns(spar: data.Windows) -> None:
    with warnings.catch_warnings(), np.errstate(divide="raise", invalid="raise", over="raise"):
        warnings.simplefilter("error")
        facts(spar.series, WATCH)


SAMPLE = {  # a fact and another value of it
    "channel": ([[1, 3]], [[0, 3]]),
    "energy": ([[-1, 1]], [[-1, 2]]),
    "frequency": ([4], [5]),
    "periodicity": ([2], [1]),
    "posture": ([-9], [9]),
    "trend": ([1], [-1]),
    "change": ([0], [1]),
    "events": ([1], [2]),
}


@pytest.mark.parametrize("name", Facts._fields)
def test_each_fact_changes_every_caption_and_the_group(name: str) -> None:
    base = Facts(*(np.array(SAMPLE[field][0]) for field in Facts._fields))
    other = base._replace(**{name: np.array(SAMPLE[name][1])})
    pairs = zip(captions(base, WATCH)[0], captions(other, WATCH)[0], strict=True)
    assert all(a != b for a, b in pairs)
    both = Facts(*(np.concatenate(values) for values in zip(base, other, strict=True)))
    assert len(set(groups(both))) == 2


def test_phrasings_differ_and_each_carries_every_number_unit_and_axis(spar: data.Windows) -> None:
    for said in captions(facts(spar.series[::5], WATCH), WATCH):
        assert len(said) == len(set(said)) == phrasing.PHRASINGS
        carried = [sorted(re.findall(r"\d+(?:\.\d+)?|[+-]?\b[xyz]\b|Hz|rad/s|\bg\b", text)) for text in said]
        assert all(each == carried[0] for each in carried)


def test_two_windows_share_their_captions_exactly_where_they_share_their_group(spar: data.Windows) -> None:
    found = facts(spar.series, WATCH)
    group, said = groups(found), captions(found, WATCH)
    assert group.dtype == np.int64 and group.shape == (2229,)
    assert 100 < group.max() + 1 < 1000  # neither one a window nor a handful
    for which in range(phrasing.PHRASINGS):
        assert len(set(zip(group, (texts[which] for texts in said), strict=True))) == group.max() + 1
    assert len({text for texts in said for text in texts}) == phrasing.PHRASINGS * (group.max() + 1)


def test_fewer_phrasings_are_the_first_ones() -> None:
    found = facts(window(acc_y=wave(2, 0.5)), WATCH)
    assert captions(found, WATCH, 2)[0] == captions(found, WATCH)[0][:2]


def test_windows_that_hardly_differ_share_their_facts(spar: data.Windows) -> None:
    noise = np.random.default_rng(0).normal(0, 1e-4, spar.series.shape)
    before, after = facts(spar.series, WATCH), facts(spar.series + noise, WATCH)
    equal = np.all([(a == b).reshape(len(a), -1).all(1) for a, b in zip(before, after, strict=True)], 0)
    assert equal.mean() > 0.98


def test_a_windows_facts_do_not_hang_on_its_batch_or_its_memory_layout(spar: data.Windows) -> None:
    found = facts(spar.series, WATCH)
    rows = np.random.default_rng(0).choice(2229, 40, replace=False)
    expected = Facts(*(value[rows] for value in found))
    alone = [facts(spar.series[row : row + 1], WATCH) for row in rows]
    assert same(expected, Facts(*(np.concatenate(parts) for parts in zip(*alone, strict=True))))
    strided = np.moveaxis(np.ascontiguousarray(np.moveaxis(spar.series[rows], 1, 2)), 2, 1)
    assert not strided.flags.c_contiguous and same(expected, facts(strided, WATCH))
    alone_said = [captions(each, WATCH)[0] for each in alone]
    assert [captions(found, WATCH)[row] for row in rows] == alone_said


def test_labels_cannot_reach_captions_other_rows_and_labels_only_permute_them(spar: data.Windows) -> None:
    def said(windows: data.Windows) -> list[list[str]]:
        return captions(facts(windows.series, WATCH), WATCH)

    rng, before = np.random.default_rng(0), said(spar)
    shuffled = spar._replace(
        **{name: rng.permutation(getattr(spar, name)) for name in ("label", "subject", "session", "official")}
    )
    assert said(shuffled) == before
    order = rng.permutation(len(before))
    assert said(data.Windows(*(np.asarray(part)[order] for part in spar))) == [before[i] for i in order]


def test_captions_take_no_label_and_import_nothing_that_knows_one() -> None:
    assert list(inspect.signature(facts).parameters) == ["x_WMT", "sensor"]
    assert list(inspect.signature(captions).parameters) == ["found", "sensor", "phrasings"]
    assert Sensor._fields == ("channels", "units", "rate_hz", "placement")
    for module, others in ((signals, set()), (phrasing, {"experiments.signals"})):
        tree = list(ast.walk(ast.parse(Path(str(module.__file__)).read_text())))
        imported = {alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names}
        imported |= {str(node.module) for node in tree if isinstance(node, ast.ImportFrom)}
        assert imported == {"numpy", "typing"} | others


def test_no_real_caption_is_longer_than_64_tokens_of_the_encoder(spar: data.Windows) -> None:
    from transformers import AutoTokenizer

    folder = encoder.files("minilm")[0].parent
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    texts = sorted({text for said in captions(facts(spar.series, WATCH), WATCH) for text in said})
    tokens = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    assert max(tokens) <= 64 and np.median(tokens) <= 48


def test_numbers_are_on_the_grid_1_2_5_nearest_by_ratio() -> None:
    assert " ".join(signals.number(k) for k in range(-4, 5)) == "0.05 0.1 0.2 0.5 1 2 5 10 20"
    steps = signals._grid(np.array([0, 1, 1.41, 1.42, 3.1, 3.2, 7, 7.1, 1000, 0.001]))
    assert steps.tolist() == [ABSENT, 0, 0, 1, 1, 2, 2, 3, 9, -9]


def test_what_cannot_be_said_is_refused_with_expected_and_found() -> None:
    with pytest.raises(ValueError, match=r"expected \(W, 6, 8 or more\), found \(1, 5, 200\)"):
        facts(np.zeros((1, 5, 200)), WATCH)
    with pytest.raises(ValueError, match=r"found \(1, 6, 7\)"):
        facts(np.zeros((1, 6, 7)), WATCH)
    for count in (0, phrasing.PHRASINGS + 1):
        with pytest.raises(ValueError, match=f"expected 1 to {phrasing.PHRASINGS} phrasings, found {count}"):
            captions(facts(window(), WATCH), WATCH, count)


def test_captions_speak_of_movement_and_turning_and_read_gravity_wherever_it_is() -> None:
    time_s = np.arange(128) / 50
    shake = 1.5 * np.sin(2 * np.pi * 2 * time_s)
    still, down = np.zeros(128), np.full(128, -1.0)
    phone = Sensor(
        tuple(f"{name}_{axis}" for name in ("gravity", "gyro", "useracc") for axis in "xyz"),
        {"gravity": "g", "gyro": "rad/s", "useracc": "g"}, 50.0, "",
    )  # fmt: skip
    ((said, *_),) = captions(
        facts(np.array([[still, down, still, *[still] * 3, shake, still, still]]), phone), phone
    )
    assert said.startswith("Acceleration mostly along x, 1 g RMS; no rotation; strongly periodic at 2 Hz")
    assert "gravity along -y" in said
    waist = Sensor(
        tuple(f"{name}_{axis}" for name in ("bodyacc", "gyro", "acc") for axis in "xyz"),
        {"bodyacc": "g", "gyro": "rad/s", "acc": "g"}, 50.0, "",
    )  # fmt: skip
    ((said, *_),) = captions(
        facts(np.array([[shake, still, still, *[still] * 3, shake, down, still]]), waist), waist
    )
    assert (
        said.startswith("Acceleration mostly along x, 1 g RMS; no rotation;") and "gravity along -y" in said
    )
