"""Differences in words, in the unit and direction of the metric itself."""

from twinbench.reports.claims.claim import Claim
from twinbench.reports.claims.contrasts import Contrast, sign_of
from twinbench.reports.statistics.superiority import Probability
from twinbench.sweeps.metrics import get_metric

POINTS = (100.0, " points")


def size_text(size: float, claim: Claim) -> str:
    """Return "1.2 points" for an accuracy, else the number with its unit."""
    scale, unit = _unit(claim)
    number = f"{scale * size:.4g}"
    return f"{number}{unit.removesuffix('s') if unit == POINTS[1] and number == '1' else unit}"


def difference_text(contrast: Contrast, claim: Claim) -> str:
    """Return "+3.10 points (2.41 to 3.79 at 97.5 %, 6 pairs)": A minus B, also for costs."""
    if contrast.difference is None:
        return "nothing to compare"
    if contrast.criterion == "wins" and contrast.wins is not None:
        return _wins_text(contrast.wins)
    return f"{mean_text(contrast, claim)} ({interval_text(contrast, claim)})"


def mean_text(contrast: Contrast, claim: Claim) -> str:
    """Return "+3.10 points"."""
    assert contrast.difference is not None
    return f"{_number(sign_of(claim) * contrast.difference.mean, claim, '+')}{_unit(claim)[1]}"


def amount_text(amount: float, claim: Claim) -> str:
    """Return "0.42 points", with the decimals of a measured size rather than a chosen one."""
    return f"{_number(amount, claim)}{_unit(claim)[1]}"


def interval_text(contrast: Contrast, claim: Claim, unsigned: bool = False) -> str:
    """Return "2.41 to 3.79 at 97.5 %, 6 pairs"; `unsigned` where words give the sign."""
    difference = contrast.difference
    assert difference is not None
    if difference.low is None or difference.high is None:
        return "one seed"
    ends = [sign_of(claim) * difference.low, sign_of(claim) * difference.high]
    low, high = sorted(map(abs, ends) if unsigned else ends)
    units = "pairs" if difference.paired else "seeds a side, unpaired"
    level = f"{100 * difference.confidence:.4g} %"
    return f"{_number(low, claim)} to {_number(high, claim)} at {level}, {difference.n} {units}"


def by_seed_text(contrast: Contrast, claim: Claim) -> str:
    """Return the differences by seed, "+4.10 +4.93 +5.02 points"; where unpaired, both sides' values."""
    sign, unit = sign_of(claim), _unit(claim)[1]
    plus = "+" if len(contrast.samples) == 1 else ""
    sides = (" ".join(_number(sign * value, claim, plus) for value in sample) for sample in contrast.samples)
    return f"{' against '.join(sides)}{unit}"


def relation_text(contrast: Contrast, claim: Claim, margin: float, is_settled: bool) -> str:
    """Return "simclr exceeds byol by 3.10 points (…)" or "simclr and byol are not shown to differ: …"."""
    a, b, shared = contrast.names
    if contrast.difference is None or contrast.low is None or contrast.high is None:
        return f"{contrast.label}: {difference_text(contrast, claim)}"
    if contrast.criterion == "wins" and contrast.wins is not None:
        return f"{a} is better than {b} at a new seed with {_wins_text(contrast.wins)}" + (
            f", both {shared}" * bool(shared)
        )
    sign = sign_of(claim)
    low, high = sorted((sign * contrast.low, sign * contrast.high))
    place = f", both {shared}" if shared else ""
    if is_settled and (low > 0 or high < 0):
        verb = "exceeds" if low > 0 else "lies below"
        size = amount_text(abs(contrast.difference.mean), claim)
        return f"{a} {verb} {b} by {size} ({interval_text(contrast, claim, unsigned=True)}){place}"
    numbers = f"{difference_text(contrast, claim)}{place}"
    if is_settled and (relation := _relation_around_zero(low, high, contrast, claim, margin)):
        return f"{a} {relation.format(b=b)}: {numbers}"
    if low > 0 or high < 0:  # the interval excludes 0, and still does not decide the claim
        return f"{a} and {b}: {numbers}"
    return f"{a} and {b} are not shown to differ: {numbers}"


def _relation_around_zero(low: float, high: float, contrast: Contrast, claim: Claim, margin: float) -> str:
    """Return what an interval that includes 0 shows, with {b} for B's name; empty where it shows nothing."""
    if contrast.criterion == "within" and not contrast.target and -contrast.bound < low and high < contrast.bound:
        return f"and {{b}} differ by less than {size_text(contrast.bound, claim)}"
    if margin and -margin < low and high < margin:
        return f"and {{b}} differ by less than {size_text(margin, claim)}"
    if claim.kind == "not_worse":
        side = "below" if sign_of(claim) > 0 else "above"
        return f"is not {size_text(-contrast.bound, claim)} {side} {{b}}"
    side = "above" if sign_of(claim) > 0 else "below"
    return f"is not {size_text(claim.claimed_size, claim)} {side} {{b}}" if claim.claimed_size else ""


def _wins_text(wins: Probability) -> str:
    units = "pairs" if wins.paired else "seeds a side, unpaired"
    level = f"{100 * wins.confidence:.4g} %"
    return f"probability {wins.estimate:.2f} ({wins.low:.2f} to {wins.high:.2f} at {level}, {wins.n} {units})"


def _number(value: float, claim: Claim, sign: str = "") -> str:
    scale, _ = _unit(claim)
    return f"{scale * value + 0.0:{sign}{'.2f' if scale == POINTS[0] else '.4g'}}"  # + 0.0 turns -0 into 0


def _unit(claim: Claim) -> tuple[float, str]:
    metric = get_metric(claim.metric)
    return POINTS if metric.is_accuracy else (metric.scale, f" {metric.unit}" if metric.unit else "")
