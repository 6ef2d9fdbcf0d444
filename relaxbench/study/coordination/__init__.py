"""Which trials a study has, who runs them, and how far it is. No torch."""
