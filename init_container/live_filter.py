"""Fetches the live filter of an index for a server that runs: ``python -m init_container.live_filter FOLDER``.

The environment is the puller's, and FILTER names the filter's object. What came is verified; FOLDER gets the data as
``<generation>.hidden``, and standard output one line of JSON: the generation, 0 where there is no filter, and how many
items it hides. With ``--or-last-good`` after FOLDER, for a server that has none yet: where the live filter makes no
sense, the one that was last in force on every pod is fetched, and none where there never was one, which is what other
pods hide then. Exit status: 0, 64 misconfigured, 65 the filter makes no sense, 75 try again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from init_container.config import Config
from init_container.network import credentials
from init_container.network.downloader import Downloader
from init_container.network.jobs import SmallObject
from model_repository.documents.items.item_filter import (
    FILTER_LIMIT,
    LiveFilter,
    decode_hidden,
    parse_item_filter,
    parse_last_good_filter,
)
from model_repository.errors import BucketUnavailable, DeliveryError, DocumentMalformed, ObjectMissing, TransientError
from model_repository.exit_codes import ExitCode
from model_repository.names import Target
from model_repository.programs.environment import Environment
from model_repository.telemetry.log import Log

_OR_LAST_GOOD = "--or-last-good"
_DEADLINE_SECONDS = 20.0


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> ExitCode:
    """Fetch; returns the exit status."""
    log = Log()
    folder, or_last_good = Path(arguments[0]), arguments[1:] == [_OR_LAST_GOOD]
    try:
        target = _target(environment)
        config = Config.from_environment({**environment, "DESTINATION": str(folder.absolute())})
        config = replace(config, deadline=_DEADLINE_SECONDS, connections=1)
        generation, hidden = fetch_filter(config, environment, target, folder, log if or_last_good else None)
    except DeliveryError as error:
        log.error(str(error), code=error.code)
        if isinstance(error, TransientError):
            return ExitCode.TRY_AGAIN
        return ExitCode.USAGE if error.exit_code is ExitCode.USAGE else ExitCode.DATA
    sys.stdout.write(json.dumps({"generation": generation, "hidden": hidden}) + "\n")
    return ExitCode.OK


def _target(environment: Mapping[str, str]) -> Target:
    read = Environment(environment)
    target = read.parsed("FILTER", Target.from_filter_name, "filters/<environment>/<index>.json")
    read.done()
    return target


def fetch_filter(
    config: Config, environment: Mapping[str, str], target: Target, folder: Path, log: Log | None
) -> tuple[int, int]:
    """Fetch the filter of `target` that pods should have into `folder`; returns its generation and how many it hides.

    log: of what is wrong with the live one where the last good one will do, too; None where it won't.
    (0, 0): there is none. Raises `DocumentMalformed` or `ObjectMissing` for one that isn't what it says, and what the
    bucket raises.
    """
    who = credentials.from_environment(environment, anonymous=config.anonymous)
    with closing(Downloader(config, who)) as downloader:
        try:
            found, data = _live(downloader, target)
        except _Nothing:
            return 0, 0
        except (DocumentMalformed, ObjectMissing) as error:
            if log is None:
                raise
            log.error(f"the last good filter goes on: {error}", code=error.code)
            try:
                found, data = _last_good(downloader, target)
            except _Nothing:
                return 0, 0
    partial = folder / f".{found.generation}.partial"
    partial.write_bytes(data)
    partial.replace(folder / f"{found.generation}.hidden")
    return found.generation, found.filter.hidden


class _Nothing(Exception):
    """There is no such object."""


def _live(downloader: Downloader, target: Target) -> tuple[LiveFilter, bytes]:
    document = _read(downloader, target.filter_name)
    if document.answered is None:
        raise BucketUnavailable(f"{target.filter_name}: answered without its generation")
    live = LiveFilter(target, document.answered, parse_item_filter(bytes(document.data), target))
    return live, _data(downloader, live)


def _last_good(downloader: Downloader, target: Target) -> tuple[LiveFilter, bytes]:
    good = parse_last_good_filter(bytes(_read(downloader, target.last_good_filter_name).data), target)
    return good, _data(downloader, good)


def _read(downloader: Downloader, name: str) -> SmallObject:
    document = SmallObject(name, FILTER_LIMIT)
    try:
        downloader.run(document)
    except ObjectMissing:
        raise _Nothing from None
    return document


def _data(downloader: Downloader, live: LiveFilter) -> bytes:
    data = SmallObject(live.data, live.filter.size)
    downloader.run(data)
    decode_hidden(bytes(data.data), live.filter, data.name)
    return bytes(data.data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
