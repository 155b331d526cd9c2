"""What touches Ray: session, episode pool, base bank, search, training workers."""
