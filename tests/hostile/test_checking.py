"""Children of a check that die, and children that cannot start."""

import pytest

from service.checking import Limits, check_packages
from service.errors import ConfigurationError
from service.repository.packages import scan
from service.settings import Settings
from tests import tiny

CRASHES = {
    "aborts": "it crashes the runtime (SIGABRT)",
    "exits": "its process ended with status 3",
    "is-killed": "its process was killed, for want of memory most likely",
    "segfaults": "it crashes the runtime (SIGSEGV)",
}


@pytest.mark.slow
def test_a_crash_belongs_to_the_package_that_was_loaded_and_the_rest_is_still_checked(tmp_path):
    for name in ["a-good", *CRASHES, "z-good"]:
        tiny.write_tabular(tmp_path, name=name)
    settings = Settings(models=tmp_path, device="cpu")

    verdicts = list(
        check_packages(scan(tmp_path), settings, Limits(), child="tests.hostile.crashing")
    )

    reasons = {verdict.location.name: verdict.reason for verdict in verdicts}
    assert reasons == {"a-good": None, **CRASHES, "z-good": None}
    assert verdicts[-1].operations == ["encode", "decode", "reconstruct", "anomaly-score"]


def test_a_child_that_does_not_start_is_no_fault_of_a_package(tmp_path):
    tiny.write_tabular(tmp_path)
    settings = Settings(models=tmp_path, device="cpu")

    with pytest.raises(ConfigurationError, match=r"a check cannot begin: .* status 1"):
        list(check_packages(scan(tmp_path), settings, Limits(), child="tests.no_such_module"))
