"""How an experiment is carried out: configuration, plan, run, sweep, reproduction."""
