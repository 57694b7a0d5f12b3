"""What API Gateway hands to the function: from which API, and under which path of it."""

from typing import Any


def caller_api(event: Any) -> str:
    """The API that an event says it comes from, `<account>/<api id>/<stage>`; empty if none.

    Only API Gateway itself is a witness of it: whoever may invoke the function writes what they
    like. The function's resource policy decides who that is.
    """
    context = event.get("requestContext") if isinstance(event, dict) else None
    if not isinstance(context, dict):
        return ""
    return "/".join(str(context.get(name))[:64] for name in ("accountId", "apiId", "stage"))


def unmapped(event: dict[str, Any]) -> dict[str, Any]:
    """The event with the path as the API has it: its resource, with the parameters filled in.

    In a call through a custom domain, API Gateway leaves the mapping's base path in `path`:
    `/csr/enrollments` for the resource `/enrollments`. The last segments of `path` would not do:
    an id that holds an encoded slash would become another route than API Gateway has authorized.
    Source: https://github.com/aws-powertools/powertools-lambda/issues/34
    """
    filled: str = event["resource"]
    for name, value in (event.get("pathParameters") or {}).items():
        filled = filled.replace(f"{{{name}}}", value)
    return {**event, "path": filled}
