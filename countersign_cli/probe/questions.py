"""What a question about a TSB is, and what was found.

A module of questions registers them with `question`. Where the simulator has a switch for what is
asked, question and switch have one name and one set of values, so a report can be given to
`python -m local.tsb_simulator` to get a TSB like the user's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic.alias_generators import to_camel

from countersign.errors import CountersignError

if TYPE_CHECKING:
    from countersign_cli.probe.session import Session

type Ask = Callable[["Session"], Finding]


@dataclass(frozen=True)
class Finding:
    """The answer to a question.

    Args:
        value: None: it could not be found out, and `detail` says why.
        detail: what was seen, in a few words.
        follows: what somebody should do; empty: nothing.
        parameters: of the template, by name.
    """

    value: Any
    detail: str = ""
    follows: str = ""
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """One thing that only the TSB itself can settle.

    Args:
        name: of the switch, where the simulator has one.
        asks: in a few words.
        assumed: what the product was built and tested with.
        source: why it is not known.
        ask: makes the calls and reads the answers.
    """

    name: str
    asks: str
    assumed: Any
    source: str
    ask: Ask

    def answer(self, session: "Session") -> Finding:
        """Ask. Whatever the TSB answers, this returns: an odd answer is a finding, too."""
        try:
            return self.ask(session)
        except UnknownError as error:
            return Finding(None, str(error))
        except CountersignError as error:
            session.unanswered(error)
            return Finding(None, f"no answer: {error.message}")
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            # What TSB sends is not ours. A shape that nobody foresaw ends this question alone.
            return Finding(None, f"an answer of another form ({type(error).__name__})")


class UnknownError(Exception):
    """It cannot be found out, and why."""


def question(asks: str, *, assumed: Any, source: str) -> Callable[[Ask], Question]:
    """Make a question of the function that answers it; the function's name is the question's."""

    def make(ask: Ask) -> Question:
        name = to_camel(ask.__name__)
        return Question(name, asks, assumed, source, ask)

    return make
