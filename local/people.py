"""The people of the shipped directory, with keys that somebody here holds."""

import json
from pathlib import Path
from typing import Any

from countersign.policy.profiles import Profiles
from countersign.tsb.client import TsbClient
from countersign_cli.approvals import settings
from countersign_cli.approvals.settings import ApproverPart, Settings, StackPart, TsbPart
from local.approver import Approver

ROOT = Path(__file__).parents[1]
CA_PROFILE, CA_APPROVERS = "code-signing", 3


def move_in(directory: Path) -> dict[str, Approver]:
    """Write fresh keys into a directory file, and hand out their private halves, by name.

    Of the first person the directory has a certificate, of the others a public key.
    """
    content = json.loads(directory.read_text())
    people: dict[str, Approver] = {}
    for person in content["people"]:
        approver = Approver.generate(person["name"], "ec")
        key = {"publicKey": approver.spki} if people else {"certificate": approver.certificate()}
        person["keys"] = [{**key, "validFrom": "2026-01-01"}]
        people[approver.name] = approver
    directory.write_text(json.dumps(content))
    return people


def hand_out(
    people: dict[str, Approver],
    folder: Path,
    *,
    tsb_url: str,
    ca: Path | None,
    api_key: str,
    signing_key: bytes,
) -> dict[str, Path]:
    """Write each person's key and configuration for `countersign approvals`; the latter by name.

    Args:
        people: as `move_in` returns them.
        folder: gets a folder for each of them.
        tsb_url: of the TSB.
        ca: of its certificate.
        api_key: of role approver.
        signing_key: the stack's public one (PEM).
    """
    found: dict[str, Path] = {}
    for name, approver in people.items():
        own = folder / name.lower().replace(" ", "-")
        own.mkdir(parents=True, exist_ok=True)
        for file, content in {
            "key.pem": approver.pem(),
            "stack.pem": signing_key,
            "api-key": api_key.encode(),
        }.items():
            (own / file).touch(0o600)
            (own / file).write_bytes(content)
        found[name] = own / "approver.toml"
        settings.write(
            Settings(
                tsb=TsbPart(url=tsb_url, ca=str(ca) if ca else None, api_key="file:api-key"),
                stack=StackPart(signing_key="stack.pem"),
                approver=ApproverPart(key="key.pem"),
            ),
            found[name],
        )
    return found


def make_ca_key(tsb: TsbClient, people: dict[str, Approver]) -> None:
    """The CA key that profile `code-signing` names, under approvers of its own.

    Those are the last of the directory's people, and all of them must agree.
    """
    approvals = [
        {"type": "public_key", "name": name, "value": people[name].spki}
        for name in list(people)[-CA_APPROVERS:]
    ]
    group = {"name": "Group1", "quorum": len(approvals), "approvals": approvals}
    token = {"name": "Token1", "timelock": 0, "timeout": 86_400, "groups": [group]}
    frozen: dict[str, Any] = {"tokens": []}
    tsb.create_key(
        {
            "label": Profiles(ROOT / "profiles").get(CA_PROFILE).ca_key_label,
            "algorithm": "EC",
            "curveOid": "1.3.132.0.34",
            "attributes": {"decrypt": False, "sign": True, "unwrap": False},
            "policy": {
                "ruleUse": {"tokens": [token]},
                "ruleBlock": frozen,
                "ruleUnblock": frozen,
                "ruleModify": frozen,
                "keyStatus": {"blocked": False},
            },
        }
    )
