"""Try the service with the software of others, on both sides of it: ``make interop``.

Their clients talk to it, and models that their frameworks exported are imported and served.
"""

import argparse
import sys

from tests.interop import callers, exporters, table


def main() -> int:
    arguments = _parse()
    names = arguments.names or [*callers.CLIENTS, *exporters.SOURCES]
    results: dict[str, bool] = {}
    if clients := [name for name in names if name in callers.CLIENTS]:
        results |= callers.run(clients)
    if sources := [name for name in names if name in exporters.SOURCES]:
        outcomes = exporters.run(sources)
        results |= {name: not outcome.checks.failed for name, outcome in outcomes.items()}
        if arguments.table:
            print(f"\n{table.markdown(row for each in outcomes.values() for row in each.rows)}")
    print()
    for name, has_passed in results.items():
        print(f"{name:16}{'passed' if has_passed else 'FAILED'}")
    return 0 if all(results.values()) else 1


def _parse() -> argparse.Namespace:
    known = [*callers.CLIENTS, *exporters.SOURCES]
    parser = argparse.ArgumentParser(prog="python -m tests.interop", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"all, or some of {', '.join(known)}"
    )
    parser.add_argument(
        "--table",
        action="store_true",
        help="print how far the answers of imported models are from those of their frameworks",
    )
    arguments = parser.parse_args()
    arguments.names = list(dict.fromkeys(arguments.names))
    if unknown := [name for name in arguments.names if name not in known]:
        parser.error(f"there is no client or source {', '.join(unknown)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
