"""Where the in-process stack is: names that its parts agree on."""

REGION, ACCOUNT = "eu-central-1", "123456789012"
NAME = "countersign"  # the stack's
TSB_URL = "https://tsb.example"
