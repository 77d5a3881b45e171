"""Which images to label next, from frozen features: typical ones first, then those that a model is unsure of.

- With few labels, what a model is unsure of is what is odd, and labels of it teach little. Images are clustered, into
  as many clusters as there will be labels, and the most typical image of the largest cluster without a label is taken
  (TypiClust, Hacohen et al. 2022, arXiv:2202.02794).
- As long as a class has no label, some of the images are those that its text stands out on among all texts, beside
  typical ones and, later, as many that are drawn far from all labelled ones, like the seeds of k-means++ (Arthur and
  Vassilvitskii 2007) but with more weight on distance: a model does not doubt what it does not know.
- Later, of the images that the model doubts most, several times as many as are wanted, those are taken that are in the
  middle of as many clusters, weighted by the doubt: no two of a choice are alike (Zhdanov 2019, arXiv:1901.05954).

No work or memory grows with the square of the number of images. All is the same for the same seed.

Shapes: n images, k of them labelled or chosen already, E width of features.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from atha.methods.base import unit
from atha.probability import log_softmax

#: Times as many images as are wanted, of those that are doubted most, are what is chosen from.
DOUBTED = 5
# Clusters, images that they are found on, images of one that typicality is found on, and neighbours that it is of.
_CLUSTERS, _FITTED, _COMPARED, _NEIGHBOURS = 400, 6000, 1000, 20
# Rows of one product, and the power of a squared distance by which different images are drawn.
_ROWS, _FAR = 8192, 3


def directions(features: Float[np.ndarray, "n E"]) -> Float[np.ndarray, "n E"]:
    """Features at length 1, less their mean, at length 1 again: what all images have in common tells none apart."""
    found = unit(np.asarray(features, dtype=np.float32))
    found -= found.mean(0)
    return unit(found)


def typical(
    rows: Float[np.ndarray, "n E"], taken: Bool[np.ndarray, "n"], free: Bool[np.ndarray, "n"], count: int, seed: int
) -> list[int]:
    """Typical images of clusters that have no label yet, the largest clusters first.

    Args:
        rows: see `directions`.
        taken: which are labelled.
        free: which may be chosen; none that is taken.
        count: images to choose; fewer if fewer are free.
        seed: of the clusters.

    Returns:
        Places of the images.
    """
    count = min(count, int(free.sum()))
    if not count:
        return []
    clusters = min(int(taken.sum()) + count, _CLUSTERS, len(rows))
    cluster = _clusters(rows, clusters, seed)
    labelled = np.bincount(cluster[taken], minlength=clusters)
    size = np.bincount(cluster[free], minlength=clusters)
    chosen: list[int] = []
    left = free.copy()
    while len(chosen) < count:
        # A cluster with a label or a choice waits until all others have as many.
        open_ = np.flatnonzero(size > 0)
        best = int(open_[np.lexsort((open_, -size[open_], labelled[open_]))[0]])
        place = _most_typical(rows, np.flatnonzero(cluster == best), left)
        chosen.append(place)
        left[place] = False
        labelled[best] += 1
        size[best] -= 1
    return chosen


def named(cosines: Float[np.ndarray, "n N"], wanted: Sequence[int], free: Bool[np.ndarray, "n"]) -> list[int]:
    """Images that the texts of some classes stand out on, one image for each class that is named.

    A text is near all images or far from all of them, more or less: what tells is how near it is to one image, measured
    by how near it is to all, and beside the other texts.

    Args:
        cosines: of images and class texts.
        wanted: classes, as often as images of them are wanted.
        free: which images may be chosen.

    Returns:
        Places of the images; fewer than are wanted if fewer are free.
    """
    told = log_softmax((cosines - cosines.mean(0)) / np.maximum(cosines.std(0), 1e-6))
    chosen: list[int] = []
    left = free.copy()
    for label in wanted[: int(free.sum())]:
        place = int(np.where(left, told[:, label], -np.inf).argmax())
        chosen.append(place)
        left[place] = False
    return chosen


def different(
    rows: Float[np.ndarray, "n E"], taken: Bool[np.ndarray, "n"], free: Bool[np.ndarray, "n"], count: int, seed: int
) -> list[int]:
    """Images far from those that are labelled and from one another, drawn by the power of their squared distance.

    Args:
        rows: see `directions`.
        taken: which are labelled.
        free: which may be chosen; none that is taken.
        count: images to choose; fewer if fewer are free.
        seed: of the draw.

    Returns:
        Places of the images.
    """
    rng, left = np.random.default_rng(seed), free.copy()
    apart = np.full(len(rows), 4.0)
    for start in range(0, len(rows), _ROWS):
        near = rows[start : start + _ROWS] @ rows[taken].T
        apart[start : start + _ROWS] = 2 - 2 * near.max(1, initial=-1.0)
    chosen: list[int] = []
    for _ in range(min(count, int(free.sum()))):
        chance = np.where(left, np.maximum(apart, 1e-9) ** _FAR, 0.0)
        place = int(rng.choice(len(rows), p=chance / chance.sum()))
        chosen.append(place)
        left[place] = False
        apart = np.minimum(apart, 2 - 2 * (rows @ rows[place]))
    return chosen


def unsure(
    rows: Float[np.ndarray, "n E"],
    doubt: Float[np.ndarray, "n"],
    free: Bool[np.ndarray, "n"],
    count: int,
    seed: int,
) -> list[int]:
    """Images that a model doubts and that differ from one another.

    Args:
        rows: see `directions`.
        doubt: of the model, from 0 to 1.
        free: which may be chosen.
        count: images to choose; fewer if fewer are free.
        seed: of the clusters.

    Returns:
        Places of the images, those of the most doubt first.
    """
    from sklearn.cluster import KMeans

    places = np.flatnonzero(free)
    count = min(count, len(places))
    if not count:
        return []
    doubted = places[np.argsort(-doubt[places], kind="stable")[: DOUBTED * count]]
    weights = doubt[doubted] + 1e-6
    fitted = KMeans(count, n_init=1, random_state=seed).fit(rows[doubted], sample_weight=weights)
    near = (rows[doubted] * fitted.cluster_centers_[fitted.labels_]).sum(1)
    chosen = {int(fitted.labels_[place]): int(place) for place in np.argsort(near, kind="stable")}
    found = sorted(chosen.values())  # of images that are all the same there are fewer clusters
    rest = [place for place in range(len(doubted)) if place not in set(found)]
    return [int(doubted[place]) for place in sorted([*found, *rest[: count - len(found)]])]


def margin_doubt(probabilities: Float[np.ndarray, "n N"]) -> Float[np.ndarray, "n"]:
    """1 where the two most probable classes are equal, 0 where one is sure."""
    first, second = np.partition(probabilities, -2, axis=1)[:, [-1, -2]].T
    return np.asarray(1 - (first - second))


def _clusters(rows: Float[np.ndarray, "n E"], count: int, seed: int) -> Int[np.ndarray, "n"]:
    """The cluster of each image; centres are found on some of them."""
    from sklearn.cluster import KMeans

    some: Sequence[int] | np.ndarray = range(len(rows))
    if len(rows) > _FITTED:
        some = np.sort(np.random.default_rng(seed).choice(len(rows), _FITTED, replace=False))
    fitted = KMeans(count, n_init=1, max_iter=30, random_state=seed).fit(rows[some])
    centres = fitted.cluster_centers_.astype(np.float32)
    half = (centres**2).sum(1) / 2
    return np.concatenate(
        [(rows[start : start + _ROWS] @ centres.T - half).argmax(1) for start in range(0, len(rows), _ROWS)]
    )


def _most_typical(rows: Float[np.ndarray, "n E"], members: Int[np.ndarray, "m"], free: Bool[np.ndarray, "n"]) -> int:
    """The free member of a cluster whose nearest neighbours in it are nearest."""
    own = members[free[members]]
    own, others = (part[:: len(part) // _COMPARED + 1] for part in (own, members))
    near = min(_NEIGHBOURS + 1, len(others))  # each is its own neighbour, which changes nothing
    similar = np.partition(rows[own] @ rows[others].T, -near, axis=1)[:, -near:].sum(1)
    return int(own[int(similar.argmax())])
