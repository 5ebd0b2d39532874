"""The mail path's sockets, clocks and disks: doors, next hops, spool, log, metrics."""
