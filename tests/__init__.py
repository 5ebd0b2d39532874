"""Tests; they mirror smtpguard/."""
