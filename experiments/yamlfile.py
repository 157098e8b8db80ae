"""YAML files read strictly, with the line of every key; the one module that imports yaml.

Scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema), not PyYAML's 1.1:
`1e-4` is a number, `off` and `12:30` are text. What a sweep does not need (tags, directives, merge keys,
several documents) is refused rather than ignored. Every failure is a `FileError` of one line.
"""

import copy
import difflib
import errno
import math
import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

import yaml

from experiments.ledger import write_bytes

Keys = tuple[str | int, ...]
# PyYAML takes a second for these. Aliases count written out: ten lines of them can name billions of values.
MAX_BYTES = 400_000
MAX_VALUES = 20_000
MAX_DEPTH = 64
MAX_MESSAGE = 600  # characters: a value that is quoted may be as long as its file
TOO_MUCH = f"over {MAX_VALUES:,} values or {MAX_DEPTH} levels, aliases written out"
LISTED = 12
CORE_SCHEMA = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}


class FileError(Exception):
    """A fault in a user's file; its text is one line, `sweeps/x.yaml:12: message`."""

    def __init__(self, file: str, line: int | None, message: str) -> None:
        super().__init__(file, line, message)
        self.file, self.line, self.message = file, line, one_line(message)

    def __str__(self) -> str:
        return one_line(self.file) + ("" if self.line is None else f":{self.line}") + f": {self.message}"


def one_line(text: str) -> str:
    """`text` for a terminal: no line break, nothing that moves its cursor or colours it, and no end of it."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 200]} [...] {text[-180:]}"


@dataclass(frozen=True)
class Document:
    """A file's plain data, the 1-based line of every key and list item, and the comment on top."""

    path: Path
    data: Any
    lines: dict[Keys, int]
    comment: str

    def line(self, path: Keys) -> int:
        """The line of the longest known prefix of `path`."""
        return next(self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines)

    def error(self, path: Keys, message: str) -> FileError:
        return FileError(str(self.path), self.line(path), message)


def read(path: str | Path) -> Document:
    """The file as plain data; raises FileError, and nothing else, whatever the file holds."""
    path, text, line = Path(path), "", None
    lines: dict[Keys, int] = {(): 1}
    try:
        text = _bytes(path).decode("utf-8", "surrogateescape").removeprefix("\ufeff")
        root = yaml.compose(text, Loader=_Loader)
        if isinstance(root, yaml.MappingNode):
            return Document(path, _build(root, (), lines), lines, _top_comment(text))
        message = "the top level must be 'key: value' pairs" if root and root.value else "the file is empty"
    except FileNotFoundError:
        if path.is_symlink():
            raise FileError(
                str(path), None, f"is a link to {os.readlink(path)}, which is not there"
            ) from None
        files = {file.stem: file for file in path.parent.glob("*.y*ml")}  # '.yaml' makes any two names near
        near = difflib.get_close_matches(path.stem, files, n=1)
        message = "no such file" + (f", did you mean '{files[near[0]]}'?" if near else "")
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"this is not plain UTF-8 text: {chr(int(error.character))!a}"  # byte E9 shows as \udce9
    except yaml.MarkedYAMLError as error:
        line, message = _explain(error, text.splitlines())
    raise FileError(str(path), line, message)


def _bytes(path: Path) -> bytes:
    """The file's content; a pipe or a device, which may never end, is refused before it is opened."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "not a regular file")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError(errno.EFBIG, f"larger than {MAX_BYTES // 1000} kB")
    return content


def dump(path: Path, data: dict[str, Any]) -> None:
    """Write `data` atomically as a file that `read` gives back equal; raises ValueError where none would."""
    try:  # PyYAML breaks a line after the word that crosses its width
        text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
        back = _build(yaml.compose(text, Loader=_Loader), (), {})
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name}: {' '.join(str(error).split())}") from error
    if back != data:
        raise ValueError(f"{path.name}: only plain data with text as keys can be written")
    write_bytes(path, text.encode())


def nearest(word: str, choices: Iterable[str], n: int = 1) -> str:
    """How a message about an unknown `word` ends: `did you mean 'attention'?`, or the list of choices."""
    names, word = list(dict.fromkeys(choices)), word[:100]
    ranked = sorted(((_likeness(word, name), name) for name in names), key=lambda pair: pair[0], reverse=True)
    if near := [f"'{name}'" for likeness, name in ranked[:n] if likeness[0] >= 0.6]:
        return f"did you mean {' or '.join(near)}?"
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"choose from {', '.join(names[:LISTED])}{more}" if names else "there is nothing to choose from"


def _likeness(word: str, name: str) -> tuple[float, float]:
    """How near, 0 to 1: first to any dotted tail of `name`, then (between equals) to the whole of it."""
    word, parts = word.lower(), name.lower()[:200].split(".")
    ratios = [_ratio(word, ".".join(parts[i:])) for i in range(len(parts))]
    return (1.0 if word.split(".")[-1] == parts[-1] else max(ratios)), ratios[0]


def _ratio(word: str, name: str) -> float:
    """difflib's, or 0 where its upper bound is too low to matter: among ten thousand names most are."""
    matcher = difflib.SequenceMatcher(None, word, name)
    return matcher.ratio() if matcher.real_quick_ratio() >= 0.6 <= matcher.quick_ratio() else 0.0


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader up to the node tree, with resolvers of its own and the strict rules on syntax."""

    yaml_implicit_resolvers: dict[Any, Any] = {  # noqa: RUF012 (None: whatever the first character is)
        None: [(tag, re.compile(rf"(?:{pattern})\Z")) for tag, pattern in CORE_SCHEMA.items()]
    }
    # PyYAML ends a line at U+0085, U+2028 and U+2029; YAML 1.2 and editors do not, so numbers would be off.
    NON_PRINTABLE = re.compile("[^\t\n\r -~\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # type: ignore[misc]

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        self.nodes += 1
        if self.nodes > MAX_VALUES:
            _refuse(TOO_MUCH, event.start_mark)
        if len(self.states) > MAX_DEPTH:
            _refuse(f"nested more than {MAX_DEPTH} deep", event.start_mark)
        node: Any = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent):
            if node.end_mark is None:
                _refuse(f"alias *{event.anchor} stands inside what it names", event.start_mark)
            node = copy.copy(node)  # so that the alias has a line of its own
            node.start_mark = event.start_mark
        return node

    def scan_tag(self) -> NoReturn:
        _refuse("tags are not allowed (quote text that begins with '!')", self.get_mark())

    def scan_directive(self) -> NoReturn:
        _refuse("directives (%YAML, %TAG) are not allowed", self.get_mark())

    def scan_flow_scalar(self, style: Any) -> Any:
        mark = self.get_mark()
        try:
            token = super().scan_flow_scalar(style)
            token.value.encode()
        except (ValueError, OverflowError):  # "\UFFFFFFFF" breaks chr(), "\ud800" every later write
            _refuse("an escape in this text names no character", mark)
        return token


class _Dumper(yaml.SafeDumper):
    """Quotes text that either version of YAML would take for something else, and indents lists."""

    yaml_implicit_resolvers: dict[Any, Any] = yaml.SafeDumper.yaml_implicit_resolvers | {
        None: [(f"tag:yaml.org,2002:{tag}", regex) for tag, regex in _Loader.yaml_implicit_resolvers[None]]
    }

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _build(node: Any, path: Keys, lines: dict[Keys, int]) -> Any:
    """Plain data from a node, noting in `lines` the line of everything below it."""
    if len(lines) > MAX_VALUES or len(path) > MAX_DEPTH:
        _refuse(TOO_MUCH, node.start_mark)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    is_list = isinstance(node, yaml.SequenceNode)
    pairs = [(item, item) for item in node.value] if is_list else node.value
    data: dict[str | int, Any] = {}
    for key_node, child in pairs:
        key = len(data) if is_list else _key(key_node)
        here = (*path, key)
        if here in lines:
            _refuse(f"key {key!r} is given twice, first on line {lines[here]}", key_node.start_mark)
        lines[here] = key_node.start_mark.line + 1
        data[key] = _build(child, here, lines)
    return list(data.values()) if is_list else data


def _key(node: Any) -> str:
    if node.value == "<<" and node.style is None:
        _refuse("merge keys (<<) are not allowed: write the keys out", node.start_mark)
    if not isinstance(node, yaml.ScalarNode) or node.tag in CORE_SCHEMA:
        _refuse("this key is not text: quote it", node.start_mark)
    return str(node.value)


def _scalar(node: yaml.ScalarNode) -> str | int | float | bool | None:
    kind, text = node.tag, node.value
    if kind not in ("int", "float"):
        return {"null": None, "bool": text.lower() == "true"}.get(kind, text)
    with suppress(ValueError, OverflowError):  # float(".inf"), int() of 5,000 digits, isfinite(10**400)
        number = int(text, {"0x": 16, "0o": 8}.get(text[:2], 10)) if kind == "int" else float(text)
        if math.isfinite(number):
            return number
    _refuse(f"{text[:40]} is not a finite number, or too large for one", node.start_mark)


def _refuse(problem: str, mark: Any) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _explain(error: yaml.MarkedYAMLError, rows: list[str]) -> tuple[int, str]:
    """PyYAML's error as a line and one sentence."""
    late = error.context == "while scanning a simple key"  # noticed only after the key: point to the key
    mark: Any = error.context_mark if late else error.problem_mark
    line = min(mark.line + 1, len(rows))  # a missing bracket is noticed past the last line
    row, problem = rows[line - 1], str(error.problem)
    if row[: mark.column + 1].strip(" ") == "\t":
        return line, "tab used for indentation: use spaces"
    if problem.startswith(("mapping values are not", "expected <block end>", "expected '<document start>'")):
        return line, "this does not fit here: check the indentation, or quote the text"
    start = error.context_mark.line + 1 if error.context_mark else line
    context = f"{error.context}{f' (from line {start})' if start < line else ''}, " if error.context else ""
    return line, context + problem


def _top_comment(text: str) -> str:
    block = takewhile(lambda row: not row or row[0] == "#", map(str.strip, text.splitlines()))
    return "\n".join(row.lstrip("#").removeprefix(" ") for row in block).strip("\n")
