"""The rules without servers."""
