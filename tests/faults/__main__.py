"""Every step of every story with every ending (``docs/reliability.rst``).

``python -m tests.faults [--jobs 1] [--results FILE] [--stories deliver,outage] [--count]``. Run again, it goes on where it was stopped, as long as
neither the program nor the tests changed. ``--count`` only counts steps and runs. Ends with what was found, by kind; exit code 1 if there was any.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from pathlib import Path

from tests.faults.driver import quietly, run
from tests.faults.house import template
from tests.faults.scenarios import SCENARIOS
from tests.faults.whole import Results, example, make, report, table, works

ROUNDS = 2
"""A run that has no result after so many has ended its process."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path(".torture"))
    parser.add_argument("--stories", default="")
    parser.add_argument("--count", action="store_true")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    stories = [story for story in SCENARIOS if not given.stories or story.name in given.stories.split(",")]
    place = template()
    try:
        with quietly():
            bases = {story.name: run(story, place, None) for story in stories}
            for base in bases.values():
                if base.found:
                    print(f"without a fault, {base}")
                    return 1
            counts = {name: base.steps for name, base in bases.items()}
            print(table(counts, ()), flush=True)
            if given.count:
                return 0
            results = Results(given.results, counts)
            todo = works(stories, counts)
            for _ in range(ROUNDS):
                make(todo, place, results, given.jobs)
    finally:
        shutil.rmtree(place.parent)
    made = results.all()
    wrong = report(made, print)
    for result in made:
        if result.found and not result.explained:
            print(example(result))
    if missing := len(todo) - len(made):
        print(f"{missing} runs ended their process")
    return int(wrong or bool(missing))


if __name__ == "__main__":
    sys.exit(main())
