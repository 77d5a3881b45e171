"""A page in one file, and a policy that lets it load nothing and run nothing but what it came with."""

import base64
import hashlib
from dataclasses import dataclass
from html import escape
from importlib import resources

from starlette.responses import Response

from atha.documents import escaping


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        title: as plain text.
        body: HTML, of a file of the package or escaped by a template.
        style: CSS.
        script: JavaScript; empty: none.
    """

    title: str
    body: str
    style: str
    script: str = ""

    @classmethod
    def of_package(cls, title: str, package: str) -> "Page":
        """The page of ``page.html``, ``page.css`` and ``page.js`` of a package, on top of what all pages have."""
        return cls(
            title,
            asset(package, "page.html"),
            base_style() + asset(package, "page.css"),
            base_script() + asset(package, "page.js"),
        )

    @property
    def html(self) -> str:
        """The whole page."""
        script = f"<script>{self.script}</script>\n" if self.script else ""
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
            f"<title>{escape(self.title)}</title>\n<style>{self.style}</style>\n</head>\n"
            f"<body>\n{self.body}\n{script}</body>\n</html>\n"
        )

    @property
    def policy(self) -> str:
        """What the page may do: show pictures that it was given, and ask where it came from."""
        rules = [
            "default-src 'none'",
            f"style-src {_hash(self.style)}",
            f"script-src {_hash(self.script)}" if self.script else "",
            "img-src blob: data:",
            "connect-src 'self'",
            "form-action 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ]
        return "; ".join(rule for rule in rules if rule)

    def response(self) -> Response:
        """The page as an answer."""
        return Response(self.html, headers={"content-security-policy": self.policy}, media_type="text/html")


def asset(package: str, name: str) -> str:
    """A text file of a package."""
    return resources.files(package).joinpath(name).read_text("utf-8")


def base_style() -> str:
    """What all pages look like: light and dark, wide and narrow."""
    return asset("atha.web", "base.css")


def base_script() -> str:
    """What all scripts show names with."""
    return asset("atha.web", "base.js").replace("@UNSEEN@", escaping.javascript())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
