"""Workshop tools: benchmark, soak, the naive recipe. Nothing imports it."""
