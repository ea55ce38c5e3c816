"""From a planned replay to its outcome: prediction, publishing, lineage of edits."""
