"""Writes a bank of label texts with a language model: a question for each class, answers checked and kept.

Every answer, accepted or rejected, goes to `<bank>.partial.jsonl` at once, under the digest of what was asked
of whom, so that a run after a break asks only for what is missing and never with a seed that failed before.
"""

import datetime
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from experiments import captions, yamlfile
from experiments.identity import digest
from experiments.ledger import write_bytes
from experiments.llm import Client

ATTEMPTS = 5  # answers asked for a class in one run
PROMPT = """\
You describe human movements for a data set of wearable sensors. A person wears {placement} while performing \
one of these activities: {all}.

Describe the activity "{name}" as that sensor's wearer performs it. Write from general knowledge of the \
movement: which body parts move, in which direction, and how. Give no numbers and no sensor readings.

Answer with one JSON object and nothing else. It has exactly these keys:
"keyword": the activity's name, one to four words, as a string;
"sentence": a list of one or two sentences that say what the person does;
"affirmative": a list of four to six sentences, each saying how the body moves, each in other words;
"negative": a list of four to six sentences, each saying what the body does NOT do in this activity, so that \
they tell it from the other activities;
"sub_actions": a list of eight to ten short imperative phrases, the elementary movements of this activity in \
their order, such as "lift the left foot".

Sentences of "affirmative" and "negative" and phrases of "sub_actions" must not contain the activity's name. \
No two texts may be the same.
"""


def _text(text: str) -> str:
    text = " ".join(text.split())
    if not re.search(r"\w", text) or not text.isprintable():
        raise ValueError("a text without words, or with characters that don't print")
    return text


Text = Annotated[str, StringConstraints(max_length=400), AfterValidator(_text)]


class Answer(BaseModel):
    """The texts of one class, by form."""

    model_config = ConfigDict(extra="forbid", strict=True)

    keyword: Annotated[Text, Field(max_length=60)]
    sentence: list[Text] = Field(min_length=1, max_length=8)
    affirmative: list[Text] = Field(min_length=4, max_length=16)
    negative: list[Text] = Field(min_length=4, max_length=16)
    sub_actions: list[Text] = Field(min_length=8, max_length=10)

    def texts(self) -> list[str]:
        return [self.keyword, *self.sentence, *self.affirmative, *self.negative, *self.sub_actions]


class Rejected(Exception):
    """Why an answer can't be used; one line."""


class Outcome(NamedTuple):
    """bank: the file that was written, None while a class lacks its texts. failed: {class: reason}."""

    bank: Path | None
    failed: dict[str, str]
    asked: int
    rejected: int


def meanings(dataset: str, classes: tuple[str, ...]) -> dict[str, str]:
    """{class: its name in words}: the keyword of the data set's own bank, which knows what PEN stands for,
    else the label itself."""
    path = captions.bank_path(dataset)
    if not path.is_file():
        return {name: name.replace("_", " ") for name in classes}
    bank = captions.read_bank(path, classes)
    return {name: bank[name]["keyword"][0] for name in classes}


def prompt(name: str, named: Mapping[str, str], placement: str) -> str:
    """The question for one class. named: {class: its name in words}."""
    return PROMPT.format(placement=placement, all=", ".join(named.values()), name=named[name])


def parse(text: str, taken: Mapping[str, str]) -> Answer:
    """The answer in a model's text; raises Rejected. taken: {bare text: whose it is already}.

    What a chat model puts around the object (thoughts, a fence, a farewell) is passed over.
    """
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL)
    start = text.find("{")
    if start < 0:
        raise Rejected("no JSON object in the answer")
    try:
        found, _ = json.JSONDecoder(object_pairs_hook=_once).raw_decode(text, start)
        answer = Answer.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])[:60]
        raise Rejected(f"{where!a}: {first['msg']} ({error.error_count()} faults)") from None
    except (ValueError, RecursionError) as error:
        raise Rejected(f"not JSON: {' '.join(str(error).split())[:120]}") from None
    seen = dict(taken)
    for one in answer.texts():
        if bare(one) in seen:
            raise Rejected(f"{one!a} is {seen[bare(one)]}")
        seen[bare(one)] = "given twice"
    return answer


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key is given twice")
    return dict(pairs)


def bare(text: str) -> str:
    """What two texts that are the same have in common: the words, whatever case and punctuation."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def partial_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial.jsonl")


def make(
    dataset: str, named: Mapping[str, str], placement: str, client: Client, out: Path, seed: int,
    report: Callable[[str], None],
) -> Outcome:  # fmt: skip
    """Ask for every class that has no texts yet and, once all have, write the bank to `out`. report gets a
    line of progress.

    A class whose answers were all rejected is a failure of its own: the others are asked all the same.
    Raises llm.Unavailable where the client can't answer; what was answered is kept.
    """
    kept, failed, asked, rejected = _Kept(partial_path(out)), {}, 0, 0
    accepted: dict[str, dict[str, Any]] = {}
    taken: dict[str, str] = {}
    for name in named:
        question = prompt(name, named, placement)
        key = digest([question, client.name, seed])
        before = kept.rows(key)
        row = next((row for row in before if _holds(row, taken)), None)
        if row is not None:
            report(f"{name}: kept from before")
        tried, reason = len(before), ""
        for attempt in range(tried, tried + (0 if row else ATTEMPTS)):
            derived = int(digest([seed, name, attempt])[:7], 16)
            text, today = client.ask(question, derived), datetime.date.today().isoformat()
            asked += 1
            entry = {"key": key, "class": name, "seed": derived, "date": today, "settings": client.settings}
            try:
                entry["answer"] = parse(text, taken).model_dump()
            except Rejected as fault:
                rejected, reason = rejected + 1, str(fault)
                kept.add(entry | {"rejected": reason, "text": text[:4000]})
                report(f"{name}: answer {attempt + 1} rejected: {reason}")
            else:
                row = entry
                kept.add(row)
                report(f"{name}: answered")
                break
        if row is None:
            failed[name] = f"{ATTEMPTS} answers rejected, the last: {reason}"
            continue
        accepted[name] = row | {"before": sum("rejected" in other for other in kept.rows(key))}
        taken |= {bare(one): f"a text of {name} too" for one in Answer(**row["answer"]).texts()}
    if failed:
        return Outcome(None, failed, asked, rejected)
    yamlfile.dump(out, _bank(dataset, named, placement, client.name, seed, accepted))
    kept.path.unlink(missing_ok=True)
    return Outcome(out, {}, asked, rejected)


class _Kept:
    """The rows of the partial file; a row that isn't whole or was changed by hand to no answer is dropped."""

    def __init__(self, path: Path) -> None:
        self.path, self.all = path, []
        lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
        for line in lines:
            try:
                row = json.loads(line)
                if "rejected" not in row:
                    Answer.model_validate(row["answer"])
                    [row[name] for name in ("key", "class", "seed", "date", "settings")]
                self.all.append(row)
            except (ValueError, LookupError, TypeError):
                continue

    def rows(self, key: str) -> list[dict[str, Any]]:
        return [row for row in self.all if row.get("key") == key]

    def add(self, row: dict[str, Any]) -> None:
        self.all.append(row)
        write_bytes(self.path, "".join(json.dumps(row) + "\n" for row in self.all).encode())


def _holds(row: dict[str, Any], taken: Mapping[str, str]) -> bool:
    return "rejected" not in row and not {bare(t) for t in Answer(**row["answer"]).texts()} & set(taken)


def _bank(
    dataset: str, named: Mapping[str, str], placement: str, model: str, seed: int,
    accepted: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    questions = [prompt(name, named, placement) for name in named]
    return {
        "dataset": dataset,
        "provenance": {
            "written_by": f"a language model ({model})",
            "reviewed_by": "nobody yet",
            "date": max(row["date"] for row in accepted.values()),
            "model": model,
            "seed": seed,
            "prompt_sha256": hashlib.sha256("\n".join(questions).encode()).hexdigest(),
            "asked_for": dict(named),
            "answers": {
                name: {"seed": row["seed"], "rejected_before": row["before"], **row["settings"]}
                for name, row in accepted.items()
            },
        },
        "sensor": placement,
        "classes": {name: row["answer"] for name, row in accepted.items()},
        "concepts": {},
    }
