"""Text sources: which texts exist for a data set, and which one a training window sees.

W windows, U distinct texts, L text tokens, E text width.
"""

from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np

from experiments import yamlfile
from experiments.config import TextConfig

BANKS = Path(__file__).parent / "banks"
FORMS = get_args(TextConfig.model_fields["form"].annotation)
CONSTANT = "A person wears a motion sensor."


def bank_path(dataset: str) -> Path:
    return BANKS / f"{dataset}.yaml"


def read_bank(path: Path, classes: tuple[str, ...]) -> dict[str, dict[str, list[str]]]:
    """{class: {form: texts}}; raises FileError for a missing or unknown class or form, or an empty text."""
    document = yamlfile.read(path)
    found = document.data.get("classes")
    if not isinstance(found, dict):
        raise document.error((), "a bank needs `classes`")
    for name in found:
        if name not in classes:
            hint = yamlfile.nearest(name, classes)
            raise document.error(("classes", name), f"unknown class {name!r}; {hint}")
    bank: dict[str, dict[str, list[str]]] = {}
    for name in classes:
        forms = found.get(name)
        if not isinstance(forms, dict):
            raise document.error(("classes",), f"class {name!r} is missing")
        bank[name] = {}
        for form in FORMS:
            texts = forms.get(form)
            texts = [texts] if isinstance(texts, str) else texts
            if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t for t in texts):
                raise document.error(("classes", name, form), f"class {name!r} needs texts in form {form}")
            bank[name][form] = texts
    return bank


def class_texts(path: Path, config: TextConfig, classes: tuple[str, ...]) -> list[list[str]]:
    """The texts of each class, in the classes' order. Sub-actions of a class make one text, in their
    order, so that attention can pick among them."""
    if config.control == "constant":
        return [[CONSTANT] for _ in classes]
    bank = read_bank(path, classes)
    if config.form == "sub_actions":
        return [["; ".join(bank[name]["sub_actions"])] for name in classes]
    return [bank[name][config.form] for name in classes]


class Assignment(NamedTuple):
    """What training windows see. texts: the U distinct texts. first, wordings (Y,): each class's first row
    among them and how many it has. source (W,): the class whose text a window gets, its own unless a control
    says otherwise. group (W,): equal for windows whose text means the same."""

    texts: list[str]
    first: np.ndarray
    wordings: np.ndarray
    source: np.ndarray
    group: np.ndarray

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """A row of the text table (W,) for each window: one of its class's wordings, drawn evenly."""
        wordings = self.wordings[self.source]
        return self.first[self.source] + (rng.random(len(self.source)) * wordings).astype(np.int64)


def assign(
    per_class: list[list[str]], config: TextConfig, label: np.ndarray, rng: np.random.Generator
) -> Assignment:
    """shuffled_samples permutes texts among the training windows, once: the same texts equally often,
    saying nothing about the window. Its positives follow the text, so that no label leaks through them."""
    if config.control == "constant":
        zeros = np.zeros_like(label)
        return Assignment(per_class[0], np.zeros(1, np.int64), np.ones(1, np.int64), zeros, zeros)
    count = np.array([len(texts) for texts in per_class])
    source = rng.permutation(label) if config.control == "shuffled_samples" else np.asarray(label)
    texts = [text for texts in per_class for text in texts]
    return Assignment(texts, np.cumsum(count) - count, count, source, source)
