"""Labels that others contradict: held-out answers of a model, and the nearest neighbours' labels.

Each image is classified by two models that were fitted without it and without its copies, the blend of probes and a
logistic regression, and by the labels of its nearest neighbours. Each of the three errs in a way of its own: the
geometric mean of the models' probabilities, times the share of neighbours, is what each label has for it. A label is
doubtful where another class reaches what images of that class have on average (confident learning, Northcutt et al.
2021, arXiv:1911.00068), and the less its own label has, the more.

Shapes: n images, N classes, E width of features, k neighbours.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from atha.labelling.choosing import directions
from atha.labelling.model import Texts, fit_model
from atha.methods.evidence import folds

#: Neighbours whose labels count, and what each class has without any.
NEIGHBOURS, _NONE = 10, 0.5
_FOLDS, _ROWS = 5, 512
_INVERSE_PENALTY = 0.1


@dataclass(frozen=True)
class Answers:
    """What others say of each image's label.

    Attributes:
        probabilities: of each class; not numbers of an image that is the only one of its class.
        neighbours: places of the nearest images that are no copies of it, the nearest first.
    """

    probabilities: Float[np.ndarray, "n N"]
    neighbours: Int[np.ndarray, "n k"]

    def doubtful(self, labels: Int[np.ndarray, "n"]) -> list[tuple[int, int]]:
        """Images whose labels are doubted, the most doubtful first, each with the class that it looks like.

        Args:
            labels: class indices.
        """
        asked = np.flatnonzero(np.isfinite(self.probabilities).all(1))
        found = self.probabilities[asked]
        own = found[np.arange(len(asked)), labels[asked]]
        usual = np.full(found.shape[1], np.inf)
        for label in np.unique(labels[asked]):
            usual[label] = own[labels[asked] == label].mean()
        others = np.where(found >= usual, found, 0.0)
        others[np.arange(len(asked)), labels[asked]] = 0.0
        best = others.argmax(1)
        doubted = others[np.arange(len(asked)), best] > own
        order = np.flatnonzero(doubted)[np.argsort(own[doubted], kind="stable")]
        return [(int(asked[place]), int(best[place])) for place in order]


def ask(
    features: Float[np.ndarray, "n E"],
    labels: Int[np.ndarray, "n"],
    groups: Int[np.ndarray, "n"],
    texts: Texts,
    seed: int,
) -> Answers:
    """Ask the others about each image.

    Args:
        features: at unit length.
        labels: class indices.
        groups: the same number for copies of one another.
        texts: of the classes.
        seed: of the folds.
    """
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    where = folds(labels[first], _FOLDS, seed)[group]
    found = np.full((len(labels), len(texts.features)), np.nan)
    for fold in np.unique(where[where >= 0]):
        out = where == fold
        blend = fit_model(features[~out], labels[~out], texts, seed).probabilities(features[out])
        found[out] = np.sqrt(blend * _logistic(features[~out], labels[~out], features[out], blend.shape[1]))
    near = _neighbours(features, group)
    votes = np.eye(len(texts.features))[labels[near]].sum(1) + _NONE
    found = found * votes
    return Answers(found / found.sum(1, keepdims=True), near)


def _logistic(
    features: Float[np.ndarray, "n E"], labels: Int[np.ndarray, "n"], others: Float[np.ndarray, "Q E"], classes: int
) -> Float[np.ndarray, "Q N"]:
    """Probabilities by a logistic regression, whose penalty is strong, as some of the labels are wrong."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=300).fit(scaler.fit_transform(features), labels)
    found = np.zeros((len(others), classes))
    found[:, model.classes_] = model.predict_proba(scaler.transform(others))
    return found


def _neighbours(features: Float[np.ndarray, "n E"], groups: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n k"]:
    rows = directions(features)
    count = min(NEIGHBOURS, len(np.unique(groups)) - 1)
    found = []
    for start in range(0, len(rows), _ROWS):
        similar = rows[start : start + _ROWS] @ rows.T
        similar[groups[start : start + _ROWS, None] == groups[None]] = -np.inf
        near = np.argpartition(-similar, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(similar, near, axis=1), axis=1, kind="stable")
        found.append(np.take_along_axis(near, order, axis=1))
    return np.concatenate(found)
