"""Power cuts, simulated: a file system is shut down under load and mounted again, and all acknowledged is looked for.

`python -m powercut ext4 --cuts 50` (as root, with `tests` on the path) runs the experiment by hand.
"""
