"""Papers as data: settings, tables and figures, and the numbers they print. One file a paper."""
