"""`python -m local.tsb_simulator`: one JSON line when it listens, then it serves until stopped."""

from __future__ import annotations

import argparse
import json
import socket
import ssl
import sys
import tempfile
import threading
from pathlib import Path

import uvicorn
from pydantic import ValidationError

from local.tsb_simulator import control, switches
from local.tsb_simulator.server import Application, make_certificates, send_alerts
from local.tsb_simulator.simulator import Simulator


def main() -> int:
    """Serve; 2 where the arguments make no sense."""
    arguments = _arguments()
    chosen = switches.Switches()
    try:
        assigned = dict(switches.parse_assignment(text) for text in arguments.switch)
        switches.change(chosen, assigned)
    except (ValueError, ValidationError) as error:
        print(f"--switch: {error}", file=sys.stderr)
        return 2
    simulator = Simulator(chosen)
    with tempfile.TemporaryDirectory(prefix="tsb-simulator-") as folder:
        ca, certificate, key = make_certificates(Path(folder), arguments.host)
        listener = socket.create_server((arguments.host, arguments.port), backlog=256)
        scheme = "http" if arguments.no_tls else "https"
        address = f"{arguments.host}:{listener.getsockname()[1]}"
        # The control side has no secrets to protect and is used by tools without our CA.
        apart = socket.create_server(("127.0.0.1", 0), backlog=256)
        config = {
            "log_level": "warning",
            "access_log": False,
            "lifespan": "off",
            "timeout_graceful_shutdown": 1,
        }
        tls = {} if arguments.no_tls else {"ssl_certfile": certificate, "ssl_keyfile": key}
        listening = uvicorn.Config(Application(simulator), **config, **tls)  # type: ignore[arg-type]
        if not arguments.no_tls:
            listening.load()
            _demand_certificates(listening, arguments.client_ca, arguments.client_crl)
        said = {
            "url": f"{scheme}://{address}",
            "controlUrl": f"http://127.0.0.1:{apart.getsockname()[1]}{control.PREFIX}",
            "apiKeys": simulator.api_keys,
            "caCertificate": str(ca),
        }
        print(json.dumps(said), flush=True)
        _serve(
            uvicorn.Server(listening),
            listener,
            uvicorn.Server(uvicorn.Config(Application(simulator, controls=True), **config)),  # type: ignore[arg-type]
            apart,
        )
    return 0


def _demand_certificates(config: uvicorn.Config, ca: Path | None, crl: Path | None) -> None:
    """Let TLS clients prove who they are: with a certificate by this CA that is not revoked."""
    if ca is None:
        return
    assert config.ssl is not None  # noqa: S101  for the type checker
    send_alerts()
    config.ssl.load_verify_locations(ca)
    config.ssl.verify_mode = ssl.CERT_REQUIRED
    if crl is not None:
        config.ssl.load_verify_locations(crl)
        config.ssl.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _serve(
    server: uvicorn.Server, listener: socket.socket, side: uvicorn.Server, apart: socket.socket
) -> None:
    side.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    thread = threading.Thread(target=side.run, args=([apart],), daemon=True)
    thread.start()
    server.run([listener])
    side.should_exit = True


def _arguments() -> argparse.Namespace:
    listed = "\n".join(
        f"  {name} (default {json.dumps(one['default'])})\n      {one['description']}"
        for name, one in switches.described().items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m local.tsb_simulator",
        description="A Transaction Security Broker to develop and test against.",
        epilog=f"switches, for what TSB's documents leave open:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port; 0 takes a free one")
    parser.add_argument("--no-tls", action="store_true", help="plain HTTP")
    parser.add_argument(
        "--client-ca", type=Path, help="PEM: ask for client certificates by this CA (mutual TLS)"
    )
    parser.add_argument("--client-crl", type=Path, help="PEM: that CA's list of revoked ones")
    parser.add_argument(
        "--switch", action="append", default=[], metavar="NAME=VALUE", help="set a switch"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
