"""Settings that stand for others: `context` for the sizes of the task, `match` for the width of the model.

They are worked out before the run is known: its identity holds the sizes and the width alone, and its config.yaml
beside them only what the width was matched to, by which a report knows that stacks of several depths may be compared.
"""

from collections.abc import Callable
from dataclasses import replace

from hybrids.backbone import Backbone
from hybrids.block import Choice
from hybrids.pattern import Pattern
from hybrids.run import Run
from hybrids.triangle.match import Size, check_quantity, match_width, size_of


def set_context(run: Run, context: int) -> Run:
    """The run at another context of its task, facts in proportion; ValueError where the task cannot be there."""
    task = run.task.build()
    try:
        settings = task.at_context(context).settings()
    except ValueError as error:
        raise ValueError(f"context={context}: {error}") from error
    changed = {name: value for name, value in settings.items() if value != getattr(task, name)}
    config = {**run.config, "task": {**run.config["task"], **changed}, "context": None}
    return replace(run, task=Choice(run.task.cls, {**run.task.settings, **changed}), config=config)


def set_width(run: Run, quantity: str | None, reference: str | None) -> Run:
    """The run at the width where its backbone has as much of `quantity` as the pattern `reference` at `model.d_model`.

    Both after `task.length` tokens. Raises ValueError for one without the other, and where no width will do.
    """
    if quantity is None or reference is None:
        given, missing = ("match", "match_to=<pattern>") if reference is None else ("match_to", "match=<quantity>")
        raise ValueError(f"{given}={quantity or reference} needs {missing}, as in match=state match_to=LLLA")
    check_quantity(quantity)
    context, width = run.task.build().length, run.model.d_model
    try:
        target = size_of(_builder(run, Pattern.parse(reference)), width, context)
    except ValueError as error:
        raise ValueError(f"match_to={reference}: {error}") from error
    widths = range(1, 4 * width + 1, max(1, width // 64))
    is_same = Pattern.parse(reference) == run.pattern
    build = _builder(run, run.pattern)
    found = target if is_same else match_width(build, quantity, getattr(target, quantity), context, widths)
    matched = f"{quantity} of {reference} at d_model={width}"
    config = {**run.config, "match": None, "match_to": None, "matched": matched}
    config["model"] = {**config["model"], "d_model": found.d_model}
    sizes = f"{_spell(run.pattern.compact(), found)}; {_spell(reference, target)}"
    note = f"match={quantity} after {context} tokens, one sequence, backbone: {sizes}"
    return replace(run, model=replace(run.model, d_model=found.d_model), config=config, notes=(*run.notes, note))


def _builder(run: Run, pattern: Pattern) -> Callable[[int], Backbone]:
    return lambda d_model: Backbone(d_model, pattern, run.letters)


def _spell(pattern: str, size: Size) -> str:
    return (
        f"{pattern} at d_model={size.d_model} has {size.params:,} parameters, {size.state:,} elements of state, "
        f"{size.flops:,} FLOPs a step"
    )
