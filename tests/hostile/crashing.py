"""The child of a check under which some packages do what no package of ours can be made to do."""

import os
import signal

from service import packaging, trial
from service.repository.packages import Location


def crash(location: Location, *arguments: object, **options: object) -> list[str]:
    """Die as the name says; all else is real."""
    if location.name == "aborts":
        os.abort()
    if location.name == "segfaults":
        signal.raise_signal(signal.SIGSEGV)
    if location.name == "is-killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if location.name == "exits":
        os._exit(3)
    return packaging.check_package(location, *arguments, **options)  # type: ignore[arg-type]


if __name__ == "__main__":
    trial.check_package = crash  # type: ignore[attr-defined]
    trial.main()
