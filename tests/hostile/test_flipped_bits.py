"""One flipped bit, anywhere in a package: refused."""

import json
import random

import pytest

from service.cli import main
from service.commands.console import EXIT_FAULT
from service.errors import PackageError
from service.repository.packages import read_manifest, read_package
from tests import tiny

FLIPS = 100
EVERY = 7  # bits, so that each of a byte's comes in its turn


@pytest.fixture
def location(tmp_path):
    return tiny.write_tabular(tmp_path / "models", name="sound")


def flip(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_bit_anywhere_in_any_file_is_noticed(location):
    chosen = random.Random(20)  # noqa: S311 - repeatable
    paths = sorted(path for path in location.folder.iterdir())
    assert {path.name for path in paths} == {*read_package(location).manifest.files, "model.json"}

    for number in range(FLIPS):
        path = paths[number % len(paths)]
        sound = path.read_bytes()
        path.write_bytes(flip(sound, chosen.randrange(8 * len(sound))))
        with pytest.raises(PackageError):
            read_package(location)
        path.write_bytes(sound)

    assert read_package(location).manifest.name == "sound"


def test_no_bit_of_a_manifest_passes(location):
    path = location.folder / "model.json"
    sound = path.read_bytes()
    lets_pass = []
    for bit in range(0, 8 * len(sound), EVERY):
        path.write_bytes(flip(sound, bit))
        try:
            read_manifest(location)
        except PackageError:
            continue
        lets_pass.append(bit)

    assert len(sound) > 500
    assert lets_pass == []


def test_the_command_names_each_of_some(capsys, tmp_path, location):
    chosen = random.Random(21)  # noqa: S311 - repeatable
    names = sorted(path.name for path in location.folder.iterdir())
    for number, name in enumerate(names):
        spoiled = tiny.write_tabular(tmp_path / "models", name=f"flipped-{number}").folder / name
        sound = spoiled.read_bytes()
        spoiled.write_bytes(flip(sound, chosen.randrange(8 * len(sound))))

    status = main(["check", str(tmp_path / "models"), "--device", "cpu", "--json"])

    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert status == EXIT_FAULT
    assert [line["model"] for line in told if line["ok"]] == ["sound"]
    assert len(told) == 1 + len(names)
