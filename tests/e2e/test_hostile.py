"""Bodies and heads that mean harm, sent to a real server: refused, quickly, and nothing is left.

What is promised are 50 ms from the last byte to the answer, 16 MiB of memory, and no turn of the
event loop longer than 100 ms. On a machine that does something else meanwhile these tests allow
several times that; what was measured is printed: ``pytest -rP``.
"""

import gzip
import io
import pickle
import shutil
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, cycle, islice
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pytest
from numpy.lib import format as npy_format

from benchmarks.proc import PROC, memory_mib
from service.packaging import write_package
from service.repository.manifest import Description, GraphFiles
from service.specs import TensorSpec
from tests import tiny
from tests.api.asgi import Answer
from tests.api.line import request
from tests.api.wire import JSON, NPY, PNG, RAW, npy, picture, problem, url
from tests.e2e.client import WITHIN_S, Client, until
from tests.e2e.server import ROOT, Process, process

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROC.is_dir(), reason="memory is read from /proc"),
]

ALLOWED_S = 1.0
STALL_ALLOWED_S = 1.0
BEAT_S = 0.002
GROWTH_MIB = 16
REFUSED = 10_000
REFUSED_GROWTH_MIB = 8
# of the service's settings, by default
MAX_JSON_BYTES, MAX_BODY_BYTES, MAX_ROWS = 2 << 20, 32 << 20, 4096

CONV, BYTES = "mnist-conv", "bytes"
PACKAGE = ROOT / "models" / CONV / "2"
ENCODE = url(CONV, "encode")
FEATURES = 784
ROW = np.zeros((1, 1, 28, 28), np.float32)
PIXELS = np.zeros((28, 28), np.uint8)


class Case(NamedTuple):
    """What is sent, how it must be answered, and how long the server has to wait before."""

    name: str
    statuses: tuple[int, ...]
    sent: bytes
    waits_s: float = 0.0


def post(body: bytes, media: str, path: str = ENCODE, **headers: str) -> bytes:
    return request(path, body, content_type=media, **headers)


def chunked(*pieces: bytes, media: str = RAW) -> bytes:
    head = post(b"", media).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    return head + b"".join(pieces)


def npy_of(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    size = (
        struct.pack("<H", len(header)) if version == b"\x01\x00" else struct.pack("<I", len(header))
    )
    return npy_format.MAGIC_PREFIX + version + size + header.encode("latin-1") + data


def npy_header(descr: str = "'<f4'", shape: str = "(1, 784)", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n"


def png(width: int, height: int, *chunks: tuple[bytes, bytes], kind: int = 0) -> bytes:
    """A PNG whose header claims any size, with the chunks that are given."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in (header, *chunks, (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def inputs(text: str) -> bytes:
    return b'{"inputs": ' + text.encode() + b"}"


def form(parts: int) -> bytes:
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="p"\r\n\r\n'
    return (part + picture(PIXELS) + b"\r\n") * parts + b"--b--\r\n"


FORM = "multipart/form-data; boundary=b"


def npy_cases() -> Iterator[Case]:
    bodies = {
        "terabytes": (400, npy_of(npy_header(shape="(1000000000000,)"), bytes(3136))),
        "beyond 64 bits": (400, npy_of(npy_header(shape="(9223372036854775807, 9)"), bytes(9))),
        "a negative axis": (400, npy_of(npy_header(shape="(-1, 784)"), bytes(3136))),
        "True as an axis": (400, npy_of(npy_header(shape="(True, 784)"), bytes(3136))),
        "a header without end": (400, npy_of("{" * 1000)),
        "brackets": (400, npy_of("(" * 1000)),
        "a long header": (400, npy_of(npy_header() + " " * 60_000, bytes(3136))),
        "a header of gigabytes": (400, npy_format.MAGIC_PREFIX + b"\x02\x00\xff\xff\xff\xff"),
        "code in the header": (400, npy_of("__import__('os').getpid()\n", bytes(3136))),
        "objects": (422, npy_of(npy_header("'|O'", "(1,)"), pickle.dumps([1]))),
        "a pickle": (400, pickle.dumps(np.zeros(3))),
        "a structure": (422, npy_of(npy_header("[('a', '<f4')]", "(1,)"), bytes(4))),
        "texts": (422, npy_of(npy_header("'<U4'", "(1,)"), bytes(16))),
        "no axis": (422, npy_of(npy_header(shape="()"), bytes(4))),
        "a hundred axes": (400, npy_of(npy_header(shape="(" + "1," * 100 + ")"), bytes(4))),
        "no rows": (422, npy(np.zeros((0, 784), np.float32))),
        "NaN": (422, npy(np.full((1, 784), np.nan, np.float32))),
        "beyond float32": (422, npy(np.full((1, 784), 1e39))),
        "cut off": (400, npy(ROW)[:-1]),
        "too long": (400, npy(ROW) + b"x"),
        "an archive": (400, zipped()),
    }
    for name, (status, body) in bodies.items():
        yield Case(f"npy: {name}", (status,), post(body, NPY))
    yield Case(
        "npy: 300 for uint8", (422,), post(npy(np.array([[300, 0]])), NPY, url(BYTES, "encode"))
    )


def zipped() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.zeros((1000, 784), np.float32))
    return buffer.getvalue()


def json_cases() -> Iterator[Case]:
    zeros = ",".join(["0"] * FEATURES)
    bodies = {
        "ragged": (422, inputs("[[1, 2], [3]]")),
        "ragged at the end": (422, inputs(f"[[{zeros}], [{zeros}], [{zeros[:-2]}]]")),
        "100,000 deep": (400, inputs("[" * 100_000 + "]" * 100_000)),
        "100,000 deep without end": (400, inputs("[" * 100_000)),
        "deep objects": (400, b'{"inputs":' * 100_000),
        "NaN": (400, inputs("[[NaN]]")),
        "Infinity": (400, inputs("[[-Infinity]]")),
        "1e400": (400, inputs(f"[[1e400,{zeros[:-2]}]]")),
        "1e39": (422, inputs(f"[[1e39,{zeros[:-2]}]]")),
        "a number of a million digits": (422, inputs("[[" + "1" * 1_000_000 + "]]")),
        "numbers as strings": (422, inputs('[["1", "2"]]')),
        "true": (422, inputs("[[true, false]]")),
        "null": (422, inputs("[null]")),
        "objects": (422, inputs('[{"a": 1}]')),
        "a text": (422, b'{"inputs": "' + b"x" * 1_000_000 + b'"}'),
        "no rows": (422, inputs("[]")),
        "empty rows": (422, inputs("[[], []]")),
        "a million bytes of empty rows": (413, inputs("[" + ",".join(["[]"] * 330_000) + "]")),
        "a million bytes of empty objects": (413, inputs("[" + ",".join(["{}"] * 330_000) + "]")),
        "a row of a million bytes": (422, inputs("[[" + ",".join(["0"] * 500_000) + "]]")),
        "too many rows": (413, inputs("[" + ",".join(["0"] * (MAX_ROWS + 1)) + "]")),
        "100,000 keys": (422, b"{" + b",".join(b'"%d":0' % n for n in range(80_000)) + b"}"),
        "too long": (413, b" " * MAX_JSON_BYTES + b"{}"),
        "an unknown option": (422, b'{"inputs": [[0]], "__class__": 1}'),
        "a list": (422, b"[]"),
        "broken UTF-8": (400, b'{"inputs": "\xff"}'),
        "half a pair": (400, b'{"inputs": "\\ud800"}'),
        "nothing": (400, b""),
        "two documents": (400, inputs("[]") * 2),
    }
    for name, (status, body) in bodies.items():
        allowed = (413, 422) if status == 413 else (400, 422) if "digits" in name else (status,)
        yield Case(f"JSON: {name}", allowed, post(body, JSON))
    for value in ("300", "-1", "1.5", "1e3"):
        sent = post(inputs(f"[[{value}, 0]]"), JSON, url(BYTES, "encode"))
        yield Case(f"JSON: {value} for uint8", (422,), sent)


def picture_cases() -> Iterator[Case]:
    resize = ENCODE + "?resize=true"
    vast = zlib.compress(bytes(10_000 * 10_001), 9)
    text = (b"zTXt", b"a\0\0" + zlib.compress(bytes(32 << 20), 9))
    bodies = {
        "4 billion pixels a side": (413, png(0xFFFF_FFFF >> 1, 0xFFFF_FFFF >> 1)),
        "100 megapixels that are there": (413, png(10_000, 10_000, (b"IDAT", vast))),
        "no width": (400, png(0, 28, (b"IDAT", zlib.compress(b"")))),
        "no data": (400, png(28, 28)),
        "a header alone": (400, picture(PIXELS)[:33]),
        "cut off": (400, picture(PIXELS)[:-20]),
        "another size": (422, picture(np.zeros((27, 28), np.uint8))),
        "no picture": (400, b"\x89PNG\r\n\x1a\n" + b"x" * 1000),
    }
    for name, (status, body) in bodies.items():
        path = ENCODE if status == 422 else resize
        yield Case(f"PNG: {name}", (status,), post(body, PNG, path))
    bomb = png(28, 28, text, (b"IDAT", zlib.compress(bytes(29 * 28))))
    short = png(28, 28, (b"IDAT", zlib.compress(bytes(29))))
    yield Case("PNG: too little data", (400,), post(short, PNG))
    yield Case("PNG: a bomb beside the pixels", (200, 400), post(bomb, PNG, resize))


def form_cases() -> Iterator[Case]:
    whole = form(1)
    bodies = {
        "10,000 parts": (413, form(10_000)),
        "10,000 empty parts": (413, b"--b\r\n\r\n\r\n" * 10_000 + b"--b--\r\n"),
        "a header of a megabyte": (
            400,
            b"--b\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n\r\n--b--\r\n",
        ),
        "100,000 headers": (400, b"--b\r\n" + b"X: y\r\n" * 100_000 + b"\r\n\r\n--b--\r\n"),
        "no end": (400, whole[: -len(b"--b--\r\n")]),
        "another boundary": (400, whole.replace(b"--b", b"--c")),
        "nothing": (400, b""),
        "no parts": (422, b"--b--\r\n"),
        "no picture": (400, whole.replace(b"PNG", b"GNP")),
    }
    for name, (status, body) in bodies.items():
        allowed = (
            (400, 422)
            if name in {"no parts", "100,000 headers", "a header of a megabyte"}
            else (status,)
        )
        yield Case(f"form: {name}", allowed, post(body, FORM))
    yield Case("form: no boundary", (400,), post(whole, "multipart/form-data"))


def encoding_cases() -> Iterator[Case]:
    bomb = bytes(128 << 20)
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    bare = raw.compress(bomb) + raw.flush()
    packed = gzip.compress(bomb, 9)
    bodies = {
        "a bomb of 128 MiB": ("gzip", 413, packed),
        "a bomb in a bomb": ("gzip", 400, gzip.compress(packed, 9)),
        "members without end": ("gzip", 413, gzip.compress(b"") * 2000),
        "cut off": ("gzip", 400, gzip.compress(ROW.tobytes())[:-9]),
        "rubbish behind it": ("gzip", 400, gzip.compress(ROW.tobytes()) + b"rubbish"),
        "no gzip": ("gzip", 400, b"x" * 100),
        "a bomb of zlib": ("deflate", 413, zlib.compress(bomb, 9)),
        "a bomb without wrapper": ("deflate", 413, bare),
        "no deflate": ("deflate", 400, b"\xff" * 100),
        "another encoding": ("br", 415, b"x"),
        "encodings without end": ("gzip, " * 1000 + "gzip", 415, packed[:100]),
    }
    for name, (encoding, status, body) in bodies.items():
        allowed = (
            (400, 413, 415, 422) if "in a bomb" in name or "without end" in name else (status,)
        )
        yield Case(f"{encoding[:8]}: {name}", allowed, post(body, RAW, content_encoding=encoding))
    sent = post(gzip.compress(b" " * (16 << 20), 9), JSON, content_encoding="gzip")
    yield Case("gzip: a bomb of JSON", (413,), sent)


def head_cases() -> Iterator[Case]:
    good = post(ROW.tobytes(), RAW)

    def with_header(line: bytes) -> bytes:
        return good.replace(b"Host: test\r\n", b"Host: test\r\n" + line + b"\r\n")

    changed = {
        "no host": (400, good.replace(b"Host: test\r\n", b"")),
        "two hosts": (400, with_header(b"Host: test")),
        "a host that is none": (400, good.replace(b"Host: test", b"Host: a/b")),
        "two lengths": (400, with_header(b"Content-Length: 1")),
        "a length and chunks": (400, with_header(b"Transfer-Encoding: chunked")),
        "a length below zero": (400, good.replace(b"Length: 3136", b"Length: -1")),
        "a length beyond 64 bits": (400, good.replace(b"Length: 3136", b"Length: " + b"9" * 30)),
        "a coding that is none": (400, chunked().replace(b"chunked", b"gzip, chunked")),
        "no content type": (415, good.replace(b"content-type", b"x-type")),
        "two content types": (415, with_header(b"Content-Type: text/plain")),
        "two deadlines": (400, with_header(b"X-Request-Timeout-Ms: 1\r\nX-Request-Timeout-Ms: 2")),
        "a deadline of a million digits": (
            431,
            with_header(b"X-Request-Timeout-Ms: " + b"9" * 10**6),
        ),
        "a broken deadline": (400, with_header(b"X-Request-Timeout-Ms: -1")),
        "a shape that is none": (400, with_header(b"X-Shape: 1,x")),
        "100,000 headers": (431, with_header(b"\r\n".join([b"X: y"] * 100_000))),
        "a target of a megabyte": (414, good.replace(b"/v1", b"/" + b"x" * 1_000_000)),
        "no version": (400, good.replace(b" HTTP/1.1", b"")),
        "rubbish": (400, b"\x16\x03\x01\x02\x00\x01\x00" * 100),
    }
    for name, (status, sent) in changed.items():
        allowed = (400, 422) if "shape" in name else (status,)
        yield Case(f"head: {name}", allowed, sent)


def length_cases() -> Iterator[Case]:
    short = post(ROW.tobytes(), RAW, x_request_timeout_ms="100")
    yield Case("length: more than comes", (504,), short[:-1], 0.1)
    yield Case("length: less than comes", (422,), short.replace(b"Length: 3136", b"Length: 3135"))
    announced = post(b"", RAW).replace(b"Content-Length: 0", b"Content-Length: 1099511627776")
    yield Case("length: a terabyte", (413,), announced)
    yield Case("chunks: a million of one byte", (400,), chunked(b"1\r\nx\r\n" * 1_000_000))
    yield Case("chunks: one of 16 exabytes", (400, 413), chunked(b"fffffffffffffffff\r\n"))
    yield Case("chunks: no length", (400,), chunked(b"zz\r\n"))
    yield Case("chunks: longer than said", (400,), chunked(b"1\r\nxx\r\n"))
    yield Case("chunks: an endless extension", (400,), chunked(b"1;" + b"x" * 1_000_000))
    yield Case("chunks: endless trailers", (400,), chunked(b"0\r\n" + b"X: y\r\n" * 200_000))
    long = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    yield Case("chunks: more than may come", (413,), chunked(long * 33, b"0\r\n\r\n"))


KINDS = (
    *(npy_cases, json_cases, picture_cases, form_cases, encoding_cases, head_cases),
    *(length_cases,),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(PACKAGE, folder / CONV / PACKAGE.name)
    write_bytes_model(folder)
    with process("--device", "cpu", models=folder) as server:
        yield server


def write_bytes_model(folder: Path) -> None:
    """Write an encoder that gives its 8-bit integers back."""
    ends = ("x", "uint8", [2]), [("z", "uint8", [2])]
    graph = tiny.graph([tiny.node("Identity", ["x"], ["z"])], *ends)
    spec = TensorSpec("uint8", (2,))
    files = GraphFiles(encoder="encoder.onnx")
    write_package(
        folder,
        Description(name=BYTES, version=1, graphs=files, input=spec, code=spec),
        {"encoder.onnx": graph},
        golden_rows=np.array([[1, 2]], np.uint8),
    )


@pytest.fixture(scope="module")
def digits():
    """Golden rows of the bundled model, and the answers stored with them."""
    with np.load(PACKAGE / "golden.npz") as golden:
        return golden["input"], golden["code"]


def exact(server: Process, digits: tuple[np.ndarray, np.ndarray]) -> bytes:
    """The bits of the codes of some digits, after a look at what they should be."""
    rows, codes = digits
    with Client(server.url) as client:
        answer = client.ask(post(rows.tobytes(), RAW, accept=RAW))
    assert answer.status_code == 200
    found = np.frombuffer(answer.content, np.float32).reshape(codes.shape)
    np.testing.assert_allclose(found, codes, rtol=1e-4, atol=1e-4)
    return answer.content


class Measured(NamedTuple):
    """An answer, and the seconds from the last byte to it."""

    answer: Answer
    seconds: float


def ask(server: Process, sent: bytes) -> Measured:
    """Send on a connection of its own; the time is that from the last byte to the answer."""
    with Client(server.url) as client:
        with suppress(ConnectionError):  # refused before its end; the answer is there nevertheless
            client.send(sent)
        last = time.perf_counter()
        answer = client.receive()
        return Measured(answer, time.perf_counter() - last)


def reset_peak(pid: int) -> None:
    """Let VmHWM begin anew."""
    (PROC / str(pid) / "clear_refs").write_text("5")


@pytest.mark.parametrize("cases", KINDS)
def test_what_means_harm_is_refused_and_leaves_nothing(server, digits, cases):
    before = exact(server, digits)
    for case in cases():
        refuse(server, case)
        assert exact(server, digits) == before


def refuse(server: Process, case: Case) -> None:
    """Send a case three times, and look at the answers, the times and the memory."""
    resident = memory_mib(server.pid, "VmRSS")
    reset_peak(server.pid)

    rounds = [ask(server, case.sent) for _ in range(3)]

    seconds = min(each.seconds for each in rounds) - case.waits_s
    peak = memory_mib(server.pid, "VmHWM") - resident
    # the last answer comes before what it was about has been let go of
    until(lambda: memory_mib(server.pid, "VmRSS") - resident <= GROWTH_MIB)
    kept = memory_mib(server.pid, "VmRSS") - resident
    statuses = {each.answer.status_code for each in rounds}
    figures = f"{1e3 * seconds:.1f} ms, {peak:.1f} MiB at most, {kept:.1f} MiB left"
    print(f"{case.name}: {statuses}, {figures}")  # noqa: T201
    assert statuses <= set(case.statuses), case.name
    for each in rounds:
        if each.answer.status_code != 200:
            assert problem(each.answer)["detail"]
    assert seconds < ALLOWED_S, case.name


def test_ten_thousand_refusals_of_twelve_kinds_leave_no_memory_behind(server, digits):
    cases = chain.from_iterable(kind() for kind in KINDS)
    kinds = [case.sent for case in cases if len(case.sent) < 10_000 and min(case.statuses) < 500]
    twelve = kinds[:: len(kinds) // 12][:12]
    assert len(twelve) == 12
    before = exact(server, digits)
    send_all(server, twelve, REFUSED // 5)  # what is kept once, such as arenas, is no leak
    resident = memory_mib(server.pid, "VmRSS")

    send_all(server, twelve, REFUSED)

    growth = memory_mib(server.pid, "VmRSS") - resident
    print(f"{growth:.1f} MiB after {REFUSED} refused requests")  # noqa: T201
    assert growth <= REFUSED_GROWTH_MIB
    assert exact(server, digits) == before


def send_all(server: Process, kinds: list[bytes], number: int) -> None:
    client = Client(server.url)
    for sent in islice(cycle(kinds), number):
        try:
            answer = client.ask(sent)
        except ConnectionError:
            client.come_back()
            answer = client.ask(sent)
        assert 400 <= answer.status_code < 500
        if answer.headers.get("connection") == "close":
            client.come_back()
    client.close()


def legal_cases() -> Iterator[Case]:
    """The largest bodies, and the largest answers, that the limits allow."""
    zeros = b"[" + b",".join([b"0"] * FEATURES) + b"]"
    shaped = b"[[" + b",".join([b"[" + b",".join([b"0"] * 28) + b"]"] * 28) + b"]]"
    for name, row in (("flat", zeros), ("shaped", shaped)):
        number = (MAX_JSON_BYTES - 100) // (len(row) + 1)
        body = b'{"inputs":[' + b",".join([row] * number) + b"]}"
        yield Case(f"JSON, {name}", (200,), post(body, JSON, accept=RAW))
        sent = post(gzip.compress(body), JSON, accept=RAW, content_encoding="gzip")
        yield Case(f"JSON, {name}, gzip", (200,), sent)
    rows = np.random.default_rng(0).random((MAX_ROWS, FEATURES), np.float32)
    raw = rows.tobytes()
    yield Case("raw", (200,), post(raw, RAW, accept=RAW))
    yield Case("npy of float64", (200,), post(npy(rows.astype(float)), NPY, accept=RAW))
    yield Case("npy by columns", (200,), post(npy(np.asfortranarray(rows)), NPY, accept=RAW))
    yield Case(
        "raw, gzip", (200,), post(gzip.compress(raw, 1), RAW, accept=RAW, content_encoding="gzip")
    )
    yield Case("form", (200,), post(form(MAX_ROWS), FORM, accept=RAW))
    codes = np.zeros((MAX_ROWS, 32), np.float32).tobytes()
    yield Case("raw, answered as JSON", (200,), post(codes, RAW, url(CONV, "decode"), accept=JSON))
    score = url(CONV, "anomaly-score") + "?include=feature_errors"
    yield Case("raw, explained as JSON", (200,), post(raw, RAW, score, accept=JSON))


class Heartbeat:
    """Asks for /livez again and again, and keeps the longest time that it took."""

    def __init__(self, server: Process) -> None:
        self.longest_s = 0.0
        self._client = Client(server.url)
        self._has_begun = threading.Event()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._beat)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._has_begun.wait(WITHIN_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._client.close()

    def _beat(self) -> None:
        while not self._is_over.is_set():
            started = time.perf_counter()
            assert self._client.ask(request("/livez", method="GET")).status_code == 200
            self.longest_s = max(self.longest_s, time.perf_counter() - started)
            self._has_begun.set()
            time.sleep(BEAT_S)  # or it would be a load of its own


def test_no_legal_body_holds_the_others_up_for_long(server):
    for case in legal_cases():
        assert ask(server, case.sent).answer.status_code == 200
        longest_s = min(longest(server, [case]) for _ in range(3))

        print(f"{case.name}: /livez took up to {1e3 * longest_s:.0f} ms")  # noqa: T201
        assert longest_s < STALL_ALLOWED_S, case.name


def test_nor_do_all_of_them_at_once(server):
    longest_s = min(longest(server, [*legal_cases()]) for _ in range(3))

    print(f"all at once: /livez took up to {1e3 * longest_s:.0f} ms")  # noqa: T201
    assert longest_s < STALL_ALLOWED_S


def longest(server: Process, cases: list[Case]) -> float:
    """Give the longest time that somebody else had to wait while *cases* were answered."""
    threads = [threading.Thread(target=ask, args=(server, case.sent)) for case in cases]
    with Heartbeat(server) as heartbeat:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return heartbeat.longest_s
