"""Names that the parts of the in-process stack share."""

REGION, ACCOUNT = "eu-central-1", "123456789012"
NAME = "countersign"  # the name of the stack
TSB_URL = "https://tsb.example"
