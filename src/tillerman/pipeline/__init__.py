"""The whole flow: ``experiment`` says what to do, ``flow`` does it on one screen."""
