"""All questions in their order, and the end that removes whatever was made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from countersign_cli.probe import access, approvals, certificates, keys, subjects
from countersign_cli.probe.questions import Finding, Question
from countersign_cli.probe.session import Session, SilentError

# The order matters where one answer is the means of the next question: roles before requests, the
# clock before approvers' timestamps, the deletion of a key with a policy before further policies.
CHAPTERS: dict[str, tuple[Question, ...]] = {
    "Access": access.QUESTIONS,
    "Keys": keys.FREE_KEYS,
    "Subjects and uses": subjects.QUESTIONS,
    "Approvals and ends": approvals.QUESTIONS,
    "Policies": keys.POLICIES,
    "Windows": approvals.WINDOWS,
    "Certificates": certificates.QUESTIONS,
}
QUESTIONS = tuple(one for chapter in CHAPTERS.values() for one in chapter)


@dataclass
class Result:
    """What a run found.

    Args:
        findings: by the question's name, in the order of asking.
        stopped: why not everything was asked; empty: everything was.
        left: what could not be removed, and why.
        of_other_runs: keys that the TSB lists and another run made.
        interrupted: whether the user stopped it.
    """

    findings: dict[str, Finding] = field(default_factory=dict)
    stopped: str = ""
    left: list[str] = field(default_factory=list)
    of_other_runs: list[str] = field(default_factory=list)
    interrupted: bool = False

    @property
    def parameters(self) -> dict[str, str]:
        """The template's parameters that follow."""
        return {
            name: value for one in self.findings.values() for name, value in one.parameters.items()
        }


def run(
    session: Session,
    asking: Callable[[Question], None],
    questions: Sequence[Question] = QUESTIONS,
) -> Result:
    """Ask, then clean up, however it ends.

    Args:
        session: the run.
        asking: called before each question.
        questions: in an order in which they can be asked.
    """
    result = Result()
    try:
        for one in questions:
            asking(one)
            result.findings[one.name] = one.answer(session)
        result.of_other_runs = session.of_other_runs()
    except KeyboardInterrupt:
        result.interrupted, result.stopped = True, "interrupted"
    except SilentError as error:
        result.stopped = f"the TSB does not answer any more: {error}"
    finally:
        result.left = session.clean_up()
    return result
