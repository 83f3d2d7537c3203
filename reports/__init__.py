"""`from twinbench.reports import Report`, for notebooks. It brings plotly and pandas, so it is loaded late."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twinbench.reports.notebook import Report

__all__ = ["Report"]


def __getattr__(name: str) -> object:
    if name == "Report":
        from twinbench.reports.notebook import Report

        return Report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
