"""What doctor shows of a finding."""

from __future__ import annotations

from broker.ctl.doctor import Finding, as_text, of_broker, of_proxy
from tollbridge.reasons import Reason
from tollbridge.reports import DiagnosisStep, Outcome, PolicyStatement

NEEDED = (PolicyStatement(attach_to="arn:role/x", statement='{"Action":"rds-db:connect"}'),)


def record(step: str, *, ok: bool = False, **more: object) -> dict[str, object]:
    """As a proxy's check prints it."""
    return {"step": step, "ok": ok, "seconds": 0.01, "detail": "said", **more}


def test_a_refused_login_needs_the_statement_that_the_broker_named() -> None:
    finding = of_proxy(record("login", reason="DATABASE_REFUSED"), NEEDED)
    assert finding is not None
    assert finding.statements == NEEDED


def test_other_failures_of_the_network_need_none() -> None:
    for step, reason in (("tls", "UPSTREAM_TLS_UNVERIFIED"), ("login", "UPSTREAM_CLOSED")):
        finding = of_proxy(record(step, reason=reason), NEEDED)
        assert finding is not None
        assert finding.statements == ()


def test_what_the_broker_told_already_is_told_again_only_when_it_fails() -> None:
    assert of_proxy(record("grant", ok=True), NEEDED) is None
    assert of_proxy(record("grant"), NEEDED) is not None


def test_what_a_login_will_need_is_not_shown_while_all_is_well() -> None:
    step = DiagnosisStep(step="issue", outcome=Outcome.OK, detail="Token", statements=NEEDED)
    assert of_broker(step).statements == ()


def test_causes_stand_one_below_the_other_and_not_in_the_line_as_well() -> None:
    detail = "AWS denies it; check: (1) the policy; (2) the trust policy"
    step = DiagnosisStep(
        step="role 1",
        outcome=Outcome.FAILED,
        detail=detail,
        reason=Reason.ASSUME_ROLE_DENIED,
        causes=("the policy", "the trust policy"),
        statements=NEEDED,
    )
    lines = as_text(of_broker(step)).splitlines()
    assert lines[0].endswith("AWS denies it; check")
    assert [line.strip() for line in lines[1:]] == [
        "ASSUME_ROLE_DENIED",
        "likely causes:",
        "1. the policy",
        "2. the trust policy",
        "a policy of arn:role/x must have:",
        '{"Action":"rds-db:connect"}',
    ]


def test_a_terminal_is_sent_no_control_characters() -> None:
    """A server's version or a tag is other people's text."""
    text = as_text(Finding(step="query", ok=True, detail="\x1b[2J\x1b]0;title\x07"))
    assert "\x1b" not in text
    assert "\x07" not in text
