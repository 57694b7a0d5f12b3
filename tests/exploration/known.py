"""What exploration finds and a later change owns: each sentence with the change that removes it."""

DECIDES = "Only the TSB decides"
FACTS = "Facts before claims"
KNOWN: dict[str, str] = {}
