"""The threat model as tests: SECURITY.md names for each threat the defence and the test here, or beside its module."""
