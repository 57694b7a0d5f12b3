"""What the HSM makes of keys, labels and policies."""

from datetime import UTC, datetime, timedelta

from countersign import clocks
from countersign.algorithms import ED25519, RSA_SIZES
from countersign.errors import KEY_ALREADY_EXISTING, KEY_NOT_EXISTENT
from countersign.tsb.models import KeyAttributes
from countersign.verification import attestation_xml
from countersign_cli.calls import MANAGEMENT
from countersign_cli.probe.questions import Finding, UnknownError, question
from countersign_cli.probe.session import (
    Session,
    attributes,
    highest,
    needed,
    policy,
    public_key,
    rules,
)

LONGEST_LABEL = 255  # that the product accepts
TOLERATED_SECONDS, MOST_SECONDS = 300, 900  # default and maximum of MaxClockSkewSeconds
STEP_SECONDS = 60
TELLING_SECONDS = 2  # attested times are of whole seconds
INVALID_NAME = 610
HSM_REFUSAL = 701
NOT_ONBOARDED = 414


@question("HTTP status of what was created", assumed=201, source="201 in documents; clients: 200.")
def create_http_status(session: Session) -> Finding:
    said = needed(session.create(session.label()), "a key")
    return Finding(said.status)


@question(
    "the HSM's clock, seconds ahead of ours",
    assumed=0,
    source="Windows and approvals are counted by it.",
)
def clock_skew_seconds(session: Session) -> Finding:
    before = datetime.fromtimestamp(session.pace.now(), UTC)
    # The pause between two keys lies before the call, and the key's time is of whole seconds.
    key = session.key().key
    after = datetime.fromtimestamp(session.pace.now(), UTC)
    skew = clocks.skew_seconds(key.create_time, after=before, before=after)
    session.skew_seconds = skew
    if abs(skew) <= TOLERATED_SECONDS:
        return Finding(skew)
    needs = (abs(skew) // STEP_SECONDS + 2) * STEP_SECONDS  # a minute more, at the least
    if needs > MOST_SECONDS:
        return Finding(skew, follows="Set the HSM's clock: nobody would be asked for anything.")
    follows = "Better set the HSM's clock; until then nobody is asked without this parameter."
    return Finding(skew, follows=follows, parameters={"MaxClockSkewSeconds": str(needs)})


@question("letter case of labels", assumed="exact", source="The vendor's sample mixes two cases.")
def label_matching(session: Session) -> Finding:
    said = session.read_key(session.free.key.label.upper())
    if said.ok:
        return Finding("ignoreCase")
    if said.code == KEY_NOT_EXISTENT:
        return Finding("exact")
    raise UnknownError(str(said))


@question(
    "longest label (255 are asked for)",
    assumed=LONGEST_LABEL,
    source="Not documented; the HSM has 16 bits for the length.",
)
def label_max_length(session: Session) -> Finding:
    def accepts(length: int) -> bool:
        label = session.label("-").ljust(length, "x")
        said = session.create(label)
        if said.ok:
            session.delete(label)
        elif said.code != INVALID_NAME:
            raise UnknownError(f"{length} characters: {said}")
        return said.ok

    if accepts(LONGEST_LABEL):
        return Finding(LONGEST_LABEL, "or more")
    found = highest(accepts, len(session.label("-")), LONGEST_LABEL)
    return Finding(found, follows=f"Let the profiles' label patterns allow at most {found}.")


@question("text beyond ASCII in answers", assumed="utf-8", source="As it is, or escaped.")
def json_encoding(session: Session) -> Finding:
    label = session.label("-\N{LATIN SMALL LETTER E WITH ACUTE}")
    said = needed(session.create(label), "a label beyond ASCII")
    return Finding("utf-8" if label in said.reply.text else "ascii")


@question("sizes of RSA keys", assumed=list(RSA_SIZES), source="The vendor's sources differ.")
def rsa_key_sizes(session: Session) -> Finding:
    found: list[int] = []
    refused: list[str] = []
    for size in RSA_SIZES:
        label = session.label()
        said = session.create(label, algorithm="RSA", keySize=size, curveOid=None)
        if said.ok:
            found.append(size)
            session.delete(label)
        else:
            refused.append(f"{size}: {said}")
    return Finding(found, "; ".join(refused))


@question("curveOid of an Ed25519 key", assumed="absent", source="Perhaps only set for EC.")
def ed_curve_oid(session: Session) -> Finding:
    key = session.key(algorithm="ED", curveOid=ED25519).key
    return Finding("absent" if key.curve_oid is None else "reported", key.curve_oid or "")


@question("label of a deleted key", assumed=True, source="Not with 'key invalidation' on.")
def label_reusable_after_delete(session: Session) -> Finding:
    label = session.label()
    needed(session.create(label), "a key")
    needed(session.delete(label), "to delete a key")
    said = session.create(label)
    if said.ok:
        return Finding(True)
    if said.code == KEY_ALREADY_EXISTING:
        session.delete(label)  # it is gone: this takes it off the list
        return Finding(False, follows="Use each label once: let profiles ask for a date in it.")
    raise UnknownError(str(said))


@question("HTTP status of what has no body", assumed=200, source="200 or 204.")
def empty_answer_http_status(session: Session) -> Finding:
    key = session.key().key
    return Finding(needed(session.delete(key.label), "to delete a key").status)


@question(
    "code for deleting a permanent key",
    assumed=HSM_REFUSAL,
    source="Asked only with --permanent-key: that key may stay.",
)
def indestructible_delete_code(session: Session) -> Finding:
    if not session.permanent_key:
        raise UnknownError("not asked without --permanent-key")
    key = session.key(attributes=attributes(destroyable=False)).key
    said = session.delete(key.label)
    if said.ok:
        raise UnknownError("it was deleted")
    changed = {"label": key.label, "password": None, "attributes": {"destroyable": True}}
    session.ask("PATCH", "/v1/key/changeAttributes", changed, role=MANAGEMENT)  # newest servers
    return Finding(said.code, str(said))


@question(
    "when a key is attested",
    assumed="asked",
    source="The recorded attestations are of their keys' first second.",
)
def attestation_time(session: Session) -> Finding:
    label = session.free.key.label
    session.pace.wait(TELLING_SECONDS)
    answer = KeyAttributes.read(needed(session.read_key(label), "the key again").reply)
    said = attestation_xml.read(answer.xml or "")
    if said.at is None or said.created is None:
        raise UnknownError("the attestation says no time")
    if said.at - said.created >= timedelta(seconds=TELLING_SECONDS):
        return Finding("asked")
    follows = (
        "What takes longer than MaxClockSkewSeconds would not be issued: the product takes no"
        " attestation that is older than its question (ATTESTATION_TIME). Ask the maker."
    )
    return Finding("created", follows=follows)


# Policies --------------------------------------------------------------------------------------


@question(
    "a quorum that nobody can reach",
    assumed="accept",
    source="No document has a limit.",
)
def quorum_out_of_range(session: Session) -> Finding:
    approver = public_key(session.second)
    group = {"name": "Probe", "quorum": 2, "approvals": [approver]}
    said = session.create(session.label(), policy=policy(groups=[group]))
    return Finding("accept" if said.ok else "refuse", "" if said.ok else str(said))


@question("a rule without tokens", assumed="never", source="Sources say always, and never.")
def empty_tokens(session: Session) -> Finding:
    key = session.key(policy=rules({"tokens": []})).key
    said = needed(session.request_csr(key.label), "a CSR")
    request_id = said.content["signRequestId"]
    status = session.settled(request_id, seconds=0)["status"]
    if status == "PENDING":
        return Finding("never")
    follows = "Name approvers in every rule: one without tokens protects nothing here."
    return Finding("always", status, follows)


@question(
    "approvers in a policy that is repeated",
    assumed="attested",
    source="Read from the attestation in the vendor's code; as posted in samples.",
)
def echoed_approvals(session: Session) -> Finding:
    value = session.second.certificate("Countersign Probe CN")
    posted = {"type": "certificate", "name": "Posted", "value": value}
    found = _approval(session.key(policy=policy(posted)))
    same = found.get("name") == posted["name"]
    return Finding("asPosted" if same else "attested", f"named {found.get('name')}")


@question("code for an unknown approver's name", assumed=413, source="413 or 654.")
def unknown_approver_code(session: Session) -> Finding:
    posted = {"type": "onboarded_approver_certificate", "name": session.absent}
    said = session.create(session.label(), policy=policy(posted))
    if said.ok:
        raise UnknownError("a name that nobody has was accepted")
    return Finding(said.code, str(said))


@question(
    "the approver of --onboarded",
    assumed="onboarded",
    source="Only the TSB knows whom it has onboarded.",
)
def onboarded(session: Session) -> Finding:
    if session.onboarded is None:
        raise UnknownError("not asked without --onboarded")
    posted = {"type": "onboarded_approver_certificate", "name": session.onboarded}
    said = session.create(session.label(), policy=policy(posted))
    if said.ok:
        return Finding(
            "onboarded", f"repeated as {_approval(KeyAttributes.read(said.reply))['type']}"
        )
    found = "pending" if said.code == NOT_ONBOARDED else "unknown"
    return Finding(found, str(said), "Have the approver onboarded before a profile names them.")


@question("layout of the attestation", assumed="recorded", source="Samples and documents differ.")
def attestation_layout(session: Session) -> Finding:
    xml = session.key(policy=policy(public_key(session.second))).xml or ""
    if "<timeout>" in xml:
        return Finding("recorded")
    if ' timeout="' in xml:
        return Finding("flat")
    raise UnknownError("of a form that the product does not know")


def _approval(key: KeyAttributes) -> dict[str, str]:
    repeated = key.key.policy or {}
    found: dict[str, str] = repeated["ruleUse"]["tokens"][0]["groups"][0]["approvals"][0]
    return found


FREE_KEYS = (
    create_http_status,
    clock_skew_seconds,
    label_matching,
    label_max_length,
    json_encoding,
    rsa_key_sizes,
    ed_curve_oid,
    label_reusable_after_delete,
    empty_answer_http_status,
    indestructible_delete_code,
    attestation_time,
)
POLICIES = (
    quorum_out_of_range,
    empty_tokens,
    echoed_approvals,
    unknown_approver_code,
    onboarded,
    attestation_layout,
)
