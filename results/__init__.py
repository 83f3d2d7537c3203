"""`from twinbench.results import ResultStore`, for notebooks. It brings DuckDB and pandas, so it is loaded late."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twinbench.results.store import ResultStore

__all__ = ["ResultStore"]


def __getattr__(name: str) -> Any:
    if name == "ResultStore":
        from twinbench.results.store import ResultStore

        return ResultStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
