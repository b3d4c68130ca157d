"""What the JSON of a dashboard names."""


def found(node, key):
    """All values under a key, anywhere in a definition."""
    if isinstance(node, dict):
        yield from ([node[key]] if key in node else [])
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from found(one, key)


def named(record) -> dict[str, set[str]]:
    """The keys that panels and tables of runs name, by where W&B looks for them; from the JSON alone."""
    keys: dict[str, set[str]] = {"history": set(), "summary": set(), "config": set(), "figures": set()}
    panels = [panel for panels in found(record, "panels") if isinstance(panels, list) for panel in panels]
    for panel in panels:
        config, kind = panel["config"], panel["viewType"]
        plain = {"Run History Line Plot": "history", "Bar Chart": "summary"}
        accessors = [config.get(axis) for axis in ("xAxis", "yAxis")] if kind == "Scatter Plot" else []
        if kind in plain:
            keys[plain[kind]] |= {*config["metrics"], *([config["xAxis"]] if "xAxis" in config else [])}
            keys["config"].add(config["groupBy"].replace(".value", "", 1))
        elif kind == "Parallel Coordinates Plot":
            accessors = [column["accessor"] for column in config["columns"]]
        elif kind == "Weave":
            keys["summary"] |= {one["val"] for one in found(config, "key") if isinstance(one, dict)}
        elif kind == "Media Browser":
            keys["figures"] |= set(config["mediaKeys"])
        else:
            assert kind == "Scatter Plot"
        _sort_in(keys, accessors)
    for columns in found(record, "columnOrder"):
        _sort_in(keys, columns)
    for sort in found(record, "sort"):
        keys["summary"] |= {one["key"]["name"] for one in sort["keys"] if one["key"]["section"] == "summary"}
    return keys


def _sort_in(keys, accessors):
    for accessor in accessors:
        section, _, name = accessor.partition(":")
        if section != "run":
            keys[section].add(name.replace(".value", "", 1) if section == "config" else name)
