"""The artifact's measured latencies: a row per model, device, tp, prompt length and batch."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from aegaeon.errors import UserError, reason

SOURCE = (
    "latency profiles of the public artifact of Aegaeon (SOSP'25), "
    "DOI 10.5281/zenodo.16673199, Apache-2.0"
)
# Our model types by the artifact's names.
TYPES = {
    "qwen2.5-7b": "qwen2.5-7b",
    "yi-1.5-6b": "yi-1.5-6b",
    "yi-1.5-9b": "yi-1.5-9b",
    "llama2-7b-chat": "llama2-7b",
    "llama2-13b": "llama2-13b",
    "qwen-7b": "qwen-7b",
    "qwen1.5-14b-chat": "qwen1.5-14b",
    "baichuan2-13b-chat": "baichuan2-13b",
}
DEVICES = ("h800", "h100", "h20", "a100", "a10")
PREFILL, DECODE = "trimmed_prefill_latency_s", "trimmed_decode_latency_s"
COLUMNS = ("model", "device", "tp", "input_len", "batch_size", PREFILL, DECODE, "valid")
# The artifact's grid reserves 10 generated tokens: contexts are input_len + 1 to input_len + 9.
MEAN_GENERATED = 5
# With shorter prompts alone, a long context's cost cannot be told from a large batch's.
MIN_LONGEST = 1024


def read_measurements(path: Path) -> pd.DataFrame:
    """Return the valid rows of the CSV at `path`, with our names of models and devices.

    Raises:
        UserError: the file is no table, a column is missing, or a latency is not positive.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as CSV ({reason(error)}); give a latency table"
        ) from error
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise UserError(f"{path} lacks the columns {missing}; needed are {list(COLUMNS)}")
    table = table[table["valid"] == 1]
    unusable = ~((table[PREFILL] > 0) & (table[DECODE] > 0))
    if unusable.any():
        line = table.index[unusable.to_numpy()][0] + 2
        raise UserError(f"{path}:{line}: latencies must be > 0 s; correct it or set valid to 0")
    return table.assign(
        model=table["model"].map(lambda name: TYPES.get(str(name), "")),
        device=table["device"].str.lower(),
    )
