"""A sweep's report: whole, escaped, offline, and as a browser sees it."""

import base64
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browser_fixture import browser as browser
from conftest import Finished
from ledger_fixture import made_up_scores, write_ledger
from typer.testing import CliRunner

from analysis import choice, lexicon, load, report
from analysis.source import Source
from experiments.cli import app

SECTIONS = ["verdict", "compared", "tables", "figures", "codes", "failures", "cost", "provenance"]
HOSTILE = "<script>alert('1')</script>"
ABOUT = report.About(
    "shapelex run x.yaml", "shapelex evaluate x.yaml", ("shapelex run x.yaml",), no_codes="none"
)


class Page(HTMLParser):
    """What a page consists of. tags: every tag with its attributes; headings: their levels."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.headings = [int(tag[1]) for tag, _ in self.tags if re.fullmatch("h[1-6]", tag)]
        self.sections = [str(found["id"]) for tag, found in self.tags if tag == "section" and "id" in found]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def sound(self) -> None:
        """No script, nothing from elsewhere, each image named, no level of heading left out."""
        for tag, found in self.tags:
            assert tag not in ("script", "iframe", "object", "base", "form")
            assert not [name for name in found if name.startswith("on")]
            for name in ("src", "href"):
                assert (found.get(name) or "#").startswith(("#", "data:"))
            assert tag != "img" or found.get("alt")
        assert self.headings[0] == 1 and self.headings.count(1) == 1
        steps = zip(self.headings, self.headings[1:], strict=False)
        assert all(after <= before + 1 for before, after in steps)


@pytest.fixture(scope="module")
def written(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The report of the finished sweep, and what the command said."""
    path = tmp_path_factory.mktemp("report") / "tiny.html"
    words = ["report", str(finished.file), "--store", str(finished.store.root), "--out", str(path)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "report: figure scores" in done.stderr
    return path, done.stdout


def test_the_report_of_a_real_sweep_has_all_its_parts_and_says_what_is_missing(
    written: tuple[Path, str], finished: Finished
) -> None:
    path, output = written
    text = path.read_text()
    assert output == f"wrote {path}  {path.stat().st_size / 1e6:.1f} MB, 5 of 5 cells done\n"
    page = Page(text)
    page.sound()
    assert [name for name in page.sections if name in SECTIONS] == SECTIONS
    assert (
        "Does text help?" in text and "text and plain" in text.split('id="verdict"')[1].split("</section>")[0]
    )
    assert "No trial was evaluated afterwards" in text and "shapelex evaluate tiny.yaml" in text
    assert "the sweep&#39;s only contrast" in text and "Windows, read out" in text
    coded = choice.best_coded(load.frame(finished.store.root, "tiny"), "seed", ["plain", "text"])
    assert coded is not None
    nameless = not lexicon.read(finished.store.root, coded[1]).names()
    assert ("No code has a name: none has a sub-action" in text) == nameless
    assert "variants:" in text and "git checkout" in text  # the sweep file, and where the code is
    for digest in load.digests(finished.store.root, "tiny")["data"]:
        assert digest in text
    assert sum(tag == "figure" and found.get("class") == "strip" for tag, found in page.tags) == 4
    assert path.stat().st_size < 3_000_000 and str(Path(__file__).parent) not in text


@pytest.fixture
def hostile(tmp_path: Path) -> Source:
    """A sweep whose every name is markup."""
    rows = (HOSTILE, "a & b", '"><img src=x onerror=alert(2)>')
    plan_rows = {rows[1]: {HOSTILE: HOSTILE}}
    parts = {
        "per_class_f1": {HOSTILE: 0.5, "b": 0.4},
        "confusion": [[3, 1], [1, 3]],
        "data": {"name": HOSTILE, "classes": [HOSTILE, "b"], "validation": "subjects"},
        "digests": {"data": HOSTILE},
        "config": {"text": {"encoder": HOSTILE}},
    }
    write_ledger(
        tmp_path,
        "bad",
        rows,
        seeds=1,
        folds=3,
        reference=rows[1],
        contrasts=[(rows[0], rows[1])],
        failed=[(rows[2], 0, 1)],
        failures={(rows[2], 0, 1): HOSTILE},
        fixed=(),
        parts=lambda row, seed, fold: parts | {"question": HOSTILE},
        environment=lambda row, seed, fold: {"cpu": HOSTILE},
        factors=plan_rows,
        dataset=HOSTILE,
        scores=lambda row, seed, fold: made_up_scores(row, seed, fold),
    )
    return Source(tmp_path, "bad")


def test_markup_in_names_is_text_and_failures_are_listed_with_their_errors(hostile: Source) -> None:
    hostile.plan["question"] = HOSTILE
    about = report.About(HOSTILE, HOSTILE, (HOSTILE,), {HOSTILE: HOSTILE}, no_codes=HOSTILE)
    text = report.page(hostile, about)
    Page(text).sound()
    assert "<script" not in text and "<img src=x" not in text
    assert text.count("&lt;script&gt;") > 20
    failures = text.split('id="failures"')[1].split("</section>")[0]
    assert "Failed cells, 1 of 9" in failures and "RuntimeError: loss is not finite" in failures
    assert text == report.page(hostile, about)  # the same ledger, the same bytes


def test_a_sweep_of_which_nothing_is_done_has_a_report_that_says_how_to_go_on(tmp_path: Path) -> None:
    rows = ("plain", "text")
    missing = [(row, 0, fold) for row in rows for fold in range(2)]
    write_ledger(tmp_path, "new", rows, seeds=1, folds=2, reference="plain", fixed=(), missing=missing)
    text = report.page(Source(tmp_path, "new"), ABOUT)
    page = Page(text)
    page.sound()
    assert page.sections == SECTIONS
    assert "No cell is done yet, so there is no verdict." in text and "shapelex run x.yaml" in text


def test_an_unknown_metric_is_refused_with_the_nearest(finished: Finished, tmp_path: Path) -> None:
    words = ["report", str(finished.file), "--store", str(finished.store.root), "--out", str(tmp_path / "x")]
    wrong = CliRunner().invoke(app, [*words, "--metric", "test/macrof1"])
    assert (wrong.exit_code, (tmp_path / "x").exists()) == (2, False)
    assert wrong.stderr == "no metric 'test/macrof1' in tiny: did you mean 'test/macro_f1'?\n"


@pytest.fixture
def opened(browser: Any, written: tuple[Path, str]) -> Iterator[Any]:
    browser.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    size = {"width": 1000, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(written[0].as_uri())
    yield browser
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_browser_shows_it_offline_without_errors_or_sideways_scrolling(opened: Any) -> None:
    assert opened.get_log("browser") == []
    wide, shown = opened.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide <= shown <= 1000
    heights = opened.execute_script(
        "return Array.from(document.querySelectorAll('body > section')).map(s => s.offsetHeight)"
    )
    assert len(heights) == len(SECTIONS) + 1 and min(heights) > 40
    images = opened.execute_script(
        "return Array.from(document.images).map(i => [i.complete, i.naturalWidth, i.offsetWidth])"
    )
    assert len(images) > 5 and all(done and own > 50 and seen > 50 for done, own, seen in images)
    from_elsewhere = opened.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'))"
    )
    assert from_elsewhere == []


def test_it_prints_on_several_pages_with_what_is_folded_on_the_screen(opened: Any) -> None:
    folded = "return document.querySelector('#provenance details pre').checkVisibility()"
    assert not opened.execute_script(folded)
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert opened.execute_script(folded)
    printed = base64.b64decode(opened.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) > 1
