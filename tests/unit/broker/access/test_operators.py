"""Who may run the broker: default deny, power by power, label by label."""

from __future__ import annotations

from broker.access.operators import OperatorRow, Operators, Power

OPS, SHOP, APP = "spiffe://td/ns/ops/sa/alice", "spiffe://td/ns/shop/sa/registrar", "spiffe://td/ns/shop/sa/checkout"
OPERATORS = Operators(
    [
        OperatorRow(caller="spiffe://td/ns/ops/*", powers=frozenset(Power)),
        OperatorRow(caller=SHOP, powers=frozenset({Power.REGISTER}), db_labels={"team": ("shop",)}),
    ]
)


def test_nobody_is_an_operator_by_default() -> None:
    assert not any(Operators().may(caller, power) for caller in (OPS, "*", "") for power in Power)
    assert not any(OPERATORS.may(APP, power) for power in Power)


def test_a_power_is_not_another() -> None:
    assert OPERATORS.may(SHOP, Power.REGISTER)
    assert not OPERATORS.may(SHOP, Power.VIEW)
    assert not OPERATORS.may(SHOP, Power.APPLY)
    assert all(OPERATORS.may(OPS, power) for power in Power)


def test_labels_bound_what_may_be_registered() -> None:
    assert OPERATORS.may_for(SHOP, Power.REGISTER, {"team": "shop", "env": "dev"})
    assert not OPERATORS.may_for(SHOP, Power.REGISTER, {"team": "payments"})
    assert not OPERATORS.may_for(SHOP, Power.REGISTER, {})
    assert OPERATORS.may_for(OPS, Power.REGISTER, {})
