"""What every loader of transformers is told, so that nothing of a folder is run, and little is said.

Some of transformers' models and tokenizers load parts of themselves, and do not pass on what they were told: LLaVA's
vision tower, RAG's two tokenizers. Such a loader asks on standard input whether to run the folder's code, unless its
patience is 0: then it refuses.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from transformers import AutoModel, PreTrainedConfig, dynamic_module_utils
from transformers.utils import logging

from armorm.features.units import size

dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars and log lines of transformers."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    usual = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(usual)


MOST_TABLES: Final = 2**30
"""Bytes of what a model computes of its configuration alone, such as positions and masks; GPT-Neo's take 2**27."""


def refuse_larger(config: PreTrainedConfig, most: int) -> None:
    """Refuse a model of more parameters than its files can hold: what is missing would be made up in memory first.

    Raises:
        ValueError: its configuration states more, or tables of more than `MOST_TABLES` bytes.
    """
    with torch.device("meta"):
        model = AutoModel.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
    if (stated := sum(parameter.numel() for parameter in model.parameters())) > most:
        raise ValueError(
            f"its configuration states {stated:,} parameters; its files hold at most {most:,}; restore them"
        )
    if (tables := sum(buffer.nbytes for buffer in model.buffers())) > MOST_TABLES:
        raise ValueError(
            f"its configuration asks for tables of {size(tables)}; expected at most {size(MOST_TABLES)}; restore it"
        )
