"""``python -m tillerman`` is the command ``tillerman``."""

from tillerman.cli.app import main

if __name__ == "__main__":
    main()
