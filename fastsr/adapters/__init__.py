"""FastSR for users of other GPU libraries; each file imports its library only when it is used."""
