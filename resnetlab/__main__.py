"""`python -m resnetlab`, which torchrun starts several times, is the command `resnetlab`."""

from resnetlab.cli import main

if __name__ == "__main__":
    main()
