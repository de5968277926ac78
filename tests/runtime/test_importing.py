"""From foreign files to packages that load: what is found, asked, refused, and written down."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from service.errors import ConfigurationError, PackageError, QuestionError
from service.importing.packing import import_model
from service.importing.report import report
from service.importing.wishes import Wishes
from service.inference.probing import Probe
from service.inference.providers import Device
from service.packaging import answers, check_package
from service.repository.packages import read_package
from service.settings import Settings
from tests import foreign

ALL = ["encode", "decode", "reconstruct", "anomaly-score"]
SETTINGS = Settings(device="cpu")
ROWS = np.random.default_rng(8).normal(size=(5, 12)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def wish(folder: Path, data: bytes | None = None, **more) -> Wishes:
    if data is not None:
        path = folder / "foreign.onnx"
        path.write_bytes(data)
        more.setdefault("files", [path])
    return Wishes(**{"name": "made", "models": folder / "models", **more})


def made(folder: Path, data: bytes | None = None, **more):
    """Import without measuring batches at length, and load the package as the server does."""
    found = import_model(wish(folder, data, **more), budget_s=0)
    assert found.location is not None
    operations = check_package(found.location, SETTINGS, Device())
    assert operations == list(found.operations)
    return found, read_package(found.location)


def pair(folder: Path, *data: bytes) -> list[Path]:
    paths = [folder / "one.onnx", folder / "two.onnx"]
    for path, each in zip(paths, data, strict=True):
        path.write_bytes(each)
    return paths


def run(data: bytes, name: str, rows: np.ndarray) -> np.ndarray:
    return Probe(onnx.load_model_from_string(data), [name]).run(rows)[name]


class TestKinds:
    @pytest.mark.parametrize(
        "make",
        [foreign.dense, foreign.conv_flat, foreign.channels_last, foreign.asking_sizes,
         foreign.with_functions, foreign.quantised_codes, foreign.attending],
    )  # fmt: skip
    def test_one_file_becomes_a_model_with_every_operation(self, folder, make):
        found, package = made(folder, make())

        assert list(found.operations) == ALL
        assert package.manifest.graphs.code_tensor == "code"

    def test_the_packed_model_gives_the_answers_of_the_file(self, folder):
        _, package = made(folder, foreign.dense())

        given = answers(package, ROWS)
        np.testing.assert_array_equal(given["reconstruction"], run(foreign.dense(), "y", ROWS))
        np.testing.assert_array_equal(given["code"], run(foreign.dense(), "code", ROWS))

    @pytest.mark.parametrize("order", [1, -1])
    def test_two_files_are_told_apart_by_their_shapes(self, folder, order):
        found, package = made(folder, files=pair(folder, *foreign.halves())[::order])

        assert list(found.operations) == ALL
        assert package.manifest.code is not None
        assert package.manifest.code.shape == (3,)

    def test_an_encoder_may_come_alone(self, folder):
        encoder, _ = pair(folder, *foreign.halves())

        found, _ = made(folder, encoder=encoder)

        assert found.operations == ("encode",)

    def test_without_a_code_it_reconstructs_and_scores(self, folder):
        found, package = made(folder, foreign.skipping(), has_no_code=True)

        assert found.operations == ("reconstruct", "anomaly-score")
        assert package.manifest.code is None

    def test_a_code_with_a_way_around_it_has_no_decoder_and_says_why(self, folder):
        found, _ = made(folder, foreign.skipping(), code="code")

        assert found.operations == ("encode", "reconstruct", "anomaly-score")
        assert "cannot    decode: data of the input goes around code" in text(found, folder)

    def test_the_mean_of_a_variational_encoder_is_its_code_when_named(self, folder):
        encoder = folder / "encoder.onnx"
        encoder.write_bytes(foreign.variational_encoder())

        _, package = made(folder, encoder=encoder, code_output="mean")

        expected = run(foreign.variational_encoder(), "mean", ROWS)
        np.testing.assert_array_equal(answers(package, ROWS)["code"], expected)

    def test_mean_and_variance_in_one_tensor_are_told_apart_by_what_the_decoder_takes(self, folder):
        encoder = foreign.Net(12)
        encoder.dense("x", 12, 6, name="moments")
        files = pair(folder, encoder.model(("moments", [6])), foreign.halves()[1])

        found, package = made(folder, files=files)

        expected = run(files[0].read_bytes(), "moments", ROWS)[:, :3]
        np.testing.assert_array_equal(answers(package, ROWS)["code"], expected)
        assert any("its first half, the mean, is the code" in note for note in found.plan.notes)

    def test_an_inner_tensor_may_be_the_output(self, folder):
        """As of a regression whose exporter flattens what it gives."""
        net = foreign.Net(12)
        net.dense(net.dense("x", 12, 3, name="code"), 3, 12, name="rows")
        net.reshape("rows", -1, 1, name="y")
        data = net.model(("y", [1]))

        with pytest.raises(ConfigurationError, match="--output rows"):
            import_model(wish(folder, data))
        found, package = made(folder, data, output="rows")

        assert list(found.operations) == ALL
        given = answers(package, ROWS)["reconstruction"]
        np.testing.assert_array_equal(given, run(data, "rows", ROWS))

    def test_of_several_outputs_the_one_like_the_input_is_the_reconstruction(self, folder):
        found, _ = made(folder, foreign.variational())

        assert list(found.operations) == ALL
        assert "outputs left out: code, log_variance" in found.plan.notes

    def test_codes_may_be_whole_numbers(self, folder):
        _, package = made(folder, foreign.quantised_codes())

        assert package.manifest.code is not None
        assert (package.manifest.code.dtype, package.manifest.code.shape) == ("int64", (4,))

    @pytest.mark.parametrize("dtype", ["float16", "float64"])
    def test_other_floats_stay_what_they_are(self, folder, dtype):
        _, package = made(folder, foreign.dense(dtype=dtype))

        assert package.manifest.input.dtype == dtype

    def test_pictures_of_any_size_stay_of_any_size(self, folder):
        _, package = made(folder, foreign.conv_latent("h", "w"), image="L", value_range=(0.0, 1.0))

        manifest = package.manifest
        assert manifest.input.shape == (1, None, None)
        assert manifest.code is not None
        assert manifest.code.shape == (2, None, None)
        assert manifest.output is not None
        assert manifest.output.image == manifest.input.image

    def test_an_old_file_is_brought_up(self, folder):
        _, package = made(folder, foreign.dense(opset=9, ir_version=3))

        assert package.manifest.origin is not None
        assert package.manifest.origin.files[0].opsets == {"ai.onnx": 9}

    def test_an_output_of_another_kind_has_no_score(self, folder):
        encoder, _ = pair(folder, *foreign.halves())

        found, package = made(folder, files=[encoder], output_kind="class", has_no_code=True)

        assert found.operations == ("reconstruct",)
        assert package.manifest.output_kind == "class"


class TestBatches:
    @pytest.mark.parametrize("batch", [1, 4])
    def test_a_fixed_axis_is_freed_and_that_is_written_down(self, folder, batch):
        _, package = made(folder, foreign.conv_flat(batch))

        origin = package.manifest.origin
        assert origin is not None
        assert origin.batch_axis == "freed"
        assert package.manifest.max_batch_rows is None

    def test_one_row_at_a_time_where_it_cannot_be_freed(self, folder):
        found, package = made(folder, foreign.stubborn())

        assert package.manifest.max_batch_rows == 1
        assert not package.manifest.invariant
        assert list(found.operations) == ALL
        assert "served one row at a time" in text(found, folder)
        alone = [run(foreign.stubborn(), "y", ROWS[at : at + 1]) for at in range(5)]
        given = answers(package, ROWS)["reconstruction"]
        np.testing.assert_allclose(given, np.concatenate(alone), rtol=1e-5, atol=1e-6)

    def test_batches_of_the_fixed_size_where_that_is_more_than_one(self, folder):
        _, package = made(folder, foreign.stubborn(3))

        assert (package.manifest.max_batch_rows, package.manifest.invariant) == (3, True)

    def test_rows_that_change_each_other_are_served_alone(self, folder):
        found, package = made(folder, foreign.dynamically_quantised())

        assert package.manifest.max_batch_rows == 1
        assert any("others in a batch than alone" in remark for remark in found.remarks)

    def test_rows_that_change_each_other_by_bits_are_found_by_measuring(self, folder):
        found = import_model(wish(folder, foreign.with_branch()))

        assert found.description.max_batch_rows == 1
        assert any("rows beside it" in remark for remark in found.remarks)

    def test_answers_that_hang_together_in_a_fixed_batch_are_refused(self, folder):
        net = foreign.Net(4, batch=2)
        mean = net("ReduceMean", net.reshape("x", 1, 2, 4), net.constant([1]), keepdims=0)
        code = net.dense(net("Sub", "x", mean), 4, 2, name="code")
        net.dense(code, 2, 4, name="y")

        with pytest.raises(PackageError, match="beside it"):
            import_model(wish(folder, net.model(("y", [4]))))


class TestScaling:
    def test_it_is_put_into_the_graph_for_each_feature(self, folder):
        mean, deviation = np.linspace(-5, 5, 12), np.linspace(1, 9, 12)
        rows = (ROWS * deviation + mean).astype(np.float32)

        _, package = made(
            folder, foreign.dense(), mean=mean, standard_deviation=deviation, rows=rows
        )

        scaled = ((rows - mean) / deviation).astype(np.float32)
        given = answers(package, rows)
        np.testing.assert_allclose(given["code"], run(foreign.dense(), "code", scaled), atol=1e-5)
        inner = run(foreign.dense(), "y", scaled)
        np.testing.assert_allclose(given["reconstruction"], inner * deviation + mean, atol=1e-4)
        np.testing.assert_allclose(
            given["score"], np.square(scaled - inner).mean(axis=1), rtol=1e-4
        )
        manifest = package.manifest
        assert manifest.input.scale == tuple(deviation)
        assert manifest.preprocessing is not None
        assert manifest.preprocessing.mean == list(mean)
        assert manifest.preprocessing.standard_deviation == list(deviation)

    def test_it_is_put_into_both_files_of_a_pair(self, folder):
        deviation = np.array([4.0])

        _, package = made(
            folder, files=pair(folder, *foreign.halves()), standard_deviation=deviation
        )

        encoder, decoder = foreign.halves()
        codes = run(encoder, "z", ROWS / 4)
        given = answers(package, ROWS)["reconstruction"]
        np.testing.assert_allclose(given, run(decoder, "y", codes) * 4, rtol=1e-5, atol=1e-5)

    def test_pictures_are_scaled_by_channel(self, folder):
        mean, deviation = np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.6, 0.7])
        rows = np.random.default_rng(1).random((4, 8, 8, 3), np.float32)

        _, package = made(
            folder,
            foreign.channels_last(),
            mean=mean,
            standard_deviation=deviation,
            image="RGB",
            value_range=(0.0, 1.0),
        )

        scaled = ((rows - mean) / deviation).astype(np.float32)  # channels last
        expected = run(foreign.channels_last(), "code", scaled)
        np.testing.assert_allclose(answers(package, rows)["code"], expected, atol=1e-4)
        assert package.manifest.input.image is not None
        assert package.manifest.input.image.layout == "HWC"

    @pytest.mark.parametrize(
        "more",
        [
            {"standard_deviation": np.array([0.0])},
            {"standard_deviation": np.array([-1.0])},
            {"mean": np.array([np.nan])},
            {"mean": np.arange(5.0)},
        ],
    )
    def test_what_is_no_scaling_is_refused(self, folder, more):
        with pytest.raises(ConfigurationError, match=r"--(std|mean)"):
            import_model(wish(folder, foreign.dense(), **more))


class TestQuestions:
    @pytest.mark.parametrize(
        ("make", "more", "asked"),
        [
            (foreign.two_stages, {}, "--code TENSOR"),
            (foreign.overcomplete, {}, "--no-code"),
            (foreign.variational_encoder, {}, "--code-output"),
            (lambda: foreign.halves()[0], {}, "--encoder FILE"),
            (foreign.conv_flat, {"image": "L"}, "--range"),
            (
                lambda: foreign.conv_latent("h", "w"),
                {"mean": np.arange(1.0, 3), "value_range": (0.0, 1.0)},
                "--layout",
            ),
        ],
    )
    def test_what_cannot_be_seen_is_asked(self, folder, make, more, asked):
        with pytest.raises(QuestionError, match=asked):
            import_model(wish(folder, make(), **more))
        assert not (folder / "models").exists()

    def test_two_files_of_equal_widths_are_asked_about(self, folder):
        files = pair(folder, foreign.dense(), foreign.dense())

        with pytest.raises(QuestionError, match="--decoder FILE"):
            import_model(wish(folder, files=files))

    def test_a_layout_that_fits_both_ways_is_asked(self, folder):
        net = foreign.Net(3, 4, 3)
        net.dense(net.dense(net.reshape("x", -1, 36), 36, 3), 3, 36, name="flat")
        net.reshape("flat", -1, 3, 4, 3, name="y")

        with pytest.raises(QuestionError, match="--layout CHW or HWC"):
            import_model(
                wish(folder, net.model(("y", [3, 4, 3])), image="RGB", value_range=(0.0, 1.0))
            )

    def test_outputs_are_listed_with_dtype_and_shape(self, folder):
        encoder = folder / "encoder.onnx"
        encoder.write_bytes(foreign.variational_encoder())

        with pytest.raises(QuestionError, match=r"log_variance  float32  \[batch, 2\]"):
            import_model(wish(folder, encoder=encoder))

    def test_whole_numbers_need_a_range_or_rows(self, folder):
        net = foreign.Net(4, dtype="int64")
        table = net.constant(np.random.default_rng(0).normal(size=(9, 1)).astype(np.float32))
        net("Gather", table, "x", name="y")
        data = net.model(("y", [4]))

        with pytest.raises(QuestionError, match="--range LOW,HIGH"):
            import_model(wish(folder, data, output_kind="words", has_no_code=True))


class TestRefusals:
    def test_a_model_that_draws_random_numbers_is_told_the_remedy(self, folder):
        with pytest.raises(PackageError, match=r"RandomNormalLike.*evaluation mode"):
            import_model(wish(folder, foreign.variational(draws=True)))

    def test_a_code_that_is_not_there_is_refused(self, folder):
        with pytest.raises(ConfigurationError, match="no inner tensor gone"):
            import_model(wish(folder, foreign.dense(), code="gone"))

    def test_a_version_that_is_there_is_kept(self, folder):
        made(folder, foreign.dense())

        with pytest.raises(ConfigurationError, match="made/1 is there already"):
            import_model(wish(folder, foreign.dense(), version=1))

    def test_encoder_and_decoder_that_do_not_fit_are_refused(self, folder):
        files = pair(folder, foreign.halves()[0], foreign.halves()[1])
        net = foreign.Net(4)
        net.dense("x", 4, 12, name="y")
        files[1].write_bytes(net.model(("y", [12])))

        with pytest.raises(ConfigurationError, match="the encoder gives rows of float32"):
            import_model(wish(folder, files=files))

    def test_an_operator_that_the_runtime_lacks_is_named(self, folder):
        net = foreign.Net(4)
        net("Magic", "x", name="y", domain="com.example")
        model = onnx.load_model_from_string(net.model(("y", [4])))
        model.opset_import.add(domain="com.example", version=1)

        with pytest.raises(PackageError, match=r"no operator com\.example:Magic"):
            import_model(wish(folder, model.SerializeToString()))

    @pytest.mark.parametrize(
        "rows",
        [ROWS[:, :4], ROWS[:0], np.full((2, 12), np.inf, np.float32), np.array(["a"])],
        ids=["of another shape", "none", "infinite", "text"],
    )
    def test_rows_that_are_no_rows_of_the_model_are_refused(self, folder, rows):
        with pytest.raises(ConfigurationError, match="--rows"):
            import_model(wish(folder, foreign.dense(), rows=rows))


class TestWhatIsWritten:
    def test_the_origin_of_the_files_and_what_was_changed(self, folder):
        found, package = made(folder, foreign.conv_flat(1))

        origin = package.manifest.origin
        assert origin is not None
        (file,) = origin.files
        assert (file.file, file.producer) == ("foreign.onnx", "hand 1.0")
        assert file.bytes == len(foreign.conv_flat(1))
        assert origin.changes == list(found.plan.notes)
        assert origin.parity.rows == 32
        assert origin.parity.max_difference < 1e-5

    def test_the_next_free_version_is_taken(self, folder):
        made(folder, foreign.dense())

        found, _ = made(folder, foreign.dense())

        assert found.description.version == 2

    def test_golden_rows_are_those_that_were_handed_over(self, folder):
        found, _ = made(folder, foreign.dense(), rows=ROWS)

        assert found.location is not None
        with np.load(found.location.folder / "golden.npz") as golden:
            np.testing.assert_array_equal(golden["input"][:5], ROWS)

    def test_layers_are_inner_tensors_of_the_file(self, folder):
        _, package = made(folder, foreign.dense(), layers={"hidden": "t5"})

        layer = package.manifest.layers["hidden"]
        assert (layer.file, layer.tensor, layer.shape) == ("autoencoder", "t5", (8,))

    def test_the_card_says_what_was_said(self, folder):
        features = tuple("abcdefghijkl")

        _, package = made(
            folder,
            foreign.dense(),
            title="A title",
            description="Words",
            licence="MIT",
            features=features,
            value_range=(-9.0, 9.0),
        )

        manifest = package.manifest
        assert (manifest.title, manifest.description, manifest.licence) == (
            "A title",
            "Words",
            "MIT",
        )
        assert manifest.input.features == features
        assert manifest.input.range == (-9.0, 9.0)

    def test_a_dry_run_says_the_same_and_writes_nothing(self, folder):
        found = import_model(wish(folder, foreign.dense()), is_dry=True, budget_s=0)

        assert list(found.operations) == ALL
        assert "would be written" in text(found, folder)
        assert not (folder / "models").exists()

    def test_the_manifest_is_json_that_names_the_parity(self, folder):
        found, _ = made(folder, foreign.dense())

        assert found.location is not None
        content = json.loads((found.location.folder / "model.json").read_text("utf-8"))
        assert content["origin"]["batch_axis"] == "free"
        assert content["origin"]["parity"]["rows"] == 32


def text(found, folder) -> str:
    return report(found, wish(folder))
