"""Token times in, attainment and tables out; no room here knows which backend made them."""
