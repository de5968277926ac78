"""What fuzzing has taught, again: the corpus, and mutations of it that need no fuzzer."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.fuzz.harness import PARSERS, Check, Harness, corpus_of, harness_of

EXAMPLES = 150
CORPUS_MAX_BYTES = 300_000


@pytest.fixture(scope="module", params=PARSERS)
def parser(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def check(parser: str) -> Iterator[Check]:
    with ExitStack() as stack:
        yield stack.enter_context(harness_of(parser).checker())


def test_every_input_of_the_corpus_is_read_as_the_reference_reads_it(parser, check):
    files = corpus_of(parser)
    assert files

    for file in files:
        try:
            check(file.read_bytes())
        except BaseException as error:
            error.add_note(f"on {file}")
            raise


def mutated(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    for place, removed, added in edits:
        at = round(place * len(data))
        data = data[:at] + added + data[at + removed :]
    return data


def mutations(parser: str, harness: Harness) -> st.SearchStrategy[bytes]:
    """Inputs of the corpus with a few edits, or the beginning of one and the end of another."""
    inputs = st.sampled_from([file.read_bytes() for file in corpus_of(parser)])
    pieces = st.sampled_from(harness.tokens) | st.binary(max_size=4) | inputs
    edit = st.tuples(st.floats(0, 1), st.integers(0, 16), pieces)
    made = st.builds(mutated, inputs, st.lists(edit, max_size=4))
    return made.map(lambda data: data[: harness.max_bytes])


def test_every_mutation_of_the_corpus_is_read_as_the_reference_reads_it(parser, check):
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(mutations(parser, harness_of(parser)))
    def run(data: bytes) -> None:
        check(data)

    run()


def test_the_corpus_is_small():
    sizes = [file.stat().st_size for parser in PARSERS for file in corpus_of(parser)]

    assert sum(sizes) < CORPUS_MAX_BYTES
