from tests.workflow.conftest import shared_stack

__all__ = ["shared_stack"]
