"""The page on a port of this machine, and what learns behind it."""

import os
import secrets
import signal
import threading
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from atha.data.images import ImageReader
from atha.data.reading import Reading
from atha.errors import AthaError
from atha.labelling.page.adapting import Adapting
from atha.labelling.page.app import LIMITS, create_app
from atha.labelling.page.desk import Desk
from atha.labelling.page.journal import Journal
from atha.labelling.page.learner import Learner
from atha.labelling.page.thumbnails import Thumbnails
from atha.web.access import Access
from atha.web.server import address, bind, run

if TYPE_CHECKING:
    from atha.classifier import Classifier

_HOST = "127.0.0.1"
# Seconds that answers may take after the end was asked for.
_PATIENCE = 5


def label_on_page(
    files: Sequence[Path],
    journal: Journal,
    open_classifier: "Callable[[], Classifier]",
    texts: Mapping[str, str],
    *,
    share: float,
    port: int,
    max_pixels: int,
    browser: bool,
    ready: Callable[[str], None],
    adapt: Callable[[Desk], Adapting] | None = None,
) -> None:
    """Show the page until the process is told to end.

    Args:
        files: the photos.
        journal: of the labels; stays open.
        open_classifier: makes the classifier whose backbone sees the photos, while the page is there already.
        texts: what the model reads for a label; others are read as they are.
        share: of the photos that are chosen, those that are drawn at random.
        port: 0: any that is free.
        max_pixels: larger photos are refused.
        browser: open one.
        ready: called with the address, token and all, when the page can be asked for.
        adapt: makes what fits a full recipe beside the labelling; None: nothing does.

    Raises:
        AthaError: the port cannot be had, or the model cannot be used.
    """
    token = secrets.token_urlsafe(24)
    failures: list[AthaError] = []

    def failed(error: AthaError) -> None:
        failures.append(error)
        os.kill(os.getpid(), signal.SIGTERM)

    desk = Desk(files, journal)
    learner = Learner(desk, open_classifier, texts, share, failed, None if adapt is None else adapt(desk))
    desk.told = learner.tell
    thumbnails = Thumbnails(files, ImageReader(Reading(), max_pixels, quiet=True))
    app = create_app(desk, thumbnails, Access(_HOST, token, frozenset({"/"})))
    with bind(_HOST, port) as bound:
        place = f"{address(bound)}#token={token}"

        def begin() -> None:
            ready(place)
            learner.start()
            if browser:
                # Some browsers return when they are closed.
                threading.Thread(target=webbrowser.open, args=(place,), name="atha-browser", daemon=True).start()

        run(app, bound, LIMITS, _PATIENCE, begin)
    learner.stop()
    if failures:
        raise failures[0]
