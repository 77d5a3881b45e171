"""Who may ask a service: whoever has the token, by a name that the machine really has, and no page of another site."""

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from atha.errors import AthaError
from atha.texts import TextError, read_text
from atha.web.refusals import Refusal

_SHORTEST = 16
_MOST = 4096
_BEARER = "bearer "
_MAKE_ONE = "make one with python -c 'import secrets; print(secrets.token_urlsafe(32))'"


def is_loopback(host: str) -> bool:
    """Whether what is bound there is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def read_token(path: Path) -> str:
    """The one line of a file of a token.

    Raises:
        AthaError: it cannot be read, or is nothing that keeps others out.
    """
    try:
        token = read_text(path, _MOST).strip()
    except TextError as error:
        raise AthaError(f"--token-file {path} {error}: {error.mend}") from None
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise AthaError(
            f"--token-file {path} holds no token of {_SHORTEST} or more letters, digits and signs: {_MAKE_ONE}"
        )
    return token


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        host: that is bound.
        token: that must be brought; None: none need be, which is for this machine alone.
        open: paths that need none: they hold nothing of anybody.

    Raises:
        AthaError: other machines could ask without a token.
    """

    host: str = "127.0.0.1"
    token: str | None = None
    open: frozenset[str] = frozenset({"/", "/health", "/docs", "/openapi.json"})

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise AthaError(
                f"--host {self.host} lets other machines ask: give --token-file, a file that holds a token "
                f"({_MAKE_ONE}), or leave --host out"
            )

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """See to it that a request may be answered.

        Args:
            method: of HTTP.
            path: without host and query.
            headers: by their names in lower case.

        Raises:
            Refusal: it may not.
        """
        host = headers.get("host", "")
        # A site whose name was made to lead to this machine would otherwise be asked as if it were ours.
        if is_loopback(self.host) and not is_loopback(_split(f"//{host}").hostname or ""):
            raise Refusal(
                421, f"this service is for this machine alone and is not called '{host[:100]}': ask localhost"
            )
        if method not in ("GET", "HEAD", "OPTIONS"):
            self._check_page(host, headers)
        if self.token is not None and path not in self.open and not self._has_token(headers.get("authorization", "")):
            raise Refusal(
                401,
                "a token is needed: send the header Authorization: Bearer TOKEN",
                {"www-authenticate": "Bearer"},
            )

    def _check_page(self, host: str, headers: Mapping[str, str]) -> None:
        """A browser says which page a request comes from; who is no browser says nothing."""
        origin = headers.get("origin")
        foreign = origin is not None and _split(origin).netloc.lower() != host.lower()
        if foreign or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise Refusal(
                403, f"a page of another site ({(origin or 'unnamed')[:100]}) may not ask: open the service's own"
            )

    def _has_token(self, given: str) -> bool:
        assert self.token is not None
        token = given[len(_BEARER) :].strip() if given.lower().startswith(_BEARER) else ""
        # Hashes are of one length, so that comparing them tells nothing of the token's own.
        return hmac.compare_digest(*(hashlib.sha256(one.encode()).digest() for one in (token, self.token)))


def _split(address: str) -> SplitResult:
    """An address in parts, which are empty where it is none."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")
