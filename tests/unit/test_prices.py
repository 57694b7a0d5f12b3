"""The price file: one date, one currency, and where each figure is from."""

import json
from datetime import date

from countersign_cli.prices import FILE, prices


def test_every_price_says_its_unit_and_its_source() -> None:
    content = json.loads(FILE.read_text())

    assert content["currency"] == "USD"
    assert date.fromisoformat(content["asOf"])
    for name, price in content["prices"].items():
        assert set(price) == {"usd", "unit", "source"}, name
        assert price["usd"] > 0
        assert price["source"].startswith("https://aws.amazon.com/")


def test_a_price_is_for_one_unit() -> None:
    assert prices()["stateTransition"] == 0.025 / 1_000
