"""``python -m tests.simulation``: many seeds, or the story of one."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.simulation.run import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many worlds (default: 100)")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="one world alone")
    parser.add_argument("--events", type=int, default=1000, help="in each world (default: 1000)")
    parser.add_argument("--indexes", type=int, help="in each world (default: 1 to 6, from the seed)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--story", action="store_true", help="tell what happened")
    options = parser.parse_args()
    if options.seed is not None:
        result = run(options.seed, events=options.events, indexes=options.indexes, story=options.story)
        sys.stdout.write("".join(f"{line}\n" for line in result.story))
        sys.stdout.write(f"seed {result.seed}: {result.steps} events: {result.broken or 'all held'}\n")
        return bool(result.broken)
    seeds = range(options.first, options.first + options.seeds)
    begun = time.monotonic()
    with ProcessPoolExecutor(options.processes) as pool:
        results = []
        for result in pool.map(partial(run, events=options.events, indexes=options.indexes), seeds):
            results.append(result)
            if result.broken:
                sys.stdout.write(f"seed {result.seed}: {result.broken}\n")
                sys.stdout.flush()
    events, commits, faults = (sum(getattr(r, f) for r in results) for f in ("steps", "commits", "faults"))
    broken = sum(bool(result.broken) for result in results)
    seconds = time.monotonic() - begun
    sys.stdout.write(
        f"{len(results)} worlds, {events} events, {commits} commits, {faults} faults in {seconds:.0f} s; "
        f"{broken} broken\n"
    )
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
