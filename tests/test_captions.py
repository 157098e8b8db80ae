"""Banks, controls, and embeddings from the real packaged encoder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments import captions, data, encoder
from experiments.config import TextConfig
from experiments.yamlfile import FileError, read

# tests/test_planted.py has the made-up one, whose activities share their few sub-actions
NAMES = sorted(n for n in data.DATASETS if captions.bank_path(n).is_file() and n != "planted")


@pytest.mark.parametrize("name", NAMES)
def test_a_bank_has_every_form_says_who_wrote_it_and_repeats_nothing(name: str) -> None:
    path, classes = captions.bank_path(name), data.DATASETS[name].classes
    provenance = read(path).data["provenance"]
    assert provenance["written_by"] and provenance["reviewed_by"] and provenance["date"]
    bank = captions.read_bank(path, classes)
    assert set(bank) == set(classes)
    texts = [text.lower() for forms in bank.values() for form in forms.values() for text in form]
    assert len(texts) == len(set(texts))
    for forms in bank.values():
        counts = {form: len(forms[form]) for form in captions.FORMS}
        assert counts["affirmative"] >= 3 and counts["negative"] >= 3 and counts["sub_actions"] >= 8


@pytest.mark.parametrize("name", NAMES)
def test_no_text_holds_the_bare_label_of_an_abbreviated_class(name: str) -> None:
    classes = [c for c in data.DATASETS[name].classes if c.isupper()]
    bank = captions.read_bank(captions.bank_path(name), data.DATASETS[name].classes)
    words = {w.strip(".,;") for f in bank.values() for ts in f.values() for t in ts for w in t.split()}
    assert not words & set(classes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: {a: {keyword: x}}\n", "bank.yaml:1: class 'a' has no texts in form sentence"),
        ("classes:\n  a: {}\n  c: {}\n", "bank.yaml:3: unknown class 'c'; choose from a, b"),
        ("dataset: x\n", "bank.yaml:1: a bank needs `classes`"),
    ],
)
def test_a_broken_bank_names_file_line_and_what_is_missing(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bank.yaml"
    path.write_text(text)
    with pytest.raises(FileError) as caught:
        captions.read_bank(path, ("a", "b"))
    assert str(caught.value).endswith(message)


LABEL = np.repeat(np.arange(3), 20)
PER_CLASS = [["a1", "a2"], ["b1"], ["c1", "c2", "c3"]]
SAID = captions.Said([[f"says {w % 7} {i}" for i in range(3)] for w in range(60)], np.arange(60) % 7)
WHO = [f"wearer {w % 2}" for w in range(60)]


def assign(control: str = "none", seed: int = 0, source: str = "label", **more: Any) -> captions.Assignment:
    config = TextConfig(control=control, source=source)  # type: ignore[arg-type]
    return captions.assign(PER_CLASS, config, LABEL, np.random.default_rng(seed), **more)


def seen(assignment: captions.Assignment, epochs: int = 60) -> list[set[str]]:
    """Every text that each window gets to see."""
    drawn = np.stack([assignment.draw(np.random.default_rng(epoch)) for epoch in range(epochs)])
    return [{assignment.texts[u] for u in column} for column in drawn.T]


def test_a_window_sees_wordings_of_its_own_class_and_all_of_them() -> None:
    assignment = assign()
    assert all(texts == set(PER_CLASS[y]) for texts, y in zip(seen(assignment), LABEL, strict=True))
    assert np.array_equal(assignment.group, LABEL)


def test_shuffled_samples_keep_each_texts_share_say_nothing_of_the_label_and_stay_put() -> None:
    one, again, other = assign("shuffled_samples"), assign("shuffled_samples"), assign("shuffled_samples", 1)
    assert np.array_equal(one.kind, again.kind) and not np.array_equal(one.kind, other.kind)
    assert np.array_equal(np.bincount(one.kind), np.bincount(LABEL))
    assert not np.array_equal(one.kind, LABEL)
    assert np.array_equal(one.group, one.kind)  # positives follow the text, never the label


def test_shuffled_classes_give_each_class_the_texts_of_another_one_throughout() -> None:
    one, again = assign("shuffled_classes"), assign("shuffled_classes")
    assert np.array_equal(one.kind, again.kind) and np.array_equal(one.group, one.kind)
    moved = {(int(y), int(kind)) for y, kind in zip(LABEL, one.kind, strict=True)}
    assert len(moved) == 3 and {kind for _, kind in moved} == {0, 1, 2}
    assert all(y != kind for y, kind in moved)
    orders = {tuple(captions.derangement(4, np.random.default_rng(seed))) for seed in range(200)}
    assert len(orders) == 9 and all(o[i] != i for o in orders for i in range(4))  # all of them, and no other


def test_captions_of_the_series_are_a_windows_own_and_their_positives_share_what_is_said() -> None:
    assignment = assign(source="series", said=SAID)
    assert all(texts == set(own) for texts, own in zip(seen(assignment), SAID.captions, strict=True))
    assert np.array_equal(assignment.group, SAID.group)
    assert len(assignment.texts) == 21  # equal captions are one text: it is encoded once
    config = TextConfig(source="series")
    other = captions.assign([["x"]] * 3, config, (LABEL + 1) % 3, np.random.default_rng(0), SAID)
    assert other.texts == assignment.texts and np.array_equal(other.kind, assignment.kind)
    shuffled = assign("shuffled_samples", source="series", said=SAID)
    assert np.array_equal(shuffled.group, SAID.group[shuffled.kind]) and not np.array_equal(
        shuffled.group, SAID.group
    )


def test_both_say_the_class_and_then_what_the_series_says() -> None:
    assignment = assign(source="both", said=SAID)
    for texts, y, own in zip(seen(assignment), LABEL, SAID.captions, strict=True):
        assert all(text.split("\n")[0] in PER_CLASS[y] and text.split("\n")[1] in own for text in texts)
        assert len(texts) == 3
    assert np.array_equal(assignment.group, LABEL)
    crossed = assign("shuffled_classes", source="both", said=SAID)
    for texts, y, own in zip(seen(crossed), LABEL, SAID.captions, strict=True):
        assert not {text.split("\n")[0] for text in texts} & set(PER_CLASS[y])
        assert {text.split("\n")[1] for text in texts} == set(own)


def test_who_wears_what_joins_the_text_of_the_class() -> None:
    assignment = assign(wearers=WHO)
    for w, texts in enumerate(seen(assignment)):
        assert texts == {f"{text}\n{WHO[w]}" for text in PER_CLASS[LABEL[w]]}
    assert len(assignment.texts) == 12 and np.array_equal(assignment.group, LABEL)


@pytest.mark.parametrize(
    ("person", "sentence"),
    [
        ({}, "The wearer has a watch on the wrist."),
        ({"age_years": 27.0, "weight_kg": 80}, "The wearer, 27 years old, has a watch on the wrist."),
        (
            {"hand": "left", "height_cm": 181.6, "age_years": 30},
            "The wearer, 30 years old, 182 cm tall, left-handed, has a watch on the wrist.",
        ),
    ],
)
def test_a_wearer_is_described_by_what_is_known(person: dict[str, Any], sentence: str) -> None:
    assert captions.wearer(person, "a watch on the wrist") == sentence


def test_the_constant_control_shows_everyone_one_text() -> None:
    config = TextConfig(control="constant")
    per_class = captions.class_texts(captions.bank_path("spar"), config, data.DATASETS["spar"].classes)
    assignment = captions.assign(per_class, config, LABEL, np.random.default_rng(0), SAID, WHO)
    assert assignment.texts == [captions.CONSTANT]
    assert set(assignment.draw(np.random.default_rng(0))) == set(assignment.group) == {0}


def test_sub_actions_of_a_class_make_one_text_in_their_order_and_all_has_every_form() -> None:
    classes, path = data.DATASETS["spar"].classes, captions.bank_path("spar")
    texts = captions.class_texts(path, TextConfig(form="sub_actions"), classes)
    bank = captions.read_bank(path, classes)
    assert [len(t) for t in texts] == [1] * len(classes)
    assert texts[0][0].split("; ") == bank[classes[0]]["sub_actions"]
    every = captions.class_texts(path, TextConfig(form="all"), classes)
    forms = [captions.class_texts(path, TextConfig(form=form), classes) for form in captions.FORMS]
    assert every == [[text for form in forms for text in form[y]] for y in range(len(classes))]


def test_embeddings_are_minilms_token_by_token_and_do_not_hang_on_their_neighbours(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    cache = encoder.TextCache(tmp_path, "minilm", "0123456789abcdef")
    short, long = "raise the leg", "A person stands upright and lifts the straight arm far out to the side."
    together = list(cache.get([short, long, short]))
    assert [t.shape for t in together] == [(5, 384), (len(together[1]), 384), (5, 384)]
    alone = next(encoder.encode("minilm", [short]))
    assert np.array_equal(alone, together[0]) and np.array_equal(together[0], together[2])
    # ANCHORS 19, mean-pooled: opposites are near, a synonym is far
    means = [e.mean(0) for e in encoder.encode("minilm", [short, "lower the leg", "leg up"])]
    cosine = [float(np.dot(means[0], m) / np.linalg.norm(means[0]) / np.linalg.norm(m)) for m in means[1:]]
    assert cosine == pytest.approx([0.86, 0.64], abs=0.02)


def test_no_text_is_encoded_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counted(name: str, texts: list[str]) -> list[np.ndarray]:
        asked.extend(texts)
        return [np.zeros((2, 4), np.float32) for _ in texts]

    monkeypatch.setattr(encoder, "encode", counted)
    for digest in ("0123456789abcdef", "fedcba9876543210"):
        for texts in (["a", "b", "a"], ["b", "c"]):
            encoder.TextCache(tmp_path, "minilm", digest).get(texts)
    assert asked == ["a", "b", "c"] * 2  # once for each encoder
