"""State RequestCertificate: have the CA's key sign the certificate, asking its approvers once."""

import base64
import hashlib
from collections.abc import Callable

from countersign import models as m
from countersign import polling
from countersign.errors import EnrollmentConflictError, TsbOutcomeUnknownError
from countersign.evidence.bundle import EvidenceInvalidError
from countersign.evidence.issued import prove_issued
from countersign.policy import approvers, rules, summary
from countersign.policy.linter import refuse
from countersign.policy.profiles import Profiles
from countersign.record import Record, certificate_step
from countersign.request import tsb_bodies
from countersign.spki import spki_sha256
from countersign.states import asking, ca_keys, schedules
from countersign.states.asking import Question
from countersign.states.ownership import keep_chain, not_own, put_once
from countersign.stores import Objects, Records
from countersign.tsb.client import TsbClient
from countersign.verification import issuing
from countersign.verification.attestation import Trust
from countersign.verification.certificate import usages
from countersign.verification.csr import Csr

type Sign = Callable[[bytes], bytes]  # a signature by the stack's signing key over this content


def request_certificate(
    event: m.RequestCertificateInput,
    *,
    records: Records,
    objects: Objects,
    tsb: TsbClient,
    sign: Sign,
    polling_settings: polling.Schedule,
    profiles: Profiles,
    trust: Trust,
    newer: bool = False,
) -> m.RequestedApproval:
    """Request the certificate from TSB. This asks the CA key's approvers, so it happens only once.

    As for the CSR an intent is recorded first; see `asking`. A lost answer cannot be healed here:
    the CA's key is others', and the new key has its CSR. So the enrollment fails then, and the CSR
    stays.

    The CA's key is read and examined again: since the new key was made weeks may have passed. The
    CSR that is sent is derived from TSB's kept answer and verified again.

    Args:
        polling_settings: how to wait, as the stack is configured.
        profiles: the reviewed files, with the directory of approvers.
        trust: which attestations are trusted.
        newer: whether this TSB can be told validity and whole subject.
        sign: signs the metadata with the stack's signing key.

    Raises:
        InvalidEnrollmentError: the CA's key cannot sign what is asked for (any more), or its
            approvers would approve here too; nobody was asked, and the execution fails.
        EnrollmentConflictError: another execution owns the enrollment, or its CSR is not what is
            on record; the execution fails.
        RequestNotSentError: an AWS service refused before TSB was called; the state machine
            retries.
        TsbOutcomeUnknownError: it is unknown whether TSB has the request; the execution fails.
        TsbUnavailableError: TSB did not execute the call; the state machine retries.
        TsbRefusedError, TsbCredentialsError: the execution fails.
    Source: TSB REST API, POST /v1/certificate/sign.
    """
    with asking.nobody_asked():
        record = records.get(event.enrollment_id) or Record()
    if record.get("executionArn") != event.execution_arn:
        raise not_own(event)
    step = certificate_step(record)
    if "requestId" in step or "cancel" in record:
        # Asked before, or never to be asked: what has become of the CA's key since does not matter.
        shown = m.PolicySummary.read(step["policy"] if "requestId" in step else record["policy"])
        known = schedules.schedule(shown.tokens, polling_settings, is_one_of_two=True)
        return asking.requested(None if "cancel" in record else step["requestId"], known)
    profile = profiles.get(event.request.profile) if event.request.profile else None
    ca, findings = ca_keys.examine(
        event.request,
        tsb=tsb,
        profile=profile,
        directory=profiles.directory,
        trust=trust,
        deadline_seconds=polling_settings.deadline_seconds,
    )
    refuse(findings)
    assert ca is not None  # noqa: S101  else there is a finding  # nosec B101
    schedule = schedules.schedule(ca.policy.rule_use.tokens, polling_settings, is_one_of_two=True)
    names = profiles.directory.names
    request_id = asking.ask_once(
        event,
        lambda: _question(
            event, record, objects, tsb, ca, trust=trust, sign=sign, names=names, newer=newer
        ),
        records=records,
        schedule=schedule,
        names=names,
        step="certificate",
    )
    return asking.requested(request_id, schedule)


def _question(
    event: m.RequestCertificateInput,
    record: Record,
    objects: Objects,
    tsb: TsbClient,
    ca: issuing.CaKey,
    *,
    trust: Trust,
    sign: Sign,
    names: rules.Names,
    newer: bool,
) -> Question:
    request = event.request
    asked = request.certificate
    assert asked is not None  # noqa: S101  for the type checker  # nosec B101
    csr = _verified_csr(record, objects, trust)
    algorithm = issuing.signature_algorithm(asked, ca.answer.key.algorithm)
    named = usages(asked, request.csr)
    # By the names of this moment, as the approvers are shown them.
    policy = approvers.summary(ca.policy, names)
    shown = tsb_bodies.certificate_meta_data(
        request,
        terms=summary.CertificateTerms(
            policy=policy,
            signature_algorithm=algorithm,
            usages=(*named[0], *named[1]),
            csr_sha256=csr.sha256,
        ),
        enrollment_id=event.enrollment_id,
        requester=m.Origin.read(record["origin"]).requester,
    )
    digest, signature = hashlib.sha256(shown).hexdigest(), sign(shown)
    put_once(objects, f"enrollments/{event.enrollment_id}/metadata/{digest}.json", shown)
    objects.keep_answer(event.enrollment_id, "request-certificate", ca.answer.raw, decides=True)
    kept = record.get("attestationChainSha256")
    chain = keep_chain(objects, event.enrollment_id, trust.chain, kept=kept)
    body = tsb_bodies.tsb_certificate(
        request,
        csr=csr.pem,
        signature_algorithm=algorithm,
        usages=named,
        newer=newer,
        shown=shown,
        signature=signature,
    )
    unanswered = _unanswered(event.enrollment_id, asked.ca_key_label)

    def ask() -> str:
        try:
            return tsb.request_certificate(body).sign_request_id
        except TsbOutcomeUnknownError as error:
            raise unanswered from error

    at = "steps.certificate"
    return Question(
        stage="RequestCertificate",
        policy=ca.policy,
        ask=ask,
        noted={
            "caAttestation": issuing.attestation_on_record(
                trust, chain, m.timestamp(ca.verified_at)
            ),
            f"{at}.policy": policy.dump(),
            f"{at}.policySha256": issuing.policy_sha256(ca.answer),
            f"{at}.publicKeySha256": spki_sha256(ca.answer.key.public_key),
            f"{at}.signatureAlgorithm": algorithm,
            f"{at}.metaDataSha256": digest,
            f"{at}.metaDataSignature": base64.b64encode(signature).decode(),
        },
        unanswered=unanswered,
    )


def _verified_csr(record: Record, objects: Objects, trust: Trust) -> Csr:
    if record.get("attestationRoot", "") != trust.root_sha256:
        # Whoever could write the record could have named their own.
        raise EnrollmentConflictError(
            "the CSR was verified under another attestation root than the stack's AttestationRoot;"
            " nobody was asked",
            action="If AttestationRoot was changed since, have the CSR signed elsewhere, or begin"
            " another enrollment. Otherwise find out who wrote to the table.",
        )
    found = objects.below(f"enrollments/{record['id']}/")
    try:
        return prove_issued(record, found, now=m.now())
    except EvidenceInvalidError as error:
        raise EnrollmentConflictError(
            f"the CSR on record is not what was approved: {error}; nobody was asked",
            action="Find out who wrote to the table or the bucket; only this workflow may.",
        ) from error


def _unanswered(enrollment_id: str, label: str) -> TsbOutcomeUnknownError:
    return TsbOutcomeUnknownError(
        f"a certificate of CA key {label!r} was asked for, and it is unknown whether TSB has the"
        " request",
        action=f"See at the TSB which requests of key {label!r} are open, and cancel the one whose"
        f" metadata names enrollment {enrollment_id}. The CSR is issued: ask again by hand, or have"
        " it signed elsewhere.",
    )
