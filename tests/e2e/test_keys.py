"""Keys on a real server: one kept connection, on which nothing changes but the key."""

import numpy as np
import pytest

from service.keys import add_line, line_of, make_key
from tests import tiny
from tests.api.wire import RAW, url
from tests.e2e.client import Client, get, request
from tests.e2e.embedded import embedded

ENCODE = url("tabular", "encode")
ROW = np.array([[0.25, 0.5, 0.75, 1]], np.float32).tobytes()
GOOD, WRONG = make_key(), make_key()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    tiny.write_tabular(folder / "models")
    add_line(folder / "file", line_of(GOOD, "reader", "infer"))
    with embedded(folder / "models", api_keys_file=folder / "file") as server:
        yield server


def asked(key, way="short"):
    return request(ENCODE, ROW, way, authorization=f"Bearer {key}")


def test_a_wrong_key_is_refused_where_the_right_one_has_become_known(server):
    good, wrong = asked(GOOD), asked(WRONG)
    with Client(server.url) as client:
        right = [client.ask(good) for _ in range(4)]
        assert server.knows(good)

        refused = [client.ask(wrong) for _ in range(4)]
        again = client.ask(good)

    assert [answer.status_code for answer in [*right, again]] == [200] * 5
    assert {answer.headers["content-type"] for answer in right} == {RAW}
    assert [answer.status_code for answer in refused] == [401] * 4
    assert refused[0].headers["www-authenticate"] == "Bearer"
    assert not server.knows(wrong)


def test_a_refusal_lets_a_large_body_pass_by_unread(server):
    large = request(ENCODE, bytes(8 << 20), "ordinary", authorization=f"Bearer {WRONG}")
    with Client(server.url) as client:
        refused = client.ask(large)
        answered = client.ask(asked(GOOD))

    assert (refused.status_code, answered.status_code) == (401, 200)


def test_health_is_answered_to_everybody(server):
    assert get(server.url, "/readyz").status_code == 200
    assert get(server.url, "/metrics").status_code == 401
