"""The pass: gather, plan, execute, report."""
