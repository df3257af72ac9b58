"""The entry point of `armorm`: it can be stopped from its first line on, and imports the rest after that."""

import sys

from features.secrets import redacted_traceback
from flows import stopping


def main() -> None:
    """Run the command line; whatever a signal has stopped ends with that signal's line and exit code."""
    stopping.listen()
    try:
        from flows.cli import main as command

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


if __name__ == "__main__":
    main()
