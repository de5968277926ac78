"""Kept connections on the short way: pieces, what comes behind, and idleness."""

import time
from http.client import RemoteDisconnected

import numpy as np
import pytest

from tests import tiny
from tests.api.wire import url
from tests.e2e.client import WAYS, Client, make_known, request
from tests.e2e.embedded import embedded

FEATURES = 4
ENCODE = url("touchy", "encode")
ROW = np.array([[1, 0.25, 0.5, 0.75]], np.float32)
DATA = request(ENCODE, ROW.tobytes(), "short")
# longer than the server takes to read one piece before the next one comes
PIECE_S = 0.05


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny.write(folder, tiny.touchy(FEATURES), ROW, name="touchy", code_shape=(FEATURES,))
    with embedded(folder, idle_s=1) as server:
        yield server


def other_than(data: bytes) -> tuple[bytes, bytes]:
    """A request with another head and another row, and what is right in its answer."""
    row = ROW[:, ::-1]
    return request(ENCODE, row.tobytes(), "short", x_note="other"), (row + row).tobytes()


# in the request's line, in a header, and at the end of a header's line
@pytest.mark.parametrize("cut", [3, 20, DATA.index(b"accept") + 2, DATA.index(b"accept")])
def test_a_request_in_two_pieces_is_one_request(server, cut):
    with Client(server.url) as client:
        for _ in range(4):
            client.send(DATA[:cut])
            time.sleep(PIECE_S)
            assert client.ask(DATA[cut:]).content == (ROW + ROW).tobytes()
    # nor does what was learnt from the pieces make anything else of another request
    size = ROW.nbytes
    with Client(server.url) as client:
        client.send(DATA[: 3 + size])
        time.sleep(PIECE_S)
        assert client.ask(DATA[3 + size :]).content == (ROW + ROW).tobytes()
        data, wanted = other_than(DATA)
        assert client.ask(data).content == wanted


@pytest.mark.parametrize("cut", [3, 20, DATA.index(b"accept") + 2, DATA.index(b"accept")])
def test_a_request_that_begins_behind_another_is_read_to_its_end(server, cut):
    """The answer to the first one must not make the second one's rest look like a request."""
    with Client(server.url) as client:
        client.send(DATA[:cut])
        time.sleep(PIECE_S)
        for _ in range(4):
            assert client.ask(DATA[cut:] + DATA[:cut]).content == (ROW + ROW).tobytes()
            time.sleep(PIECE_S)
        assert client.ask(DATA[cut:]).content == (ROW + ROW).tobytes()
        data, wanted = other_than(DATA)
        assert client.ask(data).content == wanted


def test_a_known_request_in_the_head_of_another_is_a_part_of_it(server):
    """The parser is in the middle of a head when bytes come that look like a whole request."""
    make_known(server.url, DATA)
    assert server.knows(DATA)
    begun = f"POST {url('nobody', 'encode')} HTTP/1.1\r\nx-note: ".encode()
    with Client(server.url) as client:
        assert client.ask(DATA + begun).status_code == 200
        time.sleep(PIECE_S)
        # its line is the note's value, and the rest of its head and its body are the second's
        assert client.ask(DATA).status_code == 404
        data, wanted = other_than(DATA)
        assert client.ask(data).content == wanted


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_refused", [False, True], ids=["answered", "refused"])
def test_a_connection_that_rests_for_too_long_is_closed(server, way, is_refused):
    row = ROW.copy()
    data = request(ENCODE, row.tobytes(), way)
    make_known(server.url, data)
    if is_refused:
        row[0, 1] = np.nan
    with Client(server.url) as client:
        answer = client.ask(request(ENCODE, row.tobytes(), way))
        with pytest.raises(RemoteDisconnected):
            client.receive(within_s=10)

    assert answer.status_code == (422 if is_refused else 200)
