"""`benchmarks/report.md`: every figure with how it came about, from one run's results."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import (
    bill,
    comparison,
    history,
    plots,
    readme,
    scale,
    size,
    startup,
    watcher,
    work,
)
from benchmarks.approvals import SCENARIOS
from benchmarks.comparison import Comparison, Curves
from benchmarks.pollers import CALLBACK, Waiting, at_the_delay_of
from countersign_cli.prices import prices

REPORT = Path(__file__).with_name("report.md")
FLEET = 1_000
BUDGETS = {"24 hours": 0.0014, "7 days": 0.0042}
# Of the watcher, by how many are open at the most: mean and 95 % of the delay in seconds.
NOTICED_WITHIN = {300: (39, 85), 1_000: (None, 240)}

type Json = dict[str, Any]
type Rows = Iterable[Sequence[object]]


def write(results: Json) -> None:
    """Write the report and its plots. `make generate` shows the results in the README."""
    compared = comparison.compare()
    plots.draw(compared, results)
    parts = [
        _head(),
        _waiting(compared, results),
        _watcher(results, compared),
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
    rival, ratio = mixture.cheapest()
    lines = [
        "## Waiting\n",
        "![Price against delay](price-and-delay.svg)\n",
        "Nobody knows beforehand when the approval will come, so the question is what waiting costs"
        " and how late one hears, over all the ways in which approvals come (below). Countersign"
        " polls rarely, and is woken by WatchEnrollments, which looks once a minute at everything"
        f" that is open. It hears after {ours.delay_seconds:.0f} s on average, 95 % within"
        f" {ours.delay_p95_seconds:.0f} s, at any age. Among all that poll, the cheapest with that"
        f" delay is a {rival}: **Countersign costs {ratio:.3f} of it.** The watcher's own price"
        " is said apart, below.\n",
        "![Every scenario](scenarios.svg)\n",
        "![The price of waiting](price-and-age.svg)\n",
        "Price: state transitions; the whole is in the bill. Delay: from the moment at which TSB's"
        " request is final to the poll that sees it; storing and announcing come on top, for"
        " everybody the same. A run of the watcher begins anywhere within its minute, because AWS"
        " promises a schedule to the minute, not to the second.\n",
        _table(["Scenario", "What it assumes"], ((one.name, one.why) for one in SCENARIOS), left=2),
    ]
    lines.append(f"### All, equally likely\n\n{_scenario(mixture)}")
    for name, curves in compared.scenarios.items():
        summary = f"<details><summary>{name}</summary>"
        lines.append(f"{summary}\n\n{_scenario(curves)}\n</details>\n")
    lines.append(
        "† share of executions that die of Step Functions' 25,000 history events. The 95th"
        " percentile of all scenarios is the worst scenario's. The job poller is AWS's sample"
        " project, at 60 s. *A fifth of the age* is what Countersign did before it was woken. The"
        " oracle knows the distribution, not the draw; its polls are the shortest path through all"
        " ages ([`oracle.py`](oracle.py) has the recursion): no poller is better, and only a wake"
        " can be. The row is the point of its curve whose delay is nearest to ours.\n"
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
    head = ["", "Polls", "Transitions", "Events", "USD", "Mean delay, s", "95 %, s", "†"]
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
    parts = {"**all, equally likely**": compared.mixture, **compared.scenarios}
    rivals = [
        (name, f"{curves.ours.delay_seconds:.0f}", f"{curves.cheapest()[1]:.3f}",
         curves.cheapest()[0])
        for name, curves in parts.items()
    ]  # fmt: skip
    budgets = [
        (
            f"decided within {name}",
            f"{polls * CALLBACK.transitions * prices()['stateTransition']:.5f}",
            f"{BUDGETS[name]}",
            f"{history.events(history.path(polls, 'ISSUED')).total():,}",
            *(f"{_waited(results, age, cold=cold):.4f}" for cold in (False, True)),
        )
        for name, age in {name: readme.AGES[name] for name in BUDGETS}.items()
        for polls in (readme.polls_until(age, 7 * 86_400),)
    ]
    paces = compared.mixture.paces
    deaf = paces["without the watcher"]
    return "\n".join(
        [
            "### What follows\n",
            "- **Our price over the cheapest that polls with the same mean delay**, over every"
            " fixed interval, every failing Task (its Retry growing or fixed) and every share of"
            " the age. Where somebody sits there, a failing Task that is retried at a well-chosen"
            " interval costs the same; nobody knows beforehand that somebody will:\n",
            _table(["Scenario", "Delay, s", "Ours ÷ cheapest", "which is"], rivals, left=1),
            "- **With the watcher dead** the polls still end everything:"
            f" {deaf.delay_seconds / 60:.0f} min late on average, 4 h at most (`PollCapSeconds`),"
            " and an alarm says so within minutes.",
            "- Growth, floor and cap set the price of the insurance, not the delay. Growth 0.5"
            f" costs {paces['growth 0.5'].usd / compared.mixture.ours.usd:.2f} of it, a cap of an"
            f" hour {paces['cap 1 h'].usd / compared.mixture.ours.usd:.1f} times as much. Each"
            f" further wake (an approver of several) costs USD"
            f" {CALLBACK.transitions * prices()['stateTransition']:.6f}.",
            "- **The failing Task** dies after 8,333 polls, its pace is a literal that no window"
            " can stretch, and each poll that finds nothing is an error in Lambda's metrics, its"
            " log and the trace, among which a real one would drown.",
            "- **Budgets** of waiting. The last two columns are an upper bound, with Lambda,"
            " secrets, KMS and logs of every poll (the bill):\n",
            _table(
                ["", "Transitions, USD", "Budget", "History events", "All warm", "All cold"],
                budgets,
            ),
        ]
    )


def _watcher(results: Json, compared: Comparison) -> str:
    """The watcher's own price and speed, by how much is open."""
    measured = {
        number: results[name]["watch"]
        for number in scale.SIZES
        if (name := f"scale-{number}") in results and "watch" in results[name]
    }
    if not measured:
        return ""
    most = max(number for number in measured if number <= bill.WATCHED_A_MINUTE)
    each = bill.WATCHED_CPU_SECONDS
    rows = []
    for number in (0, *watcher.OPEN):
        usd = bill.total(bill.watching(number, each))
        late = watcher.delays(number) if number else []
        run = measured.get(number)
        rows.append(
            (
                f"{number:,}",
                f"{run['seconds']:.2f}" if run else "",
                run["tsbCalls"] if run else "",
                f"{watcher.mean(late):.0f}" if late else "",
                f"{late[int(0.95 * len(late))]:.0f}" if late else "",
                f"{late[-1]:.0f}" if late else "",
                f"{usd:.2f}",
                f"{usd / number:.4f}" if number else "",
            )
        )
    budgets = []
    for open_at_once, (mean, limit) in NOTICED_WITHIN.items():
        late = watcher.delays(open_at_once)
        found = watcher.mean(late), late[int(0.95 * len(late))]
        is_met = found[1] <= limit and (mean is None or found[0] <= mean)
        wanted = f"{f'mean ≤ {mean} s, ' if mean else ''}95 % ≤ {limit} s"
        budgets.append(f"{wanted} at {open_at_once:,} open ({'met' if is_met else 'not met'})")
    saved = {
        name: at_the_delay_of(one.ours, one.rivals[one.cheapest()[0]]) - one.ours.usd
        for name, one in {**compared.scenarios, "all, equally likely": compared.mixture}.items()
    }
    ten = bill.total(bill.watching(10, each))
    pays = [(name, f"{usd:.4f}", f"{ten / usd:,.0f}" if usd > 0 else "never")
            for name, usd in saved.items()]  # fmt: skip
    return "\n".join(
        [
            "## The watcher\n",
            "WatchEnrollments runs once a minute whether anything is open or not. A run asks at"
            f" most {bill.WATCHED_A_MINUTE} requests (`WatchRequestsPerMinute`), those first that"
            " were not looked at for longest, over eight kept-alive connections. Run and calls are"
            " measured on the embedded stack, with all of them open and their own polls among the"
            " calls; the delays, from news at the TSB to the wake, come from the real function"
            " over the real index in virtual time, a TSB that answers after"
            f" {bill.TSB_SECONDS * 1_000:.0f} ms assumed; the price is"
            f" computed with {each * 1_000:.1f} ms of CPU a request, measured by itself with the"
            " simulator over TLS."
            f" {_on(results[f'scale-{most}'])}\n",
            _table(
                [
                    *("Open", "A run, s", "TSB calls", "Mean delay, s", "95 %, s", "longest, s"),
                    *("USD a month", "for each"),
                ],
                rows,
            ),
            f"Budgets: {'; '.join(budgets)}. A run asks 300: the last of a thousand is seen by the"
            " fourth run after the news.\n",
            "It pays, against the cheapest poller of the same delay, from so many enrollments a"
            " month (ten of them open at a time):\n",
            _table(["Scenario", "Saved by each, USD", "Enrollments a month"], pays),
        ]
    )


def _waited(results: Json, age: int, *, cold: bool) -> float:
    """All that the polls cost which a wait of this length adds to an enrollment decided at once."""
    if not {"work", "startup"} <= results.keys():
        return float("nan")
    polls = readme.polls_until(age, 7 * 86_400)
    whole, least = (bill.enrollment(results, number, cold=cold) for number in (polls, 1))
    return bill.total(whole) - bill.total(least)


def _truth(measured: Json | None) -> str:
    if not measured:
        return ""
    rows = [
        (
            one["case"],
            one["outcome"],
            one["polls"],
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
        " and TSB's own count of polls equal the model's. Woken: the watcher"
        " ran once after the approval. The emulator writes neither `TaskStarted` nor"
        f" `TaskSubmitted`, AWS does. {_on(measured)}\n\n"
        + _table(
            [
                "Window",
                "Outcome",
                "Polls",
                "Last planned poll at, s",
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
            " TSB, nor what reads certificates by a poll, a cancellation or a mail. Of the"
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
        " of 1 and 10 carry the cold starts of the emulator's workers; calls beyond four are polls"
        f" before the decision and the watcher's. {_on(sizes[-1])}\n",
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
    polls = {name: readme.polls_until(age, 7 * 86_400) for name, age in readme.AGES.items()}
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
    mean_polls = round(compared.mixture.ours.polls)
    fleet = {
        "approved within minutes": round(compared.scenarios["minutes"].ours.polls),
        "all scenarios, equally likely": mean_polls,
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
            " function anew and reads two secrets, as with one enrollment now and then, and as"
            " with polls hours apart. A wake and its notice of the watcher's are not in it.\n",
            _table(["", "within 4 minutes", *(f"within {name}" for name in polls)], rows, left=2),
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
