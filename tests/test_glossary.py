"""docs/metrics.md has a line for every logged name, and no line for a name that nothing logs; README names
them all."""

import json
import re
import time
from pathlib import Path

import pytest
from conftest import run_trial

from experiments import data, encoder
from experiments.config import RunConfig
from experiments.evaluation import evaluate
from experiments.execute import Job
from experiments.identity import FileDigests
from experiments.ledger import Store
from experiments.words import read_words
from model.config import LossConfig

ROOT = Path(__file__).parent.parent
GLOSSARY = (ROOT / "docs/metrics.md").read_text()
ON_GPU_ONLY = {"cost/peak_gpu_memory_mb", "system/gpu_memory_mb"}
PLANTED_ONLY = {  # tests/test_meaning.py has them
    "meaning/recovered_frac",
    *(f"meaning/event_{name}" for name in ("nmi", "nmi_null", "nmi_p", "purity", "purity_null")),
}
SMALL = {"patches": 5, "tokens": 5, "width": 16, "heads": 2, "codes": 8, "shape_length": 16}
EVERYTHING = {
    "model": {
        **SMALL,
        "keep_scale": True,
        "text_codes": True,
        "sub_actions": "head",
        "guidance": {"attention": "two_way"},
    },
    "losses": {name: 0.1 for name, field in LossConfig.model_fields.items() if field.default == 0.0},
    "train": {"epochs": 1},
}


def written(name: str) -> set[str]:
    rows = GLOSSARY.split(f"\n## {name}")[1].split("\n## ")[0].splitlines()
    return {found.group(1) for row in rows if (found := re.match(r"\| `([^`]+)` \|", row))}


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    store = Store(tmp_path_factory.mktemp("store"))
    files, entry = FileDigests(store.cache), data.DATASETS["basic_motions"]
    names = ("final", "epoch", "cost", "evaluation", "system")
    found: dict[str, set[str]] = {name: set() for name in names}
    jobs = []
    baselines = [{"baseline": name} for name in ("statistics", "minirocket")]
    fcn = {"baseline": "fcn", "train": {"epochs": 1}}
    for i, settings in enumerate((EVERYTHING, *baselines, fcn)):
        config = RunConfig.model_validate(settings)
        digests = {
            "data": data.data_digest(files.of(entry.files(data.root()))),
            "text": read_words(config).digest,
            "encoder": files.of(encoder.files("minilm")),
        }
        signature = f"{i:016x}"
        dumped = config.model_dump(mode="json")
        jobs.append(Job(signature, dumped, digests, str(store.root), "cpu", "test", time.time()))
        run_trial(jobs[-1])
        result = store.result(signature)
        assert result is not None and result["status"] == "done", result
        found["final"] |= {
            re.sub("/(tokens|tokens_ze|pooled|histogram|statistics|minirocket)/", "/<representation>/", k)
            for k in result["metrics"]
        }
        found["cost"] |= {f"cost/{name}" for name in result["cost"]}
        curves = store.trial(signature) / "metrics.jsonl"
        if curves.exists():
            found["epoch"] |= {k for line in curves.read_text().splitlines() for k in json.loads(line)} - {
                "epoch"
            }
            lines = (store.trial(signature) / "system.jsonl").read_text().splitlines()
            found["system"] |= {f"system/{name}" for line in lines for name in json.loads(line)}
    found["system"] -= {"system/epoch"}
    evaluate([jobs[0], jobs[-1]], False)
    evaluation = json.loads((store.trial(jobs[0].signature) / "evaluation.json").read_text())
    found["evaluation"] = {
        re.sub("^robust/(noise|scale|rotation|dropped)/[0-9.]+/", "robust/<kind>/<strength>/", k)
        for k in evaluation["metrics"]
    }
    return found


@pytest.mark.parametrize(
    ("heading", "kind", "elsewhere"),
    [
        ("Of a trial", "final", set()),
        ("Of an evaluation", "evaluation", PLANTED_ONLY),
        ("Of an epoch", "epoch", set()),
        ("Cost", "cost", ON_GPU_ONLY),
        ("System", "system", ON_GPU_ONLY),
    ],
)
def test_the_glossary_and_a_real_trial_name_the_same(
    logged: dict[str, set[str]], heading: str, kind: str, elsewhere: set[str]
) -> None:
    assert written(heading) - elsewhere == logged[kind]


def test_the_readme_names_every_metric_of_the_glossary_and_no_other() -> None:
    section = (ROOT / "README.md").read_text().split("\n## Metrics\n")[1].split("\n## ")[0]
    rows = [line.split("|")[2] for line in section.partition("|---|")[2].splitlines() if line.count("|") == 3]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)} - {"result.json"}
    headings = ("Of a trial", "Of an evaluation", "Of an epoch", "Cost", "System")
    assert named == set().union(*map(written, headings))


def test_every_line_says_which_way_is_better_or_that_none_is() -> None:
    lines = [line.split("|") for line in GLOSSARY.splitlines() if line.startswith("| `")]
    assert len(lines) > 40 and {line[2].strip() for line in lines} == {"up", "down", ""}
    assert all(len(line[3].strip()) > 7 for line in lines)
