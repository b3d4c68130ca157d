"""What a W&B log holds, read from its file: a LevelDB log of records, after 7 bytes of its own."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

BLOCK, HEADER = 32768, 7


class Log(NamedTuple):
    run: Any
    config: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    """The last values of the history, and what was set."""


def read_log(path: Path) -> Log:
    log = Log(None, {}, [], {})
    for record in _records(path.read_bytes()):
        if record.HasField("run"):
            log = log._replace(run=record.run)
            log.config.update({item.key: json.loads(item.value_json) for item in record.run.config.update})
        for kind, items in (("history", record.history.item), ("summary", record.summary.update)):
            values = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
            log.summary.update(values)
            if kind == "history" and values:
                log.history.append(values)
    return log


def _records(data: bytes) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    place, parts = HEADER, b""
    while place + HEADER <= len(data):
        room = BLOCK - place % BLOCK
        if room < HEADER:  # too little for a header: the next block
            place += room
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + HEADER])
        parts += data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record
