"""End to end: real MTAs, a real smtpguard process, the sandbox as the next hop."""
