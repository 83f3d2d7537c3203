"""CSV text of a frame: exact for programs, and safe to open in a spreadsheet."""

import pandas as pd


def csv_text(frame: pd.DataFrame) -> str:
    """Return the frame as CSV. Texts that a spreadsheet would read as a formula get a leading apostrophe."""
    guarded = frame.map(_guard).rename(columns=lambda column: str(_guard(str(column))))
    return guarded.to_csv(index=False, lineterminator="\n")


def _guard(value: object) -> object:
    if not isinstance(value, str):
        return value
    guarded = f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    return guarded.replace("\r", "\n")  # pandas quotes \n but not \r, which would end the row for some readers
