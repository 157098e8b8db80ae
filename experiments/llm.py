"""Language models that write text: loaded here by transformers, or behind an OpenAI-compatible server.

Request and answer: https://platform.openai.com/docs/api-reference/chat/create. The key comes from
OPENAI_API_KEY; it goes into one header of requests to the server that the user named, and nowhere else.
"""

import http.client
import json
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

TEMPERATURE = 0.7
MAX_TOKENS = {"hf": 1000, "openai": 4096}  # a class takes about 350; servers may count thinking too
TIMEOUT_S = 300.0  # of one request, from sending it to the last byte of its answer
ATTEMPTS = 6
BACKOFF_S = 1.0  # before the second attempt, twice as long before each further one
MAX_WAIT_S = 120.0
MAX_BYTES = 8_000_000
PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}  # statuses that a later attempt may not meet
KEY = "OPENAI_API_KEY"


class Unavailable(Exception):
    """The model can't be loaded or its server gives no answer; one line."""


class Client(Protocol):
    """A language model. name and settings go into the provenance of what it writes: no key, no folder."""

    name: str

    @property
    def settings(self) -> dict[str, Any]: ...

    def ask(self, prompt: str, seed: int) -> str:
        """The model's answer, whatever it holds; raises Unavailable."""
        ...


def open_client(llm: str, model: str | None) -> Client:
    """The client that `hf:FOLDER_OR_ID` or `openai:BASE_URL` names; raises Unavailable."""
    kind, _, rest = llm.partition(":")
    if kind == "openai" and rest:
        return OpenAI(rest, model, os.environ.get(KEY, "").strip())
    if kind == "hf" and rest:
        if model is not None:
            raise Unavailable(f"--model belongs to openai:BASE_URL; hf:{rest} already names its model")
        return Transformers(rest)
    raise Unavailable(f"--llm {llm!r}: expected hf:FOLDER_OR_ID or openai:BASE_URL")


class Transformers:
    """Any causal language model that transformers loads from this machine: a folder, a folder with one .gguf
    file, or an id of the Hugging Face hub that was fetched before. Nothing is downloaded."""

    def __init__(self, where: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        folder = Path(where).expanduser()
        source: dict[str, Any] = {"local_files_only": True}
        gguf = sorted(folder.glob("*.gguf")) if not (folder / "config.json").is_file() else []
        if folder.is_file():
            raise Unavailable(f"hf:{where} is a file: name its folder")
        if len(gguf) > 1:
            raise Unavailable(f"hf:{where} holds {len(gguf)} .gguf files: leave one in its folder")
        if gguf:  # https://huggingface.co/docs/transformers/gguf
            source["gguf_file"] = gguf[0].name
        place = str(folder) if folder.is_dir() else where
        logging.disable_progress_bar()
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(place, **source)
            self.model: Any = AutoModelForCausalLM.from_pretrained(place, dtype="auto", **source).eval()
        except ImportError as error:
            raise Unavailable(
                f"hf:{where}: {_line(error)[:200]}; the extra llm has what .gguf files need"
            ) from error
        except (OSError, ValueError, KeyError) as error:
            problem = (
                f"{_line(error)[:200]}" if folder.is_dir() else f"not here; fetch it: hf download {where}"
            )
            raise Unavailable(f"hf:{where} can't be loaded: {problem}") from error
        self.model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.name = gguf[0].stem if gguf else folder.resolve().name if folder.is_dir() else where
        revision = getattr(self.model.config, "_commit_hash", None)
        self.settings: dict[str, Any] = {"temperature": TEMPERATURE, "max_tokens": MAX_TOKENS["hf"]}
        self.settings |= {"revision": revision} if revision else {}

    def ask(self, prompt: str, seed: int) -> str:
        import torch

        if self.tokenizer.chat_template:
            chat = [{"role": "user", "content": prompt}]
            prompt = self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        inputs = self.tokenizer(
            prompt, return_tensors="pt", add_special_tokens=not self.tokenizer.chat_template
        ).to(self.model.device)
        start = inputs["input_ids"].shape[1]
        context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 10**9
        if start >= context:
            raise Unavailable(f"{self.name} reads {context} tokens, the question has {start}")
        with torch.random.fork_rng(), torch.inference_mode():  # generate draws from the global stream only
            torch.manual_seed(seed)
            out = self.model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=True,
                temperature=TEMPERATURE,
                max_new_tokens=min(MAX_TOKENS["hf"], context - start),
                pad_token_id=self.tokenizer.pad_token_id or self.tokenizer.eos_token_id,
            )
        return str(self.tokenizer.decode(out[0, start:], skip_special_tokens=True))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """urllib would carry the key along to wherever a server points."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class OpenAI:
    """A server with POST {base_url}/chat/completions and, if no model is named, GET {base_url}/models.

    What passes (time-outs, broken connections, statuses of `PASSING`, bodies that are no chat completion) is
    tried again, after Retry-After or a wait that doubles. A setting that the server refuses is left out.
    """

    def __init__(
        self, base_url: str, model: str | None, key: str, timeout_s: float = TIMEOUT_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self.base, self.key, self.timeout_s, self.sleep = _checked(base_url), key, timeout_s, sleep
        if not (key.isascii() and key.isprintable()):
            raise Unavailable(f"{KEY} holds characters that no HTTP header can carry")
        self.opener = urllib.request.build_opener(_NoRedirect)
        self.optional: dict[str, Any] = {
            "temperature": TEMPERATURE,
            "max_tokens": MAX_TOKENS["openai"],
            "response_format": {"type": "json_object"},
            "seed": True,
        }
        self.name = self._only_model() if model is None else model

    @property
    def settings(self) -> dict[str, Any]:
        known = {name: value for name, value in self.optional.items() if name != "seed"}
        return {"server": self.base, **known} | ({} if "seed" in self.optional else {"seed": "not taken"})

    def ask(self, prompt: str, seed: int) -> str:
        def content(answer: Any) -> str:
            text = answer["choices"][0]["message"]["content"]
            if not isinstance(text, str):
                raise TypeError("content is no text")
            return text

        body = {"model": self.name, "messages": [{"role": "user", "content": prompt}]}
        while True:
            extra = self.optional | ({"seed": seed} if "seed" in self.optional else {})
            try:
                return self._clean(self._request("chat/completions", body | extra, content))
            except _Refused as refused:
                named = [name for name in self.optional if name in refused.answer]
                left_out = named or [name for name in ("response_format",) if name in self.optional]
                if not left_out:
                    raise Unavailable(str(refused)) from refused
                self.optional = {k: v for k, v in self.optional.items() if k not in left_out}

    def _only_model(self) -> str:
        try:
            names = self._request("models", None, lambda answer: [str(m["id"]) for m in answer["data"]])
        except _Refused as refused:
            raise Unavailable(str(refused)) from refused
        if len(names) != 1:
            listed = ", ".join(map(repr, names[:12])) or "none"
            raise Unavailable(f"{self.base} has {len(names)} models, choose with --model: {listed}")
        return self._clean(names[0])

    def _request(self, verb: str, body: Any, read: Callable[[Any], Any]) -> Any:
        """What `read` finds in the answer's JSON; raises Unavailable, or _Refused for status 400 or 422."""
        problem, wait_s = "", BACKOFF_S
        for attempt in range(ATTEMPTS):
            if attempt:
                self.sleep(min(wait_s, MAX_WAIT_S))
            wait_s = BACKOFF_S * 2**attempt
            try:
                return read(json.loads(self._send(verb, body)))
            except urllib.error.HTTPError as error:
                problem, asked_s = self._explain(error), _retry_after_s(error.headers.get("Retry-After"))
                if error.code not in PASSING:
                    raise Unavailable(problem) from None
                if asked_s is not None and asked_s > MAX_WAIT_S:
                    raise Unavailable(f"{problem}; it asks to wait {asked_s:.0f} s") from None
                wait_s = wait_s if asked_s is None else asked_s
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                slow = isinstance(reason, TimeoutError | socket.timeout)
                problem = f"no answer within {self.timeout_s:g} s" if slow else _line(reason)
            except (ValueError, LookupError, TypeError, RecursionError):
                problem = "its answer has not the form of the OpenAI interface"
        raise Unavailable(f"{self.base}/{verb}: {self._clean(problem)} ({ATTEMPTS} attempts)")

    def _send(self, verb: str, body: Any) -> bytes:
        headers = {"Content-Type": "application/json", "User-Agent": "shapelex"}
        headers |= {"Authorization": f"Bearer {self.key}"} if self.key else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base}/{verb}", data, headers)
        deadline = time.monotonic() + self.timeout_s
        with self.opener.open(request, timeout=self.timeout_s) as response:
            return _body(response, deadline)

    def _explain(self, error: urllib.error.HTTPError) -> str:
        try:
            answer = self._clean(_body(error, time.monotonic() + self.timeout_s).decode("utf-8", "replace"))
        except (OSError, http.client.HTTPException):
            answer = ""
        line = f"{self.base}: HTTP {error.code} {_line(answer)[:200]!r}"
        if error.code in (400, 422):
            raise _Refused(line, answer)
        return line + (f"; is {KEY} set and right?" if error.code in (401, 403) else "")

    def _clean(self, text: str) -> str:
        """Without the key, should a server send it back."""
        return text.replace(self.key, "***") if len(self.key) >= 8 else text


class _Refused(Exception):
    def __init__(self, line: str, answer: str) -> None:
        super().__init__(line)
        self.answer = answer


def _body(response: Any, deadline: float) -> bytes:
    """All that was announced, by `deadline`: the socket's own time-out starts anew with each byte."""
    body = bytearray()
    while part := response.read1(65536):
        body += part
        if time.monotonic() > deadline:
            raise TimeoutError
        if len(body) > MAX_BYTES:
            raise OSError(f"an answer of over {MAX_BYTES:,} bytes")
    if len(body) < int(response.headers.get("Content-Length", 0)):
        raise http.client.IncompleteRead(b"")
    return bytes(body)


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        good = False
    if not good or not url.isprintable() or " " in url:
        raise Unavailable("openai: needs the base URL of a server, https://HOST/v1 say")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise Unavailable(f"openai: takes no password and no query in its URL; a key goes into {KEY}")
    return url.rstrip("/")


def _retry_after_s(value: str | None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3): a number or a date; None where there is neither."""
    if value is None:
        return None
    try:
        if value.isdecimal():
            return float(value)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _line(value: object) -> str:
    text = " ".join(str(value).split())
    return text or type(value).__name__
