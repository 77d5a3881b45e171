"""What a service refuses: a status of HTTP and one sentence, the same JSON whoever found the fault."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from atha.documents import escaping


class Refusal(Exception):  # noqa: N818 - what a caller reads is no error of ours
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        sentence: what is wrong, and the mend.
        headers: of the answer.
        more: entries of the answer beside the sentence.
    """

    def __init__(
        self,
        status: int,
        sentence: str,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence
        self.headers, self.more = dict(headers or {}), dict(more or {})

    def response(self) -> Response:
        """The answer that says so."""
        return answer({"error": self.sentence, **self.more}, self.status, self.headers)


def later(sentence: str, seconds: int) -> Refusal:
    """What is refused for as long as there is too much to do."""
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, sentence, {"retry-after": str(seconds)})


def answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON in which every letter of a name is shown and none is obeyed."""
    made = escaping.json(json.dumps(content, ensure_ascii=False, allow_nan=False))
    return Response(made.encode(), status, headers, "application/json")


def refuse_in_sentences(app: FastAPI) -> None:
    """Let all that an application does not answer be said by `answer`."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _no_such)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _failed)


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response()


def _where(request: Request, what: str) -> str:
    """Where to look, for who asks for what is not there: at the description, or, of a page alone, at the page."""
    return f"see /docs for {what}" if any(route.path == "/docs" for route in request.app.routes) else "open the page"


def _no_such(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {
        404: f"there is nothing at this path: {_where(request, 'what there is')}",
        405: f"{request.method} is not for this path: {_where(request, 'what is')}",
    }.get(error.status_code, str(error.detail).rstrip("."))
    return answer({"error": said}, error.status_code, error.headers)


def _not_valid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"][1:])) or "the request"
    return answer({"error": f"{name} is not valid ({first['msg']}): {_where(request, 'what is')}"}, 422)


def _gone(_: Request, __: Exception) -> Response:
    return answer({"error": "the connection was closed before the request was whole"}, 400)


def _failed(_: Request, __: Exception) -> Response:
    return answer({"error": "a fault of the service, not yours: its log says more"}, 500)
