"""What takes minutes: faults at every boundary, outages, long waits, load; `make campaign`."""
