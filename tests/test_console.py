"""How wide a table may be."""

from aegaeon.console import wide_console


def test_a_pipe_is_wide_enough_for_every_column(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert wide_console().width == 120


def test_a_terminal_keeps_its_own_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert wide_console().width == 40
