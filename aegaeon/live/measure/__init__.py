"""Measurements on live engines: profiles, switch costs, targets."""
