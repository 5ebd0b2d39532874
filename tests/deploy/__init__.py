"""What lies in deploy/, run with the real daemons where they can be had."""
