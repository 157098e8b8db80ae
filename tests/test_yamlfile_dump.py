"""What is written reads back equal, here and by a reader of YAML 1.1."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments import captions, yamlfile

WORDS = [
    "1e5",
    "0o17",
    "0b11",
    "off",
    "12:30",
    "2026-11-21",
    "1_000",
    "null",
    "~",
    ".5",
    "1.",
    "true",
    "<<",
    "=",
]
WORDS += ["- x", "# y", "a: b", "", " lead", "trail ", "\n", "two\nlines\n", "é", "it's", '"', "\x1b", "a\tb"]
WORDS += ["x" * 300, "word " * 60]


@pytest.mark.parametrize("text", WORDS, ids=repr)
def test_text_stays_text_for_both_versions_of_yaml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    value = {
        "key": text,
        "list": [text, {"deeper": [text]}],
        text: 1,
        "number": [1, 1e-5, True, None, [], {}],
    }
    yamlfile.dump(path, value)
    assert yamlfile.read(path).data == yaml.safe_load(path.read_text()) == value


@pytest.mark.parametrize("name", sorted(path.stem for path in captions.BANKS.glob("*.yaml")))
def test_a_bank_is_written_readable_and_in_its_order(tmp_path: Path, name: str) -> None:
    bank, path = yamlfile.read(captions.bank_path(name)).data, tmp_path / "x.yaml"
    yamlfile.dump(path, bank)
    again = yamlfile.read(path).data
    assert again == bank and list(again["classes"]) == list(bank["classes"])
    assert max(map(len, path.read_text().splitlines())) <= 140 and "&id" not in path.read_text()


@pytest.mark.parametrize(
    "value", [{1: 2}, {"a": float("inf")}, {"a": (1, 2)}, {"a": object()}, {"a": "\ud800"}]
)
def test_what_would_not_read_back_is_refused_and_nothing_is_written(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueError):
        yamlfile.dump(tmp_path / "x.yaml", value)
    assert list(tmp_path.iterdir()) == []


def test_a_list_named_twice_is_written_twice(tmp_path: Path) -> None:
    both = ["a"]
    yamlfile.dump(tmp_path / "x.yaml", {"one": both, "two": both})
    assert (tmp_path / "x.yaml").read_text() == "one:\n  - a\ntwo:\n  - a\n"
