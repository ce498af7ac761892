"""What is kept on a disk: the token file, how far an archive is trusted, and the record of how it was made."""
