"""The HTTP API: routes and parameters. `countersign.api` decides the answers."""

from http import HTTPStatus
from typing import Annotated, Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError
from aws_lambda_powertools.event_handler.openapi.params import Header, Path, Query
from aws_lambda_powertools.utilities.typing import LambdaContext

from countersign import models as m
from countersign.api import enrollments as api_enrollments
from countersign.api import gateway, views
from countersign.api import problems as api_problems
from countersign.api.models import Enrollment, EnrollmentList, Health, Problem
from countersign.aws import rules, stack
from countersign.errors import AwsCallError
from countersign.settings import settings

JSON, PROBLEM = "application/json", "application/problem+json"
TSB_TIMEOUT_SECONDS = 8  # two calls stay below API Gateway's 29 s
REASONS = {
    400: "The body is no JSON.",
    404: "There is no such enrollment.",
    406: "CSR and certificate are handed out as PEM or DER only.",
    409: "The enrollment does not allow it: another request's id, another outcome, not yet issued.",
    413: "The body is larger than 128 KB.",
    415: "The body is not application/json.",
    422: "Something is wrong with what was sent; `errors` names each field.",
    503: "TSB or an AWS service cannot be reached, or the TSB cannot be used.",
}
REQUEST_BODY = {
    "required": True,
    "content": {
        JSON: {
            "schema": {
                "anyOf": [
                    {"$ref": "#/components/schemas/ProfileRequest"},
                    {"$ref": "#/components/schemas/RawRequest"},
                ]
            }
        }
    },
}

logger = Logger()
app = APIGatewayRestResolver(enable_validation=True)

EnrollmentId = Annotated[m.EnrollmentId, Path(description="As POST /enrollments answered it.")]


def _responses(answers: dict[int, Any], *problems: int) -> dict[int, Any]:
    """The OpenAPI responses of a route."""
    documented = {
        status: {"description": REASONS[status], "content": {PROBLEM: {"model": Problem}}}
        for status in problems
    }
    return {**answers, **documented}


def _with(model: type[m.Model], description: str) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"model": model}}}


def _moment(name: str, description: str) -> Query:
    return Query(alias=name, description=description, json_schema_extra={"format": "date-time"})


@app.post(
    "/enrollments",
    summary="Ask for a CSR",
    description=(
        "Starts one enrollment. The same `enrollmentId`, or the same `Idempotency-Key` of the same"
        " caller, with the same body is the same enrollment."
    ),
    operation_id="submitEnrollment",
    tags=["Enrollments"],
    openapi_extensions={"requestBody": REQUEST_BODY},
    responses=_responses(
        {
            202: _with(Enrollment, "Accepted; it is under way."),
            200: _with(Enrollment, "The same request was made before and its enrollment ended."),
        },
        400, 409, 413, 415, 422, 503,
    ),
)  # fmt: skip
def submit(
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            description="Any text that is the same when the call is repeated.",
        ),
    ] = None,
) -> Response[Any]:
    answer = api_enrollments.submit(
        api_enrollments.body(app.current_event.headers.get("Content-Type"), app.current_event.body),
        idempotency_key,
        _caller(),
        base=_base(),
        records=stack.records(),
        start=stack.executions().start,
        rules=rules.rules(),
    )
    return _shown(answer, location=True)


@app.get(
    "/enrollments",
    summary="List enrollments, newest first",
    operation_id="listEnrollments",
    tags=["Enrollments"],
    responses=_responses({200: _with(EnrollmentList, "One page.")}, 422, 503),
)
def enrollments(
    status: Annotated[m.Status | None, Query(description="Only those that stand so.")] = None,
    since: Annotated[str | None, _moment("from", "Accepted at this moment or after.")] = None,
    until: Annotated[str | None, _moment("to", "Accepted at this moment or before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="How many on a page.")] = 50,
    token: Annotated[
        str | None, Query(alias="next", description="`next` of the page before.")
    ] = None,
) -> Response[Any]:
    page = api_enrollments.enrollments(
        status=status,
        since=since,
        until=until,
        limit=limit,
        token=token,
        base=_base(),
        records=stack.records(),
    )
    return Response(HTTPStatus.OK, JSON, page.model_dump_json())


@app.get(
    "/enrollments/<id>",
    summary="How an enrollment stands",
    operation_id="getEnrollment",
    tags=["Enrollments"],
    responses=_responses({200: _with(Enrollment, "The enrollment.")}, 404, 422, 503),
)
def enrollment(id: EnrollmentId) -> Response[Any]:
    logger.append_keys(enrollment_id=id)
    shown = api_enrollments.show(
        id, base=_base(), records=stack.records(), polling_settings=stack.polling_settings()
    )
    return Response(HTTPStatus.OK, JSON, shown.model_dump_json())


@app.get(
    "/enrollments/<id>/csr",
    summary="The issued CSR",
    description=f"PEM, or DER where `{api_problems.DER}` is the first type that Accept names.",
    operation_id="getCsr",
    tags=["Enrollments"],
    responses=_responses(
        {
            200: {
                "description": "The CSR (PKCS #10).",
                "content": {
                    api_problems.PEM: {"schema": {"type": "string"}},
                    api_problems.DER: {"schema": {"type": "string", "format": "binary"}},
                },
            }
        },
        404, 406, 409, 422, 503,
    ),
)  # fmt: skip
def csr(id: EnrollmentId):  # type: ignore[no-untyped-def]  # Powertools would read DER as UTF-8
    logger.append_keys(enrollment_id=id)
    accept = app.current_event.headers.get("Accept", "*/*")
    media_type, content = api_enrollments.csr(id, accept, records=stack.records())
    return Response(
        HTTPStatus.OK, media_type, content if media_type == api_problems.DER else content.decode()
    )


@app.get(
    "/enrollments/<id>/certificate",
    summary="The issued certificate",
    description=(
        "PEM with the CA's after it, or its DER where"
        f" `{api_problems.CERTIFICATE_DER}` is the first type that Accept names. There is one only"
        " where the request asked for it."
    ),
    operation_id="getCertificate",
    tags=["Enrollments"],
    responses=_responses(
        {
            200: {
                "description": "The certificate (X.509).",
                "content": {
                    api_problems.PEM: {"schema": {"type": "string"}},
                    api_problems.CERTIFICATE_DER: {
                        "schema": {"type": "string", "format": "binary"}
                    },
                },
            }
        },
        404, 406, 409, 422, 503,
    ),
)  # fmt: skip
def certificate(id: EnrollmentId):  # type: ignore[no-untyped-def]  # Powertools would read DER as UTF-8
    logger.append_keys(enrollment_id=id)
    accept = app.current_event.headers.get("Accept", "*/*")
    media_type, content = api_enrollments.certificate(id, accept, records=stack.records())
    return Response(
        HTTPStatus.OK,
        media_type,
        content if media_type == api_problems.CERTIFICATE_DER else content.decode(),
    )


@app.delete(
    "/enrollments/<id>",
    summary="Cancel an enrollment",
    description="At the TSB at once; never issued afterwards. The workflow ends at its next poll.",
    operation_id="cancelEnrollment",
    tags=["Enrollments"],
    responses=_responses(
        {
            202: _with(Enrollment, "Cancelled; the workflow is about to end."),
            200: _with(Enrollment, "It had ended as CANCELLED."),
        },
        404, 409, 422, 503,
    ),
)  # fmt: skip
def cancel(id: EnrollmentId) -> Response[Any]:
    logger.append_keys(enrollment_id=id)
    answer = api_enrollments.cancelled(
        id,
        _caller(),
        base=_base(),
        records=stack.records(),
        start=stack.executions().start,
        notify=_tell,
    )
    return _shown(answer)


@app.post(
    "/enrollments/<id>/resume",
    summary="Resume an enrollment that failed without a decision",
    description=(
        "Approvers were asked, and it FAILED because of a fault. Reads what the TSB has made of the"
        " request, verifies and stores it; asks nobody again. 409 says why it cannot be resumed."
    ),
    operation_id="resumeEnrollment",
    tags=["Enrollments"],
    responses=_responses(
        {202: _with(Enrollment, "Its next execution takes it over within seconds.")},
        404, 409, 422, 503,
    ),
)  # fmt: skip
def resume(id: EnrollmentId) -> Response[Any]:
    logger.append_keys(enrollment_id=id)
    answer = api_enrollments.resumed(
        id, _caller(), base=_base(), records=stack.records(), start=stack.executions().start
    )
    return _shown(answer)


@app.get(
    "/health",
    summary="Whether the TSB can be reached and used",
    operation_id="getHealth",
    tags=["Health"],
    responses=_responses({200: _with(Health, "It can.")}, 503),
)
def health() -> Response[Any]:
    # Imported here: only one route of seven calls the TSB, and people wait for the others
    # (docs/decisions.md, 78).
    from countersign.aws.tsb import tsb  # noqa: PLC0415

    found = api_enrollments.health(tsb(TSB_TIMEOUT_SECONDS), settings().max_clock_skew)
    return Response(HTTPStatus.OK, JSON, found.model_dump_json())


def _bad_parameters(error: RequestValidationError) -> Response[Any]:
    return _problem(api_problems.invalid_parameters(error.errors()))


def _no_route(_: NotFoundError) -> Response[Any]:
    return _problem(api_problems.no_route(app.current_event.path))


def _problem(error: Exception) -> Response[Any]:
    problem = api_problems.problem(
        error,
        instance=app.current_event.request_context.path or app.current_event.path,
        enrollment_id=app.current_event.path_parameters.get("id"),
    )
    status = problem.status or HTTPStatus.INTERNAL_SERVER_ERROR
    unexpected = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    (logger.error if unexpected else logger.info)(problem.detail, exc_info=unexpected)
    return Response(status, PROBLEM, problem.model_dump_json(exclude_none=True))


app.exception_handler(RequestValidationError)(_bad_parameters)
app.exception_handler(NotFoundError)(_no_route)
app.exception_handler(Exception)(_problem)


def _shown(answer: views.Answer, *, location: bool = False) -> Response[Any]:
    headers = {"Location": answer.enrollment.links["self"]} if location else {}
    return Response(answer.status, JSON, answer.enrollment.model_dump_json(), headers=headers)


def _tell(enrollment_id: str) -> None:
    try:
        stack.cancel_request(enrollment_id)
    except AwsCallError:  # the cancellation is on record: PollRequest notifies TSB
        logger.exception("CancelRequest was not invoked")


def _caller() -> api_enrollments.Caller:
    identity = app.current_event.request_context.identity
    return api_enrollments.Caller(
        principal=identity.user_arn or "anonymous", account=identity.account_id
    )


def _base() -> str:
    """The path under which this API was called: the stage, or a custom domain's mapping."""
    called = (app.current_event.request_context.path or "").rstrip("/")
    return called.removesuffix(app.current_event.path)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    called = gateway.caller_api(event)
    if called != settings().api:
        logger.error("the call was refused: it is not this API's", extra={"called": called})
        problem = api_problems.not_this_api(settings().api)
        return {
            "statusCode": problem.status,
            "multiValueHeaders": {"Content-Type": [PROBLEM]},
            "body": problem.model_dump_json(exclude_none=True),
            "isBase64Encoded": False,
        }
    return app.resolve(gateway.unmapped(event), context)
