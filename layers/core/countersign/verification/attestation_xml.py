"""The XML in which the HSM attests a key, read within bounds.

Source: recorded attestations of a TSB of 2024; TSB documentation, signed key attributes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from xml.etree import ElementTree  # nosec B405

from countersign import clocks
from countersign.policy.rules import RULES
from countersign.verification import echo
from countersign.verification.echo import Echo

MAX_CHARACTERS = 4 * 1024 * 1024  # a policy with a thousand approvers is a third of it
MAX_DEPTH = 16  # a recorded one has 7
MAX_DIGITS = 13  # of a number: what is longer is none
ROOT = "private_key"


@dataclass(frozen=True)
class Attested:
    """What the HSM attests about a key. What it does not say is empty.

    Args:
        label, algorithm, public_key, key_size, curve_oid: as texts without blanks around them; the
            key without any.
        creation: how the key came into being.
        at: when it was attested, UTC; None if no time is said.
        attributes: the key's, by their names without `_` in small letters.
        policy: see `Echo`; None if the key has none.
    """

    label: str
    algorithm: str
    public_key: str
    key_size: str
    curve_oid: str
    creation: str
    at: datetime | None
    attributes: Mapping[str, str]
    policy: Echo | None


def read(xml: str) -> Attested:
    """What an attestation says. The only place where XML is read.

    Raises:
        ValueError: it cannot be read; says why, and never quotes it.
    """
    if len(xml) > MAX_CHARACTERS:
        raise ValueError("is too large")
    root = _parsed(xml)
    if root.tag != ROOT:
        raise ValueError(f"is about something else than a {ROOT}")
    try:
        found = _only(root, "policy")
        policy = None if found is None else echo.read(_policy(found))
    except ValueError as error:
        raise ValueError(f"has a policy that cannot be read: {error}") from None
    _only(root, "attributes")
    attributes: dict[str, str] = {}
    for one in root.iterfind("attributes/*"):
        name = plain(one.tag)
        if name in attributes:
            raise ValueError("says an attribute twice")
        attributes[name] = (one.text or "").strip().lower()
    return Attested(
        label=_text(root, "label"),
        algorithm=_text(root, "algorithm"),
        public_key="".join(_text(root, "public_key").split()),
        key_size=_text(root, "key_size"),
        curve_oid=_text(root, "curve_oid"),
        creation=(root.get("creation") or "").strip(),
        at=_moment(_text(root, "attest_time")),
        attributes=attributes,
        policy=policy,
    )


def plain(name: str) -> str:
    """The name of an attribute as it is compared: the XML has `_` where JSON has capitals."""
    return name.replace("_", "").lower()


class _Bounded(ElementTree.TreeBuilder):
    """Refuses a document type before any entity can be expanded, and elements too deep inside."""

    depth = 0

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002
        raise ValueError("has a document type definition")

    def start(self, tag: Any, attrs: Any) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError("is nested too deeply")
        return super().start(tag, attrs)

    def end(self, tag: Any) -> Any:
        self.depth -= 1
        return super().end(tag)


def _parsed(xml: str) -> ElementTree.Element:
    parser = ElementTree.XMLParser(target=_Bounded())  # noqa: S314  refuses DTDs  # nosec B314
    try:
        parser.feed(xml)
        root = parser.close()
    except UnicodeError:
        raise ValueError("is no text") from None
    except ValueError:
        raise  # of _Bounded
    except Exception:  # noqa: BLE001  whatever the parser makes of a text from outside
        raise ValueError("is no XML") from None
    if not isinstance(root, ElementTree.Element):
        raise ValueError("is no XML")  # noqa: TRY004  a value from outside
    return root


def _only(parent: ElementTree.Element, name: str) -> ElementTree.Element | None:
    """The element of this name; of two nobody knows which one counts."""
    found = parent.findall(name)
    if len(found) > 1:
        raise ValueError(f"says {name} twice")
    return found[0] if found else None


def _text(parent: ElementTree.Element, name: str) -> str:
    found = _only(parent, name)
    return (found.text or "").strip() if found is not None else ""


def _moment(text: str) -> datetime | None:
    try:
        return clocks.read(text)
    except ValueError:
        return None


def _policy(element: ElementTree.Element) -> dict[str, Any]:
    """The policy in the form of TSB's JSON."""
    status = _only(element, "key_status")
    blocked = _text(status, "blocked").lower() if status is not None else ""
    return {
        "keyStatus": {"blocked": {"true": True, "false": False}.get(blocked)},
        **{name: _rule(_only(element, tag)) for name, tag in RULES.items()},
    }


def _rule(element: ElementTree.Element | None) -> dict[str, Any] | None:
    if element is None:
        return None
    return {
        "tokens": [
            {
                "timelock": _number(token, "timelock"),
                "timeout": _number(token, "timeout"),
                "groups": [
                    {
                        "quorum": _number(group, "quorum"),
                        "approvals": [_approval(one) for one in group.iterfind("approval")],
                    }
                    for group in token.iterfind("group")
                ],
            }
            for token in element.iterfind("token")
        ]
    }


def _approval(element: ElementTree.Element) -> dict[str, Any]:
    return {
        "type": _of(element, "type"),
        "name": _of(element, "name"),
        "value": _text(element, "value") or (element.text or "").strip(),
    }


def _of(element: ElementTree.Element, name: str) -> str:
    """A value, which stands in an XML attribute or in an element."""
    return (element.get(name) or "").strip() or _text(element, name)


def _number(element: ElementTree.Element, name: str) -> int | None:
    text = _of(element, name)
    usable = len(text) <= MAX_DIGITS and text.isascii() and text.isdecimal()
    return int(text) if usable else None
