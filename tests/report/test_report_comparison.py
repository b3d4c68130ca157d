"""Which runs of a report stand for a model, what they are called, and which one path joins."""

from report_runs import entry, scores, table, write_run

from hybrids.report.page.collect import collect
from hybrids.report.page.compare import Comparison


def test_rates_are_compared_on_the_seeds_that_all_of_them_have(tmp_path, report):
    for lr, seed, accuracy in ((0.01, 0, 0.9), (0.03, 0, 0.8), (0.01, 1, 0.4), (0.01, 2, 0.4)):
        write_run(tmp_path, "LA", lr=lr, seed=seed, val=scores(accuracy), test=scores(accuracy))
    report(tmp_path)
    chosen = {row["learning_rate"]: (row["seeds"], row["chosen"]) for row in table(tmp_path, "learning_rates")}
    assert chosen == {"0.01": ("3", "True"), "0.03": ("1", "False")}


def mixture(length, *facts):
    return {"length": length, "num_pairs": max(facts), "segments": [[length, num, 1] for num in facts]}


def test_a_mixture_and_a_batch_size_that_follow_from_the_context_name_nothing(tmp_path, report, recwarn):
    for length, facts in ((16, (1, 2, 3, 4)), (64, (1, 2, 3, 4, 6, 8, 12, 16))):
        sizes = {"task": mixture(length, *facts), "data": {"batch_size": 4096 // length}}
        for pattern in ("LLLL", "LLLA"):
            write_run(tmp_path, pattern, name=f"{pattern}{length}", triangle=[entry(length)], **sizes)
    report(tmp_path)
    assert {row["label"] for row in table(tmp_path, "triangle")} == {
        f"{pattern} · length={length} num_pairs={length // 4}" for pattern in ("LLLL", "LLLA") for length in (16, 64)
    }
    assert {row["family"] for row in table(tmp_path, "triangle")} == {
        f"length={n} num_pairs={n // 4}" for n in (16, 64)
    }
    tasks = [row["task"] for row in table(tmp_path, "runs")]
    assert all("segments=[[" in task for task in tasks)


def test_mixtures_that_nothing_else_tells_apart_have_names_of_a_bearable_length(tmp_path, report):
    for name, facts in (("few", range(1, 16)), ("many", [*range(1, 15), 16])):
        task = mixture(64, *facts) | {"num_pairs": 16}
        write_run(tmp_path, "LA", name=name, triangle=[entry(64)], task=task)
    report(tmp_path)
    labels = {row["label"] for row in table(tmp_path, "triangle")}
    assert len(labels) == 2 and all(len(label) < 60 and "segments=[[64, 1, 1]," in label for label in labels)


def test_the_rate_is_chosen_by_validation_not_by_test(tmp_path, report):
    write_run(tmp_path, "LA", lr=0.003, val=scores(0.6), test=scores(0.9, k8=0.9))
    write_run(tmp_path, "LA", lr=0.01, val=scores(0.7), test=scores(0.5, k8=0.5))
    write_run(tmp_path, "LA", lr=0.1, val=scores(None), test=scores(None))
    report(tmp_path)
    assert [row["accuracy"] for row in table(tmp_path, "accuracy_by_facts")] == ["0.5"]
    chosen = [(row["learning_rate"], row["accuracy"], row["chosen"]) for row in table(tmp_path, "learning_rates")]
    assert chosen == [("0.003", "0.9", "False"), ("0.01", "0.5", "True"), ("0.1", "0.0", "False")]


def test_recurrent_mixers_are_families_that_share_pure_attention(tmp_path):
    for mixer in ("gla", "delta_net"):
        for pattern in ("LL", "LA"):
            write_run(tmp_path, pattern, name=f"{pattern}-{mixer}", mixers={"L": mixer, "A": "attention"})
    write_run(tmp_path, "AA")
    families = Comparison(collect(tmp_path).runs).families()
    found = {name: {model.pattern for model in models} for name, models in families.items()}
    assert found == {"L=gla": {"LL", "LA", "AA"}, "L=delta_net": {"LL", "LA", "AA"}}


def test_patterns_of_different_depth_are_joined_only_when_matched(tmp_path, report):
    for folder, matched, width in (("free", None, 32), ("matched", "params of LL at d_model=32", 24)):
        write_run(tmp_path / folder, "LL", d_model=32, matched=matched, triangle=[entry(64)])
        write_run(tmp_path / folder, "AAA", d_model=width, matched=matched, triangle=[entry(64)])
        assert report(tmp_path / folder)[0] == 0
    assert [row for row in table(tmp_path / "free", "triangle") if row["kind"] == "path"] == []
    assert "patterns of 2, 3 layers are not matched" in (tmp_path / "free" / "report" / "index.html").read_text()
    assert len([row for row in table(tmp_path / "matched", "triangle") if row["kind"] == "path"]) == 2


def test_the_tasks_say_which_slice_counts_facts(tmp_path, report):
    page = tmp_path / "report" / "index.html"
    write_run(tmp_path, "LA", test=scores(0.7, k4=0.8))
    assert Comparison(collect(tmp_path).runs).facts == "num_pairs"
    report(tmp_path)
    assert [row["facts"] for row in table(tmp_path, "accuracy_by_facts")] == ["4"]
    for name in ("copying", "of_a_plugin_that_is_gone"):
        write_run(tmp_path, "LA", name=name, task={"name": name}, test=scores(0.7, k4=0.8))
        report(tmp_path)
        assert table(tmp_path, "accuracy_by_facts") == []
        assert "the tasks name no slice of the scores that counts facts; there are num_pairs" in page.read_text()
    report(tmp_path, "--facts", "num_pairs")
    assert len(table(tmp_path, "accuracy_by_facts")) == 3
    report(tmp_path, "--facts", "num_nodes")
    assert "no test score is split by num_nodes; there are num_pairs" in page.read_text()
