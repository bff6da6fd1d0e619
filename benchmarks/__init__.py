"""Speed, memory and quality; nothing here is imported by the library."""
