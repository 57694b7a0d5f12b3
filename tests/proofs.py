"""Whether every enrollment that has ended on a stack leaves evidence that verifies."""

import hashlib
from collections.abc import Iterator

from countersign.aws.records import Records
from countersign.evidence import bundle, proof, verifier
from countersign.evidence.bundle import EvidenceInvalidError
from countersign.record import Record
from local.engine.stack import InProcessStack

type Folder = dict[str, bytes]


def unproven(stack: InProcessStack) -> list[str]:
    """What the public verifier says against the evidence of enrollments that have ended.

    A test may be over before KeepEvidence has run. So the folder is made here as it would make it.
    """
    return [why for record in _ended(stack) for why in _against(stack, record)]


def folder_of(stack: InProcessStack, record: Record) -> Folder:
    """The folder that KeepEvidence makes of what table and bucket say now."""
    found, aside = (
        {
            key.removeprefix(prefix): body
            for key, body in stack.objects().items()
            if key.startswith(prefix)
        }
        for prefix in (f"enrollments/{record['id']}/", f"quarantine/{record['id']}/")
    )
    made = bundle.parts(record, found, aside)
    return sealed(stack, made | verifier.attestations(proof.prove(made)))


def sealed(stack: InProcessStack, parts: Folder) -> Folder:
    """These parts with the manifest that lists them, signed by the stack's key."""
    listed = bundle.manifest(parts)
    answer = stack.client("kms").sign(
        KeyId=stack.outputs["SigningKeyArn"],
        Message=hashlib.sha256(listed).digest(),
        MessageType="DIGEST",
        SigningAlgorithm="ECDSA_SHA_256",
    )
    return {**parts, bundle.MANIFEST: listed, bundle.SIGNATURE: answer["Signature"]}


def _ended(stack: InProcessStack) -> Iterator[Record]:
    name = stack.outputs["EnrollmentsTableName"]
    items = stack.client("dynamodb").scan(TableName=name)["Items"]
    for item in items:
        if "outcome" in item and item.get("kind") == {"S": "enrollment"}:
            yield Records(name).get(item["id"]["S"]) or Record()


def _against(stack: InProcessStack, record: Record) -> Iterator[str]:
    try:
        facts = verifier.verify(folder_of(stack, record), stack.signing_key()).facts
    except EvidenceInvalidError as error:
        yield f"{record['id']}: {error}"
    else:
        if facts["outcome"] != record["outcome"]:
            yield f"{record['id']}: the evidence says {facts['outcome']}"
