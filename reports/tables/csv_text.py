"""Frames as CSV that programs read exactly and spreadsheets do not run."""

from typing import Any

import pandas as pd


def csv_text(frame: pd.DataFrame) -> str:
    """CSV whose texts no spreadsheet takes for a formula: those that begin like one get an apostrophe before."""
    guarded = frame.map(_guard).rename(columns=lambda column: _guard(str(column)))
    return guarded.to_csv(index=False, lineterminator="\n")


def _guard(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    guarded = f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    return guarded.replace("\r", "\n")  # which pandas puts in quotes; a bare \r would end the row for some readers
