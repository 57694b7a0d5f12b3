"""`countersign lint`: the linter's findings about profiles or requests, without any call."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from countersign import models as m
from countersign.errors import CountersignError
from countersign.models import LintFinding, Policy
from countersign.policy import linter, profiles
from countersign.polling import DAY_SECONDS, DEADLINE_SECONDS, LONGEST_WINDOW_SECONDS
from countersign.request import validation
from countersign_cli import documents, view
from countersign_cli import request as requests
from countersign_cli.exits import CommandError, Exit
from countersign_cli.options import AsJson

type Json = dict[str, Any]

STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}
ANY_ARN = "arn:"  # only the stack knows which secrets it allows
FILES = "Files"

ProfileStore = Annotated[
    Path,
    typer.Option(
        "--profiles",
        metavar="FOLDER",
        help="The profiles and the directory of approvers.",
        envvar="COUNTERSIGN_PROFILES",
        rich_help_panel=FILES,
    ),
]
CaKey = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="TSB's answer to POST /v1/key/attributes of the CA key: its approvers must be others."
        " The workflow reads it itself.",
        rich_help_panel=FILES,
    ),
]
DeadlineDays = Annotated[
    int,
    typer.Option(
        min=1,
        max=LONGEST_WINDOW_SECONDS // DAY_SECONDS,
        help="The stack's parameter WorkflowDeadlineDays: a timelock must be over before.",
        envvar="COUNTERSIGN_DEADLINE_DAYS",
    ),
]
EscapedSubjects = Annotated[
    bool,
    typer.Option(
        help="The stack's parameter TsbEscapesSubjects: a subject may have commas and the like.",
        envvar="COUNTERSIGN_TSB_ESCAPES_SUBJECTS",
    ),
]
NewerCertificates = Annotated[
    bool,
    typer.Option(
        help="The stack's parameter TsbNewerCertificates: any validity and a whole subject.",
        envvar="COUNTERSIGN_TSB_NEWER_CERTIFICATES",
    ),
]
POLICIES_ONLY = "Only policies were judged. For a request by a profile: countersign lint FILE"
DEFAULT_DAYS = DEADLINE_SECONDS // DAY_SECONDS
Requester = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="ARN",
        help="The AWS principal who would ask: an approver must not.",
    ),
]


def lint(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE...",
            help="A request as for submit. Without one, the policy of every profile is judged, and"
            " no request by it.",
            show_default=False,
        ),
    ] = None,
    *,
    profile_store: ProfileStore = Path("profiles"),
    ca_key: CaKey = None,
    requester: Requester = None,
    deadline_days: DeadlineDays = DEFAULT_DAYS,
    tsb_escapes_subjects: EscapedSubjects = False,
    tsb_newer_certificates: NewerCertificates = False,
    as_json: AsJson = False,
) -> None:
    """Show what the linter finds, as the workflow would. Nothing is called, nothing is changed."""
    moment = m.now()
    rules = rules_of(
        profile_store,
        deadline_days,
        escapes_subjects=tsb_escapes_subjects,
        newer_certificates=tsb_newer_certificates,
    )
    stored, deadline = rules.profiles, rules.deadline_seconds
    if files:
        reading = validation.examine(
            requests.read(files), rules=rules, requester=requester, moment=moment
        )
        said = [(" ".join(files), findings(reading, stored, ca_policy(ca_key)))]
    else:
        if not stored.ids:
            raise CommandError(
                f"there is no profile in {profile_store}: no file is named like trial@1.json",
                action="Name the folder of the profiles with --profiles.",
                code=Exit.USAGE,
            )
        said = of_profiles(stored, ca_policy(ca_key), moment, deadline)
    if as_json:
        print(json.dumps([document(*one) for one in said], indent=2))
    else:
        view.console().print(shown(said))
        if not files:
            view.console().print(Text(POLICIES_ONLY, style="dim"))
    if any(errors(found) for _, found in said):
        raise typer.Exit(Exit.REFUSED)


def rules_of(
    profile_store: Path,
    deadline_days: int = DEFAULT_DAYS,
    *,
    escapes_subjects: bool = False,
    newer_certificates: bool = False,
) -> validation.Rules:
    """What a stack with these parameters accepts. Raw requests are: only it knows whether it does.

    Raises:
        CommandError: there is no such folder.
    """
    return validation.Rules(
        profiles=profiles.Profiles(folder(profile_store)),
        key_password_prefix=ANY_ARN,
        allow_raw_policy=True,
        deadline_seconds=deadline_days * DAY_SECONDS,
        escapes_subjects=escapes_subjects,
        newer_certificates=newer_certificates,
    )


def findings(
    reading: validation.Reading, profile_store: profiles.Profiles, theirs: Json | None
) -> tuple[LintFinding, ...]:
    """The linter's findings about a request, and about the CA key if its policy is known."""
    requested = reading.request
    profile = profile_store.get(requested.profile) if requested.profile else None
    label = requested.certificate.ca_key_label if requested.certificate else None
    held = _ca_findings(requested.key.policy, profile_store, profile, theirs, label)
    return (*reading.findings, *held)


def of_profiles(
    profile_store: profiles.Profiles,
    theirs: Json | None,
    moment: datetime,
    deadline_seconds: int = DEADLINE_SECONDS,
) -> list[tuple[str, tuple[LintFinding, ...]]]:
    """The findings about every profile. A profile that cannot be read is a finding itself."""
    said: list[tuple[str, tuple[LintFinding, ...]]] = []
    for name in profile_store.ids:
        try:
            profile = profile_store.get(name)
            policy = Policy.read(profiles.whole_policy(profile, profile_store.directory, moment))
            found = linter.lint(
                policy,
                directory=profile_store.directory,
                profile=profile,
                deadline_seconds=deadline_seconds,
                now=moment,
            )
            said.append((name, (*found, *_ca_findings(policy, profile_store, profile, theirs))))
        except CountersignError as error:
            unreadable = LintFinding(
                code="unreadable",
                level="error",
                path=error.field or "profile",
                sentence=error.message,
                action=error.action,
            )
            said.append((name, (unreadable,)))
    return said


def _ca_findings(
    policy: Policy,
    profile_store: profiles.Profiles,
    profile: profiles.Profile | None,
    theirs: Json | None,
    label: str | None = None,
) -> tuple[LintFinding, ...]:
    label = label or (profile.ca_key_label if profile else None)
    if theirs is None or label is None:
        return ()
    requested = theirs.get("ruleUse") and Policy.read({"keyStatus": {"blocked": False}, **theirs})
    return linter.lint_ca_key(
        policy,
        requested or None,
        directory=profile_store.directory,
        profile=profile,
        label=label,
    )


def ca_policy(file: Path | None) -> Json | None:
    """The policy in TSB's answer about a key; None if no file was named.

    Raises:
        CommandError: the file does not hold such an answer.
    """
    if file is None:
        return None
    try:
        answer = documents.load(file.read_bytes())
        policy = dict(answer["json"]["policy"] or {})
    except (OSError, documents.UnreadableError, ValueError, KeyError, TypeError):
        raise CommandError(
            f"{file} holds no answer of TSB about a key",
            action="Save what POST /v1/key/attributes answers for the CA key.",
            code=Exit.USAGE,
        ) from None
    return policy


def errors(found: Iterable[LintFinding]) -> list[LintFinding]:
    """The findings for which a request is refused."""
    return [one for one in found if one.level == "error" and one.waiver is None]


def document(name: str, found: Sequence[LintFinding]) -> Json:
    """The findings about a profile or a request, for scripts."""
    return {"subject": name, "refused": bool(errors(found)), "findings": linter.dump(found)}


def shown(said: Iterable[tuple[str, Sequence[LintFinding]]]) -> Group:
    """The findings, for people."""
    parts: list[RenderableType] = []
    for name, found in said:
        refused = bool(errors(found))
        verdict = ("refused", "bold red") if refused else ("accepted", "bold green")
        parts += [Text.assemble((view.clean(name), "bold"), "  ", verdict), table(found), Text()]
    return Group(*parts[:-1])


def table(found: Sequence[LintFinding]) -> RenderableType:
    """Findings, the worst first. A waived finding has its reason."""
    if not found:
        return Text("nothing to say", style="dim")
    rows = Table.grid(padding=(0, 2))
    rows.add_column(no_wrap=True)
    rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    for one in sorted(found, key=lambda one: tuple(STYLES).index(one.level)):
        level = "waived" if one.waiver else one.level
        way = f"waived: {one.waiver}" if one.waiver else one.action
        rows.add_row(
            Text(level, style="dim" if one.waiver else STYLES[one.level]),
            one.code,
            Text.assemble(
                view.clean(f"{one.path}: {one.sentence}"), "\n", (view.clean(way), "dim")
            ),
        )
    return rows


def folder(profile_store: Path) -> Path:
    """The folder, if it exists.

    Raises:
        CommandError: the folder does not exist.
    """
    if not profile_store.is_dir():
        raise CommandError(
            f"there is no folder {profile_store}",
            action="Run it where the profiles lie, or name their folder with --profiles.",
            code=Exit.USAGE,
        )
    return profile_store
