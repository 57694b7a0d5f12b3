"""An execution that is stopped while one of its functions still runs."""

from local.engine.invocation import Invocation
from local.engine.stack import InProcessStack
from tests.case import Case, Result


def stopped_before(case: Case, stack: InProcessStack, arn: str, late: Invocation) -> Result:
    """Its end if it is stopped before this call, which is made while the end is written."""
    case.stop(arn)
    late.due = stack.clock.now + 5
    closing = stack.at("CloseEnrollment", "UpdateItem")  # it has read the record
    closing.due = stack.clock.now + 10
    result = case.end(arn)
    stack.settle()
    return result
