"""Banks, controls, and embeddings from the real packaged encoder."""

from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import captions, data, encoder
from experiments.config import TextConfig
from experiments.yamlfile import FileError, read

NAMES = sorted(data.DATASETS)


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
        ("classes: {a: {keyword: x}}\n", "bank.yaml:1: class 'a' needs texts in form sentence"),
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


def assign(control: str, seed: int = 0) -> captions.Assignment:
    config = TextConfig(control=control)  # type: ignore[arg-type]
    return captions.assign(PER_CLASS, config, LABEL, np.random.default_rng(seed))


def test_a_window_sees_wordings_of_its_own_class_and_all_of_them() -> None:
    assignment = assign("none")
    drawn = np.stack([assignment.draw(np.random.default_rng(epoch)) for epoch in range(30)])
    for y, texts in enumerate(PER_CLASS):
        assert {assignment.texts[u] for u in drawn[:, y == LABEL].ravel()} == set(texts)
    assert np.array_equal(assignment.group, LABEL)


def test_shuffled_samples_keep_each_texts_share_say_nothing_of_the_label_and_stay_put() -> None:
    one, again, other = assign("shuffled_samples"), assign("shuffled_samples"), assign("shuffled_samples", 1)
    assert np.array_equal(one.source, again.source) and not np.array_equal(one.source, other.source)
    assert np.array_equal(np.bincount(one.source), np.bincount(LABEL))
    assert not np.array_equal(one.source, LABEL)
    assert np.array_equal(one.group, one.source)  # positives follow the text, never the label


def test_the_constant_control_shows_everyone_one_text() -> None:
    config = TextConfig(control="constant")
    per_class = captions.class_texts(captions.bank_path("spar"), config, data.DATASETS["spar"].classes)
    assignment = captions.assign(per_class, config, LABEL, np.random.default_rng(0))
    assert assignment.texts == [captions.CONSTANT]
    assert set(assignment.draw(np.random.default_rng(0))) == set(assignment.group) == {0}


def test_sub_actions_of_a_class_make_one_text_in_their_order() -> None:
    classes = data.DATASETS["spar"].classes
    config = TextConfig(form="sub_actions")
    texts = captions.class_texts(captions.bank_path("spar"), config, classes)
    bank = captions.read_bank(captions.bank_path("spar"), classes)
    assert [len(t) for t in texts] == [1] * len(classes)
    assert texts[0][0].split("; ") == bank[classes[0]]["sub_actions"]


def test_embeddings_are_minilms_token_by_token_and_do_not_hang_on_their_neighbours(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    cache = encoder.TextCache(tmp_path, "minilm", "0123456789abcdef")
    short, long = "raise the leg", "A person stands upright and lifts the straight arm far out to the side."
    together = cache.get([short, long, short])
    assert [t.shape for t in together] == [(5, 384), (len(together[1]), 384), (5, 384)]
    alone = encoder.encode("minilm", [short])[0]
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
