"""What approvers are asked and how their decisions show, by requests of one throwaway key.

Its policy names the user's approver and one made for the probe; either of them suffices.
"""

import base64
from dataclasses import dataclass

from cryptography import x509

from countersign.errors import REQUEST_NOT_EXISTENT
from countersign.record import ENDED_AT_TSB
from countersign_cli.approvals import bytes_to_sign
from countersign_cli.calls import APPROVER, OPERATION, Json, Said
from countersign_cli.probe.questions import Finding, UnknownError, question
from countersign_cli.probe.session import (
    POLL_SECONDS,
    SETTLE_SECONDS,
    TIMESTAMP_OFF,
    Session,
    highest,
    needed,
    policy,
    public_key,
)
from countersign_cli.signer import DIGEST, Signer

HSM_REFUSAL = 701
NO_TASK, SIGNER_NOT_ALLOWED = 652, 405
TIMELOCK, TIMEOUT = 120, 60  # seconds: the window is over before the timelock
LONGEST_TIMESTAMP_SECONDS = 3600
PRECISION_SECONDS = 2


# What happened, once for all questions ----------------------------------------------------------


@dataclass(frozen=True)
class Deletion:
    """A key with a policy that was deleted while its request was open."""

    label: str
    said: Said
    after: Said


@dataclass(frozen=True)
class Approved:
    """A request that the user's approver approved.

    Args:
        request_id: its id.
        by_all: the tasks that filteredAllApprovalTask listed for the approver.
        by_sign: those of filteredSignApprovalTask.
        executed_after: seconds from the approval to the execution.
        ended: the status object that had the result.
        again: the answer to a second approval; None where it was done by hand.
    """

    request_id: str
    by_all: list[Json]
    by_sign: Said
    executed_after: int
    ended: Json
    again: Said | None


@dataclass(frozen=True)
class Declined:
    """A request that both approvers declined, one after the other."""

    after_one: Json
    approved_after: Said | None
    after_both: Json


def _deletion(session: Session) -> Deletion:
    key = session.key(policy=policy(public_key(session.approver), public_key(session.second)))
    request_id = _request(session, key.key.label)
    said = session.delete(key.key.label)
    session.policies_stay = not said.ok
    return Deletion(key.key.label, said, session.status(request_id))


def _main(session: Session) -> str:
    """The label of the key with the policy.

    It is the one that could not be deleted, where TSB deletes no key with a policy: one that stays
    is enough.
    """
    deletion = session.once("deletion", lambda: _deletion(session))
    if not deletion.said.ok:
        return deletion.label
    rule = policy(public_key(session.approver), public_key(session.second))
    return session.once("main", lambda: session.key(policy=rule).key.label)


def _request(session: Session, label: str) -> str:
    said = needed(session.request_csr(label), "a CSR")
    found: str = said.content["signRequestId"]
    return found


def _approved(session: Session) -> Approved:
    request_id = _request(session, _main(session))
    watcher = session.second if session.approver.private_key is None else session.approver
    by_all = needed(session.tasks(watcher, request_id), "the tasks").content["tasks"]
    by_sign = session.tasks(watcher, request_id, listing="Sign")
    again: Said | None = None
    if session.approver.private_key is None:
        session.by_hand(request_id, "approve", "approvedBy")
    else:
        task = session.task(session.approver, request_id)
        needed(session.approve(session.approver, task), "the approval")
    begun = session.pace.now()
    ended = session.settled(request_id, seconds=SETTLE_SECONDS)
    executed_after = round(session.pace.now() - begun)
    if session.approver.private_key is not None:
        again = session.approve(session.approver, task)
    return Approved(request_id, by_all, by_sign, executed_after, ended, again)


def _declined(session: Session) -> Declined:
    request_id = _request(session, _main(session))
    approved_after: Said | None = None
    if session.approver.private_key is None:
        session.by_hand(request_id, "decline", "rejectedBy")
    else:
        task = session.task(session.approver, request_id)
        needed(session.decline(session.approver, task), "PATCH /v1/task")
    after_one = needed(session.status(request_id), "the request's status").content
    if session.approver.private_key is not None:
        approved_after = session.approve(session.approver, task)
    other = session.task(session.second, request_id)
    needed(session.decline(session.second, other), "PATCH /v1/task")
    after_both = needed(session.status(request_id), "the request's status").content
    return Declined(after_one, approved_after, after_both)


def approved(session: Session) -> Approved:
    """The story of an approval, told once."""
    return session.once("approved", lambda: _approved(session))


def declined(session: Session) -> Declined:
    """The story of two declines, told once."""
    return session.once("declined", lambda: _declined(session))


# Deleting and listing ---------------------------------------------------------------------------


@question(
    "deleting a key with a policy wants approval",
    assumed=False,
    source="Not documented; DiscardKey and SweepKeys delete such keys.",
)
def ska_delete_needs_approval(session: Session) -> Finding:
    deletion = session.once("deletion", lambda: _deletion(session))
    if deletion.said.ok:
        return Finding(False)
    if deletion.said.code != HSM_REFUSAL:
        raise UnknownError(str(deletion.said))
    follows = 'Let profiles say unusedKey "keep" or "block"; leave SweepKeys at report.'
    parameters = {"SweepKeys": "report"}
    return Finding(True, str(deletion.said), follows, parameters)


@question(
    "the open request of a deleted key",
    assumed="CANCELLED",
    source="Since 1.12.0, by the release notes.",
)
def deleted_key_request(session: Session) -> Finding:
    deletion = session.once("deletion", lambda: _deletion(session))
    if not deletion.said.ok:
        raise UnknownError("the key could not be deleted")
    if deletion.after.code == REQUEST_NOT_EXISTENT:
        return Finding("gone", str(deletion.after))
    return Finding(needed(deletion.after, "its status").content["status"])


@question(
    "filteredSignApprovalTask lists CSRs",
    assumed=True,
    source="Plausible by the vendor's code, and unproven. The All listing is the safe one.",
)
def sign_tasks_include_certificates(session: Session) -> Finding:
    story = approved(session)
    if not story.by_all:
        raise UnknownError("filteredAllApprovalTask does not list the request")
    listed = needed(story.by_sign, "filteredSignApprovalTask").content["tasks"]
    return Finding(bool(listed))


@question(
    "what approvers of a CSR sign",
    assumed="requestInfo",
    source="Inferred from an approval of a signature: approvalToBeSigned.",
)
def csr_approval_payload(session: Session) -> Finding:
    story = approved(session)
    if not story.by_all:
        raise UnknownError("filteredAllApprovalTask does not list the request")
    task = story.by_all[0]
    try:
        payloads = bytes_to_sign.payloads(base64.b64decode(task["approvalToBeSigned"]))
    except ValueError as error:  # and `countersign approvals` would refuse to sign it
        raise UnknownError(f"approvalToBeSigned cannot be read: {error}") from None
    if not payloads:
        raise UnknownError("no record 0x1057 in approvalToBeSigned")
    if story.ended["result"]:
        csr = x509.load_pem_x509_csr(story.ended["result"].encode())
        if csr.tbs_certrequest_bytes in payloads:
            return Finding("requestInfo", "the CSR's to-be-signed bytes")
    posted = base64.b64decode(task.get("requestBase64") or "")
    if any(one and one in (posted, _without_signature(posted)) for one in payloads):
        return Finding("request", "the body of the call", SHOW_META_DATA)
    sizes = ", ".join(str(len(one)) for one in payloads)
    return Finding("other", f"{sizes} bytes, neither CSR nor call", SHOW_META_DATA)


SHOW_META_DATA = "An approver's client can check the meta data, not the CSR's own bytes."


def _without_signature(posted: bytes) -> bytes:
    return posted.replace(b',"requestSignature":null', b"").replace(
        b'"requestSignature":null,', b""
    )


# Decisions and ends -----------------------------------------------------------------------------


@question(
    "seconds from approval to execution",
    assumed=0,
    source="The HSM's timer job; the vendor's sample configuration has 60.",
)
def timer_interval_seconds(session: Session) -> Finding:
    story = approved(session)
    if story.ended["status"] != "EXECUTED":
        raise UnknownError(f"{story.ended['status']} after {story.executed_after} s")
    seen = f"to {POLL_SECONDS:.0f} s" if story.executed_after else ""
    return Finding(story.executed_after, seen)


@question("approving twice", assumed=NO_TASK, source="The task is gone: 652 likely.")
def second_approval(session: Session) -> Finding:
    again = approved(session).again
    if again is None:
        raise UnknownError("not asked where the user approves by hand")
    return Finding(again.code or again.status, str(again))


@question("one decline of two approvers", assumed="PENDING", source="Release note of 1.14.2.")
def one_decline(session: Session) -> Finding:
    after = declined(session).after_one
    named = session.approver.spki in (after.get("rejectedBy") or ())
    return Finding(after["status"], "named in rejectedBy" if named else "not in rejectedBy")


@question("approving after declining", assumed=NO_TASK, source="Not documented.")
def approval_after_decline(session: Session) -> Finding:
    said = declined(session).approved_after
    if said is None:
        raise UnknownError("not asked where the user declines by hand")
    return Finding(said.code or said.status, str(said))


@question("both of two approvers decline", assumed="REJECTED", source="The trigger is inferred.")
def all_declined(session: Session) -> Finding:
    return Finding(declined(session).after_both["status"])


@question("notYetApprovedBy of an ended request", assumed="emptied", source="One sample, 1 of 1.")
def lists_after_end(session: Session) -> Finding:
    ended = approved(session).ended
    if ended["status"] not in ENDED_AT_TSB:
        raise UnknownError(f"the request stays {ended['status']}")
    return Finding("kept" if ended.get("notYetApprovedBy") else "emptied")


@question("a result is handed out once", assumed=False, source="An option since 2.1.0.")
def fetch_once(session: Session) -> Finding:
    story = approved(session)
    if not story.ended.get("result"):
        raise UnknownError("there was no result")
    again = needed(session.status(story.request_id), "the request's status").content
    once = again.get("result") is None
    follows = "Switch fetch-once off: an answer that gets lost would lose the CSR."
    return Finding(once, follows=follows if once else "")


@question("inputOfflineHsm in a status", assumed=False, source="Newer servers; air-gapped HSMs.")
def input_offline_hsm(session: Session) -> Finding:
    return Finding("inputOfflineHsm" in approved(session).ended)


@question("a cancelled request", assumed="kept", source="CANCELLED as documented, or 651.")
def cancelled_requests(session: Session) -> Finding:
    request_id = _request(session, _main(session))
    needed(session.cancel(request_id), "DELETE /v1/request/{id}")
    said = session.status(request_id)
    if said.code == REQUEST_NOT_EXISTENT:
        return Finding("forgotten", str(said))
    status = needed(said, "its status").content["status"]
    if status != "CANCELLED":
        raise UnknownError(f"{status} after a success of DELETE")
    return Finding("kept", status)


@question("cancelling an ended request", assumed="ignore", source="Not documented.")
def cancel_final_request(session: Session) -> Finding:
    story = approved(session)
    said = session.cancel(story.request_id)
    if not said.ok:
        return Finding("refuse", str(said))
    after = session.status(story.request_id)
    if after.code == REQUEST_NOT_EXISTENT:
        return Finding("overwrite", str(after))
    status = needed(after, "its status").content["status"]
    return Finding("ignore" if status == story.ended["status"] else "overwrite", status)


@question("a synchronous call without approval", assumed="checked", source="Recorded: 701.")
def synchronous_policy(session: Session) -> Finding:
    inner = {
        "payload": base64.b64encode(b"countersign probe").decode(),
        "payloadType": "UNSPECIFIED",
        "signKeyName": _main(session),
        "keyPassword": None,
        "signatureAlgorithm": "SHA256_WITH_ECDSA",
    }
    said = session.ask("POST", "/v1/synchronousSign", {"signRequest": inner}, role=OPERATION)
    if said.ok:
        follows = "Stop: this TSB signs without the approvals that the key's policy asks for."
        return Finding("alwaysFulfilled", follows=follows)
    if said.code == HSM_REFUSAL:
        return Finding("checked", str(said))
    raise UnknownError(str(said))


# Approvers' clocks and services -----------------------------------------------------------------


@question("oldest timestamp of an approver, seconds", assumed=600, source="A sample has 600.")
def timestamp_past_seconds(session: Session) -> Finding:
    return _limit(session, late=1)


@question("newest timestamp, seconds ahead", assumed=0, source="0 by default.")
def timestamp_future_seconds(session: Session) -> Finding:
    return _limit(session, late=-1)


def _limit(session: Session, *, late: int) -> Finding:
    def accepts(seconds: int) -> bool:
        said = session.tasks(session.second, late=late * seconds)
        if said.ok or said.code == TIMESTAMP_OFF:
            return said.ok
        raise UnknownError(str(said))

    if not accepts(0):
        raise UnknownError("the time of the TSB's own clock is refused")
    if accepts(LONGEST_TIMESTAMP_SECONDS):
        return Finding(LONGEST_TIMESTAMP_SECONDS, "or more")
    found = highest(accepts, 0, LONGEST_TIMESTAMP_SECONDS)
    rounded = round(found / 10) * 10  # timestamps are of whole seconds, configurations are round
    return Finding(rounded if abs(rounded - found) <= PRECISION_SECONDS else found, "about")


@question("a stranger's service certificate", assumed="refused", source="By a list of them.")
def unknown_service(session: Session) -> Finding:
    service = Signer.generate()
    moment = session.timestamp()
    body = {
        "timestamp": moment,
        "timestampSignature": service.sign(moment.encode()),
        "timestampDigestAlgorithm": DIGEST,
        "timestampSigningCertificate": service.certificate("countersign probe"),
        "detailLevel": "level1",
    }
    said = session.ask("POST", "/v1/filteredAllApprovalTask", body, role=APPROVER)
    if said.ok:
        return Finding(
            "accepted", follows="Have the TSB list its services: anybody sees all tasks."
        )
    return Finding("refused", str(said))


# What needs minutes -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Windows:
    """Two requests whose windows are over: one was approved in time, the other by nobody.

    Args:
        others_tasks: of the approver who had not decided, while the first was APPROVED.
        while_approved: the first one's status then.
        approved: the first one's status in the end.
        silent: the other's.
    """

    others_tasks: list[Json]
    while_approved: str
    approved: str
    silent: str


def _windows(session: Session) -> Windows:
    first, other = public_key(session.second), Signer.generate()
    locked = policy(first, public_key(other), timelock=TIMELOCK, timeout=TIMEOUT)
    waits = _request(session, session.key(policy=locked).key.label)
    needed(session.approve(session.second, session.task(session.second, waits)), "the approval")
    while_approved = needed(session.status(waits), "the request's status").content["status"]
    tasks = needed(session.tasks(other, waits), "the tasks").content["tasks"]
    silent = _request(session, session.key(policy=policy(first, timeout=TIMEOUT)).key.label)
    session.say(f"Waiting until windows are over: up to {TIMELOCK + SETTLE_SECONDS:.0f} s.")
    ended = session.settled(waits, seconds=TIMELOCK + SETTLE_SECONDS)["status"]
    left = session.settled(silent, seconds=TIMEOUT)["status"]
    return Windows(tasks, while_approved, ended, left)


def windows(session: Session) -> Windows:
    """The story of two windows, told once."""
    return session.once("windows", lambda: _windows(session))


@question("a window that nobody used", assumed="EXPIRED", source="Inferred.")
def silent_window(session: Session) -> Finding:
    return Finding(windows(session).silent)


@question("others' tasks while APPROVED", assumed="tasksStay", source="Not documented.")
def approved_after_quorum(session: Session) -> Finding:
    story = windows(session)
    if story.while_approved != "APPROVED":
        raise UnknownError(f"the request was {story.while_approved}")
    return Finding("tasksStay" if story.others_tasks else "tasksGo")


@question("a timeout ends what is APPROVED", assumed=False, source="Not documented.")
def timeout_stops_approved(session: Session) -> Finding:
    ended = windows(session).approved
    if ended not in ("EXECUTED", "EXPIRED"):
        raise UnknownError(f"it ended {ended}")
    follows = "Let no profile have a timelock that ends after the timeout."
    return Finding(ended == "EXPIRED", ended, follows if ended == "EXPIRED" else "")


# The deletion comes first: it says whether further keys with a policy may be made.
QUESTIONS = (
    ska_delete_needs_approval,
    deleted_key_request,
    sign_tasks_include_certificates,
    csr_approval_payload,
    timer_interval_seconds,
    second_approval,
    one_decline,
    approval_after_decline,
    all_declined,
    lists_after_end,
    fetch_once,
    input_offline_hsm,
    cancelled_requests,
    cancel_final_request,
    synchronous_policy,
    timestamp_past_seconds,
    timestamp_future_seconds,
    unknown_service,
)
WINDOWS = (silent_window, approved_after_quorum, timeout_stops_approved)
