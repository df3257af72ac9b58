"""Pieces in several processes: what a signal to the whole group does to them."""

import os
import signal
from multiprocessing import parent_process

from armorm.features.ingest.parallel import processes


def test_ctrl_c_is_left_to_the_process_that_has_started_the_others() -> None:
    with processes(1 << 40) as in_order:
        assert list(in_order(interrupted, range(3))) == [0, 1, 2]


def interrupted(piece: int) -> int:
    """A piece during which Ctrl-C comes; where there is one core, it is worked on here."""
    if parent_process():
        os.kill(os.getpid(), signal.SIGINT)
    return piece
