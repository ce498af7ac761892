"""Who does a job: threads of this process; a cluster's engine would be a file beside it."""
