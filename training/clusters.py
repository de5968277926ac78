"""Clusters that pictures fall into by their likeness, found without labels.

Pixels are a poor measure of how alike two digits are when they are far apart, and a good one
when they are near. So each picture is joined to its nearest neighbours only, and the net of
all of them is cut where it is thinnest: spectral clustering (Ng, Jordan, Weiss, NIPS 2001; von
Luxburg, "A Tutorial on Spectral Clustering", 2007). A network then learns the clusters, for new
pictures have no place in the net.
"""

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from scipy.sparse.linalg import eigsh
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample

from training.k_means import k_means, nearest

Rows = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]

NEIGHBOURS = 10
CANDIDATES = 3  # neighbours are looked for among every third row, which takes a third of the time
MANY_ROWS = 10_000  # fewer are searched in no time, and a third of them would be too few
COMPONENTS = 40  # principal components that distances are taken in
# how many directions of the net tell clusters apart, as a multiple of the clusters: one for each
# would do if nothing joined them; the thinnest cut decides
DIRECTIONS = (1.0, 1.2, 1.5, 2.0)
SEARCH_ROWS = 1000


def find_clusters(rows: torch.Tensor, clusters: int, *, seed: int) -> Numbers:
    """Give the number of a cluster for each row; equal seeds give equal numbers.

    Args:
        rows: Pictures, ``(rows, 1, height, width)``.
        clusters: How many.
        seed: Of the attempts of k-means.
    """
    net = _net(_neighbours(_features(rows)))
    counts = [min(round(times * clusters), len(rows) - 1) for times in DIRECTIONS]
    directions = _directions(net, max(counts))
    attempts = [_cluster(directions[:, :count], clusters, seed) for count in counts]
    return min(attempts, key=lambda found: thickness(net, found))


def thickness(net: sparse.csr_matrix, clusters: Numbers) -> float:
    """How much of each cluster's net leads out of it, added up (the normalised cut).

    In double precision: what is left of one is small where a cluster hangs together.
    """
    members = sparse.csr_matrix(np.eye(clusters.max() + 1, dtype=np.float64)[clusters])
    inside = (members.T @ net @ members).diagonal()
    every = np.asarray(members.T @ net.sum(axis=1, dtype=np.float64)).ravel()
    return float((1 - inside / np.maximum(every, 1e-9)).sum())


def upright(rows: torch.Tensor) -> torch.Tensor:
    """Centre pictures by mass and take the slant out of them.

    A slant is a matter of the hand, not of the digit; which it is follows from second moments.
    """
    side = rows.shape[-1]
    places, mass = torch.arange(side) - (side - 1) / 2, rows[:, 0]
    whole = mass.sum(dim=(1, 2)).clamp(min=1e-6)
    down = (mass.sum(dim=2) * places).sum(dim=1) / whole
    right = (mass.sum(dim=1) * places).sum(dim=1) / whole
    y = places[None, :, None] - down[:, None, None]
    x = places[None, None, :] - right[:, None, None]
    slant = (mass * y * x).sum(dim=(1, 2)) / (mass * y * y).sum(dim=(1, 2)).clamp(min=1e-6)
    nothing, one = torch.zeros_like(slant), torch.ones_like(slant)
    first = torch.stack([one, slant, right * 2 / side], dim=1)
    second = torch.stack([nothing, one, down * 2 / side], dim=1)
    grid = affine_grid(torch.stack([first, second], dim=1), list(rows.shape), align_corners=False)
    return grid_sample(rows, grid, align_corners=False)


def _features(rows: torch.Tensor) -> torch.Tensor:
    """Principal components of upright pictures at half their size."""
    flat = avg_pool2d(upright(rows), 2).flatten(1)
    flat = flat - flat.mean(dim=0)
    _, directions = torch.linalg.eigh(flat.T @ flat)
    features: torch.Tensor = flat @ directions[:, -COMPONENTS:]
    return features


def _neighbours(features: torch.Tensor) -> Numbers:
    """Numbers of the nearest rows, ``(rows, NEIGHBOURS + 1)``; a row may be among its own.

    Fewer where there are not so many rows.
    """
    every = CANDIDATES if len(features) > MANY_ROWS else 1
    candidates = features[::every]
    count = min(NEIGHBOURS + 1, len(candidates))
    lengths, found = candidates.square().sum(dim=1), []
    for part in features.split(SEARCH_ROWS):  # type: ignore[no-untyped-call]
        distances = lengths - 2 * part @ candidates.T
        found.append(distances.topk(count, largest=False).indices)
    numbers: Numbers = every * torch.cat(found).numpy()
    return numbers


def _net(neighbours: Numbers) -> sparse.csr_matrix:
    """Join each row to its neighbours, and them to it."""
    count = len(neighbours)
    one_way = sparse.csr_matrix(
        (
            np.ones(neighbours.size, dtype=np.float32),
            (np.repeat(np.arange(count), neighbours.shape[1]), neighbours.ravel()),
        ),
        shape=(count, count),
    )
    one_way.setdiag(0)
    return one_way.maximum(one_way.T).tocsr()


def _directions(net: sparse.csr_matrix, count: int) -> Rows:
    """The slowest ways in which something could spread over the net, slowest first."""
    scale = sparse.diags(1 / np.sqrt(np.maximum(np.asarray(net.sum(axis=1)).ravel(), 1)))
    start = np.ones(net.shape[0], dtype=np.float32)  # a random one would give other signs each time
    values, vectors = eigsh(scale @ net @ scale, k=count, v0=start, tol=1e-3)
    ordered: Rows = vectors[:, np.argsort(-values)].astype(np.float32)
    return ordered


def _cluster(directions: Rows, clusters: int, seed: int) -> Numbers:
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    rows = directions / np.maximum(lengths, 1e-9)
    return nearest(rows, k_means(rows, clusters, seed=seed, restarts=5))


def likenesses(codes: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Soft assignments, ``(rows, clusters)``: Student's t with one degree of freedom.

    As in deep embedded clustering (Xie, Girshick, Farhadi, ICML 2016).
    """
    distances = torch.cdist(codes, centres, compute_mode="donot_use_mm_for_euclid_dist")
    kernel = 1 / (1 + distances.square())
    return kernel / kernel.sum(dim=1, keepdim=True)


def pull(codes: torch.Tensor, centres: torch.Tensor, clusters: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of soft assignments with the clusters that rows belong to."""
    chosen = likenesses(codes, centres)[torch.arange(len(codes)), clusters]
    return -chosen.log().mean()
