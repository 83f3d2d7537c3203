"""Versions of the shipped methods, for reports, which do not load methods. A registered name can only be of these.

A method whose numbers change gets a new version (methods/method.py); the earlier ones stay here, so that old records
are recognised. Nothing is known of methods of other packages: their names are not here.
"""

from collections.abc import Mapping
from types import MappingProxyType

METHOD_VERSIONS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "raw_pixels": (1,),
        "untrained": (1,),
        "barlow_twins": (1,),
        "byol": (1,),
        "simclr": (1,),
        "vicreg": (1,),
    }
)
