"""The verbs, one module each; verbs that differ only in what they ask share one."""
