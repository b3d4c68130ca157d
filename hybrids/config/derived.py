"""Settings that stand for others: `context` and `vary_facts` for the task's, `batch_tokens` for the examples of a
batch, `match` for the width of the model.

They are worked out before the run is known: its identity holds the sizes and the width alone, and its config.yaml
beside them only what the width was matched to, by which a report knows that stacks of several depths may be compared.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hybrids.errors import UserError
from hybrids.model.backbone import Backbone
from hybrids.model.block import Choice
from hybrids.pattern import Pattern
from hybrids.studies.capacity.search import facts_grid
from hybrids.studies.capacity.settings import check_varies_facts
from hybrids.task import Task
from hybrids.training.run import Run
from hybrids.training.settings import DataSettings
from hybrids.triangle.match import Size, check_quantity, match_width, size_of


def set_context(run: Run, context: int) -> Run:
    """The run at another context of its task, facts in proportion; UserError where the task cannot be there."""
    task = run.task.build()
    try:
        settings = task.at_context(context).settings()
    except UserError as error:
        raise UserError(f"context={context}: {error}") from error
    return _change_task(run, "context", f"context={context}", settings)


def set_facts(run: Run) -> Run:
    """The run whose training shows 1 ... as many facts as its task has, log-uniform; UserError where it cannot.

    At one number of facts K many stacks first learn to answer with any fact, right once in K, and stay there for
    thousands of steps. Examples with few facts lead off that plateau, and those with many are learned on the way.
    """
    try:
        cls = check_varies_facts(run)
    except UserError as error:
        raise UserError(f"vary_facts=true: {error}") from error
    facts = run.task.build().facts
    if facts is None:
        raise UserError("vary_facts=true needs a task with one number of facts; it has several already")
    return _change_task(run, "vary_facts", "vary_facts=true", cls.vary_facts(facts_grid(facts), run.task.settings))


def set_batch(run: Run, batch_tokens: int) -> Run:
    """The run with as many examples in a batch as have so many tokens, whatever the context; UserError for none."""
    length, given = run.task.build().length, run.data.batch_size
    if given != DataSettings().batch_size:
        raise UserError(f"batch_tokens={batch_tokens} would replace data.batch_size={given}; give one of them")
    batch_size = batch_tokens // length
    if batch_size < 1:
        raise UserError(f"batch_tokens={batch_tokens} must be at least the {length} tokens of an example")
    config = {**run.config, "data": {**run.config["data"], "batch_size": batch_size}, "batch_tokens": None}
    return replace(run, data=replace(run.data, batch_size=batch_size), config=config)


def _change_task(run: Run, setting: str, given: str, settings: Mapping[str, Any]) -> Run:
    """The run with these settings of its task; UserError where they would replace a list that the user has given."""
    task: Task = run.task.build()
    defaults = inspect.signature(run.task.cls).parameters
    changed = {name: value for name, value in settings.items() if value != getattr(task, name)}
    for name in changed:
        chosen = getattr(task, name)
        if isinstance(chosen, list) and chosen != defaults[name].default:
            raise UserError(f"{given} would replace task.{name}={chosen}; give one of them")
    config = {**run.config, "task": {**run.config["task"], **changed}, setting: None}
    return replace(run, task=Choice(run.task.cls, {**run.task.settings, **changed}), config=config)


def set_width(run: Run, quantity: str | None, reference: str | None) -> Run:
    """The run at the width where its backbone has as much of `quantity` as the pattern `reference` at `model.d_model`.

    Both after `task.length` tokens. Raises UserError for one without the other, and where no width will do.
    """
    if quantity is None or reference is None:
        given, missing = ("match", "match_to=<pattern>") if reference is None else ("match_to", "match=<quantity>")
        raise UserError(f"{given}={quantity or reference} needs {missing}, as in match=state match_to=LLLA")
    check_quantity(quantity)
    context, width = run.task.build().length, run.model.d_model
    try:
        target = size_of(_builder(run, Pattern.parse(reference)), width, context)
    except UserError as error:
        raise UserError(f"match_to={reference}: {error}") from error
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
