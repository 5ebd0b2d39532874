"""A DNS to test against: zones as data, a server in the process with faults, and three real daemons."""
