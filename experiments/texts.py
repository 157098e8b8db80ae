"""What a trial's training windows read: their texts' embeddings, and the concepts of their labels.

U texts, L text tokens, E width of the encoder.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from experiments import captions, data, phrasing, signals
from experiments.captions import Assignment, Said
from experiments.config import RunConfig
from experiments.encoder import Embeddings, TextCache
from experiments.execute import Job
from experiments.ledger import Store
from experiments.words import Words, planned_words
from model.concepts import ConceptTable
from model.streams import stream
from model.text import TextTable

FEW = 256  # so many texts are padded once and stay on the device
ROWS = 1024  # windows that are described at a time


class TextRows:
    """U texts, padded to the longest: all at once where they are few, else those of a step."""

    def __init__(self, embeddings: Embeddings, device: str) -> None:
        self.embeddings, self.device = embeddings, device
        self.lengths = np.diff(embeddings.first)
        mean_UE = np.stack([embeddings.of(text).mean(0) for text in range(len(self.lengths))])
        self.target = torch.from_numpy(mean_UE - mean_UE.mean(0))
        self.whole = self._padded(np.arange(len(self.lengths))) if len(self.lengths) <= FEW else None

    @property
    def width(self) -> int:
        return self.target.shape[1]

    def _padded(self, texts: np.ndarray) -> TextTable:
        tokens = torch.zeros(len(texts), int(self.lengths.max()), self.width)
        for row, text in zip(tokens, texts, strict=True):
            row[: self.lengths[text]] = torch.from_numpy(np.array(self.embeddings.of(int(text))))
        real = torch.arange(tokens.shape[1])[None] < torch.from_numpy(self.lengths[texts])[:, None]
        return TextTable(tokens, real, self.target[texts]).to(self.device)

    def parts(self, text_W: np.ndarray, size: int) -> Iterator[tuple[TextTable, torch.Tensor]]:
        """For `size` windows at a time, a table that holds their texts, and each one's row in it."""
        if self.whole is not None:
            for row_B in torch.from_numpy(text_W).to(self.device).split(size):
                yield self.whole, row_B
        else:
            for first in range(0, len(text_W), size):
                distinct, row_B = np.unique(text_W[first : first + size], return_inverse=True)
                yield self._padded(distinct), torch.from_numpy(row_B).to(self.device)


class Text(NamedTuple):
    """A trial's encoded texts, its concepts and their names, and which training window sees which text; None
    where unread."""

    rows: TextRows | None = None
    concepts: ConceptTable | None = None
    names: tuple[str, ...] = ()
    assignment: Assignment | None = None

    @property
    def width(self) -> int:
        """Of the encoder; 0 without text."""
        if self.rows is not None:
            return self.rows.width
        return 0 if self.concepts is None else self.concepts.vectors.shape[-1]


def read_text(config: RunConfig, job: Job, loaded: data.Loaded) -> Text:
    """Raises ValueError if the bank is no longer the one that was planned."""
    if not (config.reads_text or config.reads_concepts):
        return Text()
    words = planned_words(config, job.digests["text"])
    assignment = assigned(config, words, loaded)
    cache = TextCache(Store(Path(job.store)).cache, config.text.encoder, str(job.digests["encoder"]))
    rows, concepts = None, None
    if config.reads_text:
        rows = TextRows(embeddings(config, assignment.texts, cache), job.device)
    if words.concepts is not None:
        every = [phrase for group in words.concepts.phrases for phrase in group]
        phrases = [torch.from_numpy(tokens) for tokens in cache.get(every)]
        concepts = ConceptTable.from_tokens(phrases, words.concepts.concept).to(job.device)
    names = () if words.concepts is None else tuple(words.concepts.names)
    return Text(rows, concepts, names, assignment)


def assigned(config: RunConfig, words: Words, loaded: data.Loaded) -> Assignment:
    """Which training window sees which text."""
    train = loaded.split.train
    return captions.assign(
        words.per_class,
        config.text,
        loaded.windows.label[train],
        np.random.default_rng(stream(config.seed, "text_control")),
        None if words.said is None else said_of(loaded, train),
        wearers(loaded, train) if config.tells_wearers else None,
    )


def embeddings(config: RunConfig, texts: list[str], cache: TextCache) -> Embeddings:
    """Of the texts, or what `text.control` puts in their place: random is noise of the same lengths and
    norms, one draw a text; one_hot is one token that names the class and nothing else."""
    if config.text.control == "one_hot":
        return Embeddings(np.eye(len(texts), dtype=np.float32), np.arange(len(texts) + 1))
    return cache.pack(texts, stream(config.seed, "text_random") if config.text.control == "random" else None)


def said_of(loaded: data.Loaded, rows: np.ndarray) -> Said:
    """What the series of these windows say of themselves; labels and subjects are not looked at."""
    sensor = signals.Sensor(
        loaded.channels, loaded.about["units"], loaded.about["rate_hz"], loaded.about["placement"]
    )
    parts = [
        signals.facts(np.asarray(loaded.windows.series[rows[first : first + ROWS]]), sensor)
        for first in range(0, len(rows), ROWS)
    ]
    found = signals.Facts(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    return Said(phrasing.captions(found, sensor), signals.groups(found))


def wearers(loaded: data.Loaded, rows: np.ndarray) -> list[str]:
    """A sentence on who wears what, for each of these windows."""
    people, placement = loaded.about["people"], loaded.about["placement"]
    return [captions.wearer(people.get(str(s), {}), placement) for s in loaded.windows.subject[rows]]
