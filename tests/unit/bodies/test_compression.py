"""``Content-Encoding``: what comes out is bounded, whatever goes in."""

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings, strategies as st

from service.bodies.compression import compress, decompress, is_quick, known
from service.errors import MalformedBodyError, TooLargeError, UnsupportedMediaError

TEXT = b'{"inputs": [[1, 2]]}' * 10
LIMIT = 1000


def bare(data):
    """A deflate stream without the wrapper that the standard asks for."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def inflated(body, encoding, max_bytes=LIMIT):
    return decompress(body, encoding, max_bytes=max_bytes)


WRITERS = [
    pytest.param("gzip", gzip.compress, id="gzip"),
    pytest.param("deflate", zlib.compress, id="deflate in zlib"),
    pytest.param("deflate", bare, id="bare deflate"),
]


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_without_an_encoding_the_body_is_itself(encoding):
    assert inflated(TEXT, encoding) == TEXT


@pytest.mark.parametrize(("encoding", "compress"), WRITERS)
def test_a_compressed_body_comes_out(encoding, compress):
    assert inflated(compress(TEXT), encoding) == TEXT


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", " gzip ", "x-gzip"])
def test_the_name_of_an_encoding_has_no_case(encoding):
    assert inflated(gzip.compress(TEXT), encoding) == TEXT


@pytest.mark.parametrize("level", range(10))
@pytest.mark.parametrize("window_bits", [-15, -9, 9, 15])
def test_deflate_is_recognised_at_every_level_and_window(level, window_bits):
    compressor = zlib.compressobj(level, wbits=window_bits)

    assert inflated(compressor.compress(TEXT) + compressor.flush(), "deflate") == TEXT


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "deflate, gzip", "*"])
def test_another_encoding_is_not_understood(encoding):
    with pytest.raises(UnsupportedMediaError, match="not understood") as caught:
        inflated(TEXT, encoding)

    assert caught.value.expected == "gzip, deflate or identity"


def test_the_name_of_an_encoding_is_not_repeated():
    with pytest.raises(UnsupportedMediaError) as caught:
        inflated(TEXT, "SECRET")

    assert "SECRET" not in f"{caught.value.detail} {caught.value.expected} {caught.value.received}"


def test_all_members_of_a_gzip_body_come_out_in_order():
    body = gzip.compress(b"one, ") + gzip.compress(b"") + gzip.compress(b"two")

    assert inflated(body, "gzip") == b"one, two"


@pytest.mark.parametrize("compress", [zlib.compress, bare], ids=["in zlib", "bare"])
@pytest.mark.parametrize("more", [b"x", b"\0", None], ids=["a byte", "zero", "another stream"])
def test_deflate_is_one_stream_with_nothing_behind_it(compress, more):
    with pytest.raises(MalformedBodyError, match="something follows"):
        inflated(compress(TEXT) + (more or compress(TEXT)), "deflate")


def test_a_member_longer_than_a_piece_comes_out():
    noise = bytes(range(256)) * 2000
    body = zlib.compress(noise, 0)
    assert len(body) > 500_000

    assert inflated(body, "deflate", len(noise)) == noise


@pytest.mark.parametrize(("encoding", "compress"), WRITERS)
def test_as_much_as_allowed_comes_out(encoding, compress):
    assert inflated(compress(bytes(LIMIT)), encoding) == bytes(LIMIT)


@pytest.mark.parametrize(("encoding", "compress"), WRITERS)
@pytest.mark.parametrize("size", [LIMIT + 1, 10_000_000])
def test_more_than_allowed_is_refused(encoding, compress, size):
    with pytest.raises(TooLargeError, match="after decompression") as caught:
        inflated(compress(bytes(size)), encoding)

    assert caught.value.expected == "at most 1000 bytes"


def test_the_members_of_a_body_share_the_limit():
    with pytest.raises(TooLargeError, match="after decompression"):
        inflated(gzip.compress(bytes(600)) * 2, "gzip")


def test_a_bomb_in_a_bomb_comes_out_once():
    inner = gzip.compress(bytes(100_000))

    assert inflated(gzip.compress(inner), "gzip") == inner


def test_a_body_of_very_many_members_is_refused():
    with pytest.raises(TooLargeError, match="1024 members"):
        inflated(gzip.compress(b"") * 1025, "gzip")


def test_a_body_of_many_members_is_read():
    assert inflated(gzip.compress(b"") * 1023 + gzip.compress(TEXT), "gzip") == TEXT


@pytest.mark.parametrize(("encoding", "compress"), WRITERS)
@pytest.mark.parametrize("kept", [1, 10, -1])
def test_a_body_that_is_cut_off_is_malformed(encoding, compress, kept):
    with pytest.raises(MalformedBodyError, match="cut off"):
        inflated(compress(TEXT)[:kept], encoding)


def test_a_second_member_that_is_cut_off_is_malformed():
    with pytest.raises(MalformedBodyError, match="cut off"):
        inflated(gzip.compress(TEXT) + gzip.compress(TEXT)[:12], "gzip")


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        pytest.param("gzip", TEXT, id="not compressed"),
        pytest.param("deflate", b"\xff" * 20, id="no deflate"),
        pytest.param("gzip", zlib.compress(TEXT), id="zlib for gzip"),
        pytest.param("deflate", gzip.compress(TEXT), id="gzip for deflate"),
        pytest.param("gzip", gzip.compress(TEXT) + b"more", id="something after it"),
        pytest.param("gzip", gzip.compress(TEXT)[:-8] + bytes(8), id="wrong checksum"),
        pytest.param("deflate", zlib.compress(TEXT)[:-4] + bytes(4), id="wrong zlib checksum"),
    ],
)
def test_what_is_not_of_its_encoding_is_malformed(encoding, body):
    with pytest.raises(MalformedBodyError, match="not of its Content-Encoding"):
        inflated(body, encoding)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_nothing_is_nothing(encoding):
    assert inflated(b"", encoding) == b""


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("", ""), (" identity", ""), ("GZIP", "gzip"), ("x-gzip", "gzip"), ("Deflate ", "deflate")],
)
def test_an_encoding_is_known_before_its_body_is_there(encoding, name):
    assert known(encoding) == name


def test_an_encoding_that_is_not_known_is_refused_before_its_body_is_there():
    with pytest.raises(UnsupportedMediaError):
        known("br")


@pytest.mark.parametrize("data", [b"", TEXT, bytes(100_000)], ids=["empty", "text", "zeros"])
def test_what_is_compressed_here_is_gzip_for_everybody(data):
    body = compress(data)

    assert gzip.decompress(body) == data
    assert inflated(body, "gzip", len(data)) == data
    assert body == compress(data), "the same bytes at any time"


def test_a_small_body_is_undone_at_once_and_a_large_one_is_not():
    assert is_quick(bytes(4096))
    assert not is_quick(bytes(4097))


@settings(max_examples=60)
@given(data=st.binary(max_size=300), writer=st.sampled_from([0, 1, 2]))
def test_any_body_comes_out_as_it_went_in(data, writer):
    encoding, compress = WRITERS[writer].values

    assert inflated(compress(data), encoding) == data


@settings(max_examples=100)
@given(data=st.binary(max_size=60), encoding=st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_are_refused_or_stay_within_the_limit(data, encoding):
    try:
        out = inflated(data, encoding, max_bytes=50)
    except (MalformedBodyError, TooLargeError):
        return

    assert len(out) <= 50


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_much_that_comes_of_little_is_refused_long_before_the_limit(encoding):
    window = zlib.MAX_WBITS | 16 if encoding == "gzip" else zlib.MAX_WBITS
    mebibyte = 1024 * 1024
    bomb = zlib.compress(bytes(32 * mebibyte), 9, window)
    tracemalloc.start()

    with pytest.raises(TooLargeError) as caught:
        inflated(bomb, encoding, max_bytes=32 * mebibyte)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.expected == f"at most {4 * mebibyte} bytes"
    assert peak < 16 * mebibyte


def test_little_may_come_of_next_to_nothing():
    rows = bytes(1024 * 1024)

    assert inflated(zlib.compress(rows, 9), "deflate", max_bytes=len(rows)) == rows


@pytest.mark.parametrize(("encoding", "compress"), WRITERS)
def test_what_fills_its_steps_to_the_last_byte_is_whole(encoding, compress):
    rows = bytes(3 * 1024 * 1024)

    assert inflated(compress(rows), encoding, max_bytes=len(rows)) == rows
