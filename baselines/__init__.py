"""Other systems, each an honest policy behind the same interface as Aegaeon's."""
