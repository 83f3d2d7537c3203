"""Weighted cosine k-nearest neighbours (Wu et al., arXiv 1805.01978, section 3.4).

A change that alters the predictions needs a new variant in sweeps/metrics.py.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

ONLINE_NEIGHBOURS, ONLINE_TEMPERATURE = 20, 0.07  # between epochs; elsewhere the protocol lists candidates
QUERIES_AT_ONCE = 1024
GROUP = 8  # of the bank's features: 4 to 16 take as long


def knn_predictions(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, classes: int, candidates: list[tuple[int, float]]
) -> Tensor:
    """Return int64 [candidates, queries]: the class with the largest vote; a neighbour votes exp(cosine / temperature).

    bank [n, D] and queries [m, D] are normalised here; candidates are (k, temperature), k at most n. The lower class
    wins ties. One top-k serves all candidates.
    """
    bank, queries = F.normalize(bank, dim=1), F.normalize(queries, dim=1)
    widest = max(k for k, _ in candidates)
    # reused: new memory pages cost 10% more time
    cosines = bank.new_empty(min(QUERIES_AT_ONCE, len(queries)), len(bank))
    parts = []
    for block in torch.split(queries, QUERIES_AT_ONCE):
        torch.mm(block, bank.T, out=cosines[: len(block)])
        similarity, nearest = largest(cosines[: len(block)], widest)
        labels = bank_labels[nearest]
        parts.append(torch.stack([_vote(similarity[:, :k], labels[:, :k], t, classes) for k, t in candidates]))
    return torch.cat(parts, dim=1)


def largest(rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest values of each row [m, n], descending, and their columns, as `rows.topk(k)` does.

    They are in the k groups of columns with the largest maxima, and topk of the maxima and then of those groups takes
    half the time of topk of all columns. Ties may be broken differently from `rows.topk(k)`.
    """
    m, n = rows.shape
    groups = n // GROUP
    if groups < k:
        return rows.topk(k, dim=1)
    grouped = rows[:, : groups * GROUP].view(m, GROUP, groups)  # group g is columns g, g + groups, g + 2 groups, ...
    best = grouped.amax(dim=1).topk(k, dim=1, sorted=False).indices[:, None]
    first = torch.arange(GROUP, device=rows.device)[:, None] * groups
    rest = torch.arange(groups * GROUP, n, device=rows.device).expand(m, -1)
    columns = torch.cat([(best + first).view(m, -1), rest], dim=1)
    values, places = rows.gather(1, columns).topk(k, dim=1)
    return values, columns.gather(1, places)


def _vote(similarity: Tensor, labels: Tensor, temperature: float, classes: int) -> Tensor:
    # the largest weight becomes exp(0): the ranking of votes is the same and nothing overflows at small temperatures
    weights = ((similarity - similarity[:, :1]) / temperature).exp()
    votes = torch.zeros(len(labels), classes, device=labels.device).scatter_add_(1, labels, weights)
    return votes.argmax(dim=1)
