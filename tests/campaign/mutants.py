"""What must not break unnoticed: changes of the product, each of which some test has to notice.

Each mutant says which text of a file becomes which other text. Text that must occur once fails
loudly where it has moved: then the mutant is to be written anew, not to be dropped.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, ignore_patterns

ROOT = Path(__file__).parents[2]
CORE = "layers/core/countersign/"
STATES = f"{CORE}states/"
DEFINITION = "statemachine/enrollment.asl.yaml"
NOT_COPIED = (".git", ".venv", ".tools", ".stack", ".aws-sam", "__pycache__", ".*_cache")
PYTEST = (sys.executable, "-m", "pytest", "-q", "--record", "-p", "no:cacheprovider")
RAN = (0, 1, 5)  # all passed, some failed, none was selected
SECONDS = 600  # for the tests of one mutant


@dataclass(frozen=True)
class Mutant:
    """A change of the product that a test has to notice.

    Args:
        name: what is broken.
        file: of the product, below the root.
        edits: each text, which occurs once in the file, and what it becomes.
        meaning: what a user would see.
        tests: those that notice it, as arguments of pytest.
    """

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    meaning: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """The file's text with the change.

        Raises:
            ValueError: a text does not occur exactly once.
        """
        for old, new in self.edits:
            if text.count(old) != 1:
                raise ValueError(
                    f"{self.name}: occurs {text.count(old)} times in {self.file}: {old}"
                )
            text = text.replace(old, new)
        return text


@dataclass(frozen=True)
class Tried:
    """A mutant and the first of its tests that fails."""

    mutant: Mutant
    noticed_by: tuple[str, ...]


def selections(chosen: Iterable[Mutant]) -> list[tuple[str, ...]]:
    """The tests of these mutants: nearly all at once, and apart what selects by `-k`."""
    tests = list(dict.fromkeys(one.tests for one in chosen))
    # Sorted, so that a stack in this process is the last of all.
    together = sorted({test for some in tests if "-k" not in some for test in some})
    return [one for one in (tuple(together), *(some for some in tests if "-k" in some)) if one]


class Tree:
    """A copy of the product in which mutants are tried, one at a time.

    Args:
        folder: an empty folder for it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tree"
        copytree(ROOT, self._folder, ignore=ignore_patterns(*NOT_COPIED))

    def failed(self, tests: tuple[str, ...], *more: str) -> tuple[str, ...]:
        """The tests that fail in the tree as it is; that a recording differs does not count.

        Args:
            tests: arguments of pytest.
            more: options of pytest.

        Raises:
            AssertionError: pytest could not run them.
        """
        python_path = os.pathsep.join(str(self._folder / one) for one in ("layers/core", "."))
        run = subprocess.run(
            [*PYTEST, *more, *tests],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": python_path},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert run.returncode in RAN, f"{tests}: pytest ended with {run.returncode}\n{run.stdout}"
        return tuple(re.findall(r"^(?:FAILED|ERROR) (\S+)", run.stdout, re.MULTILINE))

    def tried(self, mutant: Mutant) -> Tried:
        """The first of its tests that notices the mutant."""
        file = self._folder / mutant.file
        before = file.read_text()
        file.write_text(mutant.applied(before))
        try:
            self._generate(mutant)
            return Tried(mutant, self.failed(mutant.tests, "-x"))
        finally:
            file.write_text(before)
            self._generate(mutant)

    def _generate(self, mutant: Mutant) -> None:
        if mutant.file == DEFINITION:
            code = (
                "from local.generate.definition import files\n"
                "for path, text in files().items(): path.write_text(text)"
            )
            subprocess.run([sys.executable, "-c", code], cwd=self._folder, check=True)


DELETES = (
    "    disposal.delete(\n"
    "        event.request, record, records=records, tsb=tsb,"
    " secret=secret, clock_skew=clock_skew\n"
    "    )\n"
)
FLOW, UNIT, LOOPBACK = "tests/workflow/", "tests/unit/", "tests/integration/"
FORGED = f"{FLOW}test_evidence.py::test_a_forgery_under_the_right_signature_is_refused"
OWNS = f"{FLOW}test_ownership.py::test_whoever_has_lost_an_enrollment_writes_nothing_more"


def mutant(name: str, file: str, old: str, new: str, meaning: str, *tests: str) -> Mutant:
    """A mutant that changes one text."""
    return Mutant(name, file, ((old, new),), meaning, tests)


MUTANTS = (
    # Cancellations --------------------------------------------------------------------------
    mutant(
        "StoreCsr forgets the cancellation",
        f"{STATES}store_csr.py",
        'progress(event, records, {"csr": stored.dump(), **noted})',
        'records.update(event.enrollment_id, {"csr": stored.dump(), **noted})',
        "a CSR is issued although its enrollment was cancelled in time",
        f"{FLOW}test_api.py::test_cancelled_while_the_verified_csr_is_stored",
    ),
    mutant(
        "StoreCsr writes the object of what was cancelled",
        f"{STATES}store_csr.py",
        'if progress(event, records, {"stage": "StoreCsr"}) is not None:',
        "if False:",
        "a CSR lies in the bucket although its enrollment was cancelled long before",
        f"{FLOW}test_api.py::test_cancelled_during_a_state[StoreCsr]",
    ),
    mutant(
        "StoreCsr records that it has verified before it has stored",
        f"{STATES}store_csr.py",
        'if progress(event, records, {"stage": "StoreCsr"}) is not None:',
        'if progress(event, records, {"stage": "StoreCsr", **noted}) is not None:',
        "an issue can be told as a failure, by leaving out the CSR",
        f"{FLOW}test_announcing.py::test_an_end_on_record_counts_whatever_became_of_the_execution"
        "[stopped_before_the_verified_csr_is_on_record-FAILED]",
    ),
    mutant(
        "no state looks for a cancellation",
        f"{STATES}ownership.py",
        'absent=("cancel", "outcome", *absent)',
        'absent=("outcome", *absent)',
        "approvers are asked for what was cancelled, and a cancelled CSR is issued",
        f"{FLOW}test_api.py::test_cancelled_during_a_state",
    ),
    mutant(
        "PollRequest forgets the cancellation",
        f"{STATES}poll_request.py",
        '    if "cancel" in record:\n        return _cancelled(event, records, tsb)\n',
        "",
        "a cancelled enrollment goes on until the TSB ends its request",
        f"{FLOW}test_api.py::test_cancelled_during_a_state",
    ),
    mutant(
        "RequestCsr asks for what was cancelled while it prepared",
        f"{STATES}asking.py",
        '(found.get("intent") == intent and "cancel" not in existing)',
        '(found.get("intent") == intent)',
        "approvers are asked for what was cancelled",
        f"{FLOW}test_lost_answers.py::test_nobody_is_asked_for_what_was_cancelled_before_the_sdk_repeated_the_intent",
    ),
    mutant(
        "the TSB's confirmation is noted for another request",
        f"{STATES}cancel_request.py",
        '            when={f"steps.{step}.requestId": request_id},\n',
        "",
        "a request that is still open passes for cancelled",
        f"{FLOW}test_ownership.py::test_a_confirmation_is_not_noted_for_another_request",
    ),
    mutant(
        "a cancellation is accepted while the CSR is being issued",
        f"{CORE}api/cancellation.py",
        'DECIDED = ("outcome", "verifiedSha256")',
        'DECIDED = ("outcome",)',
        "a caller is told that an enrollment is cancelled, and it is issued",
        f"{UNIT}test_api.py::test_what_is_being_issued_cannot_be_cancelled",
    ),
    mutant(
        "a cancellation is accepted after the end",
        f"{CORE}api/cancellation.py",
        'DECIDED = ("outcome", "verifiedSha256")',
        'DECIDED = ("verifiedSha256",)',
        "an enrollment that has ended shows a cancellation that had no effect",
        f"{FLOW}test_api.py::test_what_has_ended_shows_no_cancellation",
    ),
    mutant(
        "a second cancellation replaces the first",
        f"{CORE}api/cancellation.py",
        'absent=("cancel", *DECIDED)',
        "absent=DECIDED",
        "the event names the wrong person, and TSB's confirmation is forgotten",
        f"{FLOW}test_api.py::test_the_tsb_is_told_at_once_and_once_and_cancelling_twice_is_the_same_as_once",
    ),
    # Ends -----------------------------------------------------------------------------------
    mutant(
        "the first outcome does not stay",
        f"{STATES}close_enrollment.py",
        '                "outcome",\n                *(one for one in facts',
        "                *(one for one in facts",
        "two that close at once: an outcome that was announced becomes another",
        f"{FLOW}test_ownership.py::test_of_two_that_end_an_enrollment_at_once_the_first_counts",
    ),
    Mutant(
        "a later end overwrites the outcome",
        f"{STATES}close_enrollment.py",
        (
            (
                '        if "outcome" in record or not _is_own(record, event):\n',
                "        if not _is_own(record, event):\n",
            ),
            (
                '                "outcome",\n                *(one for one in facts',
                "                *(one for one in facts",
            ),
        ),
        "an execution that is reported late turns an outcome into another",
        (
            f"{FLOW}test_rivals.py::test_an_execution_that_is_stopped_after_its_end_changes_no_outcome",
        ),
    ),
    mutant(
        "an end does not look whether the TSB has decided meanwhile",
        f"{STATES}close_enrollment.py",
        "when={**_owner(record), **{name: one for name, one in said.items() if one}},",
        "when=_owner(record),",
        "what people declined while somebody stopped the execution is reported as failed,"
        " and its evidence contradicts itself",
        f"{FLOW}test_schedules.py::test_what_people_decided_while_a_stopped_enrollment_is_closed_counts",
    ),
    mutant(
        "an end does not look whether the TSB has decided on the certificate meanwhile",
        f"{STATES}close_enrollment.py",
        '("csr", "certificate") if wants_certificate(record) else ("csr",)',
        '("csr",)',
        "what the CA's approvers declined while somebody stopped the execution is reported as"
        " failed, and its evidence contradicts itself",
        f"{FLOW}test_certificate_ends.py::test_what_the_ca_s_approvers_decided_while_a_stopped_enrollment_is_closed_counts",
    ),
    mutant(
        "an end does not look whether a request is on record meanwhile",
        f"{STATES}close_enrollment.py",
        "                *(name for name, one in said.items() if not one),\n",
        "",
        "the end of what was stopped does not name the request that can be taken up",
        f"{FLOW}test_schedules.py::test_a_request_that_is_on_record_while_a_stopped_enrollment_is_closed_is_named",
    ),
    mutant(
        "an end is announced again whenever the state is entered",
        f"{STATES}close_enrollment.py",
        '    if "announced" in record:\n        return closed\n',
        "",
        "consumers and mails get an outcome twice",
        f"{FLOW}test_announcing.py::test_an_execution_that_is_reported_late_changes_no_outcome",
        f"{FLOW}test_announcing.py::test_an_outcome_that_cannot_be_told_is_on_record_and_told_later_once",
    ),
    mutant(
        "a second announcement replaces the first on record",
        f"{STATES}close_enrollment.py",
        '        absent=("announced",),\n',
        "",
        "the record says a later time than the event",
        f"{FLOW}test_ownership.py::test_of_two_that_announce_an_end_the_first_is_on_record",
    ),
    mutant(
        "a bus entry that failed counts as announced",
        f"{CORE}aws/bus.py",
        '        if answer["FailedEntryCount"]:\n',
        '        if answer["FailedEntryCount"] > 1:\n',
        "an outcome is on record and nobody is ever told",
        f"{FLOW}test_announcing.py::test_an_outcome_that_the_bus_took_and_did_not_keep_is_announced_again",
    ),
    mutant(
        "a CSR on record does not count at the end",
        f"{CORE}evidence/ended.py",
        "    if result in record:\n        return m.Outcome.ISSUED\n",
        "",
        "an enrollment whose CSR was issued is reported as failed",
        f"{FLOW}test_announcing.py::test_an_end_on_record_counts_whatever_became_of_the_execution",
    ),
    mutant(
        "a CSR on record counts without what it was made of",
        f"{STATES}close_enrollment.py",
        'if "csr" in record and not _holds(record, objects):',
        "if False:",
        "whoever can write the record announces a CSR that nobody approved",
        f"{FLOW}test_evidence.py::test_a_csr_written_into_the_record_of_a_rejected_enrollment_issues_nothing",
    ),
    mutant(
        "TSB's decision counts without its answer",
        f"{CORE}evidence/ended.py",
        "status in OUTCOMES_AT_TSB and is_kept(status)",
        "status in OUTCOMES_AT_TSB",
        "whoever can write the record ends what people are deciding",
        f"{FLOW}test_announcing.py::test_an_end_on_record_counts_whatever_became_of_the_execution",
    ),
    mutant(
        "what the approvers were shown is compared in part",
        f"{CORE}evidence/asked.py",
        "        require(line == said, part, why)\n"
        '    require(folder[part] == wanted, part, "is not in canonical form (RFC 8785)")\n',
        "        assert why\n",
        "evidence proves that people agreed to what they were not shown",
        f"{FORGED}[issued-a line that says something else than the request]",
    ),
    mutant(
        "whoever writes a part chooses its form",
        f"{CORE}evidence/proof.py",
        "    for name in CANONICAL:",
        "    for name in CANONICAL[:1]:",
        "two readers of one request may read two requests",
        f"{FORGED}[issued-checks that read like others]",
    ),
    mutant(
        "an accepted request may be written in another form",
        f"{CORE}verification/checks.py",
        'recorded("acceptedSha256") == own,',
        "True,",
        "a CSR is announced beside a request that two readers may read as two",
        f"{FLOW}test_evidence.py"
        "::test_a_csr_is_not_announced_where_its_request_was_written_anew[by profile]",
    ),
    mutant(
        "two people may become one before they are asked",
        f"{STATES}request_csr.py",
        "if approvers.people(policy, shown) != before:",
        "if False:",
        "a quorum of two people is one person's, by a directory that no linter has seen",
        f"{FLOW}test_profile_states.py"
        "::test_nobody_is_asked_where_two_keys_have_become_one_person_s",
    ),
    mutant(
        "a record may say what no release writes",
        f"{CORE}record.py",
        'extra="forbid"',
        'extra="ignore"',
        "evidence confirms whatever somebody adds to it",
        f"{FORGED}[issued-a value that no release writes]",
    ),
    mutant(
        "a key of which no CSR was checked is compared with nothing",
        f"{CORE}evidence/answered.py",
        "        if not failed:\n            return one\n",
        "        return one\n",
        "evidence tells of another key, approver or quorum than the HSM attests",
        f"{FORGED}[rejected-a rejected key that is another one than the HSM attests]",
    ),
    mutant(
        "a key needs no signature of the HSM",
        f"{CORE}evidence/answered.py",
        "replace(trust, clock_skew=timedelta(seconds=MOST_SKEW_SECONDS))",
        "Trust(clock_skew=timedelta(seconds=MOST_SKEW_SECONDS))",
        "evidence tells of a key that no HSM attests",
        f"{FORGED}[rejected-a rejected key that is another one]",
    ),
    mutant(
        "an attestation from before its key signed counts",
        f"{CORE}verification/checks.py",
        "asked_at=now - LONGEST_CALL",
        "asked_at=None",
        "the attestation of the creation is replayed, whatever became of the key since",
        f"{FLOW}test_evidence.py"
        "::test_what_was_attested_when_the_key_was_made_proves_nothing_about_its_end",
    ),
    mutant(
        "the root of the beginning needs not be the auditor's",
        f"{CORE}evidence/verifier.py",
        'believed = [(bundle.KEY_CHAIN, before["root"])] if before else []',
        "believed = []",
        "an HSM of one's own attests a key's creation beside the root that the auditor pins",
        f"{FLOW}test_evidence.py::test_a_root_of_the_creation_alone_must_be_the_auditor_s_too",
    ),
    mutant(
        "discarded keys need no answer of TSB",
        f"{CORE}evidence/proof.py",
        "            require_discarded(folder, record, proven.requested)\n",
        "            pass\n",
        "evidence tells of discarded keys that nobody has made",
        FORGED,
    ),
    mutant(
        "a poll may be planned for any time",
        f"{CORE}evidence/course.py",
        "if not _at(asked) - ROUNDING <= _at(planned) <= last_call + LONGEST_WAIT:",
        "if False:",
        "evidence tells of a poll before its request, or in the year 9999",
        FORGED,
    ),
    mutant(
        "the words of an unknown requester are free",
        f"{CORE}evidence/findings.py",
        "one.sentence != UNKNOWN_REQUESTER",
        "False",
        "a finding tells that the requester is known",
        FORGED,
    ),
    mutant(
        "a part of what is known of the CA's key will do",
        f"{CORE}evidence/derived.py",
        "step.keys() & OF_THE_CA in (set(), OF_THE_CA)",
        "True",
        "evidence tells of a CA's key of which no part speaks",
        f"{FLOW}test_certificate_proof.py"
        "::test_a_ca_s_key_of_which_no_part_speaks_is_told_at_no_end",
    ),
    mutant(
        "a block needs no request of its own",
        f"{CORE}keys/unused.py",
        "said.request_id not in (None, *_requests(record))",
        "said.request_id is not None",
        "the CSR's request is told as the one by which a block was asked for",
        f"{UNIT}test_course.py::test_the_approvers_of_a_block_were_asked_by_a_request_of_its_own",
    ),
    mutant(
        "what Unicode ignores counts as seen",
        f"{CORE}texts.py",
        "letter.isprintable() and not INVISIBLE.match(letter)",
        "letter.isprintable()",
        "a name that nobody can tell from another approver's is shown beside it",
        f"{UNIT}test_lint.py::test_a_name_deceives_nobody",
    ),
    mutant(
        "a fresh start that is refused keeps its label",
        f"{STATES}create_key.py",
        "if claim and claim.enrollment_id == event.enrollment_id:",
        "if False:",
        "the label of a deleted key stays claimed by an enrollment that has ended",
        f"{FLOW}test_certificate_ends.py"
        "::test_a_ca_that_is_unfit_at_the_fresh_start_leaves_no_claim_without_a_key",
    ),
    mutant(
        "an attestation from any time counts when the key is made",
        f"{STATES}create_key.py",
        "asked_at=now - clocks.LONGEST_CALL",
        "asked_at=None",
        "approvers are asked for the use of a key of which nothing new is attested",
        f"{FLOW}test_forgeries.py"
        "::test_a_key_whose_attestation_was_not_made_for_it_bothers_no_approver",
    ),
    mutant(
        "a key without a CSR may have been attested at any time",
        f"{CORE}evidence/answered.py",
        "asked_at=None if at is None else at - LONGEST_CALL",
        "asked_at=None",
        "evidence tells of a key's rules on another day than the HSM has attested them",
        FORGED,
    ),
    mutant(
        "approvers may have been asked at any time",
        f"{CORE}evidence/ended.py",
        "took <= LONGEST_CALL + ROUNDING",
        "True",
        "evidence tells of approvers who were asked long after their rules were attested",
        FORGED,
    ),
    mutant(
        "an attestation of the CA's key from any time counts",
        f"{CORE}verification/attestation.py",
        "*_time(said, now - LONGEST_CALL, now, ahead, trust.clock_skew)",
        "*()",
        "the CA's rules of another day are believed",
        f"{FLOW}test_certificate_proof.py"
        "::test_what_was_attested_of_the_ca_before_its_approvers_agreed_proves_nothing_later",
    ),
    mutant(
        "times of the evidence need no order",
        f"{CORE}evidence/ended.py",
        "in_order = all(",
        "in_order = any(",
        "evidence confirms an end before TSB's last word",
        f"{FORGED}[issued-TSB's last word after the end]",
    ),
    mutant(
        "a failed check may be told in other words",
        f"{CORE}evidence/checked.py",
        "        is_said = _in_our_words(check) == ",
        "        is_said = True or _in_our_words(check) == ",
        "evidence of a forged CSR says that nothing was wrong",
        f"{FORGED}[forged-another finding wherever it stands]",
    ),
    mutant(
        "the error of a failed check may be told in other words",
        f"{CORE}evidence/ended.py",
        "        told = quarantine.failure(record).dump()\n",
        "        told = dict(error or {})\n",
        "evidence of a forged CSR says that nothing has to be done",
        f"{FORGED}[forged-another advice as the error's]",
    ),
    mutant(
        "a record may say what cannot be",
        f"{CORE}evidence/ended.py",
        "        for why in course.contradictions(_course(proven)):\n",
        "        for why in ():\n",
        "evidence confirms a failure in a state that was long over",
        f"{FORGED}[failed-a failure in a state that was over]",
    ),
    mutant(
        "anything may have become of a key without a CSR",
        f"{CORE}keys/unused.py",
        "    if said.action != wanted:\n        return False\n",
        "    if said.action != wanted:\n        return True\n",
        "evidence confirms that a key is gone that is there",
        f"{FORGED}[rejected-the key of a rejected request as deleted]",
    ),
    mutant(
        "an import is told that nobody asked for",
        f"{CORE}evidence/certified.py",
        "    is_asked = asked is not None and asked.import_\n",
        "    is_asked = True\n",
        "evidence confirms that a certificate was put to a key that was to be left alone",
        f"{FLOW}test_certificate_proof.py::test_no_import_is_told_where_none_was_asked_for",
    ),
    mutant(
        "of an attested value only its first text is read",
        f"{CORE}verification/attestation_xml.py",
        '            raise ValueError("has text beside elements")\n',
        "            pass\n",
        "an attestation is believed that another reader understands otherwise",
        f"{UNIT}test_boundaries.py::test_an_attestation_that_can_be_read_in_two_ways_is_refused",
    ),
    mutant(
        "an event is believed whosever it is",
        f"{CORE}evidence/writer.py",
        'if record.get("executionArn") != execution or "outcome" not in record:',
        'if "outcome" not in record:',
        "a forged event has the folder of another execution written",
        f"{FLOW}test_evidence.py::test_an_id_with_a_slash_leads_to_nobody_s_folder",
    ),
    mutant(
        "the backstop forgets the cancellation",
        f"{CORE}evidence/ended.py",
        '    if "cancel" in record:\n        return m.Outcome.CANCELLED\n',
        "",
        "what was cancelled and then stopped is reported as failed",
        f"{FLOW}test_announcing.py::test_an_end_on_record_counts_whatever_became_of_the_execution",
    ),
    mutant(
        "the backstop believes a message",
        f"{STATES}close_enrollment.py",
        '    if known is None or known["status"] not in ENDED:\n',
        "    if known is None:\n",
        "whoever may send to a queue ends what people are deciding",
        f"{FLOW}test_rivals.py::test_a_message_about_an_execution_that_goes_on_ends_nothing",
    ),
    mutant(
        "the hash is left out of: is this my claim",
        f"{STATES}close_enrollment.py",
        '        return bool(canonical.sha256(raw) == record.get("requestSha256"))\n',
        "        return bool(raw)\n",
        "an execution of another request ends an enrollment that waits for its own",
        f"{FLOW}test_ownership.py::test_an_execution_of_another_request_does_not_end_what_waits_for_its_own",
    ),
    mutant(
        "the name is left out of: is this my claim",
        f"{STATES}close_enrollment.py",
        "    if event.execution.name not in ownership.execution_names(record):\n"
        "        return False\n",
        "",
        "an earlier attempt that is reported late ends the next one",
        f"{UNIT}test_api.py::test_an_attempt_that_ends_late_does_not_close_the_next_one",
    ),
    # Claims ---------------------------------------------------------------------------------
    mutant(
        "a second execution takes over a started claim",
        f"{STATES}ownership.py",
        '        elif "executionArn" in existing or "outcome" in existing:\n',
        '        elif "outcome" in existing:\n',
        "the same request again fails instead of being the same enrollment",
        f"{FLOW}test_faults.py::test_the_same_request_again_is_the_same_enrollment",
    ),
    mutant(
        "a claim is taken over although an execution has it",
        f"{STATES}ownership.py",
        'absent=("executionArn", "outcome"),',
        'absent=("outcome",),',
        "two executions carry out one enrollment: approvers are asked twice",
        f"{FLOW}test_ownership.py::test_a_claim_that_has_been_taken_up_meanwhile_is_not_taken_over",
    ),
    mutant(
        "a claim is taken over although it has ended",
        f"{STATES}ownership.py",
        'absent=("executionArn", "outcome"),',
        'absent=("executionArn",),',
        "what was cancelled before its start is carried out",
        f"{FLOW}test_ownership.py::test_a_claim_that_has_been_taken_up_meanwhile_is_not_taken_over",
    ),
    mutant(
        "a claim of another attempt is taken over",
        f"{STATES}ownership.py",
        'for name in ("requestSha256", "attempt")}',
        'for name in ("requestSha256",)}',
        "an execution carries out the attempt of another one",
        f"{FLOW}test_ownership.py::test_a_claim_is_taken_over_as_the_attempt_that_it_is",
    ),
    mutant(
        "a failed attempt is begun anew although it has been begun",
        f"{STATES}ownership.py",
        'for name in ("attempt", "outcome", "announced")}',
        'for name in ("outcome", "announced")}',
        "two attempts have one number, and the one hides what the other left",
        f"{FLOW}test_ownership.py::test_an_attempt_that_has_been_made_meanwhile_is_not_made_again",
    ),
    mutant(
        "what has ended otherwise meanwhile is begun anew",
        f"{STATES}ownership.py",
        'for name in ("attempt", "outcome", "announced")}',
        'for name in ("attempt", "announced")}',
        "an issued enrollment is begun anew",
        f"{FLOW}test_ownership.py::test_what_has_ended_otherwise_meanwhile_is_not_begun_anew",
    ),
    mutant(
        "a claim of another request is taken over",
        f"{STATES}ownership.py",
        'for name in ("requestSha256", "attempt")}',
        'for name in ("attempt",)}',
        "an execution carries out another request than the record shows",
        f"{FLOW}test_ownership.py::test_a_claim_of_another_request_is_not_taken_over",
    ),
    mutant(
        "what failed after the approvers were asked begins anew",
        f"{STATES}ownership.py",
        " and not approvers_asked(record)\n",
        "\n",
        "people who have decided are asked again",
        f"{FLOW}test_rivals.py::test_what_failed_after_people_were_asked_is_not_begun_anew",
    ),
    mutant(
        "an id is claimed again before its end is announced",
        f"{STATES}ownership.py",
        'return failed and "announced" in record and',
        "return failed and",
        "an end is never announced, because another attempt has taken its place",
        f"{FLOW}test_rivals.py::test_an_id_is_not_claimed_again_before_its_end_is_announced",
    ),
    mutant(
        "another request under a used id is no conflict",
        f"{STATES}ownership.py",
        '        if existing.get("requestSha256") not in (None, record["requestSha256"]):\n',
        "        if False:\n",
        "a caller gets another request's CSR for theirs",
        f"{FLOW}test_faults.py::test_another_request_under_the_same_id_is_refused_and_changes_nothing",
    ),
    # What came back -------------------------------------------------------------------------
    mutant(
        "the bytes of a CSR are not compared",
        f"{CORE}verification/csr.py",
        "    same = _rebuilt(request, requested, public_key) == request.signed\n",
        "    same = True\n",
        "a CSR says to other programs what we never saw",
        f"{UNIT}test_csr.py::test_what_is_encoded_otherwise_is_refused",
    ),
    mutant(
        "a second attribute may request extensions",
        f"{CORE}verification/csr.py",
        "    if values not in ([], [1]):\n",
        "    if False:\n",
        "a finding does not say that programs read different extensions",
        f"{UNIT}test_csr.py::test_a_second_attribute_is_named_besides_what_is_in_it",
    ),
    mutant(
        "the kind of a key is what TSB says",
        f"{CORE}verification/checks.py",
        "    if not same:\n",
        "    if False:\n",
        "RSA 1024 is issued for RSA 2048",
        f"{UNIT}test_verification.py::test_a_key_is_what_its_own_bytes_say",
    ),
    mutant(
        "an attribute that nobody states is as asked",
        f"{CORE}verification/checks.py",
        "and not (said[name] is None and name in NEVER_REPORTED)",
        "and said[name] is not None",
        "a key that may do more than was asked is issued for",
        f"{UNIT}test_verification.py::test_an_attribute_that_nobody_states_is_not_as_asked",
    ),
    mutant(
        "an imported key is as good as a generated one",
        f"{CORE}verification/attestation.py",
        '    if said.creation not in ("", GENERATED):\n',
        "    if False:\n",
        "a key that is known elsewhere is issued for",
        f"{UNIT}test_attestation.py::test_it_is_named_in_the_recorded_layout_too",
    ),
    mutant(
        "whoever is a CA may issue",
        f"{CORE}verification/attestation.py",
        "        if usage is not None and not usage.key_cert_sign:\n",
        "        if False:\n",
        "an attestation is believed that no HSM vendor vouches for",
        f"{UNIT}test_attestation.py::test_a_chain_that_does_not_hold_is_not_believed",
    ),
    mutant(
        "a chain may hold what does not belong to it",
        f"{CORE}verification/attestation.py",
        "    if verified != chain:\n",
        "    if False:\n",
        "the evidence keeps a chain that was not verified",
        f"{UNIT}test_attestation.py::test_a_chain_that_does_not_hold_is_not_believed",
    ),
    mutant(
        "of two certificates of one name any is the approver's",
        f"{CORE}verification/echo.py",
        "            if name in names and len(keys) == 1\n",
        "            if name in names\n",
        "somebody else approves in an onboarded approver's place",
        f"{UNIT}test_verification.py::test_of_two_certificates_of_one_name_neither_is_believed",
    ),
    mutant(
        "the CA key's policy need not be attested",
        f"{CORE}verification/issuing.py",
        "    if said is not None and said.policy != policy:\n",
        "    if False:\n",
        "the CA's approvers are whoever TSB says",
        f"{FLOW}test_profile_states.py::test_a_ca_key_s_policy_that_is_not_to_be_believed_makes_nothing",
    ),
    mutant(
        "the CA key's answer may be about another key",
        f"{CORE}verification/issuing.py",
        "    if answer.key.label != label:\n        raise ValueError",
        "    if False:\n        raise ValueError",
        "the approvers of another key are compared",
        f"{FLOW}test_profile_states.py::test_a_ca_key_s_policy_that_is_not_to_be_believed_makes_nothing",
    ),
    # Labels and keys ------------------------------------------------------------------------
    mutant(
        "claimedAt is not moved on after a discard",
        f"{STATES}discard_key.py",
        "    labels.renew(key.label, event.enrollment_id, records)\n",
        "",
        "a key that somebody made meanwhile under the label is adopted",
        f"{FLOW}test_lost_answers.py::test_the_first_key_is_not_adopted_in_the_place_of_the_second",
    ),
    mutant(
        "CreateKey adopts the key that was discarded",
        f"{STATES}create_key.py",
        "        if is_older or spki_sha256(answer.key.public_key) == discarded:\n",
        "        if is_older:\n",
        "the first key, whose request may still ask people, is used in place of the second",
        f"{FLOW}test_lost_answers.py::test_the_first_key_is_not_adopted_in_the_place_of_the_second",
    ),
    mutant(
        "CreateKey adopts a key older than the claim",
        f"{STATES}create_key.py",
        "        is_older = answer.key.create_time < claim.at - trust.clock_skew\n",
        "        is_older = False\n",
        "approvers agree to the use of a key that somebody else made",
        f"{FLOW}test_faults.py::test_an_older_key_under_the_label_is_not_adopted_even_if_it_is_alike",
    ),
    mutant(
        "disposal takes a key older than the claim for its own",
        f"{CORE}keys/disposal.py",
        "own = key.create_time >= claim.at - clock_skew and not any(different.values())",
        "own = not any(different.values())",
        "a key of somebody else is deleted",
        f"{FLOW}test_unused_keys.py::test_an_older_key_under_the_label_of_a_cancelled_enrollment_is_left_alone",
    ),
    mutant(
        "disposal takes a key of another kind for its own",
        f"{CORE}keys/disposal.py",
        "own = key.create_time >= claim.at - clock_skew and not any(different.values())",
        "own = key.create_time >= claim.at - clock_skew",
        "a key of somebody else is deleted",
        f"{FLOW}test_inventory.py::test_a_key_that_was_made_and_never_recorded_is_deleted_only_if_it_is_what_was_asked",
    ),
    mutant(
        "disposal does not compare the public key",
        f"{CORE}keys/disposal.py",
        'own = spki_sha256(key.public_key) == record["publicKeySha256"]',
        "own = True",
        "a key of somebody else is deleted",
        f"{FLOW}test_inventory.py::test_another_key_under_the_label_of_an_ended_enrollment_is_not_deleted",
        f"{FLOW}test_unused_keys.py::test_another_key_under_the_label_is_left_alone",
    ),
    mutant(
        "disposal takes a label that others claim for its own",
        f"{CORE}keys/disposal.py",
        '    if claim is None or claim.enrollment_id != record.get("id"):\n        return None\n',
        "    if claim is None:\n        return None\n",
        "the key of another enrollment is deleted",
        f"{FLOW}test_ownership.py::test_a_key_whose_label_somebody_else_has_claimed_is_left_alone",
    ),
    mutant(
        "a label that others claim is taken",
        f"{STATES}create_key.py",
        "    if claim.enrollment_id == event.enrollment_id:\n",
        "    if True:\n",
        "two enrollments use one key",
        f"{FLOW}test_faults.py::test_a_label_belongs_to_the_enrollment_that_claimed_it",
    ),
    mutant(
        "a label's claim minds the case",
        f"{CORE}keys/labels.py",
        'f"label#{label.casefold()}"',
        'f"label#{label}"',
        "at a TSB that ignores the case of letters, two enrollments use one key",
        f"{FLOW}test_rivals.py::test_a_label_that_differs_in_its_case_alone_is_the_same_label",
    ),
    mutant(
        "the fresh start does not wait",
        f"{STATES}discard_key.py",
        "next_slot(records, keys_per_minute, after=fresh_start_after)",
        "next_slot(records, keys_per_minute)",
        "a call that the TSB executes late finds the fresh key, and people are asked twice",
        f"{FLOW}test_rivals.py::test_a_fresh_key_is_made_when_a_late_call_has_found_none",
    ),
    mutant(
        "an unexplained end deletes the key",
        f"{CORE}keys/disposal.py",
        "    if not resumption.is_decided(record, error):\n",
        "    if False:\n",
        "what people agreed to is thrown away for an error that nobody understands",
        f"{FLOW}test_retries.py"
        "::test_a_csr_that_cannot_be_stored_leaves_its_key_whatever_the_profile_says[delete]",
    ),
    mutant(
        "an unexplained end cancels the request",
        f"{CORE}keys/disposal.py",
        "    if not resumption.is_decided(record, error):\n",
        "    if False:\n",
        "what people may still agree to is withdrawn for an error that nobody understands",
        f"{FLOW}test_retries.py::test_an_end_that_nobody_decided_leaves_key_and_open_request"
        "_whatever_the_profile_says[Runtime.ImportModuleError-keep]",
    ),
    mutant(
        "a claim of somebody else is released",
        f"{CORE}keys/labels.py",
        '    records.delete(_id(label), when={"enrollmentId": enrollment_id})\n',
        '    records.delete(_id(label), when={"id": _id(label)})\n',
        "the label of a key in use is free for others",
        f"{FLOW}test_ownership.py::test_a_label_that_somebody_else_has_claimed_stays_claimed",
    ),
    mutant(
        "a claim of somebody else is renewed",
        f"{CORE}keys/labels.py",
        'm.timestamp(m.now())}, when={"enrollmentId": enrollment_id}',
        "m.timestamp(m.now())}",
        "the owner of the label does not know their own key",
        f"{FLOW}test_ownership.py::test_a_claim_of_somebody_else_is_not_moved_on",
    ),
    Mutant(
        "what is to be deleted is forgotten before it is deleted",
        f"{STATES}discard_key.py",
        (
            (
                DELETES,
                "",
            ),
            (
                "    if discards > MAX_FRESH_STARTS:\n",
                DELETES + "    if discards > MAX_FRESH_STARTS:\n",
            ),
        ),
        "where the TSB refuses to delete, nobody knows any more that people were asked",
        (
            f"{FLOW}test_lost_answers.py::test_that_people_may_have_been_asked_is_known_where_the_key_cannot_be_deleted",
        ),
    ),
    mutant(
        "disposal acts although an outcome is there",
        f"{CORE}keys/disposal.py",
        'absent=("csr", "outcome"))',
        'absent=("csr",))',
        "a key is deleted after its enrollment has ended, and the evidence does not say so",
        f"{FLOW}test_unused_keys.py::test_a_key_is_left_alone_where_its_enrollment_has_just_been_ended",
    ),
    mutant(
        "disposal acts although a CSR is there",
        f"{CORE}keys/disposal.py",
        'absent=("csr", "outcome"))',
        'absent=("outcome",))',
        "the key of an issued CSR is deleted",
        f"{FLOW}test_unused_keys.py::test_the_key_of_an_issued_csr_is_never_touched",
    ),
    mutant(
        "the sweep deletes although a CSR is there",
        f"{CORE}keys/sweep.py",
        ' when=own, absent=("csr",)) is not None:',
        " when=own) is not None:",
        "the key of an issued CSR is deleted",
        f"{FLOW}test_inventory.py::test_a_key_whose_csr_is_on_record_meanwhile_is_not_deleted",
    ),
    *(
        mutant(
            f"the sweep deletes whatever the {name} has become",
            f"{CORE}keys/sweep.py",
            'own = {name: record[name] for name in ("attempt", "outcome")}',
            f'own = {{name: record[name] for name in ("{others}",)}}',
            "the key of an enrollment that is under way, or was issued, is deleted",
            f"{FLOW}test_ownership.py"
            "::test_a_sweep_deletes_no_key_of_an_enrollment_that_has_begun_anew",
        )
        for name, others in (("attempt", "outcome"), ("outcome", "attempt"))
    ),
    mutant(
        "cancel_open cancels what it does not know",
        f"{CORE}keys/disposal.py",
        'if "requestId" not in step or confirmed or',
        "if confirmed or",
        "an end without a request fails in DiscardKey instead of saying what happened",
        f"{FLOW}test_unused_keys.py"
        "::test_an_older_key_under_the_label_of_a_cancelled_enrollment_is_left_alone",
    ),
    mutant(
        "cancel_open cancels what the TSB has confirmed",
        f"{CORE}keys/disposal.py",
        'if "requestId" not in step or confirmed or',
        'if "requestId" not in step or',
        "the TSB is asked to cancel what it has cancelled",
        f"{FLOW}test_unused_keys.py::test_a_request_that_the_tsb_has_cancelled_is_not_cancelled_again",
    ),
    mutant(
        "cancel_open cancels what has ended",
        f"{CORE}keys/disposal.py",
        'confirmed or step.get("status") in ENDED_AT_TSB:\n',
        "confirmed:\n",
        "the TSB is asked to cancel what it has executed",
        f"{FLOW}test_unused_keys.py::test_a_request_that_has_ended_is_not_cancelled",
    ),
    mutant(
        "cancel_open cancels nothing",
        f"{CORE}keys/disposal.py",
        '    tsb.cancel_request(step["requestId"])\n',
        "",
        "approvers are asked to agree to what has ended",
        f"{FLOW}test_retries.py::test_a_check_that_failed_withdraws_the_request_that_is_still_open",
    ),
    # The certificate ------------------------------------------------------------------------
    mutant(
        "the CA's key is not looked at before the key is made",
        f"{STATES}ca_keys.py",
        "        unfit=unfit,\n",
        "        unfit=None,\n",
        "people approve a CSR of which nothing can become",
        f"{FLOW}test_certificates.py"
        "::test_what_the_ca_s_key_cannot_sign_is_refused_before_anybody_is_asked",
    ),
    mutant(
        "the second step counts as the first",
        f"{CORE}record.py",
        'return "certificate" if _is_asked(certificate_step(record)) else "csr"',
        'return "csr"',
        "what the CA's approvers decided is no outcome",
        f"{FLOW}test_certificate_ends.py::test_declined_by_the_ca_s_approvers",
    ),
    mutant(
        "a CSR on record is too late to cancel where a certificate follows",
        f"{STATES}store_csr.py",
        "if requested.certificate is None:\n        noted[",
        "if True:\n        noted[",
        "nobody can cancel while the CA's approvers are asked",
        f"{FLOW}test_certificate_ends.py::test_cancelled_by_the_api_in_the_second_step",
    ),
    mutant(
        "second step: a CSR under another root than the stack's is passed on",
        f"{STATES}request_certificate.py",
        'if record.get("attestationRoot", "") != trust.root_sha256:',
        "if False:",
        "whoever may write the record names their own root",
        f"{FLOW}test_certificate_ends.py::test_a_csr_under_another_root_than_the_stack_s_asks_nobody",
    ),
    mutant(
        "second step: a stored CSR is asked for again when it is resumed",
        f"{STATES}poll_request.py",
        "return is_own and event.step",
        "return False and event.step",
        "a TSB that has forgotten the request ends it",
        f"{FLOW}test_certificate_ends.py::test_a_stop_before_the_ca_s_approvers_are_asked_is_resumed",
    ),
    mutant(
        "second step: a chain that an earlier try wrote is a conflict",
        f"{STATES}store_certificate.py",
        "earlier.chain if earlier.failed is None else None",
        "None",
        "another certificate of the CA between two tries fails what was agreed to",
        f"{FLOW}test_certificate_ends.py"
        "::test_another_ca_certificate_between_two_tries_issues_the_one_that_was_stored",
    ),
    mutant(
        "second step: the CSR is verified by the time of the end",
        f"{CORE}evidence/derived.py",
        "proven = csr_checked(folder, proven, created, executed, now=then)",
        "proven = csr_checked(folder, proven, created, executed, now=now)",
        "a chain that expired meanwhile ends the enrollment as FAILED",
        f"{FLOW}test_certificate_ends.py::test_what_was_verified_stays_so_when_its_chain_expires",
    ),
    mutant(
        "second step: the first step's root is held against the stack's",
        f"{CORE}evidence/writer.py",
        "verifier.roots(record)[-1]",
        "verifier.roots(record)[0]",
        "no evidence where the root was changed meanwhile",
        f"{FLOW}test_certificate_ends.py"
        "::test_another_root_and_chain_since_the_csr_was_stored_are_those_of_the_certificate",
    ),
    mutant(
        "the request for a certificate stays open after a fault that decides",
        f"{CORE}keys/disposal.py",
        "            _withdraw(event, existing, tsb)\n",
        "",
        "the CA's approvers are asked for what has failed",
        f"{FLOW}test_certificate_ends.py::test_a_fault_that_decides_lets_the_ca_s_approvers_go",
    ),
    mutant(
        "an import is believed",
        f"{STATES}store_certificate.py",
        "        if held.bytes != ours:\n            error",
        "        if False:\n            error",
        "a certificate counts as imported that its key does not have",
        f"{FLOW}test_certificate_ends.py"
        "::test_an_older_certificate_stays_where_the_import_leads_to_nothing",
    ),
    mutant(
        "a certificate counts without what it was made of",
        f"{CORE}evidence/issued.py",
        '        if "certificate" in record:\n            require_certificate(folder, proven)\n'
        "    except",
        "    except",
        "whoever can write the record announces a certificate that nobody approved",
        f"{FLOW}test_certificate_proof.py"
        "::test_another_certificate_written_over_the_issued_one_is_not_announced",
    ),
    # Asking ---------------------------------------------------------------------------------
    mutant(
        "the intent stays after a call that surely was not executed",
        f"{STATES}asking.py",
        'records.update(event.enrollment_id, {}, when=when, remove=(f"{at}.intent",))',
        "pass",
        "a TSB that says 429 once costs the key, and a second time the enrollment",
        f"{FLOW}test_faults.py::test_a_tsb_that_is_unavailable_for_a_while_in_every_state_issues",
    ),
    *(
        mutant(
            f"the intent stays after {name}",
            f"{STATES}asking.py",
            "    except (TsbUnavailableError, TsbRefusedError, TsbCredentialsError):\n",
            f"    except ({others}):\n",
            meaning,
            f"{FLOW}test_faults.py::{test}",
        )
        for name, others, meaning, test in (
            (
                "TsbUnavailableError",
                "TsbRefusedError, TsbCredentialsError",
                "a TSB that says 429 once costs the key",
                "test_a_tsb_that_is_unavailable_for_a_while_in_every_state_issues",
            ),
            (
                "TsbRefusedError",
                "TsbUnavailableError, TsbCredentialsError",
                "what the TSB refused is asked for again with another key",
                "test_what_the_tsb_refuses_fails_with_its_own_words",
            ),
            (
                "TsbCredentialsError",
                "TsbUnavailableError, TsbRefusedError",
                "with a revoked API key the key is deleted and made anew",
                "test_with_credentials_that_are_refused_once_the_key_stays",
            ),
        )
    ),
    mutant(
        "RequestCsr asks twice",
        f"{STATES}asking.py",
        'absent=(f"{at}.intent", f"{at}.requestId"),',
        "absent=(),",
        "approvers are asked twice for one CSR",
        f"{FLOW}test_lost_answers.py::test_a_request_on_record_is_found_again_and_not_asked_for_twice",
    ),
    # Polling --------------------------------------------------------------------------------
    mutant(
        "States.ALL in PollRequest's Catch becomes a list of names",
        DEFINITION,
        "      - ErrorEquals: [States.ALL]\n        Assign:\n",
        "      - ErrorEquals: [*TsbAway, AwsCallError, Lambda.Unknown, States.Timeout]\n"
        "        Assign:\n",
        "one import error ends an enrollment that people are deciding",
        f"{FLOW}test_retries.py"
        "::test_what_a_state_does_not_understand_passes_and_the_csr_is_issued[PollRequest]",
    ),
    mutant(
        "PollRequest goes on after what decides",
        DEFINITION,
        "      - ErrorEquals: *Deciding\n"
        "        Output: {failure: {state: PollRequest, error: *Error, cause: *Cause}}\n"
        "        Next: ChooseNext\n",
        "",
        "a request that the TSB refuses to know is polled until the deadline",
        f"{FLOW}test_retries.py::test_what_decides_ends_the_enrollment_at_once",
    ),
    mutant(
        "a poll overwrites what a later poll wrote",
        f"{STATES}poll_request.py",
        "when = {**own(event), polled: version}",
        "when = {**own(event)}",
        "a record goes back to what a slow poll has read before",
        f"{FLOW}test_rivals.py"
        "::test_a_poll_that_comes_late_overwrites_nothing_that_a_later_poll_wrote",
    ),
    mutant(
        "a wait that is over by time does not age the request",
        DEFINITION,
        'Assign: {ageSeconds: "{% $ageSeconds + $waitSeconds %}"}\n        Next: PollRequest',
        'Assign: {ageSeconds: "{% $ageSeconds %}"}\n        Next: PollRequest',
        "what nobody ends at the TSB is polled once a minute for ever",
        f"{FLOW}test_faults.py::test_what_stays_approved_is_polled_ever_more_rarely",
    ),
    mutant(
        "a year is polled more often than an execution has history for",
        f"{CORE}polling.py",
        "POLLS_AT_THE_CAP = 960\n",
        "POLLS_AT_THE_CAP = 3_000\n",
        "AWS ends the execution before the window ends",
        f"{FLOW}test_retries.py::test_the_worst_year_fits_into_an_execution_s_history",
    ),
    mutant(
        "an endless request is never cancelled at the TSB",
        "layers/core/countersign/polling.py",
        "(self.silence_seconds // 2 if self.window_seconds else 0)",
        "(self.silence_seconds // 2 if self.window_seconds else self.silence_seconds)",
        "a request without a window stays open at the TSB, and its enrollment fails",
        f"{FLOW}test_faults.py::test_a_request_without_a_window_is_cancelled_after_the_deadline",
    ),
    mutant(
        "a window that the TSB does not end is never cancelled there",
        "layers/core/countersign/polling.py",
        "(self.silence_seconds // 2 if self.window_seconds else 0)",
        "(self.silence_seconds if self.window_seconds else 0)",
        "a TSB whose clock is wrong makes enrollments fail, with requests left open",
        f"{FLOW}test_faults.py::test_a_request_that_the_tsb_never_ends_is_cancelled_there",
    ),
    Mutant(
        "news is told before the deadline is acted on",
        f"{STATES}poll_request.py",
        (
            ("    if news is not None:\n        bus.put(news)\n", ""),
            (
                "    if status in WAITING:\n        _end_the_endless(",
                "    if news is not None:\n        bus.put(news)\n"
                "    if status in WAITING:\n        _end_the_endless(",
            ),
        ),
        "while the bus refuses, no deadline is kept",
        (f"{FLOW}test_announcing.py::test_a_bus_that_refuses_holds_up_no_deadline",),
    ),
    mutant(
        "what was decided is polled every few seconds",
        f"{CORE}polling.py",
        "    return min(max(math.ceil(schedule.growth * age_seconds), schedule.floor_seconds),"
        " schedule.cap)\n",
        "    return 5\n",
        "a request that the TSB executes late fills the execution's history and costs money",
        "tests/unit/test_benchmarks.py::test_waiting_stays_within_its_budget",
    ),
    mutant(
        "a new request is polled more often than the watcher looks",
        f"{CORE}polling.py",
        "FLOOR_SECONDS = 60 ",
        "FLOOR_SECONDS = 1 ",
        "each enrollment pays for polls that find nothing which the watcher would not have found",
        "tests/unit/test_polling.py::test_the_seed_s_ten_minutes_are_looked_at_like_this",
    ),
    mutant(
        "a wake without end",
        DEFINITION,
        "in ['PENDING', 'APPROVED'] and $wakes < 500",
        "in ['PENDING', 'APPROVED'] and $wakes < 50000",
        "whoever may end a task uses up the history of every execution",
        f"{FLOW}test_waits.py::test_whoever_may_wake_can_only_cost_polls",
    ),
    mutant(
        "a cancellation is slept on",
        DEFINITION,
        "attribute_not_exists(cancelled)",
        "attribute_exists(id) OR attribute_not_exists(id)",
        "an execution that read its record before the cancellation sleeps for hours",
        f"{FLOW}test_waits.py::test_a_cancellation_between_the_poll_and_the_wait_lets_nobody_sleep",
    ),
    mutant(
        "the same news wakes every minute",
        f"{CORE}waits.py",
        "return before, False",
        "return before, True",
        "an execution whose poll fails uses up its history",
        "tests/unit/test_waits.py"
        "::test_news_that_is_not_taken_up_wakes_after_one_two_four_and_sixty_minutes",
    ),
    mutant(
        "a dead token ends the run",
        f"{CORE}waits.py",
        "        done.refused = error  # a later run tries again\n        return False",
        "        raise",
        "one enrollment keeps all others from being told",
        "tests/unit/test_waits.py::test_one_dead_token_keeps_no_other_from_being_woken",
    ),
    # Mails and reminders ----------------------------------------------------------------------
    mutant(
        "a reminder of what the record says",
        f"{CORE}reminders.py",
        "        if answer.digest != one.wait.seen:\n",
        "        if False:\n",
        "people are reminded of what has ended, or of what they have just decided",
        f"{FLOW}test_letters.py::test_no_reminder_of_what_has_just_ended_or_changed",
    ),
    mutant(
        "a reminder without a note",
        f"{CORE}reminders.py",
        '        records.put({"id": _note(one), "at": m.timestamp(m.now()), "expires": expires})\n',
        "",
        "the same reminder is announced every five minutes",
        f"{FLOW}test_letters.py"
        "::test_of_reminders_that_were_missed_the_newest_comes_and_none_after_the_window",
    ),
    mutant(
        "a mail that is not looked up again",
        f"{CORE}letters/delivery.py",
        "        if not _is_open(record, event.step, event.request_id):\n",
        "        if False:\n",
        "a reminder that comes late asks for what is decided",
        f"{FLOW}test_letters.py::test_a_reminder_that_comes_too_late_is_not_mailed",
    ),
    mutant(
        "who cannot be reached is reported each time",
        f"{CORE}letters/delivery.py",
        "        if records.put(item) is None:\n",
        "        records.put(item)\n        if True:\n",
        "one missing address counts as often as its event comes",
        f"{FLOW}test_letters.py::test_who_cannot_be_reached_or_has_left_gets_nothing",
    ),
    mutant(
        "the CA's approvers get the CSR's lines",
        f"{CORE}letters/delivery.py",
        '    of_ca = certificate_step(record) if name == "certificate" else record\n',
        "    of_ca = record\n",
        "a mail shows another text than the approver's app",
        f"{FLOW}test_letters.py"
        "::test_the_second_quorum_is_asked_and_stood_down_by_name_as_the_first",
    ),
    # Retries ----------------------------------------------------------------------------------
    mutant(
        "an approval is given up after minutes without the TSB",
        DEFINITION,
        "[*TsbAway, AwsCallError],\n         IntervalSeconds: 2, MaxAttempts: 104,",
        "[*TsbAway, AwsCallError],\n         IntervalSeconds: 2, MaxAttempts: 12,",
        "what people agreed to is lost to an outage of an hour",
        f"{FLOW}test_retries.py::test_an_approval_outlasts_a_day_without_the_tsb",
        f"{FLOW}test_retries.py::test_an_approval_outlasts_a_day_without_the_table",
    ),
    mutant(
        "a fresh key is left alone after minutes without the TSB",
        DEFINITION,
        "{ErrorEquals: *TsbAway, IntervalSeconds: 2, MaxAttempts: 104,",
        "{ErrorEquals: *TsbAway, IntervalSeconds: 2, MaxAttempts: 12,",
        "an open request of a key that nobody uses is still with the approvers",
        f"{FLOW}test_retries.py::test_a_fresh_key_is_discarded_after_a_day_without_the_tsb",
    ),
    mutant(
        "a TSB that stays away is never given up",
        DEFINITION,
        "[*TsbAway, AwsCallError],\n         IntervalSeconds: 2, MaxAttempts: 104,",
        "[*TsbAway, AwsCallError],\n         IntervalSeconds: 2, MaxAttempts: 400,",
        "an enrollment whose TSB was abolished stays open for days",
        f"{FLOW}test_retries.py::test_a_tsb_that_stays_away_is_given_up_after_a_day",
    ),
    mutant(
        "what AWS refused is tried once more and no more",
        DEFINITION,
        "{ErrorEquals: [AwsCallError], IntervalSeconds: 2, MaxAttempts: 8,",
        "{ErrorEquals: [AwsCallError], IntervalSeconds: 2, MaxAttempts: 1,",
        "a fault of AWS's that lasts a minute ends enrollments",
        f"{FLOW}test_retries.py::test_what_aws_refused_is_tried_again_soon_and_for_minutes",
    ),
    mutant(
        "a function that was idle for weeks is not waited for",
        DEFINITION,
        "IntervalSeconds: 45, MaxAttempts: 8,",
        "IntervalSeconds: 45, MaxAttempts: 3,",
        "the first enrollment after a quiet month fails",
        f"{FLOW}test_retries.py"
        "::test_a_state_is_entered_again_when_the_invocation_before_has_surely_ended",
    ),
    mutant(
        "a state is entered again while its lost invocation may run",
        DEFINITION,
        "IntervalSeconds: 45, MaxAttempts: 8,",
        "IntervalSeconds: 2, MaxAttempts: 8,",
        "a request that is just being made is taken for lost, and its key is deleted",
        f"{FLOW}test_retries.py"
        "::test_a_state_is_entered_again_when_the_invocation_before_has_surely_ended[RequestCsr]",
    ),
    mutant(
        "StoreCsr is entered again while its lost invocation may run",
        DEFINITION,
        "IntervalSeconds: 45, MaxAttempts: 100,",
        "IntervalSeconds: 2, MaxAttempts: 100,",
        "two invocations verify and store one CSR at once",
        f"{FLOW}test_retries.py"
        "::test_a_state_is_entered_again_when_the_invocation_before_has_surely_ended[StoreCsr]",
    ),
    mutant(
        "StoreCsr gives up on an unknown name",
        DEFINITION,
        "IntervalSeconds: 45, MaxAttempts: 100,",
        "IntervalSeconds: 45, MaxAttempts: 8,",
        "what people agreed to is lost to a release that does not fit",
        f"{FLOW}test_retries.py::test_an_approval_outlasts_a_day_in_which_the_csr_cannot_be_stored",
    ),
    mutant(
        "StoreCsr tries again what decides",
        DEFINITION,
        "      - {ErrorEquals: *Deciding, MaxAttempts: 0}\n      - {ErrorEquals: [*TsbAway, Aws",
        "      - {ErrorEquals: [*TsbAway, Aws",
        "a forged CSR is announced a day late",
        f"{FLOW}test_retries.py::test_what_decides_ends_the_enrollment_at_once",
    ),
    mutant(
        "a request that was surely not made counts as a lost answer",
        DEFINITION,
        "TsbCredentialsError, TsbUnavailableError, RequestNotSentError]\n        Output",
        "TsbCredentialsError]\n        Output",
        "a key is deleted although nobody was asked to use it",
        f"{FLOW}test_retries.py::test_a_key_is_no_lost_one_where_the_request_was_surely_not_made",
    ),
    mutant(
        "a state catches only what it knows",
        DEFINITION,
        "ErrorEquals: [States.ALL]\n        Output: {failure: {state: StoreCsr,",
        "ErrorEquals: [CsrInvalidError]\n        Output: {failure: {state: StoreCsr,",
        "an error that nobody has seen before ends without its disposal",
        f"{FLOW}test_retries.py"
        "::test_a_csr_that_cannot_be_stored_leaves_its_key_whatever_the_profile_says",
    ),
    # Rules ------------------------------------------------------------------------------------
    mutant(
        "events of ours start enrollments",
        "template.yaml",
        "source: [{anything-but: [countersign]}]",
        "source: [{exists: true}]",
        "whoever may put events in our name starts enrollments",
        f"{UNIT}test_template.py::test_no_event_of_ours_and_no_replay_can_start_an_enrollment",
    ),
    # Limits ---------------------------------------------------------------------------------
    mutant(
        "meta data has no limit",
        f"{CORE}request/tsb_bodies.py",
        "MAX_META_DATA_BYTES = 32 * 1024\n",
        "MAX_META_DATA_BYTES = 32 * 1024 * 1024\n",
        "the TSB refuses what its limit does not hold, after the key was made",
        f"{UNIT}test_request.py::test_what_approvers_are_shown_fits_into_32_kib",
    ),
    mutant(
        "what exceeds the limit of meta data is shown all the same",
        f"{CORE}request/tsb_bodies.py",
        "    if len(whole) <= MAX_META_DATA_BYTES:\n",
        "    if True:\n",
        "the TSB refuses what its limit does not hold, after the key was made",
        f"{UNIT}test_request.py::test_what_approvers_are_shown_fits_into_32_kib",
    ),
    mutant(
        "answers are kept without a limit",
        f"{CORE}aws/objects.py",
        "MAX_ANSWERS = 20 ",
        "MAX_ANSWERS = 20_000 ",
        "an answer that changes with each poll takes ever longer to keep",
        f"{FLOW}test_limits.py::test_of_an_answer_that_changes_with_each_poll_the_first_twenty_are_kept",
    ),
    mutant(
        "a sweep takes up every label",
        f"{CORE}keys/sweep.py",
        "MAX_SWEPT = 1_000 ",
        "MAX_SWEPT = 1_000_000 ",
        "a partition of many keys makes the sweep time out, and nobody hears of any",
        f"{FLOW}test_limits.py::test_a_sweep_takes_up_a_thousand_labels_and_goes_on_later",
    ),
    mutant(
        "an audit takes up every key",
        f"{CORE}keys/audit.py",
        "MAX_AUDITED = 200 ",
        "MAX_AUDITED = 200_000 ",
        "an audit takes more calls than its time has room for",
        f"{FLOW}test_limits.py::test_an_audit_takes_up_two_hundred_keys_and_goes_on_later",
    ),
    mutant(
        "coalitions are compared without a limit",
        f"{CORE}policy/linter.py",
        "MAX_COALITIONS = 20_000 ",
        "MAX_COALITIONS = 20_000_000 ",
        "a policy of very many people holds up AcceptEnrollment until it times out",
        f"{UNIT}test_lint.py::test_twenty_thousand_coalitions_are_compared_and_no_more",
    ),
    mutant(
        "secrets are kept longer than five minutes",
        f"{CORE}aws/secrets.py",
        "KEEP_SECONDS = 300 ",
        "KEEP_SECONDS = 3_600 ",
        "a replaced key or certificate reaches warm functions late",
        f"{FLOW}test_limits.py::test_a_secret_that_was_replaced_is_in_use_within_five_minutes",
    ),
    mutant(
        "an AWS call may take longer than the function",
        f"{CORE}aws/clients.py",
        "READ_TIMEOUT_SECONDS = 3\n",
        "READ_TIMEOUT_SECONDS = 60\n",
        "an AWS service that hangs kills the function, and the log does not say which",
        f"{LOOPBACK}test_aws_timeouts.py",
    ),
    mutant(
        "hide_input_in_errors is off",
        f"{CORE}models/base.py",
        "hide_input_in_errors=True",
        "hide_input_in_errors=False",
        "an error text quotes what a caller sent, a password included",
        f"{UNIT}test_models.py",
    ),
    mutant(
        "hide_input_in_errors is off for the TSB's answers",
        f"{CORE}tsb/models.py",
        "hide_input_in_errors=True",
        "hide_input_in_errors=False",
        "an error text quotes what the TSB answered",
        f"{UNIT}test_models.py",
    ),
    # Owners ---------------------------------------------------------------------------------
    mutant(
        "CreateKey writes the key of what it does not own",
        f"{STATES}create_key.py",
        '            when={"executionArn": event.execution_arn},\n',
        "",
        "a record names a key that another execution made",
        f"{OWNS}[CreateKey has the key]",
    ),
    mutant(
        "CreateKey writes findings to what it does not own",
        f"{STATES}create_key.py",
        "values, when=own(event)))",
        "values))",
        "a record shows the findings of another execution",
        f"{OWNS}[CreateKey has compared the CA key]",
    ),
    mutant(
        "a state makes progress in what it does not own",
        f"{STATES}ownership.py",
        "values, when=own(event), absent",
        "values, absent",
        "two executions carry out one enrollment: approvers are asked twice",
        f"{OWNS}[RequestCsr notes its intent]",
    ),
    mutant(
        "requestId is written without its owner's condition",
        f"{STATES}asking.py",
        '{**own(event), f"{at}.intent": intent}',
        '{f"{at}.intent": intent}',
        "a record names a request of another execution",
        f"{OWNS}[RequestCsr has the request]",
    ),
    mutant(
        "an intent is removed from what RequestCsr does not own",
        f"{STATES}asking.py",
        '{}, when=when, remove=(f"{at}.intent",)',
        '{}, remove=(f"{at}.intent",)',
        "another execution's request counts as not made, and approvers are asked twice",
        f"{OWNS}[RequestCsr asked nobody]",
    ),
    mutant(
        "requestId is written beside another's intent",
        f"{STATES}asking.py",
        '{**own(event), f"{at}.intent": intent}',
        "{**own(event)}",
        "a request whose key was discarded meanwhile stands on record",
        f"{FLOW}test_ownership.py::test_a_request_is_not_put_beside_the_intent_of_another_call",
    ),
    mutant(
        "PollRequest writes to what it does not own",
        f"{STATES}poll_request.py",
        "when = {**own(event), polled: version}",
        "when = {polled: version}",
        "a record shows the approvals of another request",
        f"{OWNS}[PollRequest saw something]",
    ),
    mutant(
        "PollRequest quarantines what it does not own",
        f"{STATES}poll_request.py",
        "        when=own(event),\n    )\n    return csr_invalid(",
        "    )\n    return csr_invalid(",
        "a record shows the quarantine of another execution",
        f"{OWNS}[PollRequest saw another request]",
    ),
    mutant(
        "PollRequest notes a deadline on what it does not own",
        f"{STATES}poll_request.py",
        '{"overdue": m.timestamp(m.now())}, when=own(event))',
        '{"overdue": m.timestamp(m.now())})',
        "a cancellation by the workflow stands on another execution's record",
        f"{FLOW}test_ownership.py::test_a_deadline_is_not_noted_on_what_another_execution_has",
    ),
    mutant(
        "csr is written without its owner's condition",
        f"{STATES}store_csr.py",
        'progress(event, records, {"csr": stored.dump(), **noted})',
        'records.update(event.enrollment_id, {"csr": stored.dump(), **noted}, when={})',
        "a record hands out a CSR of another execution",
        f"{OWNS}[StoreCsr has stored]",
    ),
    mutant(
        "the record has other findings than the quarantine",
        f"{STATES}quarantining.py",
        'json.loads(objects.keep_first(f"{prefix}findings.json", findings))',
        'json.loads(objects.keep_first(f"{prefix}findings.json", findings) and findings)',
        "a legitimate end has no evidence",
        f"{FLOW}test_certificate_proof.py"
        "::test_a_quarantined_certificate_has_the_findings_of_the_first_try",
    ),
    mutant(
        "StoreCsr quarantines what it does not own",
        f"{STATES}quarantining.py",
        "        when=own(event),\n        absent=absent,\n",
        "        absent=absent,\n",
        "a record shows the quarantine of another execution",
        f"{OWNS}[StoreCsr quarantines]",
    ),
    mutant(
        "a CSR of another execution is handed out again",
        f"{STATES}store_csr.py",
        '    if "csr" in record and record.get("executionArn") == event.execution_arn:\n',
        '    if "csr" in record:\n',
        "an execution ends as issued with a CSR that it did not make",
        f"{FLOW}test_ownership.py::test_a_csr_of_another_execution_is_not_handed_out_as_one_s_own",
    ),
    mutant(
        "DiscardKey forgets a key of what it does not own",
        f"{STATES}discard_key.py",
        "            when=own(event),\n",
        "",
        "another execution's request is forgotten, and approvers are asked twice",
        f"{OWNS}[DiscardKey replaces the key]",
    ),
    mutant(
        "DiscardKey deletes a key of what it does not own",
        f"{STATES}discard_key.py",
        '    if record.get("executionArn") != event.execution_arn:\n        raise not_own(event)\n',
        "",
        "the key of another execution is deleted",
        f"{FLOW}test_ownership.py::test_a_key_of_what_another_execution_has_is_not_deleted",
    ),
    mutant(
        "disposal notes its deed on what it does not own",
        f"{CORE}keys/disposal.py",
        '        when={"executionArn": event.execution_arn},\n',
        "",
        "the key of another execution is deleted",
        f"{OWNS}[DiscardKey begins]",
    ),
    mutant(
        "the sweep notes a failure on an enrollment that has begun anew",
        f"{CORE}keys/sweep.py",
        '{"unusedKey": failed}, when=own)',
        '{"unusedKey": failed})',
        "an enrollment under way says that its key is being deleted",
        f"{FLOW}test_ownership.py::test_a_sweep_notes_nothing_on_an_enrollment_that_has_begun_anew",
    ),
    mutant(
        "the sweep notes a deletion on an enrollment that has begun anew",
        f"{CORE}keys/sweep.py",
        '"deleted"}}, when=own)',
        '"deleted"}})',
        "an enrollment under way says that its key was deleted",
        f"{FLOW}test_ownership.py::test_a_sweep_notes_nothing_on_an_enrollment_that_has_begun_anew",
    ),
    mutant(
        "the audit notes drift on what is not issued",
        f"{CORE}keys/audit.py",
        '{"drift": drift}, when={"outcome": m.Outcome.ISSUED})',
        '{"drift": drift})',
        "an enrollment that is no longer issued shows drift",
        f"{FLOW}test_ownership.py::test_an_audit_notes_drift_on_nothing_but_an_issued_csr",
    ),
)

# What breaks nothing, as a line of the report each.
EQUIVALENT = (
    "- CloseEnrollment does not look for an outcome before it writes one: the write itself is"
    ' refused (`absent=("outcome",)`, a mutant above). What is lost is a write for each report of'
    " an end that is known.",
    "- `cancel_open` does not look at the status that the state machine passes on: PollRequest puts"
    " each status on record before it returns it, so the record says the same. It is no longer"
    " passed on.",
)
