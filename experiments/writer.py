"""Writes a bank of label texts with a language model: a question for each class, answers checked and kept.

Every answer, accepted or rejected, goes to `<bank>.partial.jsonl` at once, under the digest of what was asked
of whom, so that a run after a break asks only for what is missing and never with a seed that failed before.
One run at a time writes a bank.
"""

import datetime
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from experiments import captions, data, yamlfile
from experiments.captions import bare
from experiments.identity import digest
from experiments.ledger import locked, write_bytes
from experiments.llm import Client, Rejected
from experiments.screen import duration

ATTEMPTS = 5  # answers asked for a class in one run
OBJECTS = 20  # so many braces of an answer are tried as the start of its object
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


class Outcome(NamedTuple):
    """bank: the file that was written, None while a class lacks its texts. failed: {class: reason}."""

    bank: Path | None
    failed: dict[str, str]
    asked: int
    rejected: int


def meanings(dataset: str, classes: tuple[str, ...]) -> dict[str, str]:
    """{class: its name in words}: the keyword of the bank that comes with the data set, which knows what PEN
    stands for, else the label itself."""
    path = captions.bank_path(dataset)
    if dataset not in data.DATASETS or not path.is_file():
        return {name: name.replace("_", " ") for name in classes}
    bank = captions.read_bank(path, classes)
    return {name: bank[name]["keyword"][0] for name in classes}


def prompt(name: str, named: Mapping[str, str], placement: str) -> str:
    """The question for one class. named: {class: its name in words}."""
    return PROMPT.format(placement=placement, all=", ".join(named.values()), name=named[name])


def parse(text: str, taken: Mapping[str, str]) -> Answer:
    """The answer in a model's text; raises Rejected. taken: {bare text: whose it is already}.

    What a chat model puts around the object (thoughts, a fence, a preamble, a farewell) is passed over.
    """
    text = text.rpartition("</think>")[2]  # some servers cut the opening mark off
    if "<think>" in text:
        raise Rejected("cut off in its thoughts: --max-tokens allows more")
    faults = []
    for start in islice(re.finditer("{", text), OBJECTS):
        try:
            answer = _answer(text, start.start())
        except Rejected as fault:
            faults.append(fault)
        else:
            break
    else:
        objects = [fault for fault in faults if not str(fault).startswith("not JSON")]
        raise (objects or faults or [Rejected("no JSON object in the answer")])[-1]
    seen = dict(taken)
    for one in answer.texts():
        if bare(one) in seen:
            raise Rejected(f"{one!a} is {seen[bare(one)]}")
        seen[bare(one)] = "given twice"
    return answer


def _answer(text: str, start: int) -> Answer:
    try:
        found, _ = json.JSONDecoder(object_pairs_hook=_once).raw_decode(text, start)
        return Answer.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])[:60]
        raise Rejected(f"{where!a}: {first['msg']} ({error.error_count()} faults)") from None
    except json.JSONDecodeError as error:
        ends = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
        hint = "; cut off? --max-tokens allows more" if ends else ""
        raise Rejected(f"not JSON: {error.msg} at letter {error.pos - start}{hint}") from None
    except (ValueError, RecursionError) as error:
        raise Rejected(f"not JSON: {' '.join(str(error).split())[:120]}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key is given twice")
    return dict(pairs)


def partial_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial.jsonl")


def refuse_existing(out: Path, force: bool) -> None:
    """Raises FileExistsError."""
    if out.exists() and not force:
        raise FileExistsError(f"{out} exists: choose another --out, or overwrite it with --force")


@contextmanager
def _writing(out: Path, force: bool) -> Iterator[None]:
    lock = out.with_name(f".{out.name}.lock")
    with locked(lock, wait=False):
        try:
            refuse_existing(out, force)
            yield
        finally:
            lock.unlink(missing_ok=True)


def make(
    dataset: str, named: Mapping[str, str], placement: str, client: Client, out: Path, seed: int,
    report: Callable[[str], None], force: bool = False,
) -> Outcome:  # fmt: skip
    """Ask for every class that has no texts yet and, once all have, write the bank to `out`. report gets a
    line of progress.

    A class whose answers were all rejected is a failure of its own: the others are asked all the same.
    Raises Unavailable where the client can't answer, and what was answered is kept; before anything is asked,
    Locked where another run writes `out`, and FileExistsError.
    """
    with _writing(out, force):
        kept, failed = _Kept(partial_path(out)), {}
        rows: dict[str, dict[str, Any]] = {}
        taken: dict[str, str] = {}
        began, classes_asked, keys = time.monotonic(), 0, set()
        for number, name in enumerate(named, 1):
            place, question = f"{number}/{len(named)} {name}", prompt(name, named, placement)
            key = digest([question, client.name, client.source, seed])
            keys.add(key)
            row = kept.answer(key, taken)
            if row is not None:
                report(f"{place}: kept from before")
            else:
                report(f"{place}: asking")
                row = _ask(client, question, seed, {"key": key, "class": name}, taken, kept, report)
                classes_asked += 1
                left_s = (time.monotonic() - began) * (len(named) - number) / classes_asked
                report(f"{place}: {'answered' if row else 'no usable answer'}, {duration(left_s)} to go")
            if row is None:
                failed[name] = f"{ATTEMPTS} answers rejected, the last: {kept.added[-1]['rejected']}"
                continue
            rows[name] = row | {"before": sum("rejected" in other for other in kept.rows(key))}
            taken |= {bare(one): f"a text of {name} too" for one in Answer(**row["answer"]).texts()}
        counts = len(kept.added), sum("rejected" in row for row in kept.added)
        if failed:
            return Outcome(None, failed, *counts)
        refuse_existing(out, force)  # again: hours may have passed
        yamlfile.dump(out, _bank(dataset, named, placement, client.name, seed, rows))
        kept.drop(keys)
        return Outcome(out, {}, *counts)


def _ask(
    client: Client, question: str, seed: int, asked: dict[str, Any], taken: Mapping[str, str], kept: "_Kept",
    report: Callable[[str], None],
) -> dict[str, Any] | None:  # fmt: skip
    """The row of the first answer that can be used, None after ATTEMPTS; all are kept."""
    tried = len(kept.rows(asked["key"]))
    for attempt in range(tried, tried + ATTEMPTS):
        row, text = asked | {"seed": int(digest([seed, asked["class"], attempt])[:7], 16)}, ""
        try:
            text = client.ask(question, row["seed"])
            row["answer"] = parse(text, taken).model_dump()
        except Rejected as fault:
            row |= {"rejected": str(fault), "text": text[:4000]}
        row |= {"date": datetime.date.today().isoformat(), "settings": client.settings}
        kept.add(row)
        if "answer" in row:
            return row
        report(f"answer {attempt + 1} rejected: {row['rejected']}")
    return None


class _Kept:
    """The rows of the partial file, and those of them that this run added; a row that isn't whole or was
    changed by hand to no answer is dropped."""

    def __init__(self, path: Path) -> None:
        self.path, self.all, self.added = path, list[dict[str, Any]](), list[dict[str, Any]]()
        lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
        for line in lines:
            with suppress(ValueError, LookupError, TypeError, RecursionError):
                row = json.loads(line)
                [row[name] for name in ("key", "class", "seed", "date", "settings")]
                if "rejected" not in row:
                    Answer.model_validate(row["answer"])
                self.all.append(row)

    def rows(self, key: str) -> list[dict[str, Any]]:
        return [row for row in self.all if row["key"] == key]

    def answer(self, key: str, taken: Mapping[str, str]) -> dict[str, Any] | None:
        """A row with an answer, none of whose texts is another class's."""
        for row in self.rows(key):
            if "answer" in row and not {bare(t) for t in Answer(**row["answer"]).texts()} & set(taken):
                return row
        return None

    def add(self, row: dict[str, Any]) -> None:
        self.added.append(row)
        self._write([*self.all, row])

    def drop(self, keys: set[str]) -> None:
        self._write([row for row in self.all if row["key"] not in keys])

    def _write(self, rows: list[dict[str, Any]]) -> None:
        self.all = rows
        if rows:
            write_bytes(self.path, "".join(json.dumps(row) + "\n" for row in rows).encode())
        else:
            self.path.unlink(missing_ok=True)


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
