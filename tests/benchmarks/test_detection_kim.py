"""The network of RaPP's own experiments: its sizes, what it learns, the same bits again."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks.detection.kim import DeepNetwork, DeepRecipe, fit_deep, widths  # noqa: E402

SMALL = DeepRecipe(depth=2, code=2, epochs=3, batch_rows=50, learning_rate=1e-2)


def rows(count, seed=0):
    """Six columns that two numbers decide."""
    hidden = np.random.default_rng(seed).random((count, 2))
    mixing = np.random.default_rng(9).random((2, 6))
    return (hidden @ mixing).astype(np.float32)


def weights(network):
    return {name: value.tolist() for name, value in network.state_dict().items()}


def test_widths_fall_in_equal_steps_from_the_input_to_the_code():
    recipe = DeepRecipe(depth=5, code=20, epochs=1, batch_rows=1, learning_rate=1.0)

    assert widths(784, recipe) == [784, 631, 478, 325, 172, 20]


def test_every_layer_of_the_encoder_is_given_and_the_code_last():
    network = DeepNetwork(6, SMALL).eval()
    given = torch.from_numpy(rows(5))

    layers = network.layers(given)

    assert [tuple(layer.shape) for layer in layers] == [(5, 4), (5, 2)]
    assert torch.equal(layers[-1], network.encoder(given))
    assert network(given).shape == given.shape


def test_it_learns_to_give_rows_back():
    known, judged = rows(2000), rows(200, seed=1)
    recipe = DeepRecipe(depth=2, code=2, epochs=15, batch_rows=50, learning_rate=1e-2)

    network = fit_deep(known, recipe, seed=0)

    with torch.inference_mode():
        error = ((network(torch.from_numpy(judged)).numpy() - judged) ** 2).mean()
    assert error < 0.2 * judged.var(axis=0).mean()


def test_equal_seeds_give_equal_weights():
    first, again, other = (weights(fit_deep(rows(200), SMALL, seed=seed)) for seed in (1, 1, 2))

    assert first == again
    assert first != other
