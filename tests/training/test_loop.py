from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tqdm")

from training.loop import fit, make_reproducible, mse  # noqa: E402
from training.networks import (  # noqa: E402
    ConvolutionalSizes,
    convolutional,
    dense,
    with_centres,
)
from training.recipe import Distortion, Objective, Schedule, Stage  # noqa: E402

SIZES = ConvolutionalSizes(side=8, half_channels=2, quarter_channels=3, code=2)
SCHEDULE = Schedule(epochs=3, batch_rows=8, learning_rate=1e-2)
NOISY = Objective(noise=0.3, sparsity=0.1, distortion=Distortion(degrees=5, pixels=1, zoom=0.1))


@pytest.fixture(autouse=True)
def _settings_of_torch_are_put_back():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def rows():
    return torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(5)).round()


def small():
    return convolutional(SIZES)


def clustered():
    return with_centres(dense((1, 8, 8), (12,), 3), 4, 3)


def trained(rows, *stages, seed=0, make=small, **options):
    make_reproducible(seed, threads=1)
    network = make()
    stages = stages or (Stage(SCHEDULE),)
    history = fit(network, rows[:16], rows[16:], stages, seed=seed, **options)
    return network, history


def are_equal(first, second):
    ours, theirs = first.state_dict(), second.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_training_lowers_the_loss(rows):
    _, history = trained(rows, Stage(replace(SCHEDULE, epochs=8)))

    assert history.train_loss[-1] < history.train_loss[0]
    assert len(history.train_loss) == len(history.validation_mse) == 8


def test_equal_seeds_give_equal_weights(rows):
    stage = Stage(SCHEDULE, NOISY)
    first, again, other = (trained(rows, stage, seed=seed)[0] for seed in [1, 1, 2])

    assert are_equal(first, again)
    assert not are_equal(first, other)


# a learning rate that throws the weights about, so that the last epoch is not the best
WILD = Schedule(epochs=6, batch_rows=2, learning_rate=0.3)


def test_the_weights_of_the_best_epoch_are_kept(rows):
    network, history = trained(rows, Stage(WILD))

    assert history.kept_epoch < 6
    assert mse(network, rows[16:]) == min(history.validation_mse)


def test_the_last_epoch_is_kept_where_the_recipe_says_so(rows):
    network, history = trained(rows, Stage(replace(WILD, keep="last")))

    assert history.kept_epoch == 6
    assert mse(network, rows[16:]) == history.validation_mse[-1]


def test_training_stops_when_nothing_has_become_better_for_long_enough(rows):
    _, history = trained(rows, Stage(replace(WILD, epochs=50, patience=2)))

    assert history.stages == [history.kept_epoch + 2]
    assert len(history.train_loss) < 50


class CutOffError(Exception):
    """The power fails in the middle of an epoch."""


def cut_off_after(steps):
    """A network whose power fails at its *steps*-th step of training."""

    def make():
        network = clustered()
        left = iter(range(steps))

        def count(module, _):
            if module.training and next(left, None) is None:
                raise CutOffError

        network.encoder.register_forward_pre_hook(count)
        return network

    return make


@pytest.mark.parametrize("steps", [3, 5, 8], ids=["first stage", "between stages", "last stage"])
def test_a_training_that_was_cut_off_ends_with_the_same_bits(rows, tmp_path, steps):
    stages = [
        Stage(replace(SCHEDULE, epochs=2), NOISY),
        Stage(replace(SCHEDULE, keep="last"), Objective(clusters=4, clustering=0.2, noise=0.1)),
    ]
    store = tmp_path / "runs" / "state.pt"
    expected, through = trained(rows, *stages, make=clustered)
    with pytest.raises(CutOffError):
        trained(rows, *stages, make=cut_off_after(steps), store=store)

    network, history = trained(rows, *stages, make=clustered, store=store, resume=True)

    assert are_equal(network, expected)
    assert history.validation_mse == through.validation_mse
    assert (history.stages, history.kept_epoch) == (through.stages, through.kept_epoch)


def test_a_finished_training_is_not_trained_further(rows, tmp_path):
    store = tmp_path / "state.pt"
    first, before = trained(rows, store=store)

    again, history = trained(rows, store=store, resume=True)

    assert are_equal(first, again)
    assert history.seconds == before.seconds


def test_a_frozen_layer_stays_as_it_was(rows):
    make_reproducible(0, threads=1)
    network = convolutional(SIZES)
    network.encoder[0].requires_grad_(False)
    before = [weights.clone() for weights in network.encoder[0].parameters()]

    fit(network, rows[:16], rows[16:], [Stage(SCHEDULE)], seed=0)

    for weights, kept in zip(network.encoder[0].parameters(), before, strict=True):
        assert torch.equal(weights, kept)


def test_a_penalty_makes_the_code_smaller(rows):
    sizes = []
    for sparsity in [0.0, 10.0]:
        schedule = Schedule(epochs=20, batch_rows=8, learning_rate=1e-2)
        network, _ = trained(rows, Stage(schedule, Objective(sparsity=sparsity)))
        with torch.inference_mode():
            sizes.append(float(network.encoder(rows).abs().mean()))

    assert sizes[1] < sizes[0] / 2


def test_the_error_is_the_mean_over_all_pixels(rows):
    network = convolutional(SIZES)
    with torch.inference_mode():
        expected = ((network(rows).sigmoid() - rows) ** 2).mean()

    assert mse(network, rows) == pytest.approx(float(expected), rel=1e-5)


def test_the_error_of_a_noisy_input_is_that_to_the_clean_rows(rows):
    network = convolutional(SIZES)

    clean, noisy, again = (mse(network, rows, noise=noise) for noise in [0.0, 0.5, 0.5])

    assert noisy == again != clean
