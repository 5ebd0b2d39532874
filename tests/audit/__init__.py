"""Tests of what the audit says."""
