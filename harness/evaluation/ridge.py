"""Ridge regression on one-hot classes, exact, for a whole path of penalties from one eigendecomposition.

A change that alters the predictions needs a new variant in sweeps/metrics.py.
"""

import torch
from torch import Tensor

EXAMPLES_AT_ONCE = 4096  # held in double precision


def ridge_probes(features: Tensor, labels: Tensor, classes: int, penalties: list[float]) -> tuple[Tensor, Tensor]:
    """Return weights [classes, K, D] and biases [classes, K], one probe per penalty, in the features' precision.

    Each probe W, b minimises mean |W x + b - y|^2 + penalty |W|^2, where y is 1 at the label and 0 elsewhere. features
    [n, D] are standardised already, so that their squares are 1 on average and a penalty means the same for all n, D.

    Solved in double precision, since float32 is too coarse for small penalties. With fewer examples than features the
    Gram matrix of the examples is decomposed instead (the kernel form), with the same result.
    """
    device = torch.device("cpu") if features.device.type == "mps" else features.device  # mps has no float64
    x, y = features.to(device), labels.to(device)
    targets = torch.eye(classes, dtype=torch.float64, device=device)
    shares = torch.bincount(y, minlength=classes).double() / len(y)
    values, basis, coefficients = (_by_examples if len(x) < x.shape[1] else _by_features)(x, y, targets - shares)
    inverses = 1 / (values + torch.tensor(penalties, dtype=torch.float64, device=device)[:, None])
    weights = (coefficients.T[:, None] * inverses) @ basis.T
    return weights.to(features), shares[:, None].expand(-1, len(penalties)).to(features)


def _by_features(x: Tensor, y: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return eigenvalues [D] of the mean of x x', eigenvectors [D, D], and the mean of x y' in their basis."""
    width = x.shape[1]
    gram, cross = (torch.zeros(width, m, dtype=torch.float64, device=x.device) for m in (width, targets.shape[1]))
    for some, labels in zip(*(torch.split(part, EXAMPLES_AT_ONCE) for part in (x, y)), strict=True):
        double = some.double()
        gram.addmm_(double.T, double, alpha=1 / len(x))
        cross.addmm_(double.T, targets[labels], alpha=1 / len(x))
    values, vectors = torch.linalg.eigh(gram)
    return values.clamp(min=0), vectors, vectors.T @ cross


def _by_examples(x: Tensor, y: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same by the n eigenvectors of x'x / n, whose span contains the solution."""
    double = x.double()
    values, vectors = torch.linalg.eigh(double @ double.T / len(x))
    return values.clamp(min=0), double.T @ vectors, vectors.T @ targets[y] / len(x)
