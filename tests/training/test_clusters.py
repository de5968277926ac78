import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")

from scipy import sparse  # noqa: E402

from training.clusters import find_clusters, likenesses, pull, thickness, upright  # noqa: E402
from training.k_means import accuracy, k_means, nearest  # noqa: E402

SIDE = 16


def stroke(*, slant, shift, height):
    """A thick line that leans by *slant* pixels to the right on its way down."""
    picture = torch.zeros(1, 1, SIDE, SIDE)
    for row in range(SIDE // 2 - height // 2, SIDE // 2 + height // 2):
        column = SIDE // 2 + shift + round(slant * (row - SIDE // 2))
        picture[0, 0, row, column - 1 : column + 1] = 1
    return picture


def test_upright_pictures_lie_in_the_middle_without_a_slant():
    straight = upright(stroke(slant=0, shift=0, height=10))

    for slant, shift in [(0.4, 0), (-0.4, 1), (0, 3)]:
        given = upright(stroke(slant=slant, shift=shift, height=10))
        assert float((given - straight).abs().mean()) < 0.02


def test_an_empty_picture_stays_empty():
    assert not upright(torch.zeros(1, 1, SIDE, SIDE)).any()


def handwritten(random, *, height):
    """A soft line of about *height* pixels, with a slant, a place and a darkness of its own.

    Soft and all different, as pictures of a hand are: pictures that are equal but for noise fall
    into more heaps than there are kinds, and then no cut in two is thinner than another. The
    ground is black as MNIST's is, because noise on it would be taken for ink by ``upright``.
    """
    places = torch.arange(SIDE) - (SIDE - 1) / 2
    down, right = places[:, None], places[None, :]
    slant, shift, tall = random.uniform(-0.5, 0.5), random.uniform(-1, 1), random.normal(height)
    across = torch.exp(-(((right - slant * down - shift) / 1.2) ** 2))
    along = torch.sigmoid(2 * (tall / 2 - down.abs()))
    return (random.uniform(0.9, 1) * across * along)[None, None].float()


def test_pictures_of_two_kinds_fall_into_two_clusters_whatever_their_slant():
    random, kinds = np.random.default_rng(0), np.arange(120) % 2
    rows = torch.cat([handwritten(random, height=7 if kind else 12) for kind in kinds])
    pixels = rows.flatten(1).numpy()

    found = find_clusters(rows, 2, seed=0)

    assert accuracy(found, kinds) > 0.95
    # their slants are what pixels tell apart
    assert accuracy(nearest(pixels, k_means(pixels, 2, seed=0)), kinds) < 0.8


def test_fewer_rows_than_a_row_has_neighbours_are_still_clustered():
    random = np.random.default_rng(0)
    rows = torch.cat([handwritten(random, height=10) for _ in range(8)])

    found = find_clusters(rows, 2, seed=0)

    assert set(found) == {0, 1}
    assert len(found) == 8


def test_a_cut_through_few_threads_is_thinner():
    # two pairs, joined by a thread of a tenth
    net = sparse.csr_matrix(
        np.array([[0, 1, 0, 0], [1, 0, 0.1, 0], [0, 0.1, 0, 1], [0, 0, 1, 0]], dtype=np.float32)
    )

    thin = thickness(net, np.array([0, 0, 1, 1]))

    assert thin == pytest.approx(2 * 0.1 / 2.1)
    assert thin < thickness(net, np.array([0, 1, 1, 0]))


def test_a_code_is_likest_to_its_nearest_centre():
    codes = torch.tensor([[0.0, 0.1], [3.0, 0.0]])
    centres = torch.tensor([[0.0, 0.0], [3.0, 0.0], [9.0, 9.0]])

    likeness = likenesses(codes, centres)

    assert likeness.argmax(dim=1).tolist() == [0, 1]
    torch.testing.assert_close(likeness.sum(dim=1), torch.ones(2))


def test_the_pull_is_stronger_the_farther_a_code_is_from_its_centre():
    centres = torch.tensor([[0.0], [4.0]])
    cluster = torch.tensor([0])

    near, far = (pull(torch.tensor([[place]]), centres, cluster) for place in [0.1, 3.0])

    assert near < far
