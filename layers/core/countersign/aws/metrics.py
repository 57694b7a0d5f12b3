"""Metrics in CloudWatch's embedded metric format: a line in the log, no call to a service.

Names and dimensions are those that the alarms and the dashboard of `template.yaml` read. `service`
is the stack. Importing costs nothing: `aws_lambda_powertools` loads its metrics with its Logger.
"""

from datetime import UTC, datetime, timedelta

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from countersign.models import OutcomeDocument
from countersign.record import Record, last_step, step_of
from countersign.settings import settings
from countersign.stores import Run, Sighting
from countersign.tsb.models import Exchange

NAMESPACE = "Countersign"
SOON_DAYS = 60  # twice the threshold of CertificateExpiringAlarm


def tsb_call(exchange: Exchange) -> None:
    """One call to the TSB: how long it took, and its error by name and code."""
    _emit("TsbLatency", MetricUnit.Milliseconds, exchange.milliseconds, Endpoint=exchange.endpoint)
    tsb_fault(exchange)


def tsb_fault(exchange: Exchange) -> None:
    """What went wrong in one call to the TSB, by name and code; nothing where nothing did."""
    if exchange.error is not None:
        code = exchange.error_code or exchange.http_status or "none"
        _emit("TsbErrors", MetricUnit.Count, 1, Error=exchange.error, ErrorCode=str(code))
    if exchange.rejected_key:
        _emit("TsbKeysRejected", MetricUnit.Count, 1, Role=exchange.role)


def credentials_refused() -> None:
    """TSB accepts none of our credentials, or there are none to send."""
    _emit("TsbCredentialsRefused", MetricUnit.Count, 1)


def clock_skew(seconds: int) -> None:
    """How far the HSM's clock is off, ahead or behind: the log line says which."""
    way = "ahead" if seconds > 0 else "behind"
    _emit("ClockSkew", MetricUnit.Seconds, abs(seconds), about={"clock": way})


def closed(document: OutcomeDocument, record: Record) -> None:
    """An enrollment that has just been announced: its outcome, and how long people and we took."""
    _emit("Enrollments", MetricUnit.Count, 1, Outcome=str(document.outcome))
    if document.error is not None:
        _emit("EnrollmentFailures", MetricUnit.Count, 1, Error=document.error.name)
    times: dict[str, str | None] = {
        name: text
        for name, text in (
            *record.get("times", {}).items(),
            *step_of(record, last_step(record)).get("times", {}).items(),
        )
        if isinstance(text, str)
    }
    moments = {name: datetime.fromisoformat(text) for name, text in times.items() if text}
    if "executed" in moments:  # by TSB's clock; all other times are ours
        moments["executed"] -= timedelta(seconds=int(record.get("clockSkewSeconds", 0)))
    for name, begins, ends in (
        ("TimeToQuorum", "requested", "executed"),
        ("ExecutedToIssued", "executed", "ended"),
    ):
        if begins in moments and ends in moments:
            took = moments[ends] - moments[begins]
            _emit(name, MetricUnit.Seconds, max(took.total_seconds(), 0))


def undelivered(reason: str, about: dict[str, str]) -> None:
    """A mail that somebody does not get: why as a code; whose, of what, in the log line only."""
    _emit("MailsUndelivered", MetricUnit.Count, 1, about=about, Reason=reason)


def evidence_conflict() -> None:
    """What an event, the table and the buckets say of an ended enrollment contradicts itself."""
    _emit("EvidenceConflicts", MetricUnit.Count, 1)


def sighting(seen: Sighting) -> None:
    """What `watch_enrollments` found.

    Only Pending is emitted for ever, as the sign of life that an alarm misses. The others have a
    value, 0 too, while something is pending: a metric costs by the hour in which it is emitted.
    """
    _emit("Pending", MetricUnit.Count, seen.pending)
    if not seen.pending:
        return
    _emit("OldestPending", MetricUnit.Seconds, seen.oldest_seconds)
    for name, found in (("Overdue", seen.overdue), ("WaitsMissing", seen.unattended)):
        _emit(name, MetricUnit.Count, 0)
        for enrollment_id, why in found.items():
            _emit(name, MetricUnit.Count, 1, about={"enrollment_id": enrollment_id, "why": why})
    expiring(seen.expiring_days)


def expiring(days_left: dict[str, float]) -> None:
    """Certificates that are about to expire; others would cost a metric each, all year."""
    for name, days in days_left.items():
        if days < SOON_DAYS:
            _emit("CertificateDaysLeft", MetricUnit.Count, days, Certificate=name)


def woken(run: Run) -> None:
    """What one run of the watch over the open requests found; nothing where none is open."""
    if not run.open:
        return
    silent = 0.0
    if run.silent_since is not None:
        silent = (datetime.now(UTC) - datetime.fromisoformat(run.silent_since)).total_seconds()
    about = {"open": str(run.open), "woken": str(run.woken), "failed": str(run.failed)}
    _emit("TsbSilent", MetricUnit.Seconds, silent, about=about)
    _emit("LongestUnseen", MetricUnit.Seconds, run.longest_unseen_seconds)


def _emit(
    name: str,
    unit: MetricUnit,
    value: float,
    *,
    about: dict[str, str] | None = None,
    **dimensions: str,
) -> None:
    """One value: for the stack, for each dimension alone, and for all of them together.

    `about` is in the log line only, for searches.
    """
    stack = settings().stack_name
    measured = EphemeralMetrics(namespace=NAMESPACE, service=stack)
    measured.add_metric(name, unit, value)
    sets = [{key: text} for key, text in dimensions.items()]
    if len(dimensions) > 1:
        sets.append(dimensions)
    for one in sets:
        measured.add_dimensions(service=stack, **one)
    for key, text in (about or {}).items():
        measured.add_metadata(key, text)
    measured.flush_metrics()
