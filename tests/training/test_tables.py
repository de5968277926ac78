"""The table recipe: scaling inside the graph, learning without copying, the same bits again."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training.export import export, parity, to_onnx  # noqa: E402
from training.layers import places  # noqa: E402
from training.recipe import TableRecipe  # noqa: E402
from training.tables import (  # noqa: E402
    STEPS_A_POINT,
    Curve,
    TableNetwork,
    column_scale,
    fit_table,
)

SMALL = TableRecipe(widths=(16,), code=8, noise=0.5, steps=150, batch_rows=64, learning_rate=1e-2)


def table(rows, seed=0):
    """Three columns with units of their own, two of which say the same, and one that is still."""
    hidden = np.random.default_rng(seed).normal(size=(rows, 2))
    columns = [1000 * hidden[:, 0] + 5000, hidden[:, 0] + 0.1 * hidden[:, 1], 0.01 * hidden[:, 1]]
    return np.stack([*columns, np.full(rows, 7.0)], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    return fit_table(table(2000), SMALL, seed=0)


def errors(network, rows):
    with torch.inference_mode():
        difference = network(torch.from_numpy(rows)).numpy() - rows
    return np.mean((difference / column_scale(table(2000))[1]) ** 2, axis=1)


def test_columns_come_and_go_in_their_own_units(network):
    rows = table(500, seed=1)

    assert np.median(errors(network, rows)) < 0.2


def test_rows_that_break_the_columns_bond_are_given_back_badly(network):
    broken = table(500, seed=1)
    broken[:, 0] = 10_000 - broken[:, 0]

    assert np.median(errors(network, broken)) > 5 * np.median(errors(network, table(500, seed=1)))


def test_a_column_that_is_still_has_a_deviation_of_one():
    middle, deviation = column_scale(table(300))

    assert (middle[3], deviation[3]) == (7.0, 1.0)
    assert deviation[0] == pytest.approx(1000, rel=0.2)


def test_the_layers_end_with_the_code(network):
    rows = torch.from_numpy(table(5))

    layers = network.layers(rows)

    assert [tuple(layer.shape) for layer in layers] == [(5, 16), (5, 8)]
    assert torch.equal(layers[-1], network.encoder(rows))


def test_equal_seeds_give_equal_weights():
    short = TableRecipe(widths=(4,), code=2, steps=5, batch_rows=8)
    weights = [
        [value.tolist() for value in fit_table(table(50), short, seed=seed).state_dict().values()]
        for seed in (1, 1, 2)
    ]

    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_both_halves_can_be_exported_with_their_scaling(network):
    rows = torch.from_numpy(table(64))
    with torch.inference_mode():
        codes = network.encoder(rows)

    encoder = to_onnx(network.encoder, rows, source="input", targets=["code"])
    decoder = to_onnx(network.decoder, codes.clone(), source="code", targets=["reconstruction"])

    assert parity(network.encoder, [encoder], rows) < 1e-5
    # in units of thousands
    assert parity(network, [encoder, decoder], rows) < 1e-2


def test_the_curve_has_a_point_for_every_few_steps_and_changes_no_weight(network):
    rows = table(2000)
    curve = Curve(table(100, seed=2), column_scale(rows)[1])

    watched = fit_table(rows, SMALL, seed=0, watch=curve)

    history = curve.history
    assert len(history.train_loss) == len(history.validation_mse) == SMALL.steps // STEPS_A_POINT
    assert history.train_loss[-1] < history.train_loss[0]
    expected = network.state_dict()
    assert all(torch.equal(expected[name], found) for name, found in watched.state_dict().items())


def test_weights_fit_into_a_network_that_has_not_seen_the_rows(network):
    fresh = TableNetwork((4,), SMALL)

    fresh.load_state_dict(network.state_dict())

    rows = torch.from_numpy(table(5))
    assert torch.equal(fresh(rows), network(rows))


def test_pictures_go_through_flat_and_keep_their_values(network):
    recipe = replace(SMALL, scaled=False, steps=STEPS_A_POINT)
    pictures = np.random.default_rng(3).random((200, 1, 4, 4), np.float32)

    found = fit_table(pictures, recipe, seed=0)

    given = found(torch.from_numpy(pictures[:3]))
    assert given.shape == (3, 1, 4, 4)
    assert "encoder.0.deviation" not in found.state_dict()


def test_exported_halves_name_their_layers_and_are_compared_in_the_columns_units(network):
    rows = table(64)

    exported = export(network, rows, unit=column_scale(table(2000))[1])

    assert exported.max_difference < 1e-5
    layers = places(network, torch.from_numpy(rows))
    inner = [place.layer.name for place in layers if place.is_inner]
    assert inner == ["encoder.dense1", "decoder.dense1", "decoder.dense2"]
    assert [layer.layer.activation for layer in layers].count("silu") == 2
    assert layers[-1].layer.kind == "scaling by mean and deviation"
