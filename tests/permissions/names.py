# /// script
# requires-python = "==3.13.*"
# dependencies = [
#     "parliament==1.6.4",
#     "setuptools<81",
# ]
# ///
"""Check names in policies: a JSON object of policies on standard input, findings on output.

Run by `test_names` as a script with its own locked environment: parliament needs the setuptools
of before 2026. Its data are its own, of April 2025; nothing is asked of AWS.
"""

import json
import sys
import warnings

warnings.simplefilter("ignore")  # of parliament itself, which is written for older Pythons

import parliament  # noqa: E402

if __name__ == "__main__":
    found = [
        [name, one.issue, str(one.detail)]
        for name, policy in json.load(sys.stdin).items()
        for one in parliament.analyze_policy_string(json.dumps(policy)).findings
    ]
    json.dump(found, sys.stdout)
