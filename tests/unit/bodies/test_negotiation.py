"""``Accept`` and ``Accept-Encoding``: the best of what can be given, or a clear no."""

import pytest
from hypothesis import given, settings, strategies as st

from service.bodies.negotiation import (
    COMPRESS_FROM_BYTES,
    JSON,
    NPY,
    PNG,
    RAW,
    choose,
    compress_from,
)
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
        pytest.param(" , ,", JSON, id="nothing but empty ranges"),
        pytest.param("*", JSON, id="a star alone, as old clients have it"),
        pytest.param("application/json;q=0.5, application/x-npy;q=0.5005", NPY, id="four decimals"),
        pytest.param("application/json;q=0., application/x-npy;q=0.001", NPY, id="q=0."),
        pytest.param("application/json;q=1., application/x-npy;q=0.999", JSON, id="q=1."),
        pytest.param("application/json;q=0.000, */*;q=0.001", NPY, id="a zero of three decimals"),
        pytest.param("*/*, application/json;q=high", JSON, id="a broken part is passed over"),
        pytest.param("*/*, application/json;q=1e-1", JSON, id="an exponent is no quality"),
        pytest.param("*/*, application/json;q=0_1", JSON, id="an underscore is no quality"),
        pytest.param(
            "application/json;q=1.001, application/x-npy;q=.1", NPY, id="a little over one"
        ),
        pytest.param("application/x-npy;version=1, */*;q=0.1", NPY, id="a parameter of nobody"),
        pytest.param("application/json;version=1, */*", JSON, id="a parameter and anything"),
        pytest.param(
            "application/x-npy;version=2;q=0.9, application/x-npy;q=0.1, application/json;q=0.5",
            JSON,
            id="the type itself counts before a variant of it",
        ),
        pytest.param("*/*, application/json;version=1;q=0", JSON, id="not another variant"),
        pytest.param("*/*, application/json;charset=UTF-8;q=0", NPY, id="not this very variant"),
        pytest.param(
            'application/json;profile="a,b;q=0", application/x-npy;q=0.9', JSON, id="quoted text"
        ),
        pytest.param(
            'application/json;a="\\",image/png";q=0.1, application/x-npy;q=0.2', NPY, id="escaped"
        ),
        pytest.param('application/x-npy;a="never closed, image/png', NPY, id="a quote left open"),
        pytest.param("application/x-npy;q=0.2;q=0.9, image/png;q=0.5", PNG, id="an extension"),
        pytest.param("application/json, text/plain, */*", JSON, id="axios"),
        pytest.param("text/*, application/json", JSON, id="httpie"),
        pytest.param("application/json, */*;q=0.5", JSON, id="httpie with a body of JSON"),
        pytest.param(
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,"
            "image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7",
            JSON,
            id="Chrome at an address",
        ),
        pytest.param(
            "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5",
            PNG,
            id="Firefox at a picture",
        ),
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
        "*/json",
        "nonsense",
        ";;;",
        ";q=1",
        "application/json;q=2",
        "application/json;version=1;q=0",
        '"',
        '"application/json"',
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


def test_a_hostile_header_is_read_in_no_time():
    for text in ('"\\"' * 20_000, '"' * 60_001, ";" * 60_000, "\\" * 60_000, 'a;b="' * 15_000):
        with pytest.raises(NotAcceptableError):
            choose(text, ALL)


@settings(max_examples=200)
@given(accept=st.text('aj/*;q=0.1, "\\', max_size=30))
def test_any_header_is_answered_or_not_acceptable(accept):
    try:
        chosen = choose(accept, PLAIN)
    except NotAcceptableError:
        return

    assert chosen in PLAIN


LARGE = COMPRESS_FROM_BYTES


@pytest.mark.parametrize(
    ("accept_encoding", "large"),
    [
        pytest.param("", None, id="nothing said"),
        pytest.param("gzip", LARGE, id="gzip"),
        pytest.param("GZip", LARGE, id="capitals"),
        pytest.param("x-gzip", LARGE, id="the old name"),
        pytest.param("gzip, deflate", LARGE, id="requests"),
        pytest.param("gzip, deflate, br, zstd", LARGE, id="a browser"),
        pytest.param("gzip, compress, deflate, br", LARGE, id="axios"),
        pytest.param("deflate, gzip;q=1.0, *;q=0.5", LARGE, id="an example of the standard"),
        pytest.param("gzip;q=1.0, deflate;q=0.6, identity;q=0.3", LARGE, id="Ruby"),
        pytest.param("gzip;q=0.001", LARGE, id="hardly"),
        pytest.param("gzip;q=0.5, identity;q=0.5", LARGE, id="as good as plain"),
        pytest.param("br, deflate", None, id="others alone"),
        pytest.param("identity", None, id="plain"),
        pytest.param("*", None, id="anything, as nobody writes who wants gzip"),
        pytest.param("gzip;q=0", None, id="not gzip"),
        pytest.param("gzip;q=0.000, *", None, id="anything but gzip"),
        pytest.param("gzip;q=0.5, identity", None, id="rather plain"),
        pytest.param("gzip;q=0.5, *", None, id="rather anything else"),
        pytest.param("gzip;q=2", None, id="a broken quality"),
        pytest.param("gzip;q=nan, br", None, id="no number"),
        pytest.param("identity;q=0, gzip", 0, id="never plain"),
        pytest.param("gzip, *;q=0", 0, id="gzip and nothing else"),
        pytest.param("identity;q=0, *", 0, id="anything but plain"),
        pytest.param("identity;q=0, *;q=0.5, br", 0, id="anything but plain, br first"),
        pytest.param("*;q=0, identity", None, id="plain and nothing else"),
    ],
)
def test_whether_an_answer_is_compressed(accept_encoding, large):
    assert compress_from(accept_encoding, JSON) == large


@pytest.mark.parametrize("media", [NPY, RAW, PNG])
def test_what_hardly_shrinks_is_compressed_only_for_who_takes_nothing_else(media):
    assert compress_from("gzip", media) is None
    assert compress_from("gzip, identity;q=0", media) == 0


@pytest.mark.parametrize(
    "accept_encoding", ["identity;q=0", "*;q=0", "br, *;q=0", "gzip;q=0, *;q=0", "*;q=0, gzip;q=0"]
)
def test_a_client_that_takes_no_coding_at_all_gets_none(accept_encoding):
    with pytest.raises(NotAcceptableError, match="Accept-Encoding") as caught:
        compress_from(accept_encoding, JSON)

    assert caught.value.expected == "gzip or identity"


@settings(max_examples=100)
@given(accept_encoding=st.text('gzip*;q=01., "', max_size=30))
def test_any_coding_is_answered_or_not_acceptable(accept_encoding):
    try:
        found = compress_from(accept_encoding, JSON)
    except NotAcceptableError:
        return

    assert found in {None, 0, LARGE}
