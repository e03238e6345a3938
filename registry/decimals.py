"""Coefficients: exact decimals, from what a user types to what a digest is taken over."""

from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow

exactly = Context(prec=300, traps=[InvalidOperation, DivisionByZero, Overflow, Inexact])
"""Arithmetic that is exact, or raises ``decimal.DecimalException``."""


def format_decimal(value: Decimal) -> str:
    """The shortest plain notation: ``0.40`` and ``4E-1`` are both ``"0.4"``, ``-0`` is ``"0"``."""
    if value == 0:
        return "0"
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
