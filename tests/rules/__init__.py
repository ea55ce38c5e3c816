"""The rules of the wallet without a server: the wire contract and the pure core."""
