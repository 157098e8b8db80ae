"""What a trial reads of a text bank: the texts of each class and, with sub-actions, the concepts."""

from typing import NamedTuple

from experiments import captions, data
from experiments.concepts import Concepts, concepts
from experiments.config import RunConfig
from experiments.identity import digest


class Words(NamedTuple):
    """per_class: the texts of each class; concepts: None where the trial reads none."""

    per_class: list[list[str]]
    concepts: Concepts | None

    @property
    def digest(self) -> str:
        if self.concepts is None:
            return digest(self.per_class)
        return digest({"texts": self.per_class, "concepts": self.concepts.digestible})

    def every(self) -> list[str]:
        """Each string that the encoder has to know."""
        phrases = self.concepts.phrases if self.concepts else []
        return [text for group in (*self.per_class, *phrases) for text in group]


def read_words(config: RunConfig) -> Words:
    """Raises FileError for a faulty bank."""
    classes, path = data.DATASETS[config.data.name].classes, captions.bank_path(config.data.name)
    per_class = captions.class_texts(path, config.text, classes) if config.reads_text else [[]] * len(classes)
    return Words(per_class, concepts(path, classes) if config.reads_concepts else None)


def planned_words(config: RunConfig, planned: str | None) -> Words:
    """Raises ValueError if the bank is no longer the one that was planned."""
    found = read_words(config)
    if found.digest != planned:
        name = captions.bank_path(config.data.name).name
        raise ValueError(f"{name} changed after this sweep was planned; run the command again")
    return found
