"""Let atheris invent inputs for the parsers.

    python -m tests.fuzz                         30 seconds for all parsers together
    python -m tests.fuzz --seconds 600 json npy  five minutes for each of two
    python -m tests.fuzz --keep json             take what taught something into the corpus

What was invented stays in .cache/fuzz, and the next run goes on from there. A finding is a file
there as well: put it into the corpus, and the test that replays it fails until it is mended.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tests.fuzz.harness import CORPUS, PARSERS, harness_of

FOUND: Final = Path(".cache/fuzz")

# of one input, by the clock; the harness has a bound of its own, of processor time
TIMEOUT_S: Final = 30
MEMORY_MIB: Final = 2048

# whose branches guide the fuzzer
INSTRUMENTED: Final = ("service", "python_multipart", "PIL")

_COVERAGE: Final = re.compile(r"^#\d+\s.*\bcov: (\d+) ft: \d+ corp: (\d+)/", re.MULTILINE)
_EXECUTIONS: Final = re.compile(r"^stat::number_of_executed_units:\s+(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Report:
    """What came of fuzzing one parser.

    Attributes:
        branches: Reached by all inputs together.
        inputs: Of which each reached something new.
        findings: Files.
    """

    parser: str
    executions: int
    branches: int
    inputs: int
    findings: tuple[Path, ...]

    def __str__(self) -> str:
        return (
            f"{self.parser:16} {self.executions:>12,} {self.branches:>9,} {self.inputs:>7,}"
            f" {len(self.findings):>9}"
        )


HEAD: Final = f"{'parser':16} {'executions':>12} {'branches':>9} {'inputs':>7} {'findings':>9}"


def read_report(parser: str, log: str, findings: Sequence[Path]) -> Report:
    """Read what libFuzzer says of its run."""
    coverage = _COVERAGE.findall(log)
    branches, inputs = map(int, coverage[-1]) if coverage else (0, 0)
    executions = _EXECUTIONS.search(log)
    return Report(
        parser, int(executions[1]) if executions else 0, branches, inputs, tuple(findings)
    )


def _exception(log: str) -> str:
    """What Python said at the end, without all that libFuzzer tells."""
    _, _, said = log.partition("Uncaught Python exception")
    return said.partition("\nINFO: ")[0] if said else log


def write_dictionary(tokens: Sequence[bytes]) -> str:
    """Write tokens as libFuzzer reads them."""
    lines = ('"' + "".join(f"\\x{byte:02x}" for byte in token) + '"' for token in tokens)
    return "\n".join([*lines, ""])


def fuzz(parser: str, seconds: float) -> Report:
    """Fuzz one parser in a process of its own, for libFuzzer ends the one it runs in."""
    folder = FOUND / parser
    findings, inputs = folder / "findings", folder / "inputs"
    for made in (findings, inputs):
        made.mkdir(parents=True, exist_ok=True)
    before = {*findings.iterdir()}
    arguments = [f"-max_total_time={max(1, round(seconds))}", f"-artifact_prefix={findings}/"]
    log = _run(parser, folder, [*arguments, "-print_final_stats=1", str(inputs), _corpus(parser)])
    found = sorted({*findings.iterdir()} - before)
    if "stat::" not in log and not found:  # it did not come so far
        raise SystemExit(f"{parser} could not be fuzzed:\n{log}")
    if found:
        print(_exception(log), file=sys.stderr)
    return read_report(parser, log, found)


def keep(parser: str) -> None:
    """Take what reaches more than the corpus does into it, as few files as possible."""
    inputs = FOUND / parser / "inputs"
    print(_run(parser, inputs.parent, ["-set_cover_merge=1", _corpus(parser), str(inputs)]))


def _corpus(parser: str) -> str:
    return str(CORPUS / parser)


def _run(parser: str, folder: Path, arguments: Sequence[str]) -> str:
    harness = harness_of(parser)
    dictionary = folder / "dictionary"
    dictionary.write_text(write_dictionary(harness.tokens), encoding="ascii")
    limits = [f"-max_len={harness.max_bytes}", f"-timeout={TIMEOUT_S}"]
    limits += [f"-rss_limit_mb={MEMORY_MIB}", f"-dict={dictionary}"]
    command = [sys.executable, "-m", "tests.fuzz", "--inside", parser, *limits, *arguments]
    with tempfile.TemporaryDirectory(prefix="hourglass-fuzz-") as made:
        # libFuzzer leaves without a word to Python, so what the process made is cleared up here
        done = subprocess.run(
            command, env={**os.environ, "TMPDIR": made}, capture_output=True, check=False
        )
    return (done.stdout + done.stderr).decode(errors="replace")


def inside(parser: str, arguments: Sequence[str]) -> None:
    """Fuzz in this process, which ends with it."""
    import atheris  # noqa: PLC0415 - only in the environment of `make fuzz`

    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        harness = harness_of(parser)
    with harness.checker() as check:
        # libFuzzer calls itself by this name when it merges
        myself = f"{sys.executable} -m tests.fuzz --inside {parser}"
        atheris.Setup([myself, *arguments], check)
        atheris.Fuzz()


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["--inside"]:
        inside(arguments[1], arguments[2:])
    options = _parser().parse_args(arguments)
    parsers = options.parsers or PARSERS
    if find_spec("atheris") is None:
        print(
            f"nothing was fuzzed: atheris is not installed here ({platform.python_implementation()}"
            f" {platform.python_version()}, {platform.platform()}); make test replays the corpus"
        )
        return 0
    if options.keep:
        for parser in parsers:
            keep(parser)
        return 0
    print(HEAD, flush=True)
    reports = []
    for parser in parsers:
        reports.append(fuzz(parser, options.seconds / len(parsers)))
        print(reports[-1], flush=True)
    findings = [finding for report in reports for finding in report.findings]
    print(*findings, sep="\n", end="\n" if findings else "")
    return 1 if findings else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parsers", nargs="*", metavar="PARSER", help=", ".join(PARSERS))
    parser.add_argument("--seconds", type=float, default=30, help="for all together (default 30)")
    parser.add_argument("--keep", action="store_true", help="add to the corpus what was found")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
