"""Verdicts as an HTML page."""

from importlib import resources

from twinbench.reports.claims.contrasts import Contrast
from twinbench.reports.verdicts.formats.text import NOTHING, RULE_ORDER, outcomes, remarks, summary
from twinbench.reports.verdicts.phrasing import amount_text, by_seed_text, interval_text, mean_text
from twinbench.reports.verdicts.verdict import Checked, Verdict

COLUMNS = (
    "Comparison",
    "Difference",
    "Over seeds",
    "By seed",
    "Holm p",
    "P(A > B) over seeds",
    "Over test images",
    "Detectable with power 0.8",
)
OPEN_ENDED = ("UNDERPOWERED", "DIRECTION_ONLY", "NARROWED", "EQUIVALENT")


def html_text(checked: Checked) -> str:
    """Return one page that opens offline, with every name escaped and no script."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("twinbench.reports.verdicts.formats").joinpath("claims.html.j2").read_text("utf-8")
    template = environment.from_string(source)
    claims = [_page_entry(verdict) for verdict in checked.verdicts]
    return template.render(checked=checked, claims=claims, summary=summary(checked), columns=COLUMNS) + "\n"


def css_class(verdict: Verdict) -> str:
    """Return the class of a verdict on a page, which gives its colour."""
    return "good" if verdict.is_supported else "open" if verdict.word in OPEN_ENDED else "bad"


def _page_entry(verdict: Verdict) -> dict[str, object]:
    queries: dict[str, list[str]] = {}
    for finding in verdict.findings:
        if finding.query:
            queries.setdefault(finding.query, []).append(finding.rule)
    return {
        "verdict": verdict,
        "class": css_class(verdict),
        "remarks": [one for one in remarks(verdict) if one[0] != "numbers" or not verdict.contrasts],
        "numbers": [_row(contrast, verdict) for contrast in verdict.contrasts] if verdict.has_statistics else [],
        "findings": sorted(verdict.findings, key=lambda finding: RULE_ORDER.index(finding.outcome)),
        "counts": ", ".join(f"{len(rules)} {outcome}" for outcome, rules in outcomes(verdict).items() if rules),
        "queries": [(", ".join(rules), query) for query, rules in queries.items()],
    }


def _row(contrast: Contrast, verdict: Verdict) -> list[str]:
    """Return the cells of a row, in the order of COLUMNS."""
    claim, difference = verdict.claim, contrast.difference
    if difference is None:
        return [contrast.label, *[NOTHING] * (len(COLUMNS) - 1)]
    wins, examples = contrast.wins, contrast.examples
    return [
        contrast.label,
        mean_text(contrast, claim),
        interval_text(contrast, claim),
        by_seed_text(contrast, claim),
        NOTHING if contrast.holm_p is None else f"{contrast.holm_p:.2g}",
        NOTHING if wins is None else f"{wins.estimate:.2f} ({wins.low:.2f} to {wins.high:.2f})",
        NOTHING
        if examples is None
        else f"{100 * examples.low:.2f} to {100 * examples.high:.2f}, {examples.n:,} images",
        NOTHING if contrast.detectable is None else amount_text(contrast.detectable, claim),
    ]
