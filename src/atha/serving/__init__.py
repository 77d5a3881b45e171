"""A classifier behind HTTP, with a page to drop pictures on.

Needs the extra ``serve``. `create_app` is an application of ASGI for a server of yours, `serve` is one that runs::

    import atha
    from atha import serving

    model = serving.of_classifier(atha.Classifier.from_pretrained("adapter/"))
    serving.serve(model, port=8000)

limits.py    how much the service takes
models.py    what answers: a classifier
exported.py  the same of a graph that was exported, without torch
batching.py  the one thread that owns the model: requests that arrive together share a batch
uploads.py   images of a request, decoded beside the event loop, within their limits
app.py       the paths of the service
page.py      its pages
"""

from typing import TYPE_CHECKING, Any

from atha.errors import AthaError

if TYPE_CHECKING:
    from atha.serving.app import create_app as create_app
    from atha.serving.exported import of_export as of_export
    from atha.serving.limits import ServiceLimits as ServiceLimits
    from atha.serving.models import of_classifier as of_classifier
    from atha.serving.running import serve as serve

_PUBLIC = {
    "ServiceLimits": "atha.serving.limits",
    "create_app": "atha.serving.app",
    "of_classifier": "atha.serving.models",
    "of_export": "atha.serving.exported",
    "serve": "atha.serving.running",
}

__all__ = ["ServiceLimits", "create_app", "of_classifier", "of_export", "serve"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _PUBLIC:
        raise AttributeError(f"module 'atha.serving' has no attribute '{name}'")
    check_installed()
    return getattr(import_module(_PUBLIC[name]), name)


def check_installed() -> None:
    """See to it that the libraries of the extra are there.

    Raises:
        AthaError: they are not.
    """
    from importlib.util import find_spec

    for library in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        if find_spec(library) is None:
            raise AthaError(f"a service needs the library '{library}': pip install 'atha[serve]'")
