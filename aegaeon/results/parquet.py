"""Parquet files with bytes that depend on the data alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from aegaeon.files import atomic


def write_table(table: pd.DataFrame | pa.Table, path: Path) -> None:
    """Write a table as parquet; the same data give the same bytes (with the same pyarrow).

    The index, pandas' metadata and the chunking differ between equal tables and are dropped.
    """
    if isinstance(table, pd.DataFrame):
        table = pa.Table.from_pandas(table, preserve_index=False)
    fields = [
        pa.field(f.name, pa.string() if pa.types.is_large_string(f.type) else f.type, f.nullable)
        for f in table.schema
    ]
    table = table.replace_schema_metadata(None).cast(pa.schema(fields)).combine_chunks()
    with atomic(path) as temporary:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            compression_level=3,
            version="2.6",
            data_page_version="1.0",
            row_group_size=1 << 17,
        )
