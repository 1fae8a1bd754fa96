"""The operations that come with tapfs: of use as they are, and the worked examples of the documentation."""
