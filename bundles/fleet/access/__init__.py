"""Who may ask a running centre, and how often: tokens, passwords, sessions, a provider's word."""
