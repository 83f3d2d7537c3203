"""Unknown names in claims. A name that is planned or shipped is known, even if it has not run yet."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from twinbench.reports.claims.claim import Claim, Selector
from twinbench.reports.tables.cells import BASELINES, Section
from twinbench.sweeps.errors import Mistake, nearest
from twinbench.sweeps.metrics import metric_names
from twinbench.sweeps.sweep import read_protocol, shipped_protocols


class Names:
    """The names that claims about these sections may use."""

    def __init__(self, sections: Sequence[Section]):
        cells = [cell for section in sections for cell in section.cells]
        self._contents = {section.protocol_name: section.content for section in sections}
        self._measured = {metric for cell in cells for metric, _ in cell.measured}
        self._settings: dict[str, set[str]] = {}
        for cell in cells:
            self._settings.setdefault(cell.method, set()).update(cell.values)

    def mistakes(self, claim: Claim, selectors: Iterable[Selector]) -> list[Mistake]:
        """Return each unknown protocol, metric, method and setting, with the nearest known name."""
        place = f"claims.{claim.name}"
        found: list[Mistake] = []
        if claim.protocol not in self._contents:  # otherwise the shipped protocols need not be read
            problem = "no such protocol is planned in this folder or shipped"
            found += _unknown(place, "protocol", problem, claim.protocol, self._protocols, found)
        problem = f"no such metric is measured under {claim.protocol}"
        found += _unknown(place, "metric", problem, claim.metric, self._metrics(claim.protocol), found)
        for selector in selectors:
            method = str(selector["method"])
            if method not in self._settings:
                problem = "no such method is planned in this folder or in a shipped protocol"
                found += _unknown(place, "method", problem, method, self._methods, found)
            known = self._settings.get(method, set())
            for key, value in selector.items() if known else ():
                if key != "method":
                    found += _unknown(place, key, f"is not a setting of {method}", key, known, found, value)
        return [*dict.fromkeys(found)]

    @cached_property
    def _protocols(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the content of all known protocols by name."""
        return {name: read_protocol(name).content for name in shipped_protocols()} | self._contents

    @cached_property
    def _methods(self) -> set[str]:
        named = {method for content in self._protocols.values() for method in content.get("methods", {})}
        return {*self._settings, *named, *BASELINES}

    def _metrics(self, protocol: str) -> set[str]:
        """Return the metrics of the protocol; of all protocols where there is none of that name."""
        content = self._contents.get(protocol) or self._protocols.get(protocol)
        contents = [content] if content else self._protocols.values()
        named = {metric for one in contents for metric in one.get("evaluation", {}).get("metrics", {})}
        return {*named, *self._measured, *metric_names("trial_cost")}


def _unknown(
    place: str,
    key: str,
    problem: str,
    name: str,
    known: Collection[str],
    before: Sequence[Mistake],
    value: object = None,
) -> Iterator[Mistake]:
    if name not in known:
        allowed = sorted(known)
        close = nearest(name, allowed, before)
        yield Mistake(place, key, problem, name if value is None else value, ", ".join(allowed), close)
