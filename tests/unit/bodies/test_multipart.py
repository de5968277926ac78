"""Forms: parts in their order, bytes as they are, and every way to get one wrong."""

import pytest
from hypothesis import given, settings, strategies as st

from service.bodies import multipart
from service.errors import InvalidRowsError, MalformedBodyError, TooLargeError

TYPE = "multipart/form-data; boundary=xx"
NAMED_FILE = b'Content-Disposition: form-data; name="file"; filename="a.png"\r\n'


def part(content, headers=NAMED_FILE):
    return b"--xx\r\n" + headers + b"\r\n" + content + b"\r\n"


def form(*parts, end=b"--xx--\r\n"):
    return b"".join(parts) + end


def parse(body, content_type=TYPE, max_parts=8):
    return multipart.parse(body, content_type, max_parts=max_parts)


def test_a_part_comes_out():
    assert parse(form(part(b"abc"))) == [b"abc"]


def test_parts_keep_their_order():
    assert parse(form(part(b"b"), part(b"c"), part(b"a"))) == [b"b", b"c", b"a"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\r\n", id="line end"),
        pytest.param(b"a\r\nb\r\n\r\nc\r\n", id="lines"),
        pytest.param(b"\r\n--x\r\n--x-\r\n-- xx\r\n", id="nearly a boundary"),
        pytest.param(b"--xx--", id="boundary that begins no line"),
        pytest.param(b"\r\r\n\n\r", id="halves of line ends"),
        pytest.param(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", id="head of a picture"),
        pytest.param(bytes(range(256)), id="all bytes"),
    ],
)
def test_content_is_any_bytes(content):
    assert parse(form(part(content), part(b"next"))) == [content, b"next"]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(b'Content-Disposition: form-data; name="file"\r\n', id="no file name"),
        pytest.param(b"Content-Disposition: form-data; name=file\r\n", id="no quotes"),
        pytest.param(b'CONTENT-DISPOSITION: form-data; name="file"\r\n', id="capitals"),
        pytest.param(b"Content-Type: image/png\r\n" + NAMED_FILE, id="more headers"),
        pytest.param(
            b"Content-Disposition: form-data; name=\"file\"; filename*=utf-8''%e2%82%ac.png\r\n",
            id="encoded file name",
        ),
        pytest.param(
            b'Content-Disposition: form-data; filename="name=x;"; name="file"\r\n',
            id="file name with a name in it",
        ),
    ],
)
def test_a_part_is_named_by_its_disposition(headers):
    assert parse(form(part(b"abc", headers))) == [b"abc"]


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/form-data; boundary="xx"',
        "multipart/form-data; charset=utf-8; boundary=xx",
        "multipart/form-data; BOUNDARY=xx",
        "Multipart/Form-Data;boundary=xx",
    ],
)
def test_the_boundary_is_found(content_type):
    assert parse(form(part(b"abc")), content_type) == [b"abc"]


@pytest.mark.parametrize("end", [b"--xx--", b"--xx--\r\n", b"--xx--\r\nafterwards"])
def test_the_last_boundary_ends_the_form(end):
    assert parse(form(part(b"abc"), end=end)) == [b"abc"]


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data;",
        "multipart/form-data; boundary",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; charset=xx",
        "multipart/form-data; boundary*=utf-8''xx",
        "",
    ],
)
def test_a_form_without_a_boundary_is_malformed(content_type):
    with pytest.raises(MalformedBodyError, match="needs a boundary"):
        parse(form(part(b"abc")), content_type)


@pytest.mark.parametrize(
    "content_type",
    [
        pytest.param("multipart/form-data; boundary=yy", id="another"),
        pytest.param("multipart/form-data; boundary=xxx", id="longer"),
        pytest.param("multipart/form-data; boundary=x", id="shorter"),
        pytest.param("multipart/form-data; boundary=\xff\xfe", id="no letters"),
        pytest.param(f"multipart/form-data; boundary={'x' * 300}", id="far too long"),
    ],
)
def test_a_boundary_that_is_not_the_forms_is_malformed(content_type):
    with pytest.raises(MalformedBodyError, match="does not follow its boundary"):
        parse(form(part(b"abc")), content_type)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"garbage", id="garbage"),
        pytest.param(b"preamble\r\n" + form(part(b"abc")), id="something before it"),
        pytest.param(form(part(b"abc")).replace(b"\r\n", b"\n"), id="line feeds alone"),
        pytest.param(form(part(b"abc", b"no header\r\n")), id="header without a colon"),
        pytest.param(form(part(b"abc", b"a b: c\r\n" + NAMED_FILE)), id="blank in a header name"),
        pytest.param(form(part(b"abc", b"X: 1\r\n" * 30 + NAMED_FILE)), id="30 headers"),
        pytest.param(form(part(b"abc", b"X: " + b"1" * 9000 + b"\r\n")), id="long header"),
    ],
)
def test_what_is_no_form_is_malformed(body):
    with pytest.raises(MalformedBodyError, match="does not follow its boundary"):
        parse(body)


@pytest.mark.parametrize("length", range(0, len(form(part(b"abc"))) - 2, 7))
def test_a_form_that_is_cut_off_is_malformed(length):
    with pytest.raises(MalformedBodyError, match="cut off"):
        parse(form(part(b"abc"))[:length])


def test_a_form_without_its_last_boundary_is_malformed():
    with pytest.raises(MalformedBodyError, match="cut off"):
        parse(form(part(b"abc"), end=b""))


def test_a_form_without_parts_is_refused():
    with pytest.raises(InvalidRowsError, match="no parts") as caught:
        parse(form())

    assert caught.value.expected == "parts named 'file'"


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(b'Content-Disposition: form-data; name="picture"\r\n', id="another name"),
        pytest.param(b'Content-Disposition: form-data; name="File"\r\n', id="capital"),
        pytest.param(b'Content-Disposition: form-data; name=""\r\n', id="empty name"),
        pytest.param(b'Content-Disposition: form-data; filename="file"\r\n', id="file name alone"),
        pytest.param(b"Content-Disposition: form-data; name*=utf-8''file\r\n", id="encoded name"),
        pytest.param(b"Content-Disposition: form-data\r\n", id="no name"),
        pytest.param(b"Content-Type: image/png\r\n", id="no disposition"),
        pytest.param(b"", id="no headers"),
    ],
)
def test_a_part_of_another_name_is_refused_with_its_row(headers):
    with pytest.raises(InvalidRowsError, match="parts named 'file'") as caught:
        parse(form(part(b"a"), part(b"b", headers), part(b"c")))

    assert caught.value.row == 1
    assert caught.value.expected == "a part named 'file'"
    assert caught.value.received == "a part of another name"


def test_no_message_repeats_a_name_or_a_content():
    headers = b'Content-Disposition: form-data; name="SECRET"\r\n'

    with pytest.raises(InvalidRowsError) as caught:
        parse(form(part(b"SECRET", headers)))

    assert "SECRET" not in f"{caught.value.detail} {caught.value.expected} {caught.value.received}"


def test_as_many_parts_as_allowed_come_out():
    assert len(parse(form(*[part(b"a")] * 3), max_parts=3)) == 3


def test_one_part_too_many_is_refused():
    with pytest.raises(TooLargeError, match="3 parts") as caught:
        parse(form(*[part(b"a")] * 4), max_parts=3)

    assert caught.value.expected == "at most 3 parts"


@settings(max_examples=60)
@given(contents=st.lists(st.binary(max_size=40), min_size=1, max_size=8))
def test_any_contents_come_out_as_they_went_in(contents):
    boundary = b"a boundary that no content holds"
    body = b"".join(
        b"--" + boundary + b"\r\n" + NAMED_FILE + b"\r\n" + content + b"\r\n"
        for content in contents
    )

    content_type = f'multipart/form-data; boundary="{boundary.decode()}"'

    assert parse(body + b"--" + boundary + b"--\r\n", content_type) == contents


@settings(max_examples=100)
@given(data=st.data())
def test_a_damaged_form_is_refused_or_read(data):
    body = bytearray(form(part(b"abc"), part(b"def")))
    position = data.draw(st.integers(0, len(body) - 1))
    body[position : position + 1] = data.draw(st.sampled_from([b"", b"\r", b"\n", b'"', b"\xff"]))

    try:
        contents = parse(bytes(body))
    except (MalformedBodyError, InvalidRowsError):
        return

    assert 1 <= len(contents) <= 2
