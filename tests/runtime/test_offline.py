"""``hourglass score``, ``encode`` and ``reconstruct``, beside the same rows over HTTP."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from service.cli import main
from service.commands.console import EXIT_FAULT, EXIT_USAGE
from service.packaging import write_package
from service.repository.manifest import Description, GraphFiles
from service.specs import TensorSpec
from tests import tiny
from tests.conftest import serve
from tests.unit.test_logs import untouched_logging

__all__ = ["untouched_logging"]

pytestmark = pytest.mark.usefixtures("untouched_logging")

NPY = "application/x-npy"
NAMES = ("width", "height", "depth", "weight")

ENCODE = [sys.executable, "-m", "service", "encode"]
FIRST_LINE = ["/bin/sh", "-c", '"$@" | head -n 1', "sh"]

ROWS = np.random.default_rng(3).random((1500, 4), np.float32)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Models of tables, with names and without, of pictures, and some that can do less."""
    folder = tmp_path_factory.mktemp("zoo")
    tiny.write_tabular(folder)
    tiny.write_tabular(folder, version=2)
    tiny.write_picture(folder)
    tiny.write_layered(folder)
    tiny.write(folder, tiny.poison(), ROWS[:4], name="poison", code_shape=(1,))
    tiny.write(folder, (tiny.keeping(4, 2)[0], None), ROWS[:4], name="encoder")
    encoder, decoder = tiny.mixing(4, 2)
    spec = TensorSpec("float32", (4,), features=NAMES)
    write_package(
        folder,
        Description(
            name="named",
            version=1,
            graphs=GraphFiles(encoder="encoder.onnx", decoder="decoder.onnx"),
            input=spec,
            code=TensorSpec("float32", (2,)),
            output=spec,
        ),
        {"encoder.onnx": encoder, "decoder.onnx": decoder},
        golden_rows=ROWS[:4],
        calibration_rows=ROWS,
        measure_invariance=False,
    )
    return folder


@pytest.fixture(scope="module")
def client(zoo):
    with serve(zoo) as client:
        yield client


@pytest.fixture
def run(zoo):
    def run_command(command, source, *flags, model="tabular"):
        models = ["--models", str(zoo), "--device", "cpu", "--model", model]
        return main([command, str(source), *models, *map(str, flags)])

    return run_command


def at(zoo):
    return ["--model", "tabular", "--models", str(zoo), "--device", "cpu"]


def over_http(client, operation, rows, model="tabular", **query):
    body = io.BytesIO()
    np.save(body, rows)
    headers = {"content-type": NPY, "accept": "application/json"}
    path = f"/v1/models/{model}/{operation}"
    answer = client.post(path, content=body.getvalue(), headers=headers, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def saved(folder, rows, end="npy"):
    path = folder / f"rows.{end}"
    if end == "npy":
        np.save(path, rows)
    elif end == "csv":
        np.savetxt(path, rows, delimiter=",", fmt="%.9g")
    else:
        import pyarrow as pa  # noqa: PLC0415

        pq.write_table(pa.table(dict(zip("wxyz", rows.T, strict=True))), path)
    return path


@pytest.fixture
def pictures(tmp_path):
    """Random pictures by their rows; one is broken where *broken* says so."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = np.random.default_rng(4).integers(0, 256, (5, 4, 4), np.uint8)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{number}.png")
    return folder


class TestTheSameAnswersAsOverHttp:
    def test_a_layer_has_the_same_bits(self, run, client, tmp_path):
        out = tmp_path / "layer.npy"
        flags = ("--model", "layered", "--layer", "behind", "--out", out)

        assert run("encode", saved(tmp_path, ROWS), *flags) == 0
        expected = over_http(client, "encode", ROWS, "layered", layer="behind")
        assert np.load(out).tolist() == np.array(expected["codes"], np.float32).tolist()

    def test_a_layer_that_the_model_does_not_have_is_asked_wrongly(self, run, capsys, tmp_path):
        flags = ("--model", "layered", "--layer", "none")

        assert run("encode", saved(tmp_path, ROWS), *flags) == EXIT_USAGE
        assert "no such layer" in capsys.readouterr().err

    @pytest.mark.parametrize("end", ["csv", "npy", "parquet"])
    def test_scores_have_the_same_bits_whatever_the_file_is(
        self, run, client, capsys, tmp_path, end
    ):
        assert run("score", saved(tmp_path, ROWS, end), "--out", tmp_path / "out.csv") == 0

        expected = over_http(client, "anomaly-score", ROWS)
        lines = (tmp_path / "out.csv").read_text().splitlines()
        assert lines[0] == "row,score,p_value,anomaly,threshold"
        cells = list(zip(*(line.split(",") for line in lines[1:]), strict=True))
        assert list(map(int, cells[0])) == list(range(1500))
        assert list(map(float, cells[1])) == expected["scores"]
        assert list(map(float, cells[2])) == expected["p_values"]
        assert [cell == "true" for cell in cells[3]] == expected["anomalies"]
        assert set(map(float, cells[4])) == {expected["threshold"]}
        count = sum(expected["anomalies"])
        assert f"tabular/2: 1500 rows, {count} above" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("flags", "query"),
        [
            (["--false-positive-rate", "0.2"], {"false_positive_rate": 0.2}),
            (["--threshold", "0.17"], {"threshold": 0.17}),
            (["--metric", "mse"], {"metric": "mse"}),
        ],
    )
    def test_options_mean_what_they_mean_over_http(self, run, client, tmp_path, flags, query):
        run("score", saved(tmp_path, ROWS), "--out", tmp_path / "out.parquet", *flags)

        expected = over_http(client, "anomaly-score", ROWS, **query)
        table = pq.read_table(tmp_path / "out.parquet")
        assert table["anomaly"].to_pylist() == expected["anomalies"]
        assert set(table["threshold"].to_pylist()) == {expected["threshold"]}
        facts = table.schema.metadata
        assert float(facts[b"threshold"]) == expected["threshold"]
        assert float(facts[b"false_positive_rate"]) == expected["false_positive_rate"]
        assert facts[b"metric"] == b"mse"

    @pytest.mark.parametrize(
        ("operation", "field"),
        [("encode", "codes"), ("reconstruct", "reconstructions")],
    )
    def test_codes_and_reconstructions_have_the_same_bits(
        self, run, client, tmp_path, operation, field
    ):
        run(operation, saved(tmp_path, ROWS), "--out", tmp_path / "out.npy", model="named")

        expected = over_http(client, operation, ROWS, model="named")[field]
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.array(expected, np.float32))

    def test_pictures_have_the_scores_of_the_same_pictures_over_http(
        self, run, client, tmp_path, pictures
    ):
        run("score", pictures, "--out", tmp_path / "out.csv", model="picture")

        files = [("file", path.read_bytes()) for path in sorted(pictures.iterdir())]
        answer = client.post("/v1/models/picture/anomaly-score", files=files)
        lines = (tmp_path / "out.csv").read_text().splitlines()[1:]
        assert [float(line.split(",")[2]) for line in lines] == answer.json()["scores"]
        assert [line.split(",")[1] for line in lines] == [f"{number}.png" for number in range(5)]

    def test_heat_maps_and_reconstructions_are_those_of_http(self, run, client, tmp_path, pictures):
        heat, drawn = tmp_path / "heat", tmp_path / "drawn"
        assert run("score", pictures, "--heat-maps", "--out", heat, model="picture") == 0
        assert run("reconstruct", pictures, "--out", drawn, model="picture") == 0

        names = [f"{number}.png" for number in range(5)]
        assert sorted(path.name for path in heat.iterdir()) == [*names, "scores.csv"]
        assert sorted(path.name for path in drawn.iterdir()) == names
        headers = {"content-type": "image/png", "accept": "image/png"}
        for name in names:
            body = (pictures / name).read_bytes()
            for folder, operation in ((heat, "anomaly-score"), (drawn, "reconstruct")):
                path = f"/v1/models/picture/{operation}"
                answer = client.post(path, content=body, headers=headers)
                assert (folder / name).read_bytes() == answer.content


class TestTables:
    def test_codes_are_columns_with_numbers(self, run, capsysbinary, tmp_path):
        run("encode", saved(tmp_path, ROWS[:2]), "--quiet")

        assert capsysbinary.readouterr().out.splitlines()[0] == b"c0,c1"

    def test_reconstructions_have_the_names_of_the_features_and_can_be_scored(self, run, tmp_path):
        source, again = saved(tmp_path, ROWS), tmp_path / "again.csv"

        assert run("reconstruct", source, "--out", again, model="named") == 0
        assert again.read_text().splitlines()[0] == ",".join(NAMES)
        assert run("score", again, "--out", tmp_path / "out.csv", model="named") == 0

    def test_columns_are_found_by_name(self, run, tmp_path):
        table = tmp_path / "rows.csv"
        order = [2, 0, 3, 1]
        header = ",".join(NAMES[place] for place in order)
        np.savetxt(table, ROWS[:, order], delimiter=",", fmt="%.9g", header=header, comments="")

        run("encode", table, "--out", tmp_path / "by-name.npy", model="named")
        run("encode", saved(tmp_path, ROWS), "--out", tmp_path / "by-place.npy", model="named")

        np.testing.assert_array_equal(
            np.load(tmp_path / "by-name.npy"), np.load(tmp_path / "by-place.npy")
        )

    def test_chosen_columns_make_a_row(self, run, capsysbinary, tmp_path):
        table = tmp_path / "rows.csv"
        table.write_text("a,b,c,d,e\n1,0,0,0.5,0.25\n")

        run("encode", table, "--columns", "d, e, b, c", "--quiet")

        assert capsysbinary.readouterr().out == b"c0,c1\n0.5,0.25\n"

    def test_a_pipe_is_read_and_written(self, zoo):
        text = "\n".join(",".join(map(str, row)) for row in ROWS[:600].tolist())

        done = subprocess.run(
            [*ENCODE, "-", *at(zoo)],
            input=text.encode(),
            capture_output=True,
            check=True,
            timeout=60,
        )

        rows = np.loadtxt(io.BytesIO(done.stdout), delimiter=",", skiprows=1, dtype=np.float32)
        np.testing.assert_array_equal(rows, ROWS[:600, :2])
        assert done.stderr == b"tabular/2: 600 rows\n"

    def test_an_end_of_the_reader_is_not_a_failure_of_ours(self, zoo, tmp_path):
        # more than a pipe holds
        source = saved(tmp_path, np.tile(ROWS, (20, 1)))

        done = subprocess.run(
            [*FIRST_LINE, *ENCODE, str(source), *at(zoo), "--quiet"],
            capture_output=True,
            check=True,
            timeout=60,
        )

        assert done.stdout == b"c0,c1\n"
        assert done.stderr == b""


class TestFaults:
    def broken(self, folder, count=600):
        lines = [",".join(map(str, row)) for row in ROWS[:count].tolist()]
        lines[3], lines[550] = "0.1,0.2,oops,0.4", "0.1,0.2,0.3,7"
        path = folder / "rows.csv"
        path.write_text("\n".join(lines))
        return path

    def test_a_bad_row_ends_the_reading_of_a_file_that_goes_on_for_long(
        self, run, capsys, tmp_path
    ):
        path = self.broken(tmp_path)
        path.write_text("\n".join([path.read_text()] * 20))

        assert run("encode", path, "--out", tmp_path / "out.csv") == EXIT_FAULT
        assert capsys.readouterr().err == "hourglass: line 4: column 3 is no number\n"

    def test_a_bad_row_ends_it_and_is_named(self, run, capsys, tmp_path):
        out = tmp_path / "out.csv"

        assert run("score", self.broken(tmp_path), "--out", out) == EXIT_FAULT
        assert capsys.readouterr().err == "hourglass: line 4: column 3 is no number\n"
        assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]

    @pytest.mark.parametrize("end", ["csv", "npy", "parquet"])
    def test_skipped_rows_leave_their_lines_empty_and_cost_no_other(
        self, run, client, capsys, tmp_path, end
    ):
        out = tmp_path / f"out.{end}"

        status = run("score", self.broken(tmp_path), "--on-error", "skip", "--out", out)

        assert status == EXIT_FAULT
        told = capsys.readouterr().err.splitlines()
        assert told[0] == "skipped line 4: column 3 is no number"
        assert told[1].startswith("skipped line 551: a value is out of the model's declared range")
        assert told[2].startswith("tabular/2: 600 rows, 2 of them skipped")
        kept = np.delete(ROWS[:600], [3, 550], axis=0)
        expected = over_http(client, "anomaly-score", kept)["scores"]
        scores = self.scores(out)
        assert [place for place, score in enumerate(scores) if score is None] == [3, 550]
        assert [score for score in scores if score is not None] == expected

    def scores(self, path):
        if path.suffix == ".csv":
            cells = [line.split(",")[1] for line in path.read_text().splitlines()[1:]]
            return [float(cell) if cell else None for cell in cells]
        if path.suffix == ".npy":
            return [None if np.isnan(score) else float(str(score)) for score in np.load(path)]
        column = pq.read_table(path)["score"].to_numpy()
        return [None if np.isnan(score) else float(str(score)) for score in column]

    def test_a_chunk_of_bad_rows_alone_is_written_too(self, run, tmp_path):
        table = tmp_path / "rows.csv"
        table.write_text("1,2,3,4\n" * 3)

        run("score", table, "--on-error", "skip", "--out", tmp_path / "out.npy")

        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), [np.nan] * 3)

    def test_a_row_that_the_model_fails_on_is_named_and_can_be_skipped(self, run, capsys, tmp_path):
        rows = ROWS[:40].copy()
        rows[17, 0] = 9
        source, out = saved(tmp_path, rows), tmp_path / "out.npy"

        assert run("encode", source, "--out", out, model="poison") == EXIT_FAULT
        assert "row 17: " in capsys.readouterr().err
        flags = ["--on-error", "skip", "--out", out]
        assert run("encode", source, *flags, model="poison") == EXIT_FAULT
        assert np.flatnonzero(np.isnan(np.load(out)[:, 0])).tolist() == [17]

    def test_a_broken_picture_is_named_and_can_be_skipped(self, run, capsys, tmp_path, pictures):
        (pictures / "2.png").write_bytes(b"broken")
        drawn = tmp_path / "drawn"

        flags = ["--on-error", "skip", "--out", drawn]
        assert run("reconstruct", pictures, *flags, model="picture") == EXIT_FAULT
        assert "skipped 2.png: not a PNG" in capsys.readouterr().err
        names = ["0.png", "1.png", "3.png", "4.png"]
        assert sorted(path.name for path in drawn.iterdir()) == names

    def test_a_file_without_rows_is_refused(self, run, capsys, tmp_path):
        table = tmp_path / "rows.csv"
        table.write_text("")

        assert run("score", table) == EXIT_FAULT
        captured = capsys.readouterr()
        assert (captured.out, captured.err) == ("", "hourglass: the file holds no rows\n")


class TestWronglyAsked:
    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            ((["score"], "nobody"), "there is no model nobody"),
            ((["score"], "tabular/3"), "there is no model tabular/3"),
            ((["score"], "encoder"), "can only encode"),
            ((["score", "--metric", "no-such"], "tabular"), "not calibrated for this metric"),
            ((["score", "--false-positive-rate", "2"], "tabular"), "between 0 and 1"),
            ((["score", "--heat-maps"], "tabular"), "needs a folder as --out"),
            ((["score", "--out", "{}/out.txt"], "tabular"), "neither a folder nor a file of"),
            ((["score", "--out", "{}/no/out.csv"], "tabular"), "No such file or directory"),
            ((["score", "--out", "{}/rows.npy"], "tabular"), "--out is the input itself"),
            ((["encode", "--out", "{}/folder"], "tabular"), "no pictures"),
            ((["encode", "--resize"], "tabular"), "--resize is for a folder"),
        ],
    )
    def test_it_ends_with_2_and_says_why(self, run, capsys, tmp_path, asked, said):
        flags, model = asked
        command, *flags = (flag.format(tmp_path) for flag in flags)

        assert run(command, saved(tmp_path, ROWS[:3]), *flags, model=model) == EXIT_USAGE
        captured = capsys.readouterr()
        assert said in captured.err
        assert captured.out == ""
        assert [path.name for path in tmp_path.iterdir()] == ["rows.npy"]

    @pytest.mark.parametrize("name", ["no-such.csv", "rows.txt"])
    def test_an_input_that_is_none_ends_with_2(self, run, capsys, tmp_path, name):
        (tmp_path / "rows.txt").write_text("1,2,3,4\n")

        assert run("score", tmp_path / name) == EXIT_USAGE
        assert name in capsys.readouterr().err

    def test_scores_do_not_become_a_folder_without_heat_maps(self, run, capsys, tmp_path, pictures):
        assert run("score", pictures, "--out", tmp_path / "x", model="picture") == EXIT_USAGE
        assert "needs --heat-maps" in capsys.readouterr().err

    def test_pictures_are_not_mixed_with_what_is_there(self, run, capsys, pictures):
        assert run("reconstruct", pictures, "--out", pictures, model="picture") == EXIT_USAGE
        assert "--out is the input itself" in capsys.readouterr().err


LEAN = """
import resource, sys
from service.cli import main
status = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(status)
"""


def peak_mib(zoo: Path, *arguments: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", LEAN, *arguments, "--models", str(zoo), "--device", "cpu"],
        capture_output=True,
        check=True,
        timeout=120,
    )
    return int(done.stdout) / 1024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
def test_memory_does_not_grow_with_the_file(tmp_path, tmp_path_factory):
    models = tmp_path_factory.mktemp("wide")
    shape = (1, 512, 512)
    golden = np.zeros((1, *shape), np.float32)
    tiny.write(models, tiny.halving(list(shape)), golden, name="wide", code_shape=shape)
    few, many = tmp_path / "few.npy", tmp_path / "many.npy"
    for path, rows in ((few, 16), (many, 400)):  # sparse: 400 MiB that take no room on the disk
        np.lib.format.open_memmap(path, "w+", np.float32, (rows, *shape))

    small, large = (
        peak_mib(models, "score", str(path), "--model", "wide", "--out", str(tmp_path / "out.npy"))
        for path in (few, many)
    )

    assert large < small + 40
    assert len(np.load(tmp_path / "out.npy")) == 400
