"""The `sdp` command: its app, and the entry point that turns every ending into an exit code."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

import sdp
from sdp.cli import _errors, discover, doctor, embed, maxcut, verify

app = typer.Typer(
    name="sdp",
    help="Certified MAXCUT on graphs with millions of edges, and embeddings of rows larger than memory.",
    add_completion=False,
    rich_markup_mode=None,  # plain help: importing rich would double the time of `sdp --help`
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("maxcut")(maxcut.maxcut)
app.command("embed")(embed.embed)
app.command("verify")(verify.verify)
app.command("discover")(discover.discover)
app.command("doctor")(doctor.doctor)

# typer took this class from click before it carried its own copy; the way to it from a public name is the
# same in both. `ClickException` is the base of every complaint about the command line.
_UsageProblem: type[Exception] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)


@app.callback(invoke_without_command=True)
def _sdp(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"sdp {sdp.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def run() -> NoReturn:
    """Entry point of the console script."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Runs one command line and returns its exit code.

    Returns:
        0 solved, 1 a check of `sdp doctor` or a certificate failed, 2 bad input, 130 interrupted.
    """
    try:
        code = app(arguments, prog_name="sdp", standalone_mode=False)
        return code if isinstance(code, int) else _errors.SOLVED
    except _errors.CommandError as error:
        _errors.say(error.sentence)
        return error.code
    except _UsageProblem as problem:
        _errors.say(_usage_sentence(problem))
        return _errors.BAD_INPUT
    except (typer.Abort, KeyboardInterrupt):
        _errors.say("interrupted; nothing was written.")
        return _errors.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output is gone; give the interpreter's last flush somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _errors.FAILED


def _usage_sentence(problem: Exception) -> str:
    message = " ".join(problem.format_message().split())  # type: ignore[attr-defined]
    return f"{message.rstrip('.')}; `sdp --help` lists what there is."
