"""`benchmarks/report.md`: every figure with how it came about, from one run's results."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import bill, comparison, plots, readme, size, startup, work
from benchmarks.approvals import SCENARIOS
from benchmarks.comparison import Comparison, Curves
from benchmarks.pollers import Waiting
from countersign_cli.prices import prices

REPORT = Path(__file__).with_name("report.md")
FLEET = 1_000
BUDGETS = {"1 hour": 0.004, "24 hours": 0.015, "7 days": 0.06}

type Json = dict[str, Any]
type Rows = Iterable[Sequence[object]]


def write(results: Json) -> None:
    """Write the report and its plots. `make generate` shows the results in the README."""
    compared = comparison.compare()
    plots.draw(compared, results)
    parts = [
        _head(),
        _waiting(compared, results),
        _truth(results.get("truth")),
        _startup(results.get("startup")),
        _work(results.get("work")),
        _scale(results),
        _size(results.get("size")),
        _bill(results, compared),
    ]
    REPORT.write_text("\n".join(part for part in parts if part))


def _head() -> str:
    return (
        "# What it costs and how fast it is\n\n"
        "Written by `make bench`; the figures of one run are in [`results.json`](results.json)."
        " What a machine timed is told as ratio of pairs that alternate, because machines are"
        f" noisy. Prices: AWS list prices of {prices().region}, {prices().as_of},"
        " [`countersign_cli/prices.json`](../countersign_cli/prices.json).\n"
    )


def _waiting(compared: Comparison, results: Json) -> str:
    ours, mixture = compared.mixture.ours, compared.mixture
    fixed = comparison.at_the_delay_of(ours, mixture.fixed)
    retried = comparison.at_the_delay_of(ours, mixture.retry)
    best = comparison.at_the_delay_of(ours, mixture.oracle)
    lines = [
        "## Waiting\n",
        "![Price against delay](price-and-delay.svg)\n",
        "Nobody knows beforehand when the approval will come, so the question is what a poller"
        " costs and how late it is over all the ways in which approvals come (below). At our mean"
        f" delay of {ours.delay_seconds:.0f} s a fixed interval costs {fixed / ours.usd:.1f} times"
        f" as much as our schedule, a failing Task that is retried {retried / ours.usd:.2f} times,"
        f" and the best that any poller of our kind could do {best / ours.usd:.2f} times.\n",
        "![Every scenario](scenarios.svg)\n",
        "![The price of waiting](price-and-age.svg)\n",
        "Price: state transitions, four fifths of it and more; the whole is in the bill."
        " Delay: from the moment at which TSB's request is final to the poll that sees it; storing"
        " and announcing come on top, for every poller the same.\n",
        _table(["Scenario", "What it assumes"], ((one.name, one.why) for one in SCENARIOS), left=2),
    ]
    lines.append(f"### All, equally likely\n\n{_scenario(mixture)}")
    for name, curves in compared.scenarios.items():
        summary = f"<details><summary>{name}</summary>"
        lines.append(f"{summary}\n\n{_scenario(curves)}\n</details>\n")
    lines.append(
        "† share of executions that die of Step Functions' 25,000 history events. The 95th"
        " percentile of all scenarios is the worst scenario's. The job poller is AWS's sample"
        " project, at 60 s. The oracle knows the distribution, not the draw; its polls are the"
        " shortest path through all ages ([`oracle.py`](oracle.py) has the recursion), and the row"
        " is the point of its curve whose delay is nearest to ours. A cap of 300 s is stretched to"
        " 553 s by a window of seven days, as every cap is that would need too many polls.\n"
    )
    lines.append(_verdict(compared, results))
    return "\n".join(lines)


def _scenario(curves: Curves) -> str:
    oracle = min(curves.oracle, key=lambda one: abs(one.delay_seconds - curves.ours.delay_seconds))
    rows = [
        _row("**Countersign**", curves.ours),
        *(_row(name, one) for name, one in curves.named.items()),
        _row("oracle", oracle),
        *(_row(f"ours, {name}", one) for name, one in curves.paces.items()),
    ]
    head = ["Poller", "Looks", "Transitions", "Events", "USD", "Mean delay, s", "95 %, s", "†"]
    return _table(head, rows)


def _row(name: str, one: Waiting) -> list[object]:
    return [
        name,
        f"{one.polls:,.1f}",
        f"{one.transitions:,.0f}",
        f"{one.events:,.0f}",
        f"{one.usd:.5f}",
        f"{one.delay_seconds:,.1f}",
        f"{one.delay_p95_seconds:,.1f}",
        f"{max(one.over_the_limit, 0.01):.0%}" if one.over_the_limit else "",
    ]


def _verdict(compared: Comparison, results: Json) -> str:
    hindsight = [
        (
            name,
            f"{curves.ours.usd / comparison.at_the_delay_of(curves.ours, curves.fixed):.2f}",
            ", ".join(
                rival.removeprefix("every ")
                for rival, one in curves.named.items()
                if rival.startswith("every")
                and one.usd <= curves.ours.usd
                and one.delay_seconds <= curves.ours.delay_seconds
            )
            or "none",
        )
        for name, curves in compared.scenarios.items()
        if _comparable(curves)
    ]
    worst = max(comparison.price_without(compared, (name,)) for name in compared.scenarios)
    known = comparison.price_without(compared, ("timelocked 24 h", "expires"))
    ages = {name: readme.AGES[name] for name in BUDGETS}
    budgets = [
        (
            f"approved within {name}",
            f"{readme.looks_until(age, 7 * 86_400) * 3 * prices()['stateTransition']:.4f}",
            f"{BUDGETS[name]}",
            *(f"{_waited(results, age, cold=cold):.4f}" for cold in (False, True)),
        )
        for name, age in ages.items()
    ]
    return "\n".join(
        [
            "### What follows\n",
            "- **Over all scenarios our schedule lies under the curve of every fixed interval**, at"
            f" {comparison.price_without(compared, ()):.2f} of its price; at {worst:.2f} at most"
            f" where any one of them never happens, and at {known:.2f} without both whose moment"
            " our schedule knows (timelock, expiry). In a single scenario an interval chosen"
            " with hindsight can be cheaper, because a schedule that is ready for minutes and for"
            " weeks looks often at first:\n",
            _table(["Scenario", "Ours ÷ fixed", "Cheaper and sooner"], hindsight),
            "- **Growth 0.2** is the rarest that keeps the promise of a tenth of the age; 0.1"
            " nearly halves the delay where somebody sits there, for nearly half more. **Floor"
            " 10 s** is a fifth of 50 s, from where the promise holds; 30 s would save a third"
            " where somebody sits there, and break the promise for the first minutes. **Cap"
            " 900 s**: 600 s would break the budget of seven days, 1,800 s would double the delay"
            " of everything that takes a day, and the approvers' own app asks for tasks every 15"
            " minutes.",
            "- A wait that grows with the **root of the age** is what theory asks for when the"
            " chance of an approval falls as one over the age. It notices the first hour sooner,"
            " and costs more in every scenario of a day; over all it is dearer and later.",
            "- **The failing Task is the cheapest rival: one transition a poll instead of three.**"
            " It is not beaten on price and not adopted; docs/decisions.md says why. It dies after"
            " 8,333 looks, its pace is a literal that no window can stretch, and each poll that"
            " finds nothing is an error in Lambda's metrics, its log and the trace, among which a"
            " real one would drown.",
            "- **Budgets** of waiting. The last two columns are an upper bound, with Lambda,"
            " secrets, KMS and logs of every poll (the bill). A week of polls that all find a cold"
            " function is over the budget; `PollCapSeconds` is the lever:\n",
            _table(["", "Transitions, USD", "Budget", "All warm", "All cold"], budgets),
        ]
    )


def _waited(results: Json, age: int, *, cold: bool) -> float:
    """All that the polls cost which a wait of this length adds to an enrollment decided at once."""
    if not {"work", "startup"} <= results.keys():
        return float("nan")
    polls = readme.looks_until(age, 7 * 86_400)
    whole, least = (bill.enrollment(results, number, cold=cold) for number in (polls, 1))
    return bill.total(whole) - bill.total(least)


def _comparable(curves: Curves) -> bool:
    delays = [one.delay_seconds for one in curves.fixed]
    return min(delays) <= curves.ours.delay_seconds <= max(delays)


def _truth(measured: Json | None) -> str:
    if not measured:
        return ""
    rows = [
        (
            one["case"],
            one["outcome"],
            one["looks"],
            f"{one['lastAgeSeconds']:,}",
            f"{one['transitions']:,}",
            f"{one['eventsOnTheEmulator']:,}",
            f"{one['eventsOnAws']:,}",
        )
        for one in measured["cases"]
    ]
    return (
        "## Truth of the model\n\n"
        "Real executions of the deployed state machine on the embedded stack, waits scaled. The"
        " bench fails unless every count of events by type, every transition, the age of every poll"
        " and TSB's own count of polls equal the model's. The emulator writes no `TaskStarted`, AWS"
        f" one for each Task. {_on(measured)}\n\n"
        + _table(
            [
                "Window",
                "Outcome",
                "Looks",
                "Last look at, s",
                "Transitions",
                "Events here",
                "on AWS",
            ],
            rows,
        )
    )


def _startup(measured: Json | None) -> str:
    if not measured:
        return ""
    functions: dict[str, Json] = measured["functions"]
    rows = []
    for name, one in functions.items():
        ratio, taken = one["toMinimum"], one["milliseconds"]
        together = ratio["together"]
        rows.append(
            (
                name,
                *(f"{taken[kind][phase]:.0f}" for kind in ("ours", "minimum")
                  for phase in startup.PHASES),
                f"**{together['median']:.2f}** ({together['low']:.2f} to {together['high']:.2f})",
                f"{ratio['import']['median']:.2f}",
                f"{ratio['firstCall']['median']:.2f}",
                f"{one['wallMilliseconds']['ours']['together']:.0f}",
                f"{one['toWithoutBytecode']['median']:.2f}",
            )
        )  # fmt: skip
    dearest = [
        f"<details><summary>{name}: ours, and the least possible</summary>\n\n"
        + _table(
            ["Import", "ms", "Import of the minimum", "ms"],
            (
                (a["module"], f"{a['own']:.1f}", b["module"], f"{b['own']:.1f}")
                for a, b in zip(one["imports"], one["importsOfMinimum"], strict=False)
            ),
        )
        + "\n</details>\n"
        for name, one in functions.items()
    ]
    return "\n".join(
        [
            "## Start-up and first call\n",
            "![Start-up and first call](startup.svg)\n",
            "CPU time of a fresh process until it has answered its first event: the import, the"
            " first call, and both together, because what is not loaded at the import is loaded"
            " before somebody has an answer. Interpreter and AWS's own runtime client"
            " (awslambdaric) included, against a stand-in for its API; from the layers as they are"
            " built, boto3 with its bytecode as the runtime has it. The events and all answers of"
            " the TSB and of AWS's services are those of enrollments in the in-process stack. The"
            " measuring process gives the answers over the loopback address, so that each call"
            " costs what it costs in Lambda: signing, connecting, TLS with the TSB, parsing. The"
            " minimum ([`minimum.py`](minimum.py)) imports what the function cannot do without, and"
            " makes the same calls in the same order; the bench fails where a call differs. It"
            " decides, verifies and names nothing. **Budget: together ≤"
            f" {startup.BUDGET} × the minimum.** Median of {measured['rounds']} alternating rounds,"
            f" and between what the middle half of the ratios lies. {_on(measured)}\n",
            _table(
                [
                    *("Function", "Ours: import, ms", "first call", "together"),
                    *("Minimum: import, ms", "first call", "together"),
                    *("÷ minimum", "import ÷", "first call ÷", "Ours on the clock, ms"),
                    "÷ without bytecode",
                ],
                rows,
            ),
            "The layers carry bytecode (SAM leaves it out, Lambda cannot write it); a model's"
            " validator is built when it is first used; requests is not imported by what never asks"
            " TSB, nor what reads certificates by a poll, a cancellation, an end or a mail. Of the"
            " API, `POST /enrollments` is measured; of the polls, one that finds nothing new and"
            " the one that finds the decision.\n",
            "The ten imports with the most time of their own, those of the first call too:\n",
            *dearest,
        ]
    )


def _work(measured: Json | None) -> str:
    if not measured:
        return ""
    rows = [
        (
            name,
            f"{one['oursMilliseconds']:.1f}",
            f"{one['bareMilliseconds']:.1f}",
            sum(one["awsCalls"].values()),
        )
        for name, one in measured["byState"].items()
    ]
    tsb = ", ".join(f"`{call}` {times}" for call, times in measured["tsbCalls"].items())
    aws = ", ".join(f"`{call}` {times}" for call, times in measured["awsCalls"].items())
    return "\n".join(
        [
            "## Work\n",
            "CPU time of all handlers of one enrollment, warm, beside a bare script: the same calls"
            " of boto3 and requests in the same order with the same content, recorded from the"
            " handlers and made again for another enrollment. Simulator and emulator run in"
            f" processes of their own and are not counted. **Ratio {measured['ratio']:.2f}**,"
            f" budget ≤ {work.BUDGET} (median of {measured['pairs']} alternating pairs)."
            f" {_on(measured)}\n",
            _table(["State", "Ours, ms", "Bare, ms", "AWS calls"], rows),
            f"TSB's own count: {tsb}; the bench fails where any but the polls is made twice.\n",
            f"AWS: {aws}.\n",
        ]
    )


def _scale(results: Json) -> str:
    sizes = [
        results[name]
        for name in sorted(
            (name for name in results if name.startswith("scale-")),
            key=lambda name: int(name.partition("-")[2]),
        )
    ]
    if not sizes:
        return ""
    rows = [
        (
            f"{one['enrollments']:,}",
            ", ".join(f"{number} {name}" for name, number in one["outcomes"].items()),
            f"{one['secondsUntilAllOpen']:.0f}",
            f"{one['secondsInAll']:.0f}",
            *(
                f"{one[f'{part}CpuSeconds'] / one['enrollments']:.2f}"
                for part in ("emulator", "workers", "simulator")
            ),
            f"{one['peakMegabytes']:.0f}",
            f"{sum(one['tsbCalls'].values()) / one['enrollments']:.2f}",
        )
        for one in sizes
    ]
    profile = next((one["profile"] for one in reversed(sizes) if one["profile"]), None)
    lines = [
        "## Scale\n",
        "So many enrollments open at the same time on the embedded stack, each with a real key and"
        " a real CSR; all are open before the first is decided. CPU seconds and calls for one"
        f" enrollment show whether anything grows faster than their number: nothing does. The sizes"
        " of 1 and 10 carry the cold starts of the emulator's workers; calls beyond four are looks"
        f" before the decision. {_on(sizes[-1])}\n",
        _table(
            [
                *("Enrollments", "Outcomes", "All open, s", "In all, s", "Emulator CPU s each"),
                *("Functions CPU s each", "TSB CPU s each", "Emulator MB", "TSB calls each"),
            ],
            rows,
        ),
    ]
    if profile:
        top = sorted(profile["shares"].items(), key=lambda one: -one[1])[:4]
        shares = ", ".join(f"`{name.partition(' (')[0]}` {share:.0%}" for name, share in top)
        lines.append(
            "What limits it here is the emulator: its threads wait for one of six workers (a shim"
            " of ours, so that they fit this machine) and for their answers. Where they stand while"
            f" the largest size is opened (py-spy, {profile['samples']:,} samples, by innermost"
            f" function of the emulator): {shares}. On AWS the next limit is the HSM: a cloud HSM"
            " makes one key a second.\n"
        )
    return "\n".join(lines)


def _size(measured: Json | None) -> str:
    if not measured:
        return ""
    packages: dict[str, Json] = measured["packages"]
    whole = sum(measured["whole"].values()) / 1e6
    ordered = sorted(packages.items(), key=lambda one: -sum(one[1].values()))
    rows = [
        (
            name,
            f"{one['bytes'] / 1e6:.2f}",
            f"{one['bytecode'] / 1e6:.2f}",
            size.WHAT_FOR.get(name, "all of ours"),
        )
        for name, one in ordered
    ]
    return (
        f"## Size\n\nBoth layers, unzipped: **{whole:.1f} MB**, budget ≤ {size.BUDGET_MEGABYTES}"
        " MB. boto3 is the runtime's. The larger part is compiled code of cryptography and"
        " pydantic.\n\n" + _table(["Package", "MB", "Bytecode, MB", "What for"], rows, left=1)
    )


def _bill(results: Json, compared: Comparison) -> str:
    if not {"work", "startup"} <= results.keys():
        return ""
    polls = {name: readme.looks_until(age, 7 * 86_400) for name, age in readme.AGES.items()}
    del polls["30 days"]
    bills = {
        (name, cold): bill.enrollment(results, number, cold=cold)
        for name, number in polls.items()
        for cold in (True, False)
    }
    one = bills["4 minutes", True]
    rows = [
        (
            item.name,
            f"{item.quantity:.3g} {item.unit}",
            *(f"{bills[name, True][index].usd:.6f}" for name in polls),
        )
        for index, item in enumerate(one)
    ]
    rows.append(("**all cold**", "", *(f"**{bill.total(bills[n, True]):.5f}**" for n in polls)))
    rows.append(("**all warm**", "", *(f"**{bill.total(bills[n, False]):.5f}**" for n in polls)))
    idle = bill.idle_month()
    mean_looks = round(compared.mixture.ours.polls)
    fleet = {
        "approved within minutes": round(compared.scenarios["minutes"].ours.polls),
        "all scenarios, equally likely": mean_looks,
    }
    fleet_rows = [
        (
            name,
            f"{FLEET * bill.total(bill.enrollment(results, number, cold=False)):.2f}",
            f"{FLEET * bill.total(bill.enrollment(results, number, cold=True)):.2f}",
        )
        for name, number in fleet.items()
    ]
    return "\n".join(
        [
            "## The bill\n",
            "One issued enrollment, USD. Calls, sizes and CPU time are measured above; assumed are"
            f" answers of TSB after {bill.TSB_SECONDS * 1_000:.0f} ms and of AWS after"
            f" {bill.AWS_SECONDS * 1_000:.0f} ms, {bill.EVENT_LOG_BYTES} bytes of log for a history"
            f" event and {bill.INVOCATION_LOG_BYTES} for an invocation. Cold: every call starts its"
            " function anew and reads two secrets, as with one enrollment now and then, and as with"
            " looks a quarter of an hour apart.\n",
            _table(["", "within 4 minutes", *(f"within {name}" for name in polls)], rows, left=2),
            "What is worth saving next: with looks a quarter of an hour apart every one finds a"
            " cold function that reads two secrets, a fifth of a transition turn's price; and the"
            " n-th answer of TSB is kept after n - 1 refused writes.\n",
            "### A month without enrollments\n",
            _table(
                ["", "Quantity", "USD a month"],
                [
                    *((i.name, f"{i.quantity:,.0f} {i.unit}", f"{i.usd:.2f}") for i in idle),
                    ("**all**", "", f"**{bill.total(idle):.2f}**"),
                ],
                left=2,
            ),
            f"### {FLEET:,} enrollments a month, without the idle price\n",
            _table(["", "All warm, USD", "All cold, USD"], fleet_rows),
        ]
    )


def _on(measured: Json) -> str:
    machine = measured["on"]
    return (
        f"({machine['date']}, {machine['cores']} cores of {machine['cpu']}, Python"
        f" {machine['python']}, load {machine['load']:.1f}.)"
    )


def _table(head: Sequence[str], rows: Rows, *, left: int = 1) -> str:
    sides = ["---" if index < left else "---:" for index in range(len(head))]
    lines = [head, sides, *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines) + "\n"
