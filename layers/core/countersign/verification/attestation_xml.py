"""The XML in which the HSM attests a key, read within bounds.

Source: recorded attestations of a TSB of 2024; TSB documentation, signed key attributes.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from xml.etree import ElementTree  # nosec B405

from countersign import clocks
from countersign.policy.rules import RULES
from countersign.verification import echo
from countersign.verification.echo import Echo

MAX_CHARACTERS = 4 * 1024 * 1024  # a policy with a thousand approvers is a third of it
MAX_DEPTH = 16  # a recorded one has 7
MAX_DIGITS = 13  # of a number: what is longer is none
ROOT = "private_key"
BLANKS = " \t\r\n"  # of XML; other characters that look like blanks are text


class Attested(NamedTuple):
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
    created: datetime | None
    at: datetime | None
    uses: str
    attributes: Mapping[str, str]
    policy: Echo | None


@lru_cache(maxsize=4)  # the key's and the CA's, at first and in the end; each comparison reads it
def read(xml: str) -> Attested:
    """What an attestation says. The only place where XML is read.

    Raises:
        ValueError: it cannot be read; says why, and never quotes it.
    """
    if len(xml) > MAX_CHARACTERS:
        raise ValueError("is too large")
    root = _parsed(xml)
    if root.tag != plain(ROOT):
        raise ValueError(f"is about something else than a {ROOT}")
    try:
        found = _only(root, "policy")
        policy = None if found is None else echo.read(_policy(found))
    except ValueError as error:
        raise ValueError(f"has a policy that cannot be read: {error}") from None
    _only(root, "attributes")
    attributes: dict[str, str] = {}
    for one in root.iterfind("attributes/*"):
        if one.tag in attributes:
            raise ValueError("says an attribute twice")
        attributes[one.tag] = _text_of(one).lower()
    return Attested(
        label=_text(root, "label"),
        algorithm=_text(root, "algorithm"),
        public_key="".join(_text(root, "public_key").split()),
        key_size=_text(root, "key_size"),
        curve_oid=_text(root, "curve_oid"),
        creation=root.get("creation", "").strip(BLANKS),
        created=_moment(_text(root, "create_time")),
        at=_moment(_text(root, "attest_time")),
        uses=_text(root, "key_use_count"),
        attributes=attributes,
        policy=policy,
    )


def plain(name: str) -> str:
    """The name of an attribute as it is compared: the XML has `_` where JSON has capitals."""
    return name.replace("_", "").lower()


class _Bounded(ElementTree.TreeBuilder):
    """Refuses a document type before any entity can be expanded, and elements too deep inside.

    Names are `plain`, so that nothing is overlooked because it is spelled otherwise.
    """

    depth = 0

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002
        raise ValueError("has a document type definition")

    def start(self, tag: Any, attrs: Any) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError("is nested too deeply")
        if any("}" in name for name in (tag, *attrs)):
            raise ValueError("has names of another namespace")
        named = {plain(name): value for name, value in attrs.items()}
        if len(named) < len(attrs):
            raise ValueError("says an XML attribute twice")
        return super().start(plain(tag), named)

    def end(self, tag: Any) -> Any:
        self.depth -= 1
        return super().end(plain(tag))


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
    for one in root.iter():
        beside = [one.text if len(one) else None, *(inner.tail for inner in one)]
        if any((text or "").strip(BLANKS) for text in beside):
            raise ValueError("has text beside elements")
    return root


def _only(parent: ElementTree.Element, name: str) -> ElementTree.Element | None:
    """The element of this name; of two nobody knows which one counts."""
    found = parent.findall(plain(name))
    if len(found) > 1:
        raise ValueError(f"says {name} twice")
    return found[0] if found else None


def _text(parent: ElementTree.Element, name: str) -> str:
    found = _only(parent, name)
    return _text_of(found) if found is not None else ""


def _text_of(element: ElementTree.Element) -> str:
    """The text of an element that has nothing else."""
    if len(element) or element.attrib:
        raise ValueError("has more than a text where a text is expected")
    return (element.text or "").strip(BLANKS)


def _moment(text: str) -> datetime | None:
    try:
        return clocks.read(text)
    except ValueError:
        return None


def _policy(element: ElementTree.Element) -> dict[str, Any]:
    """The policy in the form of TSB's JSON."""
    status = _only(element, "key_status")
    blocked = _of(status, "blocked").lower() if status is not None else ""
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
        "value": _text(element, "value") or (element.text or "").strip(BLANKS),
    }


def _of(element: ElementTree.Element, name: str) -> str:
    """A value, which stands in an XML attribute or in an element."""
    inside = _only(element, name) is not None
    if inside and name in element.attrib:
        raise ValueError(f"says {name} twice")
    return _text(element, name) if inside else element.get(name, "").strip(BLANKS)


def _number(element: ElementTree.Element, name: str) -> int | None:
    text = _of(element, name)
    usable = len(text) <= MAX_DIGITS and text.isascii() and text.isdecimal()
    return int(text) if usable else None
