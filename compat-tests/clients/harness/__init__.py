"""The machinery of `run`: programs, tools, suites, reports."""
