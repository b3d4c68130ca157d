"""Registry entry -> Hydra schema, and the schemas of the commands.

Group = kind of plugin, option = registry name, key = keyword-only argument, default = the signature's default.
"""

import string
from copy import deepcopy
from dataclasses import dataclass, field, make_dataclass
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hybrids import registry
from hybrids.config.explain import NONE
from hybrids.config.quoting import quote_pattern
from hybrids.errors import UserError
from hybrids.pattern import place
from hybrids.studies.capacity.settings import SearchSettings
from hybrids.studies.effective_bits.settings import RoundingSettings
from hybrids.training.settings import (
    CurriculumSettings,
    DataSettings,
    GridSettings,
    LogSettings,
    ModelSettings,
    OptimSettings,
    TrainerSettings,
)


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

    Some stand for others (hybrids/config/derived.py): `context` for the sizes of the task, in proportion, `vary_facts`
    for 1 to as many facts as it has, `batch_tokens` for the examples of a batch, `match` and `match_to` for the width,
    which leave in `matched` what it was made equal to. `plugins` are files that are imported before all else; of those
    that a run uses, config.yaml holds name and SHA-256 instead.
    """

    pattern: Any = None
    mixers: dict[str, Any] = field(default_factory=dict)
    channel: Any = None
    channels: dict[str, Any] = field(default_factory=dict)
    task: Any = None
    model: ModelSettings = field(default_factory=ModelSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    data: DataSettings = field(default_factory=DataSettings)
    curriculum: CurriculumSettings = field(default_factory=CurriculumSettings)
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
    plugins: list[str] = field(default_factory=list)
    sweep: SweepSettings = field(default_factory=SweepSettings)


@dataclass
class EvalConfig(GridSettings):
    """Schema of an evaluation of one run."""

    run: Any = None
    plugins: list[str] = field(default_factory=list)


@dataclass
class CapacityConfig(SearchSettings, TrainConfig):
    """Schema of a search for a capacity: its own settings, and those of its runs. `pattern` may be a list."""


@dataclass
class BitsConfig(RoundingSettings):
    """Schema of a measurement of effective bits on `runs`, each a run folder or a folder of runs."""

    runs: list[str] = field(default_factory=list)
    plugins: list[str] = field(default_factory=list)


@dataclass
class DashboardConfig:
    """Schema of a dashboard: of the runs in `folder`, or of `project` and its groups; or a file to `upload`.

    `group` is one name or several with commas, `entity` a user or team (empty: the default of who uploads), `facts` the
    slice of the scores that counts facts.
    """

    folder: str | None = None
    project: str | None = None
    group: str | None = None
    entity: str = ""
    facts: str | None = None
    upload: str | None = None


SCHEMAS = {
    "train": TrainConfig,
    "eval": EvalConfig,
    "capacity": CapacityConfig,
    "bits": BitsConfig,
    "dashboard": DashboardConfig,
}
"""By command."""


def store_schemas() -> None:
    """Hand Hydra the schemas of the commands and of every registered plugin."""

    def placements(depth: int, count: int, letter: str, others: str) -> str:
        return ",".join(map(quote_pattern, place(depth, count, letter=letter, others=others)))

    OmegaConf.register_new_resolver("placements", placements, replace=True)
    store = ConfigStore.instance()
    for command, schema in SCHEMAS.items():
        store.store(name=f"{command}_schema", node=schema)
    letters = [{f"channel@channels.{letter}": None} for letter in string.ascii_uppercase]
    store.store(name="letters", node={"defaults": letters})
    for entry in registry.entries():
        try:
            store.store(group=entry.kind, name=entry.name, node=schema_of(entry.cls))
        except (ValueError, TypeError, NameError, OmegaConfBaseException) as error:  # must not stop the others
            registry.reject(entry, error)
    for kind in ("mixer", "channel"):
        store.store(group=kind, name=NONE, node={"name": NONE})


def schema_of(cls: type) -> type:
    """Dataclass with the settings of a plugin class, under its registered name."""
    hints, defaults = get_type_hints(cls.__init__), registry.defaults_of(cls)
    untyped = [name for name in defaults if name not in hints]
    if untyped:
        raise UserError(f"setting {untyped[0]!r} has no annotation; give it one")
    settings = []
    for name, value in defaults.items():
        is_shared = isinstance(value, list | dict)
        default = field(default_factory=lambda value=value: deepcopy(value)) if is_shared else value
        settings.append((name, hints[name], default))
    return make_dataclass(cls.__name__, [("name", str, registry.name_of(cls)), *settings], kw_only=True)
