"""Registry entry -> Hydra schema, composed configuration -> `Run`.

Group = kind of plugin, option = registry name, key = keyword-only argument, default = the signature's default.
"""

import re
import string
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hybrids import registry
from hybrids.block import Choice, Letter
from hybrids.data import DataSettings
from hybrids.explain import NONE, explain, unbound_letter
from hybrids.logs import LogSettings
from hybrids.optim import OptimSettings
from hybrids.pattern import Pattern, place
from hybrids.record import RunFolder
from hybrids.registry import suggest
from hybrids.resolve import set_batch, set_context, set_facts, set_width
from hybrids.run import ModelSettings, Run, TrainerSettings

_NULL_GROUP = re.compile(r"\+{0,2}(arch|task|trainer|logger|(mixer|channel)(@[\w.]+)?)=null")


@dataclass
class SweepSettings:
    """What sweep=placement places: `num_attention` letters `attention` among `others`, in a stack of `depth`."""

    depth: int = 4
    num_attention: int = 1
    attention: str = "A"
    others: str = "L"


@dataclass
class TrainConfig:
    """Schema of a run. Plugin groups hold the schema of the chosen plugin, so they are typed there.

    Some stand for others (hybrids/resolve.py): `context` for the sizes of the task, in proportion, `vary_facts` for 1
    to as many facts as it has, `batch_tokens` for the examples of a batch, `match` and `match_to` for the width, which
    leave in `matched` what it was made equal to.
    """

    pattern: Any = None
    mixers: dict[str, Any] = field(default_factory=dict)
    channel: Any = None
    channels: dict[str, Any] = field(default_factory=dict)
    task: Any = None
    model: ModelSettings = field(default_factory=ModelSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    data: DataSettings = field(default_factory=DataSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    logger: LogSettings = field(default_factory=LogSettings)
    backend: str = "auto"
    seed: int = 0
    runs_dir: str = "runs"
    rerun: bool = False
    context: int | None = None
    vary_facts: bool | None = None
    batch_tokens: int | None = None
    match: str | None = None
    match_to: Any = None
    matched: str | None = None
    sweep: SweepSettings = field(default_factory=SweepSettings)


@dataclass
class EvalConfig:
    """Schema of an evaluation. `sizes` maps a size of the task to the values of the grid; empty: the task's own."""

    run: Any = None
    sizes: dict[str, list[int]] = field(default_factory=dict)
    num_examples: int = 512
    num_decoded_examples: int = 64
    batch_size: int = 64
    accelerator: str = "cpu"
    backend: str | None = None
    threads: int | None = None


def store_schemas() -> None:
    """Hand Hydra the schemas of runs, evaluations and every registered plugin."""
    OmegaConf.register_new_resolver("placements", _spell_placements, replace=True)
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="eval_schema", node=EvalConfig)
    letters = [{f"channel@channels.{letter}": None} for letter in string.ascii_uppercase]
    store.store(name="letters", node={"defaults": letters})
    for entry in registry.entries():
        try:
            store.store(group=entry.kind, name=entry.name, node=schema_of(entry.cls))
        except (ValueError, TypeError, NameError, OmegaConfBaseException) as error:  # must not stop the others
            registry.reject(entry, error)
    for kind in ("mixer", "channel"):
        store.store(group=kind, name=NONE, node={"name": NONE})


def _spell_placements(depth: int, count: int, letter: str, others: str) -> str:
    return ",".join(place(depth, count, letter=letter, others=others))


def schema_of(cls: type) -> type:
    """Dataclass with the settings of a plugin class, under its registered name."""
    hints, defaults = get_type_hints(cls.__init__), registry.defaults_of(cls)
    untyped = [name for name in defaults if name not in hints]
    if untyped:
        raise ValueError(f"setting {untyped[0]!r} has no annotation; give it one")
    settings = [(name, hints[name], _default(value)) for name, value in defaults.items()]
    return make_dataclass(cls.__name__, [("name", str, registry.name_of(cls)), *settings], kw_only=True)


def _default(value: Any) -> Any:
    return field(default_factory=lambda: deepcopy(value)) if isinstance(value, list | dict) else value


def spell_overrides(arguments: Sequence[str]) -> list[str]:
    """Command line arguments as Hydra takes them, `-m` first; ValueError for a group without an option."""
    for argument in arguments:
        if _NULL_GROUP.fullmatch(argument):
            raise ValueError(f"{argument} is not allowed: name an option; `none` is no mixer, or no channel mixer")
    spelt = [re.sub(r"^(\+{0,2})channel@channel=", r"\1channel=", argument) for argument in arguments]
    single = [re.sub(r"^(sizes\.\w+)=(-?\d+)$", r"\1=[\2]", argument) for argument in spelt]
    ours = [re.sub(r"^sizes\.", "++sizes.", argument) for argument in single]  # Hydra takes keys of a dict as new
    return sorted(ours, key=lambda argument: argument not in ("-m", "--multirun"))


def build_run(config: DictConfig | Mapping[str, Any]) -> Run:
    """The run that a composed configuration describes, or the one a run folder's config.yaml describes.

    Raises ValueError or OmegaConf's errors for a key, type, plugin or letter that does not exist.
    """
    node = config if isinstance(config, DictConfig) else OmegaConf.create(dict(config))
    plain: Any = OmegaConf.to_container(node, resolve=True)
    values: Any = OmegaConf.to_object(OmegaConf.merge(_schema_for(plain), plain))
    if not 0 <= values.seed < 2**32:
        raise ValueError(f"seed={values.seed} must lie between 0 and {2**32 - 1}")
    task = _choose("task", values.task)
    assert task is not None
    plain.pop("sweep", None)  # what it has chosen stands in the other settings
    run = Run(
        pattern=Pattern.parse(_spell_pattern(values.pattern)),
        letters=_bind_letters(values),
        task=task,
        model=values.model,
        optim=values.optim,
        data=values.data,
        trainer=values.trainer,
        logger=values.logger,
        backend=values.backend,
        seed=values.seed,
        runs_dir=Path(values.runs_dir),
        rerun=values.rerun,
        config=plain,
    )
    if values.context is not None:
        run = set_context(run, values.context)
    if values.vary_facts:
        run = set_facts(run)
    if values.batch_tokens is not None:
        run = set_batch(run, values.batch_tokens)
    if values.match is not None or values.match_to is not None:
        run = set_width(run, values.match, None if values.match_to is None else _spell_pattern(values.match_to))
    return run


def open_run(path: Path) -> tuple[Run, RunFolder]:
    """A run that was started, from its folder."""
    folder = RunFolder.open(path)
    try:
        return build_run(folder.read_config()), folder
    except (OmegaConfBaseException, ValueError) as error:
        raise ValueError(f"{folder.config_file} cannot be used: {explain(error)}") from None


def _schema_for(plain: Mapping[str, Any]) -> DictConfig:
    """Schema of a run in which every choice of a plugin has the schema of that plugin."""
    schema = OmegaConf.structured(TrainConfig)
    places = [("task", "task", plain.get("task")), ("channel", "channel", plain.get("channel"))]
    for group, kind in (("mixers", "mixer"), ("channels", "channel")):
        letters = plain.get(group) or {}
        if isinstance(letters, Mapping):
            places += [(f"{group}.{letter}", kind, node) for letter, node in letters.items()]
    for key, kind, node in places:
        name = _name_of_choice(key, kind, node)
        if name is not None:
            OmegaConf.update(schema, key, OmegaConf.structured(schema_of(registry.get(kind, name).cls)))
    return schema


def _name_of_choice(key: str, kind: str, node: Any) -> str | None:
    """Name of the plugin chosen at `key`, None for none; ValueError where there is no choice."""
    group, _, letter = key.partition(".")
    if letter and not re.fullmatch("[A-Z]", letter):
        raise ValueError(f"{key}: {unbound_letter(letter, [])}")
    if kind != "task" and (node is None or node == {"name": NONE}):
        return None
    if isinstance(node, Mapping) and isinstance(node.get("name"), str):
        return node["name"]
    option = f"{kind}@{group}.{letter}" if letter else kind
    given = "null" if node is None else node
    raise ValueError(f"{key}={given} names no {kind}; write {option}=<{kind}>, {suggest('', registry.names(kind))}")


def _bind_letters(values: TrainConfig) -> dict[str, Letter]:
    channels = {name: _choose("channel", node) for name, node in values.channels.items()}
    default = _choose("channel", values.channel)
    for letter in channels:
        if letter not in values.mixers:
            raise ValueError(f"channels.{letter} is set, but {unbound_letter(letter, list(values.mixers))}")
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
