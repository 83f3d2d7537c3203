"""Published numbers for the same dataset and metrics, for the page; kept apart from measured numbers."""

import pandas as pd

from twinbench.reports.tables.cells import NOTHING, Section
from twinbench.reports.tables.published import PublishedTable, PublishedValue, published_tables, settings_text
from twinbench.sweeps.metrics import METRICS, metric_names

COLUMNS = ("Method", "Metric", "Reported (%)", "Settings", "Seeds", "Selected on", "Source", "File")
FOLDER = "twinbench/reports/reported"  # in the installed package; the column File gives the names of its files


def reported(section: Section) -> pd.DataFrame:
    """Return one row per published value of the section's dataset and of a probe metric."""
    dataset = str(section.content.get("dataset", {}).get("name", ""))
    rows = [
        _row(name, table, value)
        for name, table in sorted(published_tables().items())
        for value in table.values
        if dataset and value.dataset == dataset and value.metric in metric_names("probe")
    ]
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS), dtype=object)


def files(frame: pd.DataFrame) -> str:
    """Return the paths of the rows' files, one per line."""
    return "\n".join(f"{FOLDER}/{name}" for name in dict.fromkeys(frame["File"]))


def _row(name: str, table: PublishedTable, value: PublishedValue) -> tuple[str, ...]:
    number = f"{100 * value.value:.1f}" if value.value is not None else str(value.outcome)
    spread = f" ± {100 * value.spread:.1f}" if value.spread is not None else ""
    known = table.protocol
    return (
        value.method,
        METRICS[value.metric].phrase,
        number + spread,
        settings_text(value.settings),
        NOTHING if known.n_seeds is None else str(known.n_seeds),
        known.selected_on or NOTHING,
        str(table.source),
        f"{name}.toml",
    )
