"""Mails to people by name: who gets one, what it says, and that nobody gets the same one twice."""
