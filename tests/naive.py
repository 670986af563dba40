"""Distances and ranks pair by pair, to compare the fast ones with."""

import numpy as np


def shrunk_covariance(x):
    """Return the covariance (D, D) of rows (N, D), shrunk towards a multiple of the identity (Ledoit and Wolf 2004, section 3.3)."""
    x = x - x.mean(axis=0)
    n, d = x.shape
    sample, eye = x.T @ x / n, np.eye(d)
    mean = np.trace(sample) / d
    spread = ((sample - mean * eye) ** 2).sum() / d
    error = sum(((np.outer(row, row) - sample) ** 2).sum() for row in x) / d / n**2
    weight = min(error, spread) / spread
    return weight * mean * eye + (1 - weight) * sample


def naive_distances(queries, gallery, metric):
    """Return distances (Q, G), pair by pair."""
    queries, gallery = queries.astype(float), gallery.astype(float)
    inverse = np.linalg.inv(shrunk_covariance(gallery)) if metric == "mahalanobis" else np.eye(gallery.shape[1])
    if metric == "cosine":
        return np.array([[1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in gallery] for a in queries])
    return np.array([[np.sqrt((a - b) @ inverse @ (a - b)) for b in gallery] for a in queries])


def naive_ranks(queries, gallery, truth, groups, metric):
    """Return the number of items of the true item's group that are nearer than it, plus half of those at its distance."""
    out = []
    for row, t in zip(naive_distances(queries, gallery, metric), truth, strict=True):
        others = [x for j, x in enumerate(row) if j != t and groups[j] == groups[t]]
        out.append(sum(x < row[t] - 1e-9 for x in others) + 0.5 * sum(abs(x - row[t]) <= 1e-9 for x in others))
    return out


def longdouble_ranks(queries, gallery, truth, metric):
    """Return ranks by distances in extended precision."""
    out = []
    for q, t in zip(queries.astype(np.longdouble), truth, strict=True):
        g = gallery.astype(np.longdouble)
        if metric == "cosine":
            d = -(g @ q) / np.maximum(np.sqrt((g * g).sum(axis=1)), 1e-12) / np.maximum(np.sqrt(q @ q), 1e-12)
        else:
            d = ((g - q) ** 2).sum(axis=1)
        out.append((d < d[t]).sum() + 0.5 * ((d == d[t]).sum() - 1))
    return np.array(out)
