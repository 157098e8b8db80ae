"""What is wrong with a bank of label texts, and what its wording alone tells apart.

R sub-action phrases of all classes, E width of the text encoder.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import concepts, yamlfile
from experiments.captions import FORMS

SPOKEN = {  # forms that tell a class in one way; what a class is not, is often what another one is
    "statements": ("keyword", "sentence", "affirmative"),
    "negative": ("negative",),
    "sub-actions": ("sub_actions",),
}
NAMELESS = ("affirmative", "negative", "sub_actions")  # that may not hold the class's name
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


class Entry(NamedTuple):
    """One text of a bank."""

    line: int
    label: str
    form: str
    text: str


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
    """All faults of a bank at once; raises FileError for a file that is no YAML of ours."""
    from experiments.data import DATASETS

    document = yamlfile.read(path)
    found, dataset = document.data.get("classes"), document.data.get("dataset")
    findings: list[Finding] = []

    def note(level: str, at: yamlfile.Keys, message: str) -> None:
        findings.append(Finding(path, document.line(at), level, message))

    if not isinstance(found, dict) or not found:
        note("error", ("classes",), "a bank needs `classes`")
        found = {}
    known = DATASETS.get(dataset) if isinstance(dataset, str) else None
    classes = known.classes if known else tuple(found)
    for name in found:
        if name not in classes:
            hint = yamlfile.nearest(name, classes)
            note("error", ("classes", name), f"unknown class {name!r}; {hint}")
    entries: list[Entry] = []
    for name in classes:
        forms = found.get(name)
        if not isinstance(forms, dict):
            what = "is missing" if name not in found else "needs its texts, by form"
            note("error", ("classes", name), f"class {name!r} {what}")
            continue
        for form in forms:
            if form not in FORMS:
                hint = yamlfile.nearest(form, FORMS)
                note("warning", ("classes", name, form), f"nobody reads form {form!r}; {hint}")
        for form in FORMS:
            at: yamlfile.Keys = ("classes", name, form)
            texts = forms.get(form)
            if texts is None or texts == []:
                note("error", at, f"class {name!r} has no texts in form {form}")
            for i, text in enumerate(texts if isinstance(texts, list) else [] if texts is None else [texts]):
                at_text = (*at, i) if isinstance(texts, list) else at
                if isinstance(text, str) and text.strip():
                    entries.append(Entry(document.line(at_text), name, form, text))
                else:
                    note("error", at_text, f"class {name!r}, {form}: {text!r} is no text")
    findings += _duplicates(path, entries)
    findings += _names(path, entries)
    groups, faults = _groups(path, document, entries)
    findings += faults
    for at, message in _provenance(document.data):
        note("warning", at, message)
    order = sorted(findings, key=lambda finding: finding.line)
    return Bank(order, entries, groups, classes)


def _duplicates(path: Path, entries: list[Entry]) -> Iterator[Finding]:
    first: dict[str, Entry] = {}
    for entry in entries:
        other = first.setdefault(_bare(entry.text), entry)
        if other is not entry:
            where = f"line {other.line} ({other.label}, {other.form})"
            yield Finding(path, entry.line, "error", f"{entry.text!r} is given already on {where}")


def _names(path: Path, entries: list[Entry]) -> Iterator[Finding]:
    """Texts that give their class away by its own name, as whole words: inflections are not seen."""
    names = {entry.label: {_bare(entry.label)} for entry in entries}
    for entry in entries:
        if entry.form == "keyword":
            names[entry.label].add(_bare(entry.text))
    for entry in entries:
        for name in sorted(names[entry.label] if entry.form in NAMELESS else ()):
            if len(name) > 1 and f" {name} " in f" {_bare(entry.text)} ":  # a class `a` is no name
                message = f"class {entry.label!r}, {entry.form}: {entry.text!r} holds the name {name!r}"
                yield Finding(path, entry.line, "warning", message)


def _groups(
    path: Path, document: yamlfile.Document, entries: list[Entry]
) -> tuple[dict[str, str], list[Finding]]:
    """{phrase: concept}, and every fault that `concepts.concepts` would stop at; a bank that has no concepts
    is good for all but the sub_action losses."""
    line = document.line(("concepts",))
    if document.data.get("concepts") is None:
        message = "no `concepts`: sub_action losses need them ({} if no two phrases mean the same)"
        return {}, [Finding(path, line, "warning", message)]
    phrases = [entry.text for entry in entries if entry.form == "sub_actions"]
    group_of, faults = concepts.groups(document, phrases)
    return group_of, [Finding(path, fault.line or line, "error", fault.message) for fault in faults]


def _provenance(data: dict[str, Any]) -> Iterator[tuple[yamlfile.Keys, str]]:
    provenance = data.get("provenance")
    for name in ("written_by", "reviewed_by", "date"):
        if not isinstance(provenance, dict) or not provenance.get(name):
            yield ("provenance",), f"provenance does not say {name}"


def _bare(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.replace("_", " ").casefold()))


class Separation(NamedTuple):
    """Each text's class as its wording alone tells it, the text itself left out. recall: {class: 0 to 1}.
    macro: their mean, chance: what guessing gets; below it, texts lie nearer to another class's than to their
    own. confused: (class, taken for, how often), most often first."""

    recall: dict[str, float]
    macro: float
    chance: float
    confused: list[tuple[str, str, int]]


def separation(vectors: np.ndarray, label: list[str]) -> Separation:
    """Nearest centroid of unit vectors (n, E), leaving one text out at a time. A class of one text has no
    centroid once that is left out: it is passed over. Raises ValueError for fewer than two other classes."""
    from sklearn.model_selection import LeaveOneOut, cross_val_predict
    from sklearn.neighbors import NearestCentroid

    counts = Counter(label)
    rows = [i for i, name in enumerate(label) if counts[name] > 1]
    true = np.array([label[i] for i in rows])
    classes = sorted(set(true.tolist()))
    if len(classes) < 2:
        raise ValueError("fewer than two classes have two texts")
    told = cross_val_predict(NearestCentroid(), vectors[rows], true, cv=LeaveOneOut())
    recall = {name: float((told[true == name] == name).mean()) for name in classes}
    wrong = Counter((str(a), str(b)) for a, b in zip(true, told, strict=True) if a != b)
    confused = [(a, b, n) for (a, b), n in wrong.most_common()]
    return Separation(recall, float(np.mean(list(recall.values()))), 1 / len(classes), confused)


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
    words = [set(_bare(text).split()) for text in texts]
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
