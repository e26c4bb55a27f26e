"""Everything that is timed on live engines: profiles, switch costs, targets."""
