"""``python -m init_container.live_filter FOLDER``: fetches the live filter of an index for a server that runs.

The environment is the puller's, and FILTER names the filter's object. What came is verified; FOLDER gets the data as
``<generation>.hidden``, and standard output one line of JSON: the generation, 0 where there is no filter, and how many
items it hides. Exit status: 0, 64 misconfigured, 65 the filter makes no sense, 75 try again.
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
from model_repository.documents.item_filter import FILTER_LIMIT, decode_hidden, parse_item_filter
from model_repository.environment import Environment
from model_repository.errors import BucketUnavailable, DeliveryError, ObjectMissing, TransientError
from model_repository.exit_codes import ExitCode
from model_repository.log import Log
from model_repository.names import Target

_DEADLINE_SECONDS = 20.0


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> ExitCode:
    """Fetch; returns the exit status."""
    log = Log()
    folder = Path(arguments[0])
    try:
        target = _target(environment)
        config = Config.from_environment({**environment, "DESTINATION": str(folder.absolute())})
        config = replace(config, deadline=_DEADLINE_SECONDS, connections=1)
        generation, hidden = fetch_filter(config, environment, target, folder)
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


def fetch_filter(config: Config, environment: Mapping[str, str], target: Target, folder: Path) -> tuple[int, int]:
    """Fetch the live filter of `target` into `folder`; returns its generation and how many items it hides.

    (0, 0): there is none. Raises `DocumentMalformed`, also for data that aren't what the filter names, and what the
    bucket raises.
    """
    who = credentials.from_environment(environment, anonymous=config.anonymous)
    with closing(Downloader(config, who)) as downloader:
        document = SmallObject(target.filter_name, FILTER_LIMIT)
        try:
            downloader.run(document)
        except ObjectMissing:
            return 0, 0
        if document.answered is None:
            raise BucketUnavailable(f"{target.filter_name}: answered without its generation")
        found = parse_item_filter(bytes(document.data), target)
        data = SmallObject(target.filter_data(found.sha256), found.size)
        downloader.run(data)
    decode_hidden(bytes(data.data), found, data.name)
    partial = folder / f".{document.answered}.partial"
    partial.write_bytes(data.data)
    partial.replace(folder / f"{document.answered}.hidden")
    return document.answered, found.hidden


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
