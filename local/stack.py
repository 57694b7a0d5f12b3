"""The embedded stack: TSB simulator and MiniStack on loopback, with the real template deployed.

`python -m local.stack up` leaves it running, `show` shows where, and `down` stops it. `local.run`
and the tests start one of their own. Everything started here belongs to a process group that
`stop` ends.
"""

import fcntl
import hashlib
import itertools
import json
import os
import platform
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import psutil
from botocore.config import Config
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from countersign.tsb.client import TsbClient
from countersign.tsb.models import Credentials, Tls
from local import people, surroundings
from local.processes import Recorded, end
from local.surroundings import LOOPBACK

if TYPE_CHECKING:
    from local.approver import Approver

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".stack"
UV = ROOT / ".tools/bin/uv"
BUILDER = ROOT / ".tools/builder/bin"  # a CPython with pip, for SAM; the Makefile makes it
EMULATOR = ROOT / "local/emulator.py"
COUNTERSIGN = ROOT / ".venv/bin/countersign"
DIRECTORY = ROOT / ".aws-sam/build/ProfilesLayer/python/profiles/directory.json"
# The oldest that has all that the functions use, here S3's If-None-Match. Which one a runtime of
# Lambda has depends on the region and the day; docs/operations.md names this one.
OLDEST_BOTO3 = "1.35.2"
LAMBDA_ENVIRONMENT = ROOT / f".tools/lambda-boto3-{OLDEST_BOTO3}"
SAM_VERSION = "1.170.0"
SAM = f"aws-sam-cli=={SAM_VERSION}"
REGION = "eu-central-1"
STACK_NAME = "countersign"
READY_SECONDS = 180  # the first start installs the emulator, too
LISTENER = "countersign-listener"
ENDED = ["SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"]
PAUSE_SECONDS = 0.5  # poll interval for what no event announces
STOPS = (signal.SIGINT, signal.SIGTERM)
# What a shell may have that names another account, another stack or other credentials.
OTHERS = (
    "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN",
    "AWS_CA_BUNDLE", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "COUNTERSIGN_STACK", "COUNTERSIGN_URL",
)  # fmt: skip
# What logs say when this machine lacks something, and the way out.
CAUSES = (
    (
        re.compile("No space left on device|Disk quota exceeded"),
        "the disk is full: free some space",
    ),
    (
        re.compile(
            "Failed to fetch|error sending request|Failed to establish a new connection"
            "|ProxyError|CERTIFICATE_VERIFY_FAILED|invalid peer certificate"
        ),
        "the package index cannot be reached: check the network, HTTPS_PROXY (a proxy), and"
        " SSL_CERT_FILE and PIP_CERT (a company's own CA)",
    ),
)
ARM = ("aarch64", "arm64")
ARCHITECTURE = f"Architecture={'arm64' if platform.machine() in ARM else 'x86_64'}"
# Values for a simulated HSM and quick tests: many keys, calls as fast as tests make them, the
# vendor's own sample bodies with their policy, evidence that is deleted with the emulator, and the
# shortest silence limit.
PARAMETERS = {
    "KeysPerMinute": "1200",
    "FreshStartSeconds": "2",  # the emulator does not scale a Wait with a Timestamp
    "ApiRateLimit": "1000",
    "ApiBurstLimit": "1000",
    "AllowRawPolicy": "true",
    "Dashboard": "true",
    "EvidenceRetentionDays": "0",
    "ProtectTable": "false",
    "SilenceLimitMinutes": "10",
    "WakeAnything": "true",  # the emulator asks for `*`, as AWS's reference says
}

type Step = Callable[[str], AbstractContextManager[None]]


class StackError(Exception):
    """The stack could not be started. The message is for people and says where the log is."""


@contextmanager
def quiet(_: str) -> Iterator[None]:
    """A step without output."""
    yield


class Stack:
    """One embedded stack.

    Args:
        folder: holds logs, temporary files and the state; `stop` wipes it.
        parameters: of the template, if they differ from `PARAMETERS`.
    """

    def __init__(self, folder: Path = FOLDER, **parameters: str) -> None:
        self.folder = folder
        self._parameters = parameters
        self._processes: list[subprocess.Popen[str]] = []
        self.endpoint = ""
        self.emulator_python = ""
        self.tsb_url = ""
        self.control_url = ""
        self.api_keys: dict[str, list[str]] = {}
        self.ca_certificate = Path()
        self.attestation_chain: list[str] = []
        self.outputs: dict[str, str] = {}
        self.people: dict[str, Approver] = {}
        self._events: list[dict[str, Any]] = []
        self._ended: set[str] = set()
        self._arrived = threading.Condition()
        self._listening = threading.Event()
        self._faults = itertools.count()
        self._clients: dict[tuple[str, ...], Any] = {}
        self._making = threading.Lock()
        self._starting = threading.Lock()
        self._stopped = False
        self._claim: IO[str] | None = None

    # Life ------------------------------------------------------------------------------------

    def start(self, step: Step = quiet) -> None:
        """Start everything. If that fails, stop what was started.

        Raises:
            StackError: a part did not start or the deploy failed.
        """
        surroundings.leave()
        self._stopped = False
        try:
            self._claim_folder()
            (self.folder / "tmp").mkdir(exist_ok=True)
            with _building(step):
                self._start_parts(step)
                self._deploy(step)
            with step("put the simulator's credentials into the secrets"):
                self._put_secrets()
            with step("the CA key that profile code-signing names"):
                self._make_ca_key()
            self._listen()
        except OSError as error:
            self.stop()
            where = _shown(Path(error.filename or self.folder))
            raise StackError(f"{where}: {error.strerror}; correct that and run it again") from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process that was started and wipe the temporary files. Idempotent."""
        self._listening.clear()
        with self._starting:
            self._stopped = True
            running, self._processes = self._processes, []
        end([process.pid for process in running])
        if self._claim:
            shutil.rmtree(self.folder / "tmp", ignore_errors=True)
            self._claim.close()
            self._claim = None

    def _claim_folder(self) -> None:
        """Have this folder alone, until `stop` or the end of this process."""
        self.folder.mkdir(exist_ok=True, parents=True)
        claim = (self.folder / "lock").open("w")
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            claim.close()
            raise StackError(
                f"another process uses {_shown(self.folder)}: "
                "wait until it has ended, or use another checkout"
            ) from None
        self._claim = claim

    def _start_parts(self, step: Step) -> None:
        """Start what does not wait for each other. The first failure ends all of them."""
        with ThreadPoolExecutor(3) as pool:
            try:
                begin = (self._start_simulator, self._start_emulator, self.build)
                for part in as_completed([pool.submit(one, step) for one in begin]):
                    part.result()
            except BaseException:
                self.stop()
                raise

    def save(self, **more: str) -> None:
        """Save what runs, and more to show, so that another process can find and stop it."""
        state = {
            "processes": [Recorded.of(pid).dump() for pid in self.pids],
            "endpoint": self.endpoint,
            "tsbUrl": self.tsb_url,
            "controlUrl": self.control_url,
            "apiKeys": self.api_keys,
            "caCertificate": str(self.ca_certificate),
            "outputs": self.outputs,
            **more,
        }
        (self.folder / "stack.json").write_text(json.dumps(state, indent=2))

    # Use -------------------------------------------------------------------------------------

    def client(self, service: str, **credentials: str) -> Any:
        """A boto3 client of the emulator, as root unless other credentials are given.

        Each client is created once: that takes longer than a dozen of its calls.
        """
        require_loopback(self.endpoint)
        keys = credentials or {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        known = (service, self.endpoint, *keys.values())
        with self._making:
            if known not in self._clients:
                self._clients[known] = boto3.client(  # type: ignore[call-overload]
                    service,
                    endpoint_url=self.endpoint,
                    region_name=REGION,
                    config=Config(retries={"total_max_attempts": 2}, max_pool_connections=40),
                    **keys,
                )
            return self._clients[known]

    @property
    def api_url(self) -> str:
        """The URL at which the emulator serves the API that AWS serves at the output `ApiUrl`."""
        url = urlsplit(self.outputs["ApiUrl"])
        api_id = str(url.hostname).partition(".")[0]
        return f"{self.endpoint}/_aws/execute-api/{api_id}{url.path}"

    def serve_api_page(self) -> str:
        """Serve the API's page to a browser; return its URL."""
        command = [sys.executable, "-m", "local.api_page", self.api_url]
        return str(json.loads(self._serve("the API's page", "api-page", command))["url"])

    def serve_approvals_page(self, configuration: Path) -> str:
        """Serve an approver's page; return its address, which is good for one visit."""
        command = [str(COUNTERSIGN), "approvals", "open", "--no-browser"]
        command += ["--config", str(configuration)]
        return self._serve("the approver's page", "approvals-page", command)

    def hand_out_keys(self) -> dict[str, Path]:
        """Write the people's keys and configurations of `countersign approvals`; these by name."""
        return people.hand_out(
            self.people,
            self.folder / "people",
            tsb_url=self.tsb_url,
            ca=self.ca_certificate,
            api_key=self.api_keys["approver"][0],
            signing_key=self.signing_key(),
        )

    def _serve(self, what: str, name: str, command: list[str]) -> str:
        """Start a server; return the first line that it prints."""
        process = self._spawn(name, command, dict(os.environ), stdout=subprocess.PIPE)
        assert process.stdout is not None  # noqa: S101  for the type checker
        line = process.stdout.readline()
        if not line:
            raise self._failed(what, name)
        return line.strip()

    def new_name(self) -> str:
        """A name that no enrollment has yet."""
        return f"e2e-{uuid.uuid4().hex[:12]}"

    def until[T](self, find: Callable[[], T | None], what: str, seconds: float) -> T:
        """What `find` finds, as soon as it does. It is called again whenever an event arrives.

        Raises:
            AssertionError: nothing was found within so many seconds.
        """
        deadline = time.monotonic() + seconds
        while not (found := find()):
            with self._arrived:
                if not self._arrived.wait(PAUSE_SECONDS) and time.monotonic() > deadline:
                    raise AssertionError(f"no {what} within {seconds} s")
        return found

    def has_ended(self, arn: str) -> bool:
        """Whether this execution has ended, according to Step Functions' event."""
        return arn in self._ended

    def history(self, arn: str) -> list[dict[str, Any]]:
        """The events of an execution."""
        pages = self.client("stepfunctions").get_paginator("get_execution_history")
        return [event for page in pages.paginate(executionArn=arn) for event in page["events"]]

    def kill_caller(self, call: dict[str, Any]) -> None:
        """Kill the function that waits for the answer to this call to the TSB."""
        for connection in psutil.net_connections("tcp"):
            if connection.pid and connection.laddr[1:] == (call["clientPort"],):
                process = psutil.Process(connection.pid)
                if "ministack-lambda" in " ".join(process.cmdline()):
                    process.kill()
                    return
        raise AssertionError(f"nobody waits for {call}")

    def control(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call the simulator's control API, for example `("POST", "/clock", {…})`."""
        return _http(method, f"{self.control_url}{path}", body)

    def scale_waits(self, factor: float) -> None:
        """Scale the time of the emulator's Wait states by this factor."""
        _http(
            "POST",
            f"{self.endpoint}/_ministack/config",
            {"stepfunctions._SFN_WAIT_SCALE": factor},
        )

    def strike(self, state: str, enrollment_id: str, **fault: Any) -> Path:
        """Order a fault in the state's function; see `local/worker_faults.py`.

        Returns:
            The file that exists as soon as the fault has happened.
        """
        number = next(self._faults)
        name = f"{state}--{enrollment_id}--{number:06}"
        order = self.folder / "tmp" / f"fault-{number}"
        order.write_text(json.dumps(fault))
        # Rename in one step, so that no worker reads half of the file.
        order.rename(self.folder / "tmp/faults" / name)
        return self.folder / "tmp" / f"{name}.struck"

    @property
    def pids(self) -> list[int]:
        """The simulator and the emulator; the functions' workers are the emulator's children."""
        return [process.pid for process in self._processes]

    def events(self, enrollment_id: str | None = None) -> list[dict[str, Any]]:
        """What the bus has delivered (about an enrollment) so far, oldest first."""
        return [
            event
            for event in self._events
            if enrollment_id in (None, event["detail"].get("enrollmentId"))
        ]

    def signing_key(self) -> bytes:
        """The public key (PEM) of the stack, as KMS returns it to permitted callers."""
        key = self.outputs["SigningKeyArn"]
        public = load_der_public_key(self.client("kms").get_public_key(KeyId=key)["PublicKey"])
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def evidence(self, enrollment_id: str, execution_arn: str) -> dict[str, bytes]:
        """The evidence folder of an ended enrollment as it is now; complete once it is signed."""
        s3, bucket = self.client("s3"), self.outputs["EvidenceBucketName"]
        prefix = f"{enrollment_id}/{execution_arn.rpartition(':')[2]}/"
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        return {
            one["Key"].removeprefix(prefix): s3.get_object(Bucket=bucket, Key=one["Key"])[
                "Body"
            ].read()
            for one in listed
        }

    # Parts -----------------------------------------------------------------------------------

    def _start_simulator(self, step: Step) -> None:
        with step("TSB simulator"):
            process = self._spawn(
                "simulator",
                [sys.executable, "-m", "local.tsb_simulator", "--port", "0"],
                dict(os.environ),
                stdout=subprocess.PIPE,
            )
            assert process.stdout is not None  # noqa: S101  for the type checker
            line = process.stdout.readline()
            if not line:
                raise self._failed("TSB simulator", "simulator")
            said = json.loads(line)
            self.tsb_url, self.control_url = said["url"], said["controlUrl"]
            self.api_keys, self.ca_certificate = said["apiKeys"], Path(said["caCertificate"])

    def _start_emulator(self, step: Step) -> None:
        with step("MiniStack (AWS emulator)"):
            self._make_lambda_environment()
            self._make_emulator_environment()
            port = _free_port()
            self.endpoint = f"http://127.0.0.1:{port}"
            # Functions inherit the emulator's environment, so the emulator gets a clean one.
            environment = {
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder / "tmp"),
                "TMPDIR": str(self.folder / "tmp"),
                **surroundings.NO_AWS_FILES,
                "GATEWAY_PORT": str(port),
                "AWS_DEFAULT_REGION": REGION,
                "LAMBDA_PYTHON": str(LAMBDA_ENVIRONMENT / "bin/python"),
            }
            process = self._spawn("emulator", [self.emulator_python, str(EMULATOR)], environment)
            deadline = time.monotonic() + READY_SECONDS
            while time.monotonic() < deadline:
                if process.poll() is not None:
                    break
                with suppress(OSError, ValueError):
                    _http("GET", f"{self.endpoint}/_ministack/health")
                    return
                time.sleep(0.1)
            raise self._failed("MiniStack", "emulator")

    def _make_lambda_environment(self) -> None:
        complete = LAMBDA_ENVIRONMENT / "complete"  # an interrupted start leaves half of it
        if not complete.exists():
            install = ["pip", "install", "--quiet", "--python", str(LAMBDA_ENVIRONMENT)]
            oldest = [f"{name}=={OLDEST_BOTO3}" for name in ("boto3", "botocore")]
            for command in (
                ["venv", "--quiet", "--clear", str(LAMBDA_ENVIRONMENT)],
                [*install, *oldest],
            ):
                self._run("emulator", [str(UV), *command], "preparing the functions' interpreter")
            complete.touch()

    def _make_emulator_environment(self) -> None:
        """Install the emulator's own environment from its lock file.

        This happens before the emulator starts: settings for the package index (proxies, CAs) may
        be in our environment, but must not be in the emulator's.
        """
        script = ["--script", str(EMULATOR)]
        doing = "preparing the emulator's interpreter"
        self._run("emulator", [str(UV), "sync", "--quiet", "--locked", *script], doing)
        find = [str(UV), "python", "find", *script]
        found = subprocess.run(find, cwd=ROOT, capture_output=True, text=True, check=True)
        self.emulator_python = found.stdout.strip()

    def build(self, step: Step, folder: Path = ROOT) -> None:
        """Build what is deployed, for this machine's architecture."""
        self.folder.mkdir(exist_ok=True, parents=True)  # its log is there; nothing else may run
        with step("sam build"):
            self._fetch_sam()
            # The layers' wheels depend on the architecture.
            command = sam("build", "--config-env", "local", "--parameter-overrides", ARCHITECTURE)
            self._run("sam-build", command, "sam build", folder)
            compile_ = [sys.executable, "-m", "local.bytecode"]
            if folder == ROOT:
                self._run("sam-build", compile_, "compiling what was built")
                # Use our own people: nobody has the private keys of the shipped directory.
                self.people = people.move_in(DIRECTORY)

    def _fetch_sam(self) -> None:
        """Have uv keep SAM; it then needs no index, which it would ask again every ten minutes."""
        nothing = ["--from", SAM, "python", "-c", ""]
        run = [str(UV), "tool", "run"]
        if subprocess.run(
            [*run, "--offline", *nothing], capture_output=True, check=False
        ).returncode:
            self._run("sam-build", [*run, *nothing], "fetching SAM")

    def _deploy(self, step: Step, folder: Path = ROOT) -> None:
        with step("sam deploy"):
            self.attestation_chain = self.control("GET", "/attestation")["chain"]
            root = ssl.PEM_cert_to_DER_cert(self.attestation_chain[-1])
            given = {
                "TsbUrl": self.tsb_url,
                "AttestationRoot": hashlib.sha256(root).hexdigest(),
                **PARAMETERS,
                **self._parameters,
            }
            overrides = [ARCHITECTURE, *(f"{name}={value}" for name, value in given.items())]
            command = [
                *sam("deploy", "--config-env", "local", "--no-progressbar"),
                *("--parameter-overrides", *overrides),
            ]
            self._run("sam-deploy", command, "sam deploy", folder)
            stacks = self.client("cloudformation").describe_stacks(StackName=STACK_NAME)["Stacks"]
            self.outputs = {one["OutputKey"]: one["OutputValue"] for one in stacks[0]["Outputs"]}

    def release(self, folder: Path) -> None:
        """Build and deploy the project in `folder` over the running stack, like a next release."""
        self.build(quiet, folder)
        self._deploy(quiet, folder)

    def _put_secrets(self) -> None:
        secrets = self.client("secretsmanager")
        values: dict[str, dict[str, Any]] = {
            f"{role[0].upper()}{role[1:]}SecretArn": {
                "apiKeys": self.api_keys[role],
                "bearerToken": None,
            }
            for role in ("keyManagement", "keyOperation", "service")
        }
        values["ClientTlsSecretArn"] = {
            "caBundle": self.ca_certificate.read_text(),
            "certificate": None,
            "privateKey": None,
            "attestationChain": "".join(self.attestation_chain),
        }
        for output, value in values.items():
            secrets.put_secret_value(SecretId=self.outputs[output], SecretString=json.dumps(value))

    def _make_ca_key(self) -> None:
        tsb = TsbClient(
            self.tsb_url,
            credentials=lambda role: Credentials(api_keys=tuple(self.api_keys[role])),
            tls=Tls(ca_bundle=self.ca_certificate.read_text()),
        )
        with tsb:
            people.make_ca_key(tsb, self.people)

    def _listen(self) -> None:
        """Receive the bus's events, like a target of the user's own, and the ends of executions."""
        queues, events = self.client("sqs"), self.client("events")
        url = queues.create_queue(QueueName=LISTENER)["QueueUrl"]
        attributes = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        target = {"Id": LISTENER, "Arn": attributes["Attributes"]["QueueArn"]}
        for bus, pattern in (
            (self.outputs["BusName"], {"source": ["countersign"]}),
            ("default", {"source": ["aws.states"], "detail": {"status": ENDED}}),
        ):
            events.put_rule(Name=LISTENER, EventBusName=bus, EventPattern=json.dumps(pattern))
            events.put_targets(Rule=LISTENER, EventBusName=bus, Targets=[target])
        self._listening.set()
        threading.Thread(target=self._receive, args=(queues, url), daemon=True).start()

    def _receive(self, queues: Any, url: str) -> None:
        while self._listening.is_set():
            try:
                answer = queues.receive_message(
                    QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1
                )
                messages = answer.get("Messages", [])
                for message in messages:
                    self._note(json.loads(message["Body"]))
                    queues.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            except Exception:
                if self._listening.is_set():
                    raise
            else:
                if messages:
                    with self._arrived:
                        self._arrived.notify_all()

    def _note(self, event: dict[str, Any]) -> None:
        if event["source"] == "aws.states":
            self._ended.add(event["detail"]["executionArn"])
        else:
            self._events.append(event)

    # Processes -------------------------------------------------------------------------------

    def _spawn(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        *,
        stdout: int | None = None,
        folder: Path = ROOT,
    ) -> "subprocess.Popen[str]":
        with (self.folder / f"{name}.log").open("w") as log, self._starting:
            if self._stopped:
                raise StackError("stopped")
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout or log,
                stderr=log,
                text=True,
                start_new_session=True,
            )
            self._processes.append(process)
        return process

    def _run(self, name: str, command: list[str], doing: str, folder: Path = ROOT) -> None:
        environment = {
            **surroundings.neutral(os.environ),
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "SAM_CLI_TELEMETRY": "0",
            "__SAM_CLI_APP_DIR": str(self.folder / "tmp"),  # otherwise in HOME
        }
        process = self._spawn(name, command, environment, folder=folder)
        status = process.wait()
        with self._starting, suppress(ValueError):  # `stop` has taken all
            self._processes.remove(process)
        if status:
            raise self._failed(doing, name)

    def _failed(self, doing: str, name: str) -> StackError:
        log = self.folder / f"{name}.log"
        said = log.read_text(errors="replace")
        for pattern, cause in CAUSES:
            if pattern.search(said):
                return StackError(f"{doing} failed, {cause}, and run it again ({_shown(log)})")
        tail = "\n".join(said.splitlines()[-15:])
        return StackError(f"{doing} failed; {_shown(log)} ends with:\n{tail}")


def stop_once() -> None:
    """Let the first Ctrl-C or SIGTERM raise KeyboardInterrupt and the next ones do nothing.

    A terminal signals the whole group, and uv forwards the signal: the second one would interrupt
    the cleanup.
    """

    def stop(*_: object) -> None:
        for ignored in STOPS:
            signal.signal(ignored, signal.SIG_IGN)
        raise KeyboardInterrupt

    for awaited in STOPS:
        signal.signal(awaited, stop)


def sam(*arguments: str) -> list[str]:
    """The command line of the pinned SAM."""
    path = f"PATH={BUILDER}{os.pathsep}{os.environ['PATH']}"
    return ["env", path, str(UV), "tool", "run", "--offline", "--from", SAM, "sam", *arguments]


@contextmanager
def _building(step: Step) -> Iterator[None]:
    """Have .aws-sam alone, which all stacks of this checkout build into and deploy from."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step("waiting: another stack of this checkout is being deployed"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def require_loopback(endpoint: str) -> None:
    """Refuse to use anything but this machine.

    Raises:
        StackError: the endpoint is not on this machine.
    """
    if urlsplit(endpoint).hostname not in LOOPBACK:
        raise StackError(f"{endpoint or 'no endpoint'} is not on this machine's loopback address")


def _shown(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _http(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    require_loopback(url)
    request = urllib.request.Request(  # noqa: S310  loopback only
        url,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        text = answer.read()
    return json.loads(text) if text else None


def _up() -> None:
    from local.terminal import steps, table  # noqa: PLC0415  only people need rich

    if _running():
        raise StackError("a stack is running already; stop it with: make down")
    stack = Stack()
    with steps() as step:
        stack.start(step)
        try:
            with step("the pages of the API and of an approver"):
                page = stack.serve_api_page()
                configurations = stack.hand_out_keys()
                reader, configuration = next(iter(configurations.items()))
                approvals_page = stack.serve_approvals_page(configuration)
                environment = _environment(stack, configuration)
        except BaseException:
            stack.stop()
            raise
    stack.save(apiUrl=stack.api_url, apiPage=page, approvalsPage=approvals_page)
    table(
        f"the tour: you ask, and decide as {reader}",
        {
            "ask": f". {_shown(environment)} && countersign submit events/tour.json",
            "decide": "countersign approvals approve tour",
            "or on a page": f"{approvals_page}",
            "get the CSR": "countersign status tour --watch && countersign csr tour",
            "stop": "make down   (everything else: make show)",
        },
    )


def _show() -> None:
    from local.terminal import table  # noqa: PLC0415  only people need rich

    if not _running():
        raise StackError("no stack is running; start it with: make up")
    state = json.loads((FOLDER / "stack.json").read_text())
    table(
        "the embedded stack",
        {
            "AWS endpoint": state["endpoint"],
            "TSB": state["tsbUrl"],
            "TSB's control side": state["controlUrl"],
            **state["outputs"],
            "ApiUrl": state["apiUrl"],
            "API, to read and to try": state["apiPage"],
            "an approver's page": f"{state['approvalsPage']}  (good for one visit)",
            "for aws and sam too": f". {_shown(FOLDER / 'env')}",
            "everybody's keys": str(_shown(FOLDER / "people")),
        },
    )


def _environment(stack: Stack, configuration: Path) -> Path:
    """A file that a shell reads (`. FILE`): this stack, and who decides in the tour."""
    file = stack.folder / "env"
    values = {
        "AWS_ENDPOINT_URL": stack.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "COUNTERSIGN_APPROVER": str(configuration),
    }
    values |= surroundings.NO_AWS_FILES | surroundings.past_proxies(os.environ)
    lines = [f"unset {' '.join(OTHERS)}"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    path = shlex.quote(str(COUNTERSIGN.parent))
    file.write_text("\n".join([*lines, f'export PATH={path}:"$PATH"', ""]))
    return file


def _running() -> list[Recorded]:
    """Of the processes on record those that still run; numbers may be others' by now."""
    state = FOLDER / "stack.json"
    if not state.exists():
        return []
    recorded = [Recorded(**one) for one in json.loads(state.read_text()).get("processes", ())]
    return [one for one in recorded if one.runs]


def _down() -> None:
    running = _running()
    end([one.pid for one in running])
    # Not the whole folder: what runs beside it has its own in there.
    for name in ("stack.json", "env"):
        (FOLDER / name).unlink(missing_ok=True)
    for name in ("tmp", "people"):
        shutil.rmtree(FOLDER / name, ignore_errors=True)
    print("stopped" if running else "no stack is running")


def main() -> int:
    """Run `up`, `show` or `down`; return 1 if that failed."""
    commands = {"up": _up, "show": _show, "down": _down}
    if sys.argv[1:] not in [[name] for name in commands]:
        print(f"usage: python -m local.stack {'|'.join(commands)}", file=sys.stderr)
        return 2
    stop_once()
    try:
        commands[sys.argv[1]]()
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; everything was stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
