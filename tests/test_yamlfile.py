import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.yamlfile import MAX_DEPTH, MAX_VALUES, Document, FileError, nearest, read

SWEEP = """\
# Where should text enter?
#   smoke: 1 min CPU.

## by hand
base: spar.yaml   # not part of the comment on top
grid:
  model.guidance.into:
    - [z]
    -
      all
    - &both [z,
       mu]
variants:
  one: {losses.ce_series: 0.1,
        text.control: constant}
  again: *both
"""

INTO = "model.guidance.into"
NAMES = (
    "model.guidance.attention model.guidance.at model.quantizer losses.text_recon losses.ce_series "
    "text.control data.name probe.name"
)
MISFIT = "this does not fit here: check the indentation, or quote the text"
NO_COLON = "while scanning a simple key, could not find expected ':'"
UNCLOSED = "while parsing a flow sequence (from line 2), expected ',' or ']', but got '<stream end>'"
EXPANDED = f"over {MAX_VALUES:,} values or {MAX_DEPTH} levels, aliases written out"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(content: str | bytes, name: str = "x.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def fault(path: Path) -> tuple[int | None, str]:
    with pytest.raises(FileError) as caught:
        read(path)
    assert caught.value.file == str(path)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value.line, caught.value.message


NUMBERS = {"0": 0, "-3": -3, "+3": 3, "007": 7, "0x1F": 31, "0o17": 15, "1.5": 1.5, "1e-4": 1e-4, "1E5": 1e5}
NUMBERS |= {"-2.5e+3": -2500.0, ".5": 0.5, "-.5": -0.5, "1.": 1.0}
WORDS: dict[str, Any] = {"null": None, "Null": None, "NULL": None, "~": None, "": None}
WORDS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
QUOTED = {"'1e-4'": "1e-4", '"true"': "true", "''": "", "'~'": "~", "'.nan'": ".nan", '"0x1F"': "0x1F"}
TEXT = "tRUE on off yes no y none 0b11 -0x1F 1_000 12:30 190:20:30.15 2026-11-21 . e5 1e 1.2.3 = nan inf"
SCALARS = NUMBERS | WORDS | QUOTED | {text: text for text in (*TEXT.split(), "two words")}


@pytest.mark.parametrize(("text", "value"), SCALARS.items(), ids=[text or "empty" for text in SCALARS])
def test_a_scalar_reads_by_the_core_schema_of_yaml_1_2(write: Any, text: str, value: Any) -> None:
    data = read(write(f"block: {text}\nlist: [{text or '~'}, 0]\n")).data
    assert data == {"block": value, "list": [value, 0]}
    assert type(data["block"]) is type(data["list"][0]) is type(value)


def test_a_block_scalar_is_text_even_when_it_looks_like_a_number(write: Any) -> None:
    assert read(write("a: |-\n  1\nb: >-\n  true\n")).data == {"a": "1", "b": "true"}


def test_every_key_and_every_item_knows_its_line(write: Any) -> None:
    document = read(write(SWEEP))
    assert document.data["grid"] == {INTO: [["z"], "all", ["z", "mu"]]}
    assert len(document.lines) == 17
    assert [document.lines[path] for path in ((), ("base",), ("grid",), ("variants",))] == [1, 5, 6, 13]
    grid = {path[2:]: line for path, line in document.lines.items() if path[:2] == ("grid", INTO)}
    assert grid == {(): 7, (0,): 8, (0, 0): 8, (1,): 10, (2,): 11, (2, 0): 11, (2, 1): 12}
    rows = {path[1:]: line for path, line in document.lines.items() if path[:1] == ("variants",) != path}
    one_way = {("one",): 14, ("one", "losses.ce_series"): 14, ("one", "text.control"): 15}
    assert rows == one_way | {("again",): 16, ("again", 0): 11, ("again", 1): 12}


def test_an_alias_in_a_list_has_the_line_of_the_alias(write: Any) -> None:
    assert read(write("a: &x 1\nb:\n- *x\n")).lines[("b", 0)] == 3


def test_an_unknown_path_has_the_line_of_its_longest_known_prefix(write: Any) -> None:
    document = read(write(SWEEP))
    assert document.line(("grid", INTO, 1, "deeper")) == 10
    assert document.line(("grid", "absent", 1)) == 6
    assert document.line(("absent",)) == document.line(()) == 1


def test_a_documents_error_names_the_file_the_line_and_the_reason() -> None:
    document = Document(Path("sweeps/x.yaml"), {"a": 1}, {(): 1, ("a",): 12}, "")
    error = document.error(("a",), "must be\n  text")
    assert (error.file, error.line, error.message) == ("sweeps/x.yaml", 12, "must be text")
    assert str(error) == "sweeps/x.yaml:12: must be text"


def test_a_file_error_without_a_line_names_the_file_alone_and_is_always_one_line() -> None:
    assert str(FileError("a\nb.yaml", None, "x\r\ny\u2028z")) == "a b.yaml: x y z"


def test_a_file_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(FileError("x.yaml", 3, "no")))
    assert (str(error), error.line) == ("x.yaml:3: no", 3)


def test_the_comment_on_top_is_kept_up_to_the_first_line_that_is_none(write: Any) -> None:
    assert read(write(SWEEP)).comment == "Where should text enter?\n  smoke: 1 min CPU.\n\nby hand"
    assert read(write("\n#a\n\na: 1\n# late\n")).comment == "a"
    assert read(write("a: 1\n# late\n")).comment == ""


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(write: Any) -> None:
    windows = b"\xef\xbb\xbf" + SWEEP.replace("\n", "\r\n").encode()
    assert read(write(windows)) == read(write(SWEEP))


def test_a_plain_alias_repeats_the_value_without_sharing_it(write: Any) -> None:
    data = read(write("a: &x {k: [1]}\nb: *x\n")).data
    assert data == {"a": {"k": [1]}, "b": {"k": [1]}}
    assert data["a"]["k"] is not data["b"]["k"]


def test_a_missing_file_says_so_and_names_the_nearest_one(write: Any, tmp_path: Path) -> None:
    write("a: 1\n", "quick.yaml")
    hint = f"no such file, did you mean '{tmp_path / 'quick.yaml'}'?"
    assert fault(tmp_path / "quik.yaml") == fault(tmp_path / "quick.yml") == (None, hint)
    assert fault(tmp_path / "quick") == (None, hint)
    assert fault(tmp_path / "spar.yaml") == (None, "no such file")
    assert fault(tmp_path / "nowhere" / "quick.yaml") == (None, "no such file")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert fault(tmp_path) == (None, "cannot be read: Is a directory")


@pytest.mark.parametrize("content", ["", "\n\n", "# only a comment\n", "---\n"])
def test_an_empty_file_is_refused(write: Any, content: str) -> None:
    assert fault(write(content)) == (None, "the file is empty")


@pytest.mark.parametrize("content", ["- a\n- b\n", "text\n", "12\n", "null\n"])
def test_a_file_that_is_no_mapping_is_refused(write: Any, content: str) -> None:
    assert fault(write(content)) == (None, "the top level must be 'key: value' pairs")


@pytest.mark.parametrize("bad", [b"\xe9", b"\x00", b"\x1b", "\u2028".encode()])
def test_bytes_that_are_not_plain_utf_8_are_refused_with_their_line(write: Any, bad: bytes) -> None:
    message = f"this is not plain UTF-8 text: {bad.decode('utf-8', 'surrogateescape')!a}"
    assert fault(write(b"a: caf\xc3\xa9\nb: caf" + bad + b"\n")) == (2, message)
    assert fault(write(b"a: 1\n# caf" + bad + b"\n")) == (2, message)


@pytest.mark.parametrize("content", ["a:\n\tb: 1\n", "a:\n  \tb: 1\n", "a: b\n\tc: d\n", "a: [1,\n\t2]\n"])
def test_a_tab_used_for_indentation_is_named(write: Any, content: str) -> None:
    assert fault(write(content)) == (2, "tab used for indentation: use spaces")


def test_a_tab_between_words_is_refused_as_what_it_is(write: Any) -> None:
    line, message = fault(write("a:\tb\n"))
    assert line == 1 and "'\\t'" in message and "indentation" not in message


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("a:\n  b: 1\n   c: 2\n", 3, MISFIT),
        ("a:\n    b: 1\n  c: 2\n", 3, MISFIT),
        ("a: b: c\n", 1, MISFIT),
        ("a: 1\n}\n", 2, MISFIT),
        ("a: 1\nb 2\nc: 3\n", 2, NO_COLON),
        ("a: 1\nb: [1,\n2\n", 3, UNCLOSED),
        ("a: 1\nb: *x\n", 2, "found undefined alias 'x'"),
    ],
)
def test_a_syntax_error_is_a_sentence_and_a_line(write: Any, content: str, line: int, message: str) -> None:
    assert fault(write(content)) == (line, message)


@pytest.mark.parametrize("content", ["a:\n  k: 1\n  b: 2\n  k: 3\n", "a:\n  k: 1\n  b: 2\n  'k': 3\n"])
def test_a_duplicate_key_is_refused_with_both_lines(write: Any, content: str) -> None:
    assert fault(write(content)) == (4, "key 'k' is given twice, first on line 2")


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.getcwd", "!!any", "!foo", "!h!foo", "!<x>", "!"])
def test_a_tag_is_refused(write: Any, tag: str) -> None:
    line, message = fault(write(f"a: 1\nb: {tag} x\n"))
    assert line == 2 and message.startswith("tags are not allowed")


def test_a_directive_is_refused(write: Any) -> None:
    assert fault(write("%YAML 1.1\n---\na: 1\n")) == (1, "directives (%YAML, %TAG) are not allowed")


@pytest.mark.parametrize("content", ["a: 1\nb: &x [1, *x]\n", "a: 1\nb: &x {k: [*x]}\n"])
def test_a_recursive_alias_is_refused(write: Any, content: str) -> None:
    assert fault(write(content)) == (2, "alias *x stands inside what it names")


def test_a_second_document_is_refused(write: Any) -> None:
    line, message = fault(write("a: 1\n---\nb: 2\n"))
    assert line == 2 and message.endswith("found another document")


@pytest.mark.parametrize("key", ["1", "1.5", "true", "~", "null", "[a, b]", "{x: 1}"])
def test_a_key_that_is_not_text_is_to_be_quoted(write: Any, key: str) -> None:
    assert fault(write(f"a: 1\n{key}: 2\n")) == (2, "this key is not text: quote it")


def test_a_quoted_key_is_text_and_so_are_the_words_that_yaml_1_1_took_for_booleans(write: Any) -> None:
    assert read(write("'1': a\non: b\n\"true\": c\n")).data == {"1": "a", "on": "b", "true": "c"}


def test_a_merge_key_is_refused(write: Any) -> None:
    message = "merge keys (<<) are not allowed: write the keys out"
    assert fault(write("a: &x {k: 1}\nb:\n  <<: *x\n")) == (3, message)


def test_aliases_that_expand_to_billions_are_refused(write: Any) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert fault(write("\n".join(rows)))[1] == EXPANDED


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "{[", "[\n "])
def test_absurd_nesting_is_refused(write: Any, opening: str) -> None:
    assert fault(write("a:\n  " + opening * 20_000))[1] == f"nested more than {MAX_DEPTH} deep"


def test_absurd_nesting_by_a_chain_of_aliases_is_refused(write: Any) -> None:
    rows = [f"a{i}: &a{i} {'[' * 30}*a{i - 1}{']' * 30}" for i in range(1, 100)]
    assert fault(write("a0: &a0 x\n" + "\n".join(rows)))[1] == EXPANDED


def test_nesting_that_a_person_would_write_is_read(write: Any) -> None:
    depth = MAX_DEPTH // 2
    data = read(write("a: " + "[" * depth + "]" * depth)).data["a"]
    for _ in range(depth - 1):
        (data,) = data
    assert data == []


@pytest.mark.parametrize("text", [".nan", ".NaN", ".inf", "-.inf", "1e999", "9" * 400, "9" * 5000])
def test_a_number_that_is_not_finite_is_refused(write: Any, text: str) -> None:
    message = f"{text[:40]} is not a finite number, or too large for one"
    assert fault(write(f"a: 1\nb: {text}\n")) == (2, message)


@pytest.mark.parametrize("escape", [r"\UFFFFFFFF", r"\U00110000", r"\ud800"])
def test_an_escape_that_names_no_character_is_refused(write: Any, escape: str) -> None:
    assert fault(write(f'a: 1\nb: "{escape}"\n')) == (2, "an escape in this text names no character")


def test_pyyamls_own_loader_is_left_as_it_was() -> None:
    assert yaml.safe_load("[off, 12:30, 1e-4]") == [False, 750, "1e-4"]


def test_reading_yaml_loads_nothing_heavy() -> None:
    script = "import sys, experiments.yamlfile; print(*sorted(m.split('.')[0] for m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "yaml" in loaded.stdout.split()
    assert not {"torch", "numpy", "pandas", "pydantic", "lightning"} & set(loaded.stdout.split())


@pytest.mark.parametrize("head", ["model.guidance.", "guidance.", "", "losses.", "modle.guidence."])
def test_the_nearest_dotted_name_is_proposed_whatever_stands_before_its_last_part(head: str) -> None:
    assert nearest(head + "attention", NAMES.split()) == "did you mean 'model.guidance.attention'?"


def test_the_nearest_dotted_name_is_proposed_for_a_slip_in_any_part() -> None:
    slips = ["model.guidance.atention", "guidance.atention", "ce_serie", "dta.name", "MODEL.Quantiser"]
    meant = [nearest(slip, NAMES.split()).split("'")[1].split(".")[-1] for slip in slips]
    assert meant == ["attention", "attention", "ce_series", "name", "quantizer"]
    assert nearest("dta.name", NAMES.split()) == "did you mean 'data.name'?"


def test_several_near_names_are_proposed_when_asked_for() -> None:
    assert nearest("tokns", ["none", "tokens_ze", "tokens"], n=2) == "did you mean 'tokens' or 'tokens_ze'?"


def test_choices_are_listed_where_none_is_near() -> None:
    assert nearest("qqqq", ["tokens", "histogram"]) == "choose from tokens, histogram"
    assert nearest("qqqq", []) == "there is nothing to choose from"
    names = [f"name{i}" for i in range(20)]
    assert nearest("qqqq", names) == f"choose from {', '.join(names[:12])} and 8 more"
