"""Heads that the parser takes and nobody should: hosts, targets, codings, sizes."""

import pytest

from service.api.heads import (
    HEADER_MAX_BYTES,
    HEADERS_MAX,
    HEADERS_MAX_BYTES,
    TARGET_MAX_BYTES,
    check_headers,
    check_target,
)
from service.errors import LongHeadError, LongTargetError, MalformedBodyError

HOST = (b"host", b"test")
CHUNKED = (b"transfer-encoding", b"chunked")


@pytest.mark.parametrize(
    "host",
    [
        *(b"test", b"a.example.com", b"a.example.com:8000", b"example.com:", b"127.0.0.1:1"),
        *(b"[::1]", b"[::1]:65535", b"[2001:db8::7]", b"xn--bcher-kva.example", b"_dns.local"),
        *(b"a%20b", b"a,b", b"UPPER", b"trailing.dot.", b"x" * 255),
    ],
)
def test_a_host_is_a_name_or_an_address_with_or_without_a_port(host):
    check_headers("1.1", [(b"host", host)])


@pytest.mark.parametrize(
    "host",
    [
        *(b"", b" ", b"a b", b"a\tb", b"a/b", b"user@a", b"a?b", b"a#b", b"a\\b", b"<a>"),
        *(b"a:b", b"a:1:2", b"a:65536", b"a:-1", b"a:999999", b":80", b"a%2", b"a%zz", b"\xe4"),
        *(b"::1", b"[::1", b"[::1]x", b"[::1%eth0]", b"[::::]", b"[1.2.3.4]", b"[v1.a]", b"[]"),
        *(b"x" * 262, b"test, test"),
    ],
)
def test_what_names_no_server_is_no_host(host):
    with pytest.raises(MalformedBodyError, match="Host"):
        check_headers("1.1", [(b"host", host)])


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("other", [b"test", b"other"])
def test_two_hosts_are_refused_even_when_they_agree(version, other):
    with pytest.raises(MalformedBodyError, match="exactly one Host"):
        check_headers(version, [HOST, (b"accept", b"*/*"), (b"host", other)])


def test_http_1_1_needs_a_host():
    with pytest.raises(MalformedBodyError, match="exactly one Host"):
        check_headers("1.1", [(b"accept", b"*/*")])


def test_http_1_0_may_do_without():
    check_headers("1.0", [(b"accept", b"*/*")])


@pytest.mark.parametrize("version", ["0.9", "2.0", "1.2", "3.0"])
def test_other_versions_are_not_spoken(version):
    with pytest.raises(MalformedBodyError, match="version"):
        check_headers(version, [HOST])


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b"CHUNKED"])
def test_chunked_is_the_one_transfer_coding(value):
    check_headers("1.1", [HOST, (b"transfer-encoding", value)])


@pytest.mark.parametrize(
    ("version", "codings"),
    [
        *(("1.1", [b"gzip, chunked"]), ("1.1", [b"chunked, chunked"]), ("1.1", [b"identity"])),
        *(("1.1", [b"chunked", b"chunked"]), ("1.1", [b"gzip", b"chunked"]), ("1.1", [b""])),
        *(("1.1", [b"chunked;x"]), ("1.1", [b"\x0bchunked"]), ("1.0", [b"chunked"])),
    ],
)
def test_any_other_transfer_coding_is_refused(version, codings):
    headers = [HOST, *((b"transfer-encoding", value) for value in codings)]

    with pytest.raises(MalformedBodyError, match="Transfer-Encoding"):
        check_headers(version, headers)


def test_as_many_headers_as_allowed_are_taken_and_no_more():
    most = [HOST, *[(b"a", b"")] * (HEADERS_MAX - 1)]
    check_headers("1.1", most)

    with pytest.raises(LongHeadError, match="too many"):
        check_headers("1.1", [*most, (b"a", b"")])


def test_a_header_may_be_so_long_and_no_longer():
    check_headers("1.1", [HOST, (b"a", b"x" * (HEADER_MAX_BYTES - 1))])

    with pytest.raises(LongHeadError, match="a header is too long"):
        check_headers("1.1", [HOST, (b"a", b"x" * HEADER_MAX_BYTES)])


def test_all_headers_together_may_be_so_long_and_no_longer():
    many = [(b"a", b"x" * 1023)] * (HEADERS_MAX_BYTES // 1024 - 1)
    rest = HEADERS_MAX_BYTES - 1024 * len(many) - len(b"hosttest") - 1
    check_headers("1.1", [HOST, *many, (b"a", b"x" * rest)])

    with pytest.raises(LongHeadError, match="the headers are too long"):
        check_headers("1.1", [HOST, *many, (b"a", b"x" * (rest + 1))])


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/livez", b"/livez"),
        (b"//x/y?z", b"//x/y?z"),
        (b"http://a.example/livez?x=1", b"/livez?x=1"),
        (b"HTTPS://[::1]:8000/livez", b"/livez"),
        (b"http://a.example", b"/"),
        (b"http://a.example?x", b"/?x"),
        (b"/" + b"x" * (TARGET_MAX_BYTES - 1), b"/" + b"x" * (TARGET_MAX_BYTES - 1)),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_a_target_is_a_path_or_has_one(target, path):
    assert check_target(target) == path


@pytest.mark.parametrize(
    "target",
    [
        *(b"*", b"a.example:443", b"livez", b"ftp://a/b", b"http:///livez", b"http://u@a/b"),
        *(b"http://a:x/b", b"http://" + b"x" * 300 + b"/b"),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_a_target_of_another_kind_is_refused(target):
    with pytest.raises(MalformedBodyError, match="target"):
        check_target(target)


def test_a_target_that_is_too_long_is_refused():
    with pytest.raises(LongTargetError):
        check_target(b"/" + b"x" * TARGET_MAX_BYTES)
