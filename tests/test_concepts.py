"""Concepts: which phrases are one, their vectors by hand, and weights over phrases spread to them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from experiments import captions, data, encoder
from experiments.concepts import Concepts, concepts
from experiments.identity import digest
from experiments.yamlfile import FileError
from model.concepts import ConceptTable

NAMES = sorted(name for name in data.DATASETS if captions.bank_path(name).is_file())
CLASS = "{{keyword: k, sentence: s, affirmative: a, negative: n, sub_actions: [{}]}}"
BANK = (
    f"classes:\n  a: {CLASS.format('lift leg, raise leg, turn')}\n"
    f"  b: {CLASS.format('turn, leg up, lower leg')}\nconcepts:"
)
LEG_UP = " {leg up: [leg up, lift leg, raise leg]}\n"


def of_text(folder: Path, text: str) -> Concepts:
    (folder / "bank.yaml").write_text(text)
    return concepts(folder / "bank.yaml", ("a", "b"))


def of_bank(name: str) -> Concepts:
    return concepts(captions.bank_path(name), data.DATASETS[name].classes)


def test_grouped_phrases_are_one_concept_and_a_phrase_is_the_same_in_every_class(tmp_path: Path) -> None:
    found = of_text(tmp_path, BANK + LEG_UP)
    assert found.names == ["leg up", "turn", "lower leg"]
    assert found.phrases == [["lift leg", "raise leg", "turn"], ["turn", "leg up", "lower leg"]]
    assert found.concept == [[0, 0, 1], [1, 0, 2]]
    alone = of_text(tmp_path, BANK + " {}\n")
    assert alone.names == ["lift leg", "raise leg", "turn", "leg up", "lower leg"]
    assert alone.concept == [[0, 1, 2], [2, 3, 4]]


def test_the_digest_follows_phrases_and_groups_but_not_names_or_the_order_of_groups(tmp_path: Path) -> None:
    def one(groups: str) -> str:
        return digest(of_text(tmp_path, BANK + groups).digestible)

    turn_last, turn_first = (
        " {up: [lift leg, leg up], t: [turn]}\n",
        " {t: [turn], knee: [leg up, lift leg]}\n",
    )
    assert one(turn_last) == one(turn_first)
    assert one(turn_last) != one(LEG_UP) != one(" {}\n")
    other = digest(of_text(tmp_path, BANK.replace("lower leg", "drop leg") + LEG_UP).digestible)
    assert other != one(LEG_UP)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("", "bank.yaml:4: a bank needs `concepts` ({} if no two phrases mean the same)"),
        (" [leg up]\n", "bank.yaml:4: a bank needs `concepts` ({} if no two phrases mean the same)"),
        ("\n  up: []\n", "bank.yaml:5: concept 'up' needs a list of phrases"),
        ("\n  up: leg up\n", "bank.yaml:5: concept 'up' needs a list of phrases"),
        ("\n  up: [leg up, 3]\n", "bank.yaml:5: concept 'up' needs a list of phrases"),
        (
            "\n  up:\n    - leg up\n    - raise legs\n",
            "bank.yaml:7: no class has the sub-action 'raise legs'; did you mean 'raise leg'?",
        ),
        (
            "\n  up: [leg up]\n  t:\n    - turn\n    - leg up\n",
            "bank.yaml:8: 'leg up' already belongs to concept 'up'",
        ),
        (
            "\n  up:\n    - leg up\n    - leg up\n",
            "bank.yaml:7: 'leg up' already belongs to concept 'up'",
        ),
        (
            "\n  turn:\n    - leg up\n",
            "bank.yaml:5: concept 'turn' is named like a phrase outside it",
        ),
    ],
)
def test_a_bad_group_names_file_line_and_what_is_wrong(tmp_path: Path, groups: str, message: str) -> None:
    with pytest.raises(FileError) as caught:
        of_text(tmp_path, BANK + groups)
    assert str(caught.value).endswith(message)


def test_a_bank_without_concepts_is_told_so_only_where_they_are_asked_for(tmp_path: Path) -> None:
    text = BANK.removesuffix("concepts:")
    with pytest.raises(FileError, match=r"bank\.yaml:1: a bank needs `concepts`"):
        of_text(tmp_path, text)
    assert set(captions.read_bank(tmp_path / "bank.yaml", ("a", "b"))) == {"a", "b"}


@pytest.mark.parametrize("name", NAMES)
def test_the_concepts_of_every_bank_cover_its_phrases(name: str) -> None:
    found, classes = of_bank(name), data.DATASETS[name].classes
    bank = captions.read_bank(captions.bank_path(name), classes)
    assert found.phrases == [bank[c]["sub_actions"] for c in classes]
    assert [len(row) for row in found.concept] == [len(row) for row in found.phrases]
    seen = [q for row in found.concept for q in row]
    assert sorted(set(seen)) == list(range(len(found.names))) and len(set(found.names)) == len(found.names)
    assert list(dict.fromkeys(seen)) == sorted(set(seen))  # numbered as they first come
    assert json.loads(json.dumps(found.digestible)) == found.digestible


# Near in words and opposite in movement, or two synonyms far apart in words: what no threshold gets right.
OPPOSITE = [
    ("basic_motions", "swing the relaxed arm forward", "swing the relaxed arm backward"),
    ("basic_motions", "land hard on one foot", "set the heel down softly"),
    ("spar", "let the hanging hand swing out one way", "let the hanging hand swing out the other way"),
    ("spar", "reach the top of the sideways arc", "reach the top of the forward arc"),
    ("spar", "start to lower the arm at the side", "start to lower the arm in front"),
    ("spar", "bend the elbow as the weight rises", "straighten the elbow on the way down"),
    ("spar", "sweep the level forearm in past straight ahead", "let the forearm open past straight ahead"),
]
SAME = [
    ("basic_motions", "push off the ground with force", "push off again with the other leg"),
    ("spar", "let the forearm open past straight ahead", "pass straight ahead on the way out"),
    ("spar", "bend the trunk forward at the hips", "bend the trunk forward with the back flat"),
]


@pytest.mark.parametrize(
    ("name", "a", "b", "same"), [(*p, False) for p in OPPOSITE] + [(*p, True) for p in SAME]
)
def test_opposites_stay_apart_and_synonyms_are_one(name: str, a: str, b: str, same: bool) -> None:
    found = of_bank(name)
    of_phrase = {
        phrase: q
        for phrases, row in zip(found.phrases, found.concept, strict=True)
        for phrase, q in zip(phrases, row, strict=True)
    }
    assert (of_phrase[a] == of_phrase[b]) == same


def table() -> ConceptTable:
    """Two classes, five phrases, three concepts; means over the tokens are easy numbers."""
    tokens = [
        torch.tensor([[2.0, 0.0], [4.0, 0.0]]),  # class 0, concept 0, mean (3, 0)
        torch.tensor([[1.0, 0.0]]),  # class 0, concept 0, mean (1, 0): concept 0 is (2, 0)
        torch.tensor([[0.0, 3.0], [0.0, 1.0], [0.0, 2.0]]),  # class 0, concept 1, (0, 2)
        torch.tensor([[0.0, 2.0]]),  # class 1, concept 1 again, (0, 2)
        torch.tensor([[4.0, 4.0]]),  # class 1, concept 2, (4, 4)
    ]
    return ConceptTable.from_tokens(tokens, [[0, 0, 1], [1, 2]])


def test_a_concepts_vector_is_the_centred_unit_mean_of_its_phrases() -> None:
    got = table()
    # concepts (2, 0), (0, 2), (4, 4) have the mean (2, 2)
    want = torch.tensor([[0.0, -2.0], [-2.0, 0.0], [2.0, 2.0]])
    torch.testing.assert_close(got.vectors, want / torch.tensor([[2.0], [2.0], [8.0**0.5]]))


def test_phrases_stand_by_class_uncentred_and_padded_with_zeros() -> None:
    got = table()
    assert got.phrases.tolist() == [[[3, 0], [1, 0], [0, 2]], [[0, 2], [4, 4], [0, 0]]]
    assert got.real.tolist() == [[True, True, True], [True, True, False]]
    assert got.concept.tolist() == [[0, 0, 1], [1, 2, 0]] and got.concept.dtype == torch.long
    # the padding's 0 gives class 1 no concept 0
    assert got.of_class.tolist() == [[True, True, False], [False, True, True]]
    assert got.of_class.dtype == got.real.dtype == torch.bool


def test_weights_on_phrases_of_one_concept_add_up_and_padding_counts_for_nothing() -> None:
    weights_BKR = torch.tensor(
        [[[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]], [[0.25, 0.75, 0.0], [0.6, 0.4, 9.0]]], requires_grad=True
    )
    spread_BKQ = table().spread(weights_BKR, torch.tensor([0, 1]))
    want = torch.tensor([[[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]], [[0.0, 0.25, 0.75], [0.0, 0.6, 0.4]]])
    torch.testing.assert_close(spread_BKQ, want)
    torch.testing.assert_close(spread_BKQ.sum(-1), torch.ones(2, 2))
    spread_BKQ.sum().backward()
    assert weights_BKR.grad is not None
    assert weights_BKR.grad.tolist() == [[[1, 1, 1]] * 2, [[1, 1, 0]] * 2]


def test_spread_equals_scatter_add_over_the_concepts() -> None:
    got, g = table(), torch.Generator().manual_seed(0)
    label_B = torch.tensor([1, 0, 0, 1])
    weights_BKR = torch.rand(4, 6, 3, generator=g).masked_fill(~got.real[label_B].unsqueeze(1), 0)
    at_BKR = got.concept[label_B].unsqueeze(1).expand(4, 6, 3)
    want = torch.zeros(4, 6, 3).scatter_add(-1, at_BKR, weights_BKR)
    torch.testing.assert_close(got.spread(weights_BKR, label_B), want)


def test_a_table_moves_whole() -> None:
    moved = table().to("meta")
    assert {part.device.type for part in moved} == {"meta"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0, 1], [1]], "expected 3 phrases, as many as concept indices, found 2"),
        ([[0], [2]], "concept 1 of 3 has no phrase"),
    ],
)
def test_counts_that_do_not_fit_are_refused(rows: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConceptTable.from_tokens([torch.ones(1, 2), torch.ones(2, 2)], rows)


@pytest.mark.parametrize(("name", "before"), [("basic_motions", 0.34), ("spar", 0.44)])
def test_centring_takes_away_what_minilms_phrases_share(name: str, before: float) -> None:
    torch.set_num_threads(1)
    found = of_bank(name)
    tokens = encoder.encode("minilm", [phrase for group in found.phrases for phrase in group])
    got = ConceptTable.from_tokens([torch.from_numpy(t) for t in tokens], found.concept)

    def mean_cosine(v_QE: torch.Tensor) -> float:
        unit = F.normalize(v_QE, dim=-1).numpy()
        return float((unit @ unit.T)[~np.eye(len(unit), dtype=bool)].mean())

    raw = [got.phrases[got.real & (got.concept == q)] for q in range(len(found.names))]
    assert mean_cosine(torch.stack([phrases.mean(0) for phrases in raw])) == pytest.approx(before, abs=0.01)
    assert abs(mean_cosine(got.vectors)) < 0.05
    torch.testing.assert_close(got.vectors.norm(dim=-1), torch.ones(len(found.names)))
