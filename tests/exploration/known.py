"""What exploration finds and a later change owns: each sentence with that change and a schedule."""

from dataclasses import dataclass

FACTS = "Facts before claims"


@dataclass(frozen=True)
class Known:
    """What does not hold yet.

    Args:
        owner: the change that mends it.
        scenario: where it is seen.
        schedule: the shortest one that shows it.
    """

    owner: str
    scenario: str
    schedule: dict[int, list[str]]


KNOWN = {
    # Cancelled while StoreCsr verifies: the record has checks, and their object is missing.
    "the evidence of FAILED does not verify": Known(FACTS, "approve", {55: ["stop"]}),
    "the evidence of CANCELLED does not verify": Known(FACTS, "approve", {49: ["cancel"]}),
}
