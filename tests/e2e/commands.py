"""The commands in our documents, run as a reader would paste them.

Every fenced `sh` block of README and docs is run, in the order of its page, unless the line above
says why not: `<!-- not run: … -->`, which readers do not see. The blocks of a page share one shell,
so an early one may define what later ones use. `<Name>` stands for an output of the stack.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from local.stack import COUNTERSIGN, REGION, ROOT, SAM_VERSION, UV, Stack

AWSCLI_VERSION = "1.46.3"
BLOCK = re.compile(r"^( *<!-- not run: .+ -->\n)? *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
PLACE = re.compile(r"<([A-Z][A-Za-z]+)>")
DEADLINE_SECONDS = 200

# They have a stack of their own, from the `make up` of the first to the `make down` of the last.
TOUR = ("README.md", "docs/getting-started.md")
# They are run on the session's stack, in this order.
DEPLOYED = (
    "docs/cli.md", "docs/api.md", "docs/triggers.md", "docs/events.md", "docs/keys.md",
)  # fmt: skip


def commands(document: Path) -> list[str]:
    """The blocks that are run, in the order of the document."""
    return [block for reason, block in BLOCK.findall(document.read_text()) if not reason]


class Shell:
    """A shell in which a reader works.

    Args:
        folder: where they are.
        environment: beside the usual, which has nothing of AWS.
        answer: what they type at each question.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str] | None = None, *, answer: str = ""
    ) -> None:
        self._folder, self._answer = folder, answer
        usual = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self._environment = {
            **usual,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_PAGER": "",
            "SAM_CLI_TELEMETRY": "0",
            **(environment or {}),
        }

    def run(self, script: str, seconds: float = DEADLINE_SECONDS) -> str:
        """Run a script; what it printed. Stops at the first command that fails.

        `aws` and `sam` are at hand.

        Raises:
            AssertionError: a command failed; shows what was run and what it said.
        """
        # Each tool in its own environment, its commands on the path of the next.
        tools = [f"awscli=={AWSCLI_VERSION}", f"aws-sam-cli=={SAM_VERSION}"]
        within = [word for tool in tools for word in (str(UV), "tool", "run", "--from", tool)]
        strict = "set -euo pipefail\n" + script
        ran = subprocess.run(
            [*within, "bash", "-c", 'yes "$1" | bash -c "$2"', "bash", self._answer, strict],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert ran.returncode == 0, f"{script}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout


def page(document: Path, before: Mapping[str, str] | None = None) -> str:
    """A page's commands as one script.

    Args:
        before: what else happens before the block with this text in it, as a reader would wait.
    """
    blocks = commands(document)
    for text, extra in (before or {}).items():
        (number,) = [number for number, block in enumerate(blocks) if text in block]
        blocks[number] = f"{extra}\n{blocks[number]}"
    return "\n".join(blocks)


def paste(document: Path, stack: Stack, before: Mapping[str, str] | None = None) -> str:
    """Run a page's commands on a deployed stack; what they printed.

    The folder looks like the project's, and what the commands make does not land there.

    Args:
        before: as for `page`.
    """
    folder = Path(tempfile.mkdtemp(prefix="countersign-"))
    for one in ROOT.iterdir():
        (folder / one.name).symlink_to(one)
    shell = Shell(
        folder,
        {
            "PATH": f"{COUNTERSIGN.parent}:{os.environ['PATH']}",
            "AWS_ENDPOINT_URL": stack.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        },
    )
    places = {**stack.outputs, "ApiUrl": stack.api_url}
    script = PLACE.sub(lambda found: places[found[1]], page(document, before))
    return shell.run(script.replace("<region>", REGION))
