"""Points of many features on a plane, for people to look at. P points, D features."""

import importlib.util
import warnings

import numpy as np

N_NEIGHBOURS = 15
"""Of UMAP, and the perplexity of t-SNE; fewer where there are few points."""

LEAST_POINTS = 8
"""Fewer are projected by PCA."""


def project(points_PD: np.ndarray, seed: int = 0) -> tuple[np.ndarray, str]:
    """Return the points on a plane by their cosines, (P, 2), and what put them there.

    UMAP where `umap-learn` is installed (`pip install rayfs[umap]`), else scikit-learn's t-SNE.
    """
    n = len(points_PD)
    if n < LEAST_POINTS:
        return _principal(points_PD), "PCA"
    neighbours = min(N_NEIGHBOURS, n // 4)
    if importlib.util.find_spec("umap") is not None:
        from umap import UMAP

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a seed means one thread
            reducer = UMAP(metric="cosine", n_neighbors=max(2, neighbours), random_state=seed)
            return np.asarray(reducer.fit_transform(points_PD)), "UMAP"
    from sklearn.manifold import TSNE

    reducer = TSNE(metric="cosine", init="random", perplexity=neighbours, random_state=seed)
    return reducer.fit_transform(points_PD), "t-SNE (scikit-learn; UMAP where umap-learn is installed)"


def _principal(points_PD: np.ndarray) -> np.ndarray:
    """Return the coordinates on the two largest principal axes; 0 where there are fewer."""
    centred = points_PD - points_PD.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((len(points_PD), 2))
    width = min(2, len(values))
    plane[:, :width] = left[:, :width] * values[:width]
    return plane
