"""Language models that write text: loaded here by transformers, or behind an OpenAI-compatible server.

Request and answer: https://platform.openai.com/docs/api-reference/chat/create. The key comes from
OPENAI_API_KEY; it goes into one header of requests to the server that the user named, and nowhere else.
"""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

TEMPERATURE = 0.7
TIMEOUT_S = 300.0  # between two parts of an answer
RETRIES = 5
KEY = "OPENAI_API_KEY"


class Unavailable(Exception):
    """The model can't be loaded or its server gives no answer; one line."""


class Rejected(Exception):
    """Why an answer can't be used, where the same question may get a better one; one line."""


class Client(Protocol):
    """A language model. name and settings go into the provenance of what it writes: no key, no folder. source
    tells models of one name apart, and only a digest of it is kept."""

    name: str
    source: str

    @property
    def settings(self) -> dict[str, Any]: ...

    def ask(self, prompt: str, seed: int) -> str:
        """The model's text, whatever it holds; raises Unavailable, or Rejected where there is none."""
        ...


def open_client(llm: str, model: str | None, max_tokens: int | None = None) -> Client:
    """The client that `hf:FOLDER_OR_ID` or `openai:BASE_URL` names; raises Unavailable."""
    kind, _, rest = llm.partition(":")
    if kind == "openai" and rest:
        return OpenAI(rest, model, os.environ.get(KEY, "").strip(), max_tokens)
    if kind == "hf" and rest:
        if model is not None:
            raise Unavailable(f"--model belongs to openai:BASE_URL; hf:{rest} already names its model")
        return Transformers(rest, max_tokens)
    raise Unavailable(f"--llm {llm!r}: expected hf:FOLDER_OR_ID or openai:BASE_URL")


class Transformers:
    """Any causal language model that transformers loads from this machine: a folder, a folder with one .gguf
    file, or an id of the Hugging Face hub that was fetched before. Nothing is downloaded."""

    MAX_TOKENS = 1000  # a class takes about 350

    def __init__(self, where: str, max_tokens: int | None = None) -> None:
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
            self.model.to("cuda" if torch.cuda.is_available() else "cpu")
        except Exception as error:  # transformers, safetensors, gguf and CUDA have each their own
            hint = ""
            if isinstance(error, ImportError):
                hint = "; the extra llm has what .gguf files need"
            elif isinstance(error, OSError) and not folder.is_dir():
                hint = f"; no such folder, and not fetched yet (hf download {where})"
            raise Unavailable(f"hf:{where} can't be loaded: {_line(error)[:200]}{hint}") from error
        self.name = gguf[0].stem if gguf else folder.resolve().name if folder.is_dir() else where
        revision = getattr(self.model.config, "_commit_hash", None)
        self.source = str(folder.resolve()) if folder.is_dir() else f"{where}@{revision}"
        self.settings: dict[str, Any] = {
            "temperature": TEMPERATURE,
            "max_tokens": max_tokens or self.MAX_TOKENS,
        }
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
            try:
                out = self.model.generate(
                    input_ids=inputs["input_ids"],
                    attention_mask=inputs["attention_mask"],
                    do_sample=True,
                    temperature=TEMPERATURE,
                    max_new_tokens=min(self.settings["max_tokens"], context - start),
                    pad_token_id=self.tokenizer.pad_token_id or self.tokenizer.eos_token_id,
                )
            except RuntimeError as error:  # out of memory, say
                raise Unavailable(f"{self.name} failed: {_line(error)[:200]}") from error
        return str(self.tokenizer.decode(out[0, start:], skip_special_tokens=True))


class OpenAI:
    """A server with POST {base_url}/chat/completions and, if no model is named, GET {base_url}/models.

    OpenAI's own client tries again what passes (time-outs, broken connections, statuses 408, 409, 429 and of
    500 and above), after Retry-After or a wait that doubles. No redirect is followed, and no proxy reads
    along. A setting that the server refuses is left out.
    """

    MAX_TOKENS = 4096  # servers may count thinking too

    def __init__(
        self, base_url: str, model: str | None, key: str, max_tokens: int | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:  # fmt: skip
        import openai

        self.base = self.source = _checked(base_url)
        self.key = key
        if not (key.isascii() and key.isprintable()):
            raise Unavailable(f"{KEY} holds characters that no HTTP header can carry")
        # The environment's account is for OpenAI itself; a server without a key gets no such header at all.
        self.headers: Any = {"OpenAI-Organization": openai.omit, "OpenAI-Project": openai.omit}
        self.headers |= {} if key else {"Authorization": openai.omit}
        self.timeout_s = timeout_s
        try:
            # A proxy tunnels https; of http it would read the key, and this machine's servers need none.
            http = openai.DefaultHttpxClient(follow_redirects=False, trust_env=self.base.startswith("https:"))
            self.client = openai.OpenAI(
                base_url=self.base,
                api_key=key or "none",
                timeout=timeout_s,
                max_retries=RETRIES,
                http_client=http,
            )
        except Exception as error:  # of proxies and certificates that the environment names
            raise Unavailable(f"{self.base}: {_line(error)[:200]}") from error
        self.optional: dict[str, Any] = {
            "temperature": TEMPERATURE,
            "max_tokens": max_tokens or self.MAX_TOKENS,
            "response_format": {"type": "json_object"},
            "seed": True,
        }
        self.name = self._only_model() if model is None else model

    @property
    def settings(self) -> dict[str, Any]:
        known = {name: value for name, value in self.optional.items() if name != "seed"}
        return {"server": self.base, **known} | ({} if "seed" in self.optional else {"seed": "not taken"})

    def ask(self, prompt: str, seed: int) -> str:
        create: Any = self.client.chat.completions.with_raw_response.create
        asked = {"model": self.name, "messages": [{"role": "user", "content": prompt}]}
        while True:
            extra = self.optional | ({"seed": seed} if "seed" in self.optional else {})
            try:
                return self._text(self._json(partial(create, **asked, **extra)))
            except _Refused as refused:
                named = [name for name in self.optional if name in refused.answer]
                left_out = named or [name for name in ("response_format",) if name in self.optional]
                if not left_out:
                    raise Unavailable(str(refused)) from refused
                self.optional = {k: v for k, v in self.optional.items() if k not in left_out}

    def _text(self, answer: Any) -> str:
        try:
            choice = answer["choices"][0]
            text, ended = choice["message"]["content"], str(choice.get("finish_reason"))
            refusal = choice["message"].get("refusal")
        except (LookupError, TypeError, AttributeError):
            start = self._clean(json.dumps(answer))[:120]
            raise Rejected(f"the server's answer is no chat completion: {start}") from None
        if not isinstance(text, str) or not text.strip():
            raise Rejected(self._clean(_line(f"{refusal or 'no text'}, finish_reason {ended}"))[:200])
        return self._clean(text)

    def _only_model(self) -> str:
        try:
            answer = self._json(self.client.models.with_raw_response.list)
            names = [str(model["id"]) for model in answer["data"]]
        except (LookupError, TypeError, Rejected, _Refused):
            raise Unavailable(f"{self.base}/models lists no models: name one with --model") from None
        if len(names) != 1:
            listed = self._clean(", ".join(map(repr, names[:12]))) or "none"
            raise Unavailable(f"{self.base} has {len(names)} models, choose with --model: {listed}")
        return self._clean(names[0])

    def _json(self, request: Callable[..., Any]) -> Any:
        """The answer's JSON; raises Unavailable, _Refused for status 400 or 422, Rejected for no JSON."""
        import openai

        try:
            response = request(extra_headers=self.headers)
        except openai.APIStatusError as error:
            answer, status = self._clean(error.response.text), error.status_code
            line = f"{error.request.url}: HTTP {status} {_line(answer)[:200]!r}"
            if status in (400, 422):
                raise _Refused(line, answer) from None
            hints = {401: f"is {KEY} set and right?", 403: f"is {KEY} set and right?",
                     404: "does the base URL end in /v1, and is --model right?"}  # fmt: skip
            if wait_s := error.response.headers.get("Retry-After"):
                hints[status] = f"it asks to wait {wait_s} s"
            if 300 <= status < 400:
                hints[status] = f"it points to {error.response.headers.get('Location')}"
            raise Unavailable(line + (f"; {hints[status]}" if status in hints else "")) from None
        except openai.APIConnectionError as error:
            slow = isinstance(error, openai.APITimeoutError)
            problem = f"no answer within {self.timeout_s:g} s" if slow else _line(error.__cause__ or error)
            raise Unavailable(f"{self.base}: {self._clean(problem)[:200]} ({RETRIES + 1} attempts)") from None
        except Exception as error:  # of a host that can't be one
            raise Unavailable(f"{self.base}: {self._clean(_line(error))[:200]}") from error
        try:
            return json.loads(response.content)
        except (ValueError, RecursionError):
            start = _line(self._clean(response.text))[:120]
            raise Rejected(f"the server's answer is no JSON: {start!r}") from None

    def _clean(self, text: str) -> str:
        """Without the key, should a server send it back."""
        return text.replace(self.key, "***") if len(self.key) >= 8 else text


class _Refused(Exception):
    def __init__(self, line: str, answer: str) -> None:
        super().__init__(line)
        self.answer = answer


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        good = False
    if not good or not url.isprintable() or not url.isascii() or " " in url or ".." in url:
        raise Unavailable("openai: needs the base URL of a server, https://HOST/v1 say")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise Unavailable(f"openai: takes no password and no query in its URL; a key goes into {KEY}")
    return url.rstrip("/")


def _line(value: object) -> str:
    """On one line; an exception that says nothing by its name."""
    return " ".join(str(value).split()) or (type(value).__name__ if isinstance(value, Exception) else "")
