"""`hybrids runs`: finished runs as one table."""

import json

import pytest
from report_runs import entry, scores, write_run


@pytest.fixture
def runs(tmp_path):
    write_run(tmp_path / "runs", "LLLA", test=scores(0.5), triangle=[entry(64, recall=0.9)])
    write_run(tmp_path / "runs", "LL", test=scores(0.9), triangle=[entry(64, recall=0.1)])
    write_run(tmp_path / "runs", "LL", test=scores(0.7), seed=1)
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "config.yaml").write_text("")


def listed(hybrids, *arguments):
    out = hybrids("runs", *arguments, "--format=json").said()
    return [(row["pattern"], row["seed"]) for row in json.loads(out)["rows"]]


def test_runs_are_listed_filtered_and_sorted(hybrids, runs):
    assert listed(hybrids) == [("LL", 0), ("LL", 1), ("LLLA", 0)]
    assert listed(hybrids, "pattern=LL", "seed=1") == [("LL", 1)]
    assert listed(hybrids, "--sort=recall")[0] == ("LLLA", 0)
    assert "not shown: broken: not finished: it has no result.json" in hybrids("runs").said()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["patern=LL"], "'patern' is no column of the runs; did you mean 'pattern'?"),
        (["--sort=accurate"], "'accurate' is no column of the runs; did you mean 'accuracy'?"),
        (["--folder=nowhere"], "nowhere is not a folder; give one that holds runs"),
    ],
)
def test_wrong_arguments_are_one_sentence(hybrids, runs, arguments, sentence):
    assert hybrids("runs", *arguments).complaint().startswith(sentence)
