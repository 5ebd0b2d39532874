"""The nouns of mail: session, envelope, reply, address, framing. Pure: no I/O, no clock, no logger."""
