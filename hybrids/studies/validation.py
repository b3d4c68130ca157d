"""What is wrong with a record that pydantic has refused, in a sentence."""

import reprlib

from pydantic import ValidationError


def explain_refusal(error: ValidationError) -> str:
    """The first field that is missing or wrong, by its place in the record, with its value and what is allowed."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"it has no {field}"
    allowed = first["msg"].replace("Input should", "it should")
    return f"{field} is {reprlib.repr(first['input'])}: {allowed}" if field else allowed
