"""Test estimators on dialogue processes whose exact policy gradient is known."""
