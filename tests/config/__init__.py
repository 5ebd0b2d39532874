"""Tests of smtpguard/config/."""
