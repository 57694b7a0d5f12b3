"""What is counted, in CloudWatch's embedded metric format: a line in the log, no call to a service.

Names and dimensions are those that the alarms and the dashboard of `template.yaml` read; `service`
is the stack. Importing costs nothing: `aws_lambda_powertools` loads its metrics with its Logger.
"""

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from countersign.settings import settings
from countersign.tsb import Exchange

NAMESPACE = "Countersign"


def tsb_call(exchange: Exchange) -> None:
    """One call of the TSB: how long it took, and its error by name and code."""
    _emit("TsbLatency", MetricUnit.Milliseconds, exchange.milliseconds, Endpoint=exchange.endpoint)
    if exchange.error is not None:
        code = exchange.error_code or exchange.http_status or "none"
        _emit("TsbErrors", MetricUnit.Count, 1, Error=exchange.error, ErrorCode=str(code))
    if exchange.rejected_key:
        _emit("TsbKeysRejected", MetricUnit.Count, 1, Role=exchange.role)


def _emit(name: str, unit: MetricUnit, value: float, **dimensions: str) -> None:
    """One value: for the stack, by each dimension alone, and by all of them together."""
    stack = settings().stack_name
    measured = EphemeralMetrics(namespace=NAMESPACE, service=stack)
    measured.add_metric(name, unit, value)
    sets = [{key: text} for key, text in dimensions.items()]
    if len(dimensions) > 1:
        sets.append(dimensions)
    for one in sets:
        measured.add_dimensions(service=stack, **one)
    measured.flush_metrics()
