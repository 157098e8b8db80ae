"""What nvidia-smi prints is read as CUDA would count, and trials fill a GPU no further than it goes."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments import packing
from experiments.packing import FIELDS, Gpu, Packing, Use, parse, sample, visible

A100 = "NVIDIA A100-SXM4-80GB"
TWO = f"""0, GPU-1f2e3d4c-aaaa-bbbb-cccc-000000000000, {A100}, Disabled, 81920, 4, 0
1, GPU-9a8b7c6d-aaaa-bbbb-cccc-111111111111, {A100}, Disabled, 81920, 20345, 97
"""
UNLIKE = TWO.replace(A100, "NVIDIA T4", 1)
Says = Callable[[str], None]
EMPTY, BUSY = Use(81920, 4, 0.0), Use(81920, 20345, 0.97)


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """An nvidia-smi that runs a line of shell."""
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def say(line: str) -> None:
        file = tmp_path / "nvidia-smi"
        file.write_text(f"#!/bin/sh\n{line}\n")
        file.chmod(0o755)

    return say


def printing(text: str) -> str:
    return f"cat <<'END'\n{text}END"


def test_a_sample_is_that_of_the_numbered_gpu(says: Says) -> None:
    says(printing(TWO))
    assert (sample("cuda:0"), sample("cuda"), sample("cuda:1")) == (EMPTY, EMPTY, BUSY)
    assert sample("cuda:2") is sample("cpu") is None


def test_a_sample_asks_for_the_fields_that_it_reads(says: Says) -> None:
    asked = f"--query-gpu={','.join(FIELDS)} --format=csv,noheader,nounits"
    says(f'[ "$*" = "{asked}" ] || exit 2\n{printing(TWO)}')
    assert sample("cuda:1") == BUSY


@pytest.mark.parametrize(
    "line", ["exit 9", "echo No devices were found", "", "printf '\\377\\376'", printing("0, GPU-1, T4\n")]
)
def test_an_nvidia_smi_that_fails_tells_nothing(says: Says, line: str) -> None:
    says(line)
    assert sample("cuda:0") is None


def test_no_nvidia_smi_tells_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sample("cuda:0") is None


def test_an_nvidia_smi_that_hangs_is_given_up(says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    says("exec sleep 60")
    monkeypatch.setattr(packing, "LIMIT_S", 0.2)
    began = time.monotonic()
    assert sample("cuda:0") is None
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("[N/A], 24576, 312, 41", Use(24576, 312, 0.41)),
        ("Disabled, 24576, 312, [N/A]", Use(24576, 312, None)),
        ("Disabled, 24576, 312, [Not Supported]", Use(24576, 312, None)),
        ("[N/A], [N/A], [N/A], 41", None),  # one memory for CPU and GPU
        ("Disabled, [GPU is lost], [GPU is lost], [GPU is lost]", None),
        ("Disabled, 24576, [Unknown Error], 3", None),
        ("Enabled, 40960, 37, [N/A]", None),  # CUDA would name a part of it
    ],
)
def test_what_a_gpu_does_not_tell_is_none(fields: str, expected: Use | None) -> None:
    assert parse(f"0, GPU-1f2e3d4c, {A100}, {fields}\n") == [Gpu("0", "GPU-1f2e3d4c", A100, expected)]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("1", ["1"]),
        ("1,0", ["1", "0"]),
        (" 1 , 0", ["1", "0"]),
        ("GPU-9a8b7c6d-aaaa-bbbb-cccc-111111111111", ["1"]),
        ("GPU-9a,GPU-1f", ["1", "0"]),
        ("GPU-", []),  # says not which
        ("", []),
        ("-1", []),
        ("1,7,0", ["1"]),  # CUDA stops at what is not there
        ("MIG-5f3e0000-aaaa-bbbb-cccc-222222222222", []),
        ("NoDevFiles", []),
    ],
)
def test_visible_devices_are_counted_as_cuda_counts_them(names: str, expected: list[str]) -> None:
    assert [gpu.number for gpu in visible(parse(TWO), {"CUDA_VISIBLE_DEVICES": names})] == expected


def test_unlike_gpus_are_known_by_number_only_in_the_order_of_the_bus() -> None:
    gpus, pci = parse(UNLIKE), {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert visible(gpus, {}) == visible(gpus, {"CUDA_VISIBLE_DEVICES": "1"}) == []
    assert visible(gpus, pci) == gpus
    assert visible(gpus, pci | {"CUDA_VISIBLE_DEVICES": "1"}) == gpus[1:]
    assert visible(gpus, {"CUDA_VISIBLE_DEVICES": "GPU-9a"}) == gpus[1:]


def test_the_environments_names_lead_to_the_sample(says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    says(printing(TWO))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert (sample("cuda:0"), sample("cuda:1")) == (BUSY, EMPTY)


QUIET = Use(24576, 300, 0.0)


def alone(used_mb: float, frac: float | None, before: Use = QUIET) -> Packing:
    """A device that was seen `before`, then with one trial on it."""
    found = Packing(None)
    found.seen("cuda:0", 0, before)
    for _ in range(packing.SAMPLES):
        found.seen("cuda:0", 1, before._replace(used_mb=used_mb, utilisation_frac=frac))
    return found


def test_memory_fills_nine_tenths_after_what_was_there_before() -> None:
    # 3,700 MB of which torch counts 3,000: each takes as much. (24,576 x 0.9 - 300) / 3,700 = 5.9
    assert alone(4000, 0.05).slots("cuda:0", 3000) == 5


def test_a_larger_peak_of_a_later_trial_counts_for_all() -> None:
    found = alone(4000, 0.05)
    assert found.slots("cuda:0", 3000) == 5
    assert found.slots("cuda:0", 5000) == 3  # 21,818 / 5,700 = 3.8: the context's 700 MB stay


def test_a_context_takes_its_room_even_where_samples_missed_the_peak() -> None:
    assert alone(2000, 0.05).slots("cuda:0", 3000) == 6  # 21,818 / 3,600 = 6.06


def test_utilisations_sum_up_to_about_all() -> None:
    assert alone(1300, 0.34).slots("cuda:0", 400) == 3  # 102 %
    assert alone(1300, 0.36).slots("cuda:0", 400) == 2
    assert alone(1300, 0.60).slots("cuda:0", 400) == 1
    assert alone(1300, 1.00).slots("cuda:0", 400) == 1
    assert alone(1300, None).slots("cuda:0", 400) == 21  # 21,818 / 1,000 = 21.8


def test_other_peoples_processes_are_respected_in_both() -> None:
    busy = Use(24576, 12300, 0.5)
    assert alone(13300, 0.55, busy).slots("cuda:0", 400) == 9  # (22,118 - 12,300) / 1,000
    assert alone(13300, 0.75, busy).slots("cuda:0", 400) == 2  # ours takes 25 %, half is left


def test_a_process_that_came_later_takes_its_room_until_it_goes() -> None:
    found = alone(1300, 0.04)
    assert found.slots("cuda:0", 400) == 21
    found.seen("cuda:0", 5, Use(24576, 300 + 5 * 1000 + 12000, 0.5))
    assert found.slots("cuda:0", 400) == 9  # (22,118 - 12,300) / 1,000
    found.seen("cuda:0", 5, Use(24576, 300 + 5 * 1000, 0.5))
    assert found.slots("cuda:0", 400) == 21


def test_a_process_that_went_gives_its_room_back() -> None:
    found = alone(13300, 0.05, Use(24576, 12300, 0.0))
    found.seen("cuda:0", 2, Use(24576, 2000, 0.1))
    assert found.slots("cuda:0", 400) == 20  # (22,118 - 2,000) / 1,000: all 2,000 may be others'


def test_trials_that_have_not_come_to_the_gpu_yet_keep_their_room() -> None:
    found = alone(1300, 0.04)
    assert found.slots("cuda:0", 400) == 21
    found.seen("cuda:0", 10, Use(24576, 800, 0.0))
    assert found.slots("cuda:0", 400) == 21


def test_a_gpu_that_is_full_still_takes_one() -> None:
    assert alone(24000, 1.0, Use(24576, 23000, 1.0)).slots("cuda:0", 400) == 1


def test_one_trial_goes_first_until_it_ended_and_was_seen_at_work() -> None:
    found = alone(1300, 0.04)
    assert found.slots("cuda:0", None) == 1
    new = Packing(None)
    assert new.slots("cuda:0", 400) == 1
    new.seen("cuda:0", 0, Use(24576, 300, 0.0))
    for _ in range(20):  # it still imports: this is no trial's utilisation
        new.seen("cuda:0", 1, Use(24576, 300, 0.0))
    assert new.slots("cuda:0", 400) == 1


def test_what_one_gpu_showed_holds_for_the_next_of_another_size() -> None:
    found = alone(4000, 0.05)
    assert found.slots("cuda:1", 3000) == 1  # nothing is known of its size
    found.seen("cuda:1", 0, Use(81920, 4, 0.0))
    assert found.slots("cuda:1", 3000) == 19  # (73,728 - 4) / 3,700 = 19.9


def test_a_device_that_ran_out_of_memory_takes_fewer() -> None:
    found = alone(1300, 0.04)
    found.ran_out("cuda:0", 8)
    assert found.slots("cuda:0", 400) == 7
    found.ran_out("cuda:0", 8)  # they were started before
    assert found.slots("cuda:0", 400) == 6
    for _ in range(9):
        found.ran_out("cuda:0", 1)
    assert found.slots("cuda:0", 400) == 1


def test_a_number_fixes_it() -> None:
    assert Packing(4).slots("cuda:0", None) == 4


def test_free_places_go_round_the_devices() -> None:
    assert Packing(3).free({"cuda:0": 2, "cuda:1": 0, "cuda:2": 3}, None) == [
        "cuda:1",
        "cuda:1",
        "cuda:0",
        "cuda:1",
    ]
    assert Packing(None).free({"cuda:0": 0, "cuda:1": 0}, None) == ["cuda:0", "cuda:1"]


def test_packing_imports_no_torch() -> None:
    code = "import sys, experiments.packing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
