"""Two interpreters, one definition: whole runs on the emulator are as they were in process.

The same test functions as in `tests/workflow`, which pass here too; then what is on record is held
against their recordings: states, outcome, record, events.
"""

from collections.abc import Callable

import pytest

from tests.case import Case, Result
from tests.e2e.scenarios import ResultOf, Scenario, scenario
from tests.workflow import test_certificate_ends as certificate_ends
from tests.workflow import test_certificates as certificates
from tests.workflow import test_faults as faults
from tests.workflow import test_outcomes as outcomes
from tests.workflow.recordings import comparable, deployed_recording, path_of

pytestmark = pytest.mark.e2e

type Test = Callable[[Case], None]

# Every way out of every state, but for those that only virtual time reaches.
ALIKE: list[Test] = [
    outcomes.test_two_of_three_suffice,
    outcomes.test_declines_until_the_quorum_is_out_of_reach_reject,
    outcomes.test_a_window_that_passes_expires,
    outcomes.test_a_request_cancelled_at_the_tsb_is_cancelled,
    outcomes.test_an_elliptic_key_and_an_approver_by_certificate,
    outcomes.test_a_refused_request_fails_with_its_field_and_without_a_tsb_call,
    outcomes.test_a_bare_request_from_a_nested_call_is_accepted,
    certificates.test_a_certificate_is_issued_under_two_quorums_and_imported,
    certificate_ends.test_declined_by_the_ca_s_approvers,
    faults.test_a_tsb_that_is_unavailable_for_a_while_in_every_state_issues,
    faults.test_a_lost_answer_of_create_key_makes_one_key,
    faults.test_a_lost_answer_of_request_csr_replaces_a_destroyable_key,
    faults.test_a_lost_answer_of_request_csr_fails_naming_a_permanent_key,
    faults.test_what_the_tsb_refuses_fails_with_its_own_words,
    faults.test_an_hsm_that_cannot_sign_fails,
    faults.test_another_key_under_the_label_is_not_adopted,
    faults.test_the_same_request_again_is_the_same_enrollment,
    faults.test_an_execution_that_is_stopped_by_hand_is_closed_and_announced,
]


def deployed(test: Test) -> Scenario:
    """The test on the deployed stack, and its recording there."""

    def run(case: Case) -> Result:
        test(case)
        result = case.end(case.started[0], event=False)
        result.more["recording"] = deployed_recording(case)
        return result

    return scenario(run)


DEPLOYED = {test: deployed(test) for test in ALIKE}


@pytest.mark.parametrize("test", ALIKE, ids=lambda test: test.__name__.removeprefix("test_"))
def test_both_interpreters_carry_it_out_alike(result: ResultOf, test: Test) -> None:
    existing = comparable(result(DEPLOYED[test]).more["recording"])
    here = comparable(path_of(test.__module__, test.__name__).read_text())

    assert existing["executions"] == here["executions"]
    assert existing["record"] == here["record"]
    assert existing["events"] == here["events"]
