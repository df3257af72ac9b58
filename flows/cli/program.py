"""The entry point of `armorm`: it can be stopped from its first line on, and imports the rest after that."""

import os
import sys

from armorm.features.secrets import redacted_traceback
from armorm.flows import stopping


def main() -> None:
    """Run the command line; whatever a signal has stopped ends with that signal's line and exit code."""
    stopping.listen()
    _have_streams()
    try:
        from armorm.flows.cli.app import main as command

        command()
    except SystemExit:
        if not stopping.asked():
            raise
    except BaseException as error:
        if not stopping.asked():
            sys.exit(redacted_traceback(error))
    if stopping.asked():
        stopping.say()
        sys.exit(stopping.exit_code())


def _have_streams() -> None:
    """Write to nowhere what has nobody to take it, and by their numbers the characters that a terminal lacks."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - as long as the process
        getattr(sys, name).reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
