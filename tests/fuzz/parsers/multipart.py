"""Forms behind a line with their content type, beside RFC 2046 read by splitting."""

import re
from email.message import Message
from email.utils import collapse_rfc2231_value

from service.bodies import multipart
from tests.fuzz.harness import Harness, always, call

MAX_PARTS = 8
_TYPE = re.compile(r'multipart/form-data; *boundary=(?:([A-Za-z0-9_-]{1,70})|"([A-Za-z0-9 _-]+)")')


def check(data: bytes) -> None:
    line, _, body = data.partition(b"\n")
    content_type = line.decode("latin-1")
    found = call(multipart.parse, body, content_type, max_parts=MAX_PARTS).value
    if found is None:
        return
    assert 1 <= len(found) <= MAX_PARTS
    plain = _TYPE.fullmatch(content_type)
    if plain is None:  # whatever the boundary is, nothing comes out that did not come in
        assert all(content in body for content in found)
        return
    boundary = (plain[1] or plain[2]).encode()
    if any(content.startswith(b"--" + boundary) for content in found):
        return  # right behind a head: one reads content and another the next part; no picture is so
    parts = read(body, boundary)
    assert [content for _, content in parts] == found
    assert all("file" in _names(head) for head, _ in parts)


def read(body: bytes, boundary: bytes) -> list[tuple[bytes, bytes]]:
    """The heads and contents of all parts; a broken form is a finding."""
    # two hyphens at the end, or blanks and the end of the line: anything else is content
    pattern = re.compile(rb"\r\n--" + re.escape(boundary) + rb"(--|[ \t]*\r\n)")
    _, *found = pattern.split(b"\r\n" + body)  # what comes before the first is to be passed over
    parts: list[tuple[bytes, bytes]] = []
    for sort, piece in zip(found[::2], found[1::2], strict=True):
        if sort == b"--":
            return parts
        head, end, content = (b"\r\n" + piece).partition(b"\r\n\r\n")
        assert end, "a head does not end"
        parts.append((head, content))
    raise AssertionError("the form does not end")


def _names(head: bytes) -> set[str]:
    """The names in the last ``Content-Disposition``, which should be one."""
    lines = head.decode("latin-1").split("\r\n")
    values = [
        value for name, _, value in (line.partition(":") for line in lines)
        if name.lower() == "content-disposition"
    ]  # fmt: skip
    assert values, "a part without a name"
    message = Message()
    message["content-disposition"] = values[-1].strip()
    found = message.get_params([], header="content-disposition")
    return {collapse_rfc2231_value(value) for name, value in found if name.lower() == "name"}


HARNESS = Harness(
    always(check),
    (
        *(b"multipart/form-data; boundary=x\n", b'multipart/form-data; boundary="x y"\n', b"--x"),
        *(b"\r\n--x\r\n", b"\r\n--x--\r\n", b"--x--", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"--"),
        *(b'Content-Disposition: form-data; name="file"', b'; filename="p"'),
        *(b"; name*=UTF-8''file",),
        *(b"Content-Type: image/png\r\n", b"Content-Transfer-Encoding: base64\r\n", b" ", b"\t"),
        *(b'name="other"', b'name="fi\\le"', b"name=file", b":", b"\0", b"\xff", b"boundary="),
    ),
)
