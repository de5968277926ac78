import pytest

torch = pytest.importorskip("torch")

from training.losses import unevenness  # noqa: E402
from training.recipe import Objective  # noqa: E402

EVEN = Objective(channels=2, evenness=1.0, activity=0.25)


def codes(*activities):
    """One row with a value for each channel, at three places, that has this activity."""
    values = -torch.log1p(-torch.tensor(activities))
    return values.repeat_interleave(3)[None]


def test_channels_that_are_used_as_asked_for_cost_nothing():
    assert float(unevenness(codes(0.25, 0.25), EVEN)) == pytest.approx(0, abs=1e-6)


def test_a_silent_channel_costs_more_than_a_quiet_one_and_a_loud_one_costs_too():
    silent, quiet, loud = (unevenness(codes(0.25, used), EVEN) for used in (0.0, 0.1, 0.9))

    assert float(silent) > float(quiet) > 0.01
    assert float(loud) > 0.01


def test_the_places_of_a_channel_and_the_rows_count_together():
    one = torch.zeros(1, 6)
    other = torch.zeros(1, 6)
    one[0, 0] = other[0, 2] = 1.0
    both = torch.cat([one, other])

    assert float(unevenness(one, EVEN)) == float(unevenness(other, EVEN))
    assert float(unevenness(both, EVEN)) == pytest.approx(float(unevenness(one, EVEN)))


def test_a_step_down_the_slope_wakes_a_quiet_channel():
    quiet = codes(0.25, 0.05).requires_grad_()

    unevenness(quiet, EVEN).backward()

    assert quiet.grad is not None
    assert (quiet.grad[0, 3:] < 0).all()
