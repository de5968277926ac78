import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tqdm")

from training.loop import fit, make_reproducible, mse  # noqa: E402
from training.networks import ConvolutionalSizes, convolutional  # noqa: E402
from training.recipe import Schedule  # noqa: E402

SIZES = ConvolutionalSizes(side=8, half_channels=2, quarter_channels=3, code=2)
SCHEDULE = Schedule(epochs=3, batch_rows=8, learning_rate=1e-2)


@pytest.fixture(autouse=True)
def _settings_of_torch_are_put_back():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def rows():
    return torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(5)).round()


def trained(rows, *, seed=0, schedule=SCHEDULE):
    make_reproducible(seed, threads=1)
    network = convolutional(SIZES)
    history = fit(network, rows[:16], rows[16:], schedule, seed=seed)
    return network, history


def test_training_lowers_the_loss(rows):
    _, history = trained(rows, schedule=Schedule(epochs=8, batch_rows=8, learning_rate=1e-2))

    assert history.train_loss[-1] < history.train_loss[0]
    assert len(history.train_loss) == len(history.validation_mse) == 8


def test_equal_seeds_give_equal_weights(rows):
    first, again, other = (trained(rows, seed=seed)[0].state_dict() for seed in [1, 1, 2])

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_weights_of_the_best_epoch_are_kept(rows):
    # a learning rate that throws the weights about, so that the last epoch is not the best
    network, history = trained(rows, schedule=Schedule(epochs=6, batch_rows=2, learning_rate=0.3))

    assert history.best_epoch < 6
    assert mse(network, rows[16:]) == min(history.validation_mse)


def test_the_error_is_the_mean_over_all_pixels(rows):
    network = convolutional(SIZES)
    with torch.inference_mode():
        expected = ((network(rows).sigmoid() - rows) ** 2).mean()

    assert mse(network, rows) == pytest.approx(float(expected), rel=1e-5)
