"""Other tools that stand between a program and its close, for the same table."""

TOOLS = []
