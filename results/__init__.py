"""What came out: records, plans, the database derived from them, merges and bundles.

For notebooks: `from twinbench.results import ResultStore`. It is imported when first used, with DuckDB and pandas.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twinbench.results.store import ResultStore

__all__ = ["ResultStore"]


def __getattr__(name: str) -> "type[ResultStore]":
    if name == "ResultStore":
        from twinbench.results.store import ResultStore

        return ResultStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
