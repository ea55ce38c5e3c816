"""The broker's side of the worker where processes are too coarse to see it: topology, wire, inbox, sessions."""
