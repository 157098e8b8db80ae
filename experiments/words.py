"""What a plan knows of a trial's texts: those of each class and, with sub-actions, the concepts."""

from pathlib import Path
from typing import Any, NamedTuple

from experiments import captions, data, yamlfile
from experiments.concepts import Concepts, concepts
from experiments.config import RunConfig
from experiments.identity import digest
from experiments.signals import VERSION


class Words(NamedTuple):
    """per_class: the texts of each class; concepts: None where the trial reads none; said: the version of the
    captions that the series get, None where they get none."""

    per_class: list[list[str]]
    concepts: Concepts | None
    said: int | None

    @property
    def digest(self) -> str:
        if self.concepts is None and self.said is None:
            return digest(self.per_class)
        found: dict[str, Any] = {"texts": self.per_class}
        found |= {} if self.concepts is None else {"concepts": self.concepts.digestible}
        return digest(found if self.said is None else found | {"captions": self.said})


def bank_of(config: RunConfig) -> Path:
    return captions.bank_path(config.data.name, config.text.bank)


def check(config: RunConfig) -> None:
    """Raise ValueError if the config reads a bank that is not there."""
    text, path = config.text, bank_of(config)
    written = text.source in ("label", "both") and text.control not in ("constant", "one_hot")
    if (config.reads_concepts or (config.reads_text and written)) and not path.is_file():
        near = yamlfile.nearest(path.stem, sorted(p.stem for p in path.parent.glob("*.yaml")) or ["none"])
        write = f"write one with `shapelex text make {config.data.name}`"
        raise ValueError(f"no text bank {path.stem} in {path.parent}: {near}, or {write}")


def read_words(config: RunConfig) -> Words:
    """Raises FileError for a faulty bank, FileNotFoundError for none."""
    classes, path, text = data.entry(config.data.name).classes, bank_of(config), config.text
    per_class: list[list[str]] = [[]] * len(classes)
    if config.reads_text and text.source != "series":
        per_class = captions.class_texts(path, text, classes)
    told = config.reads_text and text.source in ("series", "both")
    return Words(
        per_class, concepts(path, classes) if config.reads_concepts else None, VERSION if told else None
    )


def planned_words(config: RunConfig, planned: str | None) -> Words:
    """Raises ValueError if the bank is no longer the one that was planned."""
    found = read_words(config)
    if found.digest != planned:
        raise ValueError(
            f"{bank_of(config).name} changed after this sweep was planned; run the command again"
        )
    return found
