"""The people of the shipped directory, with keys that somebody here holds."""

import json
from pathlib import Path
from typing import Any

from countersign.policy.profiles import Profiles
from countersign.tsb.client import TsbClient
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
