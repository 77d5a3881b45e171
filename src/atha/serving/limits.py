"""How much a service of predictions takes."""

from dataclasses import dataclass, field

from atha.web.limits import Limits


@dataclass(frozen=True)
class ServiceLimits:
    """What is more is refused, in a sentence.

    Attributes:
        images: of one request.
        image_bytes: of one image's file.
        queue: images that wait to be classified, or are, of all requests together.
        seconds: from the moment that a request is here until its answer.
        web: of requests as such; see `atha.web.limits`.
    """

    images: int = 16
    image_bytes: int = 20 << 20
    queue: int = 256
    seconds: float = 30
    web: Limits = field(default_factory=Limits)
