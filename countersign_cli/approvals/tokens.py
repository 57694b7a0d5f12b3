"""An approver's key on a PKCS #11 token: a smart card, a USB key, an HSM of one's own.

Source: PKCS #11 2.40; python-pkcs11.
"""

import base64
import hashlib
from typing import Any

import pkcs11
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass, exceptions
from pkcs11.util.ec import encode_ec_public_key, encode_ecdsa_signature

from countersign import der
from countersign.policy import approver_keys
from countersign_cli.approvals.keys import Ask, Key
from countersign_cli.approvals.settings import TokenPart
from countersign_cli.exits import CommandError, Exit
from countersign_cli.signer import DER

ED25519_BYTES = 32
# What a module says, for people; everything else is told by its name.
REASONS = {
    exceptions.PinIncorrect: ("the PIN is wrong", "Try again; a few wrong ones lock the token."),
    exceptions.PinLenRange: ("the PIN has a wrong length", "Try again."),
    exceptions.PinLocked: (
        "the token is locked: its PIN was wrong too often",
        "Unlock it with its PUK or by its administrator. Nobody else can.",
    ),
    exceptions.PinExpired: ("the PIN has expired", "Set another with the token's own program."),
    exceptions.UserPinNotInitialized: (
        "the token has no PIN yet",
        "Initialize it with the token's own program.",
    ),
    exceptions.TokenNotPresent: ("the token is not plugged in", "Plug it in and try again."),
    exceptions.DeviceRemoved: ("the token was removed", "Plug it in and start again."),
    exceptions.SessionHandleInvalid: ("the token was removed", "Plug it in and start again."),
}


def read(place: TokenPart, ask: Ask) -> Key:
    """The key on a token. The session stays open as long as this process.

    Args:
        place: the module, the token, the key on it.
        ask: for the PIN.

    Raises:
        CommandError: module, token or key are not there, or not the only ones; the PIN is refused.
    """
    token = _token(place)
    try:
        session = _session(token, ask(f"PIN of token {place.label}"))
        private = _private_key(session, place)
        public = _public_key(session, private)
        certificate = _certificate(session, private, public)
    except pkcs11.PKCS11Error as error:
        raise _refused(error) from None
    spki = base64.b64encode(public.public_bytes(*DER)).decode()
    if fault := approver_keys.unfit("public_key", spki):
        raise _unusable(f"the key on the token {fault}", "Have another one made for you.")

    def sign(content: bytes) -> str:
        try:
            return base64.b64encode(_signature(private, content)).decode()
        except pkcs11.PKCS11Error as error:
            raise _refused(error) from None

    return Key(spki, sign, certificate)


def _session(token: Any, pin: str) -> Any:
    try:
        return token.open(user_pin=pin)
    except exceptions.UserAlreadyLoggedIn:  # this process was, for an answer that was corrected
        return token.open()


def _token(place: TokenPart) -> Any:
    try:
        module = pkcs11.lib(place.module)
    except pkcs11.PKCS11Error as error:
        raise _unusable(
            f"{place.module} is no PKCS #11 module: {error}",
            "Install the token's driver, and give the path of its library.",
        ) from None
    try:
        every = [one for one in module.get_tokens() if one.label]
        found = [
            one
            for one in every
            if one.label == place.label and place.serial in (None, _serial(one))
        ]
    except pkcs11.PKCS11Error as error:
        raise _refused(error) from None
    if len(found) > 1:
        serials = ", ".join(sorted(map(_serial, found)))
        raise _unusable(
            f"{len(found)} tokens have the label {place.label}: {serials}",
            "Give the serial number of yours (approver.token.serial).",
        )
    if not found:
        labels = ", ".join(sorted(f"{one.label} ({_serial(one)})" for one in every)) or "none"
        raise _unusable(
            f"there is no token {place.label}; there are: {labels}", "Plug yours in, or correct it."
        )
    return found[0]


def _serial(token: Any) -> str:
    return str(token.serial.decode(errors="replace").strip())


def _private_key(session: Any, place: TokenPart) -> Any:
    every = list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY}))
    found = [one for one in every if place.object in (None, one.label)]
    if len(found) == 1:
        return found[0]
    labels = ", ".join(sorted(one.label or one.id.hex() for one in every)) or "none"
    named = f" named {place.object}" if place.object else ""
    raise _unusable(
        f"the token has {len(found)} private keys{named}, of these: {labels}",
        "Give the label of yours (approver.token.object).",
    )


def _public_key(session: Any, private: Any) -> Any:
    """The key's public half: its own object, or that of its certificate."""
    own = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.ID: private.id}
    for one in session.get_objects(own):
        try:
            return _loaded(one)
        except (ValueError, UnsupportedAlgorithm):
            break  # a form that nobody reads; its certificate may be better
    for certificate in _certificates(session, private):
        return certificate.public_key()
    raise _unusable(
        "the token has neither public key nor certificate beside the private key",
        "Put the certificate on it, with the same id.",
    )


def _loaded(key: Any) -> Any:
    match key.key_type:
        case KeyType.RSA:
            exponent, modulus = key[Attribute.PUBLIC_EXPONENT], key[Attribute.MODULUS]
            numbers = (int.from_bytes(exponent), int.from_bytes(modulus))
            return rsa.RSAPublicNumbers(*numbers).public_key()
        case KeyType.EC:
            return load_der_public_key(encode_ec_public_key(key))
        case KeyType.EC_EDWARDS:
            return ed25519.Ed25519PublicKey.from_public_bytes(_point(key[Attribute.EC_POINT]))
        case _:
            raise _unusable("the key on the token cannot approve", "Use RSA, EC or Ed25519.")


def _point(content: bytes) -> bytes:
    """An OCTET STRING, or the bare bytes: the standard changed its mind, and modules differ."""
    if len(content) == ED25519_BYTES:
        return content
    return der.element(content, der.OCTET_STRING).content


def _certificates(session: Any, private: Any) -> list[x509.Certificate]:
    own = {Attribute.CLASS: ObjectClass.CERTIFICATE, Attribute.ID: private.id}
    found = []
    for one in session.get_objects(own):
        try:
            found.append(x509.load_der_x509_certificate(one[Attribute.VALUE]))
        except (ValueError, UnsupportedAlgorithm):
            continue
    return found


def _certificate(session: Any, private: Any, public: Any) -> str | None:
    for one in _certificates(session, private):
        if one.public_key() == public:
            return base64.b64encode(one.public_bytes(Encoding.DER)).decode()
    return None


def _signature(private: Any, content: bytes) -> bytes:
    match private.key_type:
        case KeyType.RSA:
            return bytes(private.sign(content, mechanism=Mechanism.SHA256_RSA_PKCS))
        case KeyType.EC:
            # Few tokens hash for ECDSA, and all of them sign a hash.
            digest = hashlib.sha256(content).digest()
            return bytes(encode_ecdsa_signature(private.sign(digest, mechanism=Mechanism.ECDSA)))
        case _:
            return bytes(private.sign(content, mechanism=Mechanism.EDDSA))


def _refused(error: pkcs11.PKCS11Error) -> CommandError:
    known = next((said for kind, said in REASONS.items() if isinstance(error, kind)), None)
    name = f"the token says {type(error).__name__}" + (f": {error}" if str(error) else "")
    what, action = known or (name, "Look into the token's own program.")
    return CommandError(what, action=action, code=Exit.ACCESS)


def _unusable(what: str, action: str) -> CommandError:
    return CommandError(what, action=action, code=Exit.USAGE)
