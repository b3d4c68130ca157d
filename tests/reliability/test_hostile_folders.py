"""A run folder from a stranger reaches nothing outside itself: no file is read, run, written or deleted there."""

import hashlib
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from steady_run import RUN

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SECRET = "canary-of-the-environment"


class Payload:
    """A pickle that makes a file where it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("../ran",)


def newest(folder):
    return max(folder.glob("checkpoints/*.ckpt"))


def change_checkpoint(folder, change):
    """Edit the newest checkpoint as its author could."""
    checkpoint = torch.load(newest(folder), weights_only=False)
    change(checkpoint)
    torch.save(checkpoint, newest(folder))


def saver_state(checkpoint):
    """The state of Lightning's callback that saves, as checkpoints of earlier versions have it."""
    arguments = {"monitor": "step", "mode": "max", "every_n_train_steps": 0, "every_n_epochs": 1}
    state = {
        "dirpath": "",
        "best_k_models": {},
        "best_model_path": "",
        "last_model_path": "",
        "kth_best_model_path": "",
    }
    return checkpoint["callbacks"].setdefault(f"ModelCheckpoint{arguments | {'train_time_interval': None}}", state)


def edit_config(folder, **settings):
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **settings}))


def point(link, target):
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(target)


def name_best_models_outside(folder, outside):
    change_checkpoint(
        folder, lambda it: saver_state(it).update(best_k_models={str(outside): torch.tensor(2.0)}, best_model_path="")
    )


def name_worst_model_outside(folder, outside):
    change_checkpoint(
        folder, lambda it: saver_state(it).update(kth_best_model_path=str(outside), kth_value=torch.tensor(2.0))
    )


def name_last_model_outside(folder, outside):
    change_checkpoint(folder, lambda it: saver_state(it).update(last_model_path=str(outside / "canary.txt")))


def name_another_folder(folder, outside):
    change_checkpoint(folder, lambda it: saver_state(it).update(dirpath=str(outside)))


def hide_a_payload(folder, outside):
    change_checkpoint(folder, lambda it: it.update(extra=Payload()))


def pickle_a_payload(folder, outside):
    for file in folder.glob("checkpoints/*.ckpt"):
        file.write_bytes(pickle.dumps(Payload()))


def give_a_reason_of_many_lines(folder, outside):
    def change(checkpoint):
        for state in checkpoint["callbacks"].values():
            if "reason" in state:
                state["reason"] = "target\nerror: <script>" * 1000

    change_checkpoint(folder, change)


def claim_many_steps(folder, outside):
    change_checkpoint(folder, lambda it: it.update(global_step=10**12))


def link_checkpoints(folder, outside):
    shutil.copytree(folder / "checkpoints", outside / "checkpoints")
    point(folder / "checkpoints", outside / "checkpoints")


def link_newest_checkpoint(folder, outside):
    shutil.move(newest(folder), outside / "checkpoint")
    point(folder / "checkpoints" / "step=00000006.ckpt", outside / "checkpoint")


PLUGIN = """
import os
from hybrids.registry import register

os.mkdir("../ran")

@register("channel", "evil", source="a stranger")
class Evil: ...
"""


def name_a_plugin_file(folder, outside):
    """At the path that it names, in the working folder, and in the folder of the run itself."""
    paths = [place / "evil.py" for place in (outside, folder.parent.parent, folder)]
    for path in paths:
        path.write_text(PLUGIN)
    edit_config(folder, plugins=[*map(str, paths), "evil.py"], channel={"name": "evil"})


def record_a_plugin_file(folder, outside):
    (folder.parent.parent / "evil.py").write_text(PLUGIN)
    digest = hashlib.sha256(PLUGIN.encode()).hexdigest()
    edit_config(folder, plugins=[{"file": "evil.py", "sha256": digest}], channel={"name": "evil"})


def ask_the_environment(folder, outside):
    edit_config(folder, runs_dir="${oc.env:CANARY}")


def ask_the_environment_for_a_pattern(folder, outside):
    edit_config(folder, pattern="${oc.env:CANARY}")


def decode_an_expression(folder, outside):
    edit_config(folder, seed="${oc.decode:'1'}")


def call_python(folder, outside):
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text + "evil: !!python/object/apply:os.mkdir ['../ran']\n")


def blow_up_aliases(folder, outside):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    (folder / "config.yaml").write_text("\n".join(lines))


def nest_deeply(folder, outside):
    (folder / "config.yaml").write_text("a: " + "[" * 20_000 + "]" * 20_000)


def nest_result_deeply(folder, outside):
    (folder / "result.json").write_text("[" * 200_000 + "]" * 200_000)


def give_a_long_number(folder, outside):
    (folder / "result.json").write_text('{"version": ' + "9" * 100_000 + "}")


def give_a_wide_row(folder, outside):
    (folder / "metrics.csv").write_text("step,metric,value\r\n" + "1" * 300_000 + ",train/loss,1\r\n")


def ask_for_a_wide_model(folder, outside):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    edit_config(folder, model={**config["model"], "d_model": 10**9})


def make_linker(name):
    def link(folder, outside):
        point(folder / name, outside / "canary.txt")

    link.__name__ = f"link_{name}"
    return link


def link_report(folder, outside):
    point(folder.parent / "report", outside)


def link_page(folder, outside):
    point(folder.parent / "report" / "index.html", outside / "canary.txt")


def link_evaluation(folder, outside):
    point(folder / "eval", outside)


TRAIN, EVAL, REPORT, BITS = RUN, ("eval", "run={run}"), ("report", "runs"), ("bits", "{run}", "num_examples=16")
INTERRUPTED = (
    name_best_models_outside,
    name_worst_model_outside,
    name_last_model_outside,
    name_another_folder,
    hide_a_payload,
    pickle_a_payload,
    give_a_reason_of_many_lines,
    claim_many_steps,
    link_checkpoints,
    link_newest_checkpoint,
    name_a_plugin_file,
    *(make_linker(name) for name in ("metrics.csv", ".lock", "config.yaml", "result.json")),
)
FINISHED = (
    name_a_plugin_file,
    record_a_plugin_file,
    ask_the_environment,
    ask_the_environment_for_a_pattern,
    decode_an_expression,
    call_python,
    blow_up_aliases,
    nest_deeply,
    nest_result_deeply,
    give_a_long_number,
    give_a_wide_row,
    ask_for_a_wide_model,
    hide_a_payload,
    pickle_a_payload,
    *(make_linker(name) for name in ("metrics.csv", "config.yaml", "result.json", "eval/grid.csv")),
    link_report,
    link_page,
    link_evaluation,
)
CASES = [
    *(pytest.param(make, TRAIN, True, id=f"train-{make.__name__}") for make in INTERRUPTED),
    *(
        pytest.param(make, command, False, id=f"{command[0]}-{make.__name__}")
        for command in (TRAIN, EVAL, REPORT, BITS)
        for make in FINISHED
    ),
]


@pytest.mark.parametrize(("make", "command", "is_interrupted"), CASES)
def test_a_hostile_folder_reaches_nothing(forks, finished, tmp_path, make, command, is_interrupted, count):
    place, outside = tmp_path / "inside", tmp_path / "outside"
    shutil.copytree(finished, place)
    outside.mkdir()
    (outside / "canary.txt").write_text("canary")
    (outside / "table.csv").write_text("canary")
    (folder,) = Path(place, "runs").iterdir()
    if is_interrupted:
        (folder / "result.json").unlink()
    make(folder, outside)
    before = tree_of(outside)
    arguments = [part.format(run=folder.relative_to(place)) for part in command]
    ended = forks.run(place, *arguments, limit=60)
    assert ended.code != "still running"
    assert "Traceback" not in ended.err, ended.err
    assert SECRET not in ended.out + ended.err
    assert max(map(len, ended.err.splitlines()), default=0) < 2000, "a sentence, not a page"
    assert tree_of(outside) == before
    assert not (tmp_path / "ran").exists() and not (place / "ran").exists()
    count(1)


def tree_of(place):
    return {str(path): path.read_bytes() for path in place.rglob("*") if path.is_file()}
