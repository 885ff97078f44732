"""`rtseg paper`: every system of the paper trained on the same recordings, its Tables I to V beside its own figures."""
