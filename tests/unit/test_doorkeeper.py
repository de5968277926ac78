"""How many connections there may be, and who makes room; the rest is in ``tests/api``."""

import pytest

from service.doorkeeper import file_limit, places
from service.errors import ConfigurationError
from service.settings import Settings


@pytest.mark.parametrize(
    ("files", "expected"), [(1024, 896), (200, 72), (100, 25), (1_048_576, 10_000), (None, 10_000)]
)
def test_the_limit_of_files_leaves_room_for_so_many_connections(files, expected):
    assert places(Settings(), files) == expected


def test_a_number_may_be_named():
    assert places(Settings(max_connections=500), 1024) == 500
    assert places(Settings(max_connections=50_000), None) == 50_000


def test_more_than_the_files_allow_is_refused():
    with pytest.raises(ConfigurationError, match="896 connections: raise the limit"):
        places(Settings(max_connections=897), 1024)


def test_this_process_has_a_limit_of_files_or_none():
    limit = file_limit()

    assert limit is None or limit > 0
