"""Every registered plugin passes every conformance check of its kind, or says why not."""

import pytest

from hybrids import registry
from hybrids.checks import Subject, checks_for, exemptions, run_check

CASES = [
    pytest.param(entry, check, id=f"{entry.kind}-{entry.name}-{check.__name__}")
    for entry in registry.entries()
    for check in checks_for(entry.kind, entry.cls)
]


def test_built_in_plugins_are_found():
    assert registry.failures() == []
    assert {kind for kind in registry.KINDS if registry.names(kind)} == set(registry.KINDS)


@pytest.mark.parametrize(("entry", "check"), CASES)
def test_plugin_conforms(entry, check):
    exemption = exemptions(entry.kind, entry.cls).get(check.__name__)
    result = run_check(check, Subject(entry.cls), exemption)
    assert result.passed, result.message
