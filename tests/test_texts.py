"""What training windows read: real texts, real captions, real embeddings, and what controls make of them."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments import data, encoder, texts, trial
from experiments.config import RunConfig
from experiments.encoder import Embeddings, TextCache
from experiments.execute import Job
from experiments.identity import FileDigests
from experiments.ledger import Store
from experiments.texts import TextRows, embeddings, read_text
from experiments.words import read_words

GUIDED: dict[str, Any] = {"model": {"guidance": {"attention": "one_way"}}}
SPAR = {"name": "spar", "window_s": 4, "overlap_frac": 0.5, "split": "subject_kfold"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    torch.set_num_threads(1)
    return Store(tmp_path_factory.mktemp("store"))


def job_of(store: Store, **settings: Any) -> tuple[RunConfig, Job]:
    config = RunConfig.model_validate(GUIDED | settings)
    files = FileDigests(store.cache)
    digests = {
        "data": data.data_digest(files.of(data.entry(config.data.name).files(data.root()))),
        "text": read_words(config).digest,
        "encoder": files.of(encoder.files(config.text.encoder)),
    }
    return config, Job(
        "0" * 16, config.model_dump(mode="json"), digests, str(store.root), "cpu", "", time.time()
    )


def loaded_of(config: RunConfig, job: Job, store: Store) -> data.Loaded:
    return data.load_split(config.data, str(job.digests["data"]), store.cache)


def text_of(store: Store, **settings: Any) -> texts.Text:
    config, job = job_of(store, **settings)
    return read_text(config, job, loaded_of(config, job, store))


def test_thirty_trials_on_one_data_set_encode_each_distinct_text_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = encoder.encode, Counter[str]()

    def counted(name: str, wanted: list[str]) -> Iterator[np.ndarray]:
        asked.update(wanted)
        return real(name, wanted)

    monkeypatch.setattr(encoder, "encode", counted)
    store, every = Store(tmp_path), set[str]()
    ways = [{"control": "random"}, {"form": "all"}, {"source": "series"}, {"source": "both"},
            {"control": "shuffled_classes"}, {"source": "series", "control": "shuffled_samples"}]  # fmt: skip
    jobs = [job_of(store, text=way, seed=seed) for way in ways for seed in range(5)]
    trial.prepare([job for _, job in jobs], False)
    assert set(asked.values()) == {1}
    before, packs = asked.total(), len(list(tmp_path.rglob("tokens.npy")))
    for config, job in jobs:
        text = read_text(config, job, loaded_of(config, job, store))
        assert text.assignment is not None
        every |= {line for said in text.assignment.texts for line in said.split("\n")}
    assert asked.total() == before and set(asked) == every and len(every) > 100
    assert len(list(tmp_path.rglob("tokens.npy"))) == packs  # nor does a trial pack any, noise among them


def test_labels_cannot_reach_what_a_caption_of_the_series_says(store: Store) -> None:
    config, job = job_of(store, text={"source": "series"}, data=SPAR)
    loaded = loaded_of(config, job, store)
    words = read_words(config)
    assert words.per_class == [[]] * 7, "no text of a class is so much as read"
    honest = texts.assigned(config, words, loaded)
    label, subject = (np.roll(part, 500) for part in (loaded.windows.label, loaded.windows.subject))
    lied = loaded._replace(windows=loaded.windows._replace(label=label, subject=subject))
    blind = texts.assigned(config, words, lied)
    assert honest.texts == blind.texts
    for name in ("row", "first", "wordings", "kind", "group"):
        assert np.array_equal(getattr(honest, name), getattr(blind, name)), name
    drawn = (one.draw(np.random.default_rng(0)) for one in (honest, blind))
    assert np.array_equal(*drawn)
    assert len(honest.kind) == len(loaded.split.train)


def test_noise_in_a_texts_place_has_its_length_and_norms_and_nothing_of_its_direction(store: Store) -> None:
    own, noise, again = (
        text_of(store, text={"control": control}) for control in ("none", "random", "random")
    )
    other = text_of(store, text={"control": "random"}, seed=1)
    assert own.rows is not None and noise.rows is not None
    assert again.rows is not None and other.rows is not None
    assert np.array_equal(own.rows.embeddings.first, noise.rows.embeddings.first)
    one, two = own.rows.embeddings.tokens, noise.rows.embeddings.tokens
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), np.linalg.norm(two, axis=1), rtol=1e-5)
    cosine = (one * two).sum(1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1))
    assert np.abs(cosine).max() < 0.3 and abs(cosine.mean()) < 0.03
    assert np.array_equal(again.rows.embeddings.tokens, two)
    assert not np.array_equal(other.rows.embeddings.tokens, two)


def test_one_hot_names_the_class_in_one_token_and_asks_no_encoder(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextCache, "pack", None)
    text = text_of(store, text={"control": "one_hot"})
    assert text.width == 4 and text.rows is not None and text.rows.whole is not None
    assert torch.equal(text.rows.whole.tokens, torch.eye(4)[:, None])
    assert text.assignment is not None
    assert np.array_equal(text.assignment.draw(np.random.default_rng(0)), text.assignment.group)


def test_a_steps_texts_are_those_of_the_whole_table(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    config, job = job_of(store, text={"form": "all"})
    text = read_text(config, job, loaded_of(config, job, store))
    assert text.rows is not None and text.rows.whole is not None
    monkeypatch.setattr(texts, "FEW", 3)
    narrow = TextRows(text.rows.embeddings, "cpu")
    assert narrow.whole is None
    asked = np.array([5, 2, 5, 30])
    wholly, narrowly = (list(rows.parts(asked, 3)) for rows in (text.rows, narrow))
    assert [len(table.tokens) for table, _ in narrowly] == [2, 1] and len(wholly) == 2
    for (table, rows), (other, same) in zip(narrowly, wholly, strict=True):
        for part, whole in zip(table, other, strict=True):
            assert torch.equal(part[rows], whole[same])


def test_a_target_is_a_texts_mean_token_centred_over_the_bank() -> None:
    tokens = np.array([[1, 0], [3, 0], [0, 2]], dtype=np.float32)
    rows = TextRows(Embeddings(tokens, np.array([0, 2, 3])), "cpu")
    assert rows.target.tolist() == [[1, -1], [-1, 1]]
    ((table, _),) = rows.parts(np.array([0, 1]), 2)
    assert table.tokens.tolist() == [[[1, 0], [3, 0]], [[0, 2], [0, 0]]]
    assert table.real.tolist() == [[True, True], [True, False]]


def test_who_wears_what_is_said_of_the_windows_own_subject(store: Store) -> None:
    config, job = job_of(store, text={"subject_info": True}, data=SPAR)
    loaded = loaded_of(config, job, store)
    people = {str(s): {"age_years": 20 + s, "hand": "left"} for s in range(1, 11)}
    known = loaded._replace(about=loaded.about | {"people": people})
    assignment = texts.assigned(config, read_words(config), known)
    drawn = [assignment.texts[row] for row in assignment.draw(np.random.default_rng(0))]
    for text, subject in zip(drawn, loaded.windows.subject[loaded.split.train], strict=True):
        wearer = f"The wearer, {20 + subject} years old, left-handed, has a smart watch on the wrist."
        assert text.endswith(wearer)
    plain = texts.assigned(config, read_words(config), loaded)
    assert all(text.endswith("The wearer has a smart watch on the wrist.") for text in plain.texts)


def test_an_encoder_from_a_folder_is_read_like_the_packaged_one(tmp_path: Path) -> None:
    folder = encoder.folder("minilm")
    assert {path.name for path in encoder.files(f"hf:{folder}")} >= {"model.safetensors", "config.json"}
    said = ["raise the leg", "a much longer text about raising the leg"]
    pairs = zip(encoder.encode("minilm", said), encoder.encode(f"hf:{folder}", said), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)
    with pytest.raises(FileNotFoundError, match=r"no config.json or no .safetensors"):
        encoder.files(f"hf:{tmp_path}")


@pytest.mark.parametrize("name", ["someone/no-such-model", "not a name at all", "../up"])
def test_an_encoder_that_is_not_there_is_one_line_and_no_download(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refused)
    with pytest.raises(FileNotFoundError, match="no such folder, and not in Hugging Face's cache") as caught:
        encoder.files(f"hf:{name}")
    assert len(str(caught.value).splitlines()) == 1


def test_texts_of_a_trial_are_memory_mapped_and_equal_what_was_encoded(store: Store) -> None:
    config, job = job_of(store)
    cache = TextCache(store.cache, "minilm", str(job.digests["encoder"]))
    said = ["one", "two words", "one"]
    packed = embeddings(config, said, cache)
    assert isinstance(packed.tokens, np.memmap) and packed.first.tolist() == [0, 3, 7, 10]
    assert all(np.array_equal(packed.of(i), tokens) for i, tokens in enumerate(cache.get(said)))


def test_how_far_encoding_is_can_be_read_off_its_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.txt"
    assert encoder.encoded(log) is None
    with pytest.MonkeyPatch.context() as inner:
        inner.setattr(encoder, "SAY_EVERY_S", 0)
        TextCache(tmp_path, "minilm", "any").get(["one", "two words\nthree", "one"])
    log.write_text("Some library warns of 1 of 2 things\n" + capfd.readouterr().out)
    assert encoder.encoded(log) == (3, 3)
