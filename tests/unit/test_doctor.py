"""What the doctor finds, on made-up machines and on this one."""

import pytest

from service import doctor
from service.cli import main
from service.doctor import examine
from service.settings import Settings


@pytest.fixture
def look(tmp_path, models):
    """Examine a machine whose cgroup files are given; give the findings by subject."""

    def look(*, cpu_max=None, memory_max=None, **settings):
        for name, text in (("cpu.max", cpu_max), ("memory.max", memory_max)):
            if text is not None:
                (tmp_path / name).write_text(text)
        findings = examine(Settings(**{"models": models, **settings}), cgroups=tmp_path)
        return {finding.subject: finding for finding in findings}

    return look


def test_this_machine_can_serve_on_the_cpu(look):
    findings = look(device="cpu")

    assert findings["cpu"].verdict == "ok"
    assert findings["onnxruntime"].verdict == "ok"
    assert findings["models"].text.endswith("holds 2; `hourglass check` tries them")


def test_two_runtimes_in_one_environment_are_a_fault_with_its_remedy():
    finding = doctor._runtime(["onnxruntime", "onnxruntime-gpu"])

    assert finding.verdict == "fault"
    assert finding.remedy == (
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
    )


def test_a_runtime_of_unknown_origin_is_noted():
    assert doctor._runtime([]).verdict == "note"


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_gpu_that_nobody_asked_for_may_be_missing(look, device):
    assert look(device=device)["cuda"].verdict in {"ok", "note"}


def test_a_gpu_that_was_asked_for_and_does_not_work_is_a_fault(look):
    findings = look(device="cuda")

    if findings["cuda"].verdict == "ok":
        pytest.skip("this machine has a GPU")
    assert findings["cuda"].verdict == "fault"
    assert findings["cuda"].remedy is not None


@pytest.mark.parametrize(
    ("cpu_max", "threads", "verdict", "says"),
    [
        ("max 100000", 1, "ok", "usable"),
        ("100000 100000", 1, "ok", "grants 1"),
        ("50000 100000", 2, "fault", "grants 0.5"),
        ("20000 100000", 1, "note", "grants 0.2"),
        ("150000 100000", 4096, "fault", "4096 threads"),
        ("50000 100000", "auto", "note", "grants 0.5"),
        ("100000 100000", "auto", "ok", "grants 1"),
        ("nonsense", 1, "ok", "usable"),
        ("1 0", 1, "ok", "usable"),
        (None, 1, "ok", "usable"),
    ],
)
def test_cores_are_what_the_cgroup_grants(look, cpu_max, threads, verdict, says):
    finding = look(cpu_max=cpu_max, intra_op_threads=threads)["cores"]

    assert finding.verdict == verdict
    assert says in finding.text


@pytest.mark.parametrize(
    ("memory_max", "verdict"),
    [("max", "ok"), (str(1 << 30), "ok"), (str(100 << 20), "fault"), ("\xff", "ok"), (None, "ok")],
)
def test_memory_is_what_the_cgroup_allows(look, memory_max, verdict):
    assert look(memory_max=memory_max)["memory"].verdict == verdict


def test_a_missing_repository_is_a_fault(look, tmp_path):
    assert look(models=tmp_path / "nothing")["models"].verdict == "fault"


def test_an_empty_repository_is_noted(look, tmp_path):
    (tmp_path / "empty").mkdir()

    assert look(models=tmp_path / "empty")["models"].verdict == "note"


def test_the_command_prints_findings_and_ends_with_0_when_all_is_well(models, capsys):
    status = main(["doctor", "--models", str(models), "--device", "cpu"])

    assert status == 0
    assert "ok     cpu          a tiny graph ran" in capsys.readouterr().out


def test_the_command_ends_with_1_and_a_remedy_when_something_is_wrong(tmp_path, capsys):
    status = main(["doctor", "--models", str(tmp_path / "nothing")])

    assert status == 1
    assert "set HOURGLASS_MODELS or --models" in capsys.readouterr().out
