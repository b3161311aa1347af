"""`envbuilder doctor`: what this machine can do, and the fix for what it cannot."""

from __future__ import annotations

from envbuilder import diagnosis, engine_choice
from envbuilder.choices import ENGINE_NAMES
from envbuilder.cli.common import Invocation, verb
from envbuilder.cli.console import print_findings


@verb("doctor")
def command(invocation: Invocation) -> int:
    """Look at engines, package index, mirrors, certificates and disk; exits with 3 when no engine can be used."""
    machine = invocation.machine
    engines = [(name, engine_choice.engine_module(name).available(machine)) for name in ENGINE_NAMES]
    findings = diagnosis.diagnose(machine, engines)
    if invocation.as_json:
        invocation.data([finding.to_dict() for finding in findings], "")
    else:
        print_findings(invocation.reporter.console, findings)
    return 0 if any(reason is None for _, reason in engines) else 3
