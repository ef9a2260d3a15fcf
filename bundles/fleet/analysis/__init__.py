"""What released counts say: spreads, differences, a verdict. Nothing else is read here."""
