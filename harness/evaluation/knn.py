"""Weighted cosine k-nearest neighbours (Wu et al., arXiv 1805.01978, section 3.4)."""

import torch
import torch.nn.functional as F
from torch import Tensor

VARIANT = "knn/cosine-softmax@1"  # after the last epoch; k and temperature are the chosen candidate's
MAXIMUM_VARIANT = "knn/cosine-softmax-max-over-epochs@1"  # the greatest of all epochs measured
ONLINE_VARIANT = "knn/cosine-softmax-k20-t0.07-subset@1"  # between epochs, on part of the images
ONLINE_NEIGHBOURS, ONLINE_TEMPERATURE = 20, 0.07
QUERIES_AT_ONCE = 1024


def knn_predictions(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, classes: int, candidates: list[tuple[int, float]]
) -> Tensor:
    """int64 [candidates, queries]: the class with the largest vote, each neighbour voting exp(cosine / temperature).

    bank [n, D] and queries [m, D] are normalised here; candidates are (k, temperature), k at most n. Equal votes go to
    the lower class. All candidates are read off one top-k.
    """
    bank, queries = F.normalize(bank, dim=1), F.normalize(queries, dim=1)
    widest = max(k for k, _ in candidates)
    cosines = bank.new_empty(min(QUERIES_AT_ONCE, len(queries)), len(bank))  # kept: fresh pages cost a tenth more
    parts = []
    for block in torch.split(queries, QUERIES_AT_ONCE):
        torch.mm(block, bank.T, out=cosines[: len(block)])
        similarity, nearest = cosines[: len(block)].topk(widest, dim=1)
        labels = bank_labels[nearest]
        parts.append(torch.stack([_vote(similarity[:, :k], labels[:, :k], t, classes) for k, t in candidates]))
    return torch.cat(parts, dim=1)


def _vote(similarity: Tensor, labels: Tensor, temperature: float, classes: int) -> Tensor:
    # the largest weight becomes exp(0): the ranking of votes is the same and nothing overflows at small temperatures
    weights = ((similarity - similarity[:, :1]) / temperature).exp()
    votes = torch.zeros(len(labels), classes, device=labels.device).scatter_add_(1, labels, weights)
    return votes.argmax(dim=1)
