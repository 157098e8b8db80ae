"""Text sources: which texts exist for a data set, and which one a training window sees.

W training windows, U distinct texts, Q kinds of window (one a class, one a class and subject, one a window).
"""

import re
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np

from experiments import data, yamlfile
from experiments.config import TextConfig
from experiments.data.windows import Person
from experiments.yamlfile import Document, FileError

BANKS = Path(__file__).parent / "banks"
FORMS = tuple(form for form in get_args(TextConfig.model_fields["form"].annotation) if form != "all")
CONSTANT = "A person wears a motion sensor."


def own_banks() -> Path:
    """The folder of the user's banks."""
    return data.root() / "banks"


def bank_path(dataset: str, bank: str | None = None) -> Path:
    """The data set's own bank, or one of the user's."""
    own = BANKS / f"{dataset.rpartition(':')[2]}.yaml"
    return own if bank is None else own_banks() / f"{bank}.yaml"


class Entry(NamedTuple):
    """One text of a bank."""

    line: int
    label: str
    form: str
    text: str


def entries(document: Document, classes: tuple[str, ...]) -> tuple[list[Entry], list[FileError]]:
    """A bank's texts, by class and form, and every fault for which training would refuse it: a missing or
    unknown class, a missing form, a text without words."""
    found = document.data.get("classes")
    if not isinstance(found, dict) or not found:
        return [], [document.error(("classes",), "a bank needs `classes`")]
    out, faults = list[Entry](), list[FileError]()
    for name in found:
        if name not in classes:
            hint = yamlfile.nearest(name, classes)
            faults.append(document.error(("classes", name), f"unknown class {name!r}; {hint}"))
    for name in classes:
        forms = found.get(name)
        if not isinstance(forms, dict):
            what = "is missing" if name not in found else "needs its texts, by form"
            faults.append(document.error(("classes", name), f"class {name!r} {what}"))
            continue
        for form in FORMS:
            at: yamlfile.Keys = ("classes", name, form)
            given = forms.get(form)
            texts = given if isinstance(given, list) else [] if given is None else [given]
            if not texts:
                faults.append(document.error(at, f"class {name!r} has no texts in form {form}"))
            for i, text in enumerate(texts):
                at_text = (*at, i) if isinstance(given, list) else at
                if isinstance(text, str) and bare(text):
                    out.append(Entry(document.line(at_text), name, form, text))
                else:
                    faults.append(document.error(at_text, f"class {name!r}, {form}: {text!r} is no text"))
    return out, faults


def read_bank(path: Path, classes: tuple[str, ...]) -> dict[str, dict[str, list[str]]]:
    """{class: {form: texts}}; raises FileError for the first of the faults of `entries`."""
    found, faults = entries(yamlfile.read(path), classes)
    if faults:
        raise faults[0]
    bank: dict[str, dict[str, list[str]]] = {name: {form: [] for form in FORMS} for name in classes}
    for entry in found:
        bank[entry.label][entry.form].append(entry.text)
    return bank


def class_texts(path: Path, config: TextConfig, classes: tuple[str, ...]) -> list[list[str]]:
    """The texts of each class, in the classes' order. Sub-actions of a class make one text, in their
    order, so that attention can pick among them; form all has the texts of every form."""
    if config.control == "constant":
        return [[CONSTANT] for _ in classes]
    if config.control == "one_hot":
        return [[name] for name in classes]
    bank = read_bank(path, classes)
    if config.form == "all":
        return [[text for form in FORMS for text in _texts(bank[name], form)] for name in classes]
    return [_texts(bank[name], config.form) for name in classes]


def _texts(forms: dict[str, list[str]], form: str) -> list[str]:
    return ["; ".join(forms[form])] if form == "sub_actions" else forms[form]


def bare(text: str) -> str:
    """What two texts that are the same have in common: the words, whatever case and punctuation."""
    return " ".join(re.findall(r"\w+", text.replace("_", " ").casefold()))


class Said(NamedTuple):
    """What the series themselves say. captions: several wordings of each window; group (W,): equal for
    windows of which the same is said."""

    captions: list[list[str]]
    group: np.ndarray


class Assignment(NamedTuple):
    """What training windows see. texts: the U distinct texts; row: where each kind's wordings, one kind after
    the other, are among them. first, wordings (Q,): a kind's first place in `row` and how many it has.
    kind (W,): whose text a window gets, its own unless a control says otherwise. group (W,): equal for
    windows whose text means the same: the class that it was made for, or what the series say."""

    texts: list[str]
    row: np.ndarray
    first: np.ndarray
    wordings: np.ndarray
    kind: np.ndarray
    group: np.ndarray

    @classmethod
    def of(cls, per_kind: list[list[str]], kind: np.ndarray, group: np.ndarray) -> "Assignment":
        count = np.array([len(texts) for texts in per_kind])
        every = [text for texts in per_kind for text in texts]
        place = {text: row for row, text in enumerate(dict.fromkeys(every))}
        row = np.array([place[text] for text in every])
        return cls(list(place), row, np.cumsum(count) - count, count, kind, group)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """A row of the text table (W,) for each window: one of its kind's wordings, drawn evenly."""
        if not self.texts:  # sub-actions alone read none
            return np.zeros_like(self.kind)
        drawn = (rng.random(len(self.kind)) * self.wordings[self.kind]).astype(np.int64)
        return self.row[self.first[self.kind] + drawn]


def assign(
    per_class: list[list[str]],
    config: TextConfig,
    label: np.ndarray,
    rng: np.random.Generator,
    said: Said | None = None,
    wearers: list[str] | None = None,
) -> Assignment:
    """The texts of training windows: their class's, what the series say (`said`), or both in one.

    shuffled_samples permutes texts among the windows, once: the same texts equally often, saying nothing
    about the window. Its positives follow the text, so that no label leaks through them. shuffled_classes
    gives each class another one's texts. wearers (W,): a sentence on who wears what, after each class text.
    What is joined stands on lines of its own, which are encoded apart: each distinct line once.
    """
    group = np.asarray(label)
    if config.control == "constant":
        return Assignment.of(per_class[:1], np.zeros_like(group), np.zeros_like(group))
    if config.control == "shuffled_classes":
        group = derangement(len(per_class), rng)[group]
    kind, per_kind = group, per_class
    if said is not None or wearers is not None:
        kind = np.arange(len(group))
        per_kind = [per_class[y] for y in group]
        if wearers is not None:
            per_kind = [
                [f"{text}\n{who}" for text in own] for own, who in zip(per_kind, wearers, strict=True)
            ]
    if said is not None and config.source == "series":
        per_kind, group = said.captions, said.group
    elif said is not None:
        per_kind = [
            [f"{own[(w + i) % len(own)]}\n{caption}" for i, caption in enumerate(captions)]
            for w, (own, captions) in enumerate(zip(per_kind, said.captions, strict=True))
        ]
    if config.control == "shuffled_samples":
        order = rng.permutation(len(group))
        kind, group = kind[order], group[order]
    return Assignment.of(per_kind, kind, group)


def derangement(count: int, rng: np.random.Generator) -> np.ndarray:
    """A permutation of 0 to count - 1 that moves everything, drawn evenly. Raises ValueError below 2."""
    if count < 2:
        raise ValueError("text.control shuffled_classes needs two classes")
    while True:
        order = rng.permutation(count)
        if (order != np.arange(count)).all():
            return order


def wearer(person: Person, placement: str) -> str:
    """One sentence on who wears what: of the known ones among age, height and hand."""
    known = {
        "age_years": "{:.0f} years old",
        "height_cm": "{:.0f} cm tall",
        "hand": "{}-handed",
    }
    facts = [form.format(person[name]) for name, form in known.items() if name in person]
    who = f"The wearer, {', '.join(facts)}," if facts else "The wearer"
    return f"{who} has {placement or 'a motion sensor on the body'}."
