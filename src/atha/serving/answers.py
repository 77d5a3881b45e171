"""What the service answers, as its documentation shows it."""

from typing import Any

from pydantic import BaseModel, Field


class Predicted(BaseModel):
    """One image: a label with its probability, or an error."""

    file: str = Field(description="The name that it was sent with.")
    label: str | None = Field(None, description="The class of the largest probability.")
    probability: float | None = Field(None, description="Of that class.")
    probabilities: dict[str, float] | None = Field(None, description="Of every class; they sum to 1.")
    votes: dict[str, dict[str, float]] | None = Field(
        None, description="By member of a blend, with votes=1: the probability of every class by that member alone."
    )
    error: str | None = Field(None, description="Why it could not be classified; all but the name is absent then.")


class Predictions(BaseModel):
    """Of a request, in the order in which images were sent."""

    predictions: list[Predicted]


class Error(BaseModel):
    """A request that was refused."""

    error: str = Field(description="What is wrong, and the mend.")


class Health(BaseModel):
    """Whether answers are to be had."""

    status: str


class About(BaseModel):
    """What answers."""

    classes: dict[str, str] = Field(description="By label, the text that the model reads.")
    recipe: str | None = None
    backbone: dict[str, Any] = {}
    members: list[str] = Field([], description="Of a blend.")
    evaluation: dict[str, Any] | None = Field(None, description="On labelled images, where it was evaluated.")
    limits: dict[str, float] = {}
    maps: bool = Field(False, description="Whether there is /explain.")


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Error, "description": "No form that can be read."},
    401: {"model": Error, "description": "No token, or another one."},
    403: {"model": Error, "description": "A page of another site asks."},
    408: {"model": Error, "description": "The request came too slowly."},
    413: {"model": Error, "description": "Too many bytes, pixels or images."},
    415: {"model": Error, "description": "No multipart/form-data."},
    422: {"model": Error, "description": "No image that can be read."},
    429: {"model": Error, "description": "Too much to do: ask again after the seconds of Retry-After."},
    504: {"model": Error, "description": "No answer in time."},
}


def form(field: str, several: bool) -> dict[str, Any]:
    """The body of a request, for the documentation: it is read by hand, within limits."""
    file = {"type": "string", "format": "binary"}
    schema = {"type": "object", "properties": {field: {"type": "array", "items": file} if several else file}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
