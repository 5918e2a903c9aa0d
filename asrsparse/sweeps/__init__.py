"""Many runs, here or by SLURM, and their table."""
