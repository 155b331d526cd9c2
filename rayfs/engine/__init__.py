"""Fast pieces without Ray: features, rows on a device, repeated steps, precision."""
