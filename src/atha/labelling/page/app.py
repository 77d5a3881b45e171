"""The paths of the page: what is asked goes to the desk, and what goes wrong comes back as a sentence."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from atha.data.images import ImageProblem
from atha.errors import AthaError
from atha.labelling.page.desk import HELD, Desk
from atha.labelling.page.marks import ConflictError, Kind
from atha.labelling.page.thumbnails import SIDES, Thumbnails
from atha.web.access import Access
from atha.web.guard import App, Guard
from atha.web.limits import Limits
from atha.web.pages import Page
from atha.web.refusals import Refusal, answer, refuse_in_sentences

LIMITS = Limits(body=16 << 10, bodies=1 << 20, requests=64, connections=64)
_PACKAGE = "atha.labelling.page"
#: Rows of the list of earlier photos, at once.
_ROWS = 60

_Id = Annotated[str, Field(min_length=8, max_length=64, pattern=r"^[0-9A-Za-z-]+$")]
_Place = Annotated[int, Field(ge=0)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Tab(_Asked):
    tab: _Id
    keep: Annotated[list[_Place], Field(max_length=HELD)] = []


class _Press(_Tab):
    press: _Id
    place: _Place
    kind: Kind
    number: _Place | None = None
    seen: _Place


class _Undo(_Tab):
    press: _Id
    expected: _Place


class _NewClass(_Tab):
    press: _Id
    label: Annotated[str, Field(max_length=1000)]


def create_app(desk: Desk, thumbnails: Thumbnails, access: Access) -> App:
    """The page as an application of ASGI.

    Args:
        desk: see `Desk`.
        thumbnails: of its photos.
        access: who may ask.
    """
    made = FastAPI(title="atha label", docs_url=None, redoc_url=None, openapi_url=None, default_response_class=Response)
    refuse_in_sentences(made)
    page = Page.of_package("atha: label photos", _PACKAGE)

    @made.get("/")
    def start() -> Response:
        return page.response()

    @made.post("/next")
    def following(asked: _Tab) -> Response:
        return _answer(desk, asked)

    @made.post("/press")
    def press(asked: _Press) -> Response:
        return _answer(desk, asked, lambda: desk.press(asked.press, asked.place, asked.kind, asked.number, asked.seen))

    @made.post("/undo")
    def undo(asked: _Undo) -> Response:
        def take_back() -> dict[str, Any]:
            shown = desk.undo(asked.press, asked.expected)
            if shown is not None and not shown["kind"]:
                desk.hold(asked.tab, shown["place"])
                asked.keep.append(shown["place"])
            return {"shown": shown}

        return _answer(desk, asked, take_back)

    @made.post("/class")
    def new_class(asked: _NewClass) -> Response:
        return _answer(desk, asked, lambda: desk.add_class(asked.press, asked.label))

    @made.post("/leave")
    def leave(asked: _Tab) -> Response:
        desk.leave(asked.tab)
        return answer({})

    @made.get("/status")
    def status() -> Response:
        return answer({"status": desk.status()})

    @made.get("/earlier")
    def earlier(before: Annotated[int, Field(ge=0)] = 0) -> Response:
        return answer({"earlier": desk.earlier(before, _ROWS)})

    @made.get("/photo/{place}/{size}")
    def photo(place: int, size: Literal["large", "small"]) -> Response:
        if not 0 <= place < len(desk.files):
            raise Refusal(404, f"there is no photo {place}: load the page again")
        try:
            found = thumbnails.get(place, SIDES[size == "small"])
        except ImageProblem as problem:
            raise Refusal(422, str(problem)) from None
        return Response(found, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})

    return Guard(made, access, LIMITS)


def _answer(desk: Desk, asked: _Tab, do: Callable[[], dict[str, Any] | None] = lambda: None) -> Response:
    """Do something, and say what comes next.

    Raises:
        Refusal: it cannot be done; what comes next is in it all the same.
    """
    problem: AthaError | None = None
    more: dict[str, Any] = {}
    try:
        more = do() or {}
    except AthaError as error:
        problem = error
    more |= {"photos": desk.hand_out(asked.tab, HELD - 1, asked.keep), "status": desk.status()}
    if problem is None:
        return answer(more)
    if isinstance(asked, _Press) and isinstance(problem, ConflictError):
        more["now"] = desk.describe(asked.place)
    raise Refusal(409 if isinstance(problem, ConflictError) else 422, str(problem), more=more)
