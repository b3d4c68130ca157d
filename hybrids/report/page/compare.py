"""Which runs of a report differ in what: names for them, the learning rate that stands for a model, trajectories."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hybrids.pattern import Pattern
from hybrids.report.page.collect import ReportedRun, facts_slice
from hybrids.studies.capacity.record import Found

_OWN_AXIS = ("pattern", "seed", "optim.lr")
"""Settings that never name a model: each has an axis, a band or a name of its own."""

_BY_LETTER = ("letters", "backend")


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ by seed only, at the learning rate that validates best on the seeds of all rates."""

    pattern: str
    setting: str
    """What sets it apart from other models of this pattern in this report."""
    task: str
    """What sets its task apart."""
    rate: float | None
    runs: tuple[ReportedRun, ...]

    @property
    def label(self) -> str:
        return join_names(self.pattern, self.setting, self.task)

    @property
    def first(self) -> ReportedRun:
        return self.runs[0]


class Comparison:
    """The runs of a report beside each other, and what searches for a capacity found from them.

    `letter` is the one whose number and place are compared, `facts` the slice of the scores that counts facts
    (None: what the tasks say).
    """

    def __init__(
        self,
        runs: Sequence[ReportedRun],
        letter: str = "A",
        *,
        facts: str | None = None,
        searches: Sequence[Found] = (),
    ) -> None:
        self.runs = list(runs)
        self.letter = letter
        self.facts = facts or facts_slice(runs)
        self.searches = searches
        self._flat = {id(run): flatten(run.identity) for run in self.runs}
        self._configs = {id(run): flatten(run.config) for run in self.runs}
        keys = sorted({key for flat in self._flat.values() for key in flat} - set(_OWN_AXIS))
        self.varying = [key for key in keys if len(self._values(key)) > 1]
        self.naming = self._naming()
        self.runs.sort(
            key=lambda run: (
                self.count(run),
                str(run.pattern),
                self.describe(run, task=False),
                self.describe(run, task=True),
                run.rate or 0.0,
                run.seed,
            )
        )

    def _values(self, key: str) -> set[str]:
        """What a setting is in the runs that have it: a letter's is that of runs with this letter."""
        values = [self.setting(run, key) for run in self.runs]
        return {str(value) for value in values if value is not None or key.partition(".")[0] not in _BY_LETTER}

    def differences(self) -> list[str]:
        """Identity keys of the settings that vary, the pattern, the seed and the learning rate among them."""
        own = [key for key in _OWN_AXIS if len(self._values(key)) > 1]
        return [*own, *self.varying]

    def count(self, run: ReportedRun) -> int:
        """Layers with the compared letter."""
        return sum(self.holds_letter(run))

    def holds_letter(self, run: ReportedRun) -> list[bool]:
        """Layer by layer, whether the compared letter is in it."""
        return [self.letter in layer.letters for layer in run.pattern.layers]

    def setting(self, run: ReportedRun, key: str) -> Any:
        """The value of an identity key; None for a letter that the run does not have."""
        group, _, rest = key.partition(".")
        if group in _BY_LETTER and rest.partition(".")[0] not in run.identity["letters"]:
            return None
        flat, config = self._flat[id(run)], self._configs[id(run)]
        if key in flat:
            return flat[key]
        return next((config[place] for place in _places(key) if place in config), "default")

    def _naming(self) -> list[str]:
        """Settings that vary and name a model: lists and those of `data` only where the others leave it open.

        A mixture and a batch size mostly follow from the context, and a list makes no name.
        """
        rows = [{key: self.setting(run, key) for key in self.varying} for run in self.runs]

        def count(keys: Iterable[str]) -> int:
            return len({tuple(str(row[key]) for key in keys) for row in rows})

        lists = {key for row in rows for key, value in row.items() if isinstance(value, list)}
        named = [key for key in self.varying if key not in lists and not key.startswith("data.")]
        for key in self.varying:
            if key not in named and count([*named, key]) > count(named):
                named.append(key)
        return [key for key in self.varying if key in named]

    def differing(
        self, run: ReportedRun, *, task: bool, without: Iterable[str] = (), named: bool = True
    ) -> dict[str, Any]:
        """The settings, of the task or of all else, that name this run; not `named`: all that vary in this report."""
        chosen = self.naming if named else self.varying
        keys = [key for key in chosen if key.startswith("task.") == task and key not in set(without)]
        values = {key: self.setting(run, key) for key in keys}
        return {key: value for key, value in values.items() if value is not None}

    def describe(self, run: ReportedRun, *, task: bool, without: Iterable[str] = (), named: bool = True) -> str:
        """Those settings in short, such as `L=gla d_model=32`."""
        values = self.differing(run, task=task, without=without, named=named)
        return " ".join(f"{_short(key)}={_brief(value) if named else value}" for key, value in values.items())

    def groups(self) -> list[SeedGroup]:
        """Runs that differ by seed only, for every learning rate."""
        found: dict[tuple[str, str, str, float | None], list[ReportedRun]] = {}
        for run in self.runs:
            settings = self.describe(run, task=False), self.describe(run, task=True)
            found.setdefault((spell_pattern(run.pattern), *settings, run.rate), []).append(run)
        return [SeedGroup(*key, tuple(group)) for key, group in found.items()]

    def models(self) -> list[SeedGroup]:
        """Of the groups that differ by learning rate only, the one that validates best on the seeds they share."""
        rates: dict[str, list[SeedGroup]] = {}
        for group in self.groups():
            rates.setdefault(group.label, []).append(group)
        return [_choose_rate(groups) for groups in rates.values()]

    def families(self) -> dict[str, list[SeedGroup]]:
        """Models that one trajectory joins: equal in all but the pattern, and in depth, unless they were matched.

        A model without some letter belongs to every family that differs in that letter only.
        """
        families: dict[str, list[SeedGroup]] = {}
        models = self.models()
        keyed = [(model, self._family_key(model.first)) for model in models]
        for _, key in keyed:
            if not any(key.items() < other.items() for _, other in keyed):
                name = " ".join(f"{_short(k)}={_brief(v)}" for k, v in key.items())
                families.setdefault(name, [m for m, own in keyed if own.items() <= key.items()])
        return families

    def _family_key(self, run: ReportedRun) -> dict[str, str]:
        values = self.differing(run, task=False) | self.differing(run, task=True)
        if matched := run.config.get("matched"):
            values.pop("model.d_model", None)
            values["matched"] = matched
        elif len({len(other.pattern) for other in self.runs}) > 1:
            values["depth"] = len(run.pattern)
        return {key: str(value) for key, value in values.items()}

    def shared(self) -> dict[str, Any]:
        """Settings that differ from their defaults, or have none, and are the same in every run that has them."""
        flat = {key: value for one in self._flat.values() for key, value in one.items() if value is not None}
        return {_short(key): value for key, value in flat.items() if key not in (*self.varying, *_OWN_AXIS)}


def join_names(*parts: str) -> str:
    """One name of several, of which some may be empty."""
    return " · ".join(filter(None, parts))


def spell_pattern(pattern: Pattern) -> str:
    """Layer by layer where that is short."""
    return str(pattern) if len(pattern) <= 12 else pattern.compact()


def _choose_rate(groups: Sequence[SeedGroup]) -> SeedGroup:
    """Rates are often tried on one seed and the best one on others, so only seeds that all have can compare them."""
    shared = set.intersection(*({run.seed for run in group.runs} for group in groups))

    def validation(group: SeedGroup) -> float:
        scores = [run.result["val"]["accuracy"] for run in group.runs if run.seed in shared or not shared]
        return fmean(-1.0 if score is None else score for score in scores)

    return max(groups, key=validation)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`; lists are values."""
    flat = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def setting_name(key: str) -> str:
    """A key of the identity as the command line spells it: letters.L.mixer.num_heads -> mixers.L.num_heads."""
    return _places(key)[0].removesuffix(".name")


def _places(key: str) -> list[str]:
    """Where config.yaml has a setting that is at its default in the identity."""
    parts = key.split(".")
    if parts[0] == "letters" and len(parts) > 3:
        _, letter, kind, *rest = parts
        name = ".".join(rest)
        return [f"{kind}s.{letter}.{name}", f"{kind}.{name}"]
    return ["trainer.precision"] if key == "precision" else [key]


def _brief(value: Any) -> str:
    """A value as part of a name: a long one by its beginning, and a number that is its own."""
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}... ({hashlib.sha256(text.encode()).hexdigest()[:6]})"


def _short(key: str) -> str:
    """letters.L.mixer.name -> L, letters.L.mixer.num_heads -> L.num_heads, task.length -> length."""
    parts = key.split(".")
    if parts[0] == "letters":
        rest = ([] if parts[2] == "mixer" else [parts[2]]) + [part for part in parts[3:] if part != "name"]
        return ".".join([parts[1], *rest])
    return parts[0] if parts[-1] == "name" else parts[-1] if parts[0] != "backend" else key
