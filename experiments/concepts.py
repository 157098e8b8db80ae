"""Concepts: the sub-action phrases of all classes, with those that mean the same made one.

Y classes, R phrases of a class, Q concepts.
"""

from pathlib import Path
from typing import Any, NamedTuple

from experiments import captions, yamlfile
from experiments.yamlfile import Document, FileError


class Concepts(NamedTuple):
    """names: the Q concepts, as their first phrases come. phrases and concept: each class's phrases and the
    concept of each, in the classes' order; one class may name a concept more than once."""

    names: list[str]
    phrases: list[list[str]]
    concept: list[list[int]]

    @property
    def digestible(self) -> dict[str, Any]:
        """What can change a result, as JSON: not the names, nor the order in which the bank groups."""
        return {"phrases": self.phrases, "concept": self.concept}


def concepts(path: Path, classes: tuple[str, ...]) -> Concepts:
    """The concepts of a bank: its groups, and every phrase in no group under its own words.

    Raises FileError as `captions.read_bank` does, and for a bank without `concepts`, a group without phrases,
    an unknown phrase, a phrase grouped twice, or a group named like a phrase outside it.
    """
    bank = captions.read_bank(path, classes)
    phrases = [bank[name]["sub_actions"] for name in classes]
    group_of, faults = groups(yamlfile.read(path), [phrase for group in phrases for phrase in group])
    if faults:
        raise faults[0]
    named = [[group_of.get(phrase, phrase) for phrase in group] for group in phrases]
    names = list(dict.fromkeys(name for group in named for name in group))
    place = {name: q for q, name in enumerate(names)}
    return Concepts(names, phrases, [[place[name] for name in group] for group in named])


def groups(document: Document, phrases: list[str]) -> tuple[dict[str, str], list[FileError]]:
    """{phrase: name of its group}, and every fault of the groups."""
    found = document.data.get("concepts")
    if not isinstance(found, dict):  # asked for, so that nobody trains on phrases that nobody reviewed
        message = "a bank needs `concepts` ({} if no two phrases mean the same)"
        return {}, [document.error(("concepts",), message)]
    group_of: dict[str, str] = {}
    faults: list[FileError] = []
    for name, group in found.items():
        if not isinstance(group, list) or not group or not all(isinstance(p, str) and p for p in group):
            faults.append(document.error(("concepts", name), f"concept {name!r} needs a list of phrases"))
            continue
        for i, phrase in enumerate(group):
            at = ("concepts", name, i)
            if phrase not in phrases:
                hint = yamlfile.nearest(phrase, phrases)
                faults.append(document.error(at, f"no class has the sub-action {phrase!r}; {hint}"))
            elif phrase in group_of:
                taken = f"{phrase!r} already belongs to concept {group_of[phrase]!r}"
                faults.append(document.error(at, taken))
            else:
                group_of[phrase] = name
    for name in found:
        if name in phrases and group_of.get(name) != name:
            message = f"concept {name!r} is named like a phrase outside it"
            faults.append(document.error(("concepts", name), message))
    return group_of, faults
