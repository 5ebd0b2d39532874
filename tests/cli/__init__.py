"""Tests of smtpguard/cli/."""
