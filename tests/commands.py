"""Commands, run within the process of the tests."""

from functools import cache

import typer.testing
from typer.testing import CliRunner, Result

from atha.cli import app

# All commands are made of the types of their functions, which takes a tenth of a second: once, not for each call.
typer.testing._get_command = cache(typer.testing._get_command)


def run(*arguments: object, code: int | None = None, answers: str | None = None) -> Result:
    """Run one command.

    Args:
        arguments: as in a shell, of any type that is its text.
        code: that it must end with; None allows any.
        answers: what is typed.
    """
    result = CliRunner().invoke(app, list(map(str, arguments)), input=answers, env={"COLUMNS": "200"})
    assert code in (None, result.exit_code), result.output
    return result
