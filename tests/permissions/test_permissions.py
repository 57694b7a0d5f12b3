"""Everything that the stack does is allowed, and nothing is allowed that it never does.

An evaluator of IAM is asked (`simulator.py`), about the expanded template: each role with its
boundary, the policies of resources and keys, conditions included. `requested.py` asks.
"""

import pytest

from tests.expanded import REGION
from tests.permissions import allowances, calls, requested
from tests.permissions.account import ACCOUNT, PARAMETERS, Account, Request
from tests.permissions.requested import (
    EVENTS,
    LEADING_KEYS,
    LOGS,
    OURS,
    REMINDER,
    REQUESTED,
    SCHEDULER,
    SEND_TASK_SUCCESS,
    arn_of,
)
from tests.permissions.simulator import ALLOWED, answers, evaluated, refused

BY_PARAMETERS = requested.by_parameters()
ACCOUNT_OF_STACK, ASKED = BY_PARAMETERS[calls.DEFAULTS]
NOBODY = "999999999999"

# What is allowed and was never asked for, with the reason why it stays.
UNUSED = {
    "DiscardKeyFunctionRole: secretsmanager:GetSecretValue /key-password/KEY": (
        "blocks and deletes keys that have a password"
    ),
    "SweepKeysFunctionRole: secretsmanager:GetSecretValue /key-password/KEY": (
        "looks at keys that have a password"
    ),
    "AuditKeysFunctionRole: secretsmanager:GetSecretValue /key-password/KEY": (
        "looks at keys that have a password"
    ),
    **dict.fromkeys(
        (
            "CancelRequestFunctionRole: states:SendTaskSuccess EnrollmentStateMachine",
            "WatchEnrollmentsFunctionRole: states:SendTaskSuccess EnrollmentStateMachine",
            "FunctionsBoundary: states:SendTaskSuccess EnrollmentStateMachine",
        ),
        "test_waits_are_ended_of_this_state_machine_only",
    ),
    "SweepKeysFunctionRole: s3:ListBucket CsrBucket": (
        "to be told that a request is missing; no test loses one"
    ),
    "StackKey: kms:Describe* StackKey": (
        "AWS's page for log groups has it under a condition that it cannot fulfil"
    ),
}


@pytest.mark.parametrize("parameters", BY_PARAMETERS)
def test_everything_that_the_stack_does_is_allowed(parameters: str) -> None:
    account, asked = BY_PARAMETERS[parameters]

    assert refused(account, asked) == []


def test_waits_are_ended_of_this_state_machine_only() -> None:
    wakers = {
        name
        for name, made in calls.recorded()[calls.DEFAULTS].items()
        if any(one.startswith(SEND_TASK_SUCCESS) for one in made)
    }
    anything = Account(WakeAnything="true")
    roles = [f"{name}FunctionRole" for name in sorted(wakers)]
    allowed = {
        (one.policy, one.resource)
        for one in allowances.of_template(ACCOUNT_OF_STACK)
        if one.action == SEND_TASK_SUCCESS
    }

    assert wakers == {"CancelRequest", "WatchEnrollments"}
    machine = ACCOUNT_OF_STACK.arn("EnrollmentStateMachine")
    assert allowed == {(policy, machine) for policy in (*roles, "FunctionsBoundary")}
    # Where AWS demands `*`, as its reference says: the parameter.
    assert refused(anything, [Request(role, SEND_TASK_SUCCESS, "*") for role in roles]) == []


def test_every_role_and_every_function_asks_for_something() -> None:
    account, askers = ACCOUNT_OF_STACK, {one.who for one in ASKED}

    assert set(account.of("AWS::IAM::Role")) <= askers
    functions = {name.removesuffix("Function") for name in account.of("AWS::Lambda::Function")}
    assert set(calls.recorded()[calls.DEFAULTS]) == functions


def test_nothing_is_allowed_that_nothing_asks_for() -> None:
    asked = [one for _, more in BY_PARAMETERS.values() for one in more]
    unused = {
        named(account, one)
        for account, _ in BY_PARAMETERS.values()
        for one in allowances.of_template(account)
        if not any(one.covers(request) for request in asked)
    }

    assert unused == set(UNUSED)


def named(account: Account, allowance: allowances.Allowance) -> str:
    """An allowance, its resource as `calls.json` names it."""
    if "/key-password/" in allowance.resource:
        return f"{allowance.policy}: {allowance.action} /key-password/KEY"
    name = account.name_of(allowance.resource)
    path = allowance.resource.removeprefix(account.arn(name)) if name else allowance.resource
    return f"{allowance.policy}: {allowance.action} {name}{path}"


def other(arn: str) -> str:
    """The same in another stack."""
    return arn.replace("countersign", "another")


def key(who: str, action: str, **context: str) -> Request:
    return Request(who, action, ACCOUNT_OF_STACK.arn("StackKey"), context)


def refusals() -> dict[str, Request]:
    """What each condition, each resource and the boundary are there for."""
    account, arn = ACCOUNT_OF_STACK, ACCOUNT_OF_STACK.arn
    bus, logs = (
        "kms:EncryptionContext:aws:events:event-bus:arn",
        "kms:EncryptionContext:aws:logs:arn",
    )
    asker = f"arn:aws:iam::{PARAMETERS['RequestingAccounts']}:role/asker"
    schedules = arn("ScheduleGroup")
    default = f"{schedules.rpartition('/')[0]}/default"
    return {
        "another bus with our key": key(EVENTS, "kms:Decrypt", **{bus: other(arn("Bus"))}),
        "another bus's archive with our key": key(
            EVENTS, "kms:ReEncryptFrom", **{bus: other(arn("Bus"))}
        ),
        "the archive of no bus": key(EVENTS, "kms:ReEncryptTo"),
        "another account's events into queues with our key": key(
            EVENTS, "kms:GenerateDataKey", **{"aws:SourceAccount": NOBODY}
        ),
        "another stack's log group": key(
            LOGS, "kms:Decrypt", **{logs: other(arn("StoreCsrLogGroup"))}
        ),
        "another region's logs": key(
            "logs.us-east-1.amazonaws.com", "kms:Decrypt", **{logs: arn("StoreCsrLogGroup")}
        ),
        "a service that has no use for the key": key("sns.amazonaws.com", "kms:Decrypt", **OURS),
        "another rule into the backstop's queue": Request(
            EVENTS,
            "sqs:SendMessage",
            arn("BackstopQueue"),
            {**OURS, "aws:SourceArn": arn("EvidenceRule")},
        ),
        "a bus whose name begins as ours does into the bus's queue": Request(
            EVENTS,
            "sqs:SendMessage",
            arn("BusDeadLetterQueue"),
            {**OURS, "aws:SourceArn": f"{arn('Bus')}-test"},
        ),
        "another schedule group with our role": Request(
            SCHEDULER,
            "sts:AssumeRole",
            arn("ScheduleRole"),
            {**OURS, "aws:SourceArn": other(schedules)},
        ),
        "another account's schedule with our role": Request(
            SCHEDULER,
            "sts:AssumeRole",
            arn("ScheduleRole"),
            {"aws:SourceAccount": NOBODY, "aws:SourceArn": schedules},
        ),
        "another account's schedule with the role of our functions' schedules": Request(
            SCHEDULER,
            "sts:AssumeRole",
            arn("FunctionSchedulesRole"),
            {"aws:SourceAccount": NOBODY, "aws:SourceArn": default},
        ),
        "another account says how an enrollment ended": Request(
            asker,
            "events:PutEvents",
            arn("Bus"),
            {**REQUESTED, "events:detail-type": "Enrollment Issued"},
        ),
        "another account speaks as we do": Request(
            asker, "events:PutEvents", arn("Bus"), {**REQUESTED, "events:source": "countersign"}
        ),
        "another account says nothing of its event": Request(asker, "events:PutEvents", arn("Bus")),
        "the watcher says how an enrollment ended": Request(
            "WatchEnrollmentsFunctionRole",
            "events:PutEvents",
            arn("Bus"),
            {**REMINDER, "events:detail-type": "Enrollment Issued"},
        ),
        "a function without TLS": Request(
            "StoreCsrFunctionRole",
            "s3:PutObject",
            arn_of(account, "CsrBucket/enrollments/ID/request.pem"),
            {"aws:SecureTransport": "false"},
        ),
        "a function in another log group": Request(
            "StoreCsrFunctionRole",
            "logs:PutLogEvents",
            f"{other(arn('StoreCsrLogGroup'))}:log-stream:x",
        ),
        "a function that makes a log group": Request(
            "StoreCsrFunctionRole", "logs:CreateLogGroup", arn("StoreCsrLogGroup")
        ),
        "a key password of another stack": Request(
            "CreateKeyFunctionRole",
            "secretsmanager:GetSecretValue",
            other(arn_of(account, "/key-password/KEY")),
        ),
        "the state machine starts itself": Request(
            "EnrollmentStateMachineRole",
            "states:StartExecution",
            arn("EnrollmentStateMachine"),
        ),
        **{
            f"{who} writes an enrollment: {action}": Request(
                who, f"dynamodb:{action}", arn("EnrollmentsTable"), {LEADING_KEYS: "web-2026-11"}
            )
            for who, action in (
                ("EnrollmentStateMachineRole", "UpdateItem"),
                ("WatchEnrollmentsFunctionRole", "PutItem"),
                ("WatchEnrollmentsFunctionRole", "UpdateItem"),
                ("CancelRequestFunctionRole", "PutItem"),
                ("CancelRequestFunctionRole", "DeleteItem"),
                ("CloseEnrollmentFunctionRole", "DeleteItem"),
            )
        },
        "a nested workflow reads our table": Request(
            f"arn:aws:iam::{ACCOUNT}:role/parent", "dynamodb:GetItem", arn("EnrollmentsTable")
        ),
    }


REFUSALS = refusals()


@pytest.fixture(scope="module")
def answered() -> dict[Request, str]:
    return answers(ACCOUNT_OF_STACK, list(REFUSALS.values()))


@pytest.mark.parametrize("what", REFUSALS)
def test_is_refused(what: str, answered: dict[Request, str]) -> None:
    assert answered[REFUSALS[what]] in ("ImplicitlyDenied", "ExplicitlyDenied")


def test_without_a_vpc_no_function_can_make_network_interfaces() -> None:
    account = Account(SubnetIds="", SecurityGroupIds="")
    eni = f"arn:aws:ec2:{REGION}:{ACCOUNT}:network-interface/eni-1"
    asked = [
        Request(f"{name}Role", "ec2:CreateNetworkInterface", eni)
        for name in account.of("AWS::Lambda::Function")
    ]

    assert ALLOWED not in answers(account, asked).values()


def test_the_boundary_limits_whatever_a_function_s_own_policy_says() -> None:
    """Each of its statements, taken away, takes something away from some function."""
    requests, simulations = [], []
    for number, statement in enumerate(boundary_of(ACCOUNT_OF_STACK)):
        account = Account()
        taken_away = list(allowances.of_statements("FunctionsBoundary", "", [statement]))
        requests.append(next(r for r in ASKED for one in taken_away if one.covers(r)))
        del boundary_of(account)[number]
        simulations.append(account.simulation(requests[-1]))

    assert len(simulations) > 10
    answered = zip(requests, evaluated(simulations), strict=True)
    assert [request for request, answer in answered if answer == ALLOWED] == []


def boundary_of(account: Account) -> list[dict[str, object]]:
    """The statements of the boundary, to change."""
    policy = account.of("AWS::IAM::ManagedPolicy")["FunctionsBoundary"]["PolicyDocument"]
    found: list[dict[str, object]] = policy["Statement"]
    return found
