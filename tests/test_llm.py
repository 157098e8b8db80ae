"""Clients against a real server that misbehaves, and a real (tiny, untrained) model in a folder."""

import json
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from llm_fixture import Server, completion, serving

from experiments import llm

KEY = "sk-proof-0123456789"
PROMPT = 'Describe the activity "walking"'


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that OpenAI's client would have slept before it tried again."""
    found: list[float] = []
    monkeypatch.setattr("openai._base_client.time", SimpleNamespace(sleep=found.append, time=time.time))
    return found


def client(server: Server, key: str = KEY) -> llm.OpenAI:
    return llm.OpenAI(server.url, "writer", key, timeout_s=0.4)


def answered(server: Server, fault: Any) -> None:
    """Ask until the right answer came, after that fault."""
    server.faults.append(fault)
    text = client(server).ask(PROMPT, 7)
    assert json.loads(text)["keyword"] == "walking" and len(server.questions) == 2


@pytest.mark.parametrize(
    "fault",
    [
        "hangs",
        "hangs up",
        "breaks off",
        "breaks off a chunk",
        (500, "oops"),
        (503, {"error": {"message": "loading"}}),
        (429, "slow down"),
    ],
    ids=lambda fault: str(fault)[:30],
)
def test_what_passes_is_asked_again_after_a_wait(server: Server, waits: list[float], fault: Any) -> None:
    began = time.monotonic()
    answered(server, fault)
    assert len(waits) == 1 and 0.3 < waits[0] <= 1
    assert time.monotonic() - began < 3


NONSENSE = [
    ("drips", "is no JSON: ''"),
    ((200, "<html>busy</html>"), "is no JSON: '<html>busy</html>'"),
    ((200, ""), "is no JSON: ''"),
    ((200, "[" * 100_000), "is no JSON"),
    ((200, {"choices": []}), 'is no chat completion: {"choices": []}'),
    ((200, [1]), "is no chat completion: [1]"),
    ((200, {"error": {"message": f"no credit for {KEY}"}}), '"no credit for ***"'),
    ((200, completion(None)), "no text, finish_reason None"),
    ((200, completion([{"type": "text"}])), "no text, finish_reason None"),
    ((200, completion("", "length")), "no text, finish_reason length"),
    (
        (200, completion(None, finish_reason="content_filter", refusal="I won't.")),
        "I won't., finish_reason content_filter",
    ),
]


@pytest.mark.parametrize(("fault", "reason"), NONSENSE, ids=[reason[:40] for _, reason in NONSENSE])
def test_an_answer_without_a_text_is_said_and_not_asked_for_again(
    server: Server, waits: list[float], fault: Any, reason: str
) -> None:
    server.faults.append(fault)
    with pytest.raises(llm.Rejected) as caught:
        client(server).ask(PROMPT, 7)
    said = str(caught.value)
    assert reason in said and KEY not in said and len(said) < 200 and said.isprintable()
    assert waits == [] and len(server.questions) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_waited_for_as_seconds_and_as_a_date(
    server: Server, waits: list[float], status: int
) -> None:
    for asked in ("17", formatdate(time.time() + 30, usegmt=True), "soon", formatdate(time.time() - 30)):
        server.asked.clear()
        answered(server, (status, "", {"Retry-After": asked}))
    assert waits[:2] == [17, pytest.approx(29, abs=2)]
    assert all(0.3 < wait <= 1 for wait in waits[2:]) and len(waits) == 4


def test_waits_grow_and_end_after_six_attempts(server: Server, waits: list[float]) -> None:
    server.faults += [(500, "oops")] * 9
    with pytest.raises(llm.Unavailable, match=r"/v1/chat/completions: HTTP 500 'oops'$"):
        client(server).ask(PROMPT, 7)
    assert len(server.questions) == 6 and len(waits) == 5 and waits[4] > 4 * waits[0]


def test_a_server_that_asks_for_an_hour_is_not_waited_for(server: Server, waits: list[float]) -> None:
    server.faults.append((429, "quota", {"Retry-After": "3600"}))
    with pytest.raises(llm.Unavailable, match="HTTP 429 'quota'; it asks to wait 3600 s"):
        client(server).ask(PROMPT, 7)
    assert len(server.questions) == 1 and waits == []


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_what_will_not_pass_is_said_at_once(server: Server, status: int) -> None:
    one = client(server)
    one.optional = {}
    server.faults.append((status, {"error": {"message": f"bad key {KEY}"}}))
    with pytest.raises(llm.Unavailable, match=f"HTTP {status}") as caught:
        one.ask(PROMPT, 7)
    assert len(server.questions) == 1
    assert KEY not in str(caught.value) and "bad key ***" in str(caught.value)


def test_a_request_carries_key_seed_and_settings_and_no_key_comes_back(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-mine")
    one = client(server)
    server.faults.append(f'{{"keyword": "{KEY}"}}')
    assert one.ask(PROMPT, 7) == '{"keyword": "***"}'
    (_, headers, body), *_ = server.asked
    assert headers["Authorization"] == f"Bearer {KEY}" and "mine" not in str(headers)
    assert (body["model"], body["seed"], body["temperature"]) == ("writer", 7, 0.7)
    assert body["response_format"] == {"type": "json_object"}
    assert KEY not in f"{one.name}{one.settings}"
    client(server, key="").ask(PROMPT, 7)
    assert "Authorization" not in server.asked[-1][1]


def test_settings_that_a_server_refuses_are_left_out_and_recorded_as_such(server: Server) -> None:
    one = client(server)
    assert set(one.settings) == {"server", "temperature", "max_tokens", "response_format"}
    server.faults += [
        (400, {"error": {"message": "Unsupported parameter: 'max_tokens'"}}),
        (422, {"error": {"message": "seed: extra fields not permitted"}}),
        (400, "what?"),
    ]
    one.ask(PROMPT, 7)
    assert set(server.questions[-1]) == {"model", "messages", "temperature"}
    assert one.settings == {"server": server.url, "temperature": 0.7, "seed": "not taken"}


def test_a_redirect_is_not_followed_so_the_key_stays(server: Server) -> None:
    with serving() as other:
        for status in (301, 302, 307, 308):
            server.faults.append((status, "", {"Location": f"{other.url}/chat/completions"}))
            with pytest.raises(llm.Unavailable, match=f"HTTP {status} ''; it points to {other.url}"):
                client(server).ask(PROMPT, 7)
        assert other.asked == []


def test_a_server_with_one_model_needs_no_name_and_one_with_more_lists_them(server: Server) -> None:
    assert llm.OpenAI(server.url, None, KEY).name == "tiny/writer-1"
    server.models = ["a", f"b {KEY}"]
    with pytest.raises(llm.Unavailable, match=r"has 2 models, choose with --model: 'a', 'b \*\*\*'"):
        llm.OpenAI(server.url, None, KEY)
    with pytest.raises(llm.Unavailable, match="/models lists no models: name one with --model"):
        llm.OpenAI(f"{server.url}/html", None, KEY)


def test_no_proxy_sees_a_request_to_a_server_without_tls(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert client(server).ask(PROMPT, 7)
        assert proxy.asked == [] and len(server.questions) == 1


@pytest.mark.parametrize(
    ("name", "value"), [("ALL_PROXY", "socks5://127.0.0.1:9"), ("HTTPS_PROXY", "odd://127.0.0.1:9")]
)
def test_an_environment_that_no_client_can_be_made_of_is_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(llm.Unavailable, match=r"^https://127.0.0.1:9/v1: ") as caught:
        llm.OpenAI("https://127.0.0.1:9/v1", "m", KEY)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("host", [".a", "a" * 70])
def test_a_host_that_can_not_be_one_is_one_line(host: str) -> None:
    with pytest.raises(llm.Unavailable, match=r"^http://") as caught:
        llm.OpenAI(f"http://{host}/v1", "m", KEY).ask(PROMPT, 7)
    assert len(str(caught.value).splitlines()) == 1 and KEY not in str(caught.value)


def test_nobody_at_home_is_named() -> None:
    with serving() as server:
        url = server.url
    with pytest.raises(llm.Unavailable, match=r"Connection refused \(6 attempts\)"):
        llm.OpenAI(url, "m", KEY).ask(PROMPT, 7)


def test_a_server_that_never_answers_is_left_after_six_times_its_time(server: Server) -> None:
    server.faults += ["hangs"] * 6
    with pytest.raises(llm.Unavailable, match=r"no answer within 0.4 s \(6 attempts\)"):
        client(server).ask(PROMPT, 7)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gpt", "expected hf:FOLDER_OR_ID or openai:BASE_URL"),
        ("hf:", "expected hf:FOLDER_OR_ID or openai:BASE_URL"),
        ("openai:file:///etc/passwd", "needs the base URL"),
        ("openai:ftp://host/v1", "needs the base URL"),
        ("openai:http://", "needs the base URL"),
        ("openai:http://host:port/v1", "needs the base URL"),
        ("openai:http://host/v1\r\nX: y", "needs the base URL"),
        ("openai:http://hóst/v1", "needs the base URL"),
        ("openai:http://a..b/v1", "needs the base URL"),
        (f"openai:https://me:{KEY}@host/v1", "takes no password"),
        (f"openai:https://host/v1?key={KEY}", "takes no password and no query"),
        ("hf:nobody/nothing-here", r"not fetched yet \(hf download nobody/nothing-here\)"),
    ],
)
def test_a_model_that_can_not_be_opened_is_one_line_without_the_key(spec: str, message: str) -> None:
    with pytest.raises(llm.Unavailable, match=message) as caught:
        llm.open_client(spec, None)
    assert len(str(caught.value).splitlines()) == 1 and KEY not in str(caught.value)


def test_a_key_that_no_header_can_carry_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(llm.KEY, f"{KEY}\nmore")
    with pytest.raises(llm.Unavailable, match="OPENAI_API_KEY holds characters") as caught:
        llm.open_client("openai:http://127.0.0.1:9/v1", "m")
    assert KEY not in str(caught.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of two layers with random weights and a tokenizer of bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("models") / "tiny-lm"
    alphabet = ["<end>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(path)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(alphabet),
        n_positions=64,
        n_embd=16,
        n_layer=2,
        n_head=2,
        eos_token_id=0,
        bos_token_id=0,
    )
    GPT2LMHeadModel(config).save_pretrained(path)
    return path


def test_a_folder_answers_by_its_seed_and_disturbs_no_other_randomness(folder: Path) -> None:
    import torch

    one = llm.open_client(f"hf:{folder}", None)
    assert one.name == "tiny-lm" and str(folder) not in str(one.settings)
    before = torch.get_rng_state()
    first, again, other = one.ask("a", 1), one.ask("a", 1), one.ask("a", 2)
    assert first and first == again != other
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(llm.Unavailable, match="tiny-lm reads 64 tokens, the question has 99"):
        one.ask("a" * 99, 1)


def test_a_chat_template_is_used_where_there_is_one(folder: Path) -> None:
    one = llm.Transformers(str(folder))
    seen: list[str] = []
    one.tokenizer.chat_template = "<{{ messages[0].content }}>{% if add_generation_prompt %}!{% endif %}"
    generate = one.model.generate
    one.model.generate = lambda **kw: seen.append(one.tokenizer.decode(kw["input_ids"][0])) or generate(**kw)
    one.ask("hi", 1)
    assert seen == ["<hi>!"]


def test_a_folder_without_a_model_and_a_model_named_twice_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(llm.Unavailable, match="can't be loaded"):
        llm.open_client(f"hf:{tmp_path}", None)
    with pytest.raises(llm.Unavailable, match="is a file: name its folder"):
        llm.open_client(f"hf:{folder / 'config.json'}", None)
    for name in "ab":
        (tmp_path / f"{name}.gguf").touch()
    with pytest.raises(llm.Unavailable, match=r"holds 2 \.gguf files"):
        llm.open_client(f"hf:{tmp_path}", None)
    with pytest.raises(llm.Unavailable, match="--model belongs to openai"):
        llm.open_client(f"hf:{folder}", "gpt")
