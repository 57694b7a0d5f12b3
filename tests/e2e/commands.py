"""The commands in our documents, run on the stack as a reader would paste them.

A fenced `sh` block is run when the line above it is `<!-- run -->`, which readers do not see. The
blocks of a document share one shell, so that an early one may define what later ones use.
"""

import os
import re
import subprocess
from pathlib import Path

from local.stack import REGION, ROOT, SAM_VERSION, UV, Stack

AWSCLI_VERSION = "1.46.3"
BLOCK = re.compile(r"^<!-- run -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DEADLINE_SECONDS = 200


def commands(document: Path) -> list[str]:
    """The blocks that are run, in the order of the document."""
    return BLOCK.findall(document.read_text())


def paste(document: Path, stack: Stack) -> str:
    """Run the document's commands from the project's root; what they printed.

    Stops at the first that fails. `aws` and `sam` are at hand and point at the stack.

    Raises:
        AssertionError: a command failed; shows what was run and what it said.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ENDPOINT_URL": stack.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_PAGER": "",
        "SAM_CLI_TELEMETRY": "0",
    }
    script = "set -euo pipefail\n" + "\n".join(commands(document))
    # Each tool in its own environment, its commands on the path of the next.
    tools = [f"awscli=={AWSCLI_VERSION}", f"aws-sam-cli=={SAM_VERSION}"]
    within = [word for tool in tools for word in (str(UV), "tool", "run", "--from", tool)]
    ran = subprocess.run(
        [*within, "bash", "-c", script],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, f"{script}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout
