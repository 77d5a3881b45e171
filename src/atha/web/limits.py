"""How much a service on this machine takes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Of one service; what is more is refused in a sentence.

    Attributes:
        body: bytes of one request.
        bodies: bytes of all requests that are being read.
        body_seconds: until a request must be here, from its headers on.
        head: bytes of a request's first line and headers.
        head_seconds: until they must be here, from the first of them on.
        requests: that are worked on.
        connections: that are open.
    """

    body: int = 64 << 20
    bodies: int = 1 << 30
    body_seconds: float = 30
    head: int = 32 << 10
    head_seconds: float = 10
    requests: int = 256
    connections: int = 512
