"""The exact integer chain: h_s, steps and finish of a bundle as graphs of integer operators (docs/integer-chain.md)."""
