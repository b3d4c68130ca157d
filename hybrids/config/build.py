"""Composed configuration -> `Run`."""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hybrids import registry
from hybrids.config.derived import set_batch, set_context, set_facts, set_width
from hybrids.config.explain import NONE, explain, unbound_letter
from hybrids.config.schema import TrainConfig, schema_of
from hybrids.errors import UserError, check_number, suggest
from hybrids.model.block import Choice, Letter
from hybrids.pattern import Pattern
from hybrids.plugin_files import check_given, records
from hybrids.training.curriculum import Curriculum, describe_stages
from hybrids.training.memory import check_length
from hybrids.training.read import check_resolved
from hybrids.training.record import RunFolder
from hybrids.training.run import Run


def build_run(config: DictConfig | Mapping[str, Any]) -> Run:
    """The run that a composed configuration describes, or the one a run folder's config.yaml describes.

    Raises UserError or OmegaConf's errors for a key, type, plugin or letter that does not exist, and for a run that was
    made with plugin files that are not given here. No plugin is imported: who composes has done that.
    """
    is_composed = isinstance(config, DictConfig)  # and only then may a value stand for another
    plain: Any = OmegaConf.to_container(config, resolve=True) if is_composed else deepcopy(dict(config))
    check_resolved(plain)
    recorded = plain.pop("plugins", [])
    if not is_composed:  # else it holds paths
        check_given(recorded)
    chosen = dict(_choices(plain))
    values: Any = OmegaConf.to_object(OmegaConf.merge(_schema_for(chosen), plain))
    check_number("seed", values.seed, 0, 2**32 - 1)
    if not values.runs_dir:
        raise UserError("runs_dir= is empty; give a folder, or leave it out for runs")
    task = _choose("task", values.task)
    assert task is not None
    plain.pop("sweep", None)  # what it has chosen stands in the other settings
    files = records(chosen.values())
    run = Run(
        pattern=Pattern.parse(_spell_pattern(values.pattern)),
        letters=_bind_letters(values),
        task=task,
        model=values.model,
        optim=values.optim,
        data=values.data,
        curriculum=values.curriculum,
        trainer=values.trainer,
        logger=values.logger,
        backend=values.backend,
        seed=values.seed,
        runs_dir=Path(values.runs_dir),
        rerun=values.rerun,
        config=plain | ({"plugins": files} if files else {}),
    )
    if values.context is not None:
        run = set_context(run, values.context)
    if values.vary_facts:
        run = set_facts(run)
    if values.batch_tokens is not None:
        run = set_batch(run, values.batch_tokens)
    if values.match is not None or values.match_to is not None:
        run = set_width(run, values.match, None if values.match_to is None else _spell_pattern(values.match_to))
    return _tell_curriculum(run)


def open_run(path: Path) -> tuple[Run, RunFolder]:
    """A run that was started, from its folder."""
    folder = RunFolder.open(path)
    config = folder.read_config()
    try:
        return build_run(config), folder
    except (OmegaConfBaseException, UserError) as error:
        raise UserError(f"{folder.config_file} cannot be used: {explain(error)}") from None


def _tell_curriculum(run: Run) -> Run:
    """The run with a note on its stages; UserError for sizes that its task cannot have."""
    if not run.curriculum.sizes:
        return run
    check_length(run.task, run.data.batch_size, "data.batch_size")
    stages = Curriculum.of(run, run.task.build()).record()
    return replace(run, notes=(*run.notes, f"curriculum: {describe_stages(stages)}")) if stages else run


def _schema_for(chosen: Mapping[str, registry.Entry]) -> DictConfig:
    """Schema of a run in which every choice of a plugin has the schema of that plugin."""
    schema = OmegaConf.structured(TrainConfig)
    for key, entry in chosen.items():
        OmegaConf.update(schema, key, OmegaConf.structured(schema_of(entry.cls)))
    return schema


def _choices(plain: Mapping[str, Any]) -> Iterator[tuple[str, registry.Entry]]:
    """The plugins that a configuration chooses, and where."""
    places = [("task", "task", plain.get("task")), ("channel", "channel", plain.get("channel"))]
    for group, kind in (("mixers", "mixer"), ("channels", "channel")):
        letters = plain.get(group) or {}
        if isinstance(letters, Mapping):
            places += [(f"{group}.{letter}", kind, node) for letter, node in letters.items()]
    for key, kind, node in places:
        name = _name_of_choice(key, kind, node)
        if name is not None:
            yield key, registry.get(kind, name)


def _name_of_choice(key: str, kind: str, node: Any) -> str | None:
    """Name of the plugin chosen at `key`, None for none; UserError where there is no choice."""
    group, _, letter = key.partition(".")
    if letter and not re.fullmatch("[A-Z]", letter):
        raise UserError(f"{key}: {unbound_letter(letter, [])}")
    if kind != "task" and (node is None or node == {"name": NONE}):
        return None
    if isinstance(node, Mapping) and isinstance(node.get("name"), str):
        return node["name"]
    option = f"{kind}@{group}.{letter}" if letter else kind
    given = "null" if node is None else node
    raise UserError(f"{key}={given} names no {kind}; write {option}=<{kind}>, {suggest('', registry.names(kind))}")


def _bind_letters(values: TrainConfig) -> dict[str, Letter]:
    channels = {name: _choose("channel", node) for name, node in values.channels.items()}
    default = _choose("channel", values.channel)
    for letter in channels:
        if letter not in values.mixers:
            raise UserError(f"channels.{letter} is set, but {unbound_letter(letter, list(values.mixers))}")
    return {name: Letter(_choose("mixer", node), channels.get(name, default)) for name, node in values.mixers.items()}


def _choose(kind: str, node: Any) -> Choice | None:
    """The plugin and settings of a checked node: an instance of its schema, or none."""
    if node is None or isinstance(node, dict):
        return None
    settings = dict(vars(node))
    return Choice(registry.get(kind, settings.pop("name")).cls, settings)


def _spell_pattern(given: Any) -> str:
    """A pattern that Hydra has read as a value, spelt as it was typed."""
    if given is None or isinstance(given, bool):
        return {None: "null", True: "true", False: "false"}[given]
    if isinstance(given, list):
        return f"[{','.join(map(str, given))}]"
    return str(given)
