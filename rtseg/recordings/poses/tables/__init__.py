"""Tables of poses that say by the names of their columns what they hold.

columns  points_of: which columns are points, and of which animal; which say frames, times, the rate or whose a row is
plain    read_poses_csv: plain CSV, for trackers whose own format is not read here, and SLEAP's CSV
"""
