"""Background work beside matches: its room in the import table. Nothing needs it yet."""
