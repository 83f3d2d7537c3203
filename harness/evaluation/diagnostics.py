"""Signs of collapse, measured on features [n, D] of undistorted images or on two views of the same images.

A change that alters a function's value needs a new variant in sweeps/metrics.py.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def feature_std(features: Tensor) -> float:
    """Return the mean over dimensions of the standard deviation of L2-normalised features, times sqrt(D).

    1 for directions spread evenly, 0 for a collapsed representation (SimSiam, arXiv 2011.10566, section 4.1).
    """
    return float(F.normalize(features, dim=1).std(dim=0, correction=0).mean() * math.sqrt(features.shape[1]))


def rankme(features: Tensor) -> float:
    """Return the effective rank exp(-sum p log p), p = singular values / their sum + 1e-7.

    Between 1 and min(n, D); features are not centred (RankMe, arXiv 2210.02885, eq. 1 and 2).
    """
    values = torch.linalg.svdvals(features.double())
    p = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny) + 1e-7
    return float(torch.exp(-(p * p.log()).sum()))


def off_diagonal_correlation(features: Tensor) -> float | None:
    """Return the mean absolute correlation of different dimensions, except constant ones; None if under two vary."""
    varying = features[:, features.std(dim=0, correction=0) > 1e-8].double()
    d = varying.shape[1]
    if d < 2:
        return None
    correlation = torch.corrcoef(varying.T).abs()
    return float((correlation.sum() - correlation.diagonal().sum()) / (d * (d - 1)))


def alignment(first: Tensor, second: Tensor) -> float:
    """Return the mean squared distance of L2-normalised features of two views (arXiv 2005.10242, alpha = 2)."""
    return float((F.normalize(first, dim=1) - F.normalize(second, dim=1)).pow(2).sum(dim=1).mean())


def uniformity(features: Tensor) -> float:
    """Return the log of the mean over pairs of exp(-2 squared distance) of L2-normalised features.

    0 if collapsed, lower if spread (Wang & Isola, arXiv 2005.10242, t = 2).
    """
    squared = torch.pdist(F.normalize(features.double(), dim=1)).pow(2)
    return float((-2 * squared).exp().mean().log())
