"""What the kernel grants, read from files of made-up machines."""

import os

import pytest

from service.grants import _fewest, affine_cores, cpu_quota, memory_limit_bytes, usable_cores

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path):
    """A folder of control groups and the file that names those of this process."""

    def machine(membership, files):
        cgroups = tmp_path / "cgroup"
        cgroups.mkdir()
        for name, text in files.items():
            (cgroups / name).parent.mkdir(parents=True, exist_ok=True)
            (cgroups / name).write_text(text)
        member = tmp_path / "self"
        if membership is not None:
            member.write_text(membership)
        return cgroups, member

    return machine


V2 = "0::/\n"
SERVICE = "0::/system.slice/hourglass.service\n"
V1 = "4:memory:/docker/4f\n2:cpu,cpuacct:/docker/4f\n1:name=systemd:/docker/4f\n"


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        pytest.param(V2, {"cpu.max": "150000 100000\n"}, 1.5, id="a container"),
        pytest.param(V2, {"cpu.max": "max 100000\n"}, None, id="no limit"),
        pytest.param(V2, {}, None, id="no controller"),
        pytest.param(None, {"cpu.max": "50000 100000"}, 0.5, id="no membership"),
        pytest.param(
            SERVICE,
            {
                "system.slice/cpu.max": "max 100000",
                "system.slice/hourglass.service/cpu.max": "200000 100000",
            },
            2.0,
            id="a unit of systemd",
        ),
        pytest.param(
            SERVICE,
            {
                "system.slice/cpu.max": "100000 100000",
                "system.slice/hourglass.service/cpu.max": "400000 100000",
            },
            1.0,
            id="a parent that grants less",
        ),
        pytest.param(
            SERVICE,
            {
                "system.slice/cpu.max": "400000 100000",
                "system.slice/hourglass.service/cpu.max": "100000 100000",
            },
            1.0,
            id="a parent that grants more",
        ),
        pytest.param(
            SERVICE,
            {"system.slice/other.service/cpu.max": "100000 100000"},
            None,
            id="a neighbour's limit",
        ),
        pytest.param(
            V1,
            {
                "cpu,cpuacct/docker/4f/cpu.cfs_quota_us": "300000\n",
                "cpu,cpuacct/docker/4f/cpu.cfs_period_us": "100000\n",
            },
            3.0,
            id="version 1",
        ),
        pytest.param(
            V1,
            {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"},
            2.5,
            id="version 1 in a container that sees the host's path",
        ),
        pytest.param(
            V1,
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            None,
            id="version 1 without a limit",
        ),
        pytest.param(
            V1,
            {"cpuset/cpu.cfs_quota_us": "100000", "cpuset/cpu.cfs_period_us": "100000"},
            None,
            id="another controller's folder",
        ),
        pytest.param(V2, {"cpu.max": "100000 0"}, None, id="no period"),
        pytest.param(V2, {"cpu.max": "nonsense"}, None, id="nonsense"),
        pytest.param(V2, {"cpu.max": ""}, None, id="nothing"),
        pytest.param("", {"cpu.max": "100000 100000"}, 1.0, id="an empty membership"),
    ],
)
def test_the_quota_is_what_the_tightest_group_grants(machine, membership, files, quota):
    assert cpu_quota(*machine(membership, files)) == quota


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        pytest.param(V2, {"memory.max": f"{GIB}\n"}, GIB, id="a container"),
        pytest.param(V2, {"memory.max": "max"}, None, id="no limit"),
        pytest.param(
            SERVICE,
            {"memory.max": f"{2 * GIB}", "system.slice/memory.max": f"{GIB}"},
            GIB,
            id="a parent that allows less",
        ),
        pytest.param(V1, {"memory/docker/4f/memory.limit_in_bytes": f"{GIB}"}, GIB, id="version 1"),
        pytest.param(
            V1,
            {"memory/memory.limit_in_bytes": "9223372036854771712"},
            None,
            id="version 1 without a limit",
        ),
    ],
)
def test_the_memory_is_what_the_tightest_group_allows(machine, membership, files, limit):
    assert memory_limit_bytes(*machine(membership, files)) == limit


@pytest.mark.parametrize(
    ("affine", "quota", "usable"), [(8, None, 8), (8, 2, 2), (8, 1.5, 2), (8, 0.2, 1), (1, 4, 1)]
)
def test_usable_is_what_both_affinity_and_quota_leave(affine, quota, usable):
    assert _fewest(affine, quota) == usable


def test_a_quota_of_one_core_leaves_one(machine):
    assert usable_cores(*machine(V2, {"cpu.max": "100000 100000"})) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_affinity_is_read_from_the_scheduler():
    whole = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(whole)})
        narrowed = affine_cores()
    finally:
        os.sched_setaffinity(0, whole)

    assert narrowed == 1
    assert affine_cores() == len(whole)


def test_this_machine_grants_something():
    assert 1 <= usable_cores() <= affine_cores()
