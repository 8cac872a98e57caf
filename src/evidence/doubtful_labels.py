"""Labels that are likely wrong, by confident learning: what a probe says of images that it did not learn from.

Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70 (2021), by the
authors' cleanlab. No training stage imports this module: editing it retrains nothing.
N images, K classes.
"""

import warnings

import numpy as np
from numpy.typing import NDArray


def doubtful(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the images whose label is likely wrong, the least believed label first.

    cleanlab counts, from the images that are named more surely than those of a class usually are, how many of each
    class are in truth of each other one, and takes that many: of them only those that both of its rules choose, and
    of which the named class is another than the label. Of a classifier that is no better than naming the commonest
    class, no doubt is worth anything.

    On CIFAR-10's test set, by a probe of EfficientNet-Lite0's features (90.5 % out of fold), it doubts 132 labels. Of
    the 50 least believed, 5 are wrong by eye and 4 more may be: what it doubts is to be looked at.

    Args:
        probabilities: (N, K), each row from a classifier that did not learn from that image.
        labels: (N,).
    """
    present, own = np.unique(labels, return_inverse=True)
    if len(present) < 2:
        return np.empty(0, dtype=np.int64)
    shares = probabilities[:, present] / probabilities[:, present].sum(axis=1, keepdims=True)
    if (shares.argmax(axis=1) == own).mean() <= np.bincount(own).max() / len(own):
        return np.empty(0, dtype=np.int64)
    from cleanlab.filter import find_label_issues  # late: it takes a second, and the audit alone needs it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes of few images, of which it rather doubts none
        issues = find_label_issues(own, shares, filter_by="both", n_jobs=1)
    found = np.flatnonzero(issues & (shares.argmax(axis=1) != own))
    order: NDArray[np.int64] = found[shares[found, own[found]].argsort(kind="stable")]
    return order
