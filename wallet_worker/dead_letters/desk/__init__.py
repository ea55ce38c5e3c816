"""What operators do with dead letters: inputs, refusals, edits, executing, and the ledger beside."""
