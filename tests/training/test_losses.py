import pytest

torch = pytest.importorskip("torch")

from training.losses import blotted, loss, unevenness  # noqa: E402
from training.networks import Autoencoder  # noqa: E402
from training.recipe import Blots, Objective  # noqa: E402

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


def covered(rows, blots, seed=0):
    """Blot *rows*; give what changed, ``(rows, height, width)``, and the blotted rows."""
    made = blotted(rows, blots, torch.Generator().manual_seed(seed))
    return (made != rows)[:, 0], made


def test_each_picture_is_covered_by_one_square_of_one_value():
    changed, made = covered(torch.full((200, 1, 12, 10), 2.0), Blots(largest=5))
    sides = set()
    for picture, is_changed in zip(made[:, 0], changed, strict=True):
        lines, columns = is_changed.any(dim=1).nonzero(), is_changed.any(dim=0).nonzero()
        assert len(lines) == len(columns) == int(lines[-1] - lines[0]) + 1
        assert int(is_changed.sum()) == len(lines) ** 2
        assert len(picture[is_changed].unique()) == 1
        assert 0 <= float(picture[is_changed][0]) <= 1
        sides.add(len(lines))

    assert sides == {2, 3, 4, 5}
    # every place can be covered, those at the edges too
    assert bool(changed.any(dim=0).all())


def test_the_share_says_how_many_pictures_are_covered():
    rows = torch.full((1000, 1, 8, 8), 2.0)

    changed, made = covered(rows, Blots(largest=4, share=0.3))
    count = int(changed.flatten(1).any(dim=1).sum())

    assert 250 < count < 350
    assert torch.equal(made, covered(rows, Blots(largest=4, share=0.3))[1])


def test_blots_are_on_the_input_and_not_on_the_target():
    seen = []
    rows = torch.full((8, 1, 6, 6), 0.5)
    network = Autoencoder(torch.nn.Identity(), torch.nn.Identity())
    network.encoder.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    found = [
        loss(network, Objective("mse", blots=blots), rows, torch.Generator().manual_seed(0))
        for blots in (None, Blots(largest=6))
    ]

    assert torch.equal(seen[0], rows)
    assert not torch.equal(seen[1], rows)
    wanted = torch.nn.functional.mse_loss(seen[1].sigmoid(), rows)
    assert float(found[1]) == float(wanted)
