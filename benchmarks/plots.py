"""The plots: SVG that reads on a dark page and on a light one."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from benchmarks import comparison
from benchmarks.approvals import DAY, HOUR, MINUTE
from benchmarks.pollers import EVENT_LIMIT
from benchmarks.readme import polls_until
from countersign_cli.prices import prices

FOLDER = Path(__file__).parent

# Ink follows the page where the viewer can tell; what cannot gets a grey that reads on both.
INK, INK_FALLBACK = "#010203", "#797979"
STYLE = "<style>svg{--ink:#1f2328}@media(prefers-color-scheme:dark){svg{--ink:#e6edf3}}</style>"
# At least 3:1 on white and on #0d1117.
BLUE, ORANGE, PURPLE, GREEN = "#2f81f7", "#c4731a", "#8957e5", "#2da44e"
GREY = INK_FALLBACK

INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
DELAYS = {1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3_600: "1 h"}
DOLLARS = {0.0001: "0.0001", 0.001: "0.001", 0.01: "0.01", 0.1: "0.1", 1: "1", 10: "10"}
AGES = {MINUTE: "1 min", 10 * MINUTE: "10 min", HOUR: "1 h", 6 * HOUR: "6 h", DAY: "1 d",
        7 * DAY: "7 d", 30 * DAY: "30 d"}  # fmt: skip


def draw(compared: comparison.Comparison, results: dict[str, Any]) -> None:
    """Write every plot of the report."""
    mpl.rcParams.update(
        {
            "svg.hashsalt": "countersign",
            "svg.fonttype": "path",
            "font.family": "sans-serif",
            "font.size": 10,
            **dict.fromkeys(INKED, INK),
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )
    _price_and_delay(compared)
    _scenarios(compared)
    _price_and_age()
    if "startup" in results:
        _startup(results["startup"])


def _price_and_delay(compared: comparison.Comparison) -> None:
    figure, axes = pyplot.subplots(figsize=(8, 4.8))
    _panel(axes, compared.mixture, named=True)
    axes.set_title("Waiting for an approval: what it costs, and how late it is noticed", loc="left")
    axes.set_xlabel("mean delay of the notice")
    axes.set_ylabel("USD an enrollment, state transitions")
    axes.legend(frameon=False, loc="upper right")
    _save(figure, "price-and-delay")


def _scenarios(compared: comparison.Comparison) -> None:
    figure, grid = pyplot.subplots(2, 4, figsize=(12, 6), sharex=True, sharey=True)
    panels = [*compared.scenarios.items(), ("all, equally likely", compared.mixture)]
    for axes, (name, curves) in zip(grid.flat, panels, strict=True):
        _panel(axes, curves, named=False)
        axes.set_title(name, loc="left", fontsize=10)
    for axes in grid[1]:
        axes.set_xlabel("mean delay")
    for axes in grid[:, 0]:
        axes.set_ylabel("USD")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="upper center", ncols=4)
    figure.subplots_adjust(top=0.87)
    _save(figure, "scenarios")


def _panel(axes: Any, curves: comparison.Curves, *, named: bool) -> None:
    axes.plot(*_xy(curves.rivals["fixed interval"]), color=ORANGE, lw=1.5, label="fixed interval")
    named_fixed = [(name, one) for name, one in curves.named.items() if name.startswith("every")]
    axes.plot(*_xy([one for _, one in named_fixed]), "o", color=ORANGE, ms=4)
    if named:
        for name, one in named_fixed:
            axes.annotate(
                name.removeprefix("every "), (one.delay_seconds, one.usd), fontsize=9,
                textcoords="offset points", xytext=(6, 4), color=INK,
            )  # fmt: skip
    axes.plot(
        *_xy(curves.rivals["failing Task"]),
        color=PURPLE,
        lw=1.5,
        ls="--",
        label="failing Task, retried",
    )
    axes.plot(
        *_xy(curves.rivals["share of the age"]),
        color=GREY,
        lw=1.5,
        ls="-.",
        label="share of the age",
    )
    axes.plot(*_xy(curves.oracle), color=GREEN, lw=1.5, ls=":", label="best poller (oracle)")
    axes.plot(*_xy([curves.ours]), "D", color=BLUE, ms=9, label="Countersign")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(1, 3_600)
    axes.set_ylim(0.00005, 10)
    _ticks(axes.xaxis, DELAYS)
    _ticks(axes.yaxis, DOLLARS)
    axes.grid(color=INK, alpha=0.12, lw=0.6)


def _price_and_age() -> None:
    figure, axes = pyplot.subplots(figsize=(8, 4.2))
    ages = [int(MINUTE * 1.12**step) for step in range(95) if MINUTE * 1.12**step <= 30 * DAY]
    usd = prices()["stateTransition"]
    for seconds in (5, 60, 300, 600):
        lives = [age for age in ages if age / seconds * 9 < EVENT_LIMIT]
        costs = [(age // seconds + 1) * 3 * usd for age in lives]
        axes.plot(
            lives, costs, color=ORANGE, lw=1.2, label="fixed interval" if seconds == 5 else None
        )
        dies = len(lives) < len(ages)
        axes.annotate(
            f"{seconds} s" + (" †" if dies else ""), (lives[-1], costs[-1]), color=INK, fontsize=9,
            textcoords="offset points", xytext=(4, -2),
        )  # fmt: skip
    costs = [polls_until(age, max(age, 7 * DAY)) * 3 * usd for age in ages]
    axes.plot(ages, costs, color=BLUE, lw=2.5, label="Countersign")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(MINUTE, 45 * DAY)
    _ticks(axes.xaxis, AGES)
    _ticks(axes.yaxis, DOLLARS)
    axes.grid(color=INK, alpha=0.12, lw=0.6)
    axes.set_title("The price of waiting, by when the approval comes", loc="left")
    axes.set_xlabel("approved after          († the execution dies of its 25,000 history events)")
    axes.set_ylabel("USD an enrollment")
    axes.legend(frameon=False, loc="upper left")
    _save(figure, "price-and-age")


def _startup(measured: dict[str, Any]) -> None:
    figure, axes = pyplot.subplots(figsize=(8, 5.6))
    functions = measured["functions"]
    kinds = {"ours": ("Countersign", BLUE), "minimum": ("least possible", GREEN)}
    height = 0.36
    for row, (kind, (label, color)) in enumerate(kinds.items()):
        places = [index + (0.5 - row) * height for index in range(len(functions))]
        before = [0.0] * len(functions)
        for phase, said in (("import", "import"), ("firstCall", "first call")):
            values = [one["milliseconds"][kind][phase] for one in functions.values()]
            axes.barh(
                places, values, height * 0.85, left=before, edgecolor=color,
                color=color if phase == "import" else "none", label=f"{label}: {said}",
            )  # fmt: skip
            before = values
    bare = [one["milliseconds"]["oursWithoutBytecode"]["together"] for one in functions.values()]
    axes.plot(bare, range(len(functions)), "|", color=ORANGE, label="without bytecode, together")
    axes.set_yticks(range(len(functions)), [name.replace("_", " ") for name in functions])
    axes.set_xlabel("CPU time of a fresh process until it has answered its first event, ms")
    axes.set_title("Start-up and first call", loc="left")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axes.grid(axis="x", color=INK, alpha=0.12, lw=0.6)
    _save(figure, "startup")


def _xy(points: Sequence[Any]) -> tuple[list[float], list[float]]:
    return [one.delay_seconds for one in points], [one.usd for one in points]


def _ticks(axis: Any, named: dict[Any, str]) -> None:
    axis.set_major_locator(FixedLocator(list(named)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: named.get(value, f"{value:g}")))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _save(figure: Any, name: str) -> None:
    file = FOLDER / f"{name}.svg"
    figure.savefig(file, transparent=True, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    text = file.read_text()
    text = re.sub(
        rf"(fill|stroke): {INK}", rf"\1: {INK_FALLBACK}; \1: var(--ink, {INK_FALLBACK})", text
    )
    file.write_text(text.replace("<defs>", f"{STYLE}\n <defs>", 1))
