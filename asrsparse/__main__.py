"""`python -m asrsparse`, which is also what torchrun starts."""

from asrsparse.cli import main

main()
