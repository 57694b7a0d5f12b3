"""What takes minutes: outages, long waits, mutants, load; `make campaign`."""
