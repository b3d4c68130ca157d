"""Write docs/reliability.md from a run of the slow campaign in tests/reliability: python docs/reliability.py

Takes about half an hour on two cores. It fails, and writes nothing, where a test does.
"""

import subprocess
import sys
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

from hybrids.training.provenance import describe_code, name_cpu

DOCS = Path(__file__).parent

WHAT = {
    "test_a_kill_before_any_change_of_a_file": (
        "SIGKILL before a change of a file, and in the middle of a block that is written",
        "the same command ends bit for bit like an unbroken run",
    ),
    "test_kills_one_after_the_other": (
        "the same, one after the other in one folder",
        "likewise; two checkpoints, no drafts",
    ),
    "test_a_disk_that_is_full_from_any_change_on": (
        "a disk that takes nothing more from a change of a file on",
        "one sentence; once there is room, the end of an unbroken run",
    ),
    "test_a_signal_in_every_phase": (
        "SIGTERM and SIGINT while the model is built, in steps, validation, saving, testing, measuring, writing",
        "the process ends; the end of an unbroken run",
    ),
    "test_a_finished_run_that_is_started_again": (
        "a damaged file of a finished run that is started again",
        "one sentence that names the file, or the same numbers",
    ),
    "test_a_finished_run_that_is_reported": (
        "a damaged file of a finished run that is reported",
        "one sentence that names the file, or the same tables",
    ),
    "test_an_interrupted_run_that_is_started_again": (
        "a damaged file of an interrupted run that is started again",
        "one sentence that names the file, or the end of an unbroken run",
    ),
    "test_bad_input_is_one_sentence_and_leaves_nothing": (
        "wrong command lines",
        "one sentence that names the setting, within 30 s, and no file",
    ),
    "test_a_hostile_folder_reaches_nothing": (
        "hostile run folders: links, resolvers, pickles, bombs, paths that lead outside",
        "one sentence; nothing outside is read, run, written or deleted",
    ),
}

HEAD = """\
# Reliability

Written by `python docs/reliability.py`, which runs the campaign in `tests/reliability` (part of `make slow`) and counts
what it tried. Every command runs in a process of its own, forked from one that has imported hybrids; every change that
it makes to a file below its folder is numbered, so that a kill, a signal or a full disk can come at any of them.

"""


def run_campaign(report: Path) -> None:
    """Run the tests; stops the script where one fails."""
    command = [sys.executable, "-m", "pytest", "tests/reliability", "-m", "", "-n", "2", f"--junitxml={report}"]
    done = subprocess.run(command, cwd=DOCS.parent, check=False)
    if done.returncode:
        sys.exit(f"the campaign failed ({done.returncode}); docs/reliability.md is left as it was")


def count_cases(report: Path) -> dict[str, int]:
    """Test function -> cases that it tried."""
    counts = dict.fromkeys(WHAT, 0)
    for test in ElementTree.parse(report).iter("testcase"):
        for told in test.iter("property"):
            counts[test.attrib["name"].partition("[")[0]] += int(told.attrib["value"])
    return counts


def table(counts: dict[str, int]) -> str:
    lines = ["| what happens | what is held | cases |", "|---|---|---|"]
    lines += [f"| {happens} | {held} | {counts[name]} |" for name, (happens, held) in WHAT.items()]
    return "\n".join(lines)


def main() -> None:
    with TemporaryDirectory() as place:
        report = Path(place, "report.xml")
        run_campaign(report)
        counts = count_cases(report)
    code = describe_code()
    told = f"{sum(counts.values())} cases, all as they should be: {date.today()}, commit {str(code['commit'])[:8]}, "
    told += f"{name_cpu()}, two processes of one thread, torch {code['torch']}, lightning {code['lightning']}."
    (DOCS / "reliability.md").write_text(f"{HEAD}{table(counts)}\n\n{told}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
