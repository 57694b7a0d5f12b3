"""AWS list prices, from the one dated file that the plan, the README and the benchmark share.

`prices.json` has `asOf` (the date of the prices), `currency`, `region`, `note`, and `prices`: by
name `{usd, unit, source}`, each in USD for one unit, not for a thousand or a million.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("prices.json")


@dataclass(frozen=True)
class Prices:
    """List prices of one region on one day, in USD for one unit, by name."""

    as_of: str
    region: str
    by_name: dict[str, float]

    def __getitem__(self, name: str) -> float:
        """USD for one unit; KeyError for a name that the file does not have."""
        return self.by_name[name]


@cache
def prices() -> Prices:
    """The content of `prices.json`."""
    content = json.loads(FILE.read_text())
    return Prices(
        as_of=content["asOf"],
        region=content["region"],
        by_name={name: price["usd"] for name, price in content["prices"].items()},
    )
