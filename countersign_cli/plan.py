"""`countersign plan`: what a request would lead to. Asks nobody, has no side effects."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from countersign import models as m
from countersign import polling
from countersign.models import EnrollmentRequest, LintFinding, Policy
from countersign.policy import approvers, linter, profiles, summary
from countersign.policy import rules as policy_rules
from countersign.request import validation
from countersign.states import schedules
from countersign.texts import quoted
from countersign_cli import lint as linting
from countersign_cli import request as requests
from countersign_cli import view
from countersign_cli.exits import Exit
from countersign_cli.options import AsJson
from countersign_cli.prices import Prices, prices

type Json = dict[str, Any]

OWN_POLICY = "a policy of the caller's own (for stacks with AllowRawPolicy=true)"
GIVEN_LATER = "(given when it is submitted)"
# State transitions, and function calls, of an issued enrollment: once, and at each poll.
AROUND_TRANSITIONS, POLL_TRANSITIONS = 10, 3
AROUND_CALLS, POLL_CALLS = 5, 1
CERTIFICATE_TRANSITIONS, CERTIFICATE_CALLS = 4, 2  # what a second quorum adds, but for its polls
FIRST_POLLS = 6
WITHOUT_END = (m.Token(name="", timelock=0, timeout=0, groups=None),)
WATCHED_EVERY_SECONDS = 60  # WatchEnrollments' schedule in template.yaml
AGES_SECONDS = (600, 3_600, 28_800)  # cost is shown for an end at these ages, and with the window
RULES = {"ruleUse": "use", "ruleBlock": "block", "ruleUnblock": "unblock", "ruleModify": "change"}


def plan(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="The request, as for submit.", show_default=False),
    ],
    *,
    profile_store: linting.ProfileStore = Path("profiles"),
    ca_key: linting.CaKey = None,
    requester: linting.Requester = None,
    deadline_days: linting.DeadlineDays = linting.DEFAULT_DAYS,
    tsb_escapes_subjects: linting.EscapedSubjects = False,
    tsb_newer_certificates: linting.NewerCertificates = False,
    as_json: AsJson = False,
) -> None:
    """Show what a request would lead to. Nothing is called, nothing is changed, nobody is asked.

    The policy that the key would have, the text that its approvers would see, the linter's
    findings, when TSB would be polled, when it would end at the latest, and what it would cost.
    Times and prices are those of a stack whose other parameters have their defaults.
    """
    rules = linting.rules_of(
        profile_store,
        deadline_days,
        escapes_subjects=tsb_escapes_subjects,
        newer_certificates=tsb_newer_certificates,
    )
    made = document(
        requests.read(files),
        rules,
        ca_policy=linting.ca_policy(ca_key),
        requester=requester,
        moment=m.now(),
        listed=prices(),
    )
    if as_json:
        print(json.dumps(made, indent=2))
    else:
        view.console().print(shown(made))
    if made["refused"]:
        raise typer.Exit(Exit.REFUSED)


def document(
    raw: Json,
    rules: validation.Rules,
    *,
    ca_policy: Json | None,
    requester: str | None,
    moment: datetime,
    listed: Prices,
) -> Json:
    """The plan, for scripts. A refused request has no schedule.

    Args:
        raw: the request as a JSON value.
        rules: what the stack accepts.
        ca_policy: the CA key's policy, if it is known.
        requester: the AWS principal who would ask.
        moment: when the request would be sent.
        listed: AWS's list prices.

    Raises:
        InvalidEnrollmentError: the value is not a request at all.
    """
    profile_store = rules.profiles
    reading = validation.examine(raw, rules=rules, requester=requester, moment=moment)
    requested, names = reading.request, profile_store.directory.names
    found = linting.findings(reading, profile_store, ca_policy)
    made: Json = {
        "profile": requested.profile,
        "refused": bool(linting.errors(found)),
        "policy": _policy(requested.key.policy, names),
        "findings": linter.dump(found),
        "caKey": _ca_key(requested, profile_store, ca_policy),
    }
    if made["refused"]:
        return made
    is_certified = requested.certificate is not None
    settings = polling.Schedule(0, 0, deadline_seconds=rules.deadline_seconds)
    schedule = schedules.schedule(
        requested.key.policy.rule_use.tokens, settings, is_one_of_two=is_certified
    )
    ages = polls(schedule)
    return {
        **made,
        "approversSee": summary.summary(
            requested,
            enrollment_id=raw.get("enrollmentId") or GIVEN_LATER,
            names=names,
            requester=requester,
        ),
        "schedule": {
            "watchedEverySeconds": WATCHED_EVERY_SECONDS,
            "polls": len(ages),
            "firstPollsSeconds": ages[:FIRST_POLLS],
            "longestWaitSeconds": schedule.cap,
            "windowEnds": _after(moment, schedule.window_seconds)
            if schedule.window_seconds
            else None,
            "lastPoll": _after(moment, ages[-1]),
            "latestEnd": _after(moment, schedule.last_age),
        },
        "price": {
            "currency": "USD",
            "asOf": listed.as_of,
            "region": listed.region,
            "cases": _cases(schedule, listed),
            **({"certificate": _second(ca_policy, settings, listed)} if is_certified else {}),
            "furtherWakeUsd": round(_poll_usd(listed), 6),
        },
    }


def polls(schedule: polling.Schedule) -> list[int]:
    """The ages (seconds) at which TSB is polled if nobody decides; the last poll sees the end."""
    ages = [polling.FIRST_SECONDS]
    while ages[-1] < schedule.end:
        ages.append(ages[-1] + polling.next_wait(schedule, ages[-1]))
    return ages


def _cases(
    schedule: polling.Schedule, listed: Prices, *, is_second: bool = False, until: int | None = None
) -> list[Json]:
    ages, end = polls(schedule), until or schedule.end
    return [
        {"endedAfterSeconds": age, **cost(ages, age, listed, is_second=is_second)}
        for age in (*(age for age in AGES_SECONDS if age < end), end)
    ]


def _second(ca_policy: Json | None, settings: polling.Schedule, listed: Prices) -> Json:
    """What the second quorum adds. Its window is the CA key's; where that is unknown, for a day."""
    rule = (ca_policy or {}).get("ruleUse")
    tokens = m.Rule.read(rule).tokens if rule else ()
    until = None if tokens else polling.DAY_SECONDS
    schedule = schedules.schedule(tokens or WITHOUT_END, settings, is_one_of_two=True)
    return {
        "isWindowKnown": bool(tokens),
        "cases": _cases(schedule, listed, is_second=True, until=until),
    }


def cost(
    ages: Sequence[int], ended_seconds: int, listed: Prices, *, is_second: bool = False
) -> Json:
    """The cost of an enrollment that ends at this age: state transitions and Lambda requests.

    Args:
        ages: at which TSB is polled.
        ended_seconds: for how long the approvers were asked then.
        listed: AWS's list prices.
        is_second: only what the approval of the certificate adds.
    """
    number = sum(age < ended_seconds for age in ages) + 1
    around = (
        (CERTIFICATE_TRANSITIONS, CERTIFICATE_CALLS)
        if is_second
        else (AROUND_TRANSITIONS, AROUND_CALLS)
    )
    transitions = around[0] + POLL_TRANSITIONS * number
    calls = around[1] + POLL_CALLS * number
    usd = transitions * listed["stateTransition"] + calls * listed["lambdaRequest"]
    return {"polls": number, "transitions": transitions, "usd": round(usd, 6)}


def _poll_usd(listed: Prices) -> float:
    return POLL_TRANSITIONS * listed["stateTransition"] + POLL_CALLS * listed["lambdaRequest"]


def _policy(requested: Policy, names: policy_rules.Names) -> Json:
    """Each rule in words. For TSB a missing rule asks nobody."""
    rules: Json = {}
    for name, attribute in policy_rules.RULES.items():
        rule: m.Rule | None = getattr(requested, attribute)
        if rule is None:
            rules[name] = "anybody who may call TSB, without approval"
        elif not rule.tokens:
            rules[name] = "never (frozen)"
        else:
            rules[name] = " or ".join(_token(token, names) for token in rule.tokens)
    return rules


def _token(token: m.Token, names: policy_rules.Names) -> str:
    groups = [
        f"{group.quorum} of "
        + ", ".join(quoted(approvers.named(approval, names).name) for approval in group.approvals)
        for group in token.groups or ()
    ]
    within = f" within {summary.duration(token.timeout)}" if token.timeout else " without end"
    lock = f", after {summary.duration(token.timelock)}" if token.timelock else ""
    return (" and ".join(groups) or "nobody") + within + lock


def _ca_key(
    requested: EnrollmentRequest, profile_store: profiles.Profiles, theirs: Json | None
) -> str | None:
    label = profile_store.get(requested.profile).ca_key_label if requested.profile else None
    asked = requested.certificate
    label = asked.ca_key_label if asked else label
    if label is None:
        return None
    held = "held against its approvers" if theirs else "its approvers are looked at when it runs"
    if asked is not None:
        held += f"; asked for a certificate of {asked.validity} days once the CSR is there"
    return f"{label}: {held}"


def _after(moment: datetime, seconds: int) -> str:
    return m.timestamp(moment + timedelta(seconds=seconds))


# For people ------------------------------------------------------------------------------------


def shown(made: Json) -> Group:
    """The plan, for people."""
    verdict = ("would be refused", "bold red") if made["refused"] else ("could start", "bold green")
    title = made["profile"] or OWN_POLICY
    found = [LintFinding.read(one) for one in made["findings"]]
    parts: list[RenderableType] = [
        Text.assemble((view.clean(title), "bold"), "  ", verdict),
        *_part("the key's policy", _facts({RULES[k]: v for k, v in made["policy"].items()})),
        *_part("findings", linting.table([one for one in found if one.level != "info"])),
    ]
    if made["caKey"]:
        parts += _part("the CA key", Text(view.clean(made["caKey"])))
    if not made["refused"]:
        parts += _part("what the approvers will see", Text(made["approversSee"]))
        parts += _part("when TSB is asked", _schedule(made["schedule"]))
        parts += _part(
            f"price in USD, AWS list of {made['price']['asOf']}, {made['price']['region']}",
            _price(made["price"]),
        )
    if notes := [one for one in found if one.level == "info"]:
        parts += _part("notes, which stop nothing", linting.table(notes))
    return Group(*parts)


def _part(title: str, content: RenderableType) -> list[RenderableType]:
    return [Text(), Text(title, style="bold"), Padding(content, (0, 0, 0, 2), expand=False)]


def _facts(facts: Json) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts.items():
        grid.add_row(name, view.clean(value))
    return grid


def _schedule(schedule: Json) -> Table:
    first = ", ".join(str(age) for age in schedule["firstPollsSeconds"])
    return _facts(
        {
            "watched": f"every {schedule['watchedEverySeconds']} s; news wakes the workflow",
            "polled besides": f"{schedule['polls']} times at most, after {first} … s;"
            f" {summary.duration(schedule['longestWaitSeconds'])} apart at most",
            "window closes": schedule["windowEnds"] or "never; the workflow's deadline ends it",
            "last poll": schedule["lastPoll"],
            "ends at the latest": f"{schedule['latestEnd']}, should TSB be silent",
        }
    )


def _price(price: Json) -> RenderableType:
    tables = [_table("ended after", price["cases"])]
    if "certificate" in price:
        tables.append(_table("+ certificate", price["certificate"]["cases"]))
    is_guessed = not price.get("certificate", {}).get("isWindowKnown", True)
    window = "The certificate's window is the CA key's, which is unknown here. " * is_guessed
    note = Text(
        f"{window}State transitions and Lambda's requests; its running time comes on top."
        f" Each approval on the way adds {price['furtherWakeUsd']:.6f}.",
        "dim",
    )
    return Group(*tables, note)


def _table(first: str, cases: list[Json]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in (first, "polls", "transitions", "USD"):
        table.add_column(name, justify="left" if name == first else "right")
    for case in cases:
        table.add_row(
            summary.duration(case["endedAfterSeconds"]),
            str(case["polls"]),
            str(case["transitions"]),
            f"{case['usd']:.6f}",
        )
    return table
