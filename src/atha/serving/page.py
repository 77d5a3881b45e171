"""The service's pages: one to drop pictures on, and one that says what can be asked."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from atha.web.pages import Page, asset, base_style

if TYPE_CHECKING:
    from fastapi import FastAPI

_PACKAGE = "atha.serving"


def start_page() -> Page:
    """The page to drop pictures on."""
    return Page.of_package("atha: label images", _PACKAGE)


def docs_page(app: "FastAPI") -> Callable[[], Page]:
    """A function that makes the page of what can be asked, once, when all paths are there."""

    @cache
    def make() -> Page:
        from jinja2 import Environment, PackageLoader, StrictUndefined

        environment = Environment(
            loader=PackageLoader(_PACKAGE, ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        described = app.openapi()
        body = environment.get_template("docs.html.j2").render(paths=_paths(described), schemas=_schemas(described))
        return Page("atha: what can be asked", body, base_style() + asset(_PACKAGE, "page.css"))

    return make


def _paths(described: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "method": method.upper(),
            "path": path,
            "about": about.get("description", ""),
            "parameters": [
                (one["name"], one["schema"].get("type", "text"), one.get("description", ""))
                for one in about.get("parameters", [])
            ],
            "form": _form(about),
            "answers": [
                (status, one["description"], _named(one)) for status, one in about["responses"].items()
            ],
        }
        for path, methods in described["paths"].items()
        for method, about in methods.items()
    ]  # fmt: skip


def _form(about: dict[str, Any]) -> list[str]:
    content = about.get("requestBody", {}).get("content", {})
    return [
        f"{name}: {'one or more files' if schema['type'] == 'array' else 'a file'}"
        for kind in content.values()
        for name, schema in kind["schema"]["properties"].items()
    ]


def _named(one: dict[str, Any]) -> str:
    for kind, content in one.get("content", {}).items():
        return str(content.get("schema", {}).get("$ref", kind)).rpartition("/schemas/")[2] or kind
    return ""


def _schemas(described: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    return {
        name: [(key, one.get("description", "")) for key, one in schema.get("properties", {}).items()]
        for name, schema in described["components"]["schemas"].items()
        if "Validation" not in name
    }
