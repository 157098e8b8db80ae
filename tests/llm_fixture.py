"""A language model's server on this machine: it misbehaves as it is told to, then answers right."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from experiments import captions, data

DATASET = "basic_motions"
CLASSES = data.DATASETS[DATASET].classes
TEXTS = captions.read_bank(captions.bank_path(DATASET), CLASSES)


def right(prompt: str) -> str:
    """What the data set's own bank says of the class that the prompt asks for, as JSON."""
    found = re.search(r'Describe the activity "(.*?)"', prompt)
    assert found
    forms = TEXTS[found.group(1)]
    return json.dumps(forms | {"keyword": forms["keyword"][0]})


def completion(content: Any, finish_reason: str | None = None, **beside: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **beside}
    return {"object": "chat.completion", "choices": [{"message": message, "finish_reason": finish_reason}]}


class Server(ThreadingHTTPServer):
    """faults: what the next requests get, one each: a status with a body and headers, a text to answer with,
    or the name of a misbehaviour. asked: (path, headers, body) of every request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: list[Any] = []
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.models = ["tiny/writer-1"]
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def questions(self) -> list[dict[str, Any]]:
        return [body for path, _, body in self.asked if path == "/v1/chat/completions"]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args: Any) -> None:
        pass

    def titled(self) -> dict[str, str]:
        return {name.title(): value for name, value in self.headers.items()}

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.titled(), None))
        if self.path.endswith("/html/models"):
            self.send(200, "<html>")
            return
        self.send(200, {"object": "list", "data": [{"id": name} for name in self.server.models]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.titled(), body))
        fault = self.server.faults.pop(0) if self.server.faults else None
        prompt = body["messages"][0]["content"]
        if fault is None:
            self.send(200, completion(right(prompt)))
        elif isinstance(fault, tuple):
            self.send(*fault)
        elif fault == "hangs":
            self.server.over.wait(5)
        elif fault == "hangs up":
            self.close_connection = True
        elif fault == "breaks off":
            self.send(200, completion(right(prompt)), length=100_000)
        elif fault == "breaks off a chunk":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b'fff\r\n{"choices": [')
        elif fault == "drips":
            self.send_response(200)
            self.end_headers()
            for _ in range(50):
                try:
                    self.wfile.write(b" ")
                except OSError:
                    return
                time.sleep(0.05)
        else:
            self.send(200, completion(fault))

    def send(self, status: int, body: Any, headers: Any = (), length: int | None = None) -> None:
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(raw)))
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
