"""The made-up windows: what is planted in them, and that their texts can tell the motifs apart."""

import numpy as np

from experiments import captions, data
from experiments.concepts import concepts
from experiments.config import DataConfig
from experiments.data import planted
from experiments.naming import by_cooccurrence


def test_an_activity_is_its_motifs_in_order_in_every_window() -> None:
    series, motif = planted.draw()
    label = np.tile(np.repeat(np.arange(20), planted.EACH), planted.SUBJECTS)
    assert series.shape == motif.shape == (len(label), 1, planted.STEPS)
    for w, phrases in enumerate([list(planted.ACTIVITIES.values())[y] for y in label]):
        found = motif[w, 0]
        ends = np.flatnonzero(np.diff(found)) + 1
        order = [planted.PHRASES[found[first]] for first in (0, *ends)]
        assert order == list(phrases) and np.diff([0, *ends, planted.STEPS]).min() >= 8


def test_no_two_motifs_are_in_the_same_activities_and_texts_name_them_all() -> None:
    sets = list(planted.ACTIVITIES.values())
    where = {phrase: tuple(phrase in phrases for phrases in sets) for phrase in planted.PHRASES}
    assert len(set(where.values())) == 8 and {sum(there) for there in where.values()} == {7, 8}
    bank = concepts(captions.bank_path("planted"), planted.PLANTED.classes)
    assert [tuple(phrases) for phrases in bank.phrases] == sets and set(bank.names) == set(planted.PHRASES)


def test_were_codes_the_motifs_their_texts_would_name_every_one() -> None:
    _, motif = planted.draw()
    label = np.tile(np.repeat(np.arange(20), planted.EACH), planted.SUBJECTS)
    count_YN = np.stack([np.bincount(motif[label == y].ravel(), minlength=8) for y in range(20)])
    member = np.array([[p in phrases for p in planted.PHRASES] for phrases in planted.ACTIVITIES.values()])
    p_NQ = by_cooccurrence(count_YN.astype(float), member)
    assert p_NQ.argmax(1).tolist() == list(range(8)) and p_NQ.max(1).min() > 0.95
    dealt = np.random.default_rng(0).permutation(20)
    assert (by_cooccurrence(count_YN.astype(float), member[dealt]).argmax(1) == np.arange(8)).sum() <= 3


def test_the_windows_are_the_same_every_time_and_folds_are_people() -> None:
    entry = data.entry("planted")
    raw = entry.read(entry.files(data.root()), DataConfig(name="planted", split="subject_kfold", folds=4))
    assert np.array_equal(raw.windows.series, planted.draw()[0])
    sides = data.split(raw.windows, raw.amount, DataConfig(name="planted", split="subject_kfold", folds=4))
    people = [set(raw.windows.subject[rows].tolist()) for rows in sides]
    assert [len(p) for p in people] == [6, 3, 3] and not people[0] & people[2]
    assert entry.events is not None and entry.events()[1].shape == raw.windows.series.shape
