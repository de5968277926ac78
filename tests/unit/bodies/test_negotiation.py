"""``Accept``: the best of what can be given, or a clear no."""

import pytest
from hypothesis import given, settings, strategies as st

from service.bodies.negotiation import JSON, NPY, PNG, RAW, choose
from service.errors import NotAcceptableError

ALL = (JSON, NPY, RAW, PNG)
PLAIN = (JSON, NPY, RAW)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        pytest.param("", JSON, id="nothing said"),
        pytest.param("   ", JSON, id="blanks"),
        pytest.param("*/*", JSON, id="anything"),
        pytest.param("application/*", JSON, id="any application"),
        pytest.param("application/json", JSON, id="json"),
        pytest.param("application/x-npy", NPY, id="npy"),
        pytest.param("application/octet-stream", RAW, id="raw"),
        pytest.param("image/png", PNG, id="png"),
        pytest.param("image/*", PNG, id="any picture"),
        pytest.param("Application/X-NPY", NPY, id="capitals"),
        pytest.param("  application/x-npy  ;  q=1 ", NPY, id="blanks around"),
        pytest.param("application/json; charset=utf-8", JSON, id="parameter"),
        pytest.param("application/json;charset=utf-8;q=0.1, image/png;q=0.2", PNG, id="both"),
        pytest.param("text/html, application/x-npy", NPY, id="unknown one first"),
        pytest.param("application/x-npy, application/json", JSON, id="equal: our order"),
        pytest.param("application/json;q=0.5, application/x-npy", NPY, id="quality"),
        pytest.param("application/json;q=0.5, application/x-npy;q=0.501", NPY, id="thousandth"),
        pytest.param("application/json;Q=0.5, application/x-npy", NPY, id="capital Q"),
        pytest.param("application/json;q = 0.5, application/x-npy", NPY, id="blanks in quality"),
        pytest.param("application/json;q=.2, image/png;q=.3", PNG, id="quality without a zero"),
        pytest.param("*/*;q=0.1, application/x-npy", NPY, id="wildcard is worse"),
        pytest.param("*/*, application/json;q=0.1", NPY, id="specific one counts, though worse"),
        pytest.param("*/*, application/*;q=0.1", PNG, id="narrower wildcard counts"),
        pytest.param("application/*;q=0.2, application/x-npy;q=0.9, */*;q=0.5", NPY, id="three"),
        pytest.param("*/*, application/json;q=0", NPY, id="anything but json"),
        pytest.param("*/*, application/*;q=0", PNG, id="anything but applications"),
        pytest.param("application/json;q=0, application/json", JSON, id="twice: the better one"),
        pytest.param("application/json;q=high, image/png;q=0.1", PNG, id="quality of nonsense"),
        pytest.param("application/json;q=2, image/png;q=0.1", PNG, id="quality over one"),
        pytest.param("application/json;q=-1, image/png;q=0.1", PNG, id="quality below zero"),
        pytest.param("application/json;q=nan, image/png;q=0.1", PNG, id="quality of NaN"),
        pytest.param("application/json;q=inf, image/png;q=0.1", PNG, id="quality of infinity"),
        pytest.param("application/json;q=, image/png;q=0.1", PNG, id="quality of nothing"),
        pytest.param(",,application/x-npy,,", NPY, id="empty ranges"),
        pytest.param(
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,"
            "image/png,image/svg+xml,*/*;q=0.8",
            PNG,
            id="a browser",
        ),
        pytest.param("text/html, image/gif, *; q=.2, */*; q=.2", JSON, id="a Java client"),
    ],
)
def test_the_best_format_is_chosen(accept, chosen):
    assert choose(accept, ALL) == chosen


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "image/jpeg",
        "image/png",
        "image/*",
        "application/json;q=0",
        "*/*;q=0",
        "application/*;q=0, */*;q=0.5",
        "application/json;q=0.0, application/*;q=0",
        "json",
        "*",
        "*/json",
        "nonsense",
        ";;;",
        ",",
        ";q=1",
        "application",
        "application/",
        "applicationjson",
        "\x00\xff",
    ],
)
def test_what_cannot_be_given_is_not_acceptable(accept):
    with pytest.raises(NotAcceptableError, match="none of the formats") as caught:
        choose(accept, PLAIN)

    assert caught.value.expected == (
        "application/json or application/x-npy or application/octet-stream"
    )


def test_no_message_repeats_the_header():
    with pytest.raises(NotAcceptableError) as caught:
        choose("text/secret", PLAIN)

    assert "secret" not in f"{caught.value.detail} {caught.value.expected} {caught.value.received}"


def test_nobody_reads_a_list_without_end():
    assert choose("a/b," * 31 + NPY, ALL) == NPY
    with pytest.raises(NotAcceptableError):
        choose("a/b," * 32 + NPY, ALL)


@settings(max_examples=100)
@given(
    qualities=st.dictionaries(
        st.sampled_from(ALL), st.integers(0, 1000).map(lambda q: q / 1000), min_size=1
    )
)
def test_nothing_better_than_the_chosen_format_was_asked_for(qualities):
    accept = ", ".join(f"{media};q={quality}" for media, quality in qualities.items())
    best = max(qualities.values())

    try:
        chosen = choose(accept, ALL)
    except NotAcceptableError:
        assert best == 0
        return

    assert qualities[chosen] == best > 0
    assert chosen == next(media for media in ALL if qualities.get(media) == best)


@settings(max_examples=100)
@given(accept=st.text("aj/*;q=0.1, ", max_size=30))
def test_any_header_is_answered_or_not_acceptable(accept):
    try:
        chosen = choose(accept, PLAIN)
    except NotAcceptableError:
        return

    assert chosen in PLAIN
