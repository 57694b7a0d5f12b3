# /// script
# requires-python = "==3.13.*"
# dependencies = [
#     "aws-sam-translator==1.115.0",
#     "boto3>=1.43,<2",
# ]
# ///
"""Expand SAM: each line of standard input is a template, and one of the output what it becomes.

Run by `tests.expanded` as a script with its own locked environment: SAM's translator and the
project pin different pydantics. It asks AWS nothing: no template of ours names a managed policy.
"""

import json
import sys

from samtranslator.translator.transform import transform


class _Policies:
    """Where the translator would look up the ARNs of AWS's managed policies."""

    def load(self) -> dict[str, str]:
        return {}


if __name__ == "__main__":
    for line in sys.stdin:
        asked = json.loads(line)
        made = transform(asked["template"], asked["parameters"], _Policies())
        print(json.dumps(made), flush=True)
