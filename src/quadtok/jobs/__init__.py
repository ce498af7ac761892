"""Work over files: what is read, how it is brought to size and scored, and where results go. Knows no flags."""
