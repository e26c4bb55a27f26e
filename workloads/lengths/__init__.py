"""Prompt and answer lengths: a quantile table, sampling from it, and its fit to traces."""

from workloads.lengths.table import LengthTable, clip_lengths, scale_lengths, sharegpt_lengths

__all__ = ["LengthTable", "clip_lengths", "scale_lengths", "sharegpt_lengths"]
