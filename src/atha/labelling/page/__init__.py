"""The page of ``atha label``: photos one by one, a key a class, and all that was pressed on disk before the next.

Needs the extra ``label``.

marks.py       what was pressed and what follows from it, of no file
journal.py     the same on disk: a journal that is only appended to, and the table that is made of it
desk.py        which tab shows which photo, and what may be pressed
learner.py     features, choices and estimates, in threads of their own
adapting.py    fits of a full recipe beside them, in processes of their own
thumbnails.py  photos as the page shows them
app.py         the paths of the page
running.py     all of it on a port of this machine
"""

from atha.errors import AthaError


def check_installed() -> None:
    """See to it that the libraries of the extra are there.

    Raises:
        AthaError: they are not.
    """
    from importlib.util import find_spec

    for library in ("fastapi", "uvicorn"):
        if find_spec(library) is None:
            raise AthaError(f"the page needs the library '{library}': pip install 'atha[label]'")
