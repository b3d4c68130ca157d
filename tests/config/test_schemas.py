"""Schemas of plugins: their signatures, the options of a group, and what no configuration can hold."""

import inspect
from dataclasses import fields
from typing import get_type_hints

import pytest
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from hybrids import registry
from hybrids.config.schema import schema_of, store_schemas


@pytest.mark.parametrize("entry", registry.entries(), ids=lambda entry: f"{entry.kind}={entry.name}")
def test_the_schema_of_a_plugin_is_its_signature(entry):
    keywords = [p for p in inspect.signature(entry.cls).parameters.values() if p.kind is p.KEYWORD_ONLY]
    hints = get_type_hints(entry.cls.__init__)
    schema = schema_of(entry.cls)
    assert [(f.name, f.type) for f in fields(schema)] == [("name", str), *((p.name, hints[p.name]) for p in keywords)]
    assert vars(schema()) == {"name": entry.name, **{p.name: p.default for p in keywords}}


def test_the_options_of_a_plugin_group_are_the_registry(make_run):
    make_run()
    with initialize_config_module("hybrids_conf", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        for kind in registry.KINDS:
            none = [] if kind == "task" else ["none"]
            assert loader.get_group_options(kind) == sorted([*registry.names(kind), *none])


@pytest.mark.parametrize(
    ("annotation", "default", "reason"),
    [
        ("Literal['a', 'b']", "'a'", "Literal"),
        ("int", "inspect.Parameter.empty", "setting 'size' has no default"),
        (None, "3", "setting 'size' has no annotation"),
        ("NoSuchType", "3", "NoSuchType"),
    ],
)
def test_a_plugin_that_no_configuration_can_hold_is_rejected_alone(monkeypatch, annotation, default, reason):
    for name in ("_entries", "_rejected"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))
    start = "=3" if default == "3" else ("" if "empty" in default else f"={default}")
    code = (
        f"class Odd:\n def __init__(self, d_model: int, *, size{f': {annotation}' if annotation else ''}{start}): ..."
    )
    scope = {"Literal": __import__("typing").Literal, "__name__": __name__}
    exec(compile("from __future__ import annotations\n" + code, "odd", "exec"), scope)
    registry.register("channel", "odd", source="a test")(scope["Odd"])
    store_schemas()
    with pytest.raises(ValueError, match=f"channel 'odd' cannot be used: .*{reason}"):
        registry.get("channel", "odd")
    assert "swiglu" in registry.names("channel")


def test_list_defaults_are_not_shared(monkeypatch):
    class Lists:
        def __init__(self, *, sizes: list[int] = [1, 2]) -> None: ...  # noqa: B006

    monkeypatch.setattr(
        registry, "_entries", {**registry._entries, ("task", "lists"): registry.Entry("task", "lists", Lists, "")}
    )
    first, second = schema_of(Lists)(), schema_of(Lists)()
    first.sizes.append(3)
    assert second.sizes == [1, 2]
