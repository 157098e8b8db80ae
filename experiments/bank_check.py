"""What is wrong with a bank of label texts, and what its wording alone tells apart.

R sub-action phrases of all classes, E width of the text encoder.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import captions, concepts, data, yamlfile
from experiments.captions import FORMS, Entry, bare

KEYS = ("dataset", "provenance", "sensor", "classes", "concepts")
SPOKEN = {  # forms that tell a class in one way; what a class is not, is often what another one is
    "statements": ("keyword", "sentence", "affirmative"),
    "negative": ("negative",),
    "sub-actions": ("sub_actions",),
}
NAMELESS = ("affirmative", "negative", "sub_actions")  # that may not hold the class's name
PERMUTATIONS = 500
MERGE_COSINE = 0.8  # a proposal only: opposites lie above it, synonyms below (measured on all-MiniLM-L6-v2)
OPPOSITES = (
    "raise lower", "lift lower", "up down", "forward backward", "forward back", "in out", "inward outward",
    "left right", "open close", "bend straighten", "start stop", "start end", "rise sink", "push pull",
    "side front", "sideways forward", "one other",
)  # fmt: skip


class Finding(NamedTuple):
    """A fault of a bank; str() is one line, `file:line: error: message`."""

    file: Path
    line: int
    level: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.level}: {self.message}"


class Bank(NamedTuple):
    """findings: errors and warnings in the file's order. entries: every text that could be read. groups:
    {phrase: its concept}. classes: those required."""

    findings: list[Finding]
    entries: list[Entry]
    groups: dict[str, str]
    classes: tuple[str, ...]

    @property
    def broken(self) -> bool:
        return any(finding.level == "error" for finding in self.findings)


def examine(path: Path) -> Bank:
    """All faults of a bank at once: errors are what training would stop at. Concepts are looked at once the
    texts are whole. Raises FileError for a file that is no YAML of ours."""
    document = yamlfile.read(path)
    classes, findings = _classes(path, document)
    entries, faults = captions.entries(document, classes)
    groups: dict[str, str] = {}
    if not faults:
        groups, faults = _groups(document, entries)
    findings += [Finding(path, fault.line or 1, "error", fault.message) for fault in faults]
    for at, message in [*_unread(document.data), *_provenance(document.data)]:
        findings.append(Finding(path, document.line(at), "warning", message))
    findings += _duplicates(path, entries)
    findings += _names(path, entries)
    return Bank(sorted(findings, key=lambda finding: finding.line), entries, groups, classes)


def _classes(path: Path, document: yamlfile.Document) -> tuple[tuple[str, ...], list[Finding]]:
    """The classes of the bank's data set; the bank's own, with a warning, where that is not known."""
    dataset, found = str(document.data.get("dataset", "")), document.data.get("classes")
    try:
        return data.entry(dataset).classes, []
    except (ValueError, OSError) as error:
        findings = []
        if dataset.rpartition(":")[2] != path.stem:  # npz:mine reads mine.yaml
            message = f"{error} (`dataset`); the classes that the bank has count as all"
            findings.append(Finding(path, document.line(("dataset",)), "warning", message))
        return tuple(found) if isinstance(found, dict) else (), findings


def _unread(bank: dict[str, Any]) -> Iterator[tuple[yamlfile.Keys, str]]:
    if bank.get("concepts") is None:
        yield ("concepts",), "no `concepts`: sub_action losses need them ({} if no two phrases mean the same)"
    for key in bank:
        if key not in KEYS:
            yield (key,), f"nobody reads `{key}`; {yamlfile.nearest(key, KEYS)}"
    classes = bank.get("classes")
    for name, forms in classes.items() if isinstance(classes, dict) else ():
        for form in forms if isinstance(forms, dict) else ():
            if form not in FORMS:
                hint = yamlfile.nearest(form, FORMS)
                yield ("classes", name, form), f"nobody reads form {form!r}; {hint}"


def _duplicates(path: Path, entries: list[Entry]) -> Iterator[Finding]:
    first: dict[str, Entry] = {}
    for entry in entries:
        other = first.setdefault(bare(entry.text), entry)
        if other is not entry:
            where = f"line {other.line} ({other.label}, {other.form})"
            yield Finding(path, entry.line, "warning", f"{entry.text!r} is given already on {where}")


def _names(path: Path, entries: list[Entry]) -> Iterator[Finding]:
    """Texts that give their class away by its own name, as whole words: inflections are not seen."""
    names = {entry.label: {bare(entry.label)} for entry in entries}
    for entry in entries:
        if entry.form == "keyword":
            names[entry.label].add(bare(entry.text))
    for entry in entries:
        for name in sorted(names[entry.label] if entry.form in NAMELESS else ()):
            if len(name) > 1 and f" {name} " in f" {bare(entry.text)} ":  # a class `a` is no name
                message = f"class {entry.label!r}, {entry.form}: {entry.text!r} holds the name {name!r}"
                yield Finding(path, entry.line, "warning", message)


def _groups(
    document: yamlfile.Document, entries: list[Entry]
) -> tuple[dict[str, str], list[yamlfile.FileError]]:
    """{phrase: concept}, and faults: none where there are no concepts, which only sub_action losses need."""
    if document.data.get("concepts") is None:
        return {}, []
    return concepts.groups(document, [entry.text for entry in entries if entry.form == "sub_actions"])


def _provenance(data: dict[str, Any]) -> Iterator[tuple[yamlfile.Keys, str]]:
    provenance = data.get("provenance")
    for name in ("written_by", "reviewed_by", "date"):
        if not isinstance(provenance, dict) or not provenance.get(name):
            yield ("provenance",), f"provenance does not say {name}"


class Separation(NamedTuple):
    """Each text's class as its wording alone tells it, the text itself left out. recall: {class: 0 to 1}.
    macro: their mean; chance: the mean of that with labels dealt at random, and where 95 % of it lies.
    confused: (class, taken for, how often), most often first."""

    recall: dict[str, float]
    macro: float
    chance: tuple[float, float, float]
    confused: list[tuple[str, str, int]]


def separation(vectors: np.ndarray, label: list[str]) -> Separation:
    """The class whose other texts are most alike by their mean cosine, of unit vectors (n, E). A class of one
    text is passed over. Raises ValueError for fewer than two other classes."""
    counts = Counter(label)
    rows = [i for i, name in enumerate(label) if counts[name] > 1]
    classes, true = np.unique([label[i] for i in rows], return_inverse=True)
    if len(classes) < 2:
        raise ValueError("fewer than two classes have two texts")
    cosine = vectors[rows] @ vectors[rows].T
    np.fill_diagonal(cosine, 0)

    def told(dealt: np.ndarray) -> np.ndarray:
        member = np.eye(len(classes))[dealt]
        return ((cosine @ member) / (member.sum(0) - member)).argmax(1)

    def recalls(dealt: np.ndarray) -> np.ndarray:
        return np.bincount(dealt, told(dealt) == dealt) / np.bincount(dealt)

    rng = np.random.default_rng(0)
    dealt = [recalls(rng.permutation(true)).mean() for _ in range(PERMUTATIONS)]
    recall, taken = recalls(true), told(true)
    wrong = Counter((str(classes[a]), str(classes[b])) for a, b in zip(true, taken, strict=True) if a != b)
    return Separation(
        dict(zip(classes.tolist(), recall.tolist(), strict=True)),
        float(recall.mean()), (float(np.mean(dealt)), *np.quantile(dealt, [0.025, 0.975]).tolist()),
        [(a, b, n) for (a, b), n in wrong.most_common()],
    )  # fmt: skip


class Merge(NamedTuple):
    """Phrases that may mean the same. rows: their places in the bank's list of phrases. cosine: of the least
    alike two. opposite: words of opposite meaning that two of them differ in. done: grouped by the bank."""

    rows: list[int]
    cosine: float
    opposite: list[str]
    done: bool


class Similarity(NamedTuple):
    """cosine (R, R) of phrases; order (R,): likeness order, each merge's rows in a run of it."""

    phrases: list[Entry]
    cosine: np.ndarray
    order: np.ndarray
    merges: list[Merge]


def similarity(phrases: list[Entry], vectors: np.ndarray, groups: dict[str, str]) -> Similarity:
    """Complete linkage, so that all phrases of a proposed merge are alike: cosine >= MERGE_COSINE."""
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage

    cosine = np.clip(vectors @ vectors.T, -1, 1)
    if len(phrases) < 2:
        return Similarity(phrases, cosine, np.arange(len(phrases)), [])
    tree = linkage(1 - cosine[np.triu_indices(len(phrases), 1)], "complete")
    order = leaves_list(tree)
    cluster = fcluster(tree, 1 - MERGE_COSINE, "distance")
    merges = []
    for number in dict.fromkeys(cluster[order]):
        rows = [int(r) for r in order if cluster[r] == number]
        if len(rows) > 1:
            texts = [phrases[r].text for r in rows]
            concepts = {groups.get(text) for text in texts}
            done = len(concepts) == 1 and None not in concepts
            merges.append(Merge(rows, float(cosine[np.ix_(rows, rows)].min()), _opposites(texts), done))
    return Similarity(phrases, cosine, order, sorted(merges, key=lambda m: m.cosine, reverse=True))


def _opposites(texts: list[str]) -> list[str]:
    words = [set(bare(text).split()) for text in texts]
    pairs = [tuple(pair.split()) for pair in OPPOSITES]
    return [
        f"{a}/{b}" for a, b in pairs
        if any(a in x - y and b in y - x for x in words for y in words)
    ]  # fmt: skip


def embed(texts: list[str]) -> np.ndarray:
    """Unit vectors (n, E): mean of MiniLM's token embeddings."""
    from experiments.encoder import encode

    means = np.stack([tokens.mean(0) for tokens in encode("minilm", texts)]).astype(np.float64)
    unit: np.ndarray = means / np.linalg.norm(means, axis=1, keepdims=True)
    return unit
